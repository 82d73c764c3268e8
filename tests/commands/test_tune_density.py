"""``mammography tune-density`` with real training of a tiny network."""

from __future__ import annotations

import csv
import json
import logging
import multiprocessing
import shlex
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import optuna
import polars as pl
import pytest
import tyro
from sklearn.metrics import balanced_accuracy_score

from mammography.commands.phantom import Phantom
from mammography.commands.train_density import TrainDensity
from mammography.commands.tune_density import TuneDensity, TuneDensityResult
from mammography.commands.tuning_options import SEARCHABLE, space_of, training_of
from mammography.errors import MissingExtraError, NothingLeftError, StoreError, UsageError
from mammography.training.tuning_space import PUBLISHED, Categorical, read_space, write_space

TINY: dict[str, Any] = {
    "arch": "timm:resnet10t", "weights": "random", "img_size": 64, "epochs": 2, "device": "cpu",
    "num_workers": 1, "prune_after": 0, "prune_trials": 4,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMMOGRAPHY_SALT", "tests")
        patch.setenv("MAMMOGRAPHY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantom"
    Phantom(folder, exams=12, rows=208, columns=160, balanced=True).run()
    return folder


def command(data: Path, outdir: Path, **options: Any) -> TuneDensity:
    archive = {"csv": data / "classificacao.csv", "dicom_root": data / "archive"}
    return TuneDensity(**{**archive, "outdir": outdir, **TINY, **options})


@pytest.fixture(scope="module")
def whole(
    data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TuneDensity, TuneDensityResult]:
    """A search of three trials that nothing interrupted."""
    search = command(data, tmp_path_factory.mktemp("whole"), trials=3)
    return search, search.run()


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_trials_value_is_that_of_its_run(
    whole: tuple[TuneDensity, TuneDensityResult],
) -> None:
    search, result = whole
    values = []
    for trial in result.trials:
        folder = search.outdir / "hpo_runs" / str(trial.folder)
        metrics = read_json(folder / "metrics/val_metrics.json")
        history = read_json(folder / "train_history.json")
        table = pl.read_csv(folder / "val_predictions.csv", infer_schema=False)
        balanced = balanced_accuracy_score(table["true_label"], table["pred_label"])
        assert trial.value == metrics["bal_acc_adj"]
        assert trial.value == pytest.approx((balanced - 1 / 4) / (1 - 1 / 4))
        assert trial.value == pytest.approx(max(history["val_bal_acc_adj"]))
        assert trial.best_epoch == metrics["epoch"]
        assert trial.metrics["kappa"] == metrics["kappa"]
        values.append(trial.value)
    assert any(value != 0 for value in values)
    assert result.best is not None
    assert result.best.value == max(values)
    assert result.exit_code == 0


def test_a_run_is_trained_with_its_trials_parameters(
    whole: tuple[TuneDensity, TuneDensityResult],
) -> None:
    search, result = whole
    assert [trial.folder for trial in result.trials] == ["results", "results_1", "results_2"]
    for trial in result.trials:
        assert list(trial.parameters) == list(PUBLISHED)
        folder = search.outdir / "hpo_runs" / str(trial.folder)
        config = read_json(folder / "summary.json")["config"]
        assert {name: config[name] for name in PUBLISHED} == trial.parameters
        assert {name: config[name] for name in ("arch", "weights", "img_size", "epochs")} == {
            name: TINY[name] for name in ("arch", "weights", "img_size", "epochs")
        }
        history = read_json(folder / "train_history.json")
        warmup = max(1, int(trial.parameters["warmup_epochs"] or 0))
        assert history["learning_rate"][0] == pytest.approx(trial.parameters["lr"] / warmup)
        backbone = trial.parameters["backbone_lr"] / warmup
        assert history["learning_rate_backbone"][0] == pytest.approx(backbone)


def test_what_a_search_leaves_behind(whole: tuple[TuneDensity, TuneDensityResult]) -> None:
    search, result = whole
    outdir = search.outdir
    study = optuna.load_study(study_name="tune-density", storage=f"sqlite:///{outdir / 'study.db'}")
    assert [trial.value for trial in study.trials] == [trial.value for trial in result.trials]
    assert [trial.params for trial in study.trials] == [trial.parameters for trial in result.trials]
    with (outdir / "trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for row, trial in zip(rows, result.trials, strict=True):
        assert (row["trial"], row["state"]) == (trial.name, "complete")
        assert float(row["value"]) == trial.value
        assert float(row["lr"]) == trial.parameters["lr"]
        folder = outdir / "hpo_runs" / row["folder"]
        assert read_json(folder / "optuna_trial.json")["trial_id"] == trial.name
        assert read_json(folder / "optuna_trial.json")["value"] == trial.value
        lines = (folder / f"ray_{trial.name}.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    best = read_json(outdir / "best_trial.json")
    assert result.best is not None
    assert best["parameters"] == result.best.parameters
    assert best["importances"] is None
    assert best["importances_undefined"] == "fewer than 8 completed trials (3)"
    assert (outdir / "importance.png").stat().st_size > 1000
    assert (outdir / "history.png").stat().st_size > 1000
    assert read_space(outdir / "space.json") == PUBLISHED
    summary = read_json(outdir / "summary.json")
    assert summary["command"] == "tune-density"
    assert summary["exit_code"] == 0
    assert summary["config"]["trials"] == 3
    assert summary["best"]["trial"] == result.best.name
    assert "importances are undefined" in (outdir / "run.log").read_text()


def test_all_trials_read_the_same_cache(
    whole: tuple[TuneDensity, TuneDensityResult],
) -> None:
    log = (whole[0].outdir / "run.log").read_text()
    assert log.count("0 images were there, 48 are new") == 1
    assert log.count("48 images were there, 0 are new") == 2


def run_in_another_process(search: TuneDensity) -> None:
    search.run()


def epochs_done(search: TuneDensity) -> int:
    """How many epochs of all trials the study has heard of."""
    try:
        with sqlite3.connect(f"file:{search.outdir / 'study.db'}?mode=ro", uri=True) as study:
            return study.execute("SELECT COUNT(*) FROM trial_intermediate_values").fetchone()[0]
    except sqlite3.OperationalError:  # there is no study yet
        return 0


def test_a_killed_search_goes_on_as_if_nothing_had_happened(
    data: Path, tmp_path: Path, whole: tuple[TuneDensity, TuneDensityResult]
) -> None:
    search = command(data, tmp_path / "out", trials=2)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mammography.commands.tuning_run"])
    process = context.Process(target=run_in_another_process, args=(search,))
    process.start()
    deadline = time.monotonic() + 300
    while epochs_done(search) < 3:  # the first epoch of the second trial
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.join()
    assert not (search.outdir / "hpo_runs/results_1/summary.json").exists()

    result = search.run()
    states = [(trial.state, trial.repeats, trial.folder) for trial in result.trials]
    assert states == [
        ("complete", None, "results"),
        ("failed", None, "results_1"),
        ("complete", 1, "results_2"),
    ]
    assert result.trials[1].reason == "it did not come to an end"
    done = [trial for trial in result.trials if trial.state == "complete"]
    for trial, reference in zip(done, whole[1].trials, strict=False):
        assert trial.parameters == reference.parameters
        assert trial.value == reference.value
        ours, theirs = (
            outdir / "hpo_runs" / str(each.folder) / "val_predictions.csv"
            for outdir, each in ((search.outdir, trial), (whole[0].outdir, reference))
        )
        assert ours.read_bytes() == theirs.read_bytes()


def copy_of(whole: TuneDensity, outdir: Path, **options: Any) -> TuneDensity:
    shutil.copytree(whole.outdir, outdir)
    return replace(whole, outdir=outdir, **options)


def test_a_finished_search_only_writes_its_tables_again(
    tmp_path: Path, whole: tuple[TuneDensity, TuneDensityResult]
) -> None:
    again = copy_of(whole[0], tmp_path / "copy")
    (again.outdir / "trials.csv").unlink()
    assert again.run() == whole[1]
    assert (again.outdir / "trials.csv").read_bytes() == (
        whole[0].outdir / "trials.csv"
    ).read_bytes()
    assert len(list((again.outdir / "hpo_runs").iterdir())) == 3


def test_a_bad_trial_ends_early_and_leaves_its_files(
    tmp_path: Path, whole: tuple[TuneDensity, TuneDensityResult]
) -> None:
    """Trials that are added by hand are far better than any real one can be."""
    search = copy_of(whole[0], tmp_path / "copy", trials=8, ray_logdir=tmp_path / "ray")
    study = optuna.load_study(
        study_name="tune-density", storage=f"sqlite:///{search.outdir / 'study.db'}"
    )
    for _ in range(4):
        study.add_trial(
            optuna.trial.create_trial(
                params=study.trials[0].params,
                distributions=study.trials[0].distributions,
                value=5.0,
                intermediate_values={1: 5.0, 2: 5.0},
                user_attrs={"metrics": {"kappa": 1.0, "auc_ovr": 1.0}},
            )
        )
    trial = search.run().trials[7]
    assert (trial.state, trial.epochs, trial.folder) == ("pruned", 1, "results_3")
    folder = search.outdir / "hpo_runs" / "results_3"
    summary = read_json(folder / "summary.json")
    assert summary["exit_code"] == 2
    assert summary["error"] == "Pruned after epoch 1: other trials were better."
    assert read_json(folder / "optuna_trial.json")["trial_id"] == "hpo_trial_007"
    assert read_json(folder / "optuna_trial.json")["value"] == trial.value
    lines = (folder / "ray_hpo_trial_007.jsonl").read_text().splitlines()
    assert [json.loads(line)["val_bal_acc_adj"] for line in lines] == [trial.value]
    assert (tmp_path / "ray" / "ray_hpo_trial_007.jsonl").exists()
    assert not (folder / "checkpoints").exists()
    assert "defect" not in (folder / "run.log").read_text()


def test_other_labels_in_the_table_are_refused(
    data: Path, tmp_path: Path, whole: tuple[TuneDensity, TuneDensityResult]
) -> None:
    table = tmp_path / "classificacao.csv"
    shutil.copy(data / "classificacao.csv", table)
    search = copy_of(whole[0], tmp_path / "copy", trials=4)
    header, first, *rest = (data / "classificacao.csv").read_text().splitlines()
    exam, label = first.split(",")
    other = "3" if label == "2" else "2"
    original = (data / "classificacao.csv").read_bytes()
    (data / "classificacao.csv").write_text("\n".join([header, f"{exam},{other}", *rest, ""]))
    try:
        with pytest.raises(StoreError, match="were run with other images"):
            search.run()
    finally:
        (data / "classificacao.csv").write_bytes(original)
    with (search.outdir / "trials.csv").open() as stream:
        assert [row["state"] for row in csv.DictReader(stream)] == ["complete"] * 3 + ["failed"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 43}, "seed"),
        ({"epochs": 3}, "epochs"),
        ({"unfreeze_last_block": True}, "unfreeze_last_block"),
        ({"prune": False}, "prune"),
    ],
)
def test_the_study_of_another_search_is_refused(
    tmp_path: Path,
    whole: tuple[TuneDensity, TuneDensityResult],
    options: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(StoreError, match=f"other {words}"):
        replace(whole[0], **options).run()


def test_another_space_is_refused_and_the_old_one_kept(
    tmp_path: Path, whole: tuple[TuneDensity, TuneDensityResult]
) -> None:
    write_space(tmp_path / "space.json", {"lr": Categorical((1e-3, 1e-4))})
    with pytest.raises(StoreError, match=r"other .*space"):
        replace(whole[0], space=tmp_path / "space.json").run()
    assert read_space(whole[0].outdir / "space.json") == PUBLISHED


def test_options_that_change_no_number_may_change(
    tmp_path: Path, whole: tuple[TuneDensity, TuneDensityResult]
) -> None:
    again = copy_of(whole[0], tmp_path / "copy", num_workers=2, cache_mode="memory")
    assert again.run() == whole[1]


def test_every_option_of_train_density_is_an_option_here() -> None:
    arguments = shlex.split(
        "--csv a.csv --dicom-root b --arch resnet50 --weights random --no-train-backbone "
        "--unfreeze-last-block --optimizer adamw --loss ordinal --class-weights 1,2,3,4 "
        "--label-smoothing 0.1 --no-augment --clip 1 --subset 100 --image-size 128 --voi window "
        "--cache-mode none --seed 7 --amp --ray-logdir c"
    )
    config = (tyro.conf.DisallowNone,)
    trained = tyro.cli(TrainDensity, args=arguments, config=config)
    tuned = tyro.cli(TuneDensity, args=[*arguments, "--trials", "3"], config=config)
    assert training_of(tuned) == replace(trained, outdir=tuned.outdir / "hpo_runs")
    assert {field.name for field in fields(TrainDensity)} < {
        field.name for field in fields(TuneDensity)
    }
    assert set(SEARCHABLE) < {field.name for field in fields(TrainDensity)}


@pytest.mark.parametrize("ending", ["json", "toml"])
def test_the_default_space_can_be_written_without_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    if ending == "toml" and sys.version_info < (3, 11):
        pytest.skip("Python reads TOML from 3.11 on")
    monkeypatch.setitem(sys.modules, "optuna", None)
    path = tmp_path / f"space.{ending}"
    search = tyro.cli(TuneDensity, args=["--write-space", str(path)])
    assert search.run() == TuneDensityResult((), None, 0)
    assert read_space(path) == PUBLISHED


@pytest.mark.parametrize(
    ("module", "engine", "words"),
    [
        ("optuna", "optuna", r"needs Optuna: pip install 'mammography\[tune\]'\."),
        ("ray", "ray", r"needs Ray Tune: pip install 'mammography\[ray\]'\."),
    ],
)
def test_a_missing_extra_is_one_clear_line(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    engine: Any,
    words: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=words):
        command(data, tmp_path / "out", engine=engine).run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trials": 0}, "--trials must be at least 1"),
        ({"prune_after": -1}, "--prune-after must be at least 0"),
        ({"cv_folds": 5}, "--cv-folds is not for tune-density"),
        ({"seeds": "1,2"}, "--seeds is not for tune-density"),
        ({"resume": True}, "goes on with its study anyway"),
        ({"optuna_trial_id": "a"}, "--optuna-trial-id is not for tune-density"),
        ({"lr": 0.01}, r"--lr is searched.*take lr out of the search space"),
        ({"dropout": 0.5}, "--dropout is searched"),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"dicom_root": Path("absent")}, "There is no folder absent"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    data: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        command(data, tmp_path / "out", **options).run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "choices", "words"),
    [
        ("seed", (1, 2), "seed cannot be searched"),
        ("val_frac", (0.1, 0.2), "val_frac cannot be searched"),
        ("rate", (1, 2), "rate cannot be searched"),
        ("batch_size", ("eight",), "batch_size takes int, not 'eight'"),
        ("optimizer", ("adam", "lion"), "optimizer takes 'adam', 'adamw', 'sgd', not 'lion'"),
        ("dropout", (0.5, 1.5), "--dropout is a share"),
        ("use_sampler", (True, False), "would count twice"),
    ],
)
def test_spaces_of_no_use_are_refused_before_any_training(
    data: Path, tmp_path: Path, name: str, choices: Any, words: str
) -> None:
    path = tmp_path / "space.json"
    write_space(path, {name: Categorical(choices)})
    with pytest.raises(UsageError, match=words):
        command(data, tmp_path / "out", space=path, class_weights="auto").run()
    assert not (tmp_path / "out").exists()


