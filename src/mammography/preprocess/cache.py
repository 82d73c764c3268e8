"""Making an archive's grays ready for training: to be decoded each time, in memory, or on disk.

Every file is read once before the first epoch, so that what cannot be used is known before a split
is made; on disk, that is done for all later runs with the same settings.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from mammography.archive.workers import over_items
from mammography.errors import ImageRejected, UsageError
from mammography.preprocess.cache_entries import EntryFolder, folder_for
from mammography.preprocess.grays import CachedGrays, DecodedGrays, Grays, MemoryGrays
from mammography.preprocess.grays_levels import identity, read_levels
from mammography.preprocess.recipe import Recipe

log = logging.getLogger(__name__)

CacheMode = Literal["none", "memory", "disk"]

#: Called with how many more images have been dealt with, and rejected.
Progress = Callable[[int, int], None]

Verdicts = dict[str, ImageRejected]
R = TypeVar("R")


def default_cache_dir() -> Path:
    """``$MAMMOGRAPHY_CACHE``, or ``mammography`` in the user's cache folder."""
    if given := os.environ.get("MAMMOGRAPHY_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mammography"


def prepare_images(
    root: Path,
    paths: Sequence[str],
    recipe: Recipe,
    mode: CacheMode,
    cache_dir: Path | None,
    *,
    workers: int,
    max_pixels: int,
    progress: Progress,
) -> tuple[Grays, Verdicts]:
    """Read every image once and make its gray available for training.

    Args:
        root: The archive's folder.
        paths: Relative path of every image.
        recipe: File to gray.
        mode: "none" decodes again at every access, "memory" keeps the grays, "disk" keeps them in
            `cache_dir` for every later run with the same settings.
        cache_dir: None is `default_cache_dir`.
        workers: Decoding processes.
        max_pixels: Larger images are rejected before memory is taken.
        progress: Told after every image.

    Returns:
        The grays of the images that can be used, in the order of `paths`, and why the others
        cannot, by path. Rejected images are never cached.

    Raises:
        UsageError: The grays do not fit into this machine's memory.
        StoreError: The cache cannot be read or written, for example because the disk is full.
    """
    reader = _Reader(root, workers, progress)
    grays: Grays
    if mode == "memory":
        grays = _in_memory(reader, paths, recipe, max_pixels)
    elif mode == "disk":
        grays = _on_disk(reader, paths, recipe, max_pixels, cache_dir or default_cache_dir())
    else:
        grays = _decoded(reader, paths, recipe, max_pixels)
    return grays, {path: reader.verdicts[path] for path in paths if path in reader.verdicts}


@dataclass(frozen=True)
class _Reader:
    """Applies functions to an archive's files in worker processes, and keeps the verdicts."""

    root: Path
    workers: int
    progress: Progress
    verdicts: Verdicts = field(default_factory=dict)

    def each(self, work: Callable[[Path], R], paths: Sequence[str]) -> Iterator[tuple[str, R]]:
        """The files that can be used, in order, with what `work` made of them."""
        outcomes = over_items(work, [self.root / path for path in paths], self.workers)
        for path, (_, outcome) in zip(paths, outcomes, strict=True):
            if isinstance(outcome, ImageRejected):
                self.verdicts[path] = outcome
            else:
                yield path, outcome
            self.progress(1, int(path in self.verdicts))


def _decoded(
    reader: _Reader, paths: Sequence[str], recipe: Recipe, max_pixels: int
) -> DecodedGrays:
    work = partial(_checked, recipe, max_pixels)
    files = [(reader.root / path, key) for path, key in reader.each(work, paths)]
    return DecodedGrays(files, recipe, max_pixels)


def _in_memory(
    reader: _Reader, paths: Sequence[str], recipe: Recipe, max_pixels: int
) -> MemoryGrays:
    needed = len(paths) * recipe.size[0] * recipe.size[1] * 2
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise UsageError(
            f"{len(paths)} images of {recipe.size[0]} × {recipe.size[1]} take {needed / 1e9:.1f} "
            f"GB, and this machine has {there / 1e9:.1f} GB of memory; use --cache-mode disk."
        )
    block, accepted = np.empty((len(paths), *recipe.size), np.uint16), 0
    for _, gray in reader.each(partial(_gray, recipe, max_pixels), paths):
        block[accepted] = gray
        accepted += 1
    block.flags.writeable = False
    return MemoryGrays(block[:accepted])


def _on_disk(
    reader: _Reader, paths: Sequence[str], recipe: Recipe, max_pixels: int, cache_dir: Path
) -> CachedGrays:
    folder, record = folder_for(cache_dir, recipe, max_pixels)
    folder.open(record)
    known = {path: identity(reader.root / path) for path in paths}
    keys = {path: key for path, key in known.items() if key and folder.holds(key)}
    missing = [path for path in paths if path not in keys]
    there = len(paths) - len(missing)
    reader.progress(there, 0)
    keys |= reader.each(partial(_filled, folder, recipe, max_pixels), _turned(missing))
    new = len(missing) - len(reader.verdicts)
    log.info("cache %s: %d images were there, %d are new", folder.path, there, new)
    files = [(reader.root / path, keys[path]) for path in paths if path in keys]
    return CachedGrays(files, recipe, max_pixels, folder)


def _turned(paths: list[str]) -> list[str]:
    """The same list begun elsewhere in every process: those that fill a cache together share."""
    start = int(os.getpid() * 0.618034 % 1 * len(paths))
    return paths[start:] + paths[:start]


# What the workers do.


def _checked(recipe: Recipe, max_pixels: int, path: Path) -> str:
    return read_levels(recipe, max_pixels, path)[0]


def _gray(recipe: Recipe, max_pixels: int, path: Path) -> NDArray[np.uint16]:
    return read_levels(recipe, max_pixels, path)[1]


def _filled(folder: EntryFolder, recipe: Recipe, max_pixels: int, path: Path) -> str:
    """Make sure that a file's gray is in the cache; its key."""
    key = identity(path)
    if key is None or not folder.holds(key):
        key, gray = read_levels(recipe, max_pixels, path)
        folder.write(key, gray)
    return key
