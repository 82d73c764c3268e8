"""PNG files, whose checksums are all compared before anything is decoded."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import imagecodecs
from numpy.typing import NDArray

from mammography.dicom.colour import first_component, gray_of_rgb
from mammography.dicom.parsing import parsing
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

_CHUNK = 1 << 20


@dataclass(frozen=True)
class PngHeader:
    """The IHDR chunk of a PNG file.

    Attributes:
        columns: Width in pixels.
        rows: Height in pixels.
        bits: Of a sample, or of a palette index.
        gray: Whether there is no colour; there may be transparency.
    """

    columns: int
    rows: int
    bits: int
    gray: bool


def read_png_header(file: BinaryIO) -> PngHeader:
    """Read the header of a PNG file from its start.

    Raises:
        ImageRejected: It is damaged.
    """
    with parsing(RejectCode.DAMAGED_HEADER, "the PNG header"):
        file.seek(8)
        name, columns, rows, bits, colour = struct.unpack(">4x4sIIBB", file.read(18))
        if name != b"IHDR":
            raise ImageRejected(RejectCode.DAMAGED_HEADER, "the PNG file has no header")
    return PngHeader(columns, rows, bits, gray=colour in (0, 4))


def read_png_pixels(file: BinaryIO, header: PngHeader) -> NDArray[Any]:
    """Read the gray pixels of a PNG file; palettes are applied, transparency is ignored.

    Returns:
        (rows, columns) of uint8 where samples have up to 8 bits, else uint16.

    Raises:
        ImageRejected: The file is damaged, truncated or an animation.
    """
    with parsing(RejectCode.DAMAGED_HEADER, "the PNG file"):
        _check_chunks(file)
        file.seek(0)
        data = file.read()
    with parsing(RejectCode.DECODE_FAILED, "the PNG pixels"):
        pixels = imagecodecs.png_decode(data)
    if pixels.ndim == 2:
        return pixels
    return first_component(pixels) if header.gray else gray_of_rgb(pixels)


def _check_chunks(file: BinaryIO) -> None:
    file.seek(8)
    name = b""
    while name != b"IEND":
        length, name = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        if name == b"acTL":
            raise ImageRejected(RejectCode.UNSUPPORTED, "a PNG file of several pages")
        checksum = zlib.crc32(name)
        while length and (content := file.read(min(length, _CHUNK))):
            checksum = zlib.crc32(content, checksum)
            length -= len(content)
        stated = file.read(4)
        if length or len(stated) < 4:
            raise ImageRejected(RejectCode.TRUNCATED, "the PNG file is truncated")
        if checksum != int.from_bytes(stated, "big"):
            raise ImageRejected(
                RejectCode.DECODE_FAILED, "a checksum in the PNG file does not match"
            )
