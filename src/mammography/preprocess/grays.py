"""Grays that training reads epoch after epoch.

However they are kept, the values are the same: the recipe's gray as 16-bit integers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammography.errors import ImageRejected, MammographyError
from mammography.preprocess.cache_entries import EntryFolder
from mammography.preprocess.grays_levels import read_levels
from mammography.preprocess.recipe import Recipe


class Grays(ABC):
    """The grays of some images, by position; the same values in every cache mode."""

    @abstractmethod
    def __len__(self) -> int:
        """How many images."""

    @abstractmethod
    def __getitem__(self, index: int) -> NDArray[np.uint16]:
        """One gray.

        Returns:
            (rows, columns) of uint16, from 0, black, to `grays_levels.WHITE`; read-only.

        Raises:
            IndexError: There is no such image.
            MammographyError: Its file has changed since `prepare_images`, or its entry in the cache
                can be neither read nor made again.
        """


@dataclass(frozen=True, eq=False)
class MemoryGrays(Grays):
    """Grays in memory: (images, rows, columns)."""

    block: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.block)

    def __getitem__(self, index: int) -> NDArray[np.uint16]:
        return self.block[index]


@dataclass(frozen=True)
class DecodedGrays(Grays):
    """Grays that are made of their files each time.

    Attributes:
        files: Path and `identity` of every file.
        recipe: File to gray.
        max_pixels: Larger images are refused.
    """

    files: Sequence[tuple[Path, str]]
    recipe: Recipe
    max_pixels: int

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> NDArray[np.uint16]:
        path, key = self.files[index]
        try:
            now, gray = read_levels(self.recipe, self.max_pixels, path)
        except ImageRejected as verdict:
            raise MammographyError(
                f"{path} could be read when this run began, and cannot any more: {verdict}."
            ) from verdict
        if now != key:
            raise MammographyError(f"{path} has changed since this run began; run it again.")
        return gray


@dataclass(frozen=True)
class CachedGrays(DecodedGrays):
    """Grays on disk, opened when they are wanted; what is damaged or gone is made again."""

    folder: EntryFolder

    def __getitem__(self, index: int) -> NDArray[np.uint16]:
        _, key = self.files[index]
        gray = self.folder.read(key)
        if gray is None:
            gray = super().__getitem__(index)
            self.folder.write(key, gray)
        return gray
