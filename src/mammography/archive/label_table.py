"""Reading a label table as text: delimiter and encoding recognised, no value ever a number.

Identifiers such as ``00001234`` and labels such as ``3.0`` stay what the file says, because a
table read as numbers has already lost its zeros.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl

from mammography.errors import LabelTableError

logger = logging.getLogger(__name__)

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class LabelTable:
    """The user's table, every column as text.

    Attributes:
        path: The file.
        frame: The rows as given, blank ones left out; null only where a row is too short.
        numbers: The number of each row of `frame`: rows are counted from 1, the header not among
            them and blank rows among them, so that a spreadsheet shows row n in its line n + 1.
        faults: Rows that are not what the header promises: number to one sentence. Those that
            could be split into fields are in `frame` all the same.
    """

    path: Path
    frame: pl.DataFrame
    numbers: list[int]
    faults: dict[int, str]

    def cells(self, column: str | None) -> list[str]:
        """A column's values without surrounding space; "" where there is none."""
        if column is None:
            return [""] * len(self.numbers)
        return [(value or "").strip() for value in self.frame[column].to_list()]

    def rows_of(self, table_rows: pl.Series) -> pl.DataFrame:
        """The user's rows with these numbers, in this order, such as a manifest's `table_row`."""
        position = {number: index for index, number in enumerate(self.numbers)}
        return self.frame[[position[number] for number in table_rows]]

    def column(self, name: str, option: str) -> str:
        """The column that the user named, compared by `plain` where no name is the very same.

        Raises:
            LabelTableError: There is no such column, or more than one; the message lists all.
        """
        if name in self.frame.columns:
            return name
        found = [column for column in self.frame.columns if plain(column) == plain(name)]
        if len(found) == 1:
            return found[0]
        problem = f"has {len(found)} columns" if found else "has no column"
        raise LabelTableError(f"{self.path} {problem} {name!r} ({option}); {self.listing()}.")

    def listing(self) -> str:
        """The columns, as the end of an error message."""
        return "its columns are " + ", ".join(repr(name) for name in self.frame.columns)


def plain(name: str) -> str:
    """A column name without case, accents, spaces and punctuation: what names are compared by."""
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in decomposed if letter.isalnum())


def read_label_table(path: Path) -> LabelTable:
    """Read a CSV file whose delimiter, encoding and line endings may be any of the usual ones.

    Comma, semicolon, tab and bar; UTF-8 with or without BOM, UTF-16 with BOM, Windows-1252.

    Args:
        path: The file.

    Returns:
        The table; rows with too many or too few fields are among its faults.

    Raises:
        LabelTableError: There is no table in the file, or one that cannot be told apart.
    """
    text, encoding = _decode(path)
    if text.lower().startswith("sep="):  # the line that Excel writes for itself
        text = text.partition("\n")[2]
    delimiter = _delimiter(text)
    records = _records(path, text, delimiter)
    header = next((fields for _, fields, _ in records if not _blank(fields)), None)
    if header is None:
        raise LabelTableError(f"{path} is empty; it needs a header line and one row per label.")
    columns = _column_names(path, header)
    rows: list[list[str | None]] = []
    numbers: list[int] = []
    faults: dict[int, str] = {}
    for number, (line, fields, problem) in enumerate(records, start=1):
        if problem:
            faults[number] = f"line {line} cannot be split into fields: {problem}"
        elif not _blank(fields):
            while len(fields) > len(columns) and not fields[-1].strip():
                fields.pop()
            if len(fields) != len(columns):
                faults[number] = (
                    f"line {line} has {len(fields)} fields where the header has {len(columns)}"
                )
            missing = [None] * (len(columns) - len(fields))
            rows.append([*fields[: len(columns)], *missing])
            numbers.append(number)
    if not rows:
        raise LabelTableError(f"{path} has a header and no rows; it needs one row per label.")
    logger.info(
        "%s: %d rows, %d columns, delimiter %s, encoding %s",
        path, len(rows), len(columns), _DELIMITERS[delimiter], encoding,
    )  # fmt: skip
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    return LabelTable(path, frame, numbers, faults)


def _decode(path: Path) -> tuple[str, str]:
    """The text of a file, and the name of its encoding."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise LabelTableError(
            f"The label table {path} cannot be read: {error.strerror}."
        ) from error
    marked = [name for mark, name in _BYTE_ORDER_MARKS.items() if raw.startswith(mark)]
    for encoding in marked or ("utf-8", "cp1252", "latin-1"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text, encoding
    raise LabelTableError(
        f"{path} is not a text table. If it is a spreadsheet, save it as CSV (UTF-8)."
    )


def _delimiter(text: str) -> str:
    """The delimiter under which most of the first rows have as many fields as the header."""

    def agreement(delimiter: str) -> tuple[int, int]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            widths = [len(fields) for fields in islice(reader, 100) if not _blank(fields)]
        except csv.Error:
            return 0, 0
        width = widths[0] if widths else 0
        return (widths.count(width), width) if width > 1 else (0, 0)

    return max(_DELIMITERS, key=agreement)


def _blank(fields: list[str]) -> bool:
    return not any(field.strip() for field in fields)


def _records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str], str]]:
    """Each record's first line number and its fields, or no fields and what is wrong with them."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            if reader.line_num > line:
                raise LabelTableError(
                    f"{path}: a quotation mark opened in line {line} swallows the table up to line "
                    f"{reader.line_num}; close or remove it."
                ) from error
            yield line, [], str(error)


def _column_names(path: Path, header: list[str]) -> list[str]:
    """Stripped names; a nameless column is called by its position."""
    names = [name.strip() or f"column_{place}" for place, name in enumerate(header, start=1)]
    twice = [repr(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise LabelTableError(
            f"{path} has more than one column named {', '.join(twice)}; rename all but one."
        )
    return names
