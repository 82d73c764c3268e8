"""What compressed frames say about themselves, and when they are whole."""

from __future__ import annotations

import struct
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from mammography.dicom.codestream import Codestream, read_jpeg, read_jpeg2000
from mammography.dicom.phantom.codecs import SYNTAXES
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

GRAY = np.arange(13 * 17, dtype=np.uint16).reshape(13, 17)
COLOUR = np.dstack([GRAY, GRAY + 9, GRAY // 2]).astype(np.uint8)


def tiled_jpeg2000() -> bytes:
    stream = BytesIO()
    options = {"no_jp2": True, "tile_size": (8, 8), "num_resolutions": 2}
    Image.fromarray(GRAY.astype(np.uint8)).save(stream, "JPEG2000", **options)
    return stream.getvalue()


def shape_of(stream: Codestream) -> tuple[int, int, int, int]:
    return stream.rows, stream.columns, stream.components, stream.bits


@pytest.mark.parametrize("bits", range(9, 17))
def test_jpeg_lossless(bits: int) -> None:
    data = imagecodecs.jpeg8_encode(GRAY, lossless=True, predictor=1, bitspersample=bits)
    stream = read_jpeg(data)
    assert shape_of(stream) == (13, 17, 1, bits)
    assert (stream.signed, stream.levels, stream.data) == (False, 0, data)


def test_jpeg_baseline_extended_and_ls() -> None:
    eight, twelve = GRAY.astype(np.uint8), GRAY * 8
    assert shape_of(read_jpeg(imagecodecs.jpeg8_encode(eight))) == (13, 17, 1, 8)
    assert shape_of(read_jpeg(imagecodecs.jpeg8_encode(twelve, bitspersample=12))) == (
        13,
        17,
        1,
        12,
    )
    assert shape_of(read_jpeg(imagecodecs.jpegls_encode(eight))) == (13, 17, 1, 8)
    assert shape_of(read_jpeg(imagecodecs.jpegls_encode(COLOUR))) == (13, 17, 3, 8)


@pytest.mark.parametrize(("space", "rgb"), [("RGB", True), ("YCBCR", False)])
def test_jpeg_colour_by_its_markers(space: str, rgb: bool) -> None:
    data = imagecodecs.jpeg8_encode(COLOUR, colorspace=space, outcolorspace=space)
    assert (b"Adobe" in data, b"JFIF" in data) == (rgb, not rgb)
    assert read_jpeg(data).rgb is rgb


@pytest.mark.parametrize(
    ("segments", "names", "rgb"),
    [
        (b"", b"\1\2\3", None),
        (b"", b"RGB", True),
        (b"", b"rgb", True),
        (b"\xff\xe0\0\7JFIF\0", b"\0\1\2", False),
        (b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0", b"\1\2\3", True),
        (b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1", b"\1\2\3", False),
        (b"\xff\xee\0\7Adobe", b"\1\2\3", None),
        (b"\xff\xfe\0\7JFIF\0", b"\1\2\3", None),
    ],
)
def test_jpeg_colour_written_by_hand(segments: bytes, names: bytes, rgb: bool | None) -> None:
    components = b"".join(bytes([name, 0x11, 0]) for name in names)
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 600, 500, 3) + components
    fill = b"\xff\xff\xff"
    stream = read_jpeg(b"\0junk\xff\xd8" + segments + fill + frame + b"data\xff\xd9\0")
    assert shape_of(stream) == (600, 500, 3, 8)
    assert stream.rgb is rgb
    assert stream.data.startswith(b"\xff\xd8")


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("levels", [0, 1, 3])
@pytest.mark.parametrize("container", ["j2k", "jp2"])
def test_jpeg2000(bits: int, signed: bool, levels: int, container: str) -> None:
    pixels = np.zeros((130, 170), f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")
    data = imagecodecs.jpeg2k_encode(
        pixels, codecformat=container, resolutions=levels + 1, bitspersample=bits, reversible=True
    )
    stream = read_jpeg2000(data)
    assert shape_of(stream) == (130, 170, 1, bits)
    assert (stream.signed, stream.rgb, stream.levels) == (signed, None, levels)


@pytest.mark.parametrize("transform", [False, True])
def test_jpeg2000_colour_is_rgb_only_if_it_was_transformed(transform: bool) -> None:
    stream = read_jpeg2000(imagecodecs.jpeg2k_encode(COLOUR, codecformat="j2k", mct=transform))
    assert shape_of(stream) == (13, 17, 3, 8)
    assert stream.rgb is (True if transform else None)


@pytest.mark.skipif("htj2k" not in SYNTAXES, reason="no OpenJPH on Python 3.10")
@pytest.mark.parametrize("bits", [8, 16])
def test_htj2k(bits: int) -> None:
    stream = read_jpeg2000(imagecodecs.htj2k_encode(np.zeros((130, 170), f"u{bits // 8}")))
    assert shape_of(stream) == (130, 170, 1, bits)
    assert stream.levels == 5


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (read_jpeg, imagecodecs.jpeg8_encode(GRAY.astype(np.uint8))),
        (read_jpeg, imagecodecs.jpeg8_encode(GRAY, lossless=True, bitspersample=12)),
        (read_jpeg, imagecodecs.jpegls_encode(GRAY)),
        (read_jpeg2000, imagecodecs.jpeg2k_encode(GRAY, codecformat="j2k", reversible=True)),
        (read_jpeg2000, tiled_jpeg2000()),
        *([(read_jpeg2000, imagecodecs.htj2k_encode(GRAY))] if "htj2k" in SYNTAXES else []),
    ],
)
def test_no_beginning_of_a_codestream_passes_for_the_whole(read, data: bytes) -> None:
    assert read(data).rows == 13
    codes = set()
    for length in range(len(data)):
        with pytest.raises(ImageRejected) as verdict:
            read(data[:length])
        codes.add(verdict.value.code)
    assert codes == {RejectCode.DECODE_FAILED, RejectCode.TRUNCATED}


@pytest.mark.parametrize("read", [read_jpeg, read_jpeg2000])
@pytest.mark.parametrize(
    "data", [b"", b"\0" * 99, b"\xff" * 99, b"\xff\xd8" * 9, b"\xff\x4f\xff\x51"]
)
def test_what_is_no_codestream(read, data: bytes) -> None:
    with pytest.raises(ImageRejected):
        read(data)


def test_a_scan_before_the_frame_header_is_damage() -> None:
    data = imagecodecs.jpeg8_encode(GRAY.astype(np.uint8))
    with pytest.raises(ImageRejected):
        read_jpeg(data.replace(b"\xff\xc0", b"\xff\xda", 1))


def j2k_with(position: int, value: bytes) -> bytes:
    data = imagecodecs.jpeg2k_encode(COLOUR, codecformat="j2k", reversible=True)
    return data[:position] + value + data[position + len(value) :]


@pytest.mark.parametrize(
    ("position", "value", "code"),
    [
        (24, b"\0\0\0\0", RejectCode.DECODE_FAILED),  # tile width; OpenJPH divides by it
        (28, b"\0\0\0\0", RejectCode.DECODE_FAILED),  # tile height
        (24, b"\0\0\0\1", RejectCode.TRUNCATED),  # 17 x 1 tiles, one there
        (8, b"\0\1\0\0", RejectCode.TRUNCATED),  # image width
        (43, b"\2", RejectCode.UNSUPPORTED),  # subsampling of the first component
        (46, b"\2", RejectCode.UNSUPPORTED),  # of the second
        (45, b"\x0b", RejectCode.UNSUPPORTED),  # precision of the second
        (40, b"\0\0", RejectCode.DECODE_FAILED),  # number of components
        (40, b"\x40\0", RejectCode.DECODE_FAILED),
        (51, b"\0\0", RejectCode.DECODE_FAILED),  # the marker after SIZ
    ],
)
def test_jpeg2000_headers_that_would_hurt_decoders(
    position: int, value: bytes, code: RejectCode
) -> None:
    with pytest.raises(ImageRejected) as verdict:
        read_jpeg2000(j2k_with(position, value))
    assert verdict.value.code == code


def test_the_last_tile_part_may_leave_its_length_open() -> None:
    data = imagecodecs.jpeg2k_encode(GRAY, codecformat="j2k", reversible=True)
    start = data.index(b"\xff\x90") + 6
    open_ended = data[:start] + bytes(4) + data[start + 4 :]
    assert read_jpeg2000(open_ended).rows == 13
    with pytest.raises(ImageRejected):
        read_jpeg2000(open_ended[:-2])
