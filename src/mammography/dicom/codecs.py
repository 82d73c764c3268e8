"""Which decoder reads which transfer syntax, at full or reduced resolution.

imagecodecs decodes everything at full resolution. Reduced JPEG 2000 is OpenJPEG's, by way of
Pillow; reduced HTJ2K is OpenJPH's where its overflows can be told apart, else OpenJPEG's too.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Jpeg2KImagePlugin

from mammography.dicom.codestream import Codestream, read_jpeg, read_jpeg2000
from mammography.dicom.parsing import parsing
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

Pixels = NDArray[Any]

#: Transfer syntaxes whose pixels are not compressed: implicit, explicit, deflated, big endian.
NATIVE = frozenset(
    {
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.2",
    }
)
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"

#: Held while the hooks of `sys` are not the usual ones.
_HOOK_LOCK = threading.Lock()


@dataclass(frozen=True)
class Codec:
    """How one family of compressed transfer syntaxes is read.

    Attributes:
        inspect: Reads size and precision from a frame, before it is decoded.
        decode: Codestream to pixels of shape (rows, columns) or (rows, columns, components),
            components as they are stored but for the colour transform of JPEG 2000.
        decode_reduced: The same for one component, halved so many times; the third argument is
            the number of bits that samples use; values beyond them are clipped. None where a
            syntax cannot do that.
    """

    inspect: Callable[[bytes], Codestream]
    decode: Callable[[Codestream], Pixels]
    decode_reduced: Callable[[Codestream, int, int], Pixels] | None = None


def decode_jpeg(stream: Codestream) -> Pixels:
    """Decode any JPEG but JPEG-LS; three components come as they are stored, YCbCr or RGB."""
    if stream.components == 1:
        return imagecodecs.jpeg8_decode(stream.data)
    unchanged = imagecodecs.JPEG8.CS.RGB  # from RGB to RGB: libjpeg must not convert
    return imagecodecs.jpeg8_decode(stream.data, colorspace=unchanged, outcolorspace=unchanged)


def _decode_jpegls(stream: Codestream) -> Pixels:
    return imagecodecs.jpegls_decode(stream.data)


def _decode_jpeg2000(stream: Codestream) -> Pixels:
    return imagecodecs.jpeg2k_decode(stream.data)


def _decode_htj2k(stream: Codestream, halvings: int = 0) -> Pixels:
    """Decode with OpenJPH.

    imagecodecs prints and ignores the errors of OpenJPH within an image, and leaves the rest of it
    black; but Python hears of what is ignored.
    """
    ignored: list[object] = []
    with _HOOK_LOCK:
        hooks = sys.excepthook, sys.unraisablehook
        sys.excepthook, sys.unraisablehook = lambda *error: None, ignored.append
        try:
            pixels = imagecodecs.htj2k_decode(stream.data, planar=False, skipres=halvings or None)
        finally:
            sys.excepthook, sys.unraisablehook = hooks
    if ignored:
        raise ImageRejected(RejectCode.DECODE_FAILED, "the HTJ2K codestream is damaged")
    return pixels


def _reduce_by_openjpeg(stream: Codestream, halvings: int, bits: int) -> Pixels:
    with Jpeg2KImagePlugin.Jpeg2KImageFile(BytesIO(stream.data)) as image:
        image.reduce = halvings
        pixels = np.asarray(image)
    if stream.bits > 8:
        pixels = pixels >> np.uint16(16 - stream.bits)  # Pillow moves samples to the top of its 16
    if stream.signed:  # and adds an offset to signed ones
        pixels = pixels.astype(np.int32) - (1 << (stream.bits - 1))
    return clipped(pixels, stream.signed, bits)


def _reduce_by_openjph(stream: Codestream, halvings: int, bits: int) -> Pixels:
    width = 8 if stream.bits <= 8 else 16
    if bits > width - 2:  # OpenJPH lets overshoots wrap around: dark becomes bright
        return _reduce_by_openjpeg(stream, halvings, bits)
    pixels = _decode_htj2k(stream, halvings)
    return clipped(pixels.view(f"i{width // 8}"), stream.signed, bits)


def clipped(pixels: Pixels, signed: bool, bits: int) -> Pixels:
    """Pixels within the range of so many bits, in the smallest type of 8 or 16."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return np.clip(pixels, low, high).astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


_JPEG = Codec(read_jpeg, decode_jpeg)
_JPEG_LS = Codec(read_jpeg, _decode_jpegls)
_JPEG_2000 = Codec(read_jpeg2000, _decode_jpeg2000, _reduce_by_openjpeg)
# OpenJPEG reads HTJ2K too, slower; the last imagecodecs for Python 3.10 comes without OpenJPH.
_HTJ2K = (
    Codec(read_jpeg2000, _decode_htj2k, _reduce_by_openjph)
    if hasattr(imagecodecs, "htj2k_decode")
    else _JPEG_2000
)

#: Compressed transfer syntaxes by UID; RLE, which has no codestream, is `decode_rle`.
CODECS = {
    "1.2.840.10008.1.2.4.50": _JPEG,
    "1.2.840.10008.1.2.4.51": _JPEG,
    "1.2.840.10008.1.2.4.57": _JPEG,
    "1.2.840.10008.1.2.4.70": _JPEG,
    "1.2.840.10008.1.2.4.80": _JPEG_LS,
    "1.2.840.10008.1.2.4.81": _JPEG_LS,
    "1.2.840.10008.1.2.4.90": _JPEG_2000,
    "1.2.840.10008.1.2.4.91": _JPEG_2000,
    "1.2.840.10008.1.2.4.201": _HTJ2K,
    "1.2.840.10008.1.2.4.202": _HTJ2K,
    "1.2.840.10008.1.2.4.203": _HTJ2K,
}

#: Syntaxes that may lose something. Where their codestream has more bits than the header says,
#: values overshoot, and are clipped; of the others, bits that the header does not count are cut.
LOSSY = frozenset(
    {
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.81",
        "1.2.840.10008.1.2.4.91",
        "1.2.840.10008.1.2.4.203",
    }
)


def decode_rle(data: bytes, rows: int, columns: int, samples: int, bits_allocated: int) -> Pixels:
    """Decode one RLE frame (DICOM PS3.5 Annex G).

    Returns:
        Unsigned pixels of shape (rows, columns), or (rows, columns, samples) for colour.

    Raises:
        ImageRejected: The segments do not fill the frame.
    """
    dtype = np.dtype(f"<u{bits_allocated // 8}")
    needed = rows * columns * samples * dtype.itemsize
    with parsing(RejectCode.DECODE_FAILED, "the RLE frame", quote=True):
        decoded = imagecodecs.dicomrle_decode(data, dtype.str, out=needed)
    if len(decoded) != needed:
        raise ImageRejected(
            RejectCode.TRUNCATED,
            f"the RLE frame decodes to {len(decoded):,} bytes; the header needs {needed:,}",
        )
    pixels = np.frombuffer(decoded, dtype)
    if samples == 1:
        return pixels.reshape(rows, columns)
    return np.moveaxis(pixels.reshape(samples, rows, columns), 0, -1)
