"""The compressed frames of a file (DICOM PS3.5 Annex A.4), found by walking their fragments."""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from mammography.dicom.streams import Stream
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)

#: More fragments than any image has; beyond it, walking them would take minutes and gigabytes.
_MAX_FRAGMENTS = 1_000_000


@dataclass(frozen=True)
class _Fragment:
    """Where a fragment's bytes lie in the file; its item tag and length are the 8 before."""

    start: int
    length: int


class CompressedFrames:
    """Random access to the frames of an encapsulated pixel element.

    Offset tables are believed only where they are needed, that is, where frames consist of several
    fragments, and agree with the fragments. (So the Extended Offset Table is not: with it, every
    fragment is a frame.)

    Args:
        stream: The file.
        start: Position of the first item, which is the Basic Offset Table.
        frames: How many frames the header announces.

    Raises:
        ImageRejected: Fragments are missing or do not fit the number of frames.
    """

    def __init__(self, stream: Stream, start: int, frames: int) -> None:
        self._stream = stream
        table, *fragments = _walk(stream, start)
        if not fragments:
            raise ImageRejected(RejectCode.NO_PIXEL_DATA, "the pixel data holds no frame")
        self._frames = self._grouped(table, fragments, frames)

    def read(self, number: int) -> bytes:
        """The codestream of a frame, counted from 1."""
        return b"".join(self._bytes(fragment) for fragment in self._frames[number - 1])

    def _bytes(self, fragment: _Fragment) -> bytes:
        self._stream.seek(fragment.start)
        return self._stream.read(fragment.length)

    def _grouped(
        self, table: _Fragment, fragments: list[_Fragment], frames: int
    ) -> list[list[_Fragment]]:
        """The fragments of each frame."""
        if len(fragments) == frames:
            return [[fragment] for fragment in fragments]
        if frames == 1:
            return [fragments]
        firsts = self._firsts_by_table(table, fragments, frames) or self._firsts_by_end(fragments)
        if len(firsts) != frames:
            raise ImageRejected(
                RejectCode.MISMATCH,
                f"{len(fragments)} fragments of pixel data that do not make up {frames} frames",
            )
        ends = [*firsts[1:], len(fragments)]
        return [fragments[first:end] for first, end in zip(firsts, ends, strict=True)]

    def _firsts_by_table(
        self, table: _Fragment, fragments: list[_Fragment], frames: int
    ) -> list[int]:
        """Index of each frame's first fragment by the Basic Offset Table; [] where it is wrong."""
        if table.length != 4 * frames:
            return []
        starts = [fragment.start - fragments[0].start for fragment in fragments]
        offsets = np.frombuffer(self._bytes(table), "<u4").tolist()
        firsts = [bisect_left(starts, offset) for offset in offsets]
        right = [first < len(starts) and starts[first] == offset
                 for first, offset in zip(firsts, offsets, strict=True)]  # fmt: skip
        return firsts if all(right) and firsts[0] == 0 and firsts == sorted(set(firsts)) else []

    def _firsts_by_end(self, fragments: list[_Fragment]) -> list[int]:
        """Index of each frame's first fragment: the one after an end of image (JPEG, JPEG 2000)."""
        ends = [
            index
            for index, fragment in enumerate(fragments)
            if b"\xff\xd9" in self._bytes(_tail(fragment))
        ]
        return [0, *(end + 1 for end in ends if end + 1 < len(fragments))]


def _tail(fragment: _Fragment) -> _Fragment:
    """The last bytes of a fragment: end marker and padding."""
    length = min(fragment.length, 10)
    return _Fragment(fragment.start + fragment.length - length, length)


def _walk(stream: Stream, start: int) -> list[_Fragment]:
    """All items from the Basic Offset Table on, each of which must lie within the file."""
    size = stream.seek(0, os.SEEK_END)
    fragments: list[_Fragment] = []
    position = start
    while position + 8 <= size:
        stream.seek(position)
        group, element, length = struct.unpack("<HHI", stream.read(8))
        if (group, element) == _END:
            break
        if (group, element) != _ITEM or len(fragments) > _MAX_FRAGMENTS:
            raise ImageRejected(
                RejectCode.DECODE_FAILED, "the pixel data is not made of whole fragments"
            )
        fragments.append(_Fragment(position + 8, length))
        position += 8 + length
    if position > size:
        raise ImageRejected(
            RejectCode.TRUNCATED,
            f"the file is truncated: a compressed frame lacks its last {position - size:,} bytes",
        )
    if not fragments:
        raise ImageRejected(RejectCode.NO_PIXEL_DATA, "the pixel data holds no frame")
    return fragments
