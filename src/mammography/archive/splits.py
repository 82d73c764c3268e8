"""Training and validation images that share no patient, and the refusal of those that do.

Images of one patient or one exam stay together, also through each other: two patients whose
images lie in one exam are one group. Where no patient is known the exam stands in.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammography.archive.groups import (
    exams_of_several_patients,
    groups_of,
    warn_of_unknown_patients,
)
from mammography.archive.split_table import TRAIN, VALIDATION, listed, read_sides
from mammography.archive.stratify import allot, complete, drawn_order
from mammography.errors import SplitError
from mammography.runs import pseudonym

__all__ = [
    "Split",
    "folds",
    "groups_of",
    "hold_out",
    "leave_one_group_out",
    "read_split",
    "refuse_leaks",
    "split_frame",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Two sides that share no group of images.

    Attributes:
        train: The `image_id` of every training image, in the manifest's order.
        validation: Likewise.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]


def hold_out(frame: pl.DataFrame, label_column: str, fraction: float, seed: int) -> Split:
    """Hold out a share of the images for validation, of every class alike, group by group.

    The same images come out whatever the order of the rows. Larger groups are placed first, so
    that a seed changes places only among groups of equal size. Every class trains, and one of at
    least two groups also validates where one can be spared, if need be more than its share.

    Args:
        frame: A manifest's frame.
        label_column: The column of classes.
        fraction: The validation images' share, between 0 and 1.
        seed: Another seed is another split.

    Raises:
        SplitError: The groups are too few, or an image has no class.
    """
    if not 0 < fraction < 1:
        raise SplitError(f"The validation fraction is {fraction}; it must lie between 0 and 1.")
    groups = _Groups(frame, label_column)
    order = drawn_order(groups.names, groups.images.sum(axis=1).tolist(), seed)
    part = allot(groups.images, order, (1 - fraction, fraction))
    part = complete(groups.images, order, part)
    if not 0 < part.sum() < len(part):
        raise SplitError(
            f"Nothing can be held out of {_few(frame, len(groups.names))}: a class needs two "
            "groups of images before one of them can validate."
        )
    split = groups.split(part == 1)
    logger.info(
        "split with seed %d: %d images of %d groups train, %d of %d validate", seed,
        len(split.train), (part == 0).sum(), len(split.validation), (part == 1).sum(),
    )  # fmt: skip
    groups.warn_of_missing_classes("the split", part == 1)
    return split


def folds(frame: pl.DataFrame, label_column: str, k: int, seed: int) -> list[Split]:
    """Make k splits in which every image validates once, stratified and grouped as `hold_out` is.

    Args:
        frame: A manifest's frame.
        label_column: The column of classes.
        k: How many, at least 2.
        seed: Another seed is another draw.

    Raises:
        SplitError: There are fewer groups than folds, or an image has no class.
    """
    groups = _Groups(frame, label_column)
    if not 2 <= k <= len(groups.names):
        raise SplitError(
            f"{k} folds cannot be made of {_few(frame, len(groups.names))}: there can be from "
            "2 folds to as many as there are groups of images."
        )
    order = drawn_order(groups.names, groups.images.sum(axis=1).tolist(), seed)
    part = allot(groups.images, order, [1 / k] * k)
    for fold in range(k):
        groups.warn_of_missing_classes(f"fold {fold + 1}", part == fold)
    return [groups.split(part == fold) for fold in range(k)]


def leave_one_group_out(frame: pl.DataFrame) -> list[Split]:
    """Make one split per group, which validates alone, in the order of their first image ids.

    Raises:
        SplitError: There are fewer than two groups.
    """
    groups = _Groups(frame, None)
    if len(groups.names) < 2:
        raise SplitError(f"No group can be left out of {_few(frame, len(groups.names))}.")
    one = np.arange(len(groups.names))
    return [groups.split(one == group) for group in np.argsort(groups.names)]


class _Groups:
    """The groups of a manifest: what each is called, and its images by class.

    Attributes:
        names: The first in alphabetical order of each group's image ids.
        images: (groups, classes) counts.
    """

    def __init__(self, frame: pl.DataFrame, label_column: str | None) -> None:
        self._ids = frame["image_id"].to_list()
        self._group = np.array(groups_of(frame), dtype=np.int64)
        first: dict[int, str] = {}
        for group, image_id in zip(self._group.tolist(), self._ids, strict=True):
            first[group] = min(image_id, first.get(group, image_id))
        self.names = [first[group] for group in range(len(first))]
        labels = frame[label_column].to_list() if label_column else [0] * frame.height
        if None in labels:
            raise SplitError(f"{labels.count(None)} images have no {label_column}; leave them out.")
        self._classes = sorted(set(labels))
        self.images = np.zeros((len(self.names), len(self._classes)), dtype=np.int64)
        codes = [self._classes.index(label) for label in labels]
        np.add.at(self.images, (self._group, np.array(codes, dtype=np.int64)), 1)
        warn_of_unknown_patients(frame)

    def split(self, validates: NDArray[np.bool_]) -> Split:
        """The split in which these groups validate, in the order of the rows."""
        sides = validates[self._group].tolist()
        pairs = list(zip(self._ids, sides, strict=True))
        return Split(
            tuple(image_id for image_id, side in pairs if not side),
            tuple(image_id for image_id, side in pairs if side),
        )

    def warn_of_missing_classes(self, where: str, validates: NDArray[np.bool_]) -> None:
        for side, groups, so in (
            ("training", ~validates, "it cannot be learned"),
            ("validation", validates, "nothing is measured of it"),
        ):
            for label in np.flatnonzero(self.images[groups].sum(axis=0) == 0):
                logger.warning(
                    "%s: no %s image of class %s, which %d groups of images have; %s",
                    where, side, self._classes[label], (self.images[:, label] > 0).sum(), so,
                )  # fmt: skip


def _few(frame: pl.DataFrame, groups: int) -> str:
    """Images and groups in words, with the exam that ties most of them together."""
    mixed = exams_of_several_patients(frame)
    why = "".join(f" (exam {exam!r} joins {n} patients)" for exam, n in [*mixed.items()][:1])
    return f"{frame.height} images in {groups} groups of one patient or exam{why}"


def read_split(path: Path, frame: pl.DataFrame, *, complete: bool = True) -> Split:
    """Read a split that the user brings, or that a run wrote.

    The table has one column that names images (`image_id`), else exams, else patients, and a
    column `split` that says `train` or `validation`; delimiters, encodings and spellings of the
    usual kinds are understood. Patients may be named as in the DICOM headers or as in the manifest.

    Args:
        path: The CSV file.
        frame: A manifest's frame.
        complete: Whether each of its images must be on one side; else it may be on neither.

    Raises:
        LabelTableError: The file is not a table.
        SplitError: A row or a name cannot be understood, an image is on no side or on both, or a
            group is on both.
    """
    sides = read_sides(path)
    key, known = sides.key, set(frame[sides.key].drop_nulls())
    own = {name: _own_name(name, key, known) for name in sides.of}
    if unknown := [name for name in sides.of if own[name] not in known]:
        raise SplitError(f"{path} names {key}s that are not in the manifest: {listed(unknown)}.")
    side_of = {own[name]: side for name, side in sides.of.items()}
    images = list(zip(frame["image_id"], frame[key], strict=True))
    missing = [image_id for image_id, name in images if name not in side_of]
    if missing and complete:
        raise SplitError(f"{path} puts these images on neither side: {listed(missing)}.")
    split = Split(
        tuple(image_id for image_id, name in images if side_of.get(name) == TRAIN),
        tuple(image_id for image_id, name in images if side_of.get(name) == VALIDATION),
    )
    if not (split.train and split.validation):
        raise SplitError(f"{path} puts all images on one side.")
    frame = frame.filter(~pl.col("image_id").is_in(missing))
    warn_of_unknown_patients(frame)
    refuse_leaks(split, frame)
    return split


def _own_name(name: str, key: str, known: set[str]) -> str:
    """What the manifest calls it: patients of DICOM headers go by their hash."""
    return pseudonym(name) if key == "patient" and name not in known else name


def refuse_leaks(split: Split, frame: pl.DataFrame) -> None:
    """Refuse a split in which some group of images is on both sides.

    Args:
        split: Names every image of the frame once.
        frame: A manifest's frame.

    Raises:
        SplitError: A group is on both sides, or an image on both or neither; the message names
            the first ones.
    """
    sides = split_frame(split, frame).with_columns(
        group=pl.Series(groups_of(frame), dtype=pl.Int64)
    )
    torn = sides.group_by("group", maintain_order=True).agg(
        pl.col("patient").drop_nulls().unique(maintain_order=True),
        pl.col("exam").drop_nulls().unique(maintain_order=True),
        *(
            pl.col("image_id").filter(pl.col("split") == side).alias(side)
            for side in (TRAIN, VALIDATION)
        ),
    )
    torn = torn.filter(pl.col("train").list.len() > 0, pl.col("validation").list.len() > 0)
    if torn.height:
        leaks = [_leak(row) for row in torn.head(3).to_dicts()]
        more = f"; and {torn.height - 3} more" if torn.height > 3 else ""
        raise SplitError(
            f"The split leaks: {torn.height} groups of images of one patient or exam lie on both "
            f"sides. {'; '.join(leaks)}{more}. Put each of them on one side."
        )


def _leak(group: dict[str, Sequence[str]]) -> str:
    whose = [f"{what} {listed(group[what])}" for what in ("patient", "exam") if group[what]]
    return (
        f"{', '.join(whose)}: train {listed(group['train'])}, "
        f"validation {listed(group['validation'])}"
    )


def split_frame(split: Split, frame: pl.DataFrame) -> pl.DataFrame:
    """A split as the table that a run writes and `read_split` reads.

    Args:
        split: Names every image of the frame once.
        frame: A manifest's frame.

    Returns:
        `image_id`, `exam`, `patient` and `split` ("train" or "validation"), in the frame's order.

    Raises:
        SplitError: An image is on both sides, on neither, or not in the frame.
    """
    side_of = dict.fromkeys(split.train, TRAIN) | dict.fromkeys(split.validation, VALIDATION)
    named = Counter((*split.train, *split.validation))
    if twice := [image_id for image_id, count in named.items() if count > 1]:
        raise SplitError(f"The split names images more than once: {listed(twice)}.")
    ids = set(frame["image_id"])
    if side_of.keys() != ids:
        raise SplitError(
            "Split and manifest are of different images: only the split has "
            f"{listed(sorted(side_of.keys() - ids))}; only the manifest has "
            f"{listed(sorted(ids - side_of.keys()))}."
        )
    side = pl.Series("split", [side_of[image_id] for image_id in frame["image_id"]], pl.String)
    return frame.select("image_id", "exam", "patient").with_columns(side)
