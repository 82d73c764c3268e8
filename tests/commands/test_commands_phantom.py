"""The synthetic archive as a whole: tables that are true, files that others can read."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mammography.archive.files import read_facts
from mammography.archive.images import read_image
from mammography.commands.phantom import Phantom, PhantomResult
from mammography.dicom.phantom.archive import exam_image, stored_pixels
from mammography.dicom.phantom.codecs import SYNTAXES
from mammography.dicom.phantom.damage import BAD_KINDS
from mammography.dicom.phantom.oddities import ODD_KINDS
from mammography.dicom.phantom.plan import plan_exams
from mammography.errors import ImageRejected, UsageError

ROWS, COLUMNS, EXAMS = 208, 160, 14


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PhantomResult:
    """An archive in every transfer syntax, with every bad and odd file."""
    return Phantom(
        tmp_path_factory.mktemp("phantom") / "made",
        exams=EXAMS,
        rows=ROWS,
        columns=COLUMNS,
        syntax=tuple(SYNTAXES),
        bad_files=True,
        odd_files=True,
    ).run()


@pytest.fixture(scope="module")
def tables(made: PhantomResult) -> dict[str, list[dict[str, str]]]:
    return {path.stem: rows_of(path) for path in made.csv.parent.glob("*.csv")}


def test_every_file_is_in_one_listing(made: PhantomResult, tables: dict) -> None:
    listed = [row["path"] for name in ("truth", "bad_files", "odd_files") for row in tables[name]]
    found = [p.relative_to(made.archive).as_posix() for p in made.archive.rglob("*") if p.is_file()]
    assert sorted(listed) == sorted(found)
    assert len(tables["truth"]) == made.images == 4 * EXAMS
    assert [row["kind"] for row in tables["bad_files"]] == list(BAD_KINDS)
    assert [row["kind"] for row in tables["odd_files"]] == list(ODD_KINDS)
    assert (made.bad_files, made.odd_files) == (len(BAD_KINDS), len(ODD_KINDS))


def test_every_exam_has_four_views_and_a_label(tables: dict) -> None:
    views = defaultdict(set)
    densities = defaultdict(set)
    for row in tables["truth"]:
        views[row["AccessionNumber"]].add((row["laterality"], row["view"]))
        densities[row["AccessionNumber"]].add(row["density"])
    four = {(laterality, view) for laterality in "RL" for view in ("CC", "MLO")}
    assert all(seen == four for seen in views.values())
    labels = {row["AccessionNumber"]: {row["Classification"]} for row in tables["classificacao"]}
    assert labels == densities
    assert set().union(*labels.values()) == {"1", "2", "3", "4"}
    assert all(len(accession) == 8 and accession.isdigit() for accession in labels)
    assert any(accession.startswith("00") for accession in labels)


def test_headers_say_what_the_truth_says(made: PhantomResult, tables: dict) -> None:
    for row in tables["truth"]:
        facts = read_facts(made.archive / row["path"])
        assert (facts.rows, facts.columns) == (ROWS, COLUMNS)
        assert facts.accession_number == row["AccessionNumber"]
        assert facts.patient_id == row["patient"]
        assert (facts.laterality, facts.view) == (row["laterality"], row["view"])
        assert facts.photometric_interpretation == row["photometric_interpretation"]
        assert facts.transfer_syntax == row["transfer_syntax"]
        assert facts.manufacturer == row["manufacturer"]
        assert facts.presentation_intent == "FOR PRESENTATION"
    found = {column: {row[column] for row in tables["truth"]} for column in tables["truth"][0]}
    assert found["transfer_syntax"] == {str(syntax.uid) for syntax in SYNTAXES.values()}
    assert found["photometric_interpretation"] == {"MONOCHROME1", "MONOCHROME2"}
    assert len(found["manufacturer"]) == 4


def test_people_are_obviously_synthetic_and_uids_unique(made: PhantomResult, tables: dict) -> None:
    uids = Counter()
    for row in tables["truth"]:
        header = pydicom.dcmread(made.archive / row["path"], stop_before_pixels=True)
        assert str(header.PatientName).startswith("PHANTOM^")
        uids[header.SOPInstanceUID] += 1
        assert pydicom.uid.UID(header.SOPInstanceUID).is_valid
    assert set(uids.values()) == {1}


def test_pixels_and_percentages_are_those_of_the_phantom(made: PhantomResult, tables: dict) -> None:
    exams = plan_exams(EXAMS, 42, tuple(SYNTAXES), balanced=False, lesions=True)
    truth = {row["path"]: row for row in tables["truth"]}
    lossy = {name for name, syntax in SYNTAXES.items() if syntax.lossy_method}
    compared = 0
    for exam in exams:
        path = f"{exam.accession}/L_MLO.dcm"
        image = exam_image(exam, "L", "MLO", ROWS, COLUMNS)
        breast = image.breast_mask & ~image.muscle_mask
        share = 100 * image.dense_mask.sum() / breast.sum()
        assert float(truth[path]["percent_dense"]) == pytest.approx(share, abs=1e-3)
        dataset = pydicom.dcmread(made.archive / path)
        if exam.syntax not in lossy and exam.syntax != "htj2k":  # which pydicom cannot decode
            np.testing.assert_array_equal(dataset.pixel_array, stored_pixels(exam, image))
            compared += 1
    assert compared == len(SYNTAXES) - len(lossy) - 1


def test_percent_dense_is_ordered_with_the_class(tables: dict) -> None:
    percent = defaultdict(list)
    for row in tables["truth"]:
        percent[int(row["density"])].append(float(row["percent_dense"]))
    for fatter, denser in ((1, 2), (2, 3), (3, 4)):
        assert max(percent[fatter]) < 25 * fatter < min(percent[denser])


def test_air_is_dark_on_screen_whatever_is_stored(made: PhantomResult, tables: dict) -> None:
    for row in tables["truth"]:
        image = read_image(made.archive / row["path"])
        corner = image.pixels[-10:, -10:] if row["laterality"] == "L" else image.pixels[-10:, :10]
        assert (corner.mean() > image.pixels.mean()) == image.inverted
        assert image.inverted == (row["photometric_interpretation"] == "MONOCHROME1")


def test_lesions_lie_in_the_image_and_show_in_both_views(tables: dict) -> None:
    kinds = defaultdict(lambda: defaultdict(set))
    for row in tables["findings"]:
        x_min, y_min, x_max, y_max = (int(row[key]) for key in ("x_min", "y_min", "x_max", "y_max"))
        assert 0 <= x_min < x_max <= COLUMNS
        assert 0 <= y_min < y_max <= ROWS
        exam, name = row["path"].split("/")
        kinds[exam, name[0]][name[2:]].add(row["kind"])
    assert kinds
    for views in kinds.values():
        assert views["CC.dcm"] == views["MLO.dcm"]


def test_second_exams_keep_patient_and_density_but_not_the_image() -> None:
    exams = plan_exams(50, 42, ("explicit",), balanced=False, lesions=True)
    by_patient = defaultdict(list)
    for exam in exams:
        by_patient[exam.patient].append(exam)
    pairs = [pair for pair in by_patient.values() if len(pair) > 1]
    assert len(pairs) == 5
    for first, second in pairs:
        assert first.density == second.density
        assert first.accession != second.accession
        images = [exam_image(exam, "L", "CC", 96, 80).pixels for exam in (first, second)]
        assert (images[0] != images[1]).any()


@pytest.mark.parametrize("count", [4, 10, 50, 203])
def test_classes_come_in_their_shares(count: int) -> None:
    usual, equal = (
        Counter(e.density for e in plan_exams(count, 1, ("rle",), balanced=flag, lesions=False))
        for flag in (False, True)
    )
    assert max(equal.values()) - min(equal.values()) <= 1
    for density, share in ((1, 0.1), (2, 0.4), (3, 0.4), (4, 0.1)):
        assert usual[density] == pytest.approx(max(1, share * count), abs=1.01)


@pytest.mark.parametrize("kind", BAD_KINDS)
def test_bad_files_are_refused_for_the_reason_listed(
    made: PhantomResult, tables: dict, kind: str
) -> None:
    (row,) = (row for row in tables["bad_files"] if row["kind"] == kind)
    with pytest.raises(ImageRejected) as verdict:
        read_image(made.archive / row["path"])
    assert verdict.value.code == row["code"]
    assert row["expected"] == (
        "skip" if row["code"] in ("not-an-image", "foreign-file") else "reject"
    )


@pytest.mark.parametrize("kind", ODD_KINDS)
def test_odd_files_are_read(made: PhantomResult, tables: dict, kind: str) -> None:
    (row,) = (row for row in tables["odd_files"] if row["kind"] == kind)
    facts = read_facts(made.archive / row["path"])
    assert facts.accession_number == row["AccessionNumber"]
    assert (facts.laterality, facts.view) == (row["laterality"], row["view"])
    image = read_image(made.archive / row["path"])
    exams = plan_exams(EXAMS, 42, tuple(SYNTAXES), balanced=False, lesions=True)
    (exam,) = (e for e in exams if e.accession == row["AccessionNumber"])
    good = stored_pixels(exam, exam_image(exam, "L", "CC", ROWS, COLUMNS)).astype(float)
    if image.pixels.shape != good.shape:
        assert kind == "tomosynthesis"
        good = good.reshape(ROWS // 2, 2, COLUMNS // 2, 2).mean(axis=(1, 3))
    alike = np.corrcoef(image.pixels.ravel(), good.ravel())[0, 1]
    inverted_by_colour = kind == "colour" and exam.vendor.monochrome1
    assert (-alike if inverted_by_colour else alike) > 0.99


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_options_same_bytes_on_any_number_of_processes(tmp_path: Path) -> None:
    for name, workers, seed in (("one", 1, 7), ("two", 2, 7), ("other", 2, 8)):
        Phantom(
            tmp_path / name,
            exams=3,
            seed=seed,
            rows=104,
            columns=80,
            num_workers=workers,
            bad_files=True,
        ).run()
    one, two, other = (digests(tmp_path / name) for name in ("one", "two", "other"))
    assert len(one) == 12 + len(BAD_KINDS) + 4
    assert one == two
    images = [{value for path, value in run.items() if "_MLO" in path} for run in (one, other)]
    assert len(images[0]) == 6
    assert not images[0] & images[1]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="not an empty folder"):
        Phantom(tmp_path, exams=1).run()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "wrong", [{"syntax": ("jpeg-xl",)}, {"syntax": ()}, {"exams": 0}, {"rows": 10}]
)
def test_options_that_make_no_sense_write_nothing(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(UsageError):
        Phantom(tmp_path / "out", **({"exams": 1} | wrong)).run()
    assert not (tmp_path / "out").exists()


def test_importing_the_command_imports_nothing_heavy() -> None:
    code = "import sys, mammography.commands.phantom; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "cv2", "pydicom", "polars", "rich"} & set(done.stdout.split())
