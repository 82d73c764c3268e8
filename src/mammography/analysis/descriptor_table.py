"""The descriptors of all images of an index, on disk so that they are computed once.

A folder holds one table for each set of files, recipe, set of descriptors and versions of the
libraries, named by the hash of all these: what was computed of other images is never taken up.
Images are described in blocks that are renamed into place when whole; a killed run goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammography.analysis.descriptors import Descriptors, describer
from mammography.archive.workers import over_items
from mammography.embeddings.store import Part, PartialSet
from mammography.errors import ImageRejected
from mammography.preprocess.recipe import Recipe
from mammography.runs import canonical_json, sha256_of_text, versions, written_whole
from mammography.tables import rejects_frame
from mammography.vocabulary import RejectCode

log = logging.getLogger(__name__)

#: Images of one block.
BLOCK = 128

#: Told how many images more have been dealt with, and rejected.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DescriptorTable:
    """What was described.

    Attributes:
        values: (N, D) float32, a row per image of the index that could be read.
        rows: (N,) positions in the index, ascending.
        rejected: Position in the index to the verdict on the image, for all others.
    """

    values: NDArray[np.float32]
    rows: NDArray[np.int64]
    rejected: dict[int, ImageRejected]

    def rejects(self, index: pl.DataFrame) -> pl.DataFrame:
        """The rejected images as a table of `mammography.tables.REJECT_COLUMNS`."""
        rows = index.select("path", "table_row", "exam").to_dicts()
        return rejects_frame(
            [
                {**rows[row], "code": str(RejectCode(verdict.code).value), "reason": verdict.reason}
                for row, verdict in self.rejected.items()
            ]
        )


def described(
    folder: Path,
    root: Path,
    index: pl.DataFrame,
    descriptors: Descriptors,
    recipe: Recipe,
    *,
    max_pixels: int,
    workers: int,
    progress: Progress,
) -> DescriptorTable:
    """Describe all images of an index, or read what an earlier run described of the very same.

    Also writes `descriptors.parquet` into the table's folder: `image_id`, then a column a
    descriptor.

    Args:
        folder: Where tables lie, each in a folder of its own.
        root: The archive's folder.
        index: `image_id`, `path` relative to the root, and `view`.
        descriptors: Of `mammography.analysis.descriptors.DESCRIPTORS`.
        recipe: The embeddings'.
        max_pixels: Larger images are refused.
        workers: How many processes.
        progress: Told after each image.
    """
    key = made_from(root, index, descriptors, recipe, max_pixels)
    table = folder / f"{descriptors.name}-{sha256_of_text(canonical_json(key))[:16]}"
    target = PartialSet(table, key, index.height, BLOCK)
    if done := index.height - target.rows_missing():
        log.info("%s descriptors of %d of %d images are in %s", descriptors.name, done,
                 index.height, table)  # fmt: skip
    work = describer(descriptors, recipe, max_pixels, root)
    images = list(zip(index["path"], index["view"], strict=True))
    missing = {number: target.blocks()[number] for number in target.missing()}
    todo = (images[row] for row in chain.from_iterable(missing.values()))
    progress(done, 0)
    with closing(over_items(work, todo, workers)) as results:  # type: ignore[type-var]
        outcomes = (outcome for _, outcome in results)
        for number, block in missing.items():
            target.write(number, _block(block, outcomes, len(descriptors.names), progress))
    parts = list(target.parts())
    whole = DescriptorTable(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.kept for part in parts]),
        target.rejected(),
    )
    with written_whole(table / "descriptors.parquet") as path:
        ids = index["image_id"].gather(whole.rows)
        columns = pl.from_numpy(whole.values, schema=list(descriptors.names), orient="row")
        columns.insert_column(0, ids).write_parquet(path)
    return whole


def _block(
    block: range,
    outcomes: Iterator[NDArray[np.float32] | ImageRejected],
    width: int,
    progress: Progress,
) -> Part:
    """The next outcomes as one part."""
    values = np.empty((len(block), width), np.float32)
    kept: list[int] = []
    rejected: dict[int, ImageRejected] = {}
    for row in block:
        outcome = next(outcomes)
        if isinstance(outcome, ImageRejected):
            rejected[row] = outcome
        else:
            values[len(kept)] = outcome
            kept.append(row)
        progress(1, int(isinstance(outcome, ImageRejected)))
    return Part(values[: len(kept)], np.array(kept, np.int64), rejected)


def made_from(
    root: Path, index: pl.DataFrame, descriptors: Descriptors, recipe: Recipe, max_pixels: int
) -> dict[str, Any]:
    """Everything that decides the numbers and their rows, as JSON values; see `described`."""
    images = [
        [path, view, *_identity(root / path)]
        for path, view in zip(index["path"], index["view"], strict=True)
    ]
    installed = {name: version for name, version in versions().items() if name != "platform"}
    return {
        "root": root.resolve().as_posix(),
        "images": sha256_of_text(canonical_json(images)),
        "descriptors": [descriptors.name, descriptors.version],
        "recipe": descriptors.recipe(recipe).record(),
        "max_pixels": max_pixels,
        "libraries": installed,
    }


def _identity(path: Path) -> tuple[int | None, int | None]:
    """Size and time of change, which tell a file from another that took its place."""
    try:
        found = path.stat()
    except OSError:  # its worker will say so
        return None, None
    return found.st_size, found.st_mtime_ns
