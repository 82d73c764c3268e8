"""From stored values to brightness between 0 and 1, as one table for the whole image.

Modality and VOI transformations, inversion, the image's own percentiles and padding are all
functions of the stored value, so they fold into one table of 65,536 entries. Percentiles come from
the exact histogram; nothing passes through 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from mammography.dicom.pixels import StoredImage
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

Voi = Literal["none", "window", "lut", "sigmoid"]

_LEVELS = 1 << 16


@dataclass(frozen=True)
class Brightness:
    """An image and the table that turns its pixels into brightness.

    Attributes:
        pixels: (rows, columns) of uint16.
        table: 65,536 entries of uint16; entry 0 … `white` is black … white.
        white: The table's largest value; at least 1.
        low: The smallest level that is not clipped, in the unit of the stored values where no VOI
            is applied.
        high: The largest level that is not clipped.
        inverted: True where `low` became white and `high` black.
    """

    pixels: NDArray[np.uint16]
    table: NDArray[np.uint16]
    white: int
    low: float
    high: float
    inverted: bool


def brightness(image: StoredImage, tail: float, voi: Voi, voi_index: int) -> Brightness:
    """Build an image's brightness table.

    The darkest and the brightest `tail` of the pixels are clipped: black is the smallest level
    that at least a fraction `tail` of them does not exceed, white the largest
    that at least this fraction reaches (the inverted empirical distribution function, Hyndman and
    Fan 1996, definition 1, from either end). Padding becomes black, and counts as black.

    Args:
        image: Stored pixels and what they mean.
        tail: Fraction clipped at each end, in [0, 0.5).
        voi: Which VOI transformation comes first: none, the header's window with the header's
            function, the header's VOI LUT, or the header's window as a sigmoid.
        voi_index: Which of several windows or LUTs, from 0.

    Raises:
        ImageRejected: The header lacks the VOI asked for, or black and white coincide.
    """
    pixels, values = _as_levels(image.pixels)
    counts = _histogram(pixels)
    levels, inverted = _apply_voi(values, image, voi, voi_index)
    padding = _padding_levels(values, image.padding)
    if padding.any():
        levels = _with_dark_padding(levels, counts > 0, padding, inverted)
    low, high = _ends(levels, counts, tail)
    if low == high:
        raise ImageRejected(
            RejectCode.FLAT, f"no contrast: the {tail:.1%} percentiles at both ends are {low:g}"
        )
    clipped = np.clip(levels, low, high)
    table = (high - clipped) if inverted else (clipped - low)
    white = high - low
    table[padding] = 0
    return Brightness(
        pixels, table.astype(np.uint16), int(white), float(low), float(high), inverted
    )


def _as_levels(pixels: NDArray[Any]) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Pixels as indices into a table, and the stored value of each index."""
    index = np.arange(_LEVELS, dtype=np.float64)
    if pixels.dtype == np.int16:
        return pixels.view(np.uint16) ^ np.uint16(0x8000), index - 0x8000
    if pixels.dtype == np.int8:
        return (pixels.astype(np.int16) + 128).astype(np.uint16), index - 128
    if pixels.dtype.kind == "f":
        low, high = float(pixels.min()), float(pixels.max())
        step = (high - low) / (_LEVELS - 1)
        return np.rint((pixels.astype(np.float64) - low) / step).astype(
            np.uint16
        ), low + index * step
    return pixels.astype(np.uint16, copy=False), index


def _histogram(pixels: NDArray[np.uint16]) -> NDArray[np.int64]:
    """How many pixels there are of each of the 65,536 levels."""
    even, odd = _count(pixels.ravel())
    return even + odd


@numba.njit(nogil=True, cache=True)
def _count(pixels):  # type: ignore[no-untyped-def]
    # Two counters in turn: in a run of equal pixels each increment would wait for the one before.
    even, odd = np.zeros(65536, np.int64), np.zeros(65536, np.int64)
    for index in range(0, pixels.size - 1, 2):
        even[pixels[index]] += 1
        odd[pixels[index + 1]] += 1
    if pixels.size % 2:
        even[pixels[-1]] += 1
    return even, odd


