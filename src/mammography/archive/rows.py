"""Which rows of a label table stand, and which files are theirs.

A row falls when it is not what the header promises, when its identifier or label is blank or
cannot be read, when it repeats or contradicts another one, or when it names nothing.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Literal
from unicodedata import normalize

from mammography.archive.dialects import DENSITY, Key, Reading
from mammography.archive.label_table import LabelTable
from mammography.archive.matching import ArchiveFile, By, NearMisses, match
from mammography.errors import UsageError
from mammography.vocabulary import CLASS_5, RejectCode

logger = logging.getLogger(__name__)

Class5 = Literal["refuse", "drop", "keep"]

#: How tables write the laterality, in English and Portuguese.
_SIDES = {"l": "L", "left": "L", "e": "L", "esquerda": "L"}
_SIDES |= {"r": "R", "right": "R", "d": "R", "direita": "R", "b": "B", "both": "B"}


@dataclass
class TableRow:
    """One row of the label table and what became of it.

    Attributes:
        number: As in `LabelTable.numbers`.
        position: Where it stands in the table's frame.
        identifier: What names the exam or image.
        label: Its class; None where it has none.
        exam: The exam, where the table names it; likewise the patient.
        laterality: "L", "R", "B" or None, as the table says it; likewise the view.
        code: Why the row fell; None while it stands.
        reason: The same as a sentence.
    """

    number: int
    position: int
    identifier: str
    label: int | str | None
    exam: str | None
    patient: str | None
    laterality: str | None
    view: str | None
    code: RejectCode | None = None
    reason: str = ""

    def fall(self, code: RejectCode, reason: str) -> None:
        """Take the row out, unless it is out already."""
        if self.code is None:
            self.code, self.reason = code, reason


@dataclass(frozen=True)
class Rows:
    """The rows of a table, held against the archive.

    Attributes:
        key: The column that identifies, and what it names.
        rows: All that could be split into fields.
        owner: The row that names a file, by the file's path.
        warnings: What the user should know beside the rejects.
    """

    key: Key
    rows: list[TableRow]
    owner: dict[str, TableRow]
    warnings: list[str] = field(default_factory=list)


def refuse_class_5(table: LabelTable, reading: Reading) -> None:
    """Stop where a density table holds class 5.

    Raises:
        UsageError: It does; the message names the rows and the two ways on.
    """
    rows = _class_5_rows(table, reading)
    if rows:
        raise UsageError(
            f"{table.path} has {_count(len(rows), 'row')} of class 5, which is not a density "
            f"class: {_listed(rows)}. Say what to do with them: --class5 drop leaves them out, "
            "--class5 keep keeps them as a class of their own."
        )


def _class_5_rows(table: LabelTable, reading: Reading) -> list[str]:
    ids = table.cells(reading.keys[0].column)
    return [
        f"row {number} ({identifier})"
        for number, identifier, label in zip(table.numbers, ids, reading.values, strict=True)
        if label == CLASS_5 and reading.label == DENSITY
    ]


def judge(
    table: LabelTable,
    reading: Reading,
    files: Sequence[ArchiveFile],
    images: Collection[str],
    root: Path,
    class5: Class5,
) -> Rows:
    """Hold the rows against each other and against the archive.

    Args:
        table: The table.
        reading: How its dialect understands it.
        files: Everything in the archive.
        images: The paths among `files` that are images, be they readable or not.
        root: The archive's folder, as the user gave it.
        class5: "drop" lets rows of class 5 fall, the other two let them stand.
    """
    key, matches = _best_key(table, reading, files, root)
    rows = _rows(table, reading, key)
    for row in rows:
        _check_alone(row, table, reading)
    near = NearMisses(key.by, files)
    groups = _same_thing(rows, key, matches)
    for group in groups:
        _settle(group, drop=CLASS_5 if class5 == "drop" and reading.label == DENSITY else None)
        for row in group:
            if row.code is None:
                _check_files(row, key, matches[row.identifier], images, near)
    warnings = _warnings(table, reading, class5)
    return Rows(key, rows, _owners(groups, matches), warnings)


def _best_key(
    table: LabelTable, reading: Reading, files: Sequence[ArchiveFile], root: Path
) -> tuple[Key, dict[str, list[str]]]:
    """The key under which most rows name something, and what they name."""
    best: tuple[tuple[int, int], Key, dict[str, list[str]]] | None = None
    for key in reading.keys:
        ids = [identifier for identifier in _identifiers(table, key) if identifier]
        matches = match(key.by, ids, files, root)
        counts = [len(matches[identifier]) for identifier in ids]
        named = sum(count > 0 for count in counts)
        clear = named if key.by is By.EXAM else counts.count(1)
        if best is None or (clear, named) > best[0]:
            best = (clear, named), key, matches
    assert best is not None, "a dialect gives at least one key"
    (clear, _), key, matches = best
    logger.info(
        "%s: %d of %d rows matched by %s, column %r (--id-column and --dialect override)",
        table.path, clear, len(table.numbers), key.by.value, key.column,
    )  # fmt: skip
    return key, matches


def _identifiers(table: LabelTable, key: Key) -> list[str]:
    return [normalize("NFC", cell) for cell in table.cells(key.column)]


def _rows(table: LabelTable, reading: Reading, key: Key) -> list[TableRow]:
    ids = _identifiers(table, key)
    exams = ids if key.by is By.EXAM else table.cells(reading.exam_column)
    patients = table.cells(reading.patient_column)
    sides = table.cells(reading.laterality_column)
    views = table.cells(reading.view_column)
    return [
        TableRow(
            number=number,
            position=position,
            identifier=ids[position],
            label=reading.values[position],
            exam=exams[position] or None,
            patient=patients[position] or None,
            laterality=_SIDES.get(sides[position].casefold()),
            view=views[position].upper() or None,
        )
        for position, number in enumerate(table.numbers)
    ]


def _check_alone(row: TableRow, table: LabelTable, reading: Reading) -> None:
    """What can be said of a row without looking at another."""
    if row.number in table.faults:
        row.fall(RejectCode.UNREADABLE_ROW, table.faults[row.number])
    elif not row.identifier:
        row.fall(RejectCode.BLANK_ID, "the row has no identifier")
    elif row.label is None:
        cell = (table.frame[reading.label_column][row.position] or "").strip()
        column = repr(reading.label_column)
        if cell:
            density = reading.label == DENSITY
            expected = "1-4 or A-D" if density else ", ".join(map(str, reading.label.classes))
            row.fall(
                RejectCode.UNREADABLE_LABEL,
                f"{_short(cell)} in column {column} is no {reading.label.name} ({expected})",
            )
        else:
            row.fall(RejectCode.BLANK_LABEL, f"the row has no label in column {column}")


def _same_thing(
    rows: Sequence[TableRow], key: Key, matches: Mapping[str, list[str]]
) -> list[list[TableRow]]:
    """Rows grouped by the exam or image they name, however they spell it."""
    groups: dict[tuple[str, ...], list[TableRow]] = defaultdict(list)
    for row in rows:
        if row.identifier:
            paths = matches[row.identifier]
            one_image = key.by is not By.EXAM and len(paths) == 1
            groups[("path", *paths) if one_image else ("identifier", row.identifier)].append(row)
    return list(groups.values())


def _settle(group: Sequence[TableRow], drop: int | None) -> None:
    """Of several rows that name the same thing one stands, or none where they disagree."""
    standing = [row for row in group if row.code is None]
    if len({row.label for row in standing}) > 1:
        for row in standing:
            others = [f"row {other.number}" for other in standing if other is not row]
            row.fall(
                RejectCode.CONTRADICTING_ROWS,
                f"labelled {row.label} here and otherwise in {_listed(others)}",
            )
    for row in standing[1:]:
        row.fall(RejectCode.DUPLICATE_ROW, f"the same as row {standing[0].number}")
    if standing and standing[0].label == drop:
        standing[0].fall(RejectCode.CLASS_5, "class 5 is not a density class")


def _check_files(
    row: TableRow, key: Key, paths: Sequence[str], images: Collection[str], near: NearMisses
) -> None:
    name = repr(row.identifier)
    if key.by is By.EXAM:
        if not paths:
            reason = f"{name} is no folder and no AccessionNumber in the archive"
            row.fall(RejectCode.MISSING_EXAM, reason + near.hint(row.identifier))
        elif not any(path in images for path in paths):
            row.fall(RejectCode.MISSING_EXAM, f"there is no image among the files of {name}")
    elif not paths:
        reason = f"{name} is no {key.by.value} in the archive"
        row.fall(RejectCode.MISSING_FILE, reason + near.hint(row.identifier))
    elif len(paths) > 1:
        reason = f"{name} is the {key.by.value} of {len(paths)} files: {_listed(paths)}"
        row.fall(RejectCode.AMBIGUOUS_NAME, reason)


def _owners(
    groups: Sequence[Sequence[TableRow]], matches: Mapping[str, list[str]]
) -> dict[str, TableRow]:
    """The row that speaks for each file: one that stands before one that fell."""
    speakers = [next((row for row in group if row.code is None), group[0]) for group in groups]
    owner: dict[str, TableRow] = {}
    for row in sorted(speakers, key=lambda row: row.code is not None):
        for path in matches[row.identifier]:
            owner.setdefault(path, row)
    return owner


def _warnings(table: LabelTable, reading: Reading, class5: Class5) -> list[str]:
    warnings = []
    rows = _class_5_rows(table, reading)
    if rows and class5 == "drop":
        warnings.append(f"{_count(len(rows), 'row')} of class 5 left out: {_listed(rows)}")
    cells = table.cells(reading.label_column)
    unread = Counter(
        cell for cell, label in zip(cells, reading.values, strict=True) if cell and label is None
    )
    if unread:
        examples = _listed([f"{_short(cell)} ({count})" for cell, count in unread.most_common()])
        warnings.append(
            f"column {reading.label_column!r} holds what is no {reading.label.name}: {examples}"
            + "; if it counts from 0 or holds BI-RADS assessments (0-6), the other rows are wrong "
            "too: nothing is shifted" * (not unread.keys().isdisjoint({"0", "0.0", "6"}))
        )
    return warnings


def _short(cell: str) -> str:
    return repr(shorten(cell, 40, placeholder="…"))


def _listed(items: Sequence[str], at_most: int = 10) -> str:
    more = f" and {len(items) - at_most} more" if len(items) > at_most else ""
    return ", ".join(items[:at_most]) + more


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)
