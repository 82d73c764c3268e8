"""``mammography embeddings-baselines`` from an embedding set to its report, and its known traps."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import skops.io
from sklearn import metrics

from mammography.commands.embed import Embed
from mammography.commands.embeddings_baselines import BaselinesResult, EmbeddingsBaselines
from mammography.dicom.phantom.files import write_dicom
from mammography.embeddings.embedding_set import load_embeddings
from mammography.errors import NothingLeftError, SplitError, StoreError, UsageError

EXAMS = 24
VIEWS = ("L_CC", "R_MLO")
PATIENTS = [f"P{exam // 2 if exam < 8 else exam}" for exam in range(EXAMS)]
CLASSIFIERS = ("logistic_regression", "svm_rbf", "random_forest")


def write_archive(root: Path, seed: int = 0) -> Path:
    """Two views an exam, four patients with two exams, brighter breasts in denser classes."""
    for exam in range(EXAMS):
        for number, view in enumerate(VIEWS):
            rng = np.random.default_rng([seed, exam, number])
            pixels = np.zeros((48, 40), np.uint16)
            pixels[4:44, :24] = 800 + 700 * (exam % 4) + rng.integers(0, 700, (40, 24))
            write_dicom(
                root / f"archive/{exam:05d}/{view}.dcm",
                pixels,
                photometric="MONOCHROME2",
                BitsStored=12,
                AccessionNumber=f"{exam:05d}",
                PatientID=PATIENTS[exam],
                ViewPosition=view[2:],
            )
    rows = "".join(f"{exam:05d},{'ABCD'[exam % 4]}\n" for exam in range(EXAMS))
    (root / "classificacao.csv").write_text("AccessionNumber,Classification\n" + rows)
    return root


def embed(data: Path, outdir: Path) -> Path:
    Embed(
        csv=data / "classificacao.csv",
        dicom_root=data / "archive",
        outdir=outdir,
        encoder="timm:resnet10t",
        weights="random",
        backend="torch",
        img_size=32,
        num_workers=1,
    ).run()
    return outdir


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def embedded(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose features tell the classes apart, with noise; no test changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMMOGRAPHY_SALT", "tests")  # conftest's comes too late for a whole module
        folder = embed(data, tmp_path_factory.mktemp("embedded") / "set")
    index = pl.read_parquet(folder / "index.parquet")
    width = np.load(folder / "features.npy").shape[1]
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, width))
    features = centres[index["density"].to_numpy() - 1] + 5 * rng.normal(size=(48, width))
    np.save(folder / "features.npy", features.astype(np.float32))
    return folder


@pytest.fixture
def few(embedded: Path, tmp_path: Path) -> Path:
    """The set's first 16 images, of eight exams of four patients."""
    folder = shutil.copytree(embedded, tmp_path / "few")
    pl.read_parquet(folder / "index.parquet").head(16).write_parquet(folder / "index.parquet")
    np.save(folder / "features.npy", np.load(folder / "features.npy")[:16])
    return folder


def baselines(folder: Path, outdir: Path, **options: Any) -> EmbeddingsBaselines:
    return EmbeddingsBaselines(folder, outdir, **({"num_workers": 1, "cv_folds": 4} | options))


@pytest.fixture(scope="module")
def done(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BaselinesResult]:
    outdir = tmp_path_factory.mktemp("done") / "out"
    return outdir, baselines(embedded, outdir).run()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but those that hold the time of day."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in ("run.log", "summary.json")
        and ".parts" not in path.parts
    }


