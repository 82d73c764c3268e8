"""``mammography embed`` from archive to embedding set, on small images and a small network."""

from __future__ import annotations

import csv
import json
import logging
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mammography.cli import main
from mammography.commands.embed import Embed, EmbedResult
from mammography.commands.rerun import Rerun
from mammography.dicom.phantom.files import write_dicom
from mammography.errors import (
    LabelTableError,
    NothingLeftError,
    StoreError,
    UsageError,
    WeightsError,
    WeightsUnavailableError,
)
from mammography.runs import config_of, pseudonym, run_folder

EXAMS, VIEWS = 10, ("L_CC", "L_MLO", "R_CC")
PATIENT = {
    "PatientName": "Secret^Jane",
    "PatientID": "MRN4711",
    "PatientBirthDate": "19511213",
    "OtherPatientIDs": "ALIAS0815",
    "ReferringPhysicianName": "Quack^Peter",
}


def write_archive(root: Path, exams: list[int]) -> Path:
    for exam in exams:
        for number, view in enumerate(VIEWS):
            pixels = np.random.default_rng([exam, number]).integers(0, 4096, (30, 24), np.uint16)
            write_dicom(
                root / f"archive/{exam:05d}/{view}.dcm",
                pixels,
                photometric=f"MONOCHROME{1 + number % 2}",
                BitsStored=12,
                AccessionNumber=f"{exam:05d}",
                ViewPosition=view[2:],
                **PATIENT,
            )
    rows = "".join(f"{exam:05d},{'ABCD'[exam % 4]},note {exam}\n" for exam in sorted(exams))
    (root / "classificacao.csv").write_text("AccessionNumber,Classification,Note\n" + rows)
    return root


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("data"), list(range(EXAMS)))


def embed(data: Path, outdir: Path, **options: Any) -> Embed:
    settings: dict[str, Any] = {
        "encoder": "timm:resnet10t",
        "weights": "random",
        "backend": "torch",
        "img_size": 32,
        "num_workers": 1,
    }
    paths = {"csv": data / "classificacao.csv", "dicom_root": data / "archive", "outdir": outdir}
    return Embed(**(paths | settings | options))


@pytest.fixture(scope="module")
def done(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> EmbedResult:
    """One run, whose folder no test changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMMOGRAPHY_SALT", "tests")  # conftest's comes too late for a whole module
        return embed(archive, tmp_path_factory.mktemp("done"), save_csv=True, pca=True).run()


@pytest.fixture
def copy(done: EmbedResult, tmp_path: Path) -> Path:
    """A copy of the finished run's folder."""
    return shutil.copytree(done.embeddings.folder, tmp_path / "copy")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but those that hold the time of day."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("run.log", "summary.json")
    }


def log_of(folder: Path) -> str:
    return (folder / "run.log").read_text(encoding="utf-8")


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


# What a run makes.


def test_every_image_has_its_row(done: EmbedResult) -> None:
    embeddings = done.embeddings
    assert (done.exit_code, done.readable_share) == (0, 1.0)
    assert embeddings.features.shape == (EXAMS * len(VIEWS), 512)
    assert embeddings.features.dtype == np.float32
    expected = [f"{exam:05d}/{view}" for exam in range(EXAMS) for view in VIEWS]
    assert embeddings.index["image_id"].to_list() == expected
    assert embeddings.index["density"].to_list() == [
        1 + exam % 4 for exam in range(EXAMS) for _ in VIEWS
    ]
    assert embeddings.index["view"].to_list() == ["CC", "MLO", "CC"] * EXAMS
    assert done.manifest.frame.equals(embeddings.index)
    assert embeddings.rejects().is_empty()


def test_a_row_does_not_depend_on_the_rest_of_the_archive(
    done: EmbedResult, archive: Path, tmp_path: Path
) -> None:
    smaller = write_archive(tmp_path, [3, 8])
    features = embed(smaller, tmp_path / "out").run().embeddings.features
    rows = [9, 10, 11, 24, 25, 26]
    np.testing.assert_array_equal(features, done.embeddings.features[rows], strict=True)


