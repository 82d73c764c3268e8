"""`write_dicom` against pydicom's own decoders and GDCM."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder

from mammography.dicom.phantom.codecs import JPEG2000_PSNR, JPEG_LS_NEAR, SYNTAXES
from mammography.dicom.phantom.files import uid_of, write_dicom
from mammography.errors import UsageError

LOSSLESS = [name for name, syntax in SYNTAXES.items() if syntax.lossy_method is None]


def noise(dtype: str, bits: int, shape: tuple[int, ...] = (37, 53)) -> np.ndarray:
    """A ramp with noise over the full range of so many bits; odd sides, odd number of bytes."""
    rng = np.random.default_rng(bits)
    low = -(1 << (bits - 1)) if dtype.startswith("i") else 0
    ramp = np.linspace(0, (1 << bits) - 1, int(np.prod(shape))).reshape(shape)
    values = (ramp + rng.integers(-3, 4, shape)).clip(0, (1 << bits) - 1) + low
    values.flat[:2] = low, low + (1 << bits) - 1
    return values.astype(dtype)


def read(path: Path) -> np.ndarray:
    """Decode with pydicom, GDCM, Pillow or OpenJPEG, never with the codec that encoded.

    The exception is 12-bit JPEG Extended, which only libjpeg-turbo decodes here.
    """
    dataset = pydicom.dcmread(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return dataset.pixel_array
    if syntax == pydicom.uid.JPEGExtended12Bit:
        return imagecodecs.jpeg8_decode(only_stream(dataset))
    decoder = get_decoder(syntax)
    for plugin in ("pydicom", "gdcm", "pillow"):
        if plugin in decoder.available_plugins:
            array, _ = decoder.as_array(dataset, decoding_plugin=plugin, raw=True)
            return array
    return imagecodecs.jpeg2k_decode(only_stream(dataset))


def only_stream(dataset: pydicom.Dataset) -> bytes:
    return next(generate_frames(dataset.PixelData, number_of_frames=1))


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_sixteen_bit_arrays_come_back(tmp_path: Path, syntax: str, bits: int) -> None:
    pixels = noise("uint16", bits)
    write_dicom(tmp_path / "a.dcm", pixels, syntax=syntax, BitsStored=bits)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit) == (16, bits, bits - 1)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), pixels)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_eight_bit_arrays_come_back(tmp_path: Path, syntax: str) -> None:
    pixels = noise("uint8", 8)
    write_dicom(tmp_path / "a.dcm", pixels, syntax=syntax)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), pixels)
    assert (tmp_path / "a.dcm").stat().st_size % 2 == 0 or syntax == "deflated"


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("syntax", [name for name in LOSSLESS if name != "jpeg-ls"])
def test_signed_arrays_come_back(tmp_path: Path, syntax: str, bits: int) -> None:
    pixels = noise("int16", bits)
    write_dicom(tmp_path / "a.dcm", pixels, syntax=syntax, BitsStored=bits)
    assert pydicom.dcmread(tmp_path / "a.dcm").PixelRepresentation == 1
    found = read(tmp_path / "a.dcm").astype(int) & ((1 << bits) - 1)
    np.testing.assert_array_equal(found, pixels.astype(int) & ((1 << bits) - 1))


@pytest.mark.parametrize("syntax", ["explicit", "rle", "jpeg-lossless", "jpeg2000"])
def test_frames_come_back_in_order(tmp_path: Path, syntax: str) -> None:
    pixels = noise("uint16", 12, (3, 20, 24))
    write_dicom(tmp_path / "a.dcm", pixels, syntax=syntax, BitsStored=12)
    assert pydicom.dcmread(tmp_path / "a.dcm").NumberOfFrames == 3
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), pixels)


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian", "rle", "jpeg2000"])
def test_colours_come_back(tmp_path: Path, syntax: str) -> None:
    pixels = noise("uint8", 8, (21, 23, 3))
    write_dicom(tmp_path / "a.dcm", pixels, syntax=syntax, photometric="RGB")
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), pixels)


def test_colour_planes_come_back(tmp_path: Path) -> None:
    pixels = noise("uint8", 8, (2, 21, 23, 3))
    write_dicom(tmp_path / "a.dcm", pixels, photometric="RGB", PlanarConfiguration=1)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), pixels)


@pytest.mark.parametrize(
    ("syntax", "dtype", "bits", "decibels"),
    [
        ("jpeg-baseline", "uint8", 8, 40),
        ("jpeg-extended", "uint16", 12, 60),
        ("jpeg2000-lossy", "uint16", 12, JPEG2000_PSNR - 1),  # OpenJPEG only estimates it
    ],
)
def test_lossy_syntaxes_lose_little_and_say_so(
    tmp_path: Path, syntax: str, dtype: str, bits: int, decibels: float
) -> None:
    pixels = noise(dtype, bits, (96, 80))
    pixels.flat[:2] = 1
    write_dicom(tmp_path / "a.dcm", pixels, syntax=syntax, BitsStored=bits)
    error = read(tmp_path / "a.dcm").astype(int) - pixels
    assert error.any()
    assert 10 * np.log10((2**bits - 1) ** 2 / np.mean(error**2)) > decibels
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert dataset.LossyImageCompression == "01"
    assert float(dataset.LossyImageCompressionRatio) > 1


def test_near_lossless_is_near(tmp_path: Path) -> None:
    pixels = noise("uint16", 12, (96, 80))
    write_dicom(tmp_path / "a.dcm", pixels, syntax="jpeg-ls-near", BitsStored=12)
    error = np.abs(read(tmp_path / "a.dcm").astype(int) - pixels)
    assert error.max() == JPEG_LS_NEAR
    assert pydicom.dcmread(tmp_path / "a.dcm").LossyImageCompression == "01"


def test_tags_override_even_the_truth_and_none_leaves_out(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", noise("uint8", 8), Rows=60000, ViewPosition=None, KVP="29")
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert dataset.Rows == 60000
    assert "ViewPosition" not in dataset
    assert dataset.KVP == 29


def test_a_compressed_file_may_lack_bits_stored(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", noise("uint16", 12), syntax="jpeg-lossless", BitsStored=None)
    assert "BitsStored" not in pydicom.dcmread(tmp_path / "a.dcm")


def test_not_a_number_becomes_float_pixel_data(tmp_path: Path) -> None:
    pixels = np.array([[1.5, np.nan], [np.inf, -2]], dtype=np.float32)
    write_dicom(tmp_path / "a.dcm", pixels)
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "a.dcm").pixel_array, pixels)


def test_same_call_same_bytes(tmp_path: Path) -> None:
    for root in ("one", "two"):
        write_dicom(tmp_path / root / "exam" / "a.dcm", noise("uint16", 16), syntax="rle")
    first, second = (tmp_path / root / "exam" / "a.dcm" for root in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_uids_are_valid_and_differ() -> None:
    uids = {uid_of("series", number) for number in range(100)}
    assert len(uids) == 100
    assert all(pydicom.uid.UID(one).is_valid for one in uids)


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (np.zeros((2, 2), np.uint16), {"syntax": "jpeg-baseline"}),
        (np.zeros((2, 2), np.uint8), {"syntax": "jpeg-extended"}),
        (np.zeros((2, 2), np.float32), {"syntax": "rle"}),
        (np.zeros((2, 2), np.float64), {}),
        (np.zeros((2, 2), np.uint8), {"photometric": "RGB"}),
        (np.zeros((2, 2), np.uint8), {"syntax": "jpeg-xl"}),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, pixels: np.ndarray, options: dict[str, str]
) -> None:
    with pytest.raises(UsageError):
        write_dicom(tmp_path / "a.dcm", pixels, **options)
    assert not (tmp_path / "a.dcm").exists()
