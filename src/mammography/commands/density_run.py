"""The runs of `train-density`: which there are, and each from its folder to its figures."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from mammography.analysis.calibration import fit_temperature
from mammography.analysis.metrics import HEADLINE
from mammography.archive.splits import Split, folds, groups_of, hold_out, split_frame
from mammography.commands import density_options, options
from mammography.commands.density_data import TrainingData
from mammography.commands.progress import terminal
from mammography.errors import StoreError
from mammography.report.density_report import Evaluation, summary_over_runs, write_evaluation
from mammography.runs import (
    RESEARCH_ONLY,
    canonical_json,
    config_of,
    git_commit,
    run_folder,
    sha256_of_file,
    sha256_of_text,
    versions,
    write_json,
    written_whole,
)
from mammography.runs.results import new_results, resumable
from mammography.training import ranks
from mammography.training.evaluate import features_and_logits
from mammography.training.fit import CHECKPOINTS, Fitted, Loading, fit
from mammography.training.model_files import probabilities_of, save_model
from mammography.training.study import Prepared, Study, prepare
from mammography.training.tracking import mlflow_logger, write_trial_files

if TYPE_CHECKING:
    from mammography.commands.train_density import TrainDensity
    from mammography.training.callbacks import OnEpoch

log = logging.getLogger(__name__)

#: Options that change no number of a run.
_NO_NUMBERS = frozenset(
    {
        "outdir", "resume", "cv_outdir", "cache_mode", "cache_dir", "num_workers",
        "prefetch_factor", "persistent_workers", "mlflow", "seeds", "ray_logdir",
        "ray_trial_name", "optuna_trial_id", "min_readable", "save_embeddings",
    }
)  # fmt: skip

#: Below so many images the published recommendation is to train the last block only.
_FEW = 10_000


@dataclass(frozen=True)
class Job:
    """A run to do: below which folder, on which split, from which seed."""

    parent: Path
    split: Split
    seed: int


def jobs_of(command: TrainDensity, data: TrainingData) -> list[Job]:
    """The runs that the options ask for, in their order.

    Raises:
        SplitError: A split leaks, or none can be made.
    """
    frame, column = data.study.frame, data.study.label.name
    if command.cv_folds:
        parent = command.cv_outdir or command.outdir
        splits = folds(frame, column, command.cv_folds, command.seed)
        return [
            Job(parent / f"fold_{number}", split, command.seed)
            for number, split in enumerate(splits, start=1)
        ]
    return [
        Job(command.outdir, data.split or hold_out(frame, column, command.val_frac, seed), seed)
        for seed in density_options.seeds_of(command)
    ]


def do(
    command: TrainDensity, job: Job, data: TrainingData, on_epoch: OnEpoch | None
) -> tuple[Path, dict[str, Any]]:
    """Do one run, or take it as it is where `--resume` finds it finished.

    Returns:
        Its folder and its metrics; no metrics in processes other than the first.
    """
    command = replace(command, seed=job.seed, seeds=None)
    study = data.study
    if study.frame.height < _FEW and command.train_backbone and not command.unfreeze_last_block:
        log.info(
            "fewer than %d images: training the last block alone (--unfreeze-last-block) is "
            "recommended", _FEW,
        )  # fmt: skip
    folder = ranks.agreed(_folder(command, job, study) if ranks.rank() == 0 else Path())
    finished = ranks.agreed(_finished(folder))
    if finished is not None:
        log.info("%s is finished, and taken as it is", folder)
        return folder, finished
    if ranks.rank() != 0:
        _fitted(command, prepare(study, job.split, density_options.settings_of(command)), study,
                folder, on_epoch)  # fmt: skip
        return folder, {}
    with run_folder(folder, replace(command, resume=False)) as summary:  # rerun begins anew
        log.info("%s, seed %d", folder, job.seed)
        prepared = prepare(study, job.split, density_options.settings_of(command))
        _write_data(folder, command, job.split, data)
        fitted = _fitted(command, prepared, study, folder, on_epoch)
        metrics = _evaluate(command, folder, prepared, study, fitted)
        summary.update(_summary(command, data, prepared, fitted, metrics))
        write_trial_files(
            folder, prepared.task.history, command.optuna_trial_id, command.ray_trial_name,
            command.ray_logdir, summary,
        )  # fmt: skip
    shutil.rmtree(folder / CHECKPOINTS)  # not before the summary says that it is finished
    return folder, metrics


def _folder(command: TrainDensity, job: Job, study: Study) -> Path:
    """A new results folder; with `--resume` the one of the same run."""
    identity = _identity(command, job, study)
    if not command.resume:
        return new_results(job.parent, identity)
    folder, others = resumable(job.parent, identity)
    if folder is not None:
        return folder
    if command.cv_folds or command.seeds:
        return new_results(job.parent, identity)
    why = f" ({'; '.join(others)})" if others else ""
    raise StoreError(
        f"{job.parent} holds no run with these options to go on with{why}. Leave --resume out to "
        "begin one."
    )


def _identity(command: TrainDensity, job: Job, study: Study) -> dict[str, Any]:
    """Everything that decides a run's numbers."""
    config = {key: value for key, value in config_of(command).items() if key not in _NO_NUMBERS}
    weights = Path(command.weights)
    rows = study.frame.select("image_id", "path", study.label.name).write_csv()
    return {
        **config,
        "device": density_options.settings_of(command).device,
        "weights": sha256_of_file(weights) if weights.is_file() else command.weights,
        "images": sha256_of_text(rows),
        "recipe": study.recipe.hash,
        "split": sha256_of_text(canonical_json(asdict(job.split))),
        "embeddings": study.embeddings.fingerprint if study.embeddings else None,
        "versions": versions(),
    }


