"""What a classifier is trained on: grays, codes and embeddings, in batches of a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler


class Grays(Protocol):
    """Images by position: (rows, columns) uint16, 0 to 65,535 for black to white."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> NDArray[np.uint16]: ...


@dataclass(frozen=True)
class Images:
    """Images of one kind and what is known of each.

    Attributes:
        grays: (N) images.
        codes: (N,) int64, position of each label among the classes.
        embeddings: (N, width) float32, or None.
    """

    grays: Grays
    codes: NDArray[np.int64]
    embeddings: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Batch:
    """Some images of a data set.

    Attributes:
        rows: (batch,) int64, their positions in `Images`.
        grays: (batch, rows, columns) uint16.
        codes: (batch,) int64.
        embeddings: (batch, width) float32, or None.
    """

    rows: Tensor
    grays: Tensor
    codes: Tensor
    embeddings: Tensor | None

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """The batch on a device."""
        moved = [
            None if tensor is None else tensor.to(device, non_blocking=non_blocking)
            for tensor in (self.rows, self.grays, self.codes, self.embeddings)
        ]
        return Batch(*moved)  # type: ignore[arg-type]

    def pin_memory(self) -> Batch:
        """The batch in memory from which it can be copied to the device in the background."""
        pinned = [
            None if tensor is None else tensor.pin_memory()
            for tensor in (self.rows, self.grays, self.codes, self.embeddings)
        ]
        return Batch(*pinned)  # type: ignore[arg-type]


class ImageBatches(Dataset[Batch]):
    """A data set whose items are whole batches: index it by lists of positions."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images.codes)

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        images = self._images
        embeddings = images.embeddings
        return Batch(
            rows=torch.tensor(rows),
            grays=torch.from_numpy(np.stack([images.grays[row] for row in rows])),
            codes=torch.from_numpy(images.codes[list(rows)]),
            embeddings=None if embeddings is None else torch.from_numpy(embeddings[list(rows)]),
        )


class BatchOrder(Sampler[list[int]]):
    """Which images are in which batch of an epoch; the share of one process of several.

    The order depends on seed and epoch alone. Batches are drawn for all processes together and
    dealt out to them, so that more processes see the same batches as one. A last batch of one
    shuffled image, of which batch normalisation can learn nothing, or of fewer than there are
    processes, is left out: other images in every epoch.

    Args:
        rows: Positions to draw from.
        batch_size: Over all processes.
        seed: Of the run.
        weights: (len(rows),) relative chances, to draw with replacement; None for a shuffle.
        shuffle: False for the given order, every epoch.
        rank: Of this process.
        world: How many there are.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        batch_size: int,
        seed: int = 0,
        weights: NDArray[np.float64] | None = None,
        *,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._rows, self._weights, self._shuffle = rows, weights, shuffle
        self._batch_size, self._seed = batch_size, seed
        self._rank, self._world = rank, world
        self._epoch = 0

    @property
    def sampler(self) -> BatchOrder:
        """Itself: the trainer looks here for whom to tell the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch, from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self._rows), self._batch_size)
        least = min(max(2, self._world), len(self._rows)) if self._shuffle else 1
        return whole + (rest >= least)

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        for number in range(len(self)):
            batch = order[number * self._batch_size : (number + 1) * self._batch_size]
            yield batch[self._rank :: self._world].tolist()

    def _order(self) -> NDArray[np.int64]:
        if not self._shuffle:
            return self._rows
        random = np.random.default_rng((self._seed, self._epoch))
        if self._weights is None:
            return random.permutation(self._rows)
        chances = self._weights / self._weights.sum()
        return random.choice(self._rows, len(self._rows), p=chances)


def class_weights(codes: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Images / (classes · images of the class), 0 for a class without any."""
    counts = np.bincount(codes, minlength=classes)
    return np.divide(len(codes), classes * counts, out=np.zeros(classes), where=counts > 0)
