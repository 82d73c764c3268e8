"""TIFF files of one page: gray of any width, and colour."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from mammography.dicom.colour import first_component, gray_of_rgb
from mammography.dicom.parsing import parsing
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

#: Photometric Interpretation.
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2

#: Tags that are read, by number, and what they are where they are missing.
_TAGS = {
    256: ("columns", 0),
    257: ("rows", 0),
    258: ("bits", 1),
    262: ("photometric", BLACK_IS_ZERO),
    277: ("samples", 1),
    322: ("tile_columns", 1),
    323: ("tile_rows", 1),
}
_TYPES = {3: "H", 4: "I", 16: "Q"}
_MAX_TAGS = 1000


@dataclass(frozen=True)
class TiffHeader:
    """The first directory of a TIFF file.

    Attributes:
        columns: Width in pixels.
        rows: Height in pixels.
        bits: Of a sample.
        photometric: `WHITE_IS_ZERO`, `BLACK_IS_ZERO`, `RGB`, or another number of the format.
        samples: Per pixel.
        tile_columns: Width of a tile; 1 where there are none.
        tile_rows: Height of a tile.
    """

    columns: int
    rows: int
    bits: int
    photometric: int
    samples: int
    tile_columns: int
    tile_rows: int

    @property
    def gray(self) -> bool:
        """Whether the first sample of a pixel is its gray value."""
        return self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)

    @property
    def inverted(self) -> bool:
        """Whether larger values are darker in what `read_tiff_pixels` returns."""
        return self.photometric == WHITE_IS_ZERO and self.bits >= 8


def read_tiff_header(file: BinaryIO) -> TiffHeader:
    """Read the first directory of a TIFF or BigTIFF file from the file's start.

    Raises:
        ImageRejected: It is damaged, or not the only one.
    """
    with parsing(RejectCode.DAMAGED_HEADER, "the TIFF header"):
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack_from(order + "H", head, 2)[0] == 43
        offset, count, entry = ("Q", "Q", "HHQ8s") if big else ("I", "H", "HHI4s")
        file.seek(struct.unpack_from(order + offset, head, 8 if big else 4)[0])
        number = _unpack(file, order + count)[0]
        if number > _MAX_TAGS:
            raise ImageRejected(RejectCode.DAMAGED_HEADER, f"a TIFF directory of {number:,} tags")
        entries = [_unpack(file, order + entry) for _ in range(number)]
        if _unpack(file, order + offset)[0]:
            raise ImageRejected(RejectCode.UNSUPPORTED, "a TIFF file of several pages")
        values = dict(_TAGS.values())
        for tag, kind, length, value in entries:
            if tag in _TAGS:
                form = order + _TYPES[kind]
                if length * struct.calcsize(form) > len(value):
                    file.seek(struct.unpack(order + offset, value)[0])
                    value = file.read(struct.calcsize(form))
                values[_TAGS[tag][0]] = struct.unpack_from(form, value)[0]
        if len({tag for tag, *_ in entries}) < number:  # which of two, libtiff decides otherwise
            raise ImageRejected(RejectCode.DAMAGED_HEADER, "a TIFF tag that occurs twice")
    return TiffHeader(**values)


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def read_tiff_pixels(file: BinaryIO, header: TiffHeader) -> NDArray[Any]:
    """Read the gray pixels of a TIFF file; palettes are applied, transparency is ignored.

    Returns:
        (rows, columns) of integers of 8 or 16 bits, or float32.

    Raises:
        ImageRejected: The file is damaged or truncated, or has wider samples.
    """
    if header.samples > 4:
        raise ImageRejected(RejectCode.UNSUPPORTED, f"a TIFF of {header.samples} samples a pixel")
    file.seek(0, os.SEEK_SET)
    data = file.read()
    plain = header.bits >= 8 and (header.gray or header.photometric == RGB)
    with parsing(RejectCode.DECODE_FAILED, "the TIFF pixels", quote=True):
        pixels = imagecodecs.tiff_decode(data, asrgb=not plain)
    shape = (header.rows, header.columns)
    if pixels.shape[:2] != shape and pixels.shape[1:] == shape:  # plane by plane
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.shape[:2] != shape:
        raise ImageRejected(RejectCode.MISMATCH, "TIFF pixels of another size than the header's")
    if pixels.ndim == 3 and header.gray:
        pixels = first_component(pixels)
    elif pixels.ndim == 3:
        if pixels.dtype not in (np.uint8, np.uint16) or pixels.shape[2] < 3:
            raise ImageRejected(RejectCode.UNSUPPORTED, f"TIFF colours of {pixels.dtype}")
        return gray_of_rgb(pixels)
    return _narrowed(pixels)


def _narrowed(pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels as 8 or 16 bits, or as float32."""
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):  # infinite is what a value becomes; refused later
            return pixels.astype(np.float32, copy=False)
    if pixels.dtype.itemsize <= 2:
        return pixels
    for dtype in (np.uint16, np.int16):
        limits = np.iinfo(dtype)
        if limits.min <= pixels.min() and pixels.max() <= limits.max:
            return pixels.astype(dtype)
    raise ImageRejected(RejectCode.UNSUPPORTED, "more than 16 bits per pixel")
