"""The shapes of a synthetic breast: skin line, nipple and pectoral muscle.

Coordinates are (x, y) in units of the image height, of a left breast: the chest wall is the line
x = 0, y points down from the upper edge of the image. All shapes reach beyond the image where the
body does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Anatomy:
    """Where things lie in one view of one breast.

    Attributes:
        outline: Closed polygon of everything within the skin, shape (points, 2).
        muscle: Closed polygon of the pectoral muscle, shape (points, 2); empty on CC.
        nipple: Its position.
        gland: Centre of the fibroglandular tissue.
        spread: Half axes of the fibroglandular tissue along x and y.
    """

    outline: np.ndarray
    muscle: np.ndarray
    nipple: tuple[float, float]
    gland: tuple[float, float]
    spread: tuple[float, float]


def anatomy(view: str, woman: np.random.Generator, rng: np.random.Generator) -> Anatomy:
    """The shapes of one view: the woman's own, with the differences of side and compression.

    Args:
        view: "CC" or "MLO".
        woman: Randomness that the four images of a woman share.
        rng: Randomness of this view.
    """
    depth = woman.uniform(0.32, 0.52)
    height = depth * woman.uniform(0.72, 0.92)
    droop = woman.uniform(0.0, 1.0)
    depth *= rng.uniform(0.96, 1.04)
    height *= rng.uniform(0.97, 1.03)
    if view == "CC":
        return _cranio_caudal(depth, height, rng)
    return _medio_lateral_oblique(depth, height, droop, rng)


def _cranio_caudal(depth: float, height: float, rng: np.random.Generator) -> Anatomy:
    """Half a superellipse, a little fuller on the outer side, which hangs above."""
    middle = 0.5 + rng.uniform(-0.03, 0.03)
    angle = np.linspace(-0.5, 0.5, 400) * np.pi
    fullness = rng.uniform(0.82, 0.94)
    x = depth * np.abs(np.cos(angle)) ** fullness
    y = np.sign(angle) * np.abs(np.sin(angle)) ** rng.uniform(0.9, 1.0)
    y *= np.where(angle < 0, height * rng.uniform(1.0, 1.1), height)
    flare = 0.015 * np.exp(-x / 0.05) * np.sign(angle)
    skin = np.stack([x, middle + y + flare], axis=1)
    skin, nipple = _with_nipple(skin, np.array([1.0, rng.uniform(-0.06, 0.06)]), rng)
    outline = np.concatenate([[[-0.3, skin[0, 1]]], skin, [[-0.3, skin[-1, 1]]]])
    gland = (0.47 * depth, middle - 0.06 * height)
    return Anatomy(outline, np.empty((0, 2)), nipple, gland, (0.46 * depth, 0.62 * depth))


def _medio_lateral_oblique(
    depth: float, height: float, droop: float, rng: np.random.Generator
) -> Anatomy:
    """Axillary fold, breast, inframammary fold and a little of the abdomen."""
    level = 0.55 + 0.08 * droop + rng.uniform(-0.02, 0.02)
    fold = min(level + height * (0.9 - 0.1 * droop), 0.96)
    armpit = depth * rng.uniform(0.62, 0.8)
    through = np.array(
        [
            [armpit * 1.1, -0.3],
            [armpit, 0.0],
            [armpit * 1.02, level - 1.1 * height],
            [depth * 0.84, level - 0.62 * height],
            [depth * 0.98, level - 0.25 * height],
            [depth * (1.01 + 0.02 * droop), level + 0.12 * height],
            [depth * (0.88 + 0.06 * droop), fold - 0.32 * height],
            [depth * (0.5 + 0.1 * droop), fold - 0.06 * height],
            [0.1, fold],
            [0.0, fold + 0.012],
            [-0.1, fold + 0.04],
            [-0.3, fold + 0.1],
        ]
    )
    skin = _smooth_curve(through)
    skin, nipple = _with_nipple(skin, np.array([1.0, 0.15 + 0.25 * droop]), rng)
    outline = np.concatenate([[[-0.3, -0.3]], skin])
    top = armpit * rng.uniform(0.6, 0.78)
    foot = rng.uniform(0.5, 0.72)
    along = np.linspace(-0.3, 1.1, 60)
    bulge = rng.uniform(0.0, 0.05) * np.sin(np.clip(along, 0, 1) * np.pi)
    edge = np.stack([top * (1 - along) + bulge * (1 - along), foot * along], axis=1)
    muscle = np.concatenate([edge, [[-0.3, foot * 1.1], [-0.3, -0.3]]])
    gland = (0.5 * depth, level - 0.12 * height)
    return Anatomy(outline, muscle, nipple, gland, (0.44 * depth, 0.62 * depth))


def _smooth_curve(points: np.ndarray, count: int = 600) -> np.ndarray:
    """A smooth curve close to a polygon: walked at even steps, then averaged along the way."""
    walked = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    steps = np.linspace(0, walked[-1], count)
    curve = np.stack([np.interp(steps, walked, axis) for axis in points.T], axis=1)
    window = np.hanning(count // 9)
    window /= window.sum()
    padded = np.pad(curve, ((len(window) // 2, (len(window) - 1) // 2), (0, 0)), mode="edge")
    return np.stack([np.convolve(axis, window, mode="valid") for axis in padded.T], axis=1)


def _with_nipple(
    skin: np.ndarray, direction: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[float, float]]:
    """Raise a nipple where the skin reaches furthest in a direction."""
    apex = int(np.argmax(skin @ direction))
    distance = np.hypot(*(skin - skin[apex]).T)
    bump = rng.uniform(0.005, 0.011) * np.exp(-((distance / 0.014) ** 3))
    outward = direction / np.hypot(*direction)
    nipple = (float(skin[apex, 0]), float(skin[apex, 1]))
    return skin + bump[:, np.newaxis] * outward, nipple
