"""The recipe `imagenet` against its definition in fractions, and what must leave it unchanged."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mammography.dicom.grayscale import Grayscale, Lut
from mammography.dicom.phantom.files import write_dicom
from mammography.dicom.pixels import StoredImage
from mammography.errors import ImageRejected, UsageError
from mammography.preprocess.recipes.imagenet import Imagenet
from mammography.vocabulary import RejectCode

SMALL = Imagenet(size=(6, 6), tail=0.05)


def mammogram(rows: int = 61, columns: int = 47, top: int = 4095, seed: int = 0) -> np.ndarray:
    """Noise on a ramp, dark at the right; every gray level may occur."""
    ramp = np.linspace(0.9, 0.05, columns)
    noise = np.random.default_rng(seed).random((rows, columns))
    return (top * np.clip(ramp + 0.2 * noise - 0.1, 0, 1)).astype(np.uint16)


# The definition, in fractions and plain loops.


def reference(image: StoredImage, recipe: Imagenet) -> np.ndarray:
    levels, darker = reference_levels(image, recipe)
    stored = image.pixels.astype(np.int64)
    padding = np.zeros(stored.shape, bool)
    if image.padding is not None:
        padding = (stored >= image.padding[0]) & (stored <= image.padding[1])
    shown = levels[~padding]
    darkest, brightest = (shown.max(), shown.min()) if darker else (shown.min(), shown.max())
    for at, is_padding in np.ndenumerate(padding):
        between = sorted([levels[at], darkest, brightest])[1] == darkest
        if is_padding and not (between and abs(levels[at] - darkest) <= abs(brightest - darkest)):
            levels[at] = darkest
    low = int(np.quantile(levels, recipe.tail, method="inverted_cdf"))
    high = -int(np.quantile(-levels, recipe.tail, method="inverted_cdf"))
    brightness = np.full(levels.shape, Fraction(0))
    for at, level in np.ndenumerate(levels):
        if not padding[at]:
            share = Fraction(min(max(int(level), low), high) - low, high - low)
            brightness[at] = 1 - share if darker else share
    return reference_placed(brightness, recipe)


def reference_levels(image: StoredImage, recipe: Imagenet) -> tuple[np.ndarray, bool]:
    """Integers that order the pixels by what the header's transformations make of them."""
    scale, stored = image.grayscale, image.pixels.astype(np.int64)
    if recipe.voi == "none":
        return stored, image.inverted != (scale.slope < 0)
    modality = stored * scale.slope + scale.intercept
    if recipe.voi == "lut":
        lut = scale.voi_luts[recipe.voi_index]
        index = np.clip(np.floor(modality).astype(int) - lut.first, 0, len(lut.entries) - 1)
        return lut.entries[index].astype(np.int64), image.inverted
    center, width = scale.windows[recipe.voi_index]
    function = "SIGMOID" if recipe.voi == "sigmoid" else scale.voi_function
    shares = np.vectorize(lambda x: window(float(x), center, width, function))(modality)
    return np.rint(shares * 65535).astype(np.int64), image.inverted


