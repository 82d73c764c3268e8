"""Placing an image of any size on a canvas of fixed size, in exact integer arithmetic.

Every output pixel is a weighted sum of input pixels whose weights are integers over one common
denominator, so the result does not depend on the machine, the compiler or the order of summation.
Axes that shrink are averaged over the area each output pixel covers; axes that grow are
interpolated linearly between pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray

Resize = Literal["letterbox", "stretch", "crop"]


@dataclass(frozen=True)
class Placement:
    """Where an image lands on its canvas.

    Attributes:
        source: (rows, columns) of the part of the image that is used.
        origin: (row, column) of that part's first pixel in the image.
        content: (rows, columns) that this part takes on the canvas.
        offset: (row, column) of the content on the canvas.
        canvas: (rows, columns) of the canvas.
    """

    source: tuple[int, int]
    origin: tuple[int, int]
    content: tuple[int, int]
    offset: tuple[int, int]
    canvas: tuple[int, int]

    def to_canvas(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Carry points from the image to the canvas.

        Args:
            points: (…, 2) rows and columns, in which pixel 0 reaches from 0 to 1.
        """
        return (points - np.array(self.origin)) * self.scale + np.array(self.offset)

    def to_image(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Carry points from the canvas back to the image; arguments as in `to_canvas`."""
        return (points - np.array(self.offset)) / self.scale + np.array(self.origin)

    @property
    def scale(self) -> NDArray[np.float64]:
        """Pixels of the canvas in a pixel of the image, along rows and columns."""
        return np.array(self.content) / np.array(self.source)


def place(shape: tuple[int, int], canvas: tuple[int, int], resize: Resize) -> Placement:
    """Decide how an image fills a canvas.

    Args:
        shape: (rows, columns) of the image.
        canvas: (rows, columns) to fill.
        resize: "letterbox" keeps the aspect ratio and centres the image between black bars;
            "stretch" gives the aspect ratio up; "crop" keeps it and loses what sticks out.
    """
    (rows, columns), (height, width) = shape, canvas
    source, content = shape, canvas
    if resize == "letterbox":
        if rows * width >= columns * height:
            content = (height, max(1, _nearest(columns * height, rows)))
        else:
            content = (max(1, _nearest(rows * width, columns)), width)
    elif resize == "crop":
        if rows * width >= columns * height:
            source = (max(1, _nearest(columns * height, width)), columns)
        else:
            source = (rows, max(1, _nearest(rows * width, height)))
    return Placement(
        source=source,
        origin=((rows - source[0]) // 2, (columns - source[1]) // 2),
        content=content,
        offset=((height - content[0]) // 2, (width - content[1]) // 2),
        canvas=canvas,
    )


def _nearest(numerator: int, denominator: int) -> int:
    """The nearest integer to a fraction, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)


