"""``mammography train-density`` from archive to results folder, on phantoms."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sklearn.metrics
import torch
from density_runs import (
    SMALL,
    command,
    contents,
    differing,
    json_of,
    predictions,
    table,
    train,
)
from safetensors.torch import load_file

from mammography.archive.groups import groups_of
from mammography.commands.phantom import Phantom
from mammography.commands.rerun import Rerun
from mammography.commands.train_density import TrainDensity
from mammography.errors import UsageError, WeightsError
from mammography.preprocess.grays_levels import as_trained
from mammography.training.model_files import load_model

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("1", "2", "3", "4")
PROBABILITIES = [f"prob_{name}" for name in CLASSES]


@pytest.fixture
def densities(phantoms: Path) -> dict[str, str]:
    """The true density of each exam, from the phantom's own table."""
    frame = table(phantoms / "classificacao.csv")
    return dict(frame.select("AccessionNumber", "Classification").iter_rows())


# What a run leaves.


def test_a_run_leaves_what_the_page_says(density_run: Path) -> None:
    assert set(contents(density_run)) == {
        "best_model.pth", "best_model.safetensors", "model.json", "train_history.json",
        "data_manifest.json", "identity.json", "split.csv", "rejects.csv", "val_predictions.csv",
        "val_predictions_exam.csv", "embeddings_val.npy", "training_curves.png",
        "metrics/val_metrics.json", "metrics/val_metrics.txt", "metrics/confusion_matrix.npy",
        "metrics/confusion_matrix.png", "metrics/reliability.png",
    }  # fmt: skip
    assert list((density_run / "tensorboard").glob("events.out.tfevents.*"))
    assert "epoch 4/4: loss" in (density_run / "run.log").read_text()


def test_labels_are_the_exams_and_every_view_is_used(
    density_run: Path, densities: dict[str, str]
) -> None:
    split, told = table(density_run / "split.csv"), predictions(density_run)
    assert split.height == 64
    assert split["image_id"].n_unique() == 64
    validation = split.filter(pl.col("split") == "validation")
    assert told["sample_id"].to_list() == validation["image_id"].to_list()
    for row in told.iter_rows(named=True):
        assert row["exam"] == row["sample_id"].split("/")[0]  # with its leading zeros
        assert row["true_label"] == densities[row["exam"]]
        assert row["path"] == row["sample_id"] + ".dcm"
        assert row["sample_id"].endswith(f"{row['laterality']}_{row['view']}")
    assert set(told["view"]) == {"CC", "MLO"}
    assert set(told["true_label"]) == set(CLASSES)


def test_no_patient_is_on_both_sides(density_run: Path, phantoms: Path) -> None:
    split = table(density_run / "split.csv")
    for column in ("patient", "exam"):
        sides = split.group_by(column).agg(pl.col("split").n_unique())
        assert sides["split"].to_list() == [1] * sides.height
    truth = table(phantoms / "truth.csv")
    assert split["patient"].n_unique() < split["exam"].n_unique()  # some come twice
    assert split.height == truth.height
    manifest = json_of(density_run / "data_manifest.json")
    for side in ("train", "validation"):
        rows = split.filter(pl.col("split") == side)
        assert manifest[side]["images"] == rows.height
        assert manifest[side]["groups"] == len(set(groups_of(rows)))
        assert sum(manifest[side]["images_per_class"].values()) == rows.height


