"""Synthetic images: the truth that comes with them is the truth of their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammography.dicom.phantom.image import (
    LATERALITIES,
    PERCENT_DENSE,
    VIEWS,
    PhantomImage,
    phantom_image,
)
from mammography.dicom.phantom.texture import power_law_noise
from mammography.errors import UsageError

ROWS, COLUMNS = 208, 160
FOUR = [(laterality, view) for view in VIEWS for laterality in LATERALITIES]


def phantom(laterality: str, view: str, density: int = 2, seed: int = 3, **more) -> PhantomImage:
    return phantom_image(
        ROWS, COLUMNS, laterality=laterality, view=view, density=density, seed=seed, **more
    )


@pytest.mark.parametrize(("laterality", "view"), FOUR)
@pytest.mark.parametrize("density", [1, 2, 3, 4])
def test_percent_dense_is_the_area_of_the_mask_and_in_its_class(
    laterality: str, view: str, density: int
) -> None:
    image = phantom(laterality, view, density)
    breast = image.breast_mask & ~image.muscle_mask
    assert not (image.dense_mask & ~breast).any()
    assert image.percent_dense == pytest.approx(100 * image.dense_mask.sum() / breast.sum())
    assert 25 * (density - 1) < image.percent_dense < 25 * density


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(FOUR), st.sampled_from([1, 2, 3, 4]))
def test_any_woman_has_a_plausible_breast(seed: int, side: tuple[str, str], density: int) -> None:
    image = phantom(*side, density, seed, lesions=True)
    assert 0.08 < image.breast_mask.mean() < 0.6
    chest, far = (0, -1) if side[0] == "L" else (-1, 0)
    assert image.breast_mask[:, chest].sum() > 0.3 * ROWS
    assert not image.breast_mask[:, far].any()
    assert abs(image.percent_dense - np.clip(image.percent_dense, *PERCENT_DENSE[density])) < 1.5
    assert image.findings


@pytest.mark.parametrize("laterality", LATERALITIES)
def test_muscle_fills_the_upper_chest_corner_of_mlo_only(laterality: str) -> None:
    assert not phantom(laterality, "CC").muscle_mask.any()
    image = phantom(laterality, "MLO")
    corner, far = (0, -1) if laterality == "L" else (-1, 0)
    assert image.muscle_mask[0, corner]
    assert not image.muscle_mask[-1].any()
    assert not image.muscle_mask[:, far].any()


@pytest.mark.parametrize("bits", [8, 12, 14, 16])
def test_dense_is_brighter_than_fat_and_air_is_zero(bits: int) -> None:
    image = phantom("L", "CC", bits=bits)
    assert image.pixels.dtype == np.uint16
    assert image.pixels.max() == 2**bits - 1
    fat = image.breast_mask & ~image.dense_mask
    assert image.pixels[image.dense_mask].mean() > 1.3 * image.pixels[fat].mean()
    assert set(np.unique(image.pixels[~image.breast_mask])) == {0, 2**bits - 1}


@pytest.mark.parametrize(("laterality", "view"), FOUR)
def test_the_marker_is_far_from_the_chest_wall(laterality: str, view: str) -> None:
    image = phantom(laterality, view)
    rows, columns = np.nonzero((image.pixels == 4095) & ~image.breast_mask)
    assert rows.max() < ROWS / 5
    centre = columns.mean() / COLUMNS
    assert centre > 0.7 if laterality == "L" else centre < 0.3


def test_tissue_range_and_air_noise() -> None:
    image = phantom("R", "CC", tissue_range=(0.4, 0.8), air_noise=0.001)
    assert image.pixels[image.breast_mask].min() >= 0.4 * 4095 - 1
    assert image.pixels[image.breast_mask].max() <= 0.8 * 4095 + 1
    air = image.pixels[-20:, :20]
    assert 0 < air.std() < 0.003 * 4095


@pytest.mark.parametrize(("laterality", "view"), FOUR)
@pytest.mark.parametrize("seed", range(6))
def test_lesions_change_the_image_just_where_their_boxes_are(
    laterality: str, view: str, seed: int
) -> None:
    size = (624, 480)
    options = {"laterality": laterality, "view": view, "density": 2, "seed": seed}
    plain = phantom_image(*size, **options)
    image = phantom_image(*size, lesions=True, **options)
    added = image.pixels.astype(int) - plain.pixels
    inside = np.zeros(size, bool)
    around = np.zeros(size, bool)
    for box in image.findings:
        high, wide = box.y_max - box.y_min, box.x_max - box.x_min
        assert min(high, wide) >= 3
        inside[box.y_min : box.y_max, box.x_min : box.x_max] = True
        around[
            max(0, box.y_min - high) : box.y_max + high, max(0, box.x_min - wide) : box.x_max + wide
        ] = True
        assert added[box.y_min : box.y_max, box.x_min : box.x_max].max() > 0.05 * 4095
    assert not added[~around].any()
    assert (added[inside] ** 2).sum() > 0.9 * (added**2).sum()
    assert (image.breast_mask & ~image.muscle_mask)[inside].mean() > 0.9


def test_both_views_of_a_breast_show_the_same_lesions_elsewhere() -> None:
    kinds = set()
    for seed in range(12):
        cc, mlo = (phantom("L", view, 2, seed, lesions=True).findings for view in VIEWS)
        assert [finding.kind for finding in cc] == [finding.kind for finding in mlo]
        for one, other in zip(cc, mlo, strict=True):
            assert abs((one.x_max - one.x_min) - (other.x_max - other.x_min)) <= 3
            assert (one.x_min, one.y_min) != (other.x_min, other.y_min)
            kinds.add(one.kind)
    assert kinds == {"mass", "calcification"}


def test_the_same_call_gives_the_same_image_and_another_seed_another() -> None:
    first, again, other = (phantom("L", "CC", seed=seed).pixels for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.1


def test_a_woman_keeps_her_shape_at_every_size_and_density() -> None:
    small = phantom("R", "MLO", density=1)
    large = phantom_image(
        2 * ROWS, 2 * COLUMNS, laterality="R", view="MLO", density=4, seed=3
    ).breast_mask[::2, ::2]
    assert (small.breast_mask == large).mean() > 0.99


def test_the_two_sides_of_a_woman_are_alike_but_not_mirrored_copies() -> None:
    right, left = phantom("R", "CC").breast_mask[:, ::-1], phantom("L", "CC").breast_mask
    overlap = (right & left).sum() / (right | left).sum()
    assert 0.8 < overlap < 1


@pytest.mark.parametrize("beta", [2.0, 3.0])
def test_noise_has_the_power_spectrum_it_names(beta: float) -> None:
    noise = power_law_noise(256, np.random.default_rng(0), beta)
    power = np.abs(np.fft.fft2(noise)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    band = (frequency > 0.02) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-beta, abs=0.05)
    assert noise.std() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"laterality": "B"}, {"view": "ML"}, {"density": 5}, {"rows": 20}, {"bits": 17}]
)
def test_what_cannot_be_made_is_refused(wrong: dict[str, object]) -> None:
    options = {"rows": 96, "columns": 80, "laterality": "L", "view": "CC", "density": 1, "seed": 0}
    with pytest.raises(UsageError):
        phantom_image(**(options | wrong))