def test_the_record_says_where_the_features_come_from(done: EmbedResult) -> None:
    record = done.embeddings.record
    assert record["encoder"]["name"] == "timm:resnet10t"
    assert record["encoder"]["width"] == 512
    assert record["encoder"]["weights"]["trained"] is False
    assert record["recipe"]["size"] == [32, 32]
    assert len(record["recipe"]["hash"]) == 64
    assert (record["backend"], record["precision"], record["batch_size"]) == ("torch", "float32", 8)
    assert record["deterministic"] is True
    assert record["label"] == {
        "name": "density", "classes": [1, 2, 3, 4], "names": ["A", "B", "C", "D"],
    }  # fmt: skip
    assert record["images"] == 30
    assert record["versions"]["torch"]
    assert "not for diagnosis" in record["notice"]


def test_the_log_relates_images_to_rows(done: EmbedResult) -> None:
    log = log_of(done.embeddings.folder)
    assert "30 images belong to 10 of the table's 10 rows (3.00 images a row)" in log
    assert "30 of 30 images" in log
    assert "untrained" in log


def test_joined_is_table_and_features(done: EmbedResult) -> None:
    with (done.embeddings.folder / "joined.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = [f"f{number:04d}" for number in range(512)]
    assert list(rows[0]) == [
        "image_id",
        "path",
        "AccessionNumber",
        "Classification",
        "Note",
        *names,
    ]
    assert [(row["AccessionNumber"], row["Note"]) for row in rows] == [
        (f"{exam:05d}", f"note {exam}") for exam in range(EXAMS) for _ in VIEWS
    ]
    read = np.array([[row[name] for name in names] for row in rows]).astype(np.float32)
    assert read.tobytes() == np.asarray(done.embeddings.features).tobytes()


def test_the_summary_is_the_command_that_was_run(done: EmbedResult, archive: Path) -> None:
    folder = done.embeddings.folder
    summary = summary_of(folder)
    assert (summary["exit_code"], summary["images"], summary["readable_share"]) == (0, 30, 1.0)
    again = Rerun(folder / "summary.json", outdir=folder).command()
    assert again == embed(archive, folder, save_csv=True, pca=True)


SECRETS = [word.encode() for value in PATIENT.values() for word in value.split("^")]


def named_in(folder: Path, *told: str) -> list[tuple[str, bytes]]:
    """Where a patient is named among a run's files, its decoded index, and what it told."""
    texts = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    texts |= {"told": "".join(told).encode()}
    if (folder / "index.parquet").exists():
        texts |= {"index": pl.read_parquet(folder / "index.parquet").write_csv().encode()}
    return [
        (name, secret)
        for name, text in texts.items()
        for secret in SECRETS
        if secret.lower() in text.lower()
    ]


def test_no_patient_is_named_anywhere(done: EmbedResult) -> None:
    assert named_in(done.embeddings.folder) == []
    patients = done.embeddings.index["patient"].unique().to_list()
    assert patients == [pseudonym("MRN4711")]


def test_no_patient_is_named_where_files_are_damaged(
    archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = damaged(archive, tmp_path, [])
    whole = (data / "archive/00000/L_CC.dcm").read_bytes()
    name = whole.index(b"Secret^Jane")
    dice = random.Random(0)
    for number in range(60):
        file = bytearray(whole)
        if number % 3 == 0:
            del file[name + number * 7 :]
        for _ in range(3):
            file[min(name - 60 + dice.randrange(240), len(file) - 1)] = dice.randrange(256)
        (data / f"archive/00001/{number}.dcm").write_bytes(file)
    command = embed(data, tmp_path / "out", min_readable=0.0)
    arguments = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in config_of(command).items()
        if value is not None and not isinstance(value, bool)
    ]
    assert main(["embed", *arguments]) == 0
    rejects = pl.read_csv(tmp_path / "out" / "rejects.csv")
    assert rejects.height > 10
    assert named_in(tmp_path / "out", *capfd.readouterr()) == []


# The same again.


def test_workers_and_file_system_order_change_nothing(done: EmbedResult, tmp_path: Path) -> None:
    other = write_archive(tmp_path, list(reversed(range(EXAMS))))
    out = tmp_path / "out"
    embed(other, out, save_csv=True, pca=True, num_workers=3).run()
    assert contents(out) == contents(done.embeddings.folder)


def test_a_finished_set_is_completed_and_not_computed_again(
    copy: Path, archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = contents(copy)
    made = (copy / "features.npy").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        result = embed(archive, copy, tsne=True).run()
    assert "is finished: its features are used as they are" in caplog.text
    assert (copy / "features.npy").stat().st_mtime_ns == made
    after = contents(copy)
    assert after.keys() - before.keys() == {
        "preview/tsne_projection.png", "preview/tsne_projection.csv",
    }  # fmt: skip
    assert {name: after[name] for name in before} == before
    assert result.manifest.frame.equals(result.embeddings.index)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"resize": "crop"}, "recipe.resize was 'letterbox' and is 'crop'"),
        ({"seed": 1}, r"untrained weights was 'random \(seed 42\)' and is 'random \(seed 1\)'"),
        ({"batch_size": 2}, "batch_size was 8 and is 2"),
        ({"amp": True}, "precision was 'float32' and is 'bfloat16'"),
        ({"limit": 3}, "images differ"),
    ],
)
def test_other_options_in_the_same_folder_are_refused(
    options: dict[str, Any], difference: str, copy: Path, archive: Path
) -> None:
    before = contents(copy) | {"summary": (copy / "summary.json").read_bytes()}
    with pytest.raises(StoreError, match=difference):
        embed(archive, copy, **options).run()
    assert contents(copy) | {"summary": (copy / "summary.json").read_bytes()} == before
    assert "holds embeddings made otherwise" in log_of(copy)