def _finished(folder: Path) -> dict[str, Any] | None:
    """The metrics of a finished run."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        metrics = json.loads((folder / "metrics" / "val_metrics.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder} is damaged ({error}); begin a new run.") from error
    return metrics if summary.get("exit_code") in (0, 1) else None


def _write_data(folder: Path, command: TrainDensity, split: Split, data: TrainingData) -> None:
    """The split, the rejects, and what there is of every class on each side."""
    study = data.study
    table = split_frame(split, study.frame)
    with written_whole(folder / "split.csv") as path:
        table.write_csv(path)
    with written_whole(folder / "rejects.csv") as path:
        data.rejects.write_csv(path)
    sides = table.with_columns(
        study.frame[study.label.name].cast(pl.String).alias("class"),
        pl.Series("group", groups_of(study.frame)),
    )
    counts = {
        side: {
            "images": rows.height,
            "groups": rows["group"].n_unique(),
            "images_per_class": {
                str(value): Counter(rows["class"])[str(value)] for value in study.label.classes
            },
        }
        for side, rows in ((str(key[0]), rows) for key, rows in sides.group_by("split"))
    }
    manifest = {
        "csv": command.csv.as_posix(),
        "csv_sha256": sha256_of_file(command.csv),
        "dicom_root": command.dicom_root.as_posix(),
        "images": study.frame.height,
        "rejects": data.rejects.height,
        "readable_share": data.readable_share,
        "label": {"name": study.label.name, "classes": study.label.classes,
                  "names": study.label.names},
        "recipe": study.recipe.record() | {"hash": study.recipe.hash},
        "grouped_by": "patient, or exam where no patient is known",
        **{side: counts[side] for side in sorted(counts)},
    }  # fmt: skip
    write_json(folder / "data_manifest.json", manifest)


def _fitted(
    command: TrainDensity,
    prepared: Prepared,
    study: Study,
    folder: Path,
    on_epoch: OnEpoch | None,
) -> Fitted:
    decoding = command.cache_mode == "none"
    loading = Loading(
        workers=options.workers_of(command) if decoding else 0,
        prefetch_factor=command.prefetch_factor,
        persistent=command.persistent_workers,
        progress_bar=terminal().is_terminal and ranks.rank() == 0,
    )
    return fit(
        prepared.task,
        study.images,
        prepared.train,
        prepared.validation,
        study.names,
        folder,
        loading,
        loggers=[mlflow_logger(command.mlflow, folder)] if command.mlflow else None,
        on_epoch=on_epoch,
    )


def _evaluate(
    command: TrainDensity, folder: Path, prepared: Prepared, study: Study, fitted: Fitted
) -> dict[str, Any]:
    """Ask the best epoch's classifier, and write what it says and what it is."""
    task, rows = prepared.task, prepared.validation
    features, logits = features_and_logits(task, study.images, rows)
    codes = study.images.codes[rows]
    temperature = fit_temperature(
        codes, logits, lambda logits: probabilities_of(task.objective, logits)
    )
    trained = prepared.encoder.info.weights.trained
    metrics = write_evaluation(
        folder,
        Evaluation(
            study.frame[rows.tolist()],
            study.label,
            codes,
            probabilities_of(task.objective, logits),
            probabilities_of(task.objective, logits, temperature),
            temperature,
            fitted.history,
            fitted.best_epoch,
            command.seed,
        ),
        f"{command.arch}, {study.label.name}, seed {command.seed}",
        None if trained else "The encoder began untrained (--weights random).",
    )
    if command.save_embeddings:
        import numpy as np

        with written_whole(folder / "embeddings_val.npy") as path, path.open("wb") as stream:
            np.save(stream, features)
    save_model(folder, task.classifier, _model_record(command, prepared, study, temperature))
    log.info(
        "%s: best epoch %d, %s", folder, fitted.best_epoch,
        ", ".join(f"{name} {_shown(metrics[name])}" for name in HEADLINE),
    )  # fmt: skip
    return metrics


