"""PNG, TIFF and JPEG files: exact values, and refusals where a lenient reader would invent some."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageFile

from mammography.archive.files import read_facts
from mammography.archive.images import read_image
from mammography.dicom.pixels import StoredImage
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

COMPRESSIONS = ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]


def noise(dtype: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(len(shape))
    if dtype.startswith("f"):
        return rng.normal(0, 1000, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def luma(rgb: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(rgb[..., :3].astype(int), -1, 0)
    return (299 * red + 587 * green + 114 * blue + 500) // 1000


def saved(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., StoredImage]:
    def read_bytes(data: bytes, **options: object) -> StoredImage:
        (tmp_path / "picture").write_bytes(data)
        return read_image(tmp_path / "picture", **options)

    return read_bytes


def check(found: StoredImage, expected: np.ndarray, inverted: bool = False) -> None:
    assert found.pixels.dtype == expected.dtype
    assert found.pixels.dtype.isnative
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.inverted == inverted
    assert found.full_size == expected.shape


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_gray_png(read, dtype: str) -> None:
    check(read(saved(noise(dtype, 31, 17), "PNG")), noise(dtype, 31, 17))
    check(read(cv2.imencode(".png", noise(dtype, 31, 17))[1].tobytes()), noise(dtype, 31, 17))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_gray_tiff(read, dtype: str, compression: str) -> None:
    pixels = noise(dtype, 31, 17)
    image = Image.fromarray(pixels.astype(np.int32)) if dtype == "int16" else pixels
    if dtype == "int16":
        data = tiff(pixels.astype("<i2").tobytes(), 31, 17, bits=16, sample_format=2)
    else:
        data = saved(image, "TIFF", compression=compression)
    check(read(data), pixels)


def png(
    rows: int, columns: int, bits: int, colour: int, content: bytes, interlace: int = 0
) -> bytes:
    """A PNG written by hand."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", columns, rows, bits, colour, 0, 0, interlace)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"IDAT", zlib.compress(content)) if content else b"")
        + chunk(b"IEND", b"")
    )


def adam7(pixels: np.ndarray) -> bytes:
    """The seven passes of an interlaced PNG (ISO 15948, 8.2), unfiltered."""
    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
             (1, 0, 2, 1)]  # fmt: skip
    passes = [pixels[row::down, column::right] for row, column, down, right in steps]
    lines = [line for one in passes if one.size for line in one]
    return b"".join(b"\0" + line.astype(line.dtype.newbyteorder(">")).tobytes() for line in lines)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("size", [(31, 17), (5, 3), (1, 9)])
def test_interlaced_png(read, size: tuple[int, int], dtype: str) -> None:
    pixels = noise(dtype, *size)
    bits = 8 * pixels.dtype.itemsize
    check(read(png(*size, bits, 0, adam7(pixels), interlace=1)), pixels)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("size", [(31, 17), (8, 8), (5, 33)])
