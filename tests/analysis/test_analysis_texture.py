"""Binary patterns and co-occurrence against loops from their papers."""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest

from mammography.analysis.texture import (
    CO_OCCURRENCE,
    LEVELS,
    POINTS,
    RADIUS,
    binary_patterns,
    co_occurrence,
    quantised,
)


def smooth(seed: int, shape: tuple[int, int] = (30, 26)) -> np.ndarray:
    noise = np.random.default_rng(seed).random(shape).astype(np.float32)
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 1)


def loop_patterns(gray: np.ndarray, mask: np.ndarray) -> list[float]:
    """Ojala et al. 2002, riu2: 24 bilinear neighbours at radius 3, uniform ones by their ones."""
    levels = np.rint(gray * 65535)
    counts = [0] * (POINTS + 2)
    offsets = [(r, c) for r in range(-RADIUS, RADIUS + 1) for c in range(-RADIUS, RADIUS + 1)]
    for row in range(RADIUS, gray.shape[0] - RADIUS):
        for column in range(RADIUS, gray.shape[1] - RADIUS):
            if not all(mask[row + r, column + c] for r, c in offsets):
                continue
            bits = []
            for point in range(POINTS):
                angle = 2 * math.pi * point / POINTS
                y, x = row - RADIUS * math.sin(angle), column + RADIUS * math.cos(angle)
                y, x = round(y, 5), round(x, 5)
                top, left = math.floor(y), math.floor(x)
                dy, dx = y - top, x - left
                value = sum(
                    weight * levels[r, c]
                    for r, c, weight in (
                        (top, left, (1 - dy) * (1 - dx)),
                        (top, left + 1, (1 - dy) * dx),
                        (top + 1, left, dy * (1 - dx)),
                        (top + 1, left + 1, dy * dx),
                    )
                    if weight > 0
                )
                bits.append(value >= levels[row, column])
            changes = sum(one != other for one, other in pairwise([*bits, bits[0]]))
            counts[sum(bits) if changes <= 2 else POINTS + 1] += 1
    return [count / sum(counts) for count in counts]


def test_patterns_equal_the_loop() -> None:
    gray = smooth(0)
    mask = np.zeros(gray.shape, bool)
    mask[1:, :24] = True  # up to the picture's edge, where squares leave it
    mask[10:14, 10:14] = False
    np.testing.assert_allclose(binary_patterns(gray, mask), loop_patterns(gray, mask), atol=1e-12)


def test_patterns_know_neither_brightness_nor_what_lies_outside_the_mask() -> None:
    gray = smooth(1, (60, 60))
    mask = np.zeros(gray.shape, bool)
    mask[15:45, 15:45] = True
    expected = binary_patterns(gray, mask)
    np.testing.assert_allclose(binary_patterns(0.1 + 0.5 * gray, mask), expected, atol=0.01)
    outside = np.where(mask, gray, 1 - gray).astype(np.float32)
    np.testing.assert_array_equal(binary_patterns(outside, mask), expected)
    assert expected.sum() == pytest.approx(1)


def test_no_room_for_a_circle_is_all_zeros() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:8, 5:8] = True
    np.testing.assert_array_equal(binary_patterns(smooth(2, (20, 20)), mask), np.zeros(POINTS + 2))


def loop_co_occurrence(levels: np.ndarray, distance: int) -> list[float]:
    """Haralick 1973 over all pairs of pixels, both ways, mean of four directions."""
    numbers = []
    diagonal = round(distance * math.sqrt(0.5))
    for down, right in (
        (0, distance), (diagonal, diagonal), (distance, 0), (diagonal, -diagonal),
    ):  # fmt: skip
        pairs = []
        for row in range(levels.shape[0]):
            for column in range(levels.shape[1]):
                r, c = row + down, column + right
                if 0 <= r < levels.shape[0] and 0 <= c < levels.shape[1]:
                    a, b = int(levels[row, column]), int(levels[r, c])
                    if a and b:
                        pairs += [(a, b), (b, a)]
        n = len(pairs)
        share = {pair: pairs.count(pair) / n for pair in set(pairs)}
        mean = sum(a for a, _ in pairs) / n
        variance = sum((a - mean) ** 2 for a, _ in pairs) / n
        covariance = sum((a - mean) * (b - mean) for a, b in pairs) / n
        numbers.append(
            [
                sum((a - b) ** 2 for a, b in pairs) / n,
                sum(1 / (1 + (a - b) ** 2) for a, b in pairs) / n,
                math.sqrt(sum(p * p for p in share.values())),
                covariance / variance,
                -sum(p * math.log2(p) for p in share.values()),
            ]
        )
    return np.mean(numbers, axis=0).tolist()


def test_co_occurrence_equals_the_loop() -> None:
    gray = smooth(3, (24, 20))
    mask = np.ones(gray.shape, bool)
    mask[:6, :6] = False
    levels = quantised(gray, mask)
    expected = [loop_co_occurrence(levels, distance) for distance in (1, 3)]
    np.testing.assert_allclose(co_occurrence(levels, (1, 3)), expected, rtol=1e-10)


def test_one_level_is_perfectly_even_and_no_pair_is_nothing() -> None:
    even = co_occurrence(np.full((5, 5), 3, np.uint8), (1,))[0]
    assert dict(zip(CO_OCCURRENCE, even.tolist(), strict=True)) == {
        "contrast": 0, "homogeneity": 1, "energy": 1, "correlation": 1, "entropy": 0,
    }  # fmt: skip
    assert not co_occurrence(np.zeros((5, 5), np.uint8), (1,)).any()


def test_levels_span_the_masks_own_percentiles() -> None:
    gray = np.linspace(0, 1, 1000, dtype=np.float32).reshape(20, 50)
    mask = gray > 0.5
    levels = quantised(gray, mask)
    assert not levels[~mask].any()
    assert set(levels[mask].tolist()) == set(range(1, LEVELS + 1))
    low, high = np.percentile(gray[mask], [1, 99])
    at = np.searchsorted(gray.ravel(), (low + high) / 2)
    assert levels.ravel()[at] in (LEVELS // 2, LEVELS // 2 + 1)
