"""Which decoder reads which transfer syntax, at full or reduced resolution.

imagecodecs decodes everything at full resolution and HTJ2K at any; reduced JPEG 2000 is Pillow's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mammography.dicom.codestream import Codestream, read_jpeg, read_jpeg2000
from mammography.dicom.header import parsing
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

Pixels = NDArray[np.generic]

#: Transfer syntaxes whose pixels are not compressed.
NATIVE = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
}
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"


@dataclass(frozen=True)
class Codec:
    """How one family of compressed transfer syntaxes is read.

    Attributes:
        inspect: Reads size and precision from a frame, before it is decoded.
        decode: Frame and number of halvings to pixels; `rgb` tells that three components hold RGB.
        reducible: Whether `decode` can halve.
    """

    inspect: Callable[[bytes], Codestream]
    decode: Callable[[Codestream, int, bool], Pixels]
    reducible: bool = False


def _decode_jpeg(stream: Codestream, reduce: int, rgb: bool) -> Pixels:
    if stream.components == 1:
        return imagecodecs.jpeg8_decode(stream.data)
    colour = imagecodecs.JPEG8.CS.RGB if rgb else None
    return imagecodecs.jpeg8_decode(
        stream.data, colorspace=colour, outcolorspace=imagecodecs.JPEG8.CS.RGB
    )


def _decode_jpegls(stream: Codestream, reduce: int, rgb: bool) -> Pixels:
    return imagecodecs.jpegls_decode(stream.data)


def _decode_jpeg2000(stream: Codestream, reduce: int, rgb: bool) -> Pixels:
    if not reduce:
        return imagecodecs.jpeg2k_decode(stream.data)
    if stream.signed or stream.components > 1:
        raise ImageRejected(
            RejectCode.UNSUPPORTED, "signed or colour JPEG 2000 cannot be decoded reduced"
        )
    with Image.open(BytesIO(stream.data), formats=("JPEG2000",)) as image:
        image.reduce = reduce
        pixels = np.asarray(image)
    # Pillow moves samples of 9 to 15 bits to the top of its 16.
    return pixels if stream.bits <= 8 else pixels >> np.uint16(16 - stream.bits)


def _decode_htj2k(stream: Codestream, reduce: int, rgb: bool) -> Pixels:
    pixels = imagecodecs.htj2k_decode(stream.data, skipres=reduce or None)
    if reduce and not stream.signed:
        # OpenJPH wraps the small negative values that wavelets leave at reduced resolution.
        pixels = np.where(pixels >> stream.bits, 0, pixels).astype(pixels.dtype)
    return pixels


_JPEG = Codec(read_jpeg, _decode_jpeg)
_JPEG_LS = Codec(read_jpeg, _decode_jpegls)
_JPEG_2000 = Codec(read_jpeg2000, _decode_jpeg2000, reducible=True)
_HTJ2K = Codec(read_jpeg2000, _decode_htj2k, reducible=True)

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


def decode_rle(data: bytes, rows: int, columns: int, samples: int, bits_allocated: int) -> Pixels:
    """Decode one RLE frame (DICOM PS3.5 Annex G).

    Returns:
        Unsigned pixels of shape (rows, columns), or (rows, columns, samples) for colour.

    Raises:
        ImageRejected: The segments do not fill the frame.
    """
    dtype = np.dtype(f"<u{bits_allocated // 8}")
    with parsing(RejectCode.DECODE_FAILED, "the RLE frame"):
        decoded = imagecodecs.dicomrle_decode(data, dtype.str)
    plane = rows * columns * dtype.itemsize
    if len(decoded) != plane * samples:
        raise ImageRejected(
            RejectCode.TRUNCATED,
            f"the RLE frame decodes to {len(decoded):,} bytes; the header needs {plane * samples:,}",
        )
    pixels = np.frombuffer(decoded, dtype)
    if samples == 1:
        return pixels.reshape(rows, columns)
    return np.moveaxis(pixels.reshape(samples, rows, columns), 0, -1)
