"""PNG, PGM, TIFF and JPEG files: their facts and their gray pixels."""

from __future__ import annotations

from typing import Any, BinaryIO

from numpy.typing import NDArray

from mammography.archive.netpbm import read_pgm_header, read_pgm_pixels
from mammography.archive.png import read_png_header, read_png_pixels
from mammography.archive.tiff import read_tiff_header, read_tiff_pixels
from mammography.dicom.codecs import decode_jpeg
from mammography.dicom.codestream import Codestream, read_jpeg
from mammography.dicom.colour import first_component, gray_of_rgb
from mammography.dicom.header import ImageFacts
from mammography.dicom.parsing import parsing
from mammography.dicom.pixels import StoredImage, check_size
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode


def picture_facts(file: BinaryIO, kind: str) -> ImageFacts:
    """The facts of a picture file.

    Args:
        file: From its start.
        kind: "PNG", "PGM", "TIFF" or "JPEG".

    Raises:
        ImageRejected: The file is damaged or has several pages.
    """
    if kind == "PGM":
        pgm = read_pgm_header(file)
        bits = pgm.white.bit_length()
        return ImageFacts(pgm.rows, pgm.columns, 1, bits, "MONOCHROME2", kind)
    if kind == "PNG":
        png = read_png_header(file)
        photometric = "MONOCHROME2" if png.gray else "RGB"
        return ImageFacts(png.rows, png.columns, 1, png.bits, photometric, kind)
    if kind == "TIFF":
        tiff = read_tiff_header(file)
        photometric = "MONOCHROME1" if tiff.inverted else "MONOCHROME2" if tiff.gray else "RGB"
        return ImageFacts(tiff.rows, tiff.columns, 1, tiff.bits, photometric, kind)
    jpeg = _read_jpeg_file(file)
    photometric = "MONOCHROME2" if jpeg.components == 1 else "RGB"
    return ImageFacts(jpeg.rows, jpeg.columns, 1, jpeg.bits, photometric, kind)


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
        pgm = read_pgm_header(file)
        check_size(pgm.rows, pgm.columns, max_pixels)
        return StoredImage(read_pgm_pixels(file, pgm))
    if kind == "PNG":
        png = read_png_header(file)
        check_size(png.rows, png.columns, max_pixels)
        return StoredImage(read_png_pixels(file, png))
    if kind == "TIFF":
        tiff = read_tiff_header(file)
        check_size(tiff.rows, tiff.columns, max_pixels)
        check_size(tiff.tile_rows, tiff.tile_columns, max_pixels)  # a tile is decoded as a whole
        return StoredImage(read_tiff_pixels(file, tiff), inverted=tiff.inverted)
    jpeg = _read_jpeg_file(file)
    check_size(jpeg.rows, jpeg.columns, max_pixels)
    return StoredImage(_gray_of_jpeg(jpeg))


def _read_jpeg_file(file: BinaryIO) -> Codestream:
    stream = read_jpeg(file.read())
    if stream.components not in (1, 3):
        raise ImageRejected(RejectCode.UNSUPPORTED, f"a JPEG of {stream.components} components")
    return stream


def _gray_of_jpeg(stream: Codestream) -> NDArray[Any]:
    with parsing(RejectCode.DECODE_FAILED, "the JPEG pixels", quote=True):
        pixels = decode_jpeg(stream)
    if pixels.ndim == 2:
        return pixels
    return gray_of_rgb(pixels) if stream.rgb else first_component(pixels)
