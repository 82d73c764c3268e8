"""``mammography predict`` on small archives and classifiers with random weights."""

from __future__ import annotations

import csv
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import tyro
from trained_models import FUSED, write_embeddings, write_model

from mammography.archive.dialects import Label
from mammography.commands import progress as progress_module
from mammography.commands.predict import Predict, PredictResult
from mammography.commands.rerun import Rerun
from mammography.dicom.phantom.files import write_dicom
from mammography.embeddings.embedding_set import load_embeddings
from mammography.errors import (
    ImageRejected,
    MammographyError,
    NothingLeftError,
    StoreError,
    UsageError,
    WeightsError,
)
from mammography.preprocess.cache import prepare_images
from mammography.preprocess.grays import Grays
from mammography.preprocess.recipes.density import Density
from mammography.runs import pseudonym
from mammography.training.data import Images
from mammography.training.density import DensityTask
from mammography.training.evaluate import features_and_logits
from mammography.training.model_files import TrainedModel, load_model
from mammography.training.prediction import Answer, tensor_of
from mammography.training.prediction_tables import exam_table, image_table
from mammography.training.settings import FitSettings

EXAMS, VIEWS = 7, ("L_CC", "L_MLO", "R_CC")
CLASSES = ("1", "2", "3", "4")


def write_archive(root: Path, exams: int) -> Path:
    for exam in range(exams):
        for number, view in enumerate(VIEWS):
            pixels = np.random.default_rng([exam, number]).integers(0, 2000, (50, 36))
            pixels[: 5 * exam + 3, : 30 - 8 * number] += 2000
            write_dicom(
                root / f"archive/{exam:05d}/{view}.dcm",
                pixels.astype(np.uint16),
                photometric=f"MONOCHROME{1 + number % 2}",
                BitsStored=12,
                AccessionNumber=f"{exam:05d}",
                PatientID=f"MRN{exam // 2}",
                PatientName="Secret^Jane",
                ViewPosition=view[2:],
                ImageLaterality=view[0],
            )
    rows = "".join(f"{exam:05d},{'ABCD'[exam % 4]}\n" for exam in range(exams))
    (root / "classificacao.csv").write_text("AccessionNumber,Classification\n" + rows)
    return root


@pytest.fixture(scope="module", autouse=True)
def _salt() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMMOGRAPHY_SALT", "tests")
        yield


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("data"), EXAMS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "run")