def test_rerun_elsewhere_gives_the_same_bytes(done: EmbedResult, tmp_path: Path) -> None:
    Rerun(done.embeddings.folder / "summary.json", outdir=tmp_path / "again").run()
    assert contents(tmp_path / "again") == contents(done.embeddings.folder)


def test_other_recipes_and_weights_have_other_fingerprints(
    done: EmbedResult, archive: Path, tmp_path: Path
) -> None:
    options: list[dict[str, Any]] = [{"resize": "crop"}, {"seed": 1}, {"mean": (0.5, 0.5, 0.5)}]
    prints = {done.embeddings.fingerprint}
    for number, option in enumerate(options):
        result = embed(archive, tmp_path / str(number), limit=2, **option).run()
        prints.add(result.embeddings.fingerprint)
    assert len(prints) == 4
    same = embed(archive, tmp_path / "same", limit=2).run()
    assert same.embeddings.fingerprint == done.embeddings.fingerprint


# Bad images and bad tables.


def damaged(source: Path, target: Path, paths: list[str]) -> Path:
    """A copy of an archive in which some files are cut in half."""
    shutil.copytree(source / "archive", target / "archive")
    shutil.copy(source / "classificacao.csv", target)
    for path in paths:
        whole = (target / "archive" / path).read_bytes()
        (target / "archive" / path).write_bytes(whole[: len(whole) - 700])
    return target


BAD = ["00000/L_CC.dcm", "00004/L_MLO.dcm", "00009/R_CC.dcm"]


def test_bad_images_are_listed_shift_nobody_and_fail_the_gate(
    done: EmbedResult, archive: Path, tmp_path: Path
) -> None:
    data, out = damaged(archive, tmp_path, BAD), tmp_path / "out"
    result = embed(data, out, save_csv=True, pca=True).run()
    assert (result.exit_code, result.readable_share) == (1, 0.9)
    rejects = result.embeddings.rejects()
    assert rejects["path"].to_list() == BAD
    assert set(rejects["code"]) == {"truncated"}
    np.testing.assert_array_equal(
        result.embeddings.features, np.delete(done.embeddings.features, [0, 13, 29], 0)
    )
    assert result.manifest.rejects.equals(rejects)
    assert contents(out).keys() == contents(done.embeddings.folder).keys()
    summary = summary_of(out)
    assert (summary["exit_code"], summary["images"], summary["readable_share"]) == (1, 27, 0.9)
    assert "Only 90.00 % of the images could be read" in log_of(out)
    assert embed(data, out, min_readable=0.9).run().exit_code == 0


