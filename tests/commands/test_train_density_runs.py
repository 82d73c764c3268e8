"""Several runs of ``mammography train-density``: equal ones, folds, seeds, splits, fusion."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import sklearn.metrics
import torch
from density_runs import command, contents, differing, json_of, predictions, table, train
from safetensors.torch import load_file
from small_training import Stop

from mammography.cli import main
from mammography.commands.embed import Embed
from mammography.errors import SplitError, StoreError
from mammography.training.model_files import load_model

pytestmark = pytest.mark.usefixtures("one_thread")


# Again, and otherwise.


@pytest.mark.parametrize(
    "options", [{"cache_mode": "memory"}, {"cache_mode": "none", "num_workers": 2}, {}]
)
def test_two_runs_with_one_seed_are_the_same_files_whatever_the_cache(
    options: dict[str, Any], density_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    again = train(phantoms, tmp_path, epochs=4, save_embeddings=True, **options)
    assert differing(density_run, again) == []
    timed = {"timestamp", "arguments", "config", "cache_mode"}
    one, other = (json_of(folder / "summary.json") for folder in (density_run, again))
    assert {key: one[key] for key in one.keys() - timed} == {
        key: other[key] for key in other.keys() - timed
    }


def test_a_new_run_never_touches_an_old_one(phantoms: Path, tmp_path: Path) -> None:
    quick = {"epochs": 1, "train_backbone": False}
    first = train(phantoms, tmp_path, **quick)
    before = contents(first)
    second = train(phantoms, tmp_path, **quick, seed=43)
    assert (first.name, second.name) == ("results", "results_1")
    assert contents(first) == before
    assert json_of(second / "summary.json")["seed"] == 43
    assert {"train_history.json", "split.csv", "best_model.pth"} <= set(differing(first, second))


def test_what_is_trained_is_recorded(phantoms: Path, tmp_path: Path) -> None:
    head = train(phantoms, tmp_path, epochs=1, train_backbone=False)
    summary = json_of(head / "summary.json")
    assert summary["trained_tensors"] == ["linear.weight", "linear.bias"]
    assert summary["trained_weights"] == 256 * 4 + 4
    last = train(phantoms, tmp_path, epochs=1, train_backbone=False, unfreeze_last_block=True)
    trained = json_of(last / "summary.json")["trained_tensors"]
    assert 2 < len(trained) < summary["tensors"]["of"]
    tensors, untouched = (load_file(run / "best_model.safetensors") for run in (last, head))
    moved = {name for name in tensors if not torch.equal(tensors[name], untouched[name])}
    assert set(trained) <= moved
    statistics = {name for name in moved if name.rpartition(".")[2].startswith(("running", "num"))}
    assert moved - statistics == set(trained)
    blocks = {name.rpartition(".")[0] for name in trained}
    assert {name.rpartition(".")[0] for name in statistics} <= blocks


def test_backbone_rate_is_a_tenth_of_the_heads(density_run: Path) -> None:
    history = json_of(density_run / "train_history.json")
    assert history["learning_rate"] == pytest.approx([5e-4, 1e-3, 1e-3, 5e-4])
    tenth = [rate / 10 for rate in history["learning_rate"]]
    assert history["learning_rate_backbone"] == pytest.approx(tenth)


def test_a_collapse_is_warned_of(phantoms: Path, tmp_path: Path) -> None:
    folder = train(phantoms, tmp_path, epochs=1, train_backbone=False, lr=0.0, warmup_epochs=0)
    log = (folder / "run.log").read_text()
    assert "WARNING epoch 1: no image of" in log
    assert "fewer than 10000 images" not in log  # it is about training the whole encoder


# Several runs.


def test_folds_validate_every_image_once_and_are_summed_up(phantoms: Path, tmp_path: Path) -> None:
    outdir = tmp_path / "folds"
    result = command(
        phantoms, tmp_path, epochs=1, train_backbone=False, cv_folds=3, cv_outdir=outdir
    ).run()
    folders = [run.folder for run in result.runs]
    assert folders == [outdir / f"fold_{number}" / "results" for number in (1, 2, 3)]
    validated = pl.concat([predictions(folder)["sample_id"] for folder in folders])
    assert sorted(validated) == sorted(table(folders[0] / "split.csv")["image_id"])
    patients = [set(predictions(folder)["patient"]) for folder in folders]
    assert len(set.union(*patients)) == sum(map(len, patients))
    assert not (tmp_path / "results").exists()
    accuracies = [(p["true_label"] == p["pred_label"]).mean() for p in map(predictions, folders)]
    kappas = [
        sklearn.metrics.cohen_kappa_score(p["true_label"], p["pred_label"], weights="quadratic")
        for p in map(predictions, folders)
    ]
    summary = json_of(outdir / "cv_summary.json")
    assert summary["runs"] == [f"fold_{number}/results" for number in (1, 2, 3)]
    for name, values in (("accuracy", accuracies), ("kappa", kappas)):
        expected = {"mean": np.mean(values), "std": np.std(values, ddof=1),
                    "min": min(values), "max": max(values), "runs": 3}  # fmt: skip
        assert summary["metrics"][name] == pytest.approx(expected)


def test_folds_that_were_interrupted_are_taken_up(phantoms: Path, tmp_path: Path) -> None:
    quick = {"train_backbone": False, "cv_folds": 3}
    whole = command(phantoms, tmp_path / "whole", **quick).run()
    epochs = []

    def in_the_second_fold(line: Mapping[str, Any]) -> None:
        epochs.append(line["epoch"])
        if epochs == [1, 2, 1]:
            raise Stop

    with pytest.raises(Stop):
        command(phantoms, tmp_path / "broken", **quick).run(in_the_second_fold)
    command(phantoms, tmp_path / "broken", **quick, resume=True).run(in_the_second_fold)
    assert epochs == [1, 2, 1, 2, 1, 2]
    for number, run in enumerate(whole.runs, start=1):
        assert differing(run.folder, tmp_path / "broken" / f"fold_{number}" / "results") == []
        assert not (tmp_path / "broken" / f"fold_{number}" / "results_1").exists()
    one, other = (tmp_path / name / "cv_summary.json" for name in ("whole", "broken"))
    assert one.read_bytes() == other.read_bytes()


def test_seeds_are_runs_of_their_own_and_are_summed_up(phantoms: Path, tmp_path: Path) -> None:
    quick = {"epochs": 1, "train_backbone": False}
    result = command(phantoms, tmp_path / "many", **quick, seeds="43,44").run()
    assert [run.folder.name for run in result.runs] == ["results", "results_1"]
    alone = train(phantoms, tmp_path / "one", **quick, seed=44)
    assert differing(result.runs[1].folder, alone) == []
    summary = json_of(tmp_path / "many" / "seeds_summary.json")
    assert (summary["seeds"], summary["runs"]) == ([43, 44], ["results", "results_1"])
    accuracies = [run.metrics["accuracy"] for run in result.runs]
    assert summary["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert summary["metrics"]["accuracy"]["std"] == pytest.approx(np.std(accuracies, ddof=1))
    splits = [table(run.folder / "split.csv") for run in result.runs]
    assert not splits[0]["split"].equals(splits[1]["split"])
    before = {run.folder: contents(run.folder) for run in result.runs}
    again = command(phantoms, tmp_path / "many", **quick, seeds="43,44", resume=True).run()
    assert {run.folder: contents(run.folder) for run in again.runs} == before
    assert [run.metrics for run in again.runs] == [run.metrics for run in result.runs]


# One's own split.


def own_split(density_run: Path, path: Path, moved: tuple[str, ...] = ()) -> Path:
    """The run's split, with some images put on the training side."""
    side = pl.when(pl.col("image_id").is_in(moved)).then(pl.lit("train")).otherwise("split")
    table(density_run / "split.csv").select("image_id", side.alias("split")).write_csv(path)
    return path


