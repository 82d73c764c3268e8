"""Masses and clusters of microcalcifications with known boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = ("mass", "calcification")


@dataclass(frozen=True)
class Finding:
    """A lesion and its box in pixels of the stored image.

    Attributes:
        kind: "mass" or "calcification" (a cluster).
        x_min: First column.
        y_min: First row.
        x_max: Last column plus one (half-open).
        y_max: Last row plus one (half-open).
    """

    kind: str
    x_min: int
    y_min: int
    x_max: int
    y_max: int

    def mirrored(self, columns: int) -> Finding:
        """The same finding in the image turned left to right."""
        return Finding(
            self.kind, columns - self.x_max, self.y_min, columns - self.x_min, self.y_max
        )


def kinds_of(rng: np.random.Generator) -> tuple[str, ...]:
    """What one breast has: a mass, a cluster, or (one in five) both."""
    draw = rng.random()
    return KINDS if draw < 0.2 else KINDS[:1] if draw < 0.65 else KINDS[1:]


def add_mass(image: np.ndarray, x: float, y: float, rng: np.random.Generator) -> Finding:
    """Add a soft mass with a slightly spiculated edge, in place.

    Its radius is 1.5 to 4 % of the image height (3.5 to 9 mm on a detector of 233 mm).

    Args:
        image: float32 brightness, shape (rows, columns); changed.
        x: Centre in image heights.
        y: Centre in image heights.
        rng: Where the randomness comes from.

    Returns:
        The mass, with the box of the pixels that it brightens by a quarter of its contrast.
    """
    rows, columns = image.shape
    radius = max(4.0, rng.uniform(0.015, 0.04) * rows)
    contrast = rng.uniform(0.16, 0.26)
    reach = int(np.ceil(2.2 * radius))
    column, row = round(x * rows), round(y * rows)
    top, bottom = max(0, row - reach), min(rows, row + reach + 1)
    left, right = max(0, column - reach), min(columns, column + reach + 1)
    down, across = np.mgrid[top:bottom, left:right].astype(np.float32)
    down, across = down - row, across - column
    angle = np.arctan2(down, across)
    edge = np.full_like(angle, radius)
    for order in range(2, 20):
        swing = radius * rng.normal(0, 0.05 if order < 6 else 0.025)
        edge += swing * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    profile = 1 / (1 + np.exp((np.hypot(down, across) / edge - 1) / 0.13))
    image[top:bottom, left:right] += np.float32(contrast) * profile
    return _boxed("mass", profile > 0.25, top, left)


def add_calcifications(image: np.ndarray, x: float, y: float, rng: np.random.Generator) -> Finding:
    """Add a cluster of 6 to 20 microcalcifications, in place.

    The cluster is 2 to 4 % of the image height wide, the specks 0.1 to 0.25 % (0.2 to 0.6 mm on a
    detector of 233 mm), and never less than a pixel.

    Args:
        image: float32 brightness, shape (rows, columns); changed.
        x: Centre in image heights.
        y: Centre in image heights.
        rng: Where the randomness comes from.

    Returns:
        The cluster, with the box of its specks.
    """
    rows, columns = image.shape
    spread = rng.uniform(0.006, 0.011) * rows
    reach = int(np.ceil(2.5 * spread + 0.005 * rows + 2))
    top, left = max(0, round(y * rows) - reach), max(0, round(x * rows) - reach)
    down, across = np.mgrid[
        top : min(rows, top + 2 * reach), left : min(columns, left + 2 * reach)
    ].astype(np.float32)
    specks = np.zeros_like(down)
    for _ in range(rng.integers(6, 21)):
        offset = np.clip(rng.normal(0, 1, 2), -2, 2) * spread
        size = max(0.6, rng.uniform(0.0005, 0.00125) * rows)
        stretch = rng.uniform(0.7, 1.4)
        squared = ((across - x * rows - offset[0]) / (size * stretch)) ** 2
        squared += ((down - y * rows - offset[1]) / size * stretch) ** 2
        np.maximum(specks, rng.uniform(0.6, 1.0) * np.exp(-(squared**2)), out=specks)
    patch = image[top : top + specks.shape[0], left : left + specks.shape[1]]
    patch += np.float32(rng.uniform(0.3, 0.45)) * specks
    return _boxed("calcification", specks > 0.2, top, left)


def _boxed(kind: str, mask: np.ndarray, top: int, left: int) -> Finding:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Finding(
        kind,
        int(left + columns[0]),
        int(top + rows[0]),
        int(left + columns[-1] + 1),
        int(top + rows[-1] + 1),
    )
