"""PGM files, written by hand."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mammography.archive.netpbm import PgmHeader, read_pgm_header, read_pgm_pixels
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

EIGHT = np.arange(0, 240, 2, dtype=np.uint8).reshape(10, 12)
TWELVE = EIGHT.astype(np.uint16) * 17


def read(data: bytes) -> np.ndarray:
    file = BytesIO(data)
    return read_pgm_pixels(file, read_pgm_header(file))


def refused(data: bytes) -> RejectCode:
    with pytest.raises(ImageRejected) as verdict:
        read(data)
    return verdict.value.code


def words(pixels: np.ndarray) -> bytes:
    return "\n".join(" ".join(map(str, line)) for line in pixels.tolist()).encode()


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (b"P5 12 10 255\n" + EIGHT.tobytes(), EIGHT),
        (b"P5\n#c\n12\t10 # 3 4\n255 " + EIGHT.tobytes(), EIGHT),
        (b"P5 12 10 238\r" + EIGHT.tobytes() + b"\n", EIGHT),
        (b"P5 12 10 4095\n" + TWELVE.astype(">u2").tobytes(), TWELVE),
        (b"P5 12 10 65535\n" + TWELVE.astype(">u2").tobytes(), TWELVE),
        (b"P5 12 10 256\n" + EIGHT.astype(">u2").tobytes(), EIGHT.astype(np.uint16)),
        (b"P2 12 10 255\n" + words(EIGHT), EIGHT),
        (b"P2\n12 10\n4095\n" + words(TWELVE) + b"\n", TWELVE),
        (b"P2 12 10 65535\n\n  " + words(TWELVE).replace(b" ", b"\t\n"), TWELVE),
    ],
)
def test_values_stay_as_they_are(data: bytes, pixels: np.ndarray) -> None:
    found = read(data)
    assert found.dtype == pixels.dtype
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, pixels)


def test_header() -> None:
    header = read_pgm_header(BytesIO(b"P5 # width\n 12 10\n4095\n...."))
    assert header == PgmHeader(binary=True, columns=12, rows=10, white=4095, length=23)


def test_what_pillow_writes() -> None:
    file = BytesIO()
    Image.fromarray(EIGHT).save(file, "PPM")
    np.testing.assert_array_equal(read(file.getvalue()), EIGHT)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"P5", b"P5 1 2", b"P5 a b 255\n", b"P6 12 10 255\n", b"P5 12 10 0\n"),
        *(b"P5 12 10 65536\n", b"P5 -12 10 255\n", b"P5 12 10 255", b"P512 10 255\n"),
        *(b"P5 99999999999 1 255\n", b"P5 " + b"# comment\n" * 10_000 + b"12 10 255\n"),
    ],
)
def test_damaged_headers(data: bytes) -> None:
    assert refused(data) == RejectCode.DAMAGED_HEADER


@pytest.mark.parametrize("length", range(120))
def test_no_beginning_of_the_pixels_passes_for_all(length: int) -> None:
    assert refused(b"P5 12 10 255\n" + EIGHT.tobytes()[:length]) == RejectCode.TRUNCATED
    sixteen = TWELVE.astype(">u2").tobytes()[: 2 * length + 1]
    assert refused(b"P5 12 10 4095\n" + sixteen[:239]) == RejectCode.TRUNCATED
    few = b" ".join(words(EIGHT).split()[:length])
    assert refused(b"P2 12 10 255\n" + few) == RejectCode.TRUNCATED


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"P5 12 10 255\n" + EIGHT.tobytes() * 2, RejectCode.WRONG_LENGTH),
        (b"P5 12 10 255\n" + EIGHT.tobytes() + b"P5 12 10 255\n", RejectCode.WRONG_LENGTH),
        (b"P2 12 10 255\n" + words(EIGHT) + b" 1", RejectCode.WRONG_LENGTH),
        (b"P5 12 10 237\n" + EIGHT.tobytes(), RejectCode.MISMATCH),
        (b"P2 12 10 237\n" + words(EIGHT), RejectCode.MISMATCH),
        (b"P2 12 10 255\n" + words(EIGHT).replace(b"20", b"-9"), RejectCode.DECODE_FAILED),
        (b"P2 12 10 255\n" + words(EIGHT).replace(b"20", b"0x9"), RejectCode.DECODE_FAILED),
        (b"P2 12 10 255\n" + words(EIGHT).replace(b"20", b"1e9"), RejectCode.DECODE_FAILED),
        (b"P2 12 10 255\n" + words(EIGHT).replace(b"20", b"nan"), RejectCode.DECODE_FAILED),
        (b"P2 12 10 255\n" + words(EIGHT).replace(b"20", b"2.5"), RejectCode.DECODE_FAILED),
        (b"P2 12 10 255\n" + words(EIGHT).replace(b"20", b"4294967298"), RejectCode.DECODE_FAILED),
        (b"P2 12 10 255\n" + EIGHT.tobytes(), RejectCode.DECODE_FAILED),
    ],
)
def test_wrong_pixels(data: bytes, code: RejectCode) -> None:
    assert refused(data) == code


def test_a_short_file_that_claims_much_takes_little(capfd: pytest.CaptureFixture) -> None:
    assert refused(b"P5 90000 90000 65535\n" + bytes(1000)) == RejectCode.TRUNCATED
    assert refused(b"P2 90000 90000 65535\n" + b"1 " * 1000) == RejectCode.TRUNCATED
