"""The search of `tune-density`: its study, its trials, and what it leaves behind."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammography.analysis.metrics import HEADLINE
from mammography.archive.workers import cores
from mammography.commands import tuning_options
from mammography.errors import NothingLeftError
from mammography.report.tuning_figures import history_figure, importance_figure
from mammography.runs import RESEARCH_ONLY, run_folder
from mammography.training.callbacks import OnEpoch, rank_of
from mammography.training.fit import CHECKPOINTS
from mammography.training.tracking import write_trial_files
from mammography.training.tuning import Outcome, Proposal, TrialPruned, Tuning, run_here
from mammography.training.tuning_space import Space, Value, write_space
from mammography.training.tuning_study import Pruning
from mammography.training.tuning_trials import (
    TrialRecord,
    best_of,
    counts,
    write_best,
    write_trials,
)

if TYPE_CHECKING:
    from mammography.commands.train_density import TrainDensity
    from mammography.commands.tune_density import TuneDensity

log = logging.getLogger(__name__)

STUDY = "study.db"


def search(command: TuneDensity, space: Space) -> tuple[list[TrialRecord], TrialRecord, int]:
    """Run the trials that are still to run, and write what came of all.

    Returns:
        All trials, the best, and the exit code.

    Raises:
        As `TuneDensity.run`.
    """
    log.info("mammography tune-density: %s", RESEARCH_ONLY)
    training = tuning_options.training_of(command)
    with run_folder(command.outdir, command) as summary:
        after = tuning_options.prune_after(command, space)
        tuning = Tuning(
            command.outdir / STUDY,
            training.outdir,
            space,
            command.seed,
            Pruning(after, command.prune_trials) if command.prune else None,
            tuning_options.settings_of(command, space),
        )
        write_space(command.outdir / "space.json", space)
        try:
            _run(command, training, tuning)
        finally:
            tuning.requeue_unfinished()
            trials = tuning.trials()
            write_trials(command.outdir / "trials.csv", trials, list(space))
        best = best_of(trials)
        if best is None:
            raise NothingLeftError(
                f"No trial was completed; {command.outdir / 'trials.csv'} says why."
            )
        _write(command, tuning, trials, best)
        exit_code = max(trial.exit_code or 0 for trial in trials)
        summary.update(
            exit_code=exit_code,
            trials=counts(trials),
            best={"trial": best.name, "folder": best.folder, "value": best.value},
        )
    return trials, best, exit_code


def _run(command: TuneDensity, training: TrainDensity, tuning: Tuning) -> None:
    if command.prune and command.devices > 1:
        log.warning("With --devices above 1 no trial is ended early.")
    if command.engine == "optuna":
        run_here(tuning, partial(train, training), command.trials)
        return
    from mammography.training.tuning_ray import run_on_ray

    run_on_ray(
        tuning,
        partial(train, _absolute(training)),
        command.trials,
        command.outdir / "ray_tune",
        address=command.ray_address,
        at_once=command.ray_trials,
        cores=command.ray_cores or max(1, cores() // command.ray_trials),
        devices=command.devices if command.device in ("auto", "cuda") else 0,
    )


def _absolute(training: TrainDensity) -> TrainDensity:
    """The same run from any working directory."""
    paths: dict[str, Any] = {
        field.name: value.resolve()
        for field in fields(training)
        if isinstance(value := getattr(training, field.name), Path)
    }
    return replace(training, **paths)


def train(training: TrainDensity, proposal: Proposal, on_epoch: OnEpoch) -> Outcome:
    """Run one trial, which also writes what the tuners' own tools read.

    Args:
        training: What all trials have in common.
        proposal: The trial.
        on_epoch: Told every line of its history.

    Raises:
        TrialPruned: `on_epoch` did.
        MammographyError: See `TrainDensity.run`.
    """
    lines: list[Mapping[str, Any]] = []

    def tell(line: Mapping[str, Any]) -> None:
        lines.append(line)
        on_epoch(line)

    names = {"optuna_trial_id": proposal.name, "ray_trial_name": proposal.name}
    trial = replace(training, **names, **proposal.parameters)  # type: ignore[arg-type]
    try:
        result = trial.run(tell)
    except TrialPruned:
        _write_pruned(trial, proposal, lines)
        raise
    (run,) = result.runs
    metrics = {name: run.metrics[name] for name in HEADLINE}
    return Outcome(run.folder, metrics, run.metrics["epoch"], result.exit_code)


def _write_pruned(trial: TrainDensity, proposal: Proposal, lines: list[Mapping[str, Any]]) -> None:
    """The files of a trial that did not come to write them itself."""
    folder = _folder_of(trial)
    shutil.rmtree(folder / CHECKPOINTS)
    best = max(lines, key=rank_of)
    write_trial_files(
        folder,
        {name: [line[name] for line in lines] for name in best},
        trial.optuna_trial_id,
        trial.ray_trial_name,
        trial.ray_logdir,
        {
            "metrics": {"bal_acc_adj": best["val_bal_acc_adj"], "kappa": best["val_kappa"]},
            "best_epoch": best["epoch"],
        },
    )


def _folder_of(trial: TrainDensity) -> Path:
    """Where a trial was trained that has just ended: its summary names it."""
    theirs = [
        path.parent
        for path in trial.outdir.glob("results*/summary.json")
        if json.loads(path.read_text(encoding="utf-8"))["config"]["optuna_trial_id"]
        == trial.optuna_trial_id
    ]
    return max(theirs, key=lambda folder: folder.stat().st_mtime)


def _write(
    command: TuneDensity, tuning: Tuning, trials: list[TrialRecord], best: TrialRecord
) -> None:
    """The best trial and the figures."""
    try:
        importances: dict[str, float] | str = tuning.importances()
    except ValueError as undefined:
        importances = str(undefined)
        log.info("importances are undefined: %s", undefined)
    write_best(command.outdir / "best_trial.json", trials, importances)
    title = f"{command.arch}, {len(trials)} trials, seed {command.seed}"
    warning = "The encoder began untrained (--weights random)."
    warned = warning if command.weights == "random" else None
    history_figure(command.outdir / "history.png", trials, title, warning=warned)
    completed = counts(trials)["complete"]
    importance_figure(
        command.outdir / "importance.png", importances, completed, title, warning=warned
    )
    log.info(
        "%s: best is trial %d (%s) with bal_acc_adj %.3f: %s",
        command.outdir, best.number, best.folder, best.value,
        " ".join(_option(name, value) for name, value in best.parameters.items()),
    )  # fmt: skip


def _option(name: str, value: Value) -> str:
    """A parameter as train-density takes it."""
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{name.replace('_', '-')}"
    return f"--{name.replace('_', '-')} {value}"
