"""The join of archive and label table."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from mammography.archive import headers
from mammography.archive.files import FoundFile
from mammography.archive.manifest import EmptyManifestError, Manifest, build_manifest
from mammography.archive.matching import By
from mammography.dicom.header import ImageFacts
from mammography.dicom.phantom.files import write_dicom
from mammography.errors import ImageRejected, LabelTableError, NothingLeftError, UsageError
from mammography.runs import pseudonym
from mammography.tables import FACT_COLUMNS, MANIFEST_COLUMNS, REJECT_COLUMNS
from mammography.vocabulary import RejectCode

PIXELS = np.arange(48, dtype=np.uint16).reshape(8, 6)


def write_exam(
    root: Path,
    exam: str,
    *,
    folder: str | None = None,
    images: str = "LCC RCC LMLO RMLO",
    **tags: Any,
) -> None:
    """An exam of small images, named by laterality and view."""
    for name in images.split():
        place = root / (exam if folder is None else folder) / f"{name}.dcm"
        tags = {"AccessionNumber": exam, "PatientID": f"P-{exam}", **tags}
        write_dicom(
            place,
            PIXELS,
            ImageLaterality=name[0],
            ViewPosition=name[1:],
            ViewCodeSequence=None,
            **tags,
        )


def build(root: Path, text: str | None, **options: Any) -> Manifest:
    csv = None if text is None else root.parent / "labels.csv"
    if csv is not None and text is not None:
        csv.write_text(text, encoding="utf-8")
    return build_manifest(root, csv, workers=1, **options)


def codes(manifest: Manifest) -> dict[tuple[str | None, int | None], str]:
    return {(row["path"], row["table_row"]): row["code"] for row in manifest.rejects.to_dicts()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


def test_every_image_of_an_exam_is_a_row(root: Path) -> None:
    """Traps 2 and 3: zeros of identifiers were lost, and only the first image was used."""
    for exam in ("00001234", "1234", "0000"):
        write_exam(root, exam)
    manifest = build(root, "AccessionNumber,Classification\n1234,D\n00001234,A\n0000,2\n")
    assert manifest.frame.height == 12
    assert manifest.rejects.is_empty()
    by_exam = dict(manifest.frame.group_by("exam").agg(pl.col("density").unique()).iter_rows())
    assert by_exam == {"00001234": [1], "1234": [4], "0000": [2]}
    assert manifest.frame["path"].to_list() == sorted(
        f"{exam}/{name}.dcm"
        for exam in ("00001234", "1234", "0000")
        for name in ("LCC", "RCC", "LMLO", "RMLO")
    )


def test_the_columns_are_those_of_the_contract(root: Path) -> None:
    write_exam(root, "01", images="RMLO", Manufacturer="ACME", ImagerPixelSpacing=[0.07, 0.07])
    frame = build(root, "exam,density\n01,C\n").frame
    assert dict(frame.schema) == {**MANIFEST_COLUMNS, "density": pl.Int8, **FACT_COLUMNS}
    assert frame.row(0, named=True) == {
        "image_id": "01/RMLO",
        "path": "01/RMLO.dcm",
        "exam": "01",
        "patient": pseudonym("P-01"),
        "laterality": "R",
        "view": "MLO",
        "table_row": 1,
        "density": 3,
        "rows": 8,
        "columns": 6,
        "number_of_frames": 1,
        "bits_stored": 16,
        "photometric_interpretation": "MONOCHROME2",
        "transfer_syntax": "1.2.840.10008.1.2.1",
        "pixel_spacing": 0.07,
        "manufacturer": "ACME",
        "model": None,
        "presentation_intent": "FOR PRESENTATION",
    }


def test_the_folder_wins_over_the_accession_number(root: Path) -> None:
    write_exam(root, "HEADER", folder="FOLDER", images="LCC")
    write_exam(root, "HEADER", folder="elsewhere", images="RCC")
    manifest = build(root, "exam,density\nHEADER,A\nFOLDER,D\n")
    assert manifest.frame.select("path", "exam", "density").rows() == [
        ("FOLDER/LCC.dcm", "FOLDER", 4),
        ("elsewhere/RCC.dcm", "HEADER", 1),
    ]
    assert manifest.warnings == (
        "images whose AccessionNumber differs from the folder's name, which is believed: 1",
    )


def test_what_is_left_out_is_listed_with_its_reason(root: Path) -> None:
    write_exam(root, "01", images="LCC RCC")
    write_exam(root, "02", images="LCC")
    write_exam(root, "03", images="LCC")
    write_exam(root, "04", images="LCC")
    write_exam(root, "05", images="LCC")
    (root / "01/RCC.dcm").write_bytes(b"garbage")
    (root / "01/notes.txt").write_text("hello")
    (root / "05/empty.dcm").touch()
    (root / "stray.dcm").write_bytes(b"garbage")
    table = "exam,density\n01,A\n02,\n03,B\n03,C\n04,5\n99,A\n"
    manifest = build(root, table, class5="drop")
    assert manifest.frame["path"].to_list() == ["01/LCC.dcm"]
    assert dict(manifest.rejects.schema) == REJECT_COLUMNS
    assert codes(manifest) == {
        ("01/RCC.dcm", 1): "damaged-header",
        ("01/notes.txt", 1): "foreign-file",
        ("02/LCC.dcm", 2): "blank-label",
        ("03/LCC.dcm", 3): "contradicting-rows",
        ("04/LCC.dcm", 5): "class-5",
        ("05/LCC.dcm", None): "not-in-table",
        ("05/empty.dcm", None): "damaged-header",
        ("stray.dcm", None): "damaged-header",
        (None, 2): "blank-label",
        (None, 3): "contradicting-rows",
        (None, 4): "contradicting-rows",
        (None, 5): "class-5",
        (None, 6): "missing-exam",
    }
    by_place = {(row["path"], row["table_row"]): row for row in manifest.rejects.to_dicts()}
    assert by_place["02/LCC.dcm", 2]["reason"].startswith("row 2 of the label table fell: ")
    assert by_place["05/LCC.dcm", None]["exam"] == "05"
    assert by_place["01/RCC.dcm", 1]["exam"] == "01"
    assert by_place["stray.dcm", None]["exam"] is None
    assert all(row["reason"] for row in manifest.rejects.to_dicts())


def test_every_file_and_every_row_is_accounted_for(root: Path) -> None:
    for number in range(8):
        write_exam(root, f"{number:02d}", images="LCC RCC")
    (root / "03/RCC.dcm").write_bytes(b"")
    labels = ["A", "B", "", "C", "5", "x", "D"]
    rows = [f"{number:02d},{label}" for number, label in enumerate(labels)]
    rows += ["77,A", "00,A", "01,C", ",B", "02;B", "\n"]
    manifest = build(root, "exam,density\n" + "\n".join(rows), class5="drop")
    files = {path.relative_to(root).as_posix() for path in root.rglob("*.dcm")}
    left_out = manifest.rejects["path"].drop_nulls()
    assert left_out.is_unique().all()
    assert set(manifest.frame["path"]) | set(left_out) == files
    assert not set(manifest.frame["path"]) & set(left_out)
    fallen = set(manifest.rejects.filter(pl.col("path").is_null())["table_row"])
    assert fallen | set(manifest.frame["table_row"]) | {4} == set(range(1, 13))
    assert manifest.frame["image_id"].is_unique().all()


def test_class_5_is_refused_before_the_archive_is_read(root: Path) -> None:
    with pytest.raises(UsageError, match=r"1 row of class 5.*row 2 \(02\)"):
        build(root, "exam,density\n01,A\n02,5\n")


def test_class_5_can_be_kept_as_a_class_of_its_own(root: Path) -> None:
    write_exam(root, "01", images="LCC")
    write_exam(root, "02", images="LCC")
    manifest = build(root, "exam,density\n01,A\n02,5\n", class5="keep")
    assert manifest.frame["density"].to_list() == [1, 5]
    assert manifest.label is not None
    assert manifest.label.classes == (1, 2, 3, 4, 5)
    assert manifest.label.names == ("A", "B", "C", "D", "5")
    without = build(root, "exam,density\n01,A\n02,B\n", class5="keep")
    assert without.label is not None
    assert without.label.classes == (1, 2, 3, 4)


def test_one_row_per_image(root: Path) -> None:
    write_exam(root, "01", images="LCC RCC LMLO")
    table = "file,label,patient\n01/LCC.dcm,malignant,007\n01/RCC,benign,\n01/gone,benign,x\n"
    manifest = build(root, table)
    assert manifest.label is not None
    assert manifest.label.classes == ("benign", "malignant")
    assert manifest.frame.select("path", "exam", "patient", "label", "table_row").rows() == [
        ("01/LCC.dcm", "01", "007", "malignant", 1),
        ("01/RCC.dcm", "01", pseudonym("P-01"), "benign", 2),
    ]
    assert codes(manifest) == {
        ("01/LMLO.dcm", None): "not-in-table",
        (None, 3): "missing-file",
    }
    assert manifest.key is not None
    assert manifest.key.by is By.PATH


def test_one_row_per_sop_instance_uid(root: Path) -> None:
    write_dicom(root / "a", PIXELS, SOPInstanceUID="1.2.3", AccessionNumber="E1")
    write_dicom(root / "b", PIXELS, SOPInstanceUID="1.2.4", AccessionNumber="")
    manifest = build(root, "SOP Instance UID;Density\n1.2.4;D\n1.2.3;A\n")
    assert manifest.frame.select("image_id", "exam", "density", "table_row").rows() == [
        ("a", "E1", 1, 2),
        ("b", None, 4, 1),
    ]
    assert not any("1.2.3" in str(value) for value in manifest.frame.row(0))


def test_a_damaged_file_that_a_row_names_is_damaged_and_not_missing(root: Path) -> None:
    write_exam(root, "01", images="LCC")
    (root / "01/RCC.dcm").write_bytes(b"garbage")
    manifest = build(root, "file,density\n01/LCC,A\n01/RCC,B\n")
    assert codes(manifest) == {("01/RCC.dcm", 2): "damaged-header"}


def test_laterality_and_view_come_from_the_header_before_the_table(root: Path) -> None:
    write_exam(root, "01", images="LCC")
    (root / "png").mkdir()
    Image.fromarray(PIXELS.astype(np.uint8)).save(root / "png/x.png")
    text = "file,density,side,view\nLCC,A,R,MLO\nx,B,right,mlo\n"
    manifest = build(root, text)
    rows = manifest.frame.select("path", "exam", "patient", "laterality", "view").rows()
    assert rows == [
        ("01/LCC.dcm", "01", pseudonym("P-01"), "L", "CC"),
        ("png/x.png", "png", None, "R", "MLO"),
    ]
    assert manifest.warnings == (
        "images whose laterality in the table differs from the header's, which is believed: 1",
        "images whose view in the table differs from the header's, which is believed: 1",
    )


def test_an_archive_without_table_is_all_its_images(root: Path) -> None:
    write_exam(root, "01", images="LCC RCC")
    write_exam(root, "", folder="nobody", images="LCC", PatientID="")
    (root / "bad.dcm").write_bytes(b"x")
    manifest = build(root, None)
    assert dict(manifest.frame.schema) == {**MANIFEST_COLUMNS, **FACT_COLUMNS}
    assert manifest.label is manifest.table is manifest.key is None
    assert manifest.frame["exam"].to_list() == ["01", "01", "nobody"]
    assert manifest.frame["patient"].to_list() == [pseudonym("P-01")] * 2 + [None]
    assert manifest.frame["table_row"].null_count() == 3
    assert codes(manifest) == {("bad.dcm", None): "damaged-header"}


def test_nothing_left_names_the_main_reasons(root: Path) -> None:
    with pytest.raises(NothingLeftError, match="no file below"):
        build(root, "exam,density\n01,A\n")
    write_exam(root, "0001", images="LCC RCC")
    with pytest.raises(EmptyManifestError) as raised:
        build(root, "exam,density\n1,A\n01,\n")
    message = str(raised.value)
    assert "2 not-in-table" in message
    assert "1 missing-exam" in message
    assert "has the table lost its leading zeros?" in message
    assert "\n" not in message
    assert raised.value.manifest.rejects.height == 4
    with pytest.raises(UsageError, match="no folder"):
        build(root / "nowhere", None)


def test_a_wrong_column_is_said_before_the_archive_is_read(root: Path) -> None:
    with pytest.raises(LabelTableError, match="'AccessionNumber', 'Grade'"):
        build(root, "AccessionNumber;Grade\n01;A\n")
    with pytest.raises(LabelTableError, match="no column 'Density'"):
        build(root, "AccessionNumber;Grade\n01;A\n", label_column="Density")


def test_an_identifier_does_not_leave_the_archive(root: Path) -> None:
    write_exam(root.parent / "secret", "x", images="LCC")
    write_exam(root, "01", images="LCC")
    for outside in ("../secret/x", "../secret", "../../x", str(root.parent / "secret/x/LCC.dcm")):
        for name in ("exam", "path"):
            manifest = build(root, f"{name},density\n{outside},A\n01/LCC,B\n01,B\n")
            assert set(manifest.frame["path"]) <= {"01/LCC.dcm"}
            assert "missing" in codes(manifest)[None, 1]


def test_the_table_inside_the_archive_is_no_foreign_file(root: Path) -> None:
    write_exam(root, "01", images="LCC")
    (root / "labels.csv").write_text("exam,density\n01,A\n")
    (root / "out").mkdir()
    (root / "out/x.txt").touch()
    manifest = build_manifest(root, root / "labels.csv", workers=1, exclude=[root / "out"])
    assert manifest.rejects.is_empty()


def test_names_that_are_not_utf_8_are_listed_and_not_fatal(root: Path) -> None:
    write_exam(root, "01", images="LCC")
    strange = os.fsencode(root / "01") + b"/caf\xe9.dcm"
    try:
        shutil.copyfile(root / "01/LCC.dcm", strange)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    Path(os.fsdecode(strange[:-4] + b".txt")).touch()
    manifest = build(root, "exam,density\n01,A\n")
    assert manifest.frame.height == 1
    assert codes(manifest) == {
        (r"01/caf\xe9.dcm", 1): "unsupported",
        (r"01/caf\xe9.txt", 1): "foreign-file",
    }


def test_claims_beyond_reason_are_rejects(root: Path) -> None:
    write_exam(root, "01", images="LCC")
    write_exam(root, "02", images="LCC", NumberOfFrames="99999999999")
    manifest = build(root, "exam,density\n01,A\n02,B\n")
    assert codes(manifest) == {("02/LCC.dcm", 2): "too-large"}


def test_files_that_would_share_an_image_id_do_not(root: Path) -> None:
    for name in ("a.dcm", "a.png", "a.dcm.dcm", "b.dcm", "b.png"):
        write_dicom(root / "01" / name, PIXELS, AccessionNumber="01")
    manifest = build(root, "exam,density\n01,A\n")
    assert manifest.frame["image_id"].is_unique().all()
    assert manifest.frame.height + manifest.rejects.height == 5
    assert {row["code"] for row in manifest.rejects.to_dicts()} <= {"ambiguous-name"}


def test_the_order_of_rows_and_folders_does_not_matter(root: Path, tmp_path: Path) -> None:
    exams = ["10", "02", "033", "1"]
    for exam in exams:
        write_exam(root, exam, images="LCC RCC")
    other = tmp_path / "other" / "archive"
    for exam in reversed(exams):
        write_exam(other, exam, images="RCC LCC")
    one = build(root, "exam,density\n10,A\n02,B\n033,C\n1,D\n99,A\n")
    two = build(other, "exam,density\n99,A\n1,D\n033,C\n02,B\n10,A\n")
    assert one.frame.drop("table_row").equals(two.frame.drop("table_row"))
    assert one.rejects.drop("table_row").equals(two.rejects.drop("table_row"))
    assert one.frame["path"].is_sorted()


def test_names_and_birth_dates_are_nowhere(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = {"PatientName": "Secret^Jane", "PatientBirthDate": "19511213", "PatientID": "MRN4711"}
    write_exam(root, "01", images="LCC RCC", **secrets)
    write_exam(root, "02", images="LCC", **secrets)
    write_exam(root, "03", images="LCC", **secrets)
    damaged = (root / "01/RCC.dcm").read_bytes()
    (root / "01/RCC.dcm").write_bytes(damaged[:600])
    manifest = build(root, "exam,density\n01,A\n02,\n")
    assert manifest.frame["patient"].to_list() == [pseudonym("MRN4711")]
    seen = manifest.frame.write_csv() + manifest.rejects.write_csv() + caplog.text
    manifest.frame.write_parquet(tmp_path / "manifest.parquet")
    seen += (tmp_path / "manifest.parquet").read_bytes().decode("latin-1")
    for secret in ("Secret", "Jane", "19511213", "MRN4711"):
        assert secret not in seen


def test_every_guess_is_logged_with_its_way_out(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mammography")
    write_exam(root, "01", images="LCC")
    build(root, "AccessionNumber;Classificação\n01;A\n")
    for words in (
        "delimiter semicolon, encoding utf-8",
        "read as 'classificacao' (--dialect overrides)",
        "'AccessionNumber', by its name (--id-column overrides)",
        "'Classificação', by its name (--label-column overrides)",
        "1 of 1 rows matched by exam folder or AccessionNumber, column 'AccessionNumber' (--id-col",
    ):
        assert words in caplog.text


def test_images_can_be_taken_out_later(root: Path) -> None:
    write_exam(root, "01", images="LCC RCC")
    manifest = build(root, "exam,density\n01,A\n")
    verdict = ImageRejected(RejectCode.TRUNCATED, "half of it")
    left = manifest.without({"01/LCC.dcm": verdict, "not/there": verdict})
    assert left.frame["path"].to_list() == ["01/RCC.dcm"]
    assert left.rejects.to_dicts() == [
        {
            "path": "01/LCC.dcm",
            "table_row": 1,
            "exam": "01",
            "code": "truncated",
            "reason": "half of it",
        }
    ]
    assert manifest.without({}).frame.equals(manifest.frame)


def test_mini_mias(shared: Path) -> None:
    folder = shared / "data/mini-mias"
    for root in (folder, folder / "png"):
        manifest = build_manifest(root, folder / "labels.csv", workers=1)
        assert manifest.frame.height == 258
        assert manifest.frame["tissue"].value_counts().sort("tissue").rows() == [
            ("D", 90),
            ("F", 84),
            ("G", 84),
        ]
        assert manifest.frame["patient"].n_unique() == manifest.frame["exam"].n_unique() == 129
        assert set(manifest.frame["laterality"]) == {"L", "R"}
        assert not manifest.rejects["code"].is_in(["not-in-table", "missing-file"]).any()


def test_real_dicom_files(shared: Path) -> None:
    frame = build_manifest(shared / "data/dicom", None, workers=1).frame
    assert frame.height == 6
    assert frame["image_id"].is_unique().all()


_original = headers._facts_of


def _dies_on_two(root: Path, file: FoundFile) -> ImageFacts:
    if file.path in ("02/LCC.dcm", "04/LCC.dcm"):
        os.kill(os.getpid(), 9)
    return _original(root, file)


def _batch_that_dies(root: Path, files: list[FoundFile]) -> list[ImageFacts | ImageRejected]:
    return [_dies_on_two(root, file) for file in files]


def test_a_worker_that_dies_costs_one_header(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for exam in ("01", "02", "03", "04"):
        write_exam(root, exam, images="LCC")
    monkeypatch.setattr(headers, "_facts_of_all", _batch_that_dies)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    manifest = build(root, "exam,density\n01,A\n02,B\n03,C\n04,D\n")
    assert manifest.frame["exam"].to_list() == ["01", "03"]
    assert set(codes(manifest).values()) == {"decoder-crashed"}