def test_a_runs_split_can_be_brought_to_another(
    density_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    folder = train(
        phantoms,
        tmp_path,
        epochs=4,
        save_embeddings=True,
        split=own_split(density_run, tmp_path / "s"),
    )
    assert differing(density_run, folder) == []


def test_a_leak_is_refused_by_name_with_exit_code_2(
    density_run: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validated = predictions(density_run)["sample_id"][0]
    leaky = own_split(density_run, tmp_path / "leaky.csv", (validated,))
    code = main(
        ["train-density", "--csv", str(phantoms / "classificacao.csv"), "--dicom-root",
         str(phantoms / "archive"), "--outdir", str(tmp_path / "out"), "--split", str(leaky),
         "--weights", "random", "--arch", "timm:test_efficientnet", "--img-size", "64"]
    )  # fmt: skip
    assert code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: The split leaks: 1 groups")
    assert repr(validated) in message
    assert repr(validated.split("/")[0]) in message  # the exam
    assert not (tmp_path / "out").exists()


def test_a_split_that_forgets_images_is_refused(
    density_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    split = table(density_run / "split.csv")
    split.head(-2).write_csv(tmp_path / "short.csv")
    forgotten = split["image_id"][-1]
    with pytest.raises(SplitError, match=f"on neither side: .*{forgotten}"):
        command(phantoms, tmp_path, split=tmp_path / "short.csv").run()


# Fusion.


@pytest.fixture(scope="module")
def embedded(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded") / "set"
    Embed(
        phantoms / "classificacao.csv", phantoms / "archive", folder,
        encoder="timm:test_resnet", weights="random", backend="torch", img_size=64, num_workers=1,
    ).run()  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def fused(embedded: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(phantoms, tmp_path_factory.mktemp("fused"), embeddings_dir=embedded)


def altered(embedded: Path, folder: Path, rows: list[int]) -> Path:
    """The set with only these of its rows, in this order."""
    shutil.copytree(embedded, folder)
    np.save(folder / "features.npy", np.load(embedded / "features.npy")[rows])
    pl.read_parquet(embedded / "index.parquet")[rows].write_parquet(folder / "index.parquet")
    return folder


def test_shuffled_embedding_rows_change_nothing(
    fused: Path, embedded: Path, phantoms: Path, tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).permutation(64).tolist()
    shuffled = altered(embedded, tmp_path / "set", rows)
    folder = train(phantoms, tmp_path, embeddings=shuffled / "features.npy")
    assert [name for name in differing(fused, folder) if name != "identity.json"] == []


def test_fused_features_are_both_and_standardised_on_the_training_side(
    fused: Path, embedded: Path
) -> None:
    model = load_model(fused)
    assert model.classifier.linear.in_features == 256 + 96
    assert model.record["fused"] == {
        "width": 96, "fingerprint": json_of(embedded / "embedding.json")["fingerprint"],
    }  # fmt: skip
    split = table(fused / "split.csv").filter(pl.col("split") == "train")
    index = pl.read_parquet(embedded / "index.parquet")
    rows = np.load(embedded / "features.npy")[index["image_id"].is_in(split["image_id"].implode())]
    assert len(rows) == split.height < 64
    mean, std = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    np.testing.assert_allclose(model.classifier.embedding_mean.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(
        model.classifier.embedding_std.numpy(), np.where(std > 0, std, 1), rtol=1e-5
    )


def test_missing_and_foreign_embeddings_are_named(
    embedded: Path, phantoms: Path, tmp_path: Path
) -> None:
    index = pl.read_parquet(embedded / "index.parquet")
    missing = altered(embedded, tmp_path / "missing", [*range(5), *range(6, 64)])
    with pytest.raises(StoreError, match=f"no embedding of 1 images .{index['image_id'][5]}.:"):
        command(phantoms, tmp_path, embeddings_dir=missing).run()
    foreign = altered(embedded, tmp_path / "foreign", [*range(64), 0])
    renamed = pl.read_parquet(foreign / "index.parquet").with_columns(
        pl.Series("image_id", [*index["image_id"], "other/L_CC"]),
        pl.Series("path", [*index["path"], "other/L_CC.dcm"]),
    )
    renamed.write_parquet(foreign / "index.parquet")
    with pytest.raises(StoreError, match=r"archive does not have: 1 images \(other/L_CC\)"):
        command(phantoms, tmp_path, embeddings_dir=foreign).run()
    assert not (tmp_path / "results").exists()


def test_embeddings_of_unlabelled_images_are_not_foreign(
    embedded: Path, phantoms: Path, tmp_path: Path
) -> None:
    table(phantoms / "classificacao.csv")[1:].write_csv(tmp_path / "fewer.csv")
    folder = train(phantoms, tmp_path, csv=tmp_path / "fewer.csv", embeddings_dir=embedded,
                   epochs=1, train_backbone=False)  # fmt: skip
    assert table(folder / "split.csv").height == 60
    assert set(table(folder / "rejects.csv")["code"]) == {"not-in-table"}
