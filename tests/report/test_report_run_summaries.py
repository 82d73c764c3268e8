"""Finding finished runs; refusing those that are unfinished, foreign or contradict themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_runs import DENSITY, TISSUE, change, history, write_json, write_run

from mammography.errors import UsageError
from mammography.report.run_summaries import (
    differing_settings,
    find_runs,
    read_run,
    read_runs,
)


def make(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True)


def test_a_finished_run_is_read(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "results", seed=7, images=50))
    assert (run.seed, run.arch, run.label, run.best_epoch) == (7, "efficientnet_b0", "density", 3)
    assert (run.classes, run.names) == (["1", "2", "3", "4"], ["A", "B", "C", "D"])
    assert run.matrix.sum() == 50
    assert run.training_images == 150
    assert run.predictions["exam"][3] == "00003"
    assert run.caution is None


def test_untrained_weights_are_cautioned_of(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "results", trained=False))
    assert "random (seed 42)" in str(run.caution)


def test_an_archive_of_which_too_little_could_be_read_is_cautioned_of(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "results")
    change(folder / "summary.json", exit_code=1, readable_share=0.805)
    assert read_run(folder).caution == "Only 80.5 % of the archive's images could be read."


def test_runs_below_a_folder_come_in_their_natural_order(tmp_path: Path) -> None:
    seeds = [tmp_path / "seeds" / name for name in ("results", "results_2", "results_10")]
    folds = [tmp_path / f"cv/fold_{number}/results" for number in (1, 2, 10)]
    make(*seeds, *folds, tmp_path / "seeds/hpo_runs/results", tmp_path / "seeds/results_old")
    make(tmp_path / "alone/metrics")
    assert find_runs([tmp_path / "seeds"]) == seeds
    assert find_runs([tmp_path / "cv"]) == folds
    assert find_runs([tmp_path / "alone", *seeds[:1]]) == [tmp_path / "alone", seeds[0]]


def test_a_run_is_not_taken_twice(tmp_path: Path) -> None:
    make(tmp_path / "a/results")
    with pytest.raises(UsageError, match=r"results is named twice"):
        find_runs([tmp_path / "a", tmp_path / "a/../a/results"])
    with pytest.raises(UsageError, match=r"There is no folder .*gone \(--run\)"):
        find_runs([tmp_path / "gone"])
    with pytest.raises(UsageError, match="at least one finished run"):
        read_runs([])


def test_a_copy_under_another_seed_is_found_out(tmp_path: Path) -> None:
    first = write_run(tmp_path / "results", seed=42)
    shutil.copytree(first, tmp_path / "results_1")
    change(tmp_path / "results_1/summary.json", seed=43)
    with pytest.raises(UsageError, match=r"results_1 holds the same predictions as .*results:"):
        read_runs([tmp_path])


def test_runs_of_other_classes_are_kept_apart(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", label=TISSUE, seed=1)]
    with pytest.raises(UsageError, match=r"density \(1, 2, 3, 4\) and .*b tissue \(F, G, D\)"):
        read_runs(runs)


@pytest.mark.parametrize(
    "name",
    [
        "summary.json", "model.json", "split.csv", "train_history.json", "val_predictions.csv",
        "metrics/val_metrics.json", "metrics/confusion_matrix.npy",
    ],
)  # fmt: skip
def test_a_run_that_lacks_a_file_is_unfinished(name: str, tmp_path: Path) -> None:
    (write_run(tmp_path / "results_3") / name).unlink()
    with pytest.raises(UsageError, match=f"results_3 is no finished run .*lacks {name}"):
        read_run(tmp_path / "results_3")


def test_a_run_that_gave_up_says_why(tmp_path: Path) -> None:
    run = write_run(tmp_path / "results")
    change(run / "summary.json", exit_code=2, error="No image is left.")
    with pytest.raises(UsageError, match=r"results is not finished; .*: No image is left\."):
        read_run(run)


def test_a_run_of_another_command_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "embeddings")
    change(run / "summary.json", command="embed")
    with pytest.raises(UsageError, match=r"embeddings is a run of embed, not of train-density"):
        read_run(run)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", "{", r"summary\.json cannot be read"),
        ("train_history.json", "[1]", r"train_history\.json holds no object"),
        ("val_predictions.csv", "a,b\n1,2\n", r"has no column sample_id, true_label, pred_label"),
        ("val_predictions.csv", "", r"val_predictions\.csv cannot be read"),
        ("split.csv", "image_id\na\n", r"split\.csv has no column split"),
        ("metrics/confusion_matrix.npy", "x", r"cannot be read as a run of train-density"),
        ("metrics/val_metrics.json", "{}", r"KeyError\('classes'\)"),
    ],
)
def test_files_that_are_not_ours_are_named(
    name: str, content: str, message: str, tmp_path: Path
) -> None:
    (write_run(tmp_path / "results") / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        read_run(tmp_path / "results")


METRICS = "metrics/val_metrics.json"


@pytest.mark.parametrize(
    "name",
    ["accuracy", "balanced_accuracy", "bal_acc_adj", "kappa", "kappa_unweighted", "macro_f1",
     "auc_ovr", "log_loss", "brier", "ece"],
)  # fmt: skip
def test_a_number_that_does_not_follow_from_the_predictions_is_an_error(
    name: str, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "results_4")
    stored = json.loads((run / METRICS).read_text())[name]
    change(run / METRICS, **{name: stored + 1e-5})
    with pytest.raises(UsageError, match=rf"results_4 contradicts itself: {name} is "):
        read_run(run)
    change(run / METRICS, **{name: None})
    with pytest.raises(UsageError, match=rf"{name} is None in val_metrics\.json, but \d"):
        read_run(run)
    change(run / METRICS, **{name: stored + 1e-9})
    assert read_run(run).metrics[name] == stored + 1e-9


def test_per_class_numbers_and_counts_are_checked_too(tmp_path: Path) -> None:
    run = write_run(tmp_path / "results")
    per_class = json.loads((run / METRICS).read_text())["per_class"]
    per_class["3"]["recall"] += 0.01
    change(run / METRICS, per_class=per_class)
    with pytest.raises(UsageError, match=r"per_class\.3\.recall is"):
        read_run(run)


def test_the_metrics_of_another_epoch_are_not_passed_off(tmp_path: Path) -> None:
    run = write_run(tmp_path / "results")
    change(run / METRICS, epoch=5)
    with pytest.raises(UsageError, match=r"is of epoch 5, but summary\.json says 3 was kept"):
        read_run(run)
    change(run / "summary.json", best_epoch=5)
    assert read_run(run).best_epoch == 5  # as good as epoch 3
    change(run / "train_history.json", val_bal_acc_adj=[0.1, 0.2, 0.5, 0.4, 0.3])
    with pytest.raises(UsageError, match=r"of epoch 5, but epoch 3 had a higher bal_acc_adj"):
        read_run(run)
    change(run / "train_history.json", val_bal_acc_adj=[0.1, None, 0.2, None, None])
    with pytest.raises(UsageError, match=r"but epoch 3 had a higher"):
        read_run(run)
    write_json(run / "train_history.json", {key: [] for key in history(0.4)})
    with pytest.raises(UsageError, match=r"is of epoch 5, which train_history\.json does not have"):
        read_run(run)


def test_the_last_epochs_predictions_beside_the_best_ones_metrics_are_found_out(
    tmp_path: Path,
) -> None:
    run, other = write_run(tmp_path / "results"), write_run(tmp_path / "other", seed=43)
    shutil.copy(other / "val_predictions.csv", run / "val_predictions.csv")
    with pytest.raises(UsageError, match=r"confusion_matrix\.npy does not follow"):
        read_run(run)


def test_a_predicted_label_must_be_the_likeliest_class(tmp_path: Path) -> None:
    run = write_run(tmp_path / "results")
    lines = (run / "val_predictions.csv").read_text().splitlines()
    sample, true, predicted, *rest = lines[5].split(",")
    lines[5] = ",".join([sample, true, str(int(predicted) % 4 + 1), *rest])
    (run / "val_predictions.csv").write_text("\n".join(lines))
    with pytest.raises(UsageError, match=r"of 00004/L_MLO, its probabilities"):
        read_run(run)


def test_a_wrong_matrix_is_found_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "results")
    np.save(run / "metrics/confusion_matrix.npy", np.eye(4, dtype=np.int64))
    with pytest.raises(UsageError, match=r"confusion_matrix\.npy does not follow"):
        read_run(run)


@pytest.mark.parametrize("label", [DENSITY, TISSUE])
def test_numbers_that_are_undefined_are_no_contradiction(
    label: dict[str, Any], tmp_path: Path
) -> None:
    run = read_run(
        write_run(tmp_path / "results", label=label, without=(str(label["classes"][1]),))
    )
    assert run.metrics["auc_ovr"] is None


def test_settings_that_differ_are_those_that_matter(tmp_path: Path) -> None:
    configs = [{"lr": 1e-4}, {"lr": 1e-4, "outdir": "other"}, {"lr": 2e-4, "new": True}]
    runs = [
        read_run(write_run(tmp_path / f"results_{seed}", seed=seed, config=config))
        for seed, config in enumerate(configs)
    ]
    assert differing_settings(runs[:1]) == []
    assert differing_settings(runs[:2]) == ["seed"]
    assert differing_settings(runs) == ["seed", "lr", "new"]
