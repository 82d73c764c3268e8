"""The grays of one recipe on disk, one file each, which several processes may fill at once.

A file is written under a temporary name and renamed when whole. Its last four bytes are a checksum,
so that a file which a power failure left full of zeros is found out without waiting for the disk
after every image. Its modification time is when it was last used.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammography.errors import StoreError
from mammography.preprocess.recipe import Recipe
from mammography.runs import canonical_json, sha256_of_text, versions

log = logging.getLogger(__name__)

#: Says what a folder holds.
RECORD = "recipe.json"

#: How the temporary names end.
PART = ".part"

#: Seconds after which nobody works on a temporary file any more; workers have ten minutes a file.
STALE = 3600.0

#: Distributions whose version can change a decoded pixel. A recipe has a version of its own.
_DECODERS = ("mammography", "pydicom", "imagecodecs", "pillow")


@dataclass(frozen=True)
class EntryFolder:
    """A folder of grays that were all made in one way.

    Attributes:
        path: The folder; it need not exist.
        shape: (rows, columns) of every gray.
    """

    path: Path
    shape: tuple[int, int]

    def file(self, key: str) -> Path:
        """Where the gray of a file with this identity is, or would be."""
        return self.path / key[:2] / f"{key}.npy"

    def holds(self, key: str) -> bool:
        """Whether a gray is there, by its length and header; counts as a use of it.

        A damaged one is not there, with a warning.

        Raises:
            StoreError: The cache cannot be read.
        """
        path, header = self.file(key), _header(self.shape)
        try:
            with path.open("rb", buffering=0) as stream:
                length = os.fstat(stream.fileno()).st_size
                sound = length == self._length and stream.read(len(header)) == header
                with suppress(OSError):  # a cache on a disk that is read-only
                    os.utime(stream.fileno())
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _unreadable(path, error) from error
        if not sound:
            log.warning("%s is damaged; it is made again.", path)
        return sound

    def read(self, key: str) -> NDArray[np.uint16] | None:
        """A gray, read-only; None, with a warning, where it is damaged or gone.

        Raises:
            StoreError: The cache cannot be read.
        """
        path, header = self.file(key), _header(self.shape)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            log.warning("%s has been removed; it is made again.", path)
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        if (
            len(content) != self._length
            or not content.startswith(header)
            or _checksum(memoryview(content)[:-4]) != content[-4:]
        ):
            log.warning("%s is damaged; it is made again.", path)
            return None
        values = np.frombuffer(content, "<u2", self.shape[0] * self.shape[1], len(header))
        return values.reshape(self.shape)

    def write(self, key: str, gray: NDArray[np.uint16]) -> None:
        """Keep a gray of `shape`.

        Raises:
            StoreError: The disk is full, or the cache cannot be written to.
        """
        content = _header(self.shape) + gray.astype("<u2", copy=False).tobytes()
        self._write(self.file(key), content + _checksum(content))

    def open(self, record: dict[str, Any]) -> None:
        """Make the folder, say in it what it holds, and remove what killed processes left in it.

        Raises:
            StoreError: The folder cannot be made.
        """
        path, words = self.path / RECORD, json.dumps(record, indent=2).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists() or path.read_bytes() != words:
                self._write(path, words)
        except OSError as error:
            raise _unwritable(path, error) from error
        remove_stale(self.path)

    @property
    def _length(self) -> int:
        return len(_header(self.shape)) + 2 * self.shape[0] * self.shape[1] + 4

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file whole or not at all, for the user's eyes only."""
        try:
            for folder in (self.path, path.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            handle, name = tempfile.mkstemp(PART, ".", self.path)
            temporary = Path(name)
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(content)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from error


def folder_for(
    cache_dir: Path, recipe: Recipe, max_pixels: int
) -> tuple[EntryFolder, dict[str, Any]]:
    """The folder whose grays are exactly those that a recipe would give now, and its record.

    Mean and standard deviation come after the gray and do not count, so encoders that expect
    others share it. `max_pixels` counts: an image above it is refused, cached or not.
    """
    settings = {k: v for k, v in recipe.record().items() if k not in ("mean", "std")}
    installed = versions()
    decoders = {name: installed[name] for name in _DECODERS if name in installed}
    record = {"recipe": settings, "max_pixels": max_pixels, "versions": decoders}
    name = sha256_of_text(canonical_json(record))[:16]
    return EntryFolder(cache_dir / name, recipe.size), record


def remove_stale(folder: Path) -> None:
    """Remove the temporary files of processes that were killed."""
    for path in folder.glob(f".*{PART}"):
        with suppress(OSError):  # another process was faster, or a disk that is read-only
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()


def _header(shape: tuple[int, int]) -> bytes:
    """What a .npy file of uint16 begins with (NumPy's format 1.0), up to its values."""
    words = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00\x76\x00" + words.ljust(117).encode() + b"\n"


def _checksum(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little")


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path} in the cache cannot be read: {error.strerror}. Choose another --cache-dir, or "
        "--cache-mode none."
    )


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path} in the cache cannot be written: {error.strerror}. Make room (mammography cache "
        "clear), choose another --cache-dir, or --cache-mode none."
    )
