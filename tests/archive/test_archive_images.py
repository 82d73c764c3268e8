"""`read_image`: any file, and the verdicts on its values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mammography.archive.images import check_image, read_image
from mammography.dicom.phantom.files import write_dicom
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode


def verdict_on(path: Path, **options: object) -> ImageRejected:
    with pytest.raises(ImageRejected) as verdict:
        read_image(path, **options)
    return verdict.value


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("value", [0, 100])
def test_flat_images_are_refused(tmp_path: Path, dtype: str, value: int) -> None:
    write_dicom(tmp_path / "a.dcm", np.full((300, 400), value, dtype))
    verdict = verdict_on(tmp_path / "a.dcm")
    assert verdict.code == RejectCode.FLAT
    assert str(value) in verdict.reason
    with pytest.raises(ImageRejected):
        check_image(tmp_path / "a.dcm")


@pytest.mark.parametrize("place", [0, 1, 399, 400, 65_535, 65_536, 119_999])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_a_single_other_pixel_is_enough_wherever_it_is(
    tmp_path: Path, dtype: str, place: int
) -> None:
    pixels = np.full((300, 400), 7, dtype)
    pixels.flat[place] = 8
    write_dicom(tmp_path / "a.dcm", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").pixels, pixels)
    check_image(tmp_path / "a.dcm")


@pytest.mark.parametrize("shape", [(1, 1), (1, 200_000), (200_000, 1), (1, 2)])
def test_odd_shapes(tmp_path: Path, shape: tuple[int, int]) -> None:
    Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "a.png")
    assert verdict_on(tmp_path / "a.png").code == RejectCode.FLAT
    pixels = np.zeros(shape, np.uint8)
    if pixels.size > 1:
        pixels[-1, -1] = 1
        Image.fromarray(pixels).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, pixels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    pixels = np.arange(20, dtype=np.float32).reshape(4, 5)
    pixels[3, 4] = value
    write_dicom(tmp_path / "a.dcm", pixels)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    for name in ("a.dcm", "a.tif"):
        assert verdict_on(tmp_path / name).code == RejectCode.NOT_FINITE


def test_the_limit_is_an_option(tmp_path: Path) -> None:
    pixels = np.arange(20, dtype=np.uint16).reshape(4, 5)
    write_dicom(tmp_path / "a.dcm", pixels)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for name in ("a.dcm", "a.png"):
        assert read_image(tmp_path / name, max_pixels=20).pixels.size == 20
        verdict = verdict_on(tmp_path / name, max_pixels=19)
        assert verdict.code == RejectCode.TOO_LARGE
        assert "--max-pixels" in verdict.reason


def test_frames_and_halvings_are_passed_on(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint16)
    write_dicom(tmp_path / "a.dcm", np.stack([ramp, ramp + 9, ramp]), syntax="jpeg2000")
    assert read_image(tmp_path / "a.dcm").frame == 2
    assert read_image(tmp_path / "a.dcm", frame=3).frame == 3
    assert read_image(tmp_path / "a.dcm", frame="max", reduce=1).pixels.shape == (32, 32)


def test_mini_mias_and_the_real_files_pass(shared: Path) -> None:
    for path in sorted((shared / "data" / "mini-mias" / "png").iterdir())[::40]:
        pixels = read_image(path).pixels
        assert (pixels.shape, pixels.dtype) == ((1024, 1024), np.uint8)
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(path)))
    for path in (shared / "data" / "dicom").iterdir():
        check_image(path)