def window(x: float, center: float, width: float, function: str) -> float:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3 with the output range 0 to 1."""
    if function == "SIGMOID":
        return float(1 / (1 + np.exp(-4 * (x - center) / width)))
    if function == "LINEAR_EXACT":
        if x <= center - width / 2:
            return 0.0
        return 1.0 if x > center + width / 2 else (x - center) / width + 0.5
    if x <= center - 0.5 - (width - 1) / 2:
        return 0.0
    if x > center - 0.5 + (width - 1) / 2:
        return 1.0
    return (x - (center - 0.5)) / (width - 1) + 0.5


def reference_placed(brightness: np.ndarray, recipe: Imagenet) -> np.ndarray:
    (height, width), (rows, columns) = recipe.size, brightness.shape
    content = (height, width)
    if recipe.resize == "letterbox":
        scale = min(Fraction(height, rows), Fraction(width, columns))
        content = (half_up(rows * scale), half_up(columns * scale))
    if recipe.resize == "crop":
        scale = max(Fraction(height, rows), Fraction(width, columns))
        used = (half_up(height / scale), half_up(width / scale))
        top, left = (rows - used[0]) // 2, (columns - used[1]) // 2
        brightness = brightness[top : top + used[0], left : left + used[1]]
    small = resampled(resampled(brightness, content[0]).T, content[1]).T
    canvas = np.zeros(recipe.size, np.float32)
    top, left = (height - content[0]) // 2, (width - content[1]) // 2
    for (row, column), value in np.ndenumerate(small):
        canvas[top + row, left + column] = np.float32(float(value))
    return canvas


def half_up(value: Fraction) -> int:
    return max(1, int(value + Fraction(1, 2)))


def resampled(rows: np.ndarray, target: int) -> np.ndarray:
    """Along the first axis: the exact area mean where it shrinks, else linear interpolation."""
    source = len(rows)
    result = np.empty((target, rows.shape[1]), object)
    for number in range(target):
        if target < source:
            start, end = Fraction(number * source, target), Fraction((number + 1) * source, target)
            shares = [max(Fraction(0), min(end, k + 1) - max(start, k)) for k in range(source)]
            shares = [share / (end - start) for share in shares]
        else:
            at = Fraction((2 * number + 1) * source, 2 * target) - Fraction(1, 2)
            at = min(max(at, Fraction(0)), Fraction(source - 1))
            shares = [max(Fraction(0), 1 - abs(at - k)) for k in range(source)]
        result[number] = sum(share * row for share, row in zip(shares, rows, strict=True) if share)
    return result


images = hnp.arrays(
    st.sampled_from([np.uint8, np.int8, np.uint16, np.int16]),
    st.tuples(st.integers(1, 13), st.integers(1, 13)),
)


@given(
    images,
    st.booleans(),
    st.sampled_from(["letterbox", "stretch", "crop"]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([0.0, 0.005, 0.1, 0.49]),
)
@settings(max_examples=150, deadline=None)
def test_gray_is_the_definition_to_the_last_bit(
    pixels: np.ndarray, inverted: bool, resize: Any, size: tuple[int, int], tail: float
) -> None:
    assume(pixels.min() < pixels.max())
    image = StoredImage(pixels, inverted)
    recipe = Imagenet(size=size, resize=resize, tail=tail)
    levels = pixels.astype(np.int64)
    darkest = np.quantile(levels, tail, method="inverted_cdf")
    if darkest == -np.quantile(-levels, tail, method="inverted_cdf"):
        with pytest.raises(ImageRejected, match="no contrast"):
            recipe.gray(image)
    else:
        np.testing.assert_array_equal(recipe.gray(image), reference(image, recipe), strict=True)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("padding", [None, (0, 0), (3500, 4095), (2000, 2100), (-5, -1)])
def test_padding_is_black_and_counts_as_black(
    padding: tuple[int, int] | None, inverted: bool
) -> None:
    image = StoredImage(mammogram(), inverted, padding)
    recipe = Imagenet(size=(20, 20), tail=0.02)
    np.testing.assert_array_equal(recipe.gray(image), reference(image, recipe))


@pytest.mark.parametrize("inverted", [False, True])
def test_dark_padding_need_not_be_declared(inverted: bool) -> None:
    value = 4300 if inverted else 7
    framed = _framed(value, np.uint16)
    recipe = Imagenet(size=(60, 60))
    declared = recipe.gray(StoredImage(framed, inverted, padding=(value, value)))
    np.testing.assert_array_equal(declared, recipe.gray(StoredImage(framed, inverted)))


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("value", [-30000, 30000, 2000])
def test_a_frame_of_any_padding_is_black_and_leaves_the_contrast(
    value: int, inverted: bool
) -> None:
    framed = _framed(value, np.int16)
    recipe = Imagenet(size=(60, 60), tail=0.0)
    inner = replace(recipe, size=(40, 40)).gray(StoredImage(framed[10:50, 10:50], inverted))
    gray = recipe.gray(StoredImage(framed, inverted, padding=(value, value)))
    if value != 2000:  # which the image inside holds too
        np.testing.assert_array_equal(gray[10:50, 10:50], inner)
    gray[10:50, 10:50] = 0
    assert not gray.any()


def test_pixels_between_padding_and_tissue_change_little() -> None:
    """What wavelets leave at an edge when they are quantised or cut short."""
    framed = _framed(0, np.uint16)
    blurred = framed.copy()
    blurred[9, 10:50] = 50
    recipe = Imagenet(size=(60, 60))
    clean, edged = (
        recipe.gray(StoredImage(pixels, padding=(0, 0)))[10:50, 10:50]
        for pixels in (framed, blurred)
    )
    np.testing.assert_array_equal(clean, edged)


def _framed(value: int, dtype: type) -> np.ndarray:
    """An image of 100 to 4195 in a frame of one value."""
    framed = np.full((60, 60), value, dtype)
    framed[10:50, 10:50] = 100 + mammogram(40, 40)
    return framed


LUT = Lut(100, 16, np.random.default_rng(1).integers(0, 65536, 3000).astype(np.uint16))
RAMP = Lut(0, 12, np.arange(4096, dtype=np.uint16))


@pytest.mark.parametrize(
    ("voi", "index", "function"),
    [
        ("window", 0, "LINEAR"),
        ("window", 1, "LINEAR"),
        ("window", 0, "LINEAR_EXACT"),
        ("window", 0, "SIGMOID"),
        ("sigmoid", 1, "LINEAR"),
        ("lut", 0, "LINEAR"),
        ("lut", 1, "LINEAR"),
    ],
)
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("rescale", [(1.0, 0.0), (0.5, -100.0), (-2.0, 5000.0)])
def test_voi_is_the_standards_formula(
    voi: Any, index: int, function: str, inverted: bool, rescale: tuple[float, float]
) -> None:
    scale = Grayscale(
        *rescale,
        windows=((1800.0, 900.0), (600.0, 3000.5)),
        voi_function=function,
        voi_luts=(LUT, RAMP),
    )
    image = StoredImage(mammogram(), inverted, grayscale=scale)
    recipe = Imagenet(size=(20, 20), tail=0.02, voi=voi, voi_index=index)
    np.testing.assert_array_equal(recipe.gray(image), reference(image, recipe))


def test_a_window_of_width_1_is_a_threshold() -> None:
    image = StoredImage(mammogram(40, 40), grayscale=Grayscale(windows=((2000.0, 1.0),)))
    gray = Imagenet(size=(40, 40), voi="window").gray(image)
    np.testing.assert_array_equal(gray, image.pixels > 1999)


@pytest.mark.parametrize(
    ("voi", "index"), [("window", 0), ("sigmoid", 0), ("lut", 0), ("window", 3), ("lut", 2)]
)
def test_a_voi_that_the_header_lacks_rejects_the_image(voi: Any, index: int) -> None:
    scale = Grayscale(windows=((2000.0, 100.0),) * 3, voi_luts=(LUT, RAMP)) if index else None
    image = StoredImage(mammogram(), grayscale=scale or Grayscale())
    with pytest.raises(ImageRejected, match=f"{index} .*the header has") as caught:
        Imagenet(voi=voi, voi_index=index).gray(image)
    assert caught.value.code == RejectCode.UNSUPPORTED


def test_a_window_that_everything_lies_outside_of_is_no_contrast() -> None:
    image = StoredImage(mammogram(), grayscale=Grayscale(windows=((9000.0, 100.0),)))
    with pytest.raises(ImageRejected, match="no contrast") as caught:
        Imagenet(voi="window").gray(image)
    assert caught.value.code == RejectCode.FLAT


def test_an_image_of_padding_alone_is_rejected() -> None:
    image = StoredImage(mammogram(), padding=(0, 4095))
    with pytest.raises(ImageRejected, match="padding"):
        Imagenet().gray(image)


def test_a_negative_slope_inverts() -> None:
    plain = StoredImage(mammogram())
    falling = replace(plain, grayscale=Grayscale(slope=-1.5, intercept=3000.0))
    np.testing.assert_array_equal(
        SMALL.gray(falling), SMALL.gray(replace(plain, inverted=True)), strict=True
    )


def test_a_modality_lut_comes_first() -> None:
    pixels = mammogram()
    through = StoredImage(pixels, grayscale=Grayscale(modality_lut=LUT))
    looked_up = StoredImage(LUT(pixels.astype(float)).astype(np.uint16))
    np.testing.assert_array_equal(SMALL.gray(through), SMALL.gray(looked_up))


# Invariances.


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
def test_monochrome1_equals_monochrome2_to_the_bit(resize: Any) -> None:
    recipe, pixels = Imagenet(size=(32, 32), resize=resize), mammogram()
    inverted = StoredImage(pixels.max() - pixels, inverted=True)
    np.testing.assert_array_equal(recipe.gray(inverted), recipe.gray(StoredImage(pixels)))


@given(st.integers(1, 15), st.integers(0, 4000))
@settings(max_examples=30, deadline=None)
def test_a_linear_change_of_the_values_changes_nothing(factor: int, shift: int) -> None:
    pixels = mammogram(23, 31)
    changed = pixels * np.uint16(factor) + np.uint16(shift)
    np.testing.assert_array_equal(SMALL.gray(StoredImage(changed)), SMALL.gray(StoredImage(pixels)))


def test_signed_equals_unsigned() -> None:
    pixels = mammogram()
    signed = pixels.astype(np.int16) - 2048
    np.testing.assert_array_equal(
        SMALL.gray(StoredImage(signed)), SMALL.gray(StoredImage(pixels)), strict=True
    )
    few = (pixels >> 5).astype(np.uint8)
    np.testing.assert_array_equal(
        SMALL.gray(StoredImage(few)), SMALL.gray(StoredImage(few.astype(np.int8) - 64))
    )


def test_floats_keep_16_bits() -> None:
    pixels = mammogram(top=65535)
    pixels.flat[:2] = 0, 65535
    floats = (pixels.astype(np.float64) / 65535 * 3 - 1).astype(np.float32)
    difference = SMALL.gray(StoredImage(floats)) - SMALL.gray(StoredImage(pixels))
    assert abs(difference).max() < 1e-5


@pytest.mark.parametrize("shape", [(64, 48), (64, 44), (48, 64), (16, 8), (200, 100)])
@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
def test_mirrored_images_give_mirrored_grays(shape: tuple[int, int], resize: Any) -> None:
    recipe, pixels = Imagenet(size=(32, 32), resize=resize), mammogram(*shape)
    gray = recipe.gray(StoredImage(pixels))
    for axis in (0, 1):
        flipped = recipe.gray(StoredImage(np.ascontiguousarray(np.flip(pixels, axis))))
        np.testing.assert_array_equal(flipped, np.flip(gray, axis))


LOSSLESS = ["implicit", "big-endian", "deflated", "rle", "jpeg-lossless", "jpeg-lossless-p14",
            "jpeg-ls", "jpeg2000", "htj2k"]  # fmt: skip


def test_all_lossless_copies_of_an_image_give_the_same_bits(tmp_path: Path) -> None:
    recipe, pixels = Imagenet(size=(48, 48)), mammogram(203, 161)
    write_dicom(tmp_path / "explicit.dcm", pixels, BitsStored=12)
    expected = recipe(tmp_path / "explicit.dcm")
    for syntax in LOSSLESS:
        path = tmp_path / f"{syntax}.dcm"
        write_dicom(path, pixels, syntax=syntax, BitsStored=12)
        assert recipe(path).tobytes() == expected.tobytes(), syntax
    write_dicom(tmp_path / "mono1.dcm", 4095 - pixels, photometric="MONOCHROME1", BitsStored=12)
    assert recipe(tmp_path / "mono1.dcm").tobytes() == expected.tobytes()


def test_reduced_decoding_is_another_picture_and_another_hash(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(256), np.arange(256)).astype(np.uint16)
    write_dicom(tmp_path / "j2k.dcm", smooth, syntax="jpeg2000", BitsStored=12)
    recipe = Imagenet(size=(64, 64))
    half = recipe.with_options(reduced_decode="half")
    assert half.read(tmp_path / "j2k.dcm").pixels.shape == (128, 128)
    assert half.hash != recipe.hash
    difference = half(tmp_path / "j2k.dcm") - recipe(tmp_path / "j2k.dcm")
    assert 0 < abs(difference).max() < 0.1


# Geometry.


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize(
    "shape", [(1, 5000), (5000, 1), (2, 2), (3, 2), (223, 225), (224, 224), (7, 4001)]
)
def test_every_shape_fits(shape: tuple[int, int], resize: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    gray = Imagenet(resize=resize).gray(StoredImage(pixels))
    assert gray.shape == (224, 224)
    assert gray.dtype == np.float32
    assert gray.min() >= 0
    assert gray.max() <= 1


def test_an_image_of_the_right_size_is_only_scaled() -> None:
    pixels = mammogram(32, 32)
    gray = Imagenet(size=(32, 32), tail=0).gray(StoredImage(pixels))
    low, high = float(pixels.min()), float(pixels.max())
    np.testing.assert_array_equal(gray, ((pixels - low) / (high - low)).astype(np.float32))


def test_letterbox_centres_and_leaves_black_bars() -> None:
    gray = Imagenet(size=(100, 100), tail=0).gray(StoredImage(1000 + mammogram(400, 200)))
    assert not gray[:, :25].any()
    assert not gray[:, 75:].any()
    assert gray[:, 25:75].any(axis=1).all()


# What a recipe is.


def test_golden_values_hold_on_every_machine() -> None:  # else raise the recipe's VERSION
    assert Imagenet().hash == "e91bbea9f2f673defd7f1fc8892e7594ddf500e7c47bfafd12393705d06dde96"
    gray = Imagenet().gray(StoredImage(mammogram(1001, 777)))
    assert (
        hashlib.sha256(gray.tobytes()).hexdigest()
        == "04fa9e1d68bb0f1c169ca2b97398fd8798f45b1db8d1c00f8b4cafb5759cb319"
    )
    tensor = Imagenet().normalise(gray)
    assert (
        hashlib.sha256(tensor.tobytes()).hexdigest()
        == "8efe5b1ec720517c52c054f9981d550b43f1cae8b6615fd097132594cdb5f608"
    )


OTHERS = {
    "size": (512, 224),
    "frame": 3,
    "reduced_decode": "quarter",
    "mean": (0.5, 0.5, 0.5),
    "std": (1.0, 1.0, 1.0),
    "resize": "crop",
    "tail": 0.02,
    "voi": "window",
    "voi_index": 1,
}


def test_every_setting_and_the_version_are_in_the_hash() -> None:
    class Next(Imagenet):
        VERSION = Imagenet.VERSION + 1

    assert OTHERS.keys() == {field.name for field in fields(Imagenet)}
    changed = {Imagenet().with_options(**{name: value}).hash for name, value in OTHERS.items()}
    assert len(changed | {Imagenet().hash, Next().hash}) == len(OTHERS) + 2


def test_options_that_are_none_or_equal_leave_the_hash() -> None:
    assert Imagenet().with_options(size=None, resize="letterbox").hash == Imagenet().hash


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", (0, 224)),
        ("size", (224,)),
        ("frame", 0),
        ("frame", "first"),
        ("reduced_decode", "third"),
        ("mean", (0.5, float("nan"), 0.5)),
        ("std", (0.2, 0.0, 0.2)),
        ("resize", "fit"),
        ("tail", 0.5),
        ("tail", -0.1),
        ("voi", "auto"),
        ("voi_index", -1),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"no {name} "):
        Imagenet(**{name: value})


def test_a_setting_that_the_recipe_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match=r"has no clahe; it has frame, mean, .*voi_index"):
        Imagenet().with_options(clahe=2.0)


def test_normalise_is_channel_by_channel() -> None:
    recipe = Imagenet(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    gray = np.random.default_rng(0).random((4, 5, 6), np.float32)
    tensor = recipe.normalise(gray)
    assert tensor.shape == (4, 3, 5, 6)
    for channel, (mean, std) in enumerate(zip(recipe.mean, recipe.std, strict=True)):
        expected = (gray - np.float32(mean)) / np.float32(std)
        np.testing.assert_array_equal(tensor[:, channel], expected, strict=True)


def test_the_steps_end_with_the_tensors_first_channel(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", mammogram(), photometric="MONOCHROME1", BitsStored=12)
    recipe = Imagenet(size=(32, 32))
    image = recipe.read(tmp_path / "a.dcm")
    stored, bright, gray, last = recipe.steps(image)
    np.testing.assert_array_equal(stored.pixels, image.pixels)
    white, black = (float(end) for end in bright.caption.removesuffix(" → 0–1").split("–"))
    assert white > black  # MONOCHROME1: the largest stored value is the darkest
    assert bright.pixels.min() == 0
    assert bright.pixels.max() == 1
    np.testing.assert_array_equal(gray.pixels, recipe.gray(image))
    np.testing.assert_array_equal(last.pixels, recipe(tmp_path / "a.dcm")[0])
