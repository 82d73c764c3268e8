"""What a compressed frame says about itself, read before any decoder allocates memory for it.

A DICOM header can be honest while the codestream inside claims 60,000 x 60,000 pixels, and most
decoders fill the missing half of a truncated codestream with gray without a word. So size,
precision and completeness are read from the markers: ISO/IEC 10918-1 (JPEG), 14495-1 (JPEG-LS),
15444-1 and -15 (JPEG 2000, HTJ2K).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mammography.dicom.parsing import parsing
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_JFIF, _ADOBE = b"\xff\xe0JFIF\0", b"\xff\xeeAdobe"

_J2K_START = b"\xff\x4f\xff\x51"
_CODING_STYLE, _START_OF_TILE, _END_OF_CODESTREAM = b"\xff\x52", b"\xff\x90", b"\xff\xd9"


@dataclass(frozen=True)
class Codestream:
    """The shape of a compressed frame.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        components: Samples per pixel.
        bits: Precision of one sample.
        data: The codestream without container.
        signed: Whether samples are signed (JPEG 2000 only).
        rgb: Whether three components decode to RGB; None where the codestream does not say.
        levels: How often it can be halved while decoding.
    """

    rows: int
    columns: int
    components: int
    bits: int
    data: bytes
    signed: bool = False
    rgb: bool | None = None
    levels: int = 0


def read_jpeg(data: bytes) -> Codestream:
    """Read the frame header of a JPEG, JPEG Lossless or JPEG-LS codestream.

    Raises:
        ImageRejected: It is no such codestream, or its end is missing.
    """
    with parsing(RejectCode.DECODE_FAILED, "the JPEG header"):
        start = data.find(b"\xff\xd8")
        if start < 0:
            raise ImageRejected(RejectCode.DECODE_FAILED, "the frame is not a JPEG codestream")
        position, rgb = start + 2, None
        while True:
            marker, length = struct.unpack_from(">HH", data, position)
            if marker == 0xFFFF:  # a fill byte
                position += 1
                continue
            if marker >> 8 != 0xFF or marker & 0xFF == _START_OF_SCAN:
                raise ImageRejected(RejectCode.DECODE_FAILED, "the JPEG header is damaged")
            if marker & 0xFF in _START_OF_FRAME:
                break
            rgb = _colour_of_segment(data[position : position + 2 + length], rgb)
            position += 2 + length
        bits, rows, columns, components = struct.unpack_from(">BHHB", data, position + 4)
        names = data[position + 10 : position + 10 + 3 * components : 3]
    if data.rfind(b"\xff\xd9") < position:
        raise ImageRejected(RejectCode.TRUNCATED, "the JPEG codestream has no end: truncated")
    if names in (b"RGB", b"rgb"):
        rgb = True
    return Codestream(rows, columns, components, bits, data[start:], rgb=rgb)


def _colour_of_segment(segment: bytes, rgb: bool | None) -> bool | None:
    """Whether a marker segment says that three components are RGB; else what was known before."""
    if segment.startswith(_JFIF[:2]) and segment[4:9] == _JFIF[2:]:
        return False
    if segment.startswith(_ADOBE[:2]) and segment[4:9] == _ADOBE[2:] and len(segment) > 15:
        return segment[15] == 0
    return rgb


def read_jpeg2000(data: bytes) -> Codestream:
    """Read the main header of a JPEG 2000 or HTJ2K codestream, and check that its tiles are whole.

    Raises:
        ImageRejected: It is no such codestream, its end is missing, or its components differ.
    """
    with parsing(RejectCode.DECODE_FAILED, "the JPEG 2000 header"):
        start = data.find(_J2K_START)
        if start < 0:
            raise ImageRejected(RejectCode.DECODE_FAILED, "the frame is not a JPEG 2000 codestream")
        data = data[start:]
        x_size, y_size, x_offset, y_offset = struct.unpack_from(">4I", data, 8)
        tile_width, tile_height, first_x, first_y = struct.unpack_from(">4I", data, 24)
        components = struct.unpack_from(">H", data, 40)[0]
        # (A tile without width or height, by which OpenJPH would divide, raises here.)
        tiles = -((first_x - x_size) // tile_width) * -((first_y - y_size) // tile_height)
        described = struct.unpack_from(f">{3 * components}s", data, 42)[0]
        depth = described[0]
        if described != bytes([depth, 1, 1]) * components:
            raise ImageRejected(
                RejectCode.UNSUPPORTED, "JPEG 2000 components of different size or precision"
            )
        first_tile, colour_transform, levels = _read_main_header(data)
        _check_tiles(data, first_tile, tiles)
    return Codestream(
        rows=y_size - y_offset,
        columns=x_size - x_offset,
        components=components,
        bits=(depth & 0x7F) + 1,
        data=data,
        signed=bool(depth & 0x80),
        rgb=True if colour_transform else None,
        levels=levels,
    )


def _read_main_header(data: bytes) -> tuple[int, bool, int]:
    """Position of the first tile, multiple component transform, decomposition levels."""
    position, colour_transform, levels = 2, False, 0
    while (marker := data[position : position + 2]) != _START_OF_TILE:
        if marker[:1] != b"\xff":
            raise ImageRejected(RejectCode.DECODE_FAILED, "the JPEG 2000 header is damaged")
        if marker == _CODING_STYLE:
            colour_transform, levels = data[position + 8] == 1, data[position + 9]
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return position, colour_transform, levels


def _check_tiles(data: bytes, position: int, tiles: int) -> None:
    """Follow the tile-parts by their stated lengths to the end of the codestream."""
    found = set()
    while data[position : position + 2] == _START_OF_TILE:
        index, length = struct.unpack_from(">HI", data, position + 4)
        found.add(index)
        if length == 0:  # the last tile-part may run to the end of the codestream
            position = data.rfind(_END_OF_CODESTREAM, position)
            break
        position += max(length, 12)
    if position < 0 or data[position : position + 2] != _END_OF_CODESTREAM:
        raise ImageRejected(RejectCode.TRUNCATED, "the JPEG 2000 codestream has no end: truncated")
    if len(found) != tiles:
        raise ImageRejected(
            RejectCode.TRUNCATED, f"{len(found)} of the {tiles} tiles of the JPEG 2000 codestream"
        )
