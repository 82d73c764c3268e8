"""Two ways to read a file that must not be believed.

A header may claim an element of gigabytes, and a deflated file of kilobytes may inflate to as
much; both are read only as far as they are needed, and no further than a limit.
"""

from __future__ import annotations

import os
import zlib
from typing import BinaryIO, Protocol

from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

#: A header with more bytes in the elements that are read is refused. That of a tomosynthesis
#: stack holds some hundred kilobytes; this much takes pydicom seconds if it is all sequence items.
MAX_HEADER_BYTES = 4 << 20

#: The largest inflated size of a deflated file; beyond it the file is taken for a bomb.
MAX_INFLATED_BYTES = 2 << 30

_CHUNK = 1 << 20


class Stream(Protocol):
    """What this room needs of an open file."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes from the position on."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; it may lie beyond the end."""

    def tell(self) -> int:
        """The position."""


class HeaderStream:
    """A stream that refuses to read more than a header may hold.

    Args:
        stream: The file; it shares its position with this object.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left = MAX_HEADER_BYTES
        self.seek = stream.seek
        self.tell = stream.tell

    def read(self, size: int = MAX_HEADER_BYTES + 1) -> bytes:
        """Up to `size` bytes.

        Raises:
            ImageRejected: The limit is reached; nothing is read then.
        """
        self._left -= size
        if self._left < 0:
            raise ImageRejected(
                RejectCode.DAMAGED_HEADER,
                f"the DICOM header claims to be longer than {MAX_HEADER_BYTES:,} bytes",
            )
        return self._stream.read(size)


class InflatedStream:
    """A deflated data set that reads like a file and is inflated no further than it is read.

    Args:
        source: The file, positioned at the deflated bytes.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._content = bytearray()
        self._position = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes.

        Raises:
            ImageRejected: The deflated bytes end early, or there are too many.
            zlib.error: They are damaged.
        """
        end = self._position + size
        self._inflate(end)
        with memoryview(self._content) as content:
            data = bytes(content[self._position : end])
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, from the start or (SEEK_CUR) from where it is."""
        self._position = offset + (self._position if whence == os.SEEK_CUR else 0)
        return self._position

    def tell(self) -> int:
        """The position within the inflated bytes."""
        return self._position

    def _inflate(self, end: int) -> None:
        if end > MAX_INFLATED_BYTES:
            raise ImageRejected(
                RejectCode.TOO_LARGE,
                f"the deflated data set inflates to more than {MAX_INFLATED_BYTES:,} bytes",
            )
        while len(self._content) < end and not self._inflater.eof:
            chunk = self._inflater.unconsumed_tail or self._source.read(_CHUNK)
            if not chunk:
                raise ImageRejected(RejectCode.TRUNCATED, "the deflated data set is truncated")
            self._content += self._inflater.decompress(chunk, _CHUNK)