def test_an_archive_of_bad_images_alone_says_why(archive: Path, tmp_path: Path) -> None:
    paths = sorted(path.relative_to(archive / "archive").as_posix()
                   for path in archive.rglob("*.dcm"))  # fmt: skip
    data, out = damaged(archive, tmp_path, paths), tmp_path / "out"
    for _ in range(2):
        with pytest.raises(NothingLeftError, match=r"None of the 30 images .*rejects\.csv"):
            embed(data, out).run()
        assert pl.read_csv(out / "rejects.csv")["path"].to_list() == paths
        assert summary_of(out)["exit_code"] == 2
        assert "None of the 30 images" in summary_of(out)["error"]
        assert "ERROR   None of the 30 images" in log_of(out)
    assert not (out / "features.npy").exists()


def test_a_table_that_names_nothing_saves_the_rejects_but_spoils_no_finished_set(
    archive: Path, copy: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.csv").write_text("AccessionNumber,Classification\n77777,A\n")
    with pytest.raises(NothingLeftError):
        embed(archive, tmp_path / "out", csv=tmp_path / "other.csv").run()
    assert "missing-exam" in (tmp_path / "out" / "rejects.csv").read_text()
    before = contents(copy) | {"summary": (copy / "summary.json").read_bytes()}
    with pytest.raises(NothingLeftError):
        embed(archive, copy, csv=tmp_path / "other.csv").run()
    assert contents(copy) | {"summary": (copy / "summary.json").read_bytes()} == before


def test_limit_takes_the_first_and_their_rejects(
    done: EmbedResult, archive: Path, tmp_path: Path
) -> None:
    data = damaged(archive, tmp_path, BAD)
    (data / "archive/00000/noise.dcm").write_bytes(b"no image" * 99)
    (data / "archive/00007/noise.dcm").write_bytes(b"no image" * 99)
    result = embed(data, tmp_path / "out", limit=9).run()
    np.testing.assert_array_equal(result.embeddings.features, done.embeddings.features[1:9])
    assert result.embeddings.rejects()["path"].to_list() == ["00000/L_CC.dcm", "00000/noise.dcm"]
    assert result.readable_share == 0.8


def test_class_5_is_refused_dropped_or_kept(archive: Path, tmp_path: Path) -> None:
    table = (archive / "classificacao.csv").read_text().replace("00002,C", "00002,5")
    (tmp_path / "five.csv").write_text(table)
    options = {"csv": tmp_path / "five.csv", "limit": 9}
    with pytest.raises(UsageError, match=r"1 row of class 5.*row 3 \(00002\).*--class5 drop"):
        embed(archive, tmp_path / "refuse", **options).run()
    assert "encoder" not in log_of(tmp_path / "refuse")
    dropped = embed(archive, tmp_path / "drop", class5="drop", **options).run()
    assert dropped.embeddings.index["density"].unique().sort().to_list() == [1, 2, 4]
    kept = embed(archive, tmp_path / "keep", class5="keep", **options).run()
    assert kept.embeddings.index["density"].unique().sort().to_list() == [1, 2, 5]
    metrics = json.loads((tmp_path / "keep" / "clustering_metrics.json").read_text())
    assert metrics["classes"] == {"5": 3, "A": 3, "B": 3}


# Failing early, and with a reason.


def test_a_wrong_table_fails_before_the_encoder_is_opened(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match="nowhere"):
        embed(archive, tmp_path / "out", csv=tmp_path / "nowhere.csv").run()
    with pytest.raises(LabelTableError, match="Birads"):
        embed(archive, tmp_path / "out", label_column="Birads").run()
    log = log_of(tmp_path / "out")
    assert "encoder" not in log
    assert log.count("ERROR") == 2


def test_missing_weights_fail_before_the_archive_is_read(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(WeightsUnavailableError, match=r"resnet50-11ad3fa6\.pth"):
        embed(archive, tmp_path / "out", encoder="resnet50", weights="imagenet").run()
    with pytest.raises(WeightsError, match=r"no weight file .*absent\.pth"):
        embed(archive, tmp_path / "out", weights=tmp_path / "absent.pth").run()
    assert "reading the headers" not in log_of(tmp_path / "out")
    assert summary_of(tmp_path / "out")["exit_code"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_readable": 1.1}, "--min-readable"),
        ({"img_size": 0}, "--img-size must be at least 1"),
        ({"num_workers": 0}, "--num-workers must be at least 1"),
        ({"batch_size": -1}, "--batch-size must be at least 1"),
        ({"dicom_root": Path("nowhere")}, "no folder nowhere"),
    ],
)
def test_options_that_make_no_sense_make_no_folder(
    options: dict[str, Any], message: str, archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        embed(archive, tmp_path / "out", **options).run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "imagenet21k"}, "no 'imagenet21k' among the recipes"),
        ({"frame": 0}, "no frame 0"),
        ({"voi_index": -1}, "no voi_index -1"),
        ({"std": (1.0, 0.0, 1.0)}, "no std"),
        ({"encoder": "resnet51"}, "no encoder 'resnet51'"),
        ({"dialect": "german"}, "no 'german' among the dialects"),
    ],
)
def test_names_and_settings_that_are_not_known_say_so(
    options: dict[str, Any], message: str, archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=message) as caught:
        embed(archive, tmp_path / "out", **options).run()
    assert type(caught.value).__name__ in ("UsageError", "PluginError")
    assert message in log_of(tmp_path / "out")