def carry_back(
    values: NDArray[np.float32],
    placement: Placement,
    image: tuple[int, int],
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """Carry a map on the canvas back to the image, by linear interpolation between pixel centres.

    Args:
        values: One value for each pixel of the canvas.
        placement: Of the image on that canvas.
        image: (rows, columns) of the image.
        shape: (rows, columns) of the picture of the whole image that is wanted.

    Returns:
        The map over that picture; 0 where the canvas does not show the image.
    """
    start, step = placement.to_canvas(np.zeros(2)), placement.scale * np.array(image) / shape
    rows, columns = (start[axis] + (np.arange(shape[axis]) + 0.5) * step[axis] for axis in (0, 1))
    along_rows = _interpolated(values, rows - 0.5)
    carried = _interpolated(along_rows.T, columns - 0.5).T
    shown = [
        _between(placement.origin[axis], placement.source[axis], image[axis], shape[axis])
        for axis in (0, 1)
    ]
    return np.where(shown[0][:, None] & shown[1], carried, np.float32(0))


def _between(first: int, count: int, source: int, target: int) -> NDArray[np.bool_]:
    """Which of `target` pixels over `source` ones have their centre within those from `first`."""
    centres = (2 * np.arange(target) + 1) * source  # in units of 1 / (2 · target) of a pixel
    return (centres >= 2 * target * first) & (centres <= 2 * target * (first + count))


def _interpolated(
    values: NDArray[np.float32], positions: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Rows between rows; beyond the ends, the row at the end."""
    positions = np.clip(positions, 0, len(values) - 1)
    first = np.minimum(positions.astype(np.int64), max(len(values) - 2, 0))
    share = (positions - first).astype(np.float32)[:, None]
    after = np.minimum(first + 1, len(values) - 1)
    return values[first] * (1 - share) + values[after] * share


def resample(
    pixels: NDArray[np.uint16], table: NDArray[np.uint16], shape: tuple[int, int]
) -> tuple[NDArray[np.int64], int]:
    """Look pixels up in a table and resize the result.

    Args:
        pixels: (rows, columns).
        table: 65,536 values, one for each possible pixel.
        shape: (rows, columns) wanted.

    Returns:
        Integers of that shape, and the denominator that makes them the mean of the table's values.
    """
    starts, weights, row_sum = _taps(pixels.shape[0], shape[0])
    # Rows first: whole rows are added up, which processors do many pixels at a time.
    exact = np.uint32 if row_sum <= 0x10000 else np.uint64  # holds row_sum · 65,535
    low = _shrink_rows(pixels, table, starts, weights.astype(exact))
    starts, weights, column_sum = _taps(pixels.shape[1], shape[1])
    return _shrink_columns(low, starts, weights), column_sum * row_sum


def _taps(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """For each output position: the first input position, the weights from there, their sum."""
    position = np.arange(target, dtype=np.int64)
    if target < source:
        # In units of 1/target of an input pixel, output d covers [d·source, (d+1)·source).
        first = position * source // target
        index = first[:, None] + np.arange(min(source, (source - 1) // target + 2))
        left = np.maximum(index * target, (position * source)[:, None])
        right = np.minimum((index + 1) * target, ((position + 1) * source)[:, None])
        weights, total = np.maximum(right - left, 0), source
    else:
        # In units of 1/(2·target), the centre of output d lies at (2d+1)·source - target.
        centre = np.clip((2 * position + 1) * source - target, 0, 2 * target * (source - 1))
        first = np.minimum(centre // (2 * target), max(source - 2, 0))
        beyond = centre - first * 2 * target
        weights, total = np.stack([2 * target - beyond, beyond], axis=1), 2 * target
        weights = weights[:, :source]
    return _within(first, weights, source), weights, total


def _within(first: NDArray[np.int64], weights: NDArray[np.int64], source: int) -> NDArray[np.int64]:
    """Shift windows that reach past the end back inside, moving their weights along."""
    over = np.maximum(first + weights.shape[1] - source, 0)
    for row in np.flatnonzero(over):
        weights[row] = np.roll(weights[row], over[row])
    return first - over


@numba.njit(nogil=True, cache=True)
def _shrink_rows(pixels, table, starts, weights):  # type: ignore[no-untyped-def]
    targets, taps, columns = starts.shape[0], weights.shape[1], pixels.shape[1]
    low = np.zeros((targets, columns), weights.dtype)
    for target in range(targets):
        for tap in range(taps):
            weight = weights[target, tap]
            row = starts[target] + tap
            for column in range(columns):
                low[target, column] += weight * table[pixels[row, column]]
    return low


@numba.njit(nogil=True, cache=True)
def _shrink_columns(low, starts, weights):  # type: ignore[no-untyped-def]
    rows, targets, taps = low.shape[0], starts.shape[0], weights.shape[1]
    small = np.empty((rows, targets), np.int64)
    for row in range(rows):
        for target in range(targets):
            total = np.int64(0)
            for tap in range(taps):
                total += weights[target, tap] * np.int64(low[row, starts[target] + tap])
            small[row, target] = total
    return small
