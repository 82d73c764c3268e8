"""The numbers of the audit, counted by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from mammography.archive.audit import audit, gate, readable_share
from mammography.archive.audit_table import audit_table
from mammography.archive.manifest import Manifest, build_manifest
from mammography.dicom.phantom.files import write_dicom
from mammography.errors import ImageRejected
from mammography.vocabulary import UNREADABLE, RejectCode

PIXELS = np.arange(48, dtype=np.uint16).reshape(8, 6)


def write(root: Path, path: str, **tags: Any) -> None:
    tags = {"AccessionNumber": path.split("/")[0], "PatientID": "P", **tags}
    write_dicom(root / path, PIXELS, **tags)


def build(root: Path, text: str | None, **options: Any) -> Manifest:
    csv = None
    if text is not None:
        csv = root.parent / "labels.csv"
        csv.write_text(text)
    return build_manifest(root, csv, workers=1, class5="drop", **options)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Three exams of two patients in the manifest; five images that cannot be used, and more."""
    root = tmp_path_factory.mktemp("audit") / "archive"
    write(root, "01/a.dcm", Manufacturer="[bold]ACME", ViewPosition="CC", ImageLaterality="L")
    write(root, "01/b.dcm", Manufacturer="Zeta", ViewPosition="MLO", ImageLaterality="R")
    write(root, "01/c.dcm", Manufacturer=None, PatientID="Q", photometric="MONOCHROME1")
    write(root, "02/a.dcm", Manufacturer="Zeta", syntax="implicit")
    write(root, "03/a.dcm", Manufacturer="Zeta", ImageLaterality=None, PatientID="")
    write(root, "04/a.dcm")
    write(root, "05/a.dcm")
    write(root, "06/a.dcm")
    for damaged in ("02/bad.dcm", "05/bad.dcm", "07/bad.dcm", "06/bad.dcm"):
        (root / damaged).parent.mkdir(exist_ok=True)
        (root / damaged).write_bytes(b"garbage")
    (root / "02/notes.txt").touch()
    table = "exam,density\n01,A\n02,A\n03,D\n04,\n06,5\n07,C\n98,A\n99,A\n"
    return build(root, table)


def test_the_numbers(manifest: Manifest) -> None:
    numbers = audit(manifest, decoded=True)
    definition = numbers["readable"].pop("definition")
    assert "an exam without any file" in definition
    assert numbers == {
        "images": 5,
        "exams": 3,
        "patients": 2,
        # 02/bad and 07/bad; not 05/bad (no row) and not 06/bad (its row fell)
        "readable": {"share": 5 / 7, "readable": 5, "unreadable": 2, "checked": "pixels"},
        "missing_exams": 2,
        "classes": {
            "label": "density",
            "counts": {
                "A": {"images": 4, "exams": 2},
                "B": {"images": 0, "exams": 0},
                "C": {"images": 0, "exams": 0},
                "D": {"images": 1, "exams": 1},
            },
        },
        "class_5_rows": [{"table_row": 5, "exam": "06"}],
        "views": {"CC": 4, "MLO": 1},
        "lateralities": {"L": 3, "R": 1, "unknown": 1},
        "manufacturers": {"Zeta": 3, "[bold]ACME": 1, "unknown": 1},
        "transfer_syntaxes": {
            "1.2.840.10008.1.2.1": {"name": "Explicit VR Little Endian", "images": 4},
            "1.2.840.10008.1.2": {"name": "Implicit VR Little Endian", "images": 1},
        },
        "photometric_interpretations": {"MONOCHROME2": 4, "MONOCHROME1": 1},
        "frames_per_image": {"1": 5},
        "images_per_exam": {"1": 2, "3": 1},
        "patients_per_exam": {"1": 1, "2": 1},
        "exams_per_patient": {"1": 1, "2": 1},
        "rejects": {
            "damaged-header": {"files": 4, "rows": 0},
            "blank-label": {"files": 1, "rows": 1},
            "class-5": {"files": 1, "rows": 1},
            "missing-exam": {"files": 0, "rows": 2},
            "foreign-file": {"files": 1, "rows": 0},
            "not-in-table": {"files": 1, "rows": 0},
        },
        "warnings": [
            "1 row of class 5 left out: row 5 (06)",
            "exams that hold images of more than one patient: 1, such as '01' with 2",
        ],
    }
    json.dumps(numbers, allow_nan=False)


def test_an_image_that_cannot_be_decoded_counts_as_unreadable(manifest: Manifest) -> None:
    verdict = ImageRejected(RejectCode.TRUNCATED, "half of it")
    assert readable_share(manifest.without({"01/a.dcm": verdict})) == (4, 3)
    headers_only = audit(manifest, decoded=False)
    assert headers_only["readable"]["checked"] == "headers only"


def test_a_row_of_a_missing_image_counts_and_a_fallen_row_does_not(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    for name in "abc":
        write(root, f"x/{name}.dcm")
    (root / "x/bad.dcm").write_bytes(b"garbage")
    (root / "x/worse.dcm").write_bytes(b"garbage")
    rows = "path,density\nx/a,A\nx/b,B\nx/bad,C\nx/worse,\nx/gone,D\nx/gone,D\nx/none,5\nx/nil,\n"
    found = build(root, rows)
    assert readable_share(found) == (2, 2)  # a, b; bad, gone
    assert audit(found, decoded=True)["missing_exams"] == 0


def test_without_a_table_every_damaged_image_counts(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    write(root, "x/a.dcm")
    (root / "x/bad.dcm").write_bytes(b"garbage")
    (root / "x/notes.txt").touch()
    found = build(root, None)
    assert readable_share(found) == (1, 1)
    assert audit(found, decoded=True)["classes"] is None


def test_which_rejects_are_unreadable_images(manifest: Manifest) -> None:
    for code in RejectCode:
        rejects = manifest.rejects.clear().vstack(
            pl.DataFrame(
                [("x.dcm", 1, "01", code.value, "")], manifest.rejects.schema, orient="row"
            )
        )
        found = Manifest(manifest.frame, rejects, manifest.table, manifest.label)
        assert readable_share(found)[1] == int(code in UNREADABLE)


@pytest.mark.parametrize(
    ("share", "wanted", "enough"),
    [
        (0.95, 0.95, True),
        (0.9499, 0.95, False),
        (1.0, 1.0, True),
        (0.0, 0.0, True),
        (None, 0, False),
    ],
)
def test_the_gate(share: float | None, wanted: float, enough: bool) -> None:
    assert gate(share, wanted) is enough


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_shows_everything_as_it_is(manifest: Manifest, width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(audit_table(audit(manifest, decoded=True), manifest.rejects))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for words in (
        "5 (exams: 3, patients: 2)",
        "[bold]ACME 1",
        "Implicit VR Little Endian 1",
        "density A",
        "4 (exams: 2)",
        "1 in 2, 3 in 1",
        "missing-exam",
        "warning: 1 row of class 5",
    ):
        assert words in text


def test_an_empty_manifest_has_an_audit(manifest: Manifest) -> None:
    empty = Manifest(manifest.frame.clear(), manifest.rejects.clear())
    numbers = audit(empty, decoded=True)
    assert numbers["readable"]["share"] is None
    assert numbers["images"] == 0
    Console(file=io.StringIO()).print(audit_table(numbers, empty.rejects))
