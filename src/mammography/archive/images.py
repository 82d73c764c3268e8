"""Any supported image file to gray pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mammography.archive.files import sniff
from mammography.archive.pictures import read_picture
from mammography.dicom.pixels import DEFAULT_MAX_PIXELS, Frame, StoredImage, read_dicom
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode


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
    if sniff(path) == "DICOM":
        image = read_dicom(path, frame=frame, reduce=reduce, max_pixels=max_pixels)
    else:
        image = read_picture(path, max_pixels)
    low, high = image.pixels.min(), image.pixels.max()
    if not np.isfinite(low) or not np.isfinite(high):
        raise ImageRejected(RejectCode.NOT_FINITE, "pixels that are NaN or infinite")
    if low == high:
        raise ImageRejected(RejectCode.FLAT, f"all pixels have the same value ({low})")
    return image


def check_image(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
    """Decode an image only to see whether it can be.

    Raises:
        ImageRejected: It cannot.
    """
    read_image(path, max_pixels=max_pixels)
