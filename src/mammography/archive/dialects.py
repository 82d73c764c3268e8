"""What a label-table dialect is, and finding the one that a table is written in.

A dialect says which column names the exam or the image, which holds the label, and how that label
reads. Each is one small module of `mammography.archive.labels`, or a plugin of another
distribution in the entry-point group ``mammography.dialects``, and holds ``PLUGIN``, a `Dialect`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, Literal

import polars as pl

from mammography import plugins
from mammography.archive.label_table import LabelTable
from mammography.archive.matching import By
from mammography.errors import LabelTableError, MammographyError, PluginError, UsageError
from mammography.vocabulary import CLASS_5, Density, parse_density

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """A column of identifiers and what they name."""

    column: str
    by: By


@dataclass(frozen=True)
class Label:
    """What the manifest's label is.

    Attributes:
        name: The manifest's column: "density", "tissue" or "label".
        classes: All classes in their order: 1-4 for density, text otherwise.
        names: What people call them, in the same order: "A"-"D" for density.
    """

    name: str
    classes: tuple[int, ...] | tuple[str, ...]
    names: tuple[str, ...]

    @property
    def dtype(self) -> type[pl.DataType]:
        """Int8 for density, String otherwise."""
        return pl.Int8 if isinstance(self.classes[0], int) else pl.String


DENSITY = Label("density", tuple(int(grade) for grade in Density), tuple(Density.__members__))


@dataclass(frozen=True)
class Reading:
    """How a dialect understands one table.

    Attributes:
        keys: The columns that may name the exam or image, best first; the one that matches most
            rows is used.
        label_column: The user's column that holds the label.
        label: What it becomes.
        values: The label of each row of the table's frame: a class (or 5 in a density column), or
            None where the cell is blank or unreadable.
        patient_column: Where the table names the patient; likewise the others.
    """

    keys: tuple[Key, ...]
    label_column: str
    label: Label
    values: Sequence[int | str | None]
    patient_column: str | None = None
    exam_column: str | None = None
    laterality_column: str | None = None
    view_column: str | None = None


@dataclass(frozen=True)
class Choice:
    """The columns that the user named, spelled as in the table; None for those to be found."""

    id_column: str | None = None
    label_column: str | None = None


@dataclass(frozen=True)
class Dialect:
    """One way of writing a label table.

    Attributes:
        fit: 0 where the table cannot be read so, 1 where it has the columns that are looked for,
            2 where it is the very table that the dialect was made for. The best fit reads it.
        read: Reads a table; raises `LabelTableError` where a column is missing.
    """

    fit: Callable[[LabelTable, Choice], int]
    read: Callable[[LabelTable, Choice], Reading]


def read_dialect(
    table: LabelTable,
    *,
    dialect: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
) -> Reading:
    """Find the dialect of a table and read it.

    Args:
        table: The table.
        dialect: The dialect's name; found by itself where None.
        label_column: The user's column of labels; found by its name where None.
        id_column: The user's column of identifiers; likewise.

    Raises:
        LabelTableError: No column is known to hold identifiers or labels, or a named one is
            missing.
        UsageError: Two dialects fit equally well.
        PluginError: There is no such dialect, or one failed.
    """
    choice = Choice(
        id_column and table.column(id_column, "--id-column"),
        label_column and table.column(label_column, "--label-column"),
    )
    if dialect is None:
        dialect = _best_fit(table, choice)
        logger.info("%s is read as %r (--dialect overrides)", table.path, dialect)
    reading: Reading = _ask(dialect, "read", table, choice)
    _check(dialect, reading, len(table.numbers))
    return reading


def _check(dialect: str, reading: Reading, rows: int) -> None:
    """Hold a plugin to what `Reading` promises."""
    allowed = {None, *reading.label.classes} | ({CLASS_5} if reading.label == DENSITY else set())
    strange = sorted({repr(value) for value in reading.values if value not in allowed})
    if strange or len(reading.values) != rows:
        raise PluginError(
            f"The dialect {dialect!r} gave {len(reading.values)} labels for {rows} rows, and among "
            f"them {len(strange)} that are none of its classes: {', '.join(strange[:5])}."
        )


def _best_fit(table: LabelTable, choice: Choice) -> str:
    fits = {name: _ask(name, "fit", table, choice) for name in plugins.load("dialects")}
    best = [name for name, fit in fits.items() if fit == max(fits.values())]
    if fits[best[0]] == 0:
        raise LabelTableError(
            f"No column of {table.path} is known to name exams or images: say which one does with "
            f"--id-column; {table.listing()}."
        )
    if len(best) > 1:
        raise UsageError(
            f"{table.path} can be read as {' and as '.join(best)}: choose with --dialect."
        )
    return best[0]


def _ask(name: str, question: Literal["fit", "read"], table: LabelTable, choice: Choice) -> Any:
    """What a plugin answers; where its own code fails, an error that names it."""
    plugin = plugins.get("dialects", name)
    try:
        return getattr(plugin, question)(table, choice)
    except MammographyError:
        raise
    except Exception as error:
        raise PluginError(f"The dialect {name!r} failed on {table.path}: {error!r}.") from error


def densities(cells: Sequence[str]) -> tuple[Label, list[int | None]]:
    """Cells as BI-RADS densities; None for every other text."""
    return DENSITY, [parse_density(cell) for cell in cells]


def densities_or_classes(cells: Sequence[str]) -> tuple[Label, list[Any]]:
    """Cells as densities, or as classes of their own where not one of them is a density."""
    label, values = densities(cells)
    classes = tuple(sorted({cell for cell in cells if cell}))
    if any(values) or not classes:
        return label, values
    first = shorten(", ".join(classes), 200, placeholder=" …")
    logger.info("no label is a density; they are %d classes of their own: %s", len(classes), first)
    return Label("label", classes, classes), [cell or None for cell in cells]
