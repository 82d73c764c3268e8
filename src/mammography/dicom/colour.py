"""Colour secondary captures to gray."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mammography.dicom.lut import read_lut
from mammography.dicom.parsing import parsing
from mammography.vocabulary import RejectCode

#: What decodes to RGB unless the codestream says otherwise: JPEG 2000 undoes its own transforms.
RGB_LIKE = ("RGB", "YBR_RCT", "YBR_ICT")


def gray_of_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """Luma of RGB pixels (ITU-R BT.601) in integer arithmetic, in the type that came in.

    Args:
        pixels: (…, 3) of uint8 or uint16.
    """
    luma = 299 * pixels[..., 0].astype(np.uint32)
    luma += 587 * pixels[..., 1].astype(np.uint32)
    luma += 114 * pixels[..., 2].astype(np.uint32)
    return ((luma + 500) // 1000).astype(pixels.dtype)


def first_component(pixels: NDArray[Any]) -> NDArray[Any]:
    """The first component: the luma of YCbCr, by definition that of BT.601, or gray."""
    return np.ascontiguousarray(pixels[..., 0])


def gray_of_palette(pixels: NDArray[Any], header: Dataset) -> NDArray[Any]:
    """Luma of indices into the header's palette (DICOM PS3.3 C.7.9).

    Raises:
        ImageRejected: The palette is missing, segmented or damaged.
    """
    with parsing(RejectCode.DAMAGED_HEADER, "the colour palette"):
        little_endian = header.original_encoding[1] is not False
        red, green, blue = (
            read_lut(
                header[f"{colour}PaletteColorLookupTableDescriptor"].value,
                header[f"{colour}PaletteColorLookupTableData"].value,
                little_endian,
            )
            for colour in ("Red", "Green", "Blue")
        )
        palette = np.stack([red.entries, green.entries, blue.entries], axis=-1)
    gray = gray_of_rgb(palette)
    return (gray.astype(np.uint8) if red.bits <= 8 else gray)[red.index(pixels)]
