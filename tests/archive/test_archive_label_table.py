"""Reading any CSV as text."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mammography.archive.label_table import LabelTable, plain, read_label_table
from mammography.errors import LabelTableError

ROWS = [["AccessionNumber", "Classificação"], ["00001234", "3"], ["0007", "A"], ["9", ""]]


def read(folder: Path, content: bytes) -> LabelTable:
    path = folder / "labels.csv"
    path.write_bytes(content)
    return read_label_table(path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_delimiter_encoding_and_line_ending_do_not_matter(
    tmp_path: Path, delimiter: str, encoding: str, ending: str
) -> None:
    text = ending.join(delimiter.join(row) for row in ROWS)
    table = read(tmp_path, text.encode(encoding))
    assert table.frame.columns == ROWS[0]
    assert table.frame.rows() == [tuple(row) for row in ROWS[1:]]
    assert table.frame.dtypes == [pl.String, pl.String]
    assert table.numbers == [1, 2, 3]
    assert not table.faults


def test_utf_16_big_endian_and_the_line_that_excel_writes_for_itself(tmp_path: Path) -> None:
    text = "\ufeffsep=;\r\nexam;density\r\n001;A, or so\r\n"
    table = read(tmp_path, text.encode("utf-16-be"))
    assert table.frame.rows(named=True) == [{"exam": "001", "density": "A, or so"}]


def test_quoted_fields_may_hold_delimiters_and_line_breaks(tmp_path: Path) -> None:
    table = read(tmp_path, b'exam,report,density\n1,"dense, ""very""\nindeed",D\n2,x,A\n')
    assert table.frame["report"].to_list() == ['dense, "very"\nindeed', "x"]
    assert table.numbers == [1, 2]


def test_a_space_after_the_delimiter_does_not_hide_the_quotation_marks(tmp_path: Path) -> None:
    table = read(tmp_path, b'exam, report\n1, "dense, very"\n')
    assert table.frame.rows(named=True) == [{"exam": "1", "report": "dense, very"}]


def test_values_stay_text_whatever_they_look_like(tmp_path: Path) -> None:
    cells = ["007", "3.0", "1e5", "NA", "null", "true", "2020-01-01"]
    table = read(tmp_path, ("a,b\n" + "\n".join(f"{cell},x" for cell in cells)).encode())
    assert table.frame["a"].to_list() == cells


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    table = read(tmp_path, b"\n\nexam;density;\n\n1;A;\n;;\n \n2;B;\n;;;;;\n")
    assert table.frame["exam"].to_list() == ["1", "2"]
    assert table.numbers == [2, 5]  # row n of a spreadsheet's line n + 1, below the header
    assert not table.faults


def test_ragged_rows_are_kept_and_named(tmp_path: Path) -> None:
    table = read(tmp_path, b"exam,density,note\n1,A,x\n2,B\n3,C,x,y\n4,D,x,,\n")
    assert table.frame["exam"].to_list() == ["1", "2", "3", "4"]
    assert table.frame["note"].to_list() == ["x", None, "x", "x"]
    assert table.faults == {
        2: "line 3 has 2 fields where the header has 3",
        3: "line 4 has 4 fields where the header has 3",
    }


def test_a_broken_quotation_costs_its_row_only(tmp_path: Path) -> None:
    table = read(tmp_path, b'exam,density\n1,A\n2,"B" or C\n3,"C"\n')
    assert table.frame["exam"].to_list() == ["1", "3"]
    assert table.numbers == [1, 3]
    assert list(table.faults) == [2]
    assert "line 3" in table.faults[2]


def test_a_quotation_that_is_never_closed_does_not_swallow_the_table(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"opened in line 3 .* up to line 5"):
        read(tmp_path, b'exam,density\n1,A\n2,"B\n3,C\n4,D\n')


def test_nameless_columns_are_called_by_their_place(tmp_path: Path) -> None:
    table = read(tmp_path, b",exam,density\n0,1,A\n1,2,B\n")  # what pandas writes by default
    assert table.frame.columns == ["column_1", "exam", "density"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n,,\n", "is empty"),
        (b"exam,density\n", "no rows"),
        (b"exam,density\n,\n\n", "no rows"),
        (b"exam,density,exam\n1,A,2\n", "more than one column named 'exam'"),
        (b"PK\x03\x04\x00\x00", "save it as CSV"),
        ("exam,density\n1,A\n".encode("utf-16-le"), "not a text table"),
        (b"\xff\xfea", "not a text table"),
    ],
)
def test_what_is_no_table_is_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(LabelTableError, match=message) as raised:
        read(tmp_path, content)
    assert "labels.csv" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_or_a_folder_is_one_clear_error(tmp_path: Path) -> None:
    for path in (tmp_path / "no.csv", tmp_path):
        with pytest.raises(LabelTableError, match="cannot be read"):
            read_label_table(path)


def test_names_are_compared_without_case_accents_and_punctuation() -> None:
    spellings = ["AccessionNumber", "accession_number", " Accession-Number ", "ACCESSION NUMBER"]
    assert {plain(name) for name in spellings} == {"accessionnumber"}
    assert plain("Classificação") == plain("CLASSIFICACAO") == "classificacao"
    assert plain("BI-RADS") == "birads"


def test_a_chosen_column_is_found_by_its_plain_name_or_listed(tmp_path: Path) -> None:
    table = read(tmp_path, b"Exam No,Density,density\n1,A,B\n")
    assert table.column("exam_no", "--id-column") == "Exam No"
    assert table.column("density", "--label-column") == "density"
    with pytest.raises(LabelTableError, match=r"no column 'x' \(--id-column\).*'Exam No', 'Dens"):
        table.column("x", "--id-column")
    with pytest.raises(LabelTableError, match="has 2 columns 'DENSITY'"):
        table.column("DENSITY", "--label-column")


def test_rows_of_follows_the_manifest(tmp_path: Path) -> None:
    table = read(tmp_path, b"exam,density\n1,A\n\n2,B\n3,C\n")
    rows = table.rows_of(pl.Series("table_row", [4, 1, 4, 3], dtype=pl.Int32))
    assert rows["exam"].to_list() == ["3", "1", "3", "2"]


cell = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=8
)


@given(
    st.lists(st.lists(cell, min_size=2, max_size=2), min_size=1, max_size=6),
    st.sampled_from([",", ";", "\t", "|"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_the_csv_module_writes_is_read_back(
    tmp_path: Path, rows: list[list[str]], delimiter: str
) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([["the exam", "the density"], *rows])
    expected = [tuple(row) for row in rows if any(field.strip() for field in row)]
    if not expected:
        with pytest.raises(LabelTableError):
            read(tmp_path, buffer.getvalue().encode())
        return
    table = read(tmp_path, buffer.getvalue().encode())
    assert table.frame.rows() == expected
    assert not table.faults


@given(st.one_of(st.binary(max_size=300), st.text(alphabet='ab1,;"\n\r\t| ', max_size=80)))
@example(b"\xef\xbb\xbf")
@example(b'"')
@example(b"a,b\n" + b'"' * 7)
@example(b"a,b\n1,2\n" + b'3,"' + b"x" * 200_000)
@settings(
    max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_wild_bytes_give_a_table_of_text_or_one_clear_error(
    tmp_path: Path, content: bytes | str
) -> None:
    try:
        table = read(tmp_path, content if isinstance(content, bytes) else content.encode())
    except LabelTableError:
        return
    assert table.frame.height == len(table.numbers) > 0
    assert set(table.frame.dtypes) == {pl.String}
    assert table.numbers == sorted(set(table.numbers))
