"""Decoding single frames of a DICOM image to gray stored values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID_dictionary

from mammography.dicom.codecs import (
    BIG_ENDIAN,
    CODECS,
    LOSSY,
    NATIVE,
    RLE,
    Codec,
    clipped,
    decode_rle,
)
from mammography.dicom.codestream import Codestream
from mammography.dicom.colour import RGB_LIKE, first_component, gray_of_palette, gray_of_rgb
from mammography.dicom.description import MONOCHROME, PixelDescription, describe
from mammography.dicom.fragments import CompressedFrames
from mammography.dicom.header import ImageFacts
from mammography.dicom.parsing import parsing
from mammography.dicom.pixel_element import NativeFrames, PixelElement, read_pixel_element
from mammography.dicom.samples import bytes_per_frame, samples_of_bytes, stored_values
from mammography.dicom.streams import Stream
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

_FLOAT_TYPES = {"FloatPixelData": "f4", "DoubleFloatPixelData": "f8"}


class Frames:
    """Random access to the frames of a DICOM image.

    Args:
        header: The data set without pixels.
        stream: At the pixel element, as `mammography.dicom.data_set.read_header` leaves it.
        facts: The header's facts; their size has been found reasonable.
        reduce: How often wavelet codestreams are halved.

    Raises:
        ImageRejected: There are no pixels, or they are described in a way that cannot be read.
    """

    def __init__(self, header: Dataset, stream: Stream, facts: ImageFacts, reduce: int) -> None:
        self._header, self._reduce, self._syntax = header, reduce, facts.transfer_syntax
        self._order = ">" if self._syntax == BIG_ENDIAN else "<"
        self._element = read_pixel_element(stream, self._order)
        self._floats = _FLOAT_TYPES.get(self._element.keyword)
        self._description = describe(header, facts, floats=self._floats is not None)
        if self._syntax in NATIVE:
            how = self._description
            size = self._bytes_per_frame()
            words = self._order == ">" and how.allocated == 8 and self._element.vr == "OW"
            self._frames: NativeFrames | CompressedFrames = NativeFrames(
                stream, self._element, size, how.frames, swapped=words
            )
        elif self._floats or (self._syntax not in CODECS and self._syntax != RLE):
            raise _unsupported(self._syntax, self._element)
        else:
            self._frames = CompressedFrames(stream, self._element.start, facts.number_of_frames)

    def _bytes_per_frame(self) -> int:
        if self._floats is None:
            return bytes_per_frame(self._description)
        if self._description.samples > 1:
            raise ImageRejected(RejectCode.UNSUPPORTED, "colour in floating-point numbers")
        return self._description.rows * self._description.columns * int(self._floats[1])

    def read(self, number: int) -> NDArray[Any]:
        """The gray stored values of a frame, counted from 1.

        Returns:
            (rows, columns) of an integer type of 8 or 16 bits, or float32.

        Raises:
            ImageRejected: The frame is damaged.
        """
        data = self._frames.read(number)
        if self._syntax in CODECS:
            return self._of_codestream(CODECS[self._syntax], data)
        how = self._description
        if self._floats:
            with np.errstate(over="ignore"):  # infinite is what a value becomes; refused later
                pixels = np.frombuffer(data, self._order + self._floats).astype(np.float32)
            return pixels.reshape(how.rows, how.columns)
        if self._syntax == RLE:
            samples = decode_rle(data, how.rows, how.columns, how.samples, how.allocated)
        else:
            samples = samples_of_bytes(data, how, self._order)
        values = stored_values(samples, how.stored, how.shift, how.signed)
        return self._gray(values, rgb=how.photometric == "RGB")

    def _of_codestream(self, codec: Codec, data: bytes) -> NDArray[Any]:
        how = self._description
        stream = codec.inspect(data)
        _check_agreement(stream, how)
        bits = min(how.stored, stream.bits)
        # Only gray has an order, and only if header and codestream agree on the sign.
        ordered = how.photometric in MONOCHROME and stream.signed == how.signed
        halvings = min(self._reduce, stream.levels) if ordered else 0
        with parsing(RejectCode.DECODE_FAILED, "the compressed pixels", quote=True):
            if halvings and codec.decode_reduced:
                samples = codec.decode_reduced(stream, halvings, bits)
            else:
                samples = codec.decode(stream)
        if bits < stream.bits and ordered and self._syntax in LOSSY:
            samples = clipped(samples, how.signed, bits)
        values = stored_values(samples, bits, 0, how.signed)
        return self._gray(values, how.photometric in RGB_LIKE if stream.rgb is None else stream.rgb)

    def _gray(self, values: NDArray[Any], rgb: bool) -> NDArray[Any]:
        if self._description.photometric == "PALETTE COLOR":
            return gray_of_palette(values, self._header)
        if values.ndim == 2:
            return values
        return gray_of_rgb(values) if rgb else first_component(values)


def _check_agreement(stream: Codestream, how: PixelDescription) -> None:
    """Refuse a codestream that is not what the header says, before it is decoded."""
    found = (stream.rows, stream.columns, stream.components)
    stated = (how.rows, how.columns, how.samples)
    if found != stated:
        raise ImageRejected(
            RejectCode.MISMATCH,
            f"the codestream holds {found[0]} × {found[1]} × {found[2]}, "
            f"the header says {stated[0]} × {stated[1]} × {stated[2]}",
        )
    if not 2 <= stream.bits <= min(how.allocated, 16):
        raise ImageRejected(
            RejectCode.MISMATCH,
            f"a codestream of {stream.bits} bits in {how.allocated} allocated bits",
        )


def _unsupported(syntax: str, element: PixelElement) -> ImageRejected:
    name = UID_dictionary.get(syntax, ("which is unknown",))[0]
    return ImageRejected(RejectCode.UNSUPPORTED, f"{element.keyword} in transfer syntax {name}")
