"""What a compressed frame says about itself, read before any decoder allocates memory for it.

A DICOM header can be honest while the codestream inside claims 60,000 x 60,000 pixels, and most
decoders fill the missing half of a truncated codestream with gray without a word. So size,
precision and completeness are read from the markers: ISO/IEC 10918-1 (JPEG), 14495-1 (JPEG-LS),
15444-1 and -15 (JPEG 2000, HTJ2K).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mammography.dicom.header import parsing
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_J2K_START = b"\xff\x4f\xff\x51"


@dataclass(frozen=True)
class Codestream:
    """The shape of a compressed frame.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        components: Samples per pixel.
        bits: Precision of one sample.
        signed: Whether samples are signed (JPEG 2000 only).
        data: The codestream without container or padding.
    """

    rows: int
    columns: int
    components: int
    bits: int
    signed: bool
    data: bytes


def read_jpeg(data: bytes) -> Codestream:
    """Read the frame header of a JPEG, JPEG Lossless or JPEG-LS codestream.

    Raises:
        ImageRejected: It is no such codestream, or its end is missing.
    """
    with parsing(RejectCode.DECODE_FAILED, "the JPEG header"):
        start = data.find(b"\xff\xd8")
        if start < 0:
            raise ImageRejected(RejectCode.DECODE_FAILED, "the frame is not a JPEG codestream")
        position = start + 2
        while True:
            marker, length = struct.unpack_from(">HH", data, position)
            if marker == 0xFFFF:
                position += 1
                continue
            if marker >> 8 != 0xFF:
                raise ImageRejected(RejectCode.DECODE_FAILED, "the JPEG header is damaged")
            if marker & 0xFF in _START_OF_FRAME:
                break
            position += 2 + length
        bits, rows, columns, components = struct.unpack_from(">BHHB", data, position + 4)
    if data.rfind(b"\xff\xd9") < position:
        raise ImageRejected(RejectCode.TRUNCATED, "the JPEG codestream has no end: truncated")
    return Codestream(rows, columns, components, bits, signed=False, data=data[start:])


def read_jpeg2000(data: bytes) -> Codestream:
    """Read the SIZ marker of a JPEG 2000 or HTJ2K codestream, and check that its tiles are whole.

    Raises:
        ImageRejected: It is no such codestream, or its end is missing.
    """
    with parsing(RejectCode.DECODE_FAILED, "the JPEG 2000 header"):
        start = data.find(_J2K_START)
        if start < 0:
            raise ImageRejected(RejectCode.DECODE_FAILED, "the frame is not a JPEG 2000 codestream")
        data = data[start:]
        x_size, y_size, x_offset, y_offset = struct.unpack_from(">4I", data, 8)
        components, depth = struct.unpack_from(">HB", data, 40)
        _check_tiles(data)
    return Codestream(
        rows=y_size - y_offset,
        columns=x_size - x_offset,
        components=components,
        bits=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        data=data,
    )


def _check_tiles(data: bytes) -> None:
    """Follow the tile-parts by their stated lengths to the end of the codestream."""
    position = 2
    while (marker := struct.unpack_from(">H", data, position)[0]) != 0xFF90:
        if marker >> 8 != 0xFF:
            raise ImageRejected(RejectCode.DECODE_FAILED, "the JPEG 2000 header is damaged")
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    while data[position : position + 2] == b"\xff\x90":
        length = struct.unpack_from(">I", data, position + 6)[0]
        if length == 0:  # the last tile-part may run to the end of the codestream
            position = data.rfind(b"\xff\xd9")
            break
        position += max(length, 12)
    if position < 0 or data[position : position + 2] != b"\xff\xd9":
        raise ImageRejected(RejectCode.TRUNCATED, "the JPEG 2000 codestream has no end: truncated")
