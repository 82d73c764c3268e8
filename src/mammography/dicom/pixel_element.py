"""The element that holds the pixels, and the uncompressed frames in it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from mammography.dicom.parsing import parsing
from mammography.dicom.streams import Stream
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

UNDEFINED_LENGTH = 0xFFFFFFFF

#: Zero bytes that may follow the pixels within their element; some archives pad to blocks.
_MAX_PADDING = 1 << 16

_NAMES = {0x0010: "PixelData", 0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData"}
_VRS = (b"OB", b"OW", b"OF", b"OD", b"UN")


@dataclass(frozen=True)
class PixelElement:
    """Where the pixels lie.

    Attributes:
        keyword: "PixelData", "FloatPixelData" or "DoubleFloatPixelData".
        vr: "OW" where the syntax is implicit.
        start: Position of the first byte of its value.
        length: In bytes, or `UNDEFINED_LENGTH`.
    """

    keyword: str
    vr: str
    start: int
    length: int


def read_pixel_element(stream: Stream, order: str) -> PixelElement:
    """Read tag, VR and length of the element at a stream's position.

    Args:
        stream: Where `mammography.dicom.data_set.read_header` left it.
        order: "<" or ">", the byte order.

    Raises:
        ImageRejected: There is no pixel data.
    """
    position = stream.tell()
    with parsing(RejectCode.DECODE_FAILED, "the pixel data", quote=True):
        head = stream.read(12).ljust(12, b"\0")
    group, element = struct.unpack(order + "HH", head[:4])
    if group != 0x7FE0 or element not in _NAMES:
        raise ImageRejected(RejectCode.NO_PIXEL_DATA, "the file has no pixel data")
    if head[4:6] in _VRS:  # no implicit length looks like that: these would be odd
        length = struct.unpack(order + "I", head[8:])[0]
        return PixelElement(_NAMES[element], head[4:6].decode(), position + 12, length)
    length = struct.unpack(order + "I", head[4:8])[0]
    return PixelElement(_NAMES[element], "OW", position + 8, length)


class NativeFrames:
    """Random access to the frames of uncompressed pixel data.

    Args:
        stream: The file.
        element: Its pixel element.
        frame_bytes: Size of a frame.
        frames: How many frames the header announces.
        swapped: Whether bytes were written as big-endian words: each pair is the wrong way round.

    Raises:
        ImageRejected: The element has another length than the header needs, or the file ends
            within it.
    """

    def __init__(
        self, stream: Stream, element: PixelElement, frame_bytes: int, frames: int, swapped: bool
    ) -> None:
        self._stream, self._start = stream, element.start
        self._frame_bytes, self._swapped = frame_bytes, swapped
        if element.length == UNDEFINED_LENGTH:
            raise ImageRejected(RejectCode.MISMATCH, "uncompressed pixel data of undefined length")
        needed = frame_bytes * frames
        padding = element.length - needed
        if not 0 <= padding <= _MAX_PADDING:
            raise _wrong_length(element, needed)
        # A single byte evens the length and may be anything.
        if padding > 1 and self._bytes_at(needed, padding).strip(b"\0"):
            raise _wrong_length(element, needed)
        if padding <= 1:
            self._bytes_at(element.length - 1, 1)

    def read(self, number: int) -> bytes:
        """The bytes of a frame, counted from 1."""
        first = (number - 1) * self._frame_bytes
        if not self._swapped:
            return self._bytes_at(first, self._frame_bytes)
        odd = first % 2
        words = self._bytes_at(first - odd, odd + self._frame_bytes + (odd + self._frame_bytes) % 2)
        return np.frombuffer(words, np.uint16).byteswap().tobytes()[odd : odd + self._frame_bytes]

    def _bytes_at(self, offset: int, length: int) -> bytes:
        with parsing(RejectCode.DECODE_FAILED, "the pixel data", quote=True):
            self._stream.seek(self._start + offset)
            data = self._stream.read(length)
        if len(data) < length:
            raise ImageRejected(
                RejectCode.TRUNCATED, "the file is truncated: it ends within the pixel data"
            )
        return data


def _wrong_length(element: PixelElement, needed: int) -> ImageRejected:
    return ImageRejected(
        RejectCode.WRONG_LENGTH,
        f"{element.length:,} bytes of pixel data; the header needs {needed:,}",
    )