def document(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_all_files_are_there(done: tuple[Path, BaselinesResult]) -> None:
    outdir, result = done
    assert {path.name for path in outdir.iterdir()} == {
        "report.md", "embeddings_cv_results.json", "classical_cv_results.json",
        "paired_ttest_results.json", "cv_predictions.csv", "rejects.csv",
        "best_model_embeddings.skops", "best_model_embeddings.json",
        "best_model_classical.skops", "best_model_classical.json",
        "confusion_matrix_embeddings.png", "confusion_matrix_classical.png",
        "descriptors", "run.log", "summary.json",
    }  # fmt: skip
    summary = document(outdir, "summary.json")
    assert summary["command"] == "embeddings-baselines"
    assert (summary["exit_code"], result.exit_code, summary["images"]) == (0, 0, 48)
    assert result.documents[0] == document(outdir, "embeddings_cv_results.json")
    assert result.documents[1] == document(outdir, "classical_cv_results.json")
    assert result.comparison == document(outdir, "paired_ttest_results.json")
    assert result.documents[0]["images"] == 48
    assert result.documents[0]["groups"] == 20
    assert "Research only" in result.documents[0]["notice"]


def test_every_number_follows_from_the_predictions(done: tuple[Path, BaselinesResult]) -> None:
    """Somebody else, with scikit-learn and the table."""
    outdir, result = done
    table = pl.read_csv(outdir / "cv_predictions.csv", schema_overrides={"exam": pl.String})
    assert table.height == 48 * 2 * 3
    for each in result.documents:
        for name in CLASSIFIERS:
            of = table.filter(pl.col("features") == each["features"], pl.col("classifier") == name)
            found, balanced = each["classifiers"][name], []
            for (_, part), fold in zip(
                of.sort("fold").group_by("fold", maintain_order=True), found["folds"], strict=True
            ):
                true, predicted = part["true_label"], part["pred_label"]
                balanced.append(metrics.balanced_accuracy_score(true, predicted))
                assert fold["balanced_accuracy"] == pytest.approx(balanced[-1])
                matrix = metrics.confusion_matrix(true, predicted, labels=[1, 2, 3, 4])
                assert fold["confusion_matrix"] == matrix.tolist()
            assert found["mean"]["balanced_accuracy"] == pytest.approx(np.mean(balanced))
            assert found["pooled"]["kappa"] == pytest.approx(
                metrics.cohen_kappa_score(of["true_label"], of["pred_label"], weights="quadratic")
            )
            scores = of.select(f"prob_{grade}" for grade in (1, 2, 3, 4)).to_numpy()
            assert found["pooled"]["auc_ovr"] == pytest.approx(
                metrics.roc_auc_score(of["true_label"], scores, multi_class="ovr")
            )


def test_labels_are_those_of_the_table_and_never_shifted(
    done: tuple[Path, BaselinesResult],
) -> None:
    """Known trap: classes 1-4 shifted, C and D merged."""
    outdir, result = done
    first = result.documents[0]
    assert first["label"] == {
        "name": "density", "classes": [1, 2, 3, 4], "names": ["A", "B", "C", "D"],
    }  # fmt: skip
    table = pl.read_csv(outdir / "cv_predictions.csv", schema_overrides={"exam": pl.String})
    expected = [1 + int(exam) % 4 for exam in table["exam"]]
    assert table["true_label"].to_list() == expected
    brightness_tells_all = np.diag([12] * 4).tolist()
    for found in result.documents[1]["classifiers"].values():
        assert found["pooled"]["confusion_matrix"] == brightness_tells_all
        assert list(found["pooled"]["per_class"]) == ["1", "2", "3", "4"]


def test_no_patient_and_no_exam_is_in_two_folds(done: tuple[Path, BaselinesResult]) -> None:
    """Known trap: folds not grouped by patient. And both sets of features share the folds."""
    outdir, result = done
    table = pl.read_csv(outdir / "cv_predictions.csv", schema_overrides={"exam": pl.String})
    for column in ("patient", "exam", "image_id"):
        assert table.group_by(column).agg(pl.col("fold").n_unique())["fold"].unique().to_list() == [
            1
        ]
    assert table["patient"].n_unique() == 20
    assert result.documents[0]["folds"] == result.documents[1]["folds"]


def test_saved_models_predict_classes_of_the_label(
    done: tuple[Path, BaselinesResult], embedded: Path
) -> None:
    outdir, result = done
    about = document(outdir, "best_model_embeddings.json")
    assert about["classifier"] == result.documents[0]["best"]
    assert about["fingerprint"] == load_embeddings(embedded).fingerprint
    model = skops.io.load(outdir / about["file"], trusted=["sklearn.tree._tree.Tree"])
    features = np.load(embedded / "features.npy").astype(np.float64)
    predicted = [about["label"]["classes"][code] for code in model.predict(features)]
    truth = pl.read_parquet(embedded / "index.parquet")["density"]
    assert np.mean(np.array(predicted) == truth.to_numpy()) > 0.95
    classical = document(outdir, "best_model_classical.json")
    assert len(classical["descriptors"]["names"]) == 27
    assert classical["recipe"]["size"] == [32, 32]


def test_the_report_says_what_the_numbers_say(done: tuple[Path, BaselinesResult]) -> None:
    outdir, result = done
    report = (outdir / "report.md").read_text(encoding="utf-8")
    assert "Research only" in report
    assert "48 images of 20 patients or exams; density: A 12, B 12, C 12, D 12." in report
    assert "Untrained encoder" in report
    first = result.documents[0]
    mean = first["classifiers"][first["best"]]["mean"]["balanced_accuracy"]
    assert f"{mean:.3f} ± " in report
    verdict = result.comparison["verdict"]
    assert ("No winner" in report) == (verdict["winner"] is None)
    assert f"{verdict['low']:+.3f} to {verdict['high']:+.3f}" in report
    assert "(confusion_matrix_embeddings.png)" in report


def test_the_same_command_gives_the_same_bytes(
    done: tuple[Path, BaselinesResult], embedded: Path, tmp_path: Path
) -> None:
    outdir, _ = done
    before = contents(outdir)
    baselines(embedded, tmp_path / "again", num_workers=2).run()
    assert contents(tmp_path / "again") == before
    baselines(embedded, outdir).run()  # in the same folder
    assert contents(outdir) == before


def test_results_of_another_run_are_never_overwritten(
    done: tuple[Path, BaselinesResult], embedded: Path, data: Path, tmp_path: Path
) -> None:
    """Known trap: another seed in the same folder took up the first one's results."""
    outdir, _ = done
    before = contents(outdir)
    for options, told in (
        ({"random_seed": 43}, "random_seed was 42 and is 43"),
        ({"cv_folds": 3}, "cv_folds was 4 and is 3"),
        ({"descriptors": "texture"}, "descriptors was basic and is texture"),
    ):
        with pytest.raises(StoreError, match=f"holds the results of another run: {told}"):
            baselines(embedded, outdir, **options).run()
    other = shutil.copytree(embedded, tmp_path / "other")
    features = np.load(other / "features.npy")
    np.save(other / "features.npy", features[:, ::-1])
    with pytest.raises(StoreError, match="features was"):
        baselines(other, outdir).run()
    elsewhere = shutil.copytree(data / "archive", tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="images was"):
        baselines(embedded, outdir, dicom_root=elsewhere).run()
    assert contents(outdir) == before


def test_another_archive_of_the_same_size_gets_its_own_descriptors(
    few: Path, tmp_path: Path
) -> None:
    """Known trap: a cache keyed by the number of rows, in the folder of an unfinished run."""
    other = write_archive(tmp_path / "other", seed=1)
    with pytest.raises(SplitError):  # the descriptors are computed before the folds
        baselines(few, tmp_path / "out", cv_folds=25).run()
    for name in ("out", "fresh"):
        baselines(few, tmp_path / name, cv_folds=2, dicom_root=other / "archive").run()
    names = ("classical_cv_results.json", "embeddings_cv_results.json", "cv_predictions.csv")
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
    assert len(list((tmp_path / "out/descriptors").iterdir())) == 2


def test_images_that_cannot_be_read_again_count_in_neither(
    data: Path, few: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(data / "archive", tmp_path / "archive")
    for path in ("00003/L_CC.dcm", "00005/R_MLO.dcm"):
        (root / path).unlink()
    result = baselines(few, tmp_path / "out", cv_folds=2, dicom_root=root).run()
    assert result.exit_code == 1
    assert [each["images"] for each in result.documents] == [14, 14]
    rejects = pl.read_csv(tmp_path / "out/rejects.csv")
    assert rejects["path"].to_list() == ["00003/L_CC.dcm", "00005/R_MLO.dcm"]
    table = pl.read_csv(tmp_path / "out/cv_predictions.csv")
    index, features = pl.read_parquet(few / "index.parquet"), np.load(few / "features.npy")
    kept = [row for row in range(16) if row not in (6, 11)]
    assert table["image_id"].to_list() == index["image_id"][kept].to_list() * 6
    assert "2 images of the set could not be read again" in (tmp_path / "out/report.md").read_text()
    assert document(tmp_path / "out", "summary.json")["exit_code"] == 1
    # The same as if they had never been in the set: no row moved.
    index[kept].write_parquet(few / "index.parquet")
    np.save(few / "features.npy", features[kept])
    without = baselines(few, tmp_path / "without", cv_folds=2, dicom_root=root).run()
    assert without.documents == result.documents


def test_an_archive_that_is_gone_is_said(few: Path, data: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(few, tmp_path / "set")
    summary = document(moved, "summary.json")
    summary["config"]["dicom_root"] = (tmp_path / "gone").as_posix()
    (moved / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UsageError, match=r"gone or out of reach.*--dicom-root"):
        baselines(moved, tmp_path / "out", cv_folds=2).run()
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingLeftError, match="None of the 16 images could be read below"):
        baselines(moved, tmp_path / "out", dicom_root=tmp_path / "empty").run()
    found = baselines(moved, tmp_path / "out", cv_folds=2, dicom_root=data / "archive").run()
    assert found.exit_code == 0


def test_one_patient_left_out_at_a_time(few: Path, tmp_path: Path) -> None:
    result = baselines(few, tmp_path / "out", leave_one_group_out=True).run()
    first = result.documents[0]
    assert len(first["folds"]) == 4
    assert {fold["validation_groups"] for fold in first["folds"]} == {1}
    best = first["classifiers"][first["best"]]
    assert best["mean"] is None
    assert best["pooled"]["images"] == 16
    report = (tmp_path / "out/report.md").read_text(encoding="utf-8")
    assert "## Over folds" not in report
    assert "the bootstrap of 4 groups, fewer than 20, is too sure" in report


def test_few_patients_get_a_hint(
    few: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "mammography"):
        baselines(few, tmp_path / "out", cv_folds=2, descriptors="texture").run()
    assert "4 patients or exams are few: with --leave-one-group-out" in caplog.text
    classical = document(tmp_path / "out", "classical_cv_results.json")
    assert classical["descriptors"]["name"] == "texture"
    assert classical["recipe"]["size"] == [1024, 1024]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cv_folds": 1}, "--cv-folds must be at least 2"),
        ({"n_components": 0}, "--n-components must be at least 1"),
        ({"num_workers": 0}, "--num-workers must be at least 1"),
        ({"random_seed": -1}, "--random-seed is from 0"),
        ({"dicom_root": Path("nowhere")}, "There is no folder nowhere"),
    ],
)
def test_options_that_make_no_sense(
    options: dict[str, Any], message: str, embedded: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        baselines(embedded, tmp_path / "out", **options).run()
    assert not (tmp_path / "out").exists()


def test_what_is_no_embedding_set_is_said(embedded: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no finished embedding set"):
        baselines(tmp_path, tmp_path / "out").run()
    with pytest.raises(StoreError, match="holds a run of embed"):
        replace(baselines(embedded, embedded)).run()
