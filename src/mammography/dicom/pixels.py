"""From a DICOM file to the stored values of one gray image, every choice recorded.

Only the frame that is asked for is read: a tomosynthesis stack of a gigabyte costs one frame of
memory. What the values mean (inversion, rescale, VOI, padding) is returned beside them and applied
by the recipe, never here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mammography.dicom.data_set import read_header
from mammography.dicom.frames import Frames
from mammography.dicom.grayscale import Grayscale, grayscale_of
from mammography.dicom.header import facts_of, number_at
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

DEFAULT_MAX_PIXELS = 100_000_000

#: Which frame of a multi-frame image: the middle one, the brightest of all, or one by its number,
#: counted from 1.
Frame = Literal["middle", "max"] | int


@dataclass(frozen=True)
class StoredImage:
    """One gray image as it is stored, and what its values mean.

    Attributes:
        pixels: (rows, columns) of 8- or 16-bit integers, or float32 where the file holds floats.
        inverted: True where larger values are darker (MONOCHROME1).
        padding: Inclusive range of stored values that are no image, or None.
        grayscale: Rescale, modality LUT and VOI as the header gives them.
        frame: Number of the frame that was read, from 1; 0 for a maximum projection.
        full_size: (rows, columns) at full resolution; differs from `pixels` after reduced decoding.
    """

    pixels: NDArray[Any]
    inverted: bool = False
    padding: tuple[int, int] | None = None
    grayscale: Grayscale = field(default_factory=Grayscale)
    frame: int = 1
    full_size: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.full_size == (0, 0):
            object.__setattr__(self, "full_size", self.pixels.shape)


def check_size(rows: int, columns: int, max_pixels: int) -> None:
    """Refuse an image by its claimed size, before any memory is taken for it.

    Raises:
        ImageRejected: No pixels, or more than `max_pixels`.
    """
    if rows <= 0 or columns <= 0:
        raise ImageRejected(RejectCode.DAMAGED_HEADER, f"an image of {rows} × {columns} pixels")
    if rows * columns > max_pixels:
        raise ImageRejected(
            RejectCode.TOO_LARGE,
            f"claims {rows:,} × {columns:,} pixels, more than the limit of {max_pixels:,} "
            "(--max-pixels)",
        )


def read_dicom(
    file: BinaryIO,
    *,
    frame: Frame = "middle",
    reduce: int = 0,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> StoredImage:
    """Read one gray image from a DICOM file.

    Args:
        file: The file, from its start.
        frame: Which frame of a multi-frame image.
        reduce: How often a wavelet codestream is halved while decoding, as far as it goes; other
            syntaxes, and colour, are decoded in full.
        max_pixels: Images with more pixels a frame are refused before memory is taken.

    Returns:
        The image.

    Raises:
        ImageRejected: The file is damaged or not an image.
    """
    header, stream = read_header(file)
    facts = facts_of(header)
    check_size(facts.rows, facts.columns, max_pixels)
    chosen = _frame_number(frame, facts.number_of_frames)
    frames = Frames(header, stream, facts, reduce)
    first, last = (chosen, chosen) if chosen else (1, facts.number_of_frames)
    inverted = facts.photometric_interpretation == "MONOCHROME1"
    pixels = frames.read(first)
    for number in range(first + 1, last + 1):
        pixels = (np.minimum if inverted else np.maximum)(pixels, frames.read(number))
    return StoredImage(
        pixels,
        inverted=inverted,
        padding=_padding(header, pixels.dtype.kind),
        grayscale=grayscale_of(header, first),
        frame=chosen,
        full_size=(facts.rows, facts.columns),
    )


def _frame_number(frame: Frame, count: int) -> int:
    """The number of a frame; 0 for the maximum of several."""
    if frame == "max":
        return 0 if count > 1 else 1
    number = (count + 1) // 2 if frame == "middle" else int(frame)
    if not 1 <= number <= count:
        raise ImageRejected(
            RejectCode.UNSUPPORTED, f"frame {number} is asked for; the image has {count}"
        )
    return number


def _padding(header: Dataset, kind: str) -> tuple[int, int] | None:
    """The range of padding values, which many a header gives with the wrong sign."""
    value = number_at(header, "PixelPaddingValue")
    if value is None or kind == "f":
        return None
    limit = number_at(header, "PixelPaddingRangeLimit")
    ends = [int(end) & 0xFFFF for end in (value, value if limit is None else limit)]
    if kind == "i":
        ends = [end - 0x10000 if end > 0x7FFF else end for end in ends]
    return min(ends), max(ends)
