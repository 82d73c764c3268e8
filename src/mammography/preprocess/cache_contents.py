"""What a cache folder holds, and removing it. Only files of the cache's own names are touched."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammography.errors import StoreError, UsageError
from mammography.preprocess.cache_entries import RECORD, remove_stale

_DAY = 86400.0


@dataclass(frozen=True)
class CacheFolder:
    """Images of one recipe in a cache.

    Attributes:
        hash: The folder's name, 16 hexadecimal digits.
        recipe: The recipe's name; "unknown" where the folder does not say it.
        size: (rows, columns) of every gray; None where the folder does not say it.
        images: How many images.
        bytes: How much room they take.
        last_used: When the one used last was used, in seconds since 1970; None without images.
    """

    hash: str
    recipe: str
    size: tuple[int, int] | None
    images: int
    bytes: int
    last_used: float | None


@dataclass(frozen=True)
class _Image:
    path: Path
    bytes: int
    last_used: float


def entries(
    cache_dir: Path, which: str | None = None, older_than: float | None = None
) -> list[CacheFolder]:
    """What a cache holds, by recipe.

    Args:
        cache_dir: The cache; it need not exist.
        which: Only folders of this recipe, or whose name begins like this.
        older_than: Only images that were not used for so many days.

    Raises:
        UsageError: Nothing in the cache is called `which`.
        StoreError: The cache cannot be read.
    """
    return [_counted(folder, images) for folder, images in _chosen(cache_dir, which, older_than)]


def clear(
    cache_dir: Path, which: str | None = None, older_than: float | None = None
) -> list[CacheFolder]:
    """Remove what `entries` lists; what was removed.

    Images that a run is using are made again when it wants them.

    Raises:
        UsageError: Nothing in the cache is called `which`.
        StoreError: The cache cannot be read, or something in it cannot be removed.
    """
    removed = []
    for folder, images in _chosen(cache_dir, which, older_than):
        removed.append(_counted(folder, images))
        try:
            for image in images:
                image.path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{error.filename} cannot be removed: {error.strerror}.") from error
        _remove_if_empty(folder)
    return removed


def _chosen(
    cache_dir: Path, which: str | None, older_than: float | None
) -> Iterator[tuple[Path, list[_Image]]]:
    try:
        listed = sorted(cache_dir.iterdir()) if cache_dir.exists() else []
        folders = [path for path in listed if re.fullmatch("[0-9a-f]{16}", path.name)]
        named = [path for path in folders if which is None or _is_called(path, which)]
        if which is not None and not named:
            there = ", ".join(f"{_record(path)['name']} ({path.name})" for path in folders)
            raise UsageError(f"The cache {cache_dir} holds no {which!r}; it holds {there or None}.")
        limit = None if older_than is None else time.time() - older_than * _DAY
        for folder in named:
            images = [i for i in _images(folder) if limit is None or i.last_used < limit]
            if images or limit is None:
                yield folder, images
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _is_called(folder: Path, which: str) -> bool:
    return folder.name.startswith(which) or _record(folder)["name"] == which


def _images(folder: Path) -> Iterator[_Image]:
    for path in sorted(folder.glob("[0-9a-f][0-9a-f]/*.npy")):
        if re.fullmatch(r"[0-9a-f]{64}\.npy", path.name):
            with suppress(FileNotFoundError):  # removed by another process
                status = path.stat()
                yield _Image(path, status.st_size, status.st_mtime)


def _record(folder: Path) -> dict[str, Any]:
    """The recipe of a folder; its name "unknown" where a process is clearing or damaged it."""
    unknown = {"name": "unknown", "size": None}
    try:
        recorded = json.loads((folder / RECORD).read_text(encoding="utf-8"))["recipe"]
        return {key: recorded[key] for key in unknown}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return unknown


def _counted(folder: Path, images: list[_Image]) -> CacheFolder:
    recipe = _record(folder)
    return CacheFolder(
        hash=folder.name,
        recipe=recipe["name"],
        size=tuple(recipe["size"]) if recipe["size"] else None,
        images=len(images),
        bytes=sum(image.bytes for image in images),
        last_used=max((image.last_used for image in images), default=None),
    )


def _remove_if_empty(folder: Path) -> None:
    remove_stale(folder)
    with suppress(OSError):  # another process has just written there, or the user keeps a file
        for inner in sorted(folder.glob("[0-9a-f][0-9a-f]")):
            with suppress(OSError):
                inner.rmdir()
        if [path.name for path in folder.iterdir()] == [RECORD]:
            (folder / RECORD).unlink()
            folder.rmdir()
