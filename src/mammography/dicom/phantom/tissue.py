"""What fills a synthetic breast: fat, fibroglandular tissue, ligaments, vessels, muscle, skin.

Everything is computed on a grid of moderate size in units of the image height, so that an image
looks the same at every size. Brightness is that of a processed image: 0 is air, 1 full white.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mammography.dicom.phantom.anatomy import Anatomy
from mammography.dicom.phantom.texture import power_law_noise, sampled, smoothstep, strands

#: Depth below the skin, in image heights, over which the compressed breast gains full thickness.
ROUNDED_EDGE = 0.07


@dataclass(frozen=True)
class Grid:
    """Pixel centres of an image of so many rows and columns.

    Attributes:
        rows: Height.
        columns: Width.
        x: Across, float32 of shape (rows, columns), in units of the image height.
        y: Down, likewise.
    """

    rows: int
    columns: int
    x: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, rows: int, columns: int, width: float) -> Grid:
        """The grid of an image that is `width` heights wide."""
        y, x = np.indices((rows, columns), dtype=np.float32) + np.float32(0.5)
        return cls(rows, columns, x * np.float32(width / columns), y / np.float32(rows))


@dataclass(frozen=True)
class Tissue:
    """The inside of a breast on a grid; all float32 of shape (rows, columns).

    Attributes:
        brightness: 0 to about 1; also given outside the breast, near its edge.
        score: Positive where tissue is fibroglandular.
        depth: Distance to the skin in image heights, 0 outside.
        muscle_depth: Distance to the edge of the pectoral muscle, 0 outside it.
    """

    brightness: np.ndarray
    score: np.ndarray
    depth: np.ndarray
    muscle_depth: np.ndarray


@dataclass(frozen=True)
class _Fields:
    """The random fields that all structures of a breast are read from."""

    broad: np.ndarray
    fine: np.ndarray
    lobules: np.ndarray
    radial: np.ndarray
    ducts: np.ndarray
    ligaments: np.ndarray


def filled(polygon: np.ndarray, rows: int, columns: int, margin: int = 0) -> np.ndarray:
    """A closed polygon in units of the image height as a mask, uint8 0 or 1.

    Args:
        polygon: Shape (points, 2).
        rows: Height of the image that the polygon's unit is.
        columns: Its width.
        margin: Pixels that the mask has beyond the image on every side.
    """
    mask = np.zeros((rows + 2 * margin, columns + 2 * margin), np.uint8)
    points = np.round((polygon * rows - 0.5 + margin) * 256).astype(np.int32)
    if len(points):
        cv2.fillPoly(mask, [points], 1, lineType=cv2.LINE_8, shift=8)
    return mask


def tissue(
    shape: Anatomy,
    grid: Grid,
    percent_dense: float,
    woman: np.random.Generator,
    rng: np.random.Generator,
) -> Tissue:
    """Fill a breast.

    Args:
        shape: Where things lie.
        grid: The pixels to compute.
        percent_dense: Share of the breast without the muscle that is to be dense, 0 to 100.
        woman: Randomness that the four images of a woman share.
        rng: Randomness of this view.
    """
    depth = _depth_within(shape.outline, grid)
    muscle_depth = _depth_within(shape.muscle, grid)
    fields = _fields(shape, grid, woman, rng)
    score = _glandular_score(shape, grid, depth, fields)
    breast = (depth > 0) & (muscle_depth == 0)
    score -= np.float32(np.quantile(score[breast], 1 - percent_dense / 100))
    brightness = _brightness(score, depth, fields) + _vessels(shape, grid, rng)
    brightness += _muscle(brightness, muscle_depth, grid, fields)
    return Tissue(brightness, score, depth, muscle_depth)


def _depth_within(polygon: np.ndarray, grid: Grid) -> np.ndarray:
    """Distance to a polygon's edge, where the image's own edges are none."""
    margin = grid.rows // 8
    mask = filled(polygon, grid.rows, grid.columns, margin)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5)
    return distance[margin:-margin, margin:-margin] / np.float32(grid.rows)


def _fields(
    shape: Anatomy, grid: Grid, woman: np.random.Generator, rng: np.random.Generator
) -> _Fields:
    size = 1024 if grid.rows > 512 else 512
    hers = power_law_noise(size, woman)
    own = power_law_noise(size, rng)
    coarse = power_law_noise(size // 2, rng, beta=5.0, coarsest=9.0)
    delicate = power_law_noise(size // 2, rng, beta=5.0, coarsest=28.0)
    lobules = sampled(coarse, grid.x, grid.y)
    # Ducts and ligaments run, a little bent, towards a point before the nipple.
    across = grid.x - (shape.nipple[0] + 0.22)
    down = grid.y - shape.nipple[1]
    distance = np.hypot(across, down)
    straight = np.arctan2(down, -across)
    angle = straight + 0.04 * lobules
    return _Fields(
        broad=sampled(hers, grid.x + rng.uniform(-0.04, 0.04), grid.y + rng.uniform(-0.04, 0.04)),
        fine=sampled(own, grid.x, grid.y),
        lobules=lobules,
        radial=sampled(own, 0.7 * angle, 0.3 * distance),
        ducts=sampled(coarse, 0.8 * angle + 0.3, 0.5 * distance),
        ligaments=sampled(delicate, 0.8 * straight + 0.004 * lobules, 0.2 * distance),
    )


def _glandular_score(shape: Anatomy, grid: Grid, depth: np.ndarray, fields: _Fields) -> np.ndarray:
    """Where fibroglandular tissue is likely: behind the nipple, not under the skin, in lobules."""
    x = (grid.x - shape.gland[0]) / shape.spread[0]
    y = (grid.y - shape.gland[1]) / shape.spread[1]
    score = -1.3 * (x * x + y * y) - 5 * np.exp(-depth / 0.02) - 0.5 * np.exp(-grid.x / 0.03)
    score += 0.65 * fields.broad + 0.2 * fields.fine + 0.45 * fields.radial
    score -= 0.5 * np.abs(fields.lobules) + 0.3 * np.abs(fields.ducts)
    return score.astype(np.float32)


def _brightness(score: np.ndarray, depth: np.ndarray, fields: _Fields) -> np.ndarray:
    """Fat, the strands in it, fibroglandular tissue and skin."""
    thickness = np.sqrt(1 - (1 - np.clip(depth / ROUNDED_EDGE, 0, 1)) ** 2)
    texture = 0.5 * fields.fine + 0.5 * fields.radial
    fat = 0.05 + thickness * (0.2 + 0.03 * texture)
    lines = strands(fields.ligaments, 0.2) * smoothstep(0.4 + 0.6 * fields.ducts)
    lines += strands(fields.ligaments + 1, 0.2) * smoothstep(0.4 - 0.6 * fields.lobules)
    fat += 0.04 * lines * smoothstep(depth / 0.03)
    gland = 0.2 + 0.14 * np.tanh(score) + 0.09 * texture - 0.05 * np.abs(fields.lobules)
    gland *= smoothstep(score + 0.5) * smoothstep(depth / 0.02)
    skin = 0.05 * np.exp(-(((depth - 0.002) / 0.003) ** 2))
    return (fat + np.maximum(gland, 0) + skin).astype(np.float32)


def _vessels(shape: Anatomy, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """One to three veins that wind from the chest wall towards the nipple."""
    drawn = np.zeros((grid.rows, grid.columns), np.float32)
    for _ in range(rng.integers(1, 4)):
        start = np.array([0.0, shape.gland[1] + rng.uniform(-1.1, 1.1) * shape.spread[1]])
        end = np.array(shape.nipple) + rng.normal([-0.06, 0], 0.05)
        way = np.linspace(0, 1, 60)[:, np.newaxis]
        bend = rng.normal(0, 0.05) * np.sin(np.pi * way) + rng.normal(0, 0.012) * np.sin(13 * way)
        path = start + (end - start) * way + bend * [0.3, 1.0]
        points = np.round(path * grid.rows * 16).astype(np.int32)
        width = max(1, round(grid.rows * rng.uniform(0.002, 0.005)))
        contrast = float(rng.uniform(0.02, 0.045))
        one = np.zeros_like(drawn)
        cv2.polylines(one, [points], False, contrast, width, cv2.LINE_8, shift=4)
        np.maximum(drawn, one, out=drawn)
    return cv2.GaussianBlur(drawn, (0, 0), grid.rows * 0.0012)


def _muscle(brightness: np.ndarray, depth: np.ndarray, grid: Grid, fields: _Fields) -> np.ndarray:
    """What the pectoral muscle adds to what lies before and behind it."""
    fibres = sampled(fields.lobules, 0.3 * grid.x + 0.2 * grid.y, 2.0 * grid.x - 0.6 * grid.y)
    own = 0.22 + 0.16 * smoothstep(depth / 0.25) + 0.01 * fibres + 0.02 * fields.broad
    return smoothstep(depth / 0.012) * (own - 0.5 * (brightness - 0.3))
