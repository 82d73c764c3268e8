"""PNG, PGM, TIFF and JPEG files: their facts and their gray pixels.

Pillow decodes them because it refuses truncated files, which OpenCV fills with zeros.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from mammography.dicom.header import ImageFacts, parsing
from mammography.dicom.pixels import StoredImage, check_size, gray_of_rgb
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

#: Pillow modes to bits stored.
_BITS = {"1": 1, "L": 8, "P": 8, "LA": 8, "RGB": 8, "RGBA": 8, "YCbCr": 8, "CMYK": 8, "F": 32}
_TIFF_PHOTOMETRIC = 262


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open a file with Pillow; its own size limit is off because `check_size` applies ours."""
    with parsing(RejectCode.DAMAGED_HEADER, "the image file"), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = None
        with Image.open(path, formats=("PNG", "PPM", "TIFF", "JPEG")) as image:
            yield image


def picture_facts(path: Path) -> ImageFacts:
    """The facts of a picture file.

    Raises:
        ImageRejected: The file is damaged.
    """
    with _open(path) as image:
        return ImageFacts(
            rows=image.height,
            columns=image.width,
            number_of_frames=getattr(image, "n_frames", 1),
            bits_stored=_BITS.get(image.mode, 16),
            photometric_interpretation=_photometric(image),
            transfer_syntax="PGM" if image.format == "PPM" else str(image.format),
        )


def _photometric(image: Image.Image) -> str:
    if image.mode not in ("1", "L", "F") and not image.mode.startswith("I"):
        return "RGB"
    tags = getattr(image, "tag_v2", {})
    white_is_zero = tags.get(_TIFF_PHOTOMETRIC) == 0 and image.mode not in ("1", "L")
    return "MONOCHROME1" if white_is_zero else "MONOCHROME2"


def read_picture(path: Path, max_pixels: int) -> StoredImage:
    """Decode a picture file to gray.

    Colour becomes luma (ITU-R BT.601), as for DICOM secondary captures.

    Args:
        path: The file.
        max_pixels: Larger images are refused before they are decoded.

    Returns:
        Integer pixels of shape (rows, columns), or float32 for a floating-point TIFF.

    Raises:
        ImageRejected: The file is damaged, truncated, too large or has several pages.
    """
    with _open(path) as image:
        check_size(image.height, image.width, max_pixels)
        if getattr(image, "n_frames", 1) > 1:
            raise ImageRejected(RejectCode.UNSUPPORTED, f"a picture of {image.n_frames} pages")
        photometric = _photometric(image)
        with parsing(RejectCode.DECODE_FAILED, "the pixels"):
            image.load()
        if photometric == "RGB":
            pixels = gray_of_rgb(np.asarray(image.convert("RGB")))
        elif image.mode == "1":
            pixels = np.asarray(image.convert("L"))
        else:
            pixels = np.asarray(image)
    if pixels.dtype == np.int32:
        pixels = _narrow(pixels)
    if pixels.dtype.byteorder == ">":
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    return StoredImage(pixels, inverted=photometric == "MONOCHROME1")


def _narrow(pixels: np.ndarray) -> np.ndarray:
    """Pillow's 32-bit mode holds 16-bit PGM and PNG; anything wider is refused."""
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise ImageRejected(RejectCode.UNSUPPORTED, "more than 16 bits per pixel")
    return pixels.astype(np.uint16)
