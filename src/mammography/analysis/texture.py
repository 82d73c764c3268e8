"""Texture inside a mask: local binary patterns and gray-level co-occurrence, as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.feature import graycomatrix, local_binary_pattern

Gray = NDArray[np.float32]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

#: Points and radius in pixels of the circle that a pixel is compared with.
POINTS, RADIUS = 24, 3

#: Gray levels that co-occurrence is counted in.
LEVELS = 16

#: 0, 45, 90 and 135 degrees.
_DIRECTIONS = np.arange(4) * np.pi / 4

CO_OCCURRENCE = ("contrast", "homogeneity", "energy", "correlation", "entropy")


def binary_patterns(gray: Gray, mask: Mask) -> Floats:
    """How often each uniform, rotation-invariant local binary pattern occurs.

    Ojala, Pietikäinen & Mäenpää 2002: of `POINTS` points on a circle those as bright as the centre
    are counted, where they lie together; all other patterns share the last bin. Nothing depends on
    brightness or contrast.

    Args:
        gray: (rows, columns) in [0, 1].
        mask: Pixels that count; those whose square around the circle leaves it do not.

    Returns:
        (POINTS + 2,) shares with sum 1; all 0 where no square fits into the mask.
    """
    square = np.ones((2 * RADIUS + 1, 2 * RADIUS + 1), np.uint8)
    # Beyond the picture is outside the mask.
    inner = cv2.erode(mask.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    levels = np.rint(gray * 65535).astype(np.uint16)  # exact comparisons of equal neighbours
    patterns = local_binary_pattern(levels, POINTS, RADIUS, method="uniform")[inner > 0]
    counts = np.bincount(patterns.astype(np.int64), minlength=POINTS + 2)
    return counts / max(counts.sum(), 1)


def quantised(gray: Gray, mask: Mask) -> NDArray[np.uint8]:
    """Levels 1 to `LEVELS` from the mask's 1st to its 99th percentile; 0 outside the mask."""
    low, high = np.percentile(gray[mask], [1, 99])
    share = (gray - low) / max(high - low, 1e-6)
    levels = np.clip(np.floor(share * LEVELS), 0, LEVELS - 1).astype(np.uint8) + 1
    levels[~mask] = 0
    return levels


def co_occurrence(levels: NDArray[np.uint8], distances: Sequence[int]) -> Floats:
    """Haralick's numbers (1973) of pairs of pixels, mean over four directions.

    Args:
        levels: (rows, columns) as `quantised` gives them; pairs with a 0 do not count.
        distances: In pixels.

    Returns:
        (distances, `CO_OCCURRENCE`): with p(i, j) the share of pairs of levels i and j, contrast
        is Σ p (i - j)², homogeneity Σ p / (1 + (i - j)²), energy √Σ p², correlation that of i and
        j (1 where they do not vary), entropy -Σ p log2 p. All 0 where there is no pair.
    """
    counts = graycomatrix(
        levels, distances, _DIRECTIONS, levels=LEVELS + 1, symmetric=True
    )[1:, 1:].astype(np.float64)  # fmt: skip
    p = counts / np.maximum(counts.sum(axis=(0, 1)), 1)
    i, j = (index[:, :, None, None] for index in np.indices((LEVELS, LEVELS)))
    mean = (p * i).sum(axis=(0, 1))
    variance = (p * (i - mean) ** 2).sum(axis=(0, 1))
    covariance = (p * (i - mean) * (j - mean)).sum(axis=(0, 1))
    numbers = (
        (p * (i - j) ** 2).sum(axis=(0, 1)),
        (p / (1 + (i - j) ** 2)).sum(axis=(0, 1)),
        np.sqrt((p**2).sum(axis=(0, 1))),
        np.divide(covariance, variance, out=np.ones_like(variance), where=variance > 0),
        -(p * np.log2(p, out=np.zeros_like(p), where=p > 0)).sum(axis=(0, 1)),
    )
    there = counts.sum(axis=(0, 1)) > 0
    return np.stack([np.where(there, number, 0.0).mean(axis=1) for number in numbers], axis=1)