def _padding_levels(
    values: NDArray[np.float64], padding: tuple[int, int] | None
) -> NDArray[np.bool_]:
    if padding is None:
        return np.zeros(values.shape, bool)
    return (values >= padding[0]) & (values <= padding[1])


def _with_dark_padding(
    levels: NDArray[np.int64],
    present: NDArray[np.bool_],
    padding: NDArray[np.bool_],
    inverted: bool,
) -> NDArray[np.int64]:
    """Levels in which padding is dark.

    Padding that is darker than all other pixels keeps its level: whether the header declares it
    makes no difference then, nor do the pixels between padding and tissue that lossy compression
    and reduced decoding leave. Other padding, and a sentinel further from the darkest other pixel
    than that is from the brightest, takes the level of the darkest.
    """
    other = levels[present & ~padding]
    if other.size == 0:
        raise ImageRejected(RejectCode.FLAT, "every pixel has the padding value")
    darkest = other.max() if inverted else other.min()
    below = levels[padding] - darkest if inverted else darkest - levels[padding]
    dark = (below >= 0) & (below <= other.max() - other.min())
    levels = levels.copy()
    levels[padding] = np.where(dark, levels[padding], darkest)
    return levels


def _apply_voi(
    values: NDArray[np.float64], image: StoredImage, voi: Voi, index: int
) -> tuple[NDArray[np.int64], bool]:
    """The level of each stored value, as integers, and whether larger is darker."""
    grayscale = image.grayscale
    if voi == "none":
        if grayscale.modality_lut is not None:
            return grayscale.modality_lut(values).astype(np.int64), image.inverted
        # A linear rescale cancels in the percentiles, except for the sign of its slope.
        levels = np.arange(_LEVELS, dtype=np.int64)
        return levels, image.inverted != (grayscale.slope < 0)
    modality = (
        grayscale.modality_lut(values)
        if grayscale.modality_lut is not None
        else values * grayscale.slope + grayscale.intercept
    )
    if voi == "lut":
        lut = _chosen(grayscale.voi_luts, index, "VOI LUT")
        return lut(modality).astype(np.int64), image.inverted
    window = _chosen(grayscale.windows, index, "window")
    function = "SIGMOID" if voi == "sigmoid" else grayscale.voi_function
    share = _windowed(modality, window, function)
    return np.rint(share * (_LEVELS - 1)).astype(np.int64), image.inverted


def _chosen(choices: tuple[Any, ...], index: int, what: str) -> Any:
    if index >= len(choices):
        raise ImageRejected(
            RejectCode.UNSUPPORTED,
            f"the recipe applies {what} {index} (counted from 0) and the header has {len(choices)}",
        )
    return choices[index]


def _windowed(
    values: NDArray[np.float64], window: tuple[float, float], function: str
) -> NDArray[np.float64]:
    """A window's output in [0, 1] (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    center, width = window
    if width <= 0 or (width < 1 and function == "LINEAR"):
        raise ImageRejected(RejectCode.MISMATCH, f"a window of width {width:g}")
    if function == "SIGMOID":
        exponent = np.clip(-4 * (values - center) / width, -700, 700)
        return 1 / (1 + np.exp(exponent))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _ends(levels: NDArray[np.int64], counts: NDArray[np.int64], tail: float) -> tuple[int, int]:
    """The levels that become the two ends of the scale."""
    by_level = np.bincount(levels, weights=counts, minlength=_LEVELS).astype(np.int64)
    needed = max(1, int(np.ceil(tail * by_level.sum())))
    low = int(np.searchsorted(np.cumsum(by_level), needed))
    high = int(_LEVELS - 1 - np.searchsorted(np.cumsum(by_level[::-1]), needed))
    return (low, high) if low <= high else (high, low)
