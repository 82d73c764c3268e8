"""Any supported image file to gray pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammography.archive.files import opened
from mammography.archive.pictures import read_picture
from mammography.dicom.pixels import DEFAULT_MAX_PIXELS, Frame, StoredImage, read_dicom
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

#: Pixels looked at together for two that differ.
_BLOCK = 1 << 16


def read_image(
    path: Path, *, frame: Frame = "middle", reduce: int = 0, max_pixels: int = DEFAULT_MAX_PIXELS
) -> StoredImage:
    """Read one image file, whatever its format.

    Args:
        path: A DICOM, PNG, PGM, TIFF or JPEG file; told apart by content.
        frame: Which frame of a multi-frame DICOM image: "middle", "max" or a number from 1.
        reduce: How often a JPEG 2000 or HTJ2K image is halved while decoding.
        max_pixels: Larger images are refused before memory is taken.

    Returns:
        The stored values, of which at least two differ.

    Raises:
        ImageRejected: The file cannot be used; the reason is for a person.
    """
    with opened(path) as (file, kind):
        if kind == "DICOM":
            image = read_dicom(file, frame=frame, reduce=reduce, max_pixels=max_pixels)
        else:
            image = read_picture(file, kind, max_pixels)
    if image.pixels.dtype.kind == "f" and not np.isfinite(image.pixels).all():
        raise ImageRejected(RejectCode.NOT_FINITE, "pixels that are NaN or infinite")
    if _is_flat(image.pixels):
        raise ImageRejected(
            RejectCode.FLAT, f"all pixels have the same value ({image.pixels.flat[0]})"
        )
    return image


def _is_flat(pixels: NDArray[Any]) -> bool:
    """Whether all pixels are equal; most images tell after a block of rows."""
    first = pixels.flat[0]
    rows = max(1, _BLOCK // pixels.shape[1])
    blocks = (pixels[row : row + rows] for row in range(0, len(pixels), rows))
    return not any((block != first).any() for block in blocks)


def check_image(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
    """Decode an image only to see whether it can be.

    Raises:
        ImageRejected: It cannot.
    """
    read_image(path, max_pixels=max_pixels)
