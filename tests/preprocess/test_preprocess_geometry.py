"""Points and maps carried between an image and the canvas that a network sees."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from mammography.dicom.pixels import StoredImage
from mammography.errors import UsageError
from mammography.preprocess.geometry import carry_back, place
from mammography.preprocess.recipe import Recipe
from mammography.preprocess.recipes.imagenet import Imagenet

sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))
ways = st.sampled_from(["letterbox", "stretch", "crop"])


@given(sizes, sizes, ways)
@settings(deadline=None)
def test_points_go_to_the_canvas_and_back(
    shape: tuple[int, int], canvas: tuple[int, int], resize: Any
) -> None:
    placement = place(shape, canvas, resize)
    points = np.random.default_rng(0).uniform(-5, 70, (4, 3, 2))
    np.testing.assert_allclose(placement.to_image(placement.to_canvas(points)), points, atol=1e-9)
    corners = np.array([placement.origin, np.add(placement.origin, placement.source)])
    expected = np.array([placement.offset, np.add(placement.offset, placement.content)])
    np.testing.assert_allclose(placement.to_canvas(corners), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "resize", "point", "on_canvas"),
    [
        ((100, 50), "letterbox", (0, 0), (0, 16)),  # 64 × 32, bars of 16 at either side
        ((100, 50), "letterbox", (100, 50), (64, 48)),
        ((50, 100), "letterbox", (25, 50), (32, 32)),
        ((50, 100), "letterbox", (0, 100), (16, 64)),
        ((100, 50), "stretch", (50, 50), (32, 64)),
        ((100, 50), "crop", (25, 0), (0, 0)),  # the middle 50 × 50
        ((100, 50), "crop", (75, 50), (64, 64)),
    ],
)
def test_known_points(
    shape: tuple[int, int], resize: Any, point: Any, on_canvas: tuple[float, float]
) -> None:
    placement = Imagenet(size=(64, 64), resize=resize).placement(shape)
    np.testing.assert_allclose(placement.to_canvas(np.array(point)), on_canvas)
    np.testing.assert_allclose(placement.to_image(np.array(on_canvas)), point)


@given(sizes, sizes, ways, st.tuples(st.integers(1, 25), st.integers(1, 25)))
@settings(deadline=None, max_examples=60)
def test_carrying_back_is_linear_interpolation_where_the_image_is(
    shape: tuple[int, int], canvas: tuple[int, int], resize: Any, picture: tuple[int, int]
) -> None:
    placement = place(shape, canvas, resize)
    values = np.random.default_rng(1).random(canvas).astype(np.float32)
    carried = carry_back(values, placement, shape, picture)
    centres = np.stack(np.mgrid[: picture[0], : picture[1]], axis=-1) + 0.5
    points = placement.to_canvas(centres * np.array(shape) / np.array(picture))
    expected = map_coordinates(
        values.astype(np.float64), (points - 0.5).transpose(2, 0, 1), order=1, mode="nearest"
    )
    shown = np.zeros(picture, bool)
    for row, column in np.ndindex(picture):
        shown[row, column] = all(
            first <= Fraction(2 * position + 1, 2 * target) * source <= first + count
            for first, count, position, source, target in zip(
                placement.origin, placement.source, (row, column), shape, picture, strict=True
            )
        )
    np.testing.assert_allclose(carried, np.where(shown, expected, 0), atol=1e-5)
    assert carried.dtype == np.float32
    assert carried.shape == picture


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("shape", [(120, 80), (80, 120), (90, 90)])
def test_flipping_the_canvas_flips_what_is_carried_back(
    shape: tuple[int, int], resize: Any
) -> None:
    placement = place(shape, (60, 60), resize)
    values = np.random.default_rng(2).random((60, 60)).astype(np.float32)
    carried = carry_back(values, placement, shape, shape)
    flipped = carry_back(values[::-1, ::-1], placement, shape, shape)
    np.testing.assert_allclose(flipped, carried[::-1, ::-1], atol=1e-5)


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (37, 290)])
def test_a_square_of_an_image_is_carried_back_to_where_it_was(
    shape: tuple[int, int], resize: Any
) -> None:
    """Through the recipe itself: no formula of the placement is used on the way."""
    pixels = np.zeros(shape, np.uint16)
    top, left = shape[0] // 2 - 10, shape[1] // 2 - 16
    pixels[top : top + 12, left : left + 20] = 1000
    recipe = Imagenet(size=(128, 128), resize=resize, tail=0.0)
    seen = recipe.gray(StoredImage(pixels))
    carried = carry_back(seen, recipe.placement(shape), shape, shape)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    found = [(carried * axis).sum() / carried.sum() for axis in (rows, columns)]
    assert found == pytest.approx([top + 5.5, left + 9.5], abs=0.2)
    assert carried.sum() == pytest.approx(240, rel=0.06)


def test_what_a_crop_does_not_show_is_0() -> None:
    placement = place((100, 50), (20, 20), "crop")
    carried = carry_back(np.ones((20, 20), np.float32), placement, (100, 50), (50, 25))
    assert not carried[:12].any()
    assert (carried[13:37] == 1).all()
    assert not carried[38:].any()


def test_a_recipe_need_not_know_the_placement() -> None:
    class Silent(Imagenet):
        placement = Recipe.placement

    with pytest.raises(UsageError, match="imagenet does not say where an image lands"):
        Silent().placement((10, 10))
