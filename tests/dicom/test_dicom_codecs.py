"""Decoders at reduced resolution, RLE, and lossy values beyond their range."""

from __future__ import annotations

import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless

from mammography.dicom.codecs import CODECS, decode_rle
from mammography.dicom.codestream import read_jpeg2000
from mammography.dicom.phantom.codecs import SYNTAXES
from mammography.dicom.phantom.files import image_dataset, write_dicom
from mammography.dicom.pixels import StoredImage, read_dicom
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

SIDES = (256, 192)

WAVELETS = [name for name in ("jpeg2000", "htj2k") if name in SYNTAXES]

needs_openjph = pytest.mark.skipif("htj2k" not in SYNTAXES, reason="no OpenJPH on Python 3.10")


def read(path: Path, **options: object) -> StoredImage:
    with path.open("rb") as file:
        return read_dicom(file, **options)


def breast(bits: int, signed: bool = False) -> np.ndarray:
    """Bright and textured on a black ground with a hard edge: wavelets undershoot there.

    Its brightest part has the largest value that there is: they overshoot too.
    """
    rows, columns = np.mgrid[: SIDES[0], : SIDES[1]]
    inside = (rows - 128) ** 2 / 110**2 + columns**2 / 150**2 < 1
    texture = 0.6 + 0.2 * np.sin(columns / 9) * np.cos(rows / 11)
    texture[100:150, 40:90] = 1
    noise = np.random.default_rng(bits).normal(0, 0.01, SIDES)
    share = np.where(inside, texture + noise, 0).clip(0, 1)
    top = (1 << bits) - 1
    values = np.rint(share * top).astype(np.int64) - (1 << (bits - 1) if signed else 0)
    return values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def low_pass(lines: np.ndarray) -> np.ndarray:
    """The reversible 5/3 wavelet's low band along the first axis (ISO 15444-1, F.3.8.2.1.1)."""
    extended = np.pad(lines, [(2, 2), (0, 0)], mode="reflect")
    even, odd = extended[::2], extended[1::2]
    high = odd[:-1] - (even[:-1] + even[1:]) // 2
    return even[1:-1] + (high[:-1] + high[1:] + 2) // 4


def mean_of_squares(pixels: np.ndarray, side: int) -> np.ndarray:
    rows, columns = pixels.shape
    return pixels.reshape(rows // side, side, columns // side, side).mean(axis=(1, 3))


@pytest.mark.parametrize("halvings", [1, 2, 3])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("syntax", WAVELETS)
def test_reduced_pixels_are_the_low_band_of_the_wavelet(
    tmp_path: Path, syntax: str, bits: int, signed: bool, halvings: int
) -> None:
    pixels = breast(bits, signed)
    write_dicom(tmp_path / "a.dcm", pixels, syntax=syntax, BitsStored=bits)
    expected = pixels.astype(np.int64)
    for _ in range(halvings):
        expected = low_pass(low_pass(expected).T).T
    low = -(1 << (bits - 1)) if signed else 0
    high = low + (1 << bits) - 1
    assert expected.min() < low  # the undershoot that some decoders turn into white
    assert expected.max() > high
    found = read(tmp_path / "a.dcm", reduce=halvings)
    assert found.full_size == SIDES
    assert found.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(found.pixels, expected.clip(low, high))


@pytest.mark.parametrize(("halvings", "error"), [(1, 0.008), (2, 0.021), (3, 0.046)])
@pytest.mark.parametrize("syntax", ["jpeg2000-lossy", *WAVELETS])
def test_reduced_pixels_are_near_the_mean_of_their_squares(
    tmp_path: Path, syntax: str, halvings: int, error: float
) -> None:
    """Not nearer than that, because the low band lies half a small pixel to the upper left."""
    write_dicom(tmp_path / "a.dcm", breast(12), syntax=syntax, BitsStored=12)
    expected = mean_of_squares(breast(12).astype(np.float64), 1 << halvings)
    found = read(tmp_path / "a.dcm", reduce=halvings).pixels
    assert np.abs(found - expected).mean() < error * 4095


@needs_openjph
@pytest.mark.parametrize("bits", [12, 16])
def test_both_wavelet_syntaxes_give_the_same_reduced_pixels(tmp_path: Path, bits: int) -> None:
    """They share the wavelet, and here not the decoder: OpenJPEG and OpenJPH."""
    for syntax in ("jpeg2000", "htj2k"):
        write_dicom(tmp_path / f"{syntax}.dcm", breast(bits), syntax=syntax, BitsStored=bits)
    one, other = (
        read(tmp_path / f"{syntax}.dcm", reduce=1).pixels for syntax in ("jpeg2000", "htj2k")
    )
    np.testing.assert_array_equal(one, other)


@needs_openjph
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_openjpeg_reads_htj2k_where_openjph_is_missing(bits: int) -> None:
    stream = read_jpeg2000(imagecodecs.htj2k_encode(breast(bits)))
    assert CODECS[HTJ2KLossless].decode is not CODECS[JPEG2000Lossless].decode
    np.testing.assert_array_equal(CODECS[JPEG2000Lossless].decode(stream), breast(bits))


@needs_openjph
def test_the_trap_is_there() -> None:
    """OpenJPH itself does turn black into white; if it stops, `_reduce_by_openjph` can go."""
    raw = imagecodecs.htj2k_decode(imagecodecs.htj2k_encode(breast(12)), skipres=1)
    assert raw.max() > 60000


@pytest.mark.parametrize("levels", [0, 1])
def test_codestreams_are_halved_only_as_far_as_they_go(tmp_path: Path, levels: int) -> None:
    pixels = breast(12)
    dataset = image_dataset(tmp_path / "a.dcm", pixels, syntax="jpeg2000", BitsStored=12)
    stream = imagecodecs.jpeg2k_encode(
        pixels, codecformat="j2k", resolutions=levels + 1, reversible=True, bitspersample=12
    )
    dataset.PixelData = encapsulate([stream])
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    found = read(tmp_path / "a.dcm", reduce=3)
    assert found.pixels.shape == (SIDES[0] >> levels, SIDES[1] >> levels)
    assert found.full_size == SIDES


@pytest.mark.parametrize("syntax", ["explicit", "rle", "jpeg-lossless", "jpeg-ls"])
def test_other_syntaxes_are_decoded_in_full(tmp_path: Path, syntax: str) -> None:
    write_dicom(tmp_path / "a.dcm", breast(12), syntax=syntax, BitsStored=12)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm", reduce=2).pixels, breast(12))


def test_what_has_no_order_is_decoded_in_full(tmp_path: Path) -> None:
    """Colours, palette indices, and signs that header and codestream disagree about."""
    colour = np.dstack([breast(8)] * 3)
    write_dicom(tmp_path / "rgb.dcm", colour, syntax="jpeg2000", photometric="YBR_RCT")
    write_dicom(tmp_path / "sign.dcm", breast(12), syntax="jpeg2000", PixelRepresentation=1)
    assert read(tmp_path / "rgb.dcm", reduce=1).pixels.shape == SIDES
    assert read(tmp_path / "sign.dcm", reduce=1).pixels.shape == SIDES


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        ("jpeg-ls-near", lambda pixels: imagecodecs.jpegls_encode(pixels, level=9)),
        (
            "jpeg2000-lossy",
            lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=30),
        ),
    ],
)
def test_lossy_values_beyond_the_bits_stored_are_clipped(
    tmp_path: Path, syntax: str, encode
) -> None:
    """Codestreams of 16 bits for 12 stored: 4,097 must become 4,095, not 1."""
    pixels = breast(12)
    dataset = image_dataset(tmp_path / "a.dcm", pixels, syntax=syntax, BitsStored=12)
    dataset.PixelData = encapsulate([encode(pixels)])
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    stream = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
    codec = CODECS[dataset.file_meta.TransferSyntaxUID]
    raw = codec.decode(codec.inspect(stream))
    assert raw.max() > 4095
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").pixels, raw.clip(0, 4095))


