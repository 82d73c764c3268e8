"""``mammography eval-export``: what the tables say is what the predictions say."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from finished_runs import TISSUE, change, write_run

from mammography.commands.eval_export import EvalExport
from mammography.errors import UsageError


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def recomputed(run: Path) -> dict[str, float]:
    """Scikit-learn's numbers of a run's predictions."""
    table = rows(run / "val_predictions.csv")
    true = [row["true_label"] for row in table]
    predicted = [row["pred_label"] for row in table]
    classes = [name.removeprefix("prob_") for name in table[0] if name.startswith("prob_")]
    probabilities = np.array([[float(row[f"prob_{name}"]) for name in classes] for row in table])
    balanced = sk.balanced_accuracy_score(true, predicted)
    codes = [[classes.index(name) for name in labels] for labels in (true, predicted)]
    return {
        "accuracy": sk.accuracy_score(true, predicted),
        "balanced_accuracy": balanced,
        "bal_acc_adj": (balanced - 1 / len(classes)) / (1 - 1 / len(classes)),
        "kappa": sk.cohen_kappa_score(*codes, weights="quadratic"),
        "kappa_unweighted": sk.cohen_kappa_score(*codes),
        "macro_f1": sk.f1_score(true, predicted, average="macro"),
        "auc_ovr": sk.roc_auc_score(codes[0], probabilities, multi_class="ovr"),
        "log_loss": sk.log_loss(codes[0], probabilities),
    }


def three_seeds(folder: Path) -> list[Path]:
    names = {42: "results", 43: "results_1", 44: "results_10"}
    return [write_run(folder / name, seed=seed) for seed, name in names.items()]


def test_every_run_has_a_row_with_scikit_learns_numbers(tmp_path: Path) -> None:
    runs = three_seeds(tmp_path / "runs")
    EvalExport((tmp_path / "runs",), tmp_path / "out").run()
    table = rows(tmp_path / "out/exported_metrics.csv")
    assert [row["run"] for row in table] == [run.as_posix() for run in runs]
    assert [row["seed"] for row in table] == ["42", "43", "44"]
    for row, run in zip(table, runs, strict=True):
        assert (row["arch"], row["best_epoch"], row["epochs"]) == ("efficientnet_b0", "3", "5")
        assert (row["training_images"], row["validation_images"]) == ("180", "60")
        for name, value in recomputed(run).items():
            assert float(row[name]) == pytest.approx(value, abs=1e-12), name
        assert float(row["kappa_low"]) < float(row["kappa"]) < float(row["kappa_high"])
        assert float(row["temperature"]) == 1.3


def test_the_summary_gives_the_spread_over_the_runs(tmp_path: Path) -> None:
    runs = three_seeds(tmp_path / "runs")
    EvalExport((tmp_path / "runs",), tmp_path / "out").run()
    summary = json.loads((tmp_path / "out/exported_summary.json").read_text())
    for name, numbers in summary["metrics"].items():
        if name in ("brier", "ece"):
            continue
        values = [recomputed(run)[name] for run in runs]
        assert numbers["n"] == 3
        assert numbers["mean"] == pytest.approx(np.mean(values))
        assert numbers["std"] == pytest.approx(np.std(values, ddof=1))
        assert (numbers["min"], numbers["max"]) == pytest.approx((min(values), max(values)))
        half = 4.302653 * np.std(values, ddof=1) / np.sqrt(3)
        assert numbers["ci95_high"] - numbers["mean"] == pytest.approx(half, rel=1e-6)
    assert [run["seed"] for run in summary["runs"]] == [42, 43, 44]
    assert summary["settings_that_differ"] == ["seed"]
    assert summary["same_validation_images"] is True
    assert "n - 1" in summary["definitions"]["std"]
    assert "not for diagnosis" in summary["notice"]


def test_best_and_worst_are_by_bal_acc_adj(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = three_seeds(tmp_path / "runs")
    scores = {run: recomputed(run)["bal_acc_adj"] for run in runs}
    best, worst = max(scores, key=scores.__getitem__), min(scores, key=scores.__getitem__)
    with caplog.at_level(logging.INFO, "mammography"):
        result = EvalExport((tmp_path / "runs",), tmp_path / "out").run()
    assert (result.best, result.worst) != (None, None)
    assert (result.best.folder, result.worst.folder) == (best, worst)  # type: ignore[union-attr]
    summary = json.loads((tmp_path / "out/exported_summary.json").read_text())
    assert (summary["best_run"], summary["worst_run"]) == (best.as_posix(), worst.as_posix())
    assert f"best by bal_acc_adj: {best} ({scores[best]:.3f})" in caplog.messages
    assert f"worst by bal_acc_adj: {worst} ({scores[worst]:.3f})" in caplog.messages


def test_the_folds_of_a_cross_validation_are_runs(tmp_path: Path) -> None:
    for fold in (1, 2):
        write_run(tmp_path / f"cv/fold_{fold}/results", seed=fold, images=40 + fold)
        change(tmp_path / f"cv/fold_{fold}/results/summary.json", seed=42)
    EvalExport((tmp_path / "cv",), tmp_path / "out").run()
    summary = json.loads((tmp_path / "out/exported_summary.json").read_text())
    assert [run["seed"] for run in summary["runs"]] == [42, 42]
    assert summary["same_validation_images"] is False


def test_classes_are_summed_up_over_the_runs(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"results_{seed}", seed=seed, label=TISSUE, without=without)
        for seed, without in {1: (), 2: ("G",)}.items()
    ]
    EvalExport(tuple(runs), tmp_path / "out").run()
    table = rows(tmp_path / "out/per_class_summary.csv")
    assert [(row["class"], row["name"], row["runs"]) for row in table] == [
        ("F", "fatty", "2"), ("G", "glandular", "2"), ("D", "dense", "2"),
    ]  # fmt: skip
    first = rows(runs[0] / "val_predictions.csv")
    glandular = [row["pred_label"] == "G" for row in first if row["true_label"] == "G"]
    assert (table[1]["recall_n"], table[1]["recall_std"]) == ("1", "")
    assert float(table[1]["recall_mean"]) == pytest.approx(np.mean(glandular))
    assert (table[1]["support_min"], int(table[1]["support_max"])) == ("0", len(glandular))
    recalls = [
        np.mean([row["pred_label"] == "F" for row in rows(run / "val_predictions.csv")
                 if row["true_label"] == "F"])
        for run in runs
    ]  # fmt: skip
    assert float(table[0]["recall_std"]) == pytest.approx(np.std(recalls, ddof=1))


def test_one_run_has_no_spread_and_is_best_and_worst(tmp_path: Path) -> None:
    run = write_run(tmp_path / "results")
    EvalExport((run,), tmp_path / "out").run()
    summary = json.loads((tmp_path / "out/exported_summary.json").read_text())
    assert summary["best_run"] == summary["worst_run"] == run.as_posix()
    kappa = summary["metrics"]["kappa"]
    assert kappa["mean"] == kappa["min"] == kappa["max"] == pytest.approx(recomputed(run)["kappa"])
    assert kappa["std"] is kappa["ci95_low"] is kappa["ci95_high"] is None


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    three_seeds(tmp_path / "runs")
    written: list[dict[str, bytes]] = []
    for _ in range(2):
        EvalExport((tmp_path / "runs",), tmp_path / "out").run()
        written.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {
        "exported_metrics.csv", "exported_summary.json", "per_class_summary.csv",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "trained", "message"),
    [
        ({"lr": 3e-4}, True, "The runs differ in more than their seed: lr."),
        ({}, False, "random (seed 43)"),
    ],
)
def test_what_a_reader_must_know_is_said(
    config: dict[str, Any], trained: bool, message: str,
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    write_run(tmp_path / "runs/results", seed=42)
    write_run(tmp_path / "runs/results_1", seed=43, config=config, trained=trained)
    EvalExport((tmp_path / "runs",), tmp_path / "out").run()
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert message in warning.getMessage()


def test_nothing_is_written_where_a_run_is_not_what_it_says(tmp_path: Path) -> None:
    three_seeds(tmp_path / "runs")
    change(tmp_path / "runs/results_1/metrics/val_metrics.json", kappa=0.99)
    with pytest.raises(UsageError, match=r"results_1 contradicts itself: kappa is 0\.99"):
        EvalExport((tmp_path / "runs",), tmp_path / "out").run()
    (tmp_path / "runs/results_1/summary.json").unlink()
    with pytest.raises(UsageError, match=r"results_1 is no finished run .*lacks summary\.json"):
        EvalExport((tmp_path / "runs",), tmp_path / "out").run()
    assert not (tmp_path / "out").exists()
