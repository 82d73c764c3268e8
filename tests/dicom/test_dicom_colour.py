"""Colour to gray, in every layout and syntax, against the formula and pydicom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import get_decoder
from pydicom.pixels.processing import apply_color_lut, convert_color_space

from mammography.dicom.colour import gray_of_rgb
from mammography.dicom.phantom.files import write_dicom
from mammography.dicom.pixels import read_dicom
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

NATIVE = ["implicit", "explicit", "big-endian", "deflated"]


def read(path: Path, **options: object) -> np.ndarray:
    with path.open("rb") as file:
        return read_dicom(file, **options).pixels


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R BT.601, pixel by pixel, rounded to the nearest integer."""
    flat = [
        int(np.floor((299 * int(r) + 587 * int(g) + 114 * int(b)) / 1000 + 0.5))
        for r, g, b in rgb.reshape(-1, 3)
    ]
    return np.array(flat).reshape(rgb.shape[:2])


def colours(dtype: str = "uint8", shape: tuple[int, ...] = (9, 7)) -> np.ndarray:
    top = np.iinfo(dtype).max
    values = np.random.default_rng(1).integers(0, top, (*shape, 3), dtype, endpoint=True)
    values[..., 0, 0, :], values[..., 0, 1, :] = 0, top
    return values


def smooth(shape: tuple[int, int] = (64, 48)) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.dstack(
        [40 + 2 * rows + columns, 200 - 2 * rows, 60 + 2 * columns + rows // 2]
    ).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_luma(dtype: str) -> None:
    found = gray_of_rgb(colours(dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, luma(colours(dtype)))


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_gray_colours_keep_their_value(value: int) -> None:
    assert (gray_of_rgb(np.full((2, 2, 3), value, np.uint8)) == value).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", NATIVE)
def test_native_rgb(tmp_path: Path, syntax: str, planar: int, dtype: str) -> None:
    pixels = colours(dtype, (2, 9, 7))
    path = tmp_path / "a.dcm"
    write_dicom(path, pixels, syntax=syntax, photometric="RGB", PlanarConfiguration=planar)
    for number in (1, 2):
        np.testing.assert_array_equal(read(path, frame=number), luma(pixels[number - 1]))


@pytest.mark.parametrize(
    ("syntax", "photometric"),
    [("rle", "RGB"), ("jpeg-lossless", "RGB"), ("jpeg-ls", "RGB"), ("jpeg2000", "YBR_RCT")],
)
def test_compressed_rgb(tmp_path: Path, syntax: str, photometric: str) -> None:
    write_dicom(tmp_path / "a.dcm", colours(), syntax=syntax, photometric=photometric)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), luma(colours()))


@pytest.mark.parametrize("syntax", [*NATIVE, "rle", "jpeg-ls", "jpeg2000"])
def test_the_luma_of_ybr_is_its_first_component(tmp_path: Path, syntax: str) -> None:
    path = tmp_path / "a.dcm"
    write_dicom(path, colours(), syntax=syntax, photometric="YBR_FULL")
    np.testing.assert_array_equal(read(path), colours()[..., 0])


def test_that_luma_is_the_one_of_the_converted_colours() -> None:
    rgb = colours(shape=(40, 50))
    ybr = convert_color_space(rgb, "RGB", "YBR_FULL")
    assert np.abs(luma(rgb) - ybr[..., 0].astype(int)).max() <= 1


@pytest.mark.parametrize("syntax", ["explicit", "big-endian"])
def test_uncompressed_ybr_full_422(tmp_path: Path, syntax: str) -> None:
    luminance = colours(shape=(2, 6, 8))[..., 0]
    stored = np.empty((2, 6, 4, 4), np.uint8)
    stored[..., 0], stored[..., 1] = luminance[..., ::2], luminance[..., 1::2]
    stored[..., 2:] = np.random.default_rng(0).integers(0, 256, (2, 6, 4, 2))
    tags = {"Columns": 8, "SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422"}
    write_dicom(tmp_path / "a.dcm", stored.reshape(2, 6, 16), syntax=syntax, **tags)
    for number in (1, 2):
        np.testing.assert_array_equal(read(tmp_path / "a.dcm", frame=number), luminance[number - 1])


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_jpeg_colours_against_pillow(tmp_path: Path, photometric: str) -> None:
    path = tmp_path / "a.dcm"
    pixels = smooth()
    stored = pixels if photometric == "RGB" else convert_color_space(pixels, "RGB", "YBR_FULL")
    write_dicom(path, stored, syntax="jpeg-baseline", photometric=photometric)
    dataset = pydicom.dcmread(path)
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    theirs, _ = decoder.as_array(dataset, decoding_plugin="pillow", raw=True)
    expected = luma(theirs) if photometric == "RGB" else theirs[..., 0]
    np.testing.assert_array_equal(read(path), expected)
    assert np.abs(read(path).astype(int) - luma(pixels)).max() <= 5


@pytest.mark.parametrize("entry_bits", [8, 16])
@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian", "rle"])
def test_palette(tmp_path: Path, syntax: str, entry_bits: int) -> None:
    rng = np.random.default_rng(2)
    order = ">" if syntax == "big-endian" else "<"
    entries = rng.integers(0, 1 << entry_bits, (3, 200))
    packed = [line.astype("u1" if entry_bits == 8 else f"{order}u2").tobytes() for line in entries]
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, data in zip(("Red", "Green", "Blue"), packed, strict=True):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [200, 10, entry_bits]
        tags[f"{colour}PaletteColorLookupTableData"] = data
    indices = rng.integers(0, 256, (9, 8)).astype(np.uint8)
    write_dicom(tmp_path / "a.dcm", indices, syntax=syntax, **tags)
    rgb = entries[:, (indices.astype(int) - 10).clip(0, 199)].transpose(1, 2, 0)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), luma(rgb))
    if order == "<":  # pydicom takes every palette for little-endian
        theirs = apply_color_lut(indices, pydicom.dcmread(tmp_path / "a.dcm"))
        np.testing.assert_array_equal(theirs, rgb)


def test_a_palette_image_without_palette(tmp_path: Path) -> None:
    indices = np.arange(20, dtype=np.uint8).reshape(4, 5)
    write_dicom(tmp_path / "a.dcm", indices, PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(ImageRejected) as verdict:
        read(tmp_path / "a.dcm")
    assert verdict.value.code == RejectCode.DAMAGED_HEADER


@pytest.mark.parametrize(
    "tags",
    [
        {"PixelRepresentation": 1},
        {"PhotometricInterpretation": "YBR_PARTIAL_420"},
        {"PhotometricInterpretation": "YBR_FULL_422"},
        {"PhotometricInterpretation": "MONOCHROME2"},
        {"PhotometricInterpretation": "CMYK"},
    ],
)
def test_colours_that_cannot_be_read(tmp_path: Path, tags: dict) -> None:
    """The width is odd, so 4:2:2 is not possible."""
    write_dicom(tmp_path / "a.dcm", colours(), photometric="RGB", **tags)
    with pytest.raises(ImageRejected) as verdict:
        read(tmp_path / "a.dcm")
    assert verdict.value.code == RejectCode.UNSUPPORTED