def _model_record(
    command: TrainDensity, prepared: Prepared, study: Study, temperature: float
) -> dict[str, Any]:
    info, embeddings = prepared.encoder.info, study.embeddings
    return {
        "arch": command.arch,
        "encoder_width": info.width,
        "weights": asdict(info.weights),
        "label": asdict(study.label),
        "objective": command.loss,
        "dropout": command.dropout,
        "recipe": study.recipe.record() | {"hash": study.recipe.hash},
        "fused": None if embeddings is None else {
            "width": embeddings.features.shape[1], "fingerprint": embeddings.fingerprint,
        },
        "temperature": temperature,
        "seed": command.seed,
        "trained_on": "the images of split.csv",
        "terms": "The terms of the images, the labels and the weights it began with hold.",
        "versions": versions(),
        "notice": RESEARCH_ONLY,
    }  # fmt: skip


def _summary(
    command: TrainDensity,
    data: TrainingData,
    prepared: Prepared,
    fitted: Fitted,
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """What summary.json says beside the command: also the published page's own keys."""
    page = (
        "arch", "classes", "epochs", "batch_size", "lr", "optimizer", "scheduler",
        "warmup_epochs", "embeddings_dir", "cache_mode", "seed",
    )  # fmt: skip
    config = config_of(command)
    parameters = dict(prepared.task.classifier.named_parameters())
    return {
        "exit_code": data.exit_code,
        **{name: config[name] for name in page},
        "classes": command.classes or data.study.label.name,
        "img_size": data.study.recipe.size[0],
        "class_weights": density_options.class_weights_of(command),
        "git_commit": git_commit(),
        "timestamp": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "readable_share": data.readable_share,
        "best_epoch": fitted.best_epoch,
        "epochs_run": len(fitted.history["epoch"]),
        "metrics": {name: metrics[name] for name in HEADLINE},
        "tensors": {"trained": len(prepared.trained), "of": len(parameters)},
        "trained_weights": sum(parameters[name].numel() for name in prepared.trained),
        "trained_tensors": list(prepared.trained),
        "untrained_encoder": not prepared.encoder.info.weights.trained,
    }


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def summarise(command: TrainDensity, runs: list[tuple[Path, dict[str, Any]]]) -> None:
    """Write cv_summary.json or seeds_summary.json beside the runs, where there are several."""
    if not (command.cv_folds or command.seeds):
        return
    parent = (command.cv_outdir or command.outdir) if command.cv_folds else command.outdir
    name = "cv_summary.json" if command.cv_folds else "seeds_summary.json"
    numbers = summary_over_runs([metrics for _, metrics in runs])
    write_json(
        parent / name,
        {
            "runs": [folder.relative_to(parent).as_posix() for folder, _ in runs],
            "seeds": density_options.seeds_of(command),
            "metrics": numbers,
            "notice": RESEARCH_ONLY,
        },
    )
    for metric, value in numbers.items():
        if value["mean"] is not None and value["std"] is not None:
            log.info("%s: %.3f ± %.3f over %d runs", metric, value["mean"], value["std"], len(runs))
    log.info("%s", parent / name)
