"""Which images must stay together: those of one patient or one exam, also through each other."""

from __future__ import annotations

import logging

import polars as pl

logger = logging.getLogger(__name__)


def groups_of(frame: pl.DataFrame) -> list[int]:
    """Number the groups of images that must stay together.

    Two images are in one group where they share a patient or an exam, directly or through others.
    An image without a patient goes by its exam; without either it is a group of its own.

    Args:
        frame: A manifest's frame, with the columns `patient` and `exam`.

    Returns:
        The group of each row: 0, 1, 2… in the order in which they occur.
    """
    parent = list(range(frame.height))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for column in ("patient", "exam"):
        first: dict[str, int] = {}
        for row, name in enumerate(frame[column]):
            if name is not None:
                parent[root(row)] = root(first.setdefault(name, row))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(row), len(numbers)) for row in range(frame.height)]


def warn_of_unknown_patients(frame: pl.DataFrame) -> None:
    """Log how many images are grouped by exam or stand alone, and exams of several patients."""
    nameless = frame.filter(pl.col("patient").is_null())
    alone = nameless["exam"].null_count()
    if by_exam := nameless.height - alone:
        logger.warning("%d images have no patient: they are grouped by exam", by_exam)
    if alone:
        logger.warning("%d images have neither patient nor exam: each is split on its own", alone)
    if mixed := exams_of_several_patients(frame):
        exam, patients = next(iter(mixed.items()))
        logger.warning(
            "%d exams hold images of more than one patient, which stay together; the largest is "
            "%r with %d patients", len(mixed), exam, patients,
        )  # fmt: skip


def exams_of_several_patients(frame: pl.DataFrame) -> dict[str, int]:
    """Exams to their number of patients where that is more than one, the largest first."""
    known = frame.drop_nulls(["exam", "patient"])
    patients = known.group_by("exam").agg(pl.col("patient").n_unique())
    mixed = patients.filter(pl.col("patient") > 1)
    return dict(mixed.sort(["patient", "exam"], descending=[True, False]).iter_rows())
