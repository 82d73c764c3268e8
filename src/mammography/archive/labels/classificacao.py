"""``classificacao.csv``: one row per exam, with its AccessionNumber and its breast density."""

from __future__ import annotations

from mammography.archive.columns import (
    EXAM_NAMES,
    IMAGE_NAMES,
    LABEL_NAMES,
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


def fit(table: LabelTable, choice: Choice) -> int:
    """Fits where a column names exams and, unless the user chose it, none names images."""
    if choice.id_column:
        return int(plain(choice.id_column) in EXAM_NAMES)
    return int(bool(columns_called(table, EXAM_NAMES)) and not columns_called(table, IMAGE_NAMES))


def read(table: LabelTable, choice: Choice) -> Reading:
    """Identifiers name exams; other labels than densities only in a column that the user chose."""
    ids = columns_for(table, choice.id_column, EXAM_NAMES, "exam identifiers", "--id-column")
    labels = columns_for(table, choice.label_column, LABEL_NAMES, "labels", "--label-column")
    parse = densities_or_classes if choice.label_column else densities
    label, values = parse(table.cells(labels[0]))
    return Reading(
        keys=(Key(ids[0], By.EXAM),),
        label_column=labels[0],
        label=label,
        values=values,
        **context_columns(table),
    )


PLUGIN = Dialect(fit, read)
