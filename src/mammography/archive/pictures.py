"""PNG, PGM, TIFF and JPEG files: their facts and their gray pixels.

Pillow decodes PNG and TIFF: it refuses truncated files, which OpenCV fills with zeros.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile, PngImagePlugin, TiffImagePlugin

from mammography.archive.netpbm import read_pgm_header, read_pgm_pixels
from mammography.dicom.codecs import decode_jpeg
from mammography.dicom.codestream import Codestream, read_jpeg
from mammography.dicom.colour import gray_of_rgb, gray_of_ybr
from mammography.dicom.header import ImageFacts
from mammography.dicom.parsing import parsing
from mammography.dicom.pixels import StoredImage, check_size
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

#: Pillow modes to bits stored; other modes have 16.
_BITS = {"1": 1, "L": 8, "P": 8, "PA": 8, "LA": 8, "RGB": 8, "RGBA": 8, "CMYK": 8, "F": 32}
_GRAY_MODES = ("1", "L", "F", "I", "I;16", "I;16B", "I;16L")

_PHOTOMETRIC, _TILE_WIDTH, _TILE_LENGTH = 262, 322, 323


def picture_facts(file: BinaryIO, kind: str) -> ImageFacts:
    """The facts of a picture file.

    Args:
        file: From its start.
        kind: "PNG", "PGM", "TIFF" or "JPEG".

    Raises:
        ImageRejected: The file is damaged or has several pages.
    """
    if kind == "PGM":
        header = read_pgm_header(file)
        bits = header.white.bit_length()
        return ImageFacts(header.rows, header.columns, 1, bits, "MONOCHROME2", kind)
    if kind == "JPEG":
        stream = _jpeg(file)
        photometric = "MONOCHROME2" if stream.components == 1 else "RGB"
        return ImageFacts(stream.rows, stream.columns, 1, stream.bits, photometric, kind)
    with _open(file, kind) as image:
        bits = _BITS.get(image.mode, 16)
        return ImageFacts(image.height, image.width, 1, bits, _photometric(image), kind)


def read_picture(file: BinaryIO, kind: str, max_pixels: int) -> StoredImage:
    """Decode a picture file to gray.

    Colour becomes luma (ITU-R BT.601), as for DICOM secondary captures; transparency is ignored.

    Args:
        file: From its start.
        kind: "PNG", "PGM", "TIFF" or "JPEG".
        max_pixels: Larger images are refused before they are decoded.

    Returns:
        Integer pixels of shape (rows, columns), or float32 for a floating-point TIFF.

    Raises:
        ImageRejected: The file is damaged, truncated, too large or has several pages.
    """
    if kind == "PGM":
        header = read_pgm_header(file)
        check_size(header.rows, header.columns, max_pixels)
        return StoredImage(read_pgm_pixels(file, header))
    if kind == "JPEG":
        stream = _jpeg(file)
        check_size(stream.rows, stream.columns, max_pixels)
        return StoredImage(_gray_of_jpeg(stream))
    if kind == "PNG":
        _check_png(file)
    with _open(file, kind) as image:
        check_size(image.height, image.width, max_pixels)
        _check_tiles(image, max_pixels)
        return StoredImage(_pixels(image), inverted=_photometric(image) == "MONOCHROME1")


def _jpeg(file: BinaryIO) -> Codestream:
    stream = read_jpeg(file.read())
    if stream.components not in (1, 3):
        raise ImageRejected(RejectCode.UNSUPPORTED, f"a JPEG of {stream.components} components")
    return stream


def _gray_of_jpeg(stream: Codestream) -> NDArray[Any]:
    with parsing(RejectCode.DECODE_FAILED, "the compressed pixels", quote=True):
        pixels = decode_jpeg(stream)
    if pixels.ndim == 2:
        return pixels
    return gray_of_rgb(pixels) if stream.rgb else gray_of_ybr(pixels)


def _check_png(file: BinaryIO) -> None:
    """Compare the checksums of all chunks, which Pillow passes over."""
    with parsing(RejectCode.DAMAGED_HEADER, "the PNG file"):
        file.seek(8)
        name = b""
        while name != b"IEND":
            length = int.from_bytes(file.read(4), "big")
            name, checksum, left = file.read(4), 0, length
            checksum = zlib.crc32(name)
            while left and (content := file.read(min(left, 1 << 20))):
                checksum, left = zlib.crc32(content, checksum), left - len(content)
            stated = file.read(4)
            if left or len(stated) < 4:
                raise ImageRejected(RejectCode.TRUNCATED, "the PNG file is truncated")
            if checksum != int.from_bytes(stated, "big"):
                raise ImageRejected(
                    RejectCode.DECODE_FAILED, "a checksum in the PNG file does not match"
                )
        file.seek(0)


@contextmanager
def _open(file: BinaryIO, kind: str) -> Iterator[ImageFile.ImageFile]:
    """Open a PNG or TIFF file with Pillow.

    Its classes are called directly, as `PIL.Image.open` knows only one size limit for all; and a
    notebook may have told Pillow to fill what truncated files lack.
    """
    opener = PngImagePlugin.PngImageFile if kind == "PNG" else TiffImagePlugin.TiffImageFile
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with (
            parsing(RejectCode.DAMAGED_HEADER, f"the {kind} file", quote=True),
            opener(file) as image,
        ):
            if getattr(image, "is_animated", False):
                raise ImageRejected(RejectCode.UNSUPPORTED, f"a {kind} file of several pages")
            yield image
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def _photometric(image: ImageFile.ImageFile) -> str:
    if image.mode not in _GRAY_MODES:
        return "RGB"
    # Pillow itself inverts pictures of up to 8 bits whose zero is white.
    white_is_zero = isinstance(image, TiffImagePlugin.TiffImageFile) and (
        image.tag_v2.get(_PHOTOMETRIC) == 0 and image.mode not in ("1", "L")
    )
    return "MONOCHROME1" if white_is_zero else "MONOCHROME2"


def _check_tiles(image: ImageFile.ImageFile, max_pixels: int) -> None:
    """A small TIFF may consist of a huge tile, which is decoded as a whole."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile = (image.tag_v2.get(_TILE_LENGTH, 1), image.tag_v2.get(_TILE_WIDTH, 1))
        check_size(*tile, max_pixels)


def _pixels(image: ImageFile.ImageFile) -> NDArray[Any]:
    """The gray pixels of a PNG or TIFF."""
    if image.mode not in _GRAY_MODES and any(";16" in str(tile[3]) for tile in image.tile):
        raise ImageRejected(RejectCode.UNSUPPORTED, "colour or transparency of 16 bits a sample")
    with parsing(RejectCode.DECODE_FAILED, "the pixels", quote=True):
        image.load()
        if image.mode not in _GRAY_MODES:
            return gray_of_rgb(np.asarray(image.convert("RGB")))
        pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
    if pixels.dtype == np.int32:
        return _narrowed(pixels)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _narrowed(pixels: NDArray[np.int32]) -> NDArray[Any]:
    """Pillow's 32-bit mode as 16 bits, which is all that its files may hold."""
    for dtype in (np.uint16, np.int16):
        limits = np.iinfo(dtype)
        if limits.min <= pixels.min() and pixels.max() <= limits.max:
            return pixels.astype(dtype)
    raise ImageRejected(RejectCode.UNSUPPORTED, "more than 16 bits per pixel")
