"""Which rows stand, which fall and why, and whose the files are."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mammography.archive.dialects import read_dialect
from mammography.archive.label_table import read_label_table
from mammography.archive.matching import ArchiveFile, By
from mammography.archive.rows import Class5, Rows, TableRow, judge, refuse_class_5
from mammography.errors import UsageError
from mammography.vocabulary import RejectCode

EXAMS = [ArchiveFile(f"{exam}/{image}.dcm") for exam in ("001", "002", "003") for image in "ab"]


def judged(
    folder: Path,
    text: str,
    files: list[ArchiveFile] = EXAMS,
    class5: Class5 = "drop",
    no_images: tuple[str, ...] = (),
) -> Rows:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    table = read_label_table(path)
    images = {file.path for file in files} - set(no_images)
    return judge(table, read_dialect(table), files, images, folder, class5)


def codes(rows: Rows) -> dict[int, RejectCode | None]:
    return {row.number: row.code for row in rows.rows}


def reason(rows: Rows, number: int) -> str:
    return next(row.reason for row in rows.rows if row.number == number)


def owners(rows: Rows) -> dict[str, int]:
    return {path: row.number for path, row in rows.owner.items()}


def test_every_file_of_an_exam_belongs_to_its_row(tmp_path: Path) -> None:
    rows = judged(tmp_path, "exam,density\n001,A\n003,D\n")
    assert codes(rows) == {1: None, 2: None}
    assert owners(rows) == {"001/a.dcm": 1, "001/b.dcm": 1, "003/a.dcm": 2, "003/b.dcm": 2}
    assert [row.label for row in rows.rows] == [1, 4]


def test_blank_and_unreadable_cells(tmp_path: Path) -> None:
    rows = judged(tmp_path, "exam,density\n , A\n001, \n002,E\n003,C\n")
    assert codes(rows) == {
        1: RejectCode.BLANK_ID,
        2: RejectCode.BLANK_LABEL,
        3: RejectCode.UNREADABLE_LABEL,
        4: None,
    }
    assert "'density'" in reason(rows, 2)
    assert "'E'" in reason(rows, 3)
    assert "1-4 or A-D" in reason(rows, 3)
    assert owners(rows)["002/a.dcm"] == 3  # so that the image can say which row fell


def test_a_ragged_row_falls_with_its_exam(tmp_path: Path) -> None:
    rows = judged(tmp_path, "exam,density,note\n001,A\n002,B,x\n003,C,x,y\n")
    assert codes(rows) == {1: RejectCode.UNREADABLE_ROW, 2: None, 3: RejectCode.UNREADABLE_ROW}
    assert "line 2 has 2 fields" in reason(rows, 1)
    assert owners(rows)["003/b.dcm"] == 3


def test_of_equal_rows_the_first_stands(tmp_path: Path) -> None:
    rows = judged(tmp_path, "exam,density\n001,A\n002,B\n001,1\n001,a\n")
    assert codes(rows) == {
        1: None,
        2: None,
        3: RejectCode.DUPLICATE_ROW,
        4: RejectCode.DUPLICATE_ROW,
    }
    assert "row 1" in reason(rows, 3)
    assert owners(rows)["001/a.dcm"] == 1


def test_contradicting_rows_all_fall_and_name_each_other(tmp_path: Path) -> None:
    rows = judged(tmp_path, "exam,density\n001,A\n002,B\n001,C\n001,A\n")
    assert codes(rows) == {
        1: RejectCode.CONTRADICTING_ROWS,
        2: None,
        3: RejectCode.CONTRADICTING_ROWS,
        4: RejectCode.CONTRADICTING_ROWS,
    }
    assert reason(rows, 3).endswith("row 1, row 4")
    assert owners(rows)["001/a.dcm"] == 1


def test_a_row_that_fell_alone_contradicts_nobody(tmp_path: Path) -> None:
    rows = judged(tmp_path, "exam,density\n001,\n001,B\n001,x\n")
    assert codes(rows)[2] is None
    assert owners(rows)["001/a.dcm"] == 2


def test_missing_exams_say_what_they_may_have_been(tmp_path: Path) -> None:
    rows = judged(tmp_path, "exam,density\n1,A\n002.0,B\n003,C\n../../x,D\n")
    assert codes(rows) == {
        1: RejectCode.MISSING_EXAM,
        2: RejectCode.MISSING_EXAM,
        3: None,
        4: RejectCode.MISSING_EXAM,
    }
    assert "'001' is: has the table lost its leading zeros?" in reason(rows, 1)
    assert "'002' is: has the table been saved with numbers" in reason(rows, 2)


def test_a_folder_without_images_is_a_missing_exam(tmp_path: Path) -> None:
    rows = judged(tmp_path, "exam,density\n001,A\n002,B\n", no_images=("001/a.dcm", "001/b.dcm"))
    assert codes(rows) == {1: RejectCode.MISSING_EXAM, 2: None}
    assert "no image among the files" in reason(rows, 1)


@pytest.mark.parametrize(
    ("class5", "code"), [("drop", RejectCode.CLASS_5), ("keep", None), ("refuse", None)]
)
def test_class_5(tmp_path: Path, class5: Class5, code: RejectCode | None) -> None:
    rows = judged(tmp_path, "exam,density\n001,A\n002,5\n", class5=class5)
    assert codes(rows) == {1: None, 2: code}
    assert bool(rows.warnings) == (class5 == "drop")


def test_class_5_beside_a_density_is_a_contradiction(tmp_path: Path) -> None:
    rows = judged(tmp_path, "exam,density\n001,A\n001,5\n002,5\n002,5\n")
    assert codes(rows) == {
        1: RejectCode.CONTRADICTING_ROWS,
        2: RejectCode.CONTRADICTING_ROWS,
        3: RejectCode.CLASS_5,
        4: RejectCode.DUPLICATE_ROW,
    }


def test_refusing_class_5_names_rows_and_ways_on(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    rows = "".join(f"{exam:03d},{5 if exam % 2 else 2}\n" for exam in range(24))
    path.write_text("exam,density\n" + rows)
    table = read_label_table(path)
    with pytest.raises(UsageError) as raised:
        refuse_class_5(table, read_dialect(table))
    message = str(raised.value)
    assert "12 rows of class 5" in message
    assert "row 2 (001), row 4 (003)" in message
    assert "row 20 (019) and 2 more" in message
    assert "--class5 drop" in message
    assert "--class5 keep" in message


def test_a_class_called_5_of_another_label_is_no_class_5(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("exam,result\n001,five\n")
    table = read_label_table(path)
    refuse_class_5(table, read_dialect(table, label_column="result"))


IMAGES = [
    ArchiveFile("x/a.dcm", "E1", "1.1"),
    ArchiveFile("x/b.dcm", "E1", "1.2"),
    ArchiveFile("y/a.dcm", "E2", "1.3"),
    ArchiveFile("y/c.dcm", "E2", "1.4"),
]


@pytest.mark.parametrize(
    ("header", "rows", "by"),
    [
        ("path", ["x/a.dcm", "x/b", "y\\c.dcm"], By.PATH),
        ("path", ["1.1", "1.2", "1.4"], By.UID),
        ("file", ["x/a.dcm", "x/b.dcm", "y/c.dcm"], By.PATH),
        ("SOPInstanceUID", ["1.1", "1.2", "1.4"], By.UID),
        ("SOPInstanceUID", ["x/a", "x/b", "y/c"], By.PATH),
    ],
)
def test_images_are_found_by_what_matches_most_rows(
    tmp_path: Path, header: str, rows: list[str], by: By
) -> None:
    text = f"{header},label\n" + "".join(f"{row},A\n" for row in rows)
    found = judged(tmp_path, text, IMAGES)
    assert found.key.by is by
    assert owners(found) == {"x/a.dcm": 1, "x/b.dcm": 2, "y/c.dcm": 3}


def test_the_column_that_matches_most_rows_is_used(tmp_path: Path) -> None:
    found = judged(tmp_path, "path,uid,SOPInstanceUID,label\nold/1,?,1.1,A\nx/b,?,1.2,B\n", IMAGES)
    assert (found.key.column, found.key.by) == ("SOPInstanceUID", By.UID)


def test_a_column_that_names_one_image_beats_one_that_names_several(tmp_path: Path) -> None:
    found = judged(tmp_path, "file,SOPInstanceUID,label\na,1.1,A\na,?,B\n", IMAGES)
    assert (found.key.column, found.key.by) == ("SOPInstanceUID", By.UID)


def test_an_ambiguous_file_name_names_the_files(tmp_path: Path) -> None:
    found = judged(tmp_path, "file,label\na.dcm,A\nb.dcm,B\nc,C\n", IMAGES)
    assert codes(found) == {1: RejectCode.AMBIGUOUS_NAME, 2: None, 3: None}
    assert "x/a.dcm, y/a.dcm" in reason(found, 1)
    assert owners(found) == {"x/a.dcm": 1, "y/a.dcm": 1, "x/b.dcm": 2, "y/c.dcm": 3}


def test_a_standing_row_speaks_for_a_file_before_a_fallen_one(tmp_path: Path) -> None:
    files = [ArchiveFile("a.dcm"), ArchiveFile("a.png")]
    found = judged(tmp_path, "path,label\na,A\na.png,B\n", files)
    assert codes(found) == {1: RejectCode.AMBIGUOUS_NAME, 2: None}
    assert owners(found) == {"a.dcm": 1, "a.png": 2}


def test_one_image_in_two_spellings_is_a_duplicate_or_a_contradiction(tmp_path: Path) -> None:
    text = "path,label\nx/a.dcm,A\n./x/a,A\nx\\b.dcm,B\nx/b,C\n"
    found = judged(tmp_path, text, IMAGES)
    assert codes(found) == {
        1: None,
        2: RejectCode.DUPLICATE_ROW,
        3: RejectCode.CONTRADICTING_ROWS,
        4: RejectCode.CONTRADICTING_ROWS,
    }


def test_a_missing_image_is_named_once(tmp_path: Path) -> None:
    found = judged(tmp_path, "path,label\nx/a,A\nx/gone,A\nx/gone,A\nx/A.dcm,A\n", IMAGES)
    assert codes(found) == {
        1: None,
        2: RejectCode.MISSING_FILE,
        3: RejectCode.DUPLICATE_ROW,
        4: RejectCode.MISSING_FILE,
    }
    assert "'x/a.dcm' is: identifiers are compared letter by letter" in reason(found, 4)


def test_what_the_table_says_of_patient_side_and_view(tmp_path: Path) -> None:
    text = (
        "file,label,Patient ID,side,view position,accession\nb,A,007,Left,cc,E7\nc,B,,direita,,\n"
    )
    first, second = judged(tmp_path, text, IMAGES).rows
    assert _context(first) == ("E7", "007", "L", "CC")
    assert _context(second) == (None, None, "R", None)


def _context(row: TableRow) -> tuple[str | None, ...]:
    return row.exam, row.patient, row.laterality, row.view


@pytest.mark.parametrize(("cell", "suspicious"), [("0", True), ("6", True), ("4A", False)])
def test_labels_that_hint_at_another_scale_are_a_warning(
    tmp_path: Path, cell: str, suspicious: bool
) -> None:
    (warning,) = judged(tmp_path, f"exam,birads\n001,A\n002,{cell}\n003,{cell}\n").warnings
    assert f"{cell!r} (2)" in warning
    assert ("nothing is shifted" in warning) == suspicious


def test_a_report_in_the_place_of_a_label_is_not_quoted_in_full(tmp_path: Path) -> None:
    rows = judged(tmp_path, f"exam,density\n001,A\n002,{'dense breasts ' * 100}\n")
    assert len(reason(rows, 2)) < 120
    assert len(rows.warnings[0]) < 120


def test_the_order_of_rows_and_files_changes_nothing(tmp_path: Path) -> None:
    cells = ["001,A", "002,B", "002,C", "003,5", "9,D", ",A", "001,A", "003,5"]
    expected = None
    for seed in range(10):
        shuffle = random.Random(seed)
        shuffled = shuffle.sample(cells, len(cells))
        files = shuffle.sample(EXAMS, len(EXAMS))
        rows = judged(tmp_path, "exam,density\n" + "\n".join(shuffled), files)
        outcome = (
            sorted((row.identifier, row.label or 0, str(row.code)) for row in rows.rows),
            sorted((path, row.identifier, str(row.code)) for path, row in rows.owner.items()),
        )
        expected = expected or outcome
        assert outcome == expected