def test_one_bit(read, kind: str, size: tuple[int, int]) -> None:
    bits = noise("uint8", *size) > 127
    check(read(saved(Image.fromarray(bits), kind)), bits.astype(np.uint8) * 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colours_and_transparency(read, kind: str) -> None:
    rgb, rgba, pair = noise("uint8", 9, 7, 3), noise("uint8", 9, 7, 4), noise("uint8", 9, 7, 2)
    check(read(saved(rgb, kind)), luma(rgb).astype(np.uint8))
    check(read(saved(rgba, kind)), luma(rgba).astype(np.uint8))
    check(read(saved(Image.fromarray(pair, "LA"), kind)), pair[..., 0])
    for pixels in (noise("uint16", 9, 7, 3), noise("uint16", 9, 7, 4)):
        data = cv2.imencode(f".{kind.lower()}", pixels)[1].tobytes()
        check(read(data), luma(pixels[..., 2::-1]).astype(np.uint16))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_palettes(read, kind: str) -> None:
    colours = noise("uint8", 200, 3)
    image = Image.fromarray(noise("uint8", 9, 7) % 200, "P")
    image.putpalette(colours.tobytes())
    check(read(saved(image, kind)), luma(colours[noise("uint8", 9, 7) % 200]).astype(np.uint8))


def tiff(
    pixels: bytes,
    rows: int,
    columns: int,
    *,
    bits: int = 8,
    photometric: int = 1,
    sample_format: int = 1,
    order: str = "<",
    big: bool = False,
    **more: int,
) -> bytes:
    """An uncompressed TIFF of one strip, written by hand; `more` are tags by number: t322=16."""
    tags = {256: columns, 257: rows, 258: bits, 259: 1, 262: photometric, 277: 1, 278: rows}
    tags |= {279: len(pixels), 339: sample_format}
    tags |= {int(name[1:]): value for name, value in more.items()}
    length = (16 + 8 + 20 * (len(tags) + 1) + 8) if big else (8 + 2 + 12 * (len(tags) + 1) + 4)
    tags.setdefault(273, length)
    mark = b"II" if order == "<" else b"MM"
    entry = "HHQQ" if big else "HHII"
    head = struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    entries = b"".join(
        struct.pack(order + entry, tag, 16 if big else 4, 1, value)
        for tag, value in sorted(tags.items())
    )
    return mark + head + count + entries + bytes(8 if big else 4) + pixels


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_by_hand(read, bits: int, order: str, big: bool) -> None:
    pixels = noise(f"uint{bits}", 31, 17)
    stored = pixels.astype(f"{order}u{bits // 8}").tobytes()
    check(read(tiff(stored, 31, 17, bits=bits, order=order, big=big)), pixels)


@pytest.mark.parametrize("order", ["<", ">"])
def test_pictures_whose_zero_is_white(read, tmp_path: Path, order: str) -> None:
    """Whether the pixels are inverted or the image says that they must be: dark stays dark."""
    eight, sixteen = noise("uint8", 31, 17), noise("uint16", 31, 17)
    check(read(tiff(eight.tobytes(), 31, 17, photometric=0, order=order)), eight, inverted=True)
    stored = sixteen.astype(f"{order}u2").tobytes()
    data = tiff(stored, 31, 17, bits=16, photometric=0, order=order)
    check(read(data), sixteen, inverted=True)
    assert read_facts(tmp_path / "picture").photometric_interpretation == "MONOCHROME1"
    bits = eight > 127
    packed = np.packbits(bits, axis=1).tobytes()
    found = read(tiff(packed, 31, 17, bits=1, photometric=0, order=order))
    check(found, (~bits).astype(np.uint8) * 255)


@pytest.mark.parametrize("quality", [50, 95])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg(read, quality: int, progressive: bool) -> None:
    rows, columns = np.mgrid[:40, :60]
    gray = (50 + 2 * rows + columns).astype(np.uint8)
    data = saved(gray, "JPEG", quality=quality, progressive=progressive)
    check(read(data), np.asarray(Image.open(BytesIO(data))))
    colour = np.dstack([gray, 255 - gray, gray // 2])
    data = saved(colour, "JPEG", quality=quality, progressive=progressive)
    with Image.open(BytesIO(data)) as image:
        image.draft("L", image.size)  # Pillow's way to the luma, without colours in between
        check(read(data), np.asarray(image))
    rgb = imagecodecs.jpeg8_encode(colour, colorspace="RGB", outcolorspace="RGB", level=quality)
    check(read(rgb), luma(np.asarray(Image.open(BytesIO(rgb)))).astype(np.uint8))
    with pytest.raises(ImageRejected, match="4 components"):
        read(saved(Image.fromarray(colour).convert("CMYK"), "JPEG"))


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (saved(noise("uint8", 31, 17), "PNG"), (8, "MONOCHROME2", "PNG")),
        (saved(noise("uint16", 31, 17), "PNG"), (16, "MONOCHROME2", "PNG")),
        (saved(noise("uint8", 31, 17, 3), "PNG"), (8, "RGB", "PNG")),
        (saved(noise("uint16", 31, 17), "TIFF"), (16, "MONOCHROME2", "TIFF")),
        (saved(noise("float32", 31, 17), "TIFF"), (32, "MONOCHROME2", "TIFF")),
        (saved(noise("uint8", 31, 17), "JPEG"), (8, "MONOCHROME2", "JPEG")),
        (saved(noise("uint8", 31, 17, 3), "JPEG"), (8, "RGB", "JPEG")),
        (b"P5 17 31 4095\n" + bytes(1054), (12, "MONOCHROME2", "PGM")),
    ],
)
def test_facts(tmp_path: Path, data: bytes, facts: tuple[int, str, str]) -> None:
    (tmp_path / "picture").write_bytes(data)
    found = read_facts(tmp_path / "picture")
    assert (found.rows, found.columns, found.number_of_frames) == (31, 17, 1)
    named = (found.bits_stored, found.photometric_interpretation, found.transfer_syntax)
    assert named == facts
    assert found.patient_id is None


GOOD = {
    "png": saved(noise("uint8", 31, 17), "PNG"),
    "png-16": saved(noise("uint16", 31, 17), "PNG"),
    "jpeg": saved(noise("uint8", 31, 17), "JPEG"),
    "jpeg-progressive": saved(noise("uint8", 31, 17), "JPEG", progressive=True),
    "tiff": saved(noise("uint16", 31, 17), "TIFF"),
    "tiff-float": saved(noise("float32", 31, 17), "TIFF"),
    "tiff-lzw": saved(noise("uint8", 31, 17), "TIFF", compression="tiff_lzw"),
    "tiff-deflate": saved(noise("uint16", 31, 17), "TIFF", compression="tiff_adobe_deflate"),
    "tiff-jpeg": saved(noise("uint8", 31, 17), "TIFF", compression="jpeg"),
}


@pytest.mark.parametrize("name", GOOD)
def test_no_beginning_of_a_file_passes_for_the_whole(
    read, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Not even after a line that is common in notebooks."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = GOOD[name]
    whole = read(data).pixels
    for length in range(0, len(data), 1 + len(data) // 300):
        try:
            found = read(data[:length]).pixels
        except ImageRejected:
            continue
        assert name.startswith("tiff-")  # libtiff writes some bytes after the last it needs
        assert length > len(data) - 8
        np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("name", ["png", "png-16"])
def test_a_changed_byte_of_a_png_is_noticed(read, name: str) -> None:
    data = GOOD[name]
    for position in range(8, len(data), 7):
        changed = bytearray(data)
        changed[position] ^= 0x10
        with pytest.raises(ImageRejected):
            read(bytes(changed))


def test_a_tiff_tag_that_occurs_twice_is_damage(read) -> None:
    """libtiff takes the first of two, others the last: the size would not be the one checked."""
    data = tiff(noise("uint8", 9, 7).tobytes(), 9, 7)
    twice = data.replace(struct.pack("<HHII", 277, 4, 1, 1), struct.pack("<HHII", 257, 4, 1, 60000))
    assert twice != data
    with pytest.raises(ImageRejected, match="twice"):
        read(twice)


PAGES = [Image.fromarray(noise("uint8", 9, 7)), Image.fromarray(255 - noise("uint8", 9, 7))]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (saved(PAGES[0], "TIFF", save_all=True, append_images=PAGES[1:]), RejectCode.UNSUPPORTED),
        (saved(PAGES[0], "PNG", save_all=True, append_images=PAGES[1:]), RejectCode.UNSUPPORTED),
        (saved(Image.fromarray(noise("int32", 9, 7)), "TIFF"), RejectCode.UNSUPPORTED),
        (png(60000, 60000, 16, 0, b"0" * 99), RejectCode.TOO_LARGE),
        (png(9999, 9999, 16, 0, b"0" * 99), RejectCode.DECODE_FAILED),
        (png(9, 7, 8, 0, b""), RejectCode.DECODE_FAILED),
        (tiff(bytes(99), 60000, 60000, bits=16), RejectCode.TOO_LARGE),
        (tiff(bytes(99), 9, 7, t322=60000, t323=60000), RejectCode.TOO_LARGE),
        (tiff(noise("uint8", 9, 7, 5).tobytes(), 9, 7, t277=5), RejectCode.UNSUPPORTED),
        (tiff(bytes(40), 9, 7), RejectCode.DECODE_FAILED),
        (tiff(bytes(99), 9, 7, t273=9999), RejectCode.DECODE_FAILED),
        (tiff(bytes(63), 9, 7), RejectCode.FLAT),
        (tiff(np.full(63, np.nan, "<f4").tobytes(), 9, 7, bits=32, sample_format=3),
         RejectCode.NOT_FINITE),
        (tiff(np.array([np.inf] + [1] * 62, "<f4").tobytes(), 9, 7, bits=32, sample_format=3),
         RejectCode.NOT_FINITE),
        (b"P5 60000 60000 255\n" + bytes(99), RejectCode.TOO_LARGE),
        (b"P5 0 10 255\n", RejectCode.DAMAGED_HEADER),
        (b"\x89PNG\r\n\x1a\n", RejectCode.DAMAGED_HEADER),
        (png(31, 17, 8, 0, b"x")[:33], RejectCode.TRUNCATED),
        (b"\xff\xd8\xff\xe0", RejectCode.DECODE_FAILED),
        (b"II*\0\xff\xff\xff\xff", RejectCode.DAMAGED_HEADER),
    ],
)  # fmt: skip
def test_files_that_are_refused(read, data: bytes, code: RejectCode) -> None:
    with pytest.raises(ImageRejected) as verdict:
        read(data)
    assert verdict.value.code == code
    assert "\n" not in verdict.value.reason


def test_the_size_limit_is_ours_and_not_pillows(read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = saved(noise("uint8", 31, 17), "PNG")
    assert read(data, max_pixels=527).pixels.size == 527
    with pytest.raises(ImageRejected, match="limit of 526"):
        read(data, max_pixels=526)
    assert Image.MAX_IMAGE_PIXELS == 10