def predict(run: Path, data: Path, outdir: Path, **options: Any) -> PredictResult:
    settings: dict[str, Any] = {
        "dicom_root": data / "archive", "outdir": outdir, "backend": "torch", "num_workers": 1,
    }  # fmt: skip
    result = Predict(run, **(settings | options)).run()
    assert isinstance(result, PredictResult)
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `done` lies; no test changes it."""
    return tmp_path_factory.mktemp("done") / "out"


@pytest.fixture(scope="module")
def done(run: Path, archive: Path, folder: Path) -> PredictResult:
    return predict(run, archive, folder)


def numbers(table: pl.DataFrame, prefix: str = "prob") -> np.ndarray:
    return table.select(f"{prefix}_{name}" for name in CLASSES).to_numpy()


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


# What the tables say.


def test_every_image_has_the_models_own_probabilities(
    done: PredictResult, run: Path, archive: Path
) -> None:
    model = load_model(run)
    paths = sorted((archive / "archive").rglob("*.dcm"))
    tensors = torch.from_numpy(np.stack([tensor_of(model, path, 10**6) for path in paths]))
    with torch.no_grad():
        logits = model.classifier(tensors).double()
    np.testing.assert_allclose(numbers(done.images), logits.softmax(1), atol=1e-6)
    expected = (logits / model.temperature).softmax(1)
    np.testing.assert_allclose(numbers(done.images, "cal_prob"), expected, atol=1e-6)
    assert done.images["pred_label"].to_list() == [
        str(1 + code) for code in logits.argmax(1).tolist()
    ]
    assert len(set(done.images["pred_label"])) > 1


def test_every_row_says_which_image_it_is(done: PredictResult) -> None:
    table = done.images
    assert table.columns == [
        "sample_id", "pred_label",
        *(f"prob_{name}" for name in CLASSES), *(f"cal_prob_{name}" for name in CLASSES),
        "path", "exam", "patient", "laterality", "view",
    ]  # fmt: skip
    rows = [(exam, view) for exam in range(EXAMS) for view in VIEWS]
    assert table["sample_id"].to_list() == [f"{exam:05d}/{view}" for exam, view in rows]
    assert table["path"].to_list() == [f"{exam:05d}/{view}.dcm" for exam, view in rows]
    assert table["exam"].to_list() == [f"{exam:05d}" for exam, _ in rows]
    assert table["patient"].to_list() == [pseudonym(f"MRN{exam // 2}") for exam, _ in rows]
    assert table["laterality"].to_list() == [view[0] for _, view in rows]
    assert table["view"].to_list() == [view[2:] for _, view in rows]


def test_an_exam_is_the_mean_of_its_images(done: PredictResult) -> None:
    by_exam: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in done.images.to_dicts():
        by_exam[row["exam"]].append(row)
    assert done.exams["exam"].to_list() == list(by_exam)
    for row in done.exams.to_dicts():
        rows = by_exam[row["exam"]]
        assert row["images"] == len(rows) == 3
        assert row["patient"] == rows[0]["patient"]
        for name in (f"{kind}_{label}" for kind in ("prob", "cal_prob") for label in CLASSES):
            assert row[name] == pytest.approx(sum(one[name] for one in rows) / 3, abs=1e-12)
        means = [row[f"prob_{label}"] for label in CLASSES]
        assert row["pred_label"] == CLASSES[means.index(max(means))]


def test_the_tables_are_in_the_folder_to_the_last_digit(done: PredictResult, folder: Path) -> None:
    for name, table in (("image", done.images), ("exam", done.exams)):
        with (folder / f"{name}_predictions.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert list(rows[0]) == table.columns
        for row, expected in zip(rows, table.to_dicts(), strict=True):
            assert all(type(value)(row[key]) == value for key, value in expected.items())
    assert pl.read_csv(folder / "rejects.csv").is_empty()
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "image_predictions.csv", "exam_predictions.csv", "rejects.csv", "run.log", "summary.json",
    }  # fmt: skip
    summary = summary_of(folder)
    assert summary["command"] == "predict"
    assert (summary["exit_code"], summary["images"], summary["exams"]) == (0, 21, 7)
    assert summary["readable_share"] == 1
    assert summary["model"]["arch"] == "timm:resnet10t"
    assert (summary["backend"], summary["precision"]) == ("torch", "float32")
    assert "began untrained" in summary["caution"]
    assert "terms" in summary["terms"]
    log = (folder / "run.log").read_text()
    assert "not for diagnosis" in log
    assert "began untrained" in log
    texts = [path.read_text() for path in folder.iterdir()]
    assert not any("Secret" in text or "MRN" in text for text in texts)


def test_tables_of_images_that_belong_nowhere() -> None:
    label = Label("tissue", ("F", "G", "D"), ("fatty", "glandular", "dense"))
    frame = pl.DataFrame(
        {
            "image_id": ["a", "b", "c", "d"],
            "path": ["a.png", "b.png", "c.png", "d.png"],
            "exam": [None, "1", "1", None],
            "patient": [None, "p", "q", "r"],
            "laterality": ["L", None, "R", "R"],
            "view": [None, "CC", "CC", "MLO"],
        }
    )
    probabilities = np.array([[1, 0, 0], [0.5, 0.3, 0.2], [0, 0.3, 0.7], [0, 1, 0]])
    images = image_table(label, frame, probabilities, probabilities[:, ::-1])
    assert images["pred_label"].to_list() == ["F", "F", "D", "G"]
    assert images["cal_prob_F"].to_list() == [0, 0.2, 0.7, 0]
    exams = exam_table(label, images)
    assert exams.columns == [
        "exam", "patient", "images", "pred_label", "prob_F", "prob_G", "prob_D",
        "cal_prob_F", "cal_prob_G", "cal_prob_D",
    ]  # fmt: skip
    row = exams.row(0, named=True)
    assert (exams.height, row["exam"], row["images"], row["pred_label"]) == (1, "1", 2, "D")
    assert row["patient"] is None  # two of them
    assert row["prob_D"] == pytest.approx(0.45)
    assert exam_table(label, images.filter(pl.col("exam").is_null())).is_empty()


# The same answer however it is asked for.


def test_an_image_alone_gets_the_same_answer(
    done: PredictResult, run: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in done.images[::4].to_dicts():
        answer = Predict(run, image=archive / "archive" / row["path"]).run()
        assert isinstance(answer, Answer)
        expected = [row[f"prob_{name}"] for name in CLASSES]
        np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)
        expected = [row[f"cal_prob_{name}"] for name in CLASSES]
        np.testing.assert_allclose(answer.calibrated, expected, atol=1e-6)
        shown = capsys.readouterr().out
        assert f"predicted: {'ABCD'[int(row['pred_label']) - 1]}" in shown
        assert all(f"{value:.3f}" in shown for value in (*answer.probabilities, *expected))


def test_the_validation_of_a_training_gets_the_same_answer(
    done: PredictResult, run: Path, archive: Path
) -> None:
    model, paths = load_model(run), done.images["path"].to_list()
    task, grays = validation(model, archive / "archive", paths)
    rows = np.arange(len(paths))
    _, logits = features_and_logits(task, Images(grays, 0 * rows), rows)
    np.testing.assert_allclose(numbers(done.images), model.probabilities(logits), atol=1e-6)
    batch = torch.from_numpy(np.stack([grays[row] for row in rows])).float() / 65535
    seen = np.stack([tensor_of(model, archive / "archive" / path, 10**6) for path in paths])
    np.testing.assert_array_equal(seen, task.images(batch).numpy(), strict=True)


def validation(model: TrainedModel, root: Path, paths: list[str]) -> tuple[DensityTask, Grays]:
    """A training's task and its images."""
    recipe = model.recipe
    grays, rejected = prepare_images(
        root, paths, recipe, "memory", None,
        workers=1, max_pixels=10**6, progress=lambda *_: None,
    )  # fmt: skip
    assert not rejected
    settings = FitSettings(device="cpu")
    task = DensityTask(
        model.classifier, model.objective, settings, np.ones(4), recipe.mean, recipe.std
    )
    return task, grays


