"""The engine: images through workers and network into parts of an embedding set.

Workers decode and preprocess; threads run the network on whole batches; both are busy at once and
neither waits for the other beyond a bounded number of images, so memory does not grow with the
archive. A batch never crosses a part and always has the same shape (the last one of a part is
filled with zeros), so a feature's bytes depend neither on its neighbours nor on where a run was
interrupted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mammography.archive.workers import over_items
from mammography.embeddings.store import Part, PartialSet
from mammography.encoders.backends import Backend
from mammography.errors import ImageRejected
from mammography.preprocess.recipe import Recipe, prepare
from mammography.vocabulary import RejectCode

T = TypeVar("T")
R = TypeVar("R")

#: Called after each batch with how many more images have been dealt with, and rejected.
Progress = Callable[[int, int], None]

#: What a worker does with a file: `mammography.preprocess.recipe.prepare`, or its like.
Prepare = Callable[[Recipe, int, Path], NDArray[np.float32]]


@dataclass
class _Batch:
    """Images of one part on their way through the network."""

    part: int
    last: bool = False
    rows: list[int] = field(default_factory=list)
    grays: list[NDArray[np.float32]] = field(default_factory=list)
    rejected: dict[int, ImageRejected] = field(default_factory=dict)


def extract(
    root: Path,
    paths: list[str],
    target: PartialSet,
    recipe: Recipe,
    backend: Backend,
    *,
    workers: int,
    max_pixels: int,
    progress: Progress,
    prepare: Prepare = prepare,
) -> None:
    """Compute every part of an embedding set that is not there yet.

    Args:
        root: The archive's folder.
        paths: Relative path of every manifest row.
        target: Where the parts go.
        recipe: File to gray.
        backend: Batch to features.
        workers: Decoding processes.
        max_pixels: Larger images are rejected before memory is taken.
        progress: Told after every batch.
        prepare: How a file becomes gray with that recipe.
    """
    blocks = target.blocks()
    todo = [(number, row) for number in target.missing() for row in blocks[number]]
    tasks = [root / paths[row] for _, row in todo]
    outcomes = over_items(partial(prepare, recipe, max_pixels), tasks, workers)
    batches = _batches(todo, (outcome for _, outcome in outcomes), backend.batch_size)

    def features_of(batch: _Batch) -> NDArray[np.float32] | None:
        if not batch.grays:
            return None
        grays = np.zeros((backend.batch_size, *recipe.size), np.float32)
        for position, gray in enumerate(batch.grays):
            grays[position] = gray
        batch.grays.clear()
        features = backend.infer(recipe.normalise(grays))[: len(batch.rows)]
        return _without_overflows(batch, features)

    done: list[NDArray[np.float32]] = []
    kept: list[int] = []
    rejected: dict[int, ImageRejected] = {}
    for batch, features in _concurrently(features_of, batches, backend.streams):
        if features is not None:
            done.append(features)
        kept += batch.rows
        rejected |= batch.rejected
        if batch.last:
            whole = np.concatenate(done) if done else np.zeros((0, 0), np.float32)
            target.write(batch.part, Part(whole, np.array(kept, np.int64), rejected))
            done, kept, rejected = [], [], {}
        progress(len(batch.rows) + len(batch.rejected), len(batch.rejected))


def _without_overflows(batch: _Batch, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features that are finite; the other rows of the batch become rejects."""
    finite = np.flatnonzero(np.isfinite(features).all(axis=1))
    verdict = ImageRejected(RejectCode.NOT_FINITE, "the encoder gave NaN or infinity")
    sound = [batch.rows[position] for position in finite]
    batch.rejected |= dict.fromkeys(set(batch.rows).difference(sound), verdict)
    batch.rows = sound
    return features[finite]


def _batches(
    todo: list[tuple[int, int]],
    outcomes: Iterable[NDArray[np.float32] | ImageRejected],
    batch_size: int,
) -> Iterator[_Batch]:
    """Group outcomes into batches that never cross a part; each part ends with a `last` batch."""
    batch: _Batch | None = None
    for (part, row), outcome in zip(todo, outcomes, strict=True):
        if batch is None:
            batch = _Batch(part)
        elif batch.part != part:
            batch.last = True
            yield batch
            batch = _Batch(part)
        elif len(batch.rows) == batch_size:
            yield batch
            batch = _Batch(part)
        if isinstance(outcome, ImageRejected):
            batch.rejected[row] = outcome
        else:
            batch.rows.append(row)
            batch.grays.append(outcome)
    if batch is not None:
        batch.last = True
        yield batch


def _concurrently(
    work: Callable[[T], R], items: Iterable[T], threads: int
) -> Iterator[tuple[T, R]]:
    """Apply a function in threads, in order, with a bounded number of items under way."""
    under_way: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(threads, "mammography-network") as pool:
        for item in items:
            under_way.append((item, pool.submit(work, item)))
            if len(under_way) > threads:
                first, future = under_way.popleft()
                yield first, future.result()
        while under_way:
            first, future = under_way.popleft()
            yield first, future.result()
