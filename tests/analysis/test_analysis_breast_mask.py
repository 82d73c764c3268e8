"""Breast and pectoral muscle on drawn pictures whose parts are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mammography.analysis.breast_mask import SIDE, find_breast, otsu
from mammography.preprocess.recipes.imagenet import PLUGIN


def drawn(
    *, mirrored: bool = False, muscle: bool = False, label: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half an ellipse at the left, a triangle in its corner, a label; and the first two's masks."""
    row, column = np.indices((SIDE, SIDE))
    breast = ((row - 260) / 210) ** 2 + (column / 240) ** 2 < 1
    # A breast's upper part reaches the upper edge, as on oblique views.
    breast |= (row < 260) & (column < 150)
    triangle = breast & (column / 130 + row / 220 < 1)
    gray = np.full((SIDE, SIDE), 0.02, np.float32)
    gray[breast] = 0.4
    if muscle:
        gray[triangle] = 0.8
    if label:
        gray[20:60, 400:480] = 1.0
        gray[38:41, 100:500] = 1.0  # scratches, one of them from breast to label
        gray[100:500, 500:503] = 1.0
    gray += np.random.default_rng(0).normal(0, 0.01, gray.shape).astype(np.float32)
    gray = np.clip(gray, 0, 1)
    parts = (gray, breast, triangle)
    return tuple(part[:, ::-1] for part in parts) if mirrored else parts  # type: ignore[return-value]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Dice: 1 where they are the same."""
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_breast_is_found_on_either_side_without_labels_and_scratches(mirrored: bool) -> None:
    gray, breast, _ = drawn(mirrored=mirrored, label=True)
    found = find_breast(np.ascontiguousarray(gray), "CC")
    expected = breast[:, ::-1] if mirrored else breast
    assert overlap(found.breast, expected) > 0.98
    assert not found.breast[20:60, 400:480].any()
    assert not found.breast[38:41, 200:400].any()
    assert not found.breast[100:500, 500:503].any()
    np.testing.assert_array_equal(found.gray, gray[:, ::-1] if mirrored else gray)


def test_a_mirrored_picture_gives_the_same_parts() -> None:
    gray, _, _ = drawn(muscle=True, label=True)
    one, other = find_breast(gray, "MLO"), find_breast(np.ascontiguousarray(gray[:, ::-1]), "MLO")
    np.testing.assert_array_equal(one.breast, other.breast)
    np.testing.assert_array_equal(one.muscle, other.muscle)


def test_the_muscle_is_the_bright_triangle_of_oblique_views() -> None:
    gray, _, triangle = drawn(muscle=True)
    found = find_breast(gray, "MLO")
    assert overlap(found.muscle, triangle) > 0.95
    np.testing.assert_array_equal(found.tissue, found.breast & ~found.muscle)
    for view in ("CC", None):
        assert not find_breast(gray, view).muscle.any()


def test_where_no_edge_is_to_be_seen_there_is_no_muscle() -> None:
    gray, _, _ = drawn(muscle=False)
    assert not find_breast(gray, "MLO").muscle.any()


def test_holes_belong_to_the_breast() -> None:
    gray, _, _ = drawn()
    gray[250:280, 60:90] = 0.0
    assert find_breast(gray, None).breast[250:280, 60:90].all()


def test_a_picture_without_a_breast_counts_as_a_whole() -> None:
    gray = np.zeros((SIDE, SIDE), np.float32)
    gray[100:110, 100:110] = 1.0
    found = find_breast(gray, "MLO")
    assert found.breast.all()


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(2, 40), st.integers(2, 40))),
    st.sampled_from(["MLO", "CC", None]),
)
def test_any_picture_has_a_breast_that_holds_its_muscle(noise: np.ndarray, view: str) -> None:
    gray = (noise / 255).astype(np.float32)
    found = find_breast(gray, view)
    assert found.gray.shape == found.breast.shape == found.muscle.shape == gray.shape
    assert not (found.muscle & ~found.breast).any()


def test_films_of_real_women(shared) -> None:  # type: ignore[no-untyped-def]
    """On mini-MIAS breasts fill 15 to 75 % of the picture; labels at the far side are left out."""
    recipe = PLUGIN.with_options(size=(SIDE, SIDE))
    for name in ("mdb003", "mdb016", "mdb105", "mdb131"):
        gray = recipe.gray(recipe.read(shared / f"data/mini-mias/png/{name}.png"))
        found = find_breast(gray, "MLO")
        assert 0.15 < found.breast.mean() < 0.75
        assert 0.01 < found.muscle.sum() / found.breast.sum() < 0.35
        assert found.gray[found.muscle].mean() > found.gray[found.tissue].mean()
        _, components = cv2.connectedComponents(found.breast.astype(np.uint8))
        assert components.max() == 1


def loop_otsu(values: list[float], levels: int) -> float:
    """Otsu 1979 over all thresholds, by the weighted distance of means."""
    binned = [min(int(value * levels), levels - 1) for value in values]
    middles = [(number + 0.5) / levels for number in range(levels)]
    best, at = 0.0, 0.5
    for threshold in range(levels - 1):
        low = [middles[b] for b in binned if b <= threshold]
        high = [middles[b] for b in binned if b > threshold]
        if low and high:
            distance = sum(high) / len(high) - sum(low) / len(low)
            between = len(low) * len(high) * distance**2
            if between > best * (1 + 1e-9):
                best, at = between, middles[threshold]
    return at


@pytest.mark.parametrize("seed", range(5))
def test_otsu_equals_the_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.beta(2, 8, 60), rng.beta(8, 3, 40)])
    assert otsu(values, 32) == pytest.approx(loop_otsu(values.tolist(), 32))


def test_otsu_of_one_value_is_the_middle() -> None:
    assert otsu(np.full(10, 0.2)) == 0.5
