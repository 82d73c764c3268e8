"""One file's gray at 16 bits, and what tells whether the file is still the same."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammography.errors import ImageRejected, PluginError
from mammography.preprocess.recipe import Recipe, prepare
from mammography.vocabulary import RejectCode

#: What white is in 16 bits; black is 0.
WHITE = 65535


def levels(gray: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Brightness in [0, 1] as integers from 0 to `WHITE`: the nearest one, halves up.

    Args:
        gray: Any shape of float32. Its products with `WHITE` have 40 bits, which doubles hold.
    """
    return (gray.astype(np.float64) * WHITE + 0.5).astype(np.uint16)


def identity(path: Path) -> str | None:
    """What changes when a file does: SHA-256 over its resolved path, its size and its mtime.

    Returns:
        64 hexadecimal digits; None where there is no such file, or none that can be reached.
    """
    try:
        real = os.path.realpath(path, strict=True)
        status = os.stat(real)  # noqa: PTH116  (a tenth of the time that Path takes)
    except OSError:
        return None
    words = f"{real}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(os.fsencode(words)).hexdigest()


def read_levels(recipe: Recipe, max_pixels: int, path: Path) -> tuple[str, NDArray[np.uint16]]:
    """Read a file and apply a recipe up to gray.

    Returns:
        The file's `identity`, and `recipe.size` values of uint16, read-only.

    Raises:
        ImageRejected: The file cannot be used, or was written to in the meantime.
        PluginError: The recipe does not keep to what `Recipe.gray` promises.
    """
    before = identity(path)
    gray = prepare(recipe, max_pixels, path)
    if gray.shape != recipe.size or not (gray.min() >= 0 and gray.max() <= 1):  # NaN is neither
        raise PluginError(
            f"The recipe {recipe.NAME} made of {path} an array {gray.shape} from {gray.min()} to "
            f"{gray.max()}; it must be {recipe.size} from 0 to 1."
        )
    if before is None or before != identity(path):
        raise ImageRejected(RejectCode.DAMAGED_HEADER, "the file changed while it was being read")
    whole = levels(gray)
    whole.flags.writeable = False
    return before, whole


def as_trained(recipe: Recipe, max_pixels: int, path: Path) -> NDArray[np.float32]:
    """A file's brightness as training reads it, for what was trained on it.

    Returns:
        `recipe.size` values in [0, 1], multiples of 1 / `WHITE`.

    Raises:
        ImageRejected: As `read_levels`.
        PluginError: Likewise.
    """
    return read_levels(recipe, max_pixels, path)[1].astype(np.float32) / np.float32(WHITE)
