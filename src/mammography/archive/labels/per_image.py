"""One row per image, named by its path, its file name or its SOPInstanceUID."""

from __future__ import annotations

from mammography.archive.columns import (
    DENSITY_NAMES,
    EXAM_NAMES,
    FILE_NAMES,
    IMAGE_NAMES,
    LABEL_NAMES,
    PATH_NAMES,
    UID_NAMES,
    columns_called,
    columns_for,
    context_columns,
)
from mammography.archive.dialects import (
    Choice,
    Dialect,
    Key,
    Reading,
    densities,
    densities_or_classes,
)
from mammography.archive.label_table import LabelTable, plain
from mammography.archive.matching import By

#: What the identifiers of a column may name, the likeliest first.
_LIKELY = (
    (EXAM_NAMES, (By.EXAM,)),
    (PATH_NAMES, (By.PATH, By.NAME, By.UID)),
    (FILE_NAMES, (By.NAME, By.PATH, By.UID)),
    (UID_NAMES, (By.UID, By.NAME, By.PATH)),
)


def fit(table: LabelTable, choice: Choice) -> int:
    """Fits where a column names images, or the user chose one whose name says nothing."""
    if choice.id_column:
        return int(plain(choice.id_column) not in EXAM_NAMES)
    return int(bool(columns_called(table, IMAGE_NAMES)))


def read(table: LabelTable, choice: Choice) -> Reading:
    """Labels may be other classes than densities, unless the column is one of density by name."""
    ids = columns_for(table, choice.id_column, IMAGE_NAMES, "image identifiers", "--id-column")
    labels = columns_for(table, choice.label_column, LABEL_NAMES, "labels", "--label-column")
    density = plain(labels[0]) in DENSITY_NAMES and not choice.label_column
    label, values = (densities if density else densities_or_classes)(table.cells(labels[0]))
    return Reading(
        keys=tuple(Key(column, by) for column in ids for by in _kinds(column)),
        label_column=labels[0],
        label=label,
        values=values,
        **context_columns(table),
    )


def _kinds(column: str) -> tuple[By, ...]:
    for names, kinds in _LIKELY:
        if plain(column) in names:
            return kinds
    return (By.PATH, By.NAME, By.UID, By.EXAM)


PLUGIN = Dialect(fit, read)
