"""Reading a table of what trains and what validates, in the spellings that occur."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mammography.archive.columns import EXAM_NAMES, PATIENT_NAMES, columns_called
from mammography.archive.label_table import LabelTable, read_label_table
from mammography.errors import SplitError

TRAIN, VALIDATION = "train", "validation"

_SPLIT_NAMES = ("split", "set", "subset", "part", "partition")
#: The manifest's columns that a table may name images by, best first, and what tables call them.
_KEY_NAMES = {
    "image_id": ("imageid", "sampleid", "image"),
    "exam": EXAM_NAMES,
    "patient": PATIENT_NAMES,
}
#: A table may call its second side a test set, but may not have both.
_SIDES = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
    "test": VALIDATION,
    "testing": VALIDATION,
}
_TEST = {"test", "testing"}


@dataclass(frozen=True)
class Sides:
    """What a split table says.

    Attributes:
        key: The manifest's column whose values the table names: image_id, exam or patient.
        of: `TRAIN` or `VALIDATION` by name.
    """

    key: str
    of: dict[str, str]


def read_sides(path: Path) -> Sides:
    """Read a table that names images, else exams, else patients, and has a column of sides.

    An exam or patient may have several rows, which then agree; an image has one.

    Raises:
        LabelTableError: The file is not a table.
        SplitError: A column is missing, a row cannot be understood, or a name is on both sides.
    """
    table = read_label_table(path)
    if table.faults:
        number, fault = min(table.faults.items())
        raise SplitError(f"{path} has {len(table.faults)} broken rows; row {number}: {fault}.")
    key, names = _names(table)
    rows = list(zip(names, _sides(table), strict=True))
    of = dict(rows)
    if torn := [name for name, side in rows if of[name] != side]:
        raise SplitError(f"{path} puts the same {key} on both sides: {listed(torn)}.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if key == "image_id" and twice:
        raise SplitError(f"{path} names images more than once: {listed(twice)}.")
    return Sides(key, of)


def _names(table: LabelTable) -> tuple[str, list[str]]:
    """The key, and what the table names in each row."""
    for key, spellings in _KEY_NAMES.items():
        for column in columns_called(table, spellings)[:1]:
            names = table.cells(column)
            if "" in names:
                number = table.numbers[names.index("")]
                raise SplitError(f"{table.path}: row {number} has nothing under {column!r}.")
            return key, names
    raise SplitError(
        f"No column of {table.path} is called image_id, exam or patient; {table.listing()}."
    )


def _sides(table: LabelTable) -> list[str]:
    """The side of each row."""
    columns = columns_called(table, _SPLIT_NAMES)
    if not columns:
        raise SplitError(f"No column of {table.path} is called split; {table.listing()}.")
    words = [cell.casefold() for cell in table.cells(columns[0])]
    if strange := [word for word in words if word not in _SIDES]:
        raise SplitError(
            f"{table.path}: column {columns[0]!r} must say train or validation everywhere, and "
            f"also says {listed(strange)}."
        )
    second = {word for word in words if _SIDES[word] == VALIDATION}
    if second & _TEST and second - _TEST:
        raise SplitError(
            f"{table.path} has both validation and test images. Leave the test images out of the "
            "split and of the label table, so that no choice is made by them."
        )
    return [_SIDES[word] for word in words]


def listed(names: Iterable[str]) -> str:
    """The first few different names, and how many more there are."""
    different = list(dict.fromkeys(names))
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    return (", ".join(map(repr, different[:3])) or "none") + more