def test_an_ordinal_model_gets_its_own_probabilities(archive: Path, tmp_path: Path) -> None:
    run = write_model(tmp_path / "run", objective="ordinal")
    model, path = load_model(run), archive / "archive/00004/L_MLO.dcm"
    task, grays = validation(model, archive / "archive", ["00004/L_MLO.dcm"])
    _, logits = features_and_logits(task, Images(grays, np.zeros(1, int)), np.arange(1))
    assert logits.shape == (1, 3)
    passed = 1 / (1 + np.exp(-logits[0]))
    above = np.cumprod(passed)
    expected = -np.diff(np.concatenate([[1], above, [0]]))
    answer = Predict(run, image=path).run()
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)
    assert answer.calibrated.sum() == pytest.approx(1)


def test_openvino_gives_the_same_answer(
    done: PredictResult, run: Path, archive: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    result = predict(run, archive, tmp_path / "out", backend="auto", device="cpu")
    assert "openvino on cpu" in (tmp_path / "out" / "run.log").read_text()
    np.testing.assert_allclose(numbers(result.images), numbers(done.images), atol=1e-5)


def test_the_recipe_is_the_one_of_the_training(archive: Path, tmp_path: Path) -> None:
    recipe = Density(size=(48, 80), resize="stretch", mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    run = write_model(tmp_path / "run", recipe=recipe)
    path = archive / "archive/00003/L_CC.dcm"
    answer = Predict(run, image=path).run()
    model = load_model(run)
    gray = np.rint(recipe.gray(recipe.read(path)) * 65535) / 65535
    tensor = torch.from_numpy(recipe.normalise(gray.astype(np.float32)))
    assert tensor.shape == (3, 48, 80)
    with torch.no_grad():
        expected = model.classifier(tensor[None]).double().softmax(1)[0]
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)


# Stopping and going on.


def interrupted_after(images: int) -> Callable[..., Any]:
    """`progress` of a user who presses Ctrl-C after so many images."""

    @contextmanager
    def progress(total: int, done: int = 0) -> Iterator[Callable[[int, int], None]]:
        dealt = [done]

        def advance(more: int, rejected: int) -> None:
            dealt[0] += more
            if dealt[0] >= images:
                raise KeyboardInterrupt

        yield advance

    return progress


def test_an_interrupted_run_goes_on_and_ends_the_same(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(134):  # two blocks of 128; two files lie in no folder
        pixels = np.random.default_rng(number).integers(0, 99, (8, 6)).astype(np.uint16)
        path = f"archive/{f'{number % 9}/' if number > 1 else ''}{number:03d}.dcm"
        write_dicom(tmp_path / path, pixels, BitsStored=12, AccessionNumber="")
    (tmp_path / "archive/3/003.dcm").write_bytes(b"noise" * 99)
    (tmp_path / "archive/7/133.dcm").write_bytes(b"noise" * 99)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    result = predict(run, tmp_path, whole)
    assert result.images["exam"].null_count() == 2
    assert result.exams["images"].sum() == 130
    assert "2 images have no AccessionNumber" in (whole / "run.log").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(progress_module, "progress", interrupted_after(128))
        with pytest.raises(KeyboardInterrupt):
            predict(run, tmp_path, parted)
    assert not (parted / "image_predictions.csv").exists()
    with pytest.raises(StoreError, match=r"weights differ\. Choose another --outdir"):
        predict(write_model(tmp_path / "other", seed=9), tmp_path, parted)
    assert predict(run, tmp_path, parted).exit_code == 0  # 132 of 134 could be read
    assert "continuing: 128 of 132 images were done" in (parted / "run.log").read_text()
    for name in ("image_predictions.csv", "exam_predictions.csv", "rejects.csv"):
        assert (parted / name).read_bytes() == (whole / name).read_bytes()
    assert {path.name for path in parted.iterdir()} == {path.name for path in whole.iterdir()}


def test_earlier_predictions_are_not_overwritten(
    done: PredictResult, folder: Path, run: Path, archive: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("*.csv")}
    for options in ({}, {"image": archive / "archive/00000/L_CC.dcm"}):
        with pytest.raises(StoreError, match="holds earlier predictions"):
            Predict(run, dicom_root=archive / "archive", outdir=tmp_path / "out", **options).run()
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "summary.json").write_text('{"command": "scan"}')
    with pytest.raises(StoreError, match="holds a run of scan"):
        predict(run, archive, tmp_path / "scan")


# What cannot be predicted.


def damaged(archive: Path, to: Path, paths: list[str]) -> Path:
    shutil.copytree(archive / "archive", to / "archive")
    for path in paths:
        whole = (to / "archive" / path).read_bytes()
        (to / "archive" / path).write_bytes(whole[:-1000])
    return to


def test_rejects_are_listed_and_the_gate_is_closed(
    done: PredictResult, run: Path, archive: Path, tmp_path: Path
) -> None:
    bad = ["00002/L_MLO.dcm", "00004/R_CC.dcm"]
    data, out = damaged(archive, tmp_path, bad), tmp_path / "out"
    (data / "archive/notes.txt").write_text("not an image")
    result = predict(run, data, out)
    assert (result.exit_code, result.readable_share) == (1, 19 / 21)
    rejects = pl.read_csv(out / "rejects.csv", infer_schema=False)
    assert rejects["path"].to_list() == [*bad, "notes.txt"]
    assert rejects["code"].to_list() == ["truncated", "truncated", "foreign-file"]
    assert all(rejects["reason"])
    assert result.rejects["path"].to_list() == rejects["path"].to_list()
    expected = done.images.filter(~pl.col("path").is_in(bad))
    np.testing.assert_allclose(numbers(result.images), numbers(expected), atol=1e-7)
    assert result.images["path"].to_list() == expected["path"].to_list()
    assert result.exams["images"].to_list() == [3, 3, 2, 3, 2, 3, 3]
    assert summary_of(out)["exit_code"] == 1
    assert "Only 90.5 % of the images could be read" in (out / "run.log").read_text()


def test_a_recipe_may_reject_more_than_damage(archive: Path, tmp_path: Path) -> None:
    run = write_model(tmp_path / "run", recipe=Density(size=(64, 64), voi="window"))
    with pytest.raises(NothingLeftError, match=r"None of the 21 images .*rejects\.csv"):
        predict(run, archive, tmp_path / "out")
    rejects = pl.read_csv(tmp_path / "out" / "rejects.csv")
    assert rejects.height == 21
    assert "the header has 0" in rejects["reason"][0]
    assert summary_of(tmp_path / "out")["exit_code"] == 2
    with pytest.raises(ImageRejected, match=r"L_CC\.dcm: the recipe applies window 0"):
        Predict(run, image=archive / "archive/00000/L_CC.dcm").run()


def test_an_archive_without_images_says_so(run: Path, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/noise.dcm").write_bytes(b"noise" * 100)
    with pytest.raises(NothingLeftError, match="No image below"):
        predict(run, tmp_path, tmp_path / "out")
    assert pl.read_csv(tmp_path / "out" / "rejects.csv")["path"].to_list() == ["noise.dcm"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"noise" * 99, "neither DICOM nor PNG"), (b"", "the file is empty"), (None, "No such file")],
)
def test_one_image_is_refused_with_its_reason(
    content: bytes | None, reason: str, run: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "bad.dcm").write_bytes(content)
    with pytest.raises(ImageRejected, match=rf"bad\.dcm: .*{reason}"):
        Predict(run, image=tmp_path / "bad.dcm").run()
    with pytest.raises(ImageRejected):
        Predict(run, image=tmp_path / "bad.dcm", outdir=tmp_path / "out").run()
    assert reason in summary_of(tmp_path / "out")["error"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dicom_root": None}, "an archive .*or a file"),
        ({"dicom_root": Path("nowhere")}, "no folder nowhere"),
        ({"json": True}, "--json is for --image"),
        ({"min_readable": 1.5}, "--min-readable"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"num_workers": 0}, "--num-workers must be at least 1"),
        ({"max_pixels": 0}, "--max-pixels must be at least 1"),
    ],
)
def test_options_that_make_no_sense_make_no_folder(
    options: dict[str, Any], message: str, run: Path, archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        predict(run, archive, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_outdir_must_not_be_the_archive(run: Path, archive: Path) -> None:
    with pytest.raises(UsageError, match="another folder than --dicom-root"):
        predict(run, archive, archive / "archive" / "00000" / "..")


def test_the_default_folder_is_recorded(
    done: PredictResult, run: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = Predict(run, archive / "archive", backend="torch", num_workers=1)
    assert isinstance(command.run(), PredictResult)
    folder = tmp_path / "outputs/predictions"
    again = Rerun(folder / "summary.json").command()
    assert again == replace(command, outdir=tmp_path / "outputs/predictions_1")
    with pytest.raises(StoreError, match=r"outputs/predictions holds earlier predictions"):
        command.run()


def test_a_folder_that_is_no_run_is_named(run: Path, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no finished run"):
        predict(tmp_path, archive, tmp_path / "out")
    broken = shutil.copytree(run, tmp_path / "broken")
    weights = broken / "best_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"best_model\.safetensors"):
        predict(broken, archive, tmp_path / "other")


# One image.


def test_json_is_all_that_is_printed(
    run: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, before = archive / "archive/00001/L_CC.dcm", sorted(tmp_path.rglob("*"))
    answer = Predict(run, image=image, json=True).run()
    printed = json.loads(capsys.readouterr().out)
    assert printed["image"] == image.as_posix()
    assert list(printed["probabilities"]) == list(printed["calibrated"]) == list(CLASSES)
    assert list(printed["probabilities"].values()) == answer.probabilities.tolist()
    assert printed["predicted"] == str(1 + int(answer.probabilities.argmax()))
    assert printed["name"] == "ABCD"[int(answer.probabilities.argmax())]
    assert "not for diagnosis" in printed["notice"]
    assert "began untrained" in printed["caution"]
    assert len(printed["model"]["sha256"]) == 64
    assert sorted(tmp_path.rglob("*")) == before
    Predict(run, image=image, json=True, outdir=tmp_path / "out").run()
    assert json.loads(capsys.readouterr().out) == printed
    assert json.loads((tmp_path / "out/prediction.json").read_text()) == printed
    assert summary_of(tmp_path / "out")["exit_code"] == 0


def test_the_command_line_calls_it_run(archive: Path) -> None:
    command = tyro.cli(
        Predict,
        args=["--run", "outputs/results", "--dicom-root", str(archive), "--batch-size", "4"],
    )
    assert command == Predict(Path("outputs/results"), dicom_root=archive, batch_size=4)


# Models that see embeddings beside the image.


PATHS = [f"{exam:05d}/{view}.dcm" for exam in range(EXAMS) for view in VIEWS]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_embeddings(tmp_path_factory.mktemp("embedded") / "set", PATHS, range(len(PATHS)))


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("fused") / "run", fused=FUSED)


@pytest.fixture(scope="module")
def with_embeddings(
    fused: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> pl.DataFrame:
    """Predictions with an embedding set whose rows are in another order."""
    folder = tmp_path_factory.mktemp("shuffled")
    shuffled = np.random.default_rng(0).permutation(len(PATHS)).tolist()
    other = write_embeddings(folder / "set", PATHS, shuffled)
    return predict(fused, archive, folder / "out", embeddings_dir=other).images


def test_a_fused_model_matches_rows_by_name(
    with_embeddings: pl.DataFrame, fused: Path, embedded: Path, archive: Path
) -> None:
    model, embeddings = load_model(fused), load_embeddings(embedded)
    paths = [archive / "archive" / path for path in with_embeddings["path"]]
    tensors = torch.from_numpy(np.stack([tensor_of(model, path, 10**6) for path in paths]))
    beside = torch.from_numpy(np.array(embeddings.features))
    with torch.no_grad():
        expected = model.classifier(tensors, beside).double().softmax(1)
        swapped = model.classifier(tensors, beside.flip(0)).double().softmax(1)
    assert abs(expected - swapped).max() > 1e-4
    np.testing.assert_allclose(numbers(with_embeddings), expected, atol=1e-6)


def test_one_image_finds_its_embedding_by_its_path(
    with_embeddings: pl.DataFrame, fused: Path, embedded: Path, archive: Path, tmp_path: Path
) -> None:
    root, row = archive / "archive", with_embeddings.row(13, named=True)
    image = root / row["path"]

    def answer(image: Path, dicom_root: Path | None) -> Answer:
        said = Predict(fused, dicom_root, image=image, embeddings_dir=embedded).run()
        assert isinstance(said, Answer)
        return said

    expected = [row[f"prob_{name}"] for name in CLASSES]
    np.testing.assert_allclose(answer(image, root).probabilities, expected, atol=1e-6)
    with pytest.raises(UsageError, match=r"say which folder the archive is with --dicom-root"):
        answer(image, None)
    with pytest.raises(UsageError, match="does not lie below"):
        answer(image, embedded)
    shutil.copytree(root / "00003", tmp_path / "new")
    with pytest.raises(StoreError, match=r"no embedding of 1 images \(new/L_CC\.dcm\)"):
        answer(tmp_path / "new/L_CC.dcm", tmp_path)


def test_missing_and_foreign_rows_are_named_before_anything_slow(
    fused: Path, embedded: Path, archive: Path, tmp_path: Path
) -> None:
    others = [row for row in range(len(PATHS)) if row != 4]
    without = write_embeddings(tmp_path / "without", PATHS, others)
    foreign = write_embeddings(tmp_path / "foreign", [*PATHS, "elsewhere.dcm"], range(22))
    cases = [
        (without, r"no embedding of 1 images \(00001/L_MLO\)"),
        (foreign, r"images that this archive does not have: 1 images \(elsewhere\)"),
    ]
    for embeddings, message in cases:
        with pytest.raises(StoreError, match=message):
            predict(fused, archive, tmp_path / "out", embeddings_dir=embeddings)
        assert not (tmp_path / "out" / ".parts").exists()


def test_images_that_cannot_be_read_need_no_embedding_and_may_have_one(
    with_embeddings: pl.DataFrame, fused: Path, archive: Path, tmp_path: Path
) -> None:
    data = damaged(archive, tmp_path, ["00002/L_MLO.dcm"])
    (data / "archive/00000/L_CC.dcm").write_bytes(b"noise" * 99)  # was read when it was embedded
    embeddings = write_embeddings(
        tmp_path / "set", PATHS, [row for row in range(len(PATHS)) if row != 7]
    )
    with (embeddings / "rejects.csv").open("a") as stream:
        stream.write("00002/L_MLO.dcm,2,00002,truncated,the file is truncated\n")
    result = predict(fused, data, tmp_path / "out", embeddings_dir=embeddings)
    bad = ["00000/L_CC.dcm", "00002/L_MLO.dcm"]
    assert result.rejects["path"].to_list() == bad
    expected = with_embeddings.filter(~pl.col("path").is_in(bad))
    assert result.images["path"].equals(expected["path"])
    np.testing.assert_allclose(numbers(result.images), numbers(expected), atol=1e-7)


def test_embeddings_must_be_those_of_the_training(
    run: Path, fused: Path, embedded: Path, archive: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(embedded, tmp_path / "other")
    record = json.loads((other / "embedding.json").read_text())
    (other / "embedding.json").write_text(json.dumps(record | {"fingerprint": "0" * 64}))
    root = archive / "archive"
    cases: list[tuple[Path, Path | None, type[MammographyError], str]] = [
        (fused, None, UsageError, r"trained with embeddings .*--embeddings-dir"),
        (run, embedded, UsageError, "trained without embeddings"),
        (fused, other, StoreError, r"has the fingerprint 000000000000…"),
        (fused, tmp_path, StoreError, "holds no finished embedding set"),
    ]
    for model, folder, error, message in cases:
        for image in (None, root / "00000/L_CC.dcm"):
            command = Predict(model, root, image, tmp_path / "out", embeddings_dir=folder)
            with pytest.raises(error, match=message):
                command.run()
