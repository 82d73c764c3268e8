"""Gray pictures in the formats of Netpbm: PGM, as text (P2) and binary (P5).

Pillow stretches values to 16 bits; here they stay as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mammography.dicom.parsing import parsing
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

_GAP = rb"(?:\s|#[^\n]*\n)"
_HEADER = re.compile(
    rb"(P[25])" + _GAP + rb"+(\d{1,9})" + _GAP + rb"+(\d{1,9})" + _GAP + rb"+(\d{1,5})\s"
)

#: Comments included.
_LONGEST_HEADER = 1 << 14


@dataclass(frozen=True)
class PgmHeader:
    """What a PGM file says before its pixels.

    Attributes:
        binary: P5 rather than P2.
        columns: Width in pixels.
        rows: Height in pixels.
        white: The largest value a pixel may have, 1 to 65,535.
        length: Of the header, in bytes.
    """

    binary: bool
    columns: int
    rows: int
    white: int
    length: int


def read_pgm_header(file: BinaryIO) -> PgmHeader:
    """Read the header of a PGM file from its start.

    Raises:
        ImageRejected: It is damaged.
    """
    found = _HEADER.match(file.read(_LONGEST_HEADER))
    if found is None or not 1 <= int(found[4]) <= 0xFFFF:
        raise ImageRejected(RejectCode.DAMAGED_HEADER, "the PGM header is damaged")
    columns, rows, white = (int(number) for number in found.groups()[1:])
    return PgmHeader(found[1] == b"P5", columns, rows, white, found.end())


def read_pgm_pixels(file: BinaryIO, header: PgmHeader) -> NDArray[Any]:
    """Read the pixels of a PGM file.

    Returns:
        (rows, columns) of uint8 where white is at most 255, else uint16.

    Raises:
        ImageRejected: There are too few or too many pixels, or some are whiter than white.
    """
    dtype = np.dtype(np.uint8 if header.white < 256 else np.uint16)
    count = header.rows * header.columns
    file.seek(header.length)
    if header.binary:
        content = file.read(count * dtype.itemsize)
        pixels = np.frombuffer(content[: len(content) // dtype.itemsize * dtype.itemsize],
                               dtype.newbyteorder(">")).astype(dtype, copy=False)  # fmt: skip
        excess = file.read(16).strip()
    else:
        pixels = _numbers(file.read(7 * count + _LONGEST_HEADER), count)
        excess = b""
    if pixels.size < count:
        raise ImageRejected(
            RejectCode.TRUNCATED, f"the file is truncated: {pixels.size:,} of {count:,} pixels"
        )
    if pixels.size > count or excess:
        raise ImageRejected(RejectCode.WRONG_LENGTH, f"more than {count:,} pixels")
    if pixels.max() > header.white:
        raise ImageRejected(
            RejectCode.MISMATCH, f"a pixel of {pixels.max()} where white is {header.white}"
        )
    return pixels.astype(dtype, copy=False).reshape(header.rows, header.columns)


def _numbers(content: bytes, count: int) -> NDArray[Any]:
    """Up to `count` + 1 numbers of at most five digits, with white space between them."""
    words = content.split(maxsplit=count + 1)[: count + 1]
    with parsing(RejectCode.DECODE_FAILED, "the text of the pixels"):
        if any(len(word) > 5 for word in words):
            raise ValueError
        return np.array(words, dtype="S5").astype(np.uint32)