def test_the_metrics_are_those_of_the_predictions(density_run: Path) -> None:
    """Computed again with scikit-learn from the table alone."""
    metrics, told = json_of(density_run / "metrics/val_metrics.json"), predictions(density_run)
    true, predicted = told["true_label"].to_list(), told["pred_label"].to_list()
    rows = told.select(PROBABILITIES).to_numpy()
    assert [CLASSES[code] for code in rows.argmax(1)] == predicted
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-12)
    balanced = sklearn.metrics.balanced_accuracy_score(true, predicted)
    expected = {
        "images": len(true),
        "accuracy": sklearn.metrics.accuracy_score(true, predicted),
        "balanced_accuracy": balanced,
        "bal_acc_adj": (balanced - 1 / 4) / (1 - 1 / 4),
        "kappa": sklearn.metrics.cohen_kappa_score(true, predicted, weights="quadratic"),
        "kappa_unweighted": sklearn.metrics.cohen_kappa_score(true, predicted),
        "macro_f1": sklearn.metrics.f1_score(true, predicted, average="macro"),
        "auc_ovr": sklearn.metrics.roc_auc_score(true, rows, multi_class="ovr"),
        "log_loss": sklearn.metrics.log_loss(true, rows),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    matrix = sklearn.metrics.confusion_matrix(true, predicted, labels=CLASSES)
    assert metrics["confusion_matrix"] == matrix.tolist()
    np.testing.assert_array_equal(np.load(density_run / "metrics/confusion_matrix.npy"), matrix)
    recalls = sklearn.metrics.recall_score(
        true, predicted, average=None, labels=CLASSES, zero_division=0
    )
    assert [metrics["per_class"][name]["recall"] for name in CLASSES] == pytest.approx(recalls)
    summary = json_of(density_run / "summary.json")
    assert summary["metrics"] == {name: metrics[name] for name in summary["metrics"]}
    for name, interval in metrics["intervals"].items():
        assert interval["low"] <= metrics[name] <= interval["high"]


def test_calibrated_probabilities_are_those_of_the_temperature(density_run: Path) -> None:
    metrics, told = json_of(density_run / "metrics/val_metrics.json"), predictions(density_run)
    temperature = metrics["calibration"]["temperature"]
    assert temperature == json_of(density_run / "model.json")["temperature"]
    powers = told.select(PROBABILITIES).to_numpy() ** (1 / temperature)
    calibrated = told.select(f"cal_{name}" for name in PROBABILITIES).to_numpy()
    np.testing.assert_allclose(calibrated, powers / powers.sum(1, keepdims=True), atol=1e-9)
    true = told["true_label"].to_list()
    before, after = (
        sklearn.metrics.log_loss(true, rows) for rows in (powers**temperature, calibrated)
    )
    assert after <= before + 1e-12


def test_exams_are_the_means_of_their_images(density_run: Path) -> None:
    exams, told = table(density_run / "val_predictions_exam.csv"), predictions(density_run)
    assert exams["exam"].to_list() == told["exam"].unique(maintain_order=True).to_list()
    for row in exams.iter_rows(named=True):
        images = told.filter(pl.col("exam") == row["exam"])
        assert (int(row["images"]), row["true_label"]) == (4, images["true_label"][0])
        means = images.select(PROBABILITIES).mean().row(0)
        np.testing.assert_allclose([float(row[name]) for name in PROBABILITIES], means)
        assert row["pred_label"] == CLASSES[int(np.argmax(means))]
    per_exam = json_of(density_run / "metrics/val_metrics.json")["per_exam"]
    right = (exams["true_label"] == exams["pred_label"]).mean()
    assert (per_exam["exams"], per_exam["accuracy"]) == (exams.height, right)


def test_metrics_by_view_laterality_and_vendor(density_run: Path) -> None:
    groups, told = (
        json_of(density_run / "metrics/val_metrics.json")["groups"],
        predictions(density_run),
    )
    assert set(groups) == {"manufacturer", "view", "laterality"}
    for column, values in groups.items():
        assert set(values) == set(told[column])
        for value, numbers in values.items():
            rows = told.filter(pl.col(column) == value)
            assert numbers["images"] == rows.height
            right = (rows["true_label"] == rows["pred_label"]).mean()
            assert numbers["accuracy"] == pytest.approx(right)


def test_metrics_belong_to_the_best_epochs_model(density_run: Path) -> None:
    history = json_of(density_run / "train_history.json")
    metrics = json_of(density_run / "metrics/val_metrics.json")
    best = max(
        range(4),
        key=lambda i: (history["val_bal_acc_adj"][i], history["val_kappa"][i],
                       history["val_auc"][i], -i),
    )  # fmt: skip
    assert metrics["epoch"] == best + 1 == json_of(density_run / "summary.json")["best_epoch"]
    for name, of_history in (
        ("accuracy", "val_acc"), ("bal_acc_adj", "val_bal_acc_adj"), ("kappa", "val_kappa"),
        ("auc_ovr", "val_auc"),
    ):  # fmt: skip
        assert metrics[name] == pytest.approx(history[of_history][best])


def test_the_exported_model_gives_the_predictions_again(density_run: Path, phantoms: Path) -> None:
    """Each file read anew, one by one, through the model's own recipe."""
    model, told = load_model(density_run), predictions(density_run)
    tensors = [
        model.recipe.normalise(
            as_trained(model.recipe, 10**8, phantoms / "archive" / f"{name}.dcm")
        )
        for name in told["sample_id"]
    ]
    with torch.inference_mode():
        features = torch.cat(
            [model.classifier.encoder(torch.from_numpy(tensor[None])) for tensor in tensors]
        ).numpy()
    logits = model.logits(features)
    rows = told.select(PROBABILITIES).to_numpy()
    np.testing.assert_allclose(model.probabilities(logits), rows, atol=1e-6)
    calibrated = told.select(f"cal_{name}" for name in PROBABILITIES).to_numpy()
    np.testing.assert_allclose(
        model.probabilities(logits, model.temperature), calibrated, atol=1e-6
    )
    np.testing.assert_allclose(np.load(density_run / "embeddings_val.npy"), features, atol=1e-5)


def test_the_weights_open_safely_and_are_their_twin(density_run: Path) -> None:
    plain = torch.load(density_run / "best_model.pth", weights_only=True)
    twin = load_file(density_run / "best_model.safetensors")
    assert plain.keys() == twin.keys()
    assert all(torch.equal(plain[name], twin[name]) for name in plain)
    record = json_of(density_run / "model.json")
    assert record["weights"]["trained"] is False
    assert record["weights"]["name"] == "random (seed 42)"


def test_a_record_that_was_tampered_with_is_refused(density_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(density_run, tmp_path / "copy")
    record = (copy / "model.json").read_text()
    (copy / "model.json").write_text(record.replace('"temperature": ', '"temperature": 1'))
    with pytest.raises(WeightsError, match="are of different runs"):
        load_model(copy)


def test_the_summary_says_what_was_run(density_run: Path) -> None:
    summary = json_of(density_run / "summary.json")
    expected = {
        "command": "train-density", "arch": SMALL["arch"], "classes": "density", "epochs": 4,
        "batch_size": 8, "img_size": 64, "lr": 1e-3, "optimizer": "adam", "scheduler": "cosine",
        "warmup_epochs": 2, "class_weights": "auto", "embeddings_dir": None,
        "cache_mode": "disk", "seed": 42, "exit_code": 0, "untrained_encoder": True,
    }  # fmt: skip
    assert {name: summary[name] for name in expected} == expected
    assert {"git_commit", "timestamp", "versions"} <= summary.keys()
    assert summary["tensors"]["trained"] == summary["tensors"]["of"]


# Files that cannot be read.


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same phantoms among files that cannot be read."""
    folder = tmp_path_factory.mktemp("damaged") / "phantoms"
    Phantom(
        folder, exams=16, rows=208, columns=160, balanced=True, num_workers=1, bad_files=True
    ).run()
    return folder


def test_unreadable_files_are_told_and_change_nothing_else(
    damaged: Path, density_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mammography"):
        result = command(damaged, tmp_path, epochs=4, save_embeddings=True).run()
    assert result.exit_code == 1
    assert "less than --min-readable 95.0 %" in caplog.text
    [run] = result.runs
    unlike = {"data_manifest.json", "identity.json", "rejects.csv"}
    assert set(differing(density_run, run.folder)) == unlike
    rejects = table(run.folder / "rejects.csv")
    bad = table(damaged / "bad_files.csv")
    assert set(rejects["path"]) == set(bad["path"])
    assert json_of(run.folder / "summary.json")["exit_code"] == 1
    quick = {"epochs": 1, "train_backbone": False, "min_readable": 0.5}
    again = train(damaged, tmp_path, **quick, split=run.folder / "split.csv")
    assert table(again / "split.csv").equals(table(run.folder / "split.csv"))


# Labels.


def test_binary_ordinal_and_all_that_is_off_by_default(phantoms: Path, tmp_path: Path) -> None:
    folder = train(
        phantoms, tmp_path, classes="binary", loss="ordinal", optimizer="adamw",
        weight_decay=0.01, scheduler="plateau", use_sampler=True, label_smoothing=0.1, mixup=0.2,
        early_stopping=1, accumulate=2, clip=1.0, amp=True, dropout=0.5,
    )  # fmt: skip
    told = predictions(folder)
    assert set(told["true_label"]) == {"AB", "CD"}
    assert [name for name in told.columns if name.startswith("prob_")] == ["prob_AB", "prob_CD"]
    truth = dict(table(phantoms / "classificacao.csv").iter_rows())
    for row in told.iter_rows(named=True):
        assert row["true_label"] == ("AB" if truth[row["exam"]] in "12" else "CD")
    model = load_model(folder)
    assert (model.label.name, model.classifier.linear.out_features) == ("density_binary", 1)
    assert json_of(folder / "summary.json")["class_weights"] == "none"


def test_class_5_is_refused_or_left_out_and_told(phantoms: Path, tmp_path: Path) -> None:
    labels = (phantoms / "classificacao.csv").read_text().splitlines()
    exam = labels[1].split(",")[0]
    (tmp_path / "five.csv").write_text("\n".join([labels[0], f"{exam},5", *labels[2:]]) + "\n")
    with pytest.raises(UsageError, match="class5"):
        command(phantoms, tmp_path, csv=tmp_path / "five.csv").run()
    folder = train(phantoms, tmp_path, csv=tmp_path / "five.csv", class5="drop", epochs=1,
                   train_backbone=False)  # fmt: skip
    assert exam not in set(table(folder / "split.csv")["exam"])
    rejects = table(folder / "rejects.csv").filter(pl.col("path").is_not_null())
    assert set(rejects["exam"]) == {exam}
    assert rejects.height == 4


def test_mini_mias_has_three_tissues_and_a_woman_is_on_one_side(
    shared: Path, tmp_path: Path
) -> None:
    data = shared / "data" / "mini-mias"
    if not data.is_dir():
        pytest.skip("mini-MIAS is not here")
    result = TrainDensity(
        data / "labels.csv", data, tmp_path, **(SMALL | {"epochs": 1, "train_backbone": False}),
        subset=120,
    ).run()  # fmt: skip
    folder = result.runs[0].folder
    told, split = predictions(folder), table(folder / "split.csv")
    assert [name for name in told.columns if name.startswith("prob_")] == [
        "prob_F", "prob_G", "prob_D",
    ]  # fmt: skip
    assert 110 <= split.height <= 130
    sides = split.group_by("patient").agg(pl.col("split").n_unique(), pl.len())
    assert set(sides["split"]) == {1}
    assert sides["len"].max() == 2
    truth = dict(table(data / "labels.csv").select("image_id", "tissue").iter_rows())
    for sample, label in told.select("sample_id", "true_label").iter_rows():
        assert truth[sample.split("/")[-1]] == label
    assert json_of(folder / "metrics/val_metrics.json")["names"] == list(
        load_model(folder).label.names
    )
    assert json_of(folder / "summary.json")["classes"] == "tissue"


# For other commands.


def test_the_tuners_files(phantoms: Path, tmp_path: Path) -> None:
    folder = train(
        phantoms, tmp_path, train_backbone=False, optuna_trial_id="one", ray_trial_name="hpo",
        ray_logdir=tmp_path / "logs",
    )  # fmt: skip
    trial = json_of(folder / "optuna_trial.json")
    history = json_of(folder / "train_history.json")
    assert trial["trial_id"] == "one"
    assert trial["value"] == json_of(folder / "metrics/val_metrics.json")["bal_acc_adj"]
    assert trial["intermediate_values"] == history["val_bal_acc_adj"]
    lines = (folder / "ray_hpo.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert (tmp_path / "logs" / "ray_hpo.jsonl").read_text().splitlines() == lines


def test_a_summary_can_be_run_again(density_run: Path) -> None:
    again = Rerun(density_run / "summary.json").command()
    assert isinstance(again, TrainDensity)
    assert again.epochs == 4
    assert again.outdir != density_run.parent
    assert not again.resume
