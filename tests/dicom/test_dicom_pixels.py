"""`read_dicom`: what was written comes back, bit for bit, whatever way it was stored."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.pixels import get_decoder

from mammography.dicom.phantom.codecs import SYNTAXES
from mammography.dicom.phantom.files import PIXEL_DATA, image_dataset, write_dicom
from mammography.dicom.pixels import StoredImage, read_dicom
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

LOSSLESS = [name for name, syntax in SYNTAXES.items() if syntax.lossy_method is None]
NATIVE = ["implicit", "explicit", "big-endian", "deflated"]
MAX_PIXELS = 30_000_000


def read(path: Path, **options: object) -> StoredImage:
    with path.open("rb") as file:
        return read_dicom(file, **({"max_pixels": MAX_PIXELS} | options))


def verdict_on(path: Path, **options: object) -> RejectCode:
    with pytest.raises(ImageRejected) as verdict:
        read(path, **options)
    return verdict.value.code


def save(path: Path, pixels: np.ndarray, vr: str, data: bytes, **options: object) -> None:
    """`write_dicom` with other bytes in the pixel element."""
    dataset = image_dataset(path, pixels, **options)
    dataset[PIXEL_DATA] = DataElement(PIXEL_DATA, vr, data)
    dataset.save_as(path, enforce_file_format=True)


def noise(bits: int, signed: bool = False, shape: tuple[int, ...] = (37, 53)) -> np.ndarray:
    """Every value is possible and both extremes occur; odd sides, odd number of bytes."""
    low = -(1 << (bits - 1)) if signed else 0
    values = np.random.default_rng(bits).integers(low, low + (1 << bits), shape)
    values.flat[:2] = low, low + (1 << bits) - 1
    kind = "i" if signed else "u"
    return values.astype(f"{kind}1" if bits <= 8 else f"{kind}2")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_what_is_written_is_read(tmp_path: Path, syntax: str, bits: int, signed: bool) -> None:
    pixels = noise(bits, signed)
    write_dicom(tmp_path / "a.dcm", pixels, syntax=syntax, BitsStored=bits)
    found = read(tmp_path / "a.dcm")
    assert found.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(found.pixels, pixels)
    assert (found.frame, found.full_size, found.inverted) == (1, pixels.shape, False)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_eight_bits_may_lie_in_sixteen(tmp_path: Path, syntax: str, signed: bool) -> None:
    pixels = noise(8, signed).astype(np.int16 if signed else np.uint16)
    dataset = image_dataset(tmp_path / "a.dcm", pixels, syntax=syntax)
    dataset.BitsStored, dataset.HighBit = 8, 7
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").pixels, pixels)


@pytest.mark.parametrize(
    ("syntax", "plugin", "bits"),
    [
        ("jpeg-baseline", "pillow", 8),
        ("jpeg-baseline", "gdcm", 8),
        ("jpeg-ls-near", "gdcm", 8),
        ("jpeg-ls-near", "gdcm", 12),
        ("jpeg-ls-near", "gdcm", 16),
        ("jpeg2000-lossy", "pillow", 8),
        ("jpeg2000-lossy", "pillow", 16),
        ("jpeg2000-lossy", "gdcm", 12),
    ],
)
def test_lossy_pixels_are_those_of_another_decoder(
    tmp_path: Path, syntax: str, plugin: str, bits: int
) -> None:
    path = tmp_path / "a.dcm"
    write_dicom(path, noise(bits), syntax=syntax, BitsStored=bits)
    dataset = pydicom.dcmread(path)
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    theirs, _ = decoder.as_array(dataset, decoding_plugin=plugin)
    # Near-lossless values may leave the range of the bits stored.
    np.testing.assert_array_equal(read(path).pixels, theirs.clip(0, (1 << bits) - 1))


def test_twelve_bit_jpeg_is_near_what_was_written(tmp_path: Path) -> None:
    """No other decoder here reads it."""
    ramp = np.linspace(300, 3700, 96 * 80).reshape(96, 80).astype(np.uint16)
    write_dicom(tmp_path / "a.dcm", ramp, syntax="jpeg-extended", BitsStored=12)
    error = np.abs(read(tmp_path / "a.dcm").pixels.astype(int) - ramp)
    assert 0 < error.max() < 12


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [*NATIVE, "rle", "jpeg-lossless"])
def test_bits_above_the_value_are_masked(tmp_path: Path, syntax: str, signed: bool) -> None:
    values = noise(12, signed)
    overlay = np.random.default_rng(0).integers(0, 16, values.shape).astype(np.uint16) << 12
    stored = (values.view(np.uint16) & 0xFFF) | overlay
    dataset = image_dataset(tmp_path / "a.dcm", stored, syntax=syntax)
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, int(signed)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").pixels, values)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high_bit", [12, 15])
@pytest.mark.parametrize("syntax", [*NATIVE, "rle"])
def test_values_may_lie_higher_than_at_the_bottom(
    tmp_path: Path, syntax: str, high_bit: int, signed: bool
) -> None:
    values = noise(12, signed)
    below = high_bit - 11
    rubbish = np.random.default_rng(0).integers(0, 1 << below, values.shape).astype(np.uint16)
    stored = (values.view(np.uint16) << below) | rubbish
    dataset = image_dataset(tmp_path / "a.dcm", stored, syntax=syntax)
    dataset.BitsStored, dataset.HighBit = 12, high_bit
    dataset.PixelRepresentation = int(signed)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").pixels, values)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_may_lie_in_thirty_two(tmp_path: Path, order: str) -> None:
    values = noise(16)
    syntax = "explicit" if order == "<" else "big-endian"
    dataset = image_dataset(tmp_path / "a.dcm", values, syntax=syntax)
    dataset.BitsAllocated = 32
    dataset.PixelData = (values.astype(f"{order}u4") | 7 << 20).astype(f"{order}u4").tobytes()
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").pixels, values)


@pytest.mark.parametrize("frames", [None, 3])
@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_big_endian_words_of_bytes(tmp_path: Path, vr: str, frames: int | None) -> None:
    """OW swaps the bytes of each pair, across the ends of odd frames too (PS3.5 section 8)."""
    pixels = noise(8, shape=(3, 5, 7) if frames else (5, 7))
    data = pixels.tobytes() + b"\0"
    if vr == "OW":
        data = np.frombuffer(data, "<u2").byteswap().tobytes()
    save(tmp_path / "a.dcm", pixels, vr, data, syntax="big-endian")
    for number in range(1, (frames or 1) + 1):
        found = read(tmp_path / "a.dcm", frame=number).pixels
        np.testing.assert_array_equal(found, pixels[number - 1] if frames else pixels)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
def test_floating_point_pixels(tmp_path: Path, dtype: str) -> None:
    pixels = np.random.default_rng(0).normal(0, 1e3, (2, 5, 7)).astype(dtype)
    syntax = "explicit" if dtype[0] == "<" else "big-endian"
    dataset = image_dataset(tmp_path / "a.dcm", pixels.astype(np.float32), syntax=syntax)
    del dataset.FloatPixelData
    name = "FloatPixelData" if dtype[2] == "4" else "DoubleFloatPixelData"
    setattr(dataset, name, pixels.tobytes())
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    found = read(tmp_path / "a.dcm", frame=2).pixels
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, pixels[1].astype(np.float32))


def test_a_double_too_large_for_a_float_becomes_infinite_without_a_warning(tmp_path: Path) -> None:
    dataset = image_dataset(tmp_path / "a.dcm", np.zeros((2, 2), np.float32))
    del dataset.FloatPixelData
    dataset.DoubleFloatPixelData = np.array([0, 1, 2, 1e300]).tobytes()
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path / "a.dcm").pixels[1, 1] == np.inf


@pytest.mark.parametrize("padding", [1, 3, 1001])
def test_zeros_may_follow_the_pixels(tmp_path: Path, padding: int) -> None:
    pixels = noise(8, shape=(5, 7))
    save(tmp_path / "a.dcm", pixels, "OB", pixels.tobytes() + bytes(padding))
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").pixels, pixels)


@pytest.mark.parametrize("change", [-20, -2, "filled", 1 << 17])
def test_any_other_length_is_wrong(tmp_path: Path, change: int | str) -> None:
    data = noise(8, shape=(5, 8)).tobytes()
    data = data + b"\1\1" if change == "filled" else (data + bytes(1 << 17))[: 40 + int(change)]
    save(tmp_path / "a.dcm", noise(8, shape=(5, 8)), "OB", data)
    assert verdict_on(tmp_path / "a.dcm") == RejectCode.WRONG_LENGTH


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("syntax", ["explicit", "deflated", "rle", "jpeg-lossless", "jpeg2000"])
def test_frames(tmp_path: Path, syntax: str, photometric: str) -> None:
    path = tmp_path / "a.dcm"
    for count, middle in ((1, 1), (2, 1), (3, 2), (4, 2), (5, 3)):
        stack = np.stack([noise(12, shape=(9, 7)) // (n + 1) + n for n in range(count)])
        write_dicom(
            path, stack, syntax=syntax, BitsStored=12, PhotometricInterpretation=photometric
        )
        assert read(path).frame == middle
        np.testing.assert_array_equal(read(path).pixels, stack[middle - 1])
        for number in range(1, count + 1):
            found = read(path, frame=number)
            assert found.frame == number
            np.testing.assert_array_equal(found.pixels, stack[number - 1])
        brightest = stack.min(0) if photometric == "MONOCHROME1" else stack.max(0)
        projection = read(path, frame="max")
        assert projection.frame == (0 if count > 1 else 1)
        np.testing.assert_array_equal(projection.pixels, brightest)
        for number in (0, -1, count + 1):
            assert verdict_on(path, frame=number) == RejectCode.UNSUPPORTED


def test_a_signed_projection_compares_with_signs(tmp_path: Path) -> None:
    stack = np.array([[[-5, 3]], [[2, -7]]], np.int16)
    write_dicom(tmp_path / "a.dcm", stack)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm", frame="max").pixels, [[2, 3]])


def test_only_the_frame_asked_for_is_decoded(tmp_path: Path) -> None:
    """The first and last of three frames are rubbish; the middle one is fine."""
    good = noise(12, shape=(3, 20, 24))
    dataset = image_dataset(tmp_path / "a.dcm", good, syntax="jpeg2000", BitsStored=12)
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=3))
    frames[0] = frames[2] = b"\0\1\2\3"
    dataset.PixelData = pydicom.encaps.encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").pixels, good[1])
    assert verdict_on(tmp_path / "a.dcm", frame="max") == RejectCode.DECODE_FAILED


@pytest.mark.parametrize(
    ("dtype", "tags", "padding"),
    [
        ("uint16", {}, None),
        ("uint16", {"PixelPaddingValue": 0}, (0, 0)),
        ("uint16", {"PixelPaddingValue": 9, "PixelPaddingRangeLimit": 4}, (4, 9)),
        ("uint16", {"PixelPaddingValue": 65535, "PixelPaddingRangeLimit": 65530}, (65530, 65535)),
        ("int16", {"PixelPaddingValue": -2000}, (-2000, -2000)),
        ("int16", {"PixelPaddingValue": DataElement(0x00280120, "US", 63536)}, (-2000, -2000)),
        ("uint16", {"PixelPaddingValue": DataElement(0x00280120, "SS", -6)}, (65530, 65530)),
        ("uint16", {"PixelPaddingValue": DataElement(0x00280120, "LO", "none")}, None),
    ],
)
def test_padding_range(
    tmp_path: Path, dtype: str, tags: dict, padding: tuple[int, int] | None
) -> None:
    write_dicom(tmp_path / "a.dcm", noise(15).astype(dtype), **tags)
    assert read(tmp_path / "a.dcm").padding == padding


@pytest.mark.parametrize(("signed", "padding"), [(False, 65530), (True, -6)])
def test_padding_of_a_file_that_names_no_types(tmp_path: Path, signed: bool, padding: int) -> None:
    write_dicom(tmp_path / "a.dcm", noise(16, signed), syntax="implicit", PixelPaddingValue=padding)
    assert read(tmp_path / "a.dcm").padding == (padding, padding)


def test_monochrome1_is_told_and_not_undone(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", noise(12), PhotometricInterpretation="MONOCHROME1")
    found = read(tmp_path / "a.dcm")
    assert found.inverted
    np.testing.assert_array_equal(found.pixels, noise(12))


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"Rows": 60000, "Columns": 60000}, RejectCode.TOO_LARGE),
        ({"Rows": 0}, RejectCode.DAMAGED_HEADER),
        ({"Rows": None}, RejectCode.NO_PIXEL_DATA),
        ({"Columns": 52}, RejectCode.WRONG_LENGTH),
        ({"NumberOfFrames": 2}, RejectCode.WRONG_LENGTH),
        ({"NumberOfFrames": -3}, RejectCode.DAMAGED_HEADER),
        ({"NumberOfFrames": DataElement(0x00280008, "LO", "many")}, RejectCode.DAMAGED_HEADER),
        ({"BitsAllocated": 12}, RejectCode.UNSUPPORTED),
        ({"BitsAllocated": None}, RejectCode.DAMAGED_HEADER),
        ({"BitsStored": 17, "BitsAllocated": 32}, RejectCode.UNSUPPORTED),
        ({"HighBit": 16}, RejectCode.MISMATCH),
        ({"BitsStored": 12, "HighBit": 7}, RejectCode.MISMATCH),
        ({"SamplesPerPixel": 4}, RejectCode.UNSUPPORTED),
        ({"SamplesPerPixel": 3}, RejectCode.UNSUPPORTED),
        ({"PhotometricInterpretation": "RGB"}, RejectCode.UNSUPPORTED),
        ({"PhotometricInterpretation": "CIELAB"}, RejectCode.UNSUPPORTED),
        ({"RescaleSlope": "0"}, RejectCode.MISMATCH),
        ({"RescaleSlope": DataElement(0x00281053, "LO", "steep")}, RejectCode.NOT_FINITE),
        ({"PixelData": None}, RejectCode.NO_PIXEL_DATA),
    ],
)
def test_headers_that_do_not_describe_the_pixels(
    tmp_path: Path, tags: dict, code: RejectCode
) -> None:
    dataset = image_dataset(tmp_path / "a.dcm", noise(16), **tags)
    if tags.get("PixelData", "") is None:
        del dataset.PixelData
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert verdict_on(tmp_path / "a.dcm") == code


def test_a_missing_photometric_interpretation_is_taken_for_monochrome2(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", noise(12), PhotometricInterpretation=None)
    assert not read(tmp_path / "a.dcm").inverted


@pytest.mark.parametrize("syntax", ["jpeg-lossless", "jpeg-ls", "jpeg2000"])
def test_a_codestream_of_more_bits_than_are_allocated(tmp_path: Path, syntax: str) -> None:
    dataset = image_dataset(tmp_path / "a.dcm", noise(12), syntax=syntax, BitsStored=12)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert verdict_on(tmp_path / "a.dcm") == RejectCode.MISMATCH


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.100", "1.2.3.4"])
def test_unknown_transfer_syntaxes(tmp_path: Path, uid: str) -> None:
    dataset = image_dataset(tmp_path / "a.dcm", noise(8), syntax="jpeg-baseline")
    dataset.file_meta.TransferSyntaxUID = uid
    dataset.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True)
    assert verdict_on(tmp_path / "a.dcm") == RejectCode.UNSUPPORTED


@pytest.mark.parametrize(("syntax", "named"), [("explicit", "rle"), ("rle", "explicit")])
def test_a_file_that_names_the_wrong_syntax(tmp_path: Path, syntax: str, named: str) -> None:
    dataset = image_dataset(tmp_path / "a.dcm", noise(8), syntax=syntax)
    written = tmp_path / "a.dcm"
    dataset.save_as(written, enforce_file_format=True)
    old, new = (SYNTAXES[name].uid.encode() for name in (syntax, named))
    assert len(old) == len(new)
    written.write_bytes(written.read_bytes().replace(old, new, 1))
    assert verdict_on(written) in (RejectCode.DECODE_FAILED, RejectCode.MISMATCH)


#: Name, shape, type, smallest, largest, CRC-32 of the little-endian pixels.
REAL = [
    ("clunie_MG_Explicit_Little.dcm", (512, 512), "uint8", 0, 255, 0xB70E7608),
    ("dicomutils_dbt_jpeg2k_3d.dcm", (128, 128), "uint16", 0, 1023, 0x00BF354B),
    ("fodicom_GH133.dcm", (3062, 2394), "uint16", 0, 3471, 0x9883F3A1),
    ("fodicom_OutOfBoundsOverlay.dcm", (788, 1318), "uint16", 27, 4091, 0x97A1C6A1),
    ("nema_MG1_J2KI.dcm", (4664, 3064), "uint16", 0, 4095, 0x1D2F64BA),
    ("nema_MG1_JPLY.dcm", (4664, 3064), "uint16", 0, 4095, 0xD56F7AA2),
]


@pytest.mark.parametrize(("name", "shape", "dtype", "low", "high", "checksum"), REAL)
def test_real_files(
    shared: Path, name: str, shape: tuple[int, int], dtype: str, low: int, high: int, checksum: int
) -> None:
    pixels = read(shared / "data" / "dicom" / name).pixels
    assert (pixels.shape, pixels.dtype) == (shape, dtype)
    assert (pixels.min(), pixels.max()) == (low, high)
    assert (
        zlib.crc32(np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<"))) == checksum
    )


def test_the_real_twelve_bit_jpeg_shows_the_image_of_its_jpeg_2000_sister(shared: Path) -> None:
    jpeg, sister = (
        read(shared / "data" / "dicom" / f"nema_MG1_{name}.dcm").pixels[::4, ::4].astype(float)
        for name in ("JPLY", "J2KI")
    )
    assert np.abs(jpeg - sister).mean() < 0.004 * 4095
    assert np.corrcoef(jpeg.ravel(), sister.ravel())[0, 1] > 0.999
