"""Where the breast is on a gray mammogram, and where the pectoral muscle covers it.

Digitised films carry labels, tape and a background that is not black; oblique views show the
pectoral muscle, which is as bright as dense tissue and none of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Rows and columns of the copy that is looked at.
SIDE = 512

#: Views on which the pectoral muscle crosses a corner of the picture.
OBLIQUE = ("MLO", "LMO")

#: Skin is darker than Otsu's threshold between breast and film; this share of it finds the skin.
_SKIN_SHARE = 0.35

#: Radius in pixels that labels and scratches are cut off by, and that of the smoothing before.
_OPENING, _SMOOTHING = 8, 2.0

#: A component smaller than this share of the picture is no breast.
_SMALLEST = 0.02

#: Mean brightness step along the muscle's edge below which there is no muscle to be seen, and the
#: share of the breast above which it is none.
_FAINTEST_EDGE, _LARGEST_MUSCLE = 0.02, 0.5


@dataclass(frozen=True, eq=False)
class Breast:
    """A gray mammogram turned so that the chest wall is on its left, and its parts.

    Attributes:
        gray: (rows, columns) float32.
        breast: (rows, columns) all of the breast, the muscle included.
        muscle: (rows, columns) the pectoral muscle; empty where none was looked for or found.
    """

    gray: Gray
    breast: Mask
    muscle: Mask

    @property
    def tissue(self) -> Mask:
        """The breast without the muscle."""
        return self.breast & ~self.muscle


def find_breast(gray: Gray, view: str | None) -> Breast:
    """Find breast and pectoral muscle.

    The breast is the largest component that is brighter than a share of Otsu's threshold (1979),
    after an opening that cuts off labels, tape and scratches. Where nothing large enough is found,
    all of the picture counts. The muscle is looked for in `OBLIQUE` views only: it is what lies
    beyond the straight line across the upper corner at the chest wall along which brightness falls
    most (after Karssemeijer 1998, "Automated classification of parenchymal patterns in
    mammograms", who finds that line by a Hough transform).

    Args:
        gray: (rows, columns) in [0, 1], the breast bright; square, so that slopes are true.
        view: View Position of the header; None where unknown.

    Returns:
        The picture mirrored where the chest wall is on its right, with both masks.
    """
    small = np.asarray(cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)
    breast = _breast(small)
    mirrored = not _chest_is_left(breast)
    if mirrored:
        gray, small, breast = gray[:, ::-1], small[:, ::-1], breast[:, ::-1]
    muscle = np.zeros_like(breast)
    if view in OBLIQUE:
        muscle = _muscle(np.ascontiguousarray(small), breast)
    rows, columns = gray.shape
    full_size = [
        cv2.resize(mask.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST) > 0
        for mask in (breast, muscle)
    ]
    return Breast(np.ascontiguousarray(gray), *full_size)


def otsu(values: NDArray[np.floating], levels: int = 256) -> float:
    """Otsu's threshold (1979) of values in [0, 1]: the two sides' means differ most, weighted.

    Args:
        values: Any shape.
        levels: Bins of equal width that the values are counted in.

    Returns:
        The middle of a bin; 0.5 where all values share one.
    """
    counts, edges = np.histogram(values, bins=levels, range=(0, 1))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
    between = np.where((below > 0) & (above > 0), below * above * distance**2, -1.0)
    return float(middles[between.argmax()]) if between.max() > 0 else 0.5


def _smooth(gray: Gray, sigma: float) -> Gray:
    return np.asarray(cv2.GaussianBlur(gray, (0, 0), sigma), np.float32)


def _breast(small: Gray) -> Mask:
    smooth = _smooth(small, _SMOOTHING)
    bright = (smooth > _SKIN_SHARE * otsu(smooth)).astype(np.uint8)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _OPENING + 1, 2 * _OPENING + 1))
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, disk, borderType=cv2.BORDER_REPLICATE)
    _, components, sizes, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    areas = sizes[1:, cv2.CC_STAT_AREA]
    if not len(areas) or areas.max() < _SMALLEST * small.size:
        return np.ones(small.shape, dtype=bool)
    return _filled(components == 1 + areas.argmax())


def _filled(mask: Mask) -> Mask:
    """Without holes: all that is not reached from outside the picture."""
    padded = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, components = cv2.connectedComponents(padded, connectivity=4)
    return np.asarray(components != components[0, 0])[1:-1, 1:-1]


def _chest_is_left(breast: Mask) -> bool:
    """The chest wall is the straight side, so more of the breast lies along it."""
    columns = np.flatnonzero(breast.any(axis=0))
    first, last = columns[0], columns[-1] + 1
    edge = max(1, (last - first) // 16)
    return bool(breast[:, first : first + edge].sum() >= breast[:, last - edge : last].sum())


def _muscle(small: Gray, breast: Mask) -> Mask:
    """The triangle at the upper left whose third side is the steepest fall of brightness."""
    rows, columns = np.flatnonzero(breast.any(axis=1)), np.flatnonzero(breast.any(axis=0))
    top, left = rows[0], columns[0]
    across, down = (
        np.ravel(side)
        for side in np.meshgrid(
            np.linspace(0.12, 1.0, 45) * len(columns), np.linspace(0.15, 0.95, 45) * len(rows)
        )
    )
    slope = np.degrees(np.arctan2(across, down))  # against the chest wall
    score = np.where((slope > 12) & (slope < 60), _fall(small, breast, across, down), -1.0)
    best = score.argmax()
    if score[best] < _FAINTEST_EDGE:
        return np.zeros_like(breast)
    row, column = np.indices(small.shape)
    muscle = breast & ((column - left) / across[best] + (row - top) / down[best] < 1)
    return muscle if muscle.sum() < _LARGEST_MUSCLE * breast.sum() else np.zeros_like(breast)


def _fall(
    small: Gray, breast: Mask, across: NDArray[np.float64], down: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much brightness falls across each line, the steps' mean and their lower fifth.

    Args:
        small: The picture.
        breast: Lines that leave it score -1.
        across: (lines,) where each meets the breast's upper edge, in pixels from its corner.
        down: (lines,) where it meets the chest wall.
    """
    top, left = breast.any(axis=1).argmax(), breast.any(axis=0).argmax()
    share = np.linspace(0.06, 0.94, 64)
    column = left + across[:, None] * (1 - share)
    row = top + down[:, None] * share
    length = np.hypot(across, down)[:, None]
    out_column, out_row = 5 * down[:, None] / length, 5 * across[:, None] / length

    def along(picture: Gray, steps: int) -> Gray:
        at = (column + steps * out_column), (row + steps * out_row)
        values = cv2.remap(
            picture,
            at[0].astype(np.float32),
            at[1].astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(values, np.float32)

    smooth = _smooth(small, 3.0)
    step = np.clip(along(smooth, -1) - along(smooth, 1), -0.05, 0.12)
    inside = along(breast.astype(np.float32), 0).mean(axis=1) > 0.97
    return np.where(inside, step.mean(axis=1) + 0.3 * np.quantile(step, 0.2, axis=1), -1.0)