@needs_openjph
def test_errors_within_an_htj2k_image_are_not_ignored(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """imagecodecs ignores them and leaves the rest of the image black."""
    pixels = np.random.default_rng(0).integers(0, 4096, SIDES).astype(np.uint16)
    data = imagecodecs.htj2k_encode(pixels)
    hooks = sys.excepthook, sys.unraisablehook
    noticed = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        changed = bytearray(data)
        position = int(rng.integers(200, len(data) - 20))
        changed[position : position + 4] = rng.bytes(4)
        dataset = image_dataset(tmp_path / "a.dcm", pixels, syntax="htj2k", BitsStored=12)
        dataset.PixelData = encapsulate([bytes(changed)])
        dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        try:
            found = read(tmp_path / "a.dcm", reduce=seed % 2).pixels
        except ImageRejected:
            noticed += 1
            continue
        black_rows = (found == 0).all(axis=1).sum()
        assert black_rows == 0
    assert noticed
    assert (sys.excepthook, sys.unraisablehook) == hooks
    assert "Traceback" not in capfd.readouterr().err


def segment(values: np.ndarray) -> bytes:
    return imagecodecs.packbits_encode(np.ascontiguousarray(values))


def rle_frame(*segments: bytes) -> bytes:
    offsets = np.zeros(16, "<u4")
    offsets[0] = len(segments)
    offsets[1 : len(segments) + 1] = 64 + np.cumsum([0, *map(len, segments[:-1])])
    return offsets.tobytes() + b"".join(segments)


def test_rle_planes_by_hand() -> None:
    pixels = np.arange(6 * 5 * 3, dtype=np.uint16).reshape(6, 5, 3) * 700
    planes = [
        segment((pixels[..., sample] >> shift & 255).astype(np.uint8))
        for sample in range(3)
        for shift in (8, 0)
    ]
    np.testing.assert_array_equal(decode_rle(rle_frame(*planes), 6, 5, 3, 16), pixels)
    gray = decode_rle(rle_frame(*planes[:2]), 6, 5, 1, 16)
    np.testing.assert_array_equal(gray, pixels[..., 0])


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(64),
        rle_frame(segment(np.zeros(29, np.uint8))),
        rle_frame(segment(np.zeros(31, np.uint8))),
        rle_frame(b"\x81\0" * 100_000),
        rle_frame(*[segment(np.zeros(30, np.uint8))] * 2),
        rle_frame(*[segment(np.zeros(30, np.uint8))] * 15),
        b"\x10" + rle_frame(segment(np.zeros(30, np.uint8)))[1:],
        b"\1\0\0\0" + b"\xff" * 60,
    ],
)
def test_rle_that_does_not_fill_the_frame(frame: bytes) -> None:
    with pytest.raises(ImageRejected) as verdict:
        decode_rle(frame, 6, 5, 1, 8)
    assert verdict.value.code in (RejectCode.DECODE_FAILED, RejectCode.TRUNCATED)
