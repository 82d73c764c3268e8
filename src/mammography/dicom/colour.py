"""Colour secondary captures to gray."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from mammography.dicom.parsing import parsing
from mammography.vocabulary import RejectCode

#: What decodes to RGB unless the codestream says otherwise: JPEG 2000 undoes its own transforms.
RGB_LIKE = ("RGB", "YBR_RCT", "YBR_ICT")


def gray_of_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """Luma of RGB pixels (ITU-R BT.601) in integer arithmetic, in the type that came in.

    Args:
        pixels: (rows, columns, 3) of uint8 or uint16.
    """
    luma = 299 * pixels[..., 0].astype(np.uint32)
    luma += 587 * pixels[..., 1].astype(np.uint32)
    luma += 114 * pixels[..., 2].astype(np.uint32)
    return ((luma + 500) // 1000).astype(pixels.dtype)


def gray_of_ybr(pixels: NDArray[Any]) -> NDArray[Any]:
    """The first component of YCbCr pixels, which is the luma of BT.601 by definition."""
    return np.ascontiguousarray(pixels[..., 0])


def gray_of_palette(pixels: NDArray[Any], header: Dataset) -> NDArray[Any]:
    """Luma of indices into the header's palette (DICOM PS3.3 C.7.9).

    Raises:
        ImageRejected: The palette is missing or damaged.
    """
    with parsing(RejectCode.DAMAGED_HEADER, "the colour palette"):
        return gray_of_rgb(apply_color_lut(pixels, header))
