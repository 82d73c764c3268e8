"""Look-up tables of a header (DICOM PS3.3 C.11.1.1 and C.7.6.3.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode


@dataclass(frozen=True)
class Lut:
    """A look-up table.

    Attributes:
        first: The input value that the first entry belongs to; smaller inputs take it too, and
            inputs beyond the last entry take the last.
        bits: Bits of an entry.
        entries: Unsigned integers.
    """

    first: int
    bits: int
    entries: NDArray[np.uint16]

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Look values up."""
        return self.entries[self.index(values)].astype(np.float64)

    def index(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """The number of the entry of each value."""
        beyond = np.floor(values).astype(np.int64) - self.first
        return np.clip(beyond, 0, len(self.entries) - 1)


def read_lut(descriptor: Sequence[Any], data: bytes | Sequence[int], little_endian: bool) -> Lut:
    """Read a table from its descriptor and its data.

    Args:
        descriptor: Number of entries (0 for 65,536), first input value, bits of an entry.
        data: The entries, as numbers, or as bytes of one or two an entry.
        little_endian: Byte order of the file.

    Raises:
        ImageRejected: It has no entries.
    """
    count, first, bits = (int(value) for value in descriptor)
    count = count % 65536 or 65536
    if isinstance(data, bytes):
        wide = "<u2" if little_endian else ">u2"
        entries = np.frombuffer(data, np.uint8 if len(data) < 2 * count else wide)
    else:
        entries = np.asarray(data)
    entries = (entries.astype(np.int64) & 0xFFFF)[:count]
    if len(entries) == 0:
        raise ImageRejected(RejectCode.DAMAGED_HEADER, "a look-up table without entries")
    return Lut(first, bits, entries.astype(np.uint16))