def test_what_is_not_trained_is_not_searched(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = command(data, tmp_path, train_backbone=False)
    with caplog.at_level(logging.INFO):
        assert list(space_of(head)) == [name for name in PUBLISHED if name != "backbone_lr"]
    assert "backbone_lr is not searched" in caplog.text
    assert space_of(replace(head, unfreeze_last_block=True)) == PUBLISHED


def test_a_search_without_a_completed_trial_says_so(data: Path, tmp_path: Path) -> None:
    """Learning rates with which training diverges in its first epoch."""
    write_space(tmp_path / "space.json", {"lr": Categorical((1e30, 1e29))})
    search = command(
        data, tmp_path / "out", trials=1, space=tmp_path / "space.json", warmup_epochs=0
    )
    with pytest.raises(NothingLeftError, match=r"trials\.csv says why"):
        search.run()
    assert "Training diverged in epoch 1" in (search.outdir / "trials.csv").read_text()
    assert read_json(search.outdir / "summary.json")["exit_code"] == 2


def test_ray_runs_the_same_trials(
    data: Path, tmp_path: Path, whole: tuple[TuneDensity, TuneDensityResult]
) -> None:
    pytest.importorskip("ray")
    search = replace(whole[0], outdir=tmp_path / "out", trials=2, engine="ray")
    result = search.run()
    assert [trial.parameters for trial in result.trials] == [
        trial.parameters for trial in whole[1].trials[:2]
    ]
    for trial in result.trials:
        folder = search.outdir / "hpo_runs" / str(trial.folder)
        assert trial.value == read_json(folder / "metrics/val_metrics.json")["bal_acc_adj"]
        assert read_json(folder / "optuna_trial.json")["trial_id"] == trial.name
        assert (folder / f"ray_{trial.name}.jsonl").exists()


def test_ray_says_what_a_trial_raised(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    search = command(data, tmp_path / "out", trials=2, engine="ray", label_column="absent")
    with pytest.raises(Exception, match="absent") as raised:
        search.run()
    assert type(raised.value).__name__ == "LabelTableError"