# Where things lie.


def test_outdir_and_table_may_lie_in_the_archive(
    done: EmbedResult, archive: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(archive / "archive", tmp_path / "archive")
    shutil.copy(archive / "classificacao.csv", root / "labels.csv")
    for number in range(2):
        command = embed(
            archive, root / "out", csv=root / "labels.csv", dicom_root=root, pca=number == 1
        )
        result = command.run()
        assert result.manifest.rejects.is_empty()
    np.testing.assert_array_equal(result.embeddings.features, done.embeddings.features)


def test_outdir_must_not_be_the_archive_itself(archive: Path, tmp_path: Path) -> None:
    before = sorted(archive.rglob("*"))
    for outdir in (archive / "archive", archive / "archive" / "00000" / ".."):
        with pytest.raises(UsageError, match="another folder than --dicom-root"):
            embed(archive, outdir).run()
    assert sorted(archive.rglob("*")) == before


def test_outdir_that_is_a_file_is_one_message(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(StoreError, match="out cannot be written to: File exists"):
        embed(archive, tmp_path / "out").run()


def test_outdir_of_another_command_or_process_is_refused(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "summary.json").write_text('{"command": "scan"}')
    with pytest.raises(StoreError, match="holds a run of scan"):
        embed(archive, tmp_path / "scan").run()
    command = embed(archive, tmp_path / "busy")
    in_use = pytest.raises(StoreError, match="Another process is at work")
    with run_folder(tmp_path / "busy", command), in_use:
        command.run()


def test_mini_mias_films_are_embedded_with_their_tissue(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "mini-mias"
    if not (folder / "labels.csv").exists():
        pytest.skip("mini-MIAS is not here")
    options = {"csv": folder / "labels.csv", "dicom_root": folder / "png", "limit": 6}
    result = embed(folder, tmp_path / "out", save_csv=True, **options).run()
    assert result.exit_code == 0
    assert result.embeddings.features.shape == (6, 512)
    assert result.embeddings.record["label"]["name"] == "tissue"
    header = (tmp_path / "out" / "joined.csv").read_text().partition("\n")[0].split(",")
    assert len(header) == len(set(header))
    assert {"image_id", "embed_image_id"} <= set(header)


def test_the_default_backend_agrees_with_torch(
    done: EmbedResult, archive: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    result = embed(archive, tmp_path / "out", backend="auto", device="cpu").run()
    assert result.embeddings.record["backend"] == "openvino"
    expected = np.asarray(done.embeddings.features)
    difference = np.linalg.norm(result.embeddings.features - expected) / np.linalg.norm(expected)
    assert difference <= 1e-5
    with pytest.raises(StoreError, match="backend was 'openvino' and is 'torch'"):
        replace(embed(archive, tmp_path / "out"), backend="torch").run()


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 2**32}, {"std": (math.nan,) * 3}])
def test_numbers_that_make_no_sense_are_refused_at_once(
    options: dict[str, Any], archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        embed(archive, tmp_path / "out", **options).run()
