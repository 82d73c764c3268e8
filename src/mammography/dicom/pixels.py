"""From a DICOM file to the stored values of one gray image, every choice recorded.

Only the frame that is asked for is read: a tomosynthesis stack of a gigabyte costs one frame of
memory. What the values mean (inversion, rescale, VOI, padding) is returned beside them and applied
by the recipe, never here.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import UID

from mammography.dicom.codecs import (
    BIG_ENDIAN,
    CODECS,
    DEFLATED,
    NATIVE,
    RLE,
    decode_rle,
)
from mammography.dicom.grayscale import Grayscale, grayscale_of
from mammography.dicom.header import (
    MAX_INFLATED_BYTES,
    ImageFacts,
    facts_of,
    number_at,
    parsing,
    read_header,
    required_number,
)
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

DEFAULT_MAX_PIXELS = 100_000_000

#: Which frame of a multi-frame image: the middle one, the brightest of all, or one by number from 1.
Frame = Literal["middle", "max"] | int

#: Zero bytes that may follow the pixels within their element; some archives pad to blocks.
_MAX_PADDING = 1 << 16

_PIXEL_DATA, _FLOAT, _DOUBLE = 0x0010, 0x0008, 0x0009
_PIXEL_VR = (b"OB", b"OW", b"OF", b"OD", b"UN")


@dataclass(frozen=True)
class StoredImage:
    """One gray image as it is stored, and what its values mean.

    Attributes:
        pixels: (rows, columns) of uint8, uint16, int16, or float32 where the file holds floats.
        inverted: True where larger values are darker (MONOCHROME1).
        padding: Inclusive range of stored values that are no image, or None.
        grayscale: Rescale, modality LUT and VOI as the header gives them.
        frame: Number of the frame that was read, from 1; 0 for a maximum projection.
        full_size: (rows, columns) at full resolution; differs from `pixels` after reduced decoding.
    """

    pixels: NDArray[Any]
    inverted: bool = False
    padding: tuple[int, int] | None = None
    grayscale: Grayscale = field(default_factory=Grayscale)
    frame: int = 1
    full_size: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.full_size == (0, 0):
            object.__setattr__(self, "full_size", self.pixels.shape)


def check_size(rows: int, columns: int, max_pixels: int) -> None:
    """Refuse an image by its claimed size, before any memory is taken for it.

    Raises:
        ImageRejected: No pixels, or more than `max_pixels`.
    """
    if rows <= 0 or columns <= 0:
        raise ImageRejected(RejectCode.DAMAGED_HEADER, f"an image of {rows} × {columns} pixels")
    if rows * columns > max_pixels:
        raise ImageRejected(
            RejectCode.TOO_LARGE,
            f"claims {rows:,} × {columns:,} pixels, more than the limit of {max_pixels:,} "
            "(--max-pixels)",
        )


def gray_of_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """Luma of RGB pixels (ITU-R BT.601) in integer arithmetic, in the type that came in.

    Args:
        pixels: (rows, columns, 3) unsigned integers.
    """
    red, green, blue = (pixels[..., i].astype(np.uint32) for i in range(3))
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(pixels.dtype)


def read_dicom(
    path: Path, *, frame: Frame = "middle", reduce: int = 0, max_pixels: int = DEFAULT_MAX_PIXELS
) -> StoredImage:
    """Read one gray image from a DICOM file.

    Args:
        path: The file.
        frame: Which frame of a multi-frame image.
        reduce: How often a wavelet codestream is halved while decoding; other syntaxes are decoded
            in full.
        max_pixels: Images with more pixels a frame are refused before memory is taken.

    Returns:
        The image.

    Raises:
        ImageRejected: The file is damaged or not an image.
    """
    with path.open("rb") as stream:
        header = read_header(stream)
        facts = facts_of(header)
        check_size(facts.rows, facts.columns, max_pixels)
        if facts.transfer_syntax == DEFLATED:
            source: BinaryIO = _inflated(path)
            header = read_header(source)
        else:
            source = stream
        reader = _FrameReader(source, header, facts, reduce)
        chosen = _frame_number(frame, facts.number_of_frames)
        pixels = reader.maximum() if chosen == 0 else reader.read(chosen)
        return StoredImage(
            pixels,
            inverted=facts.photometric_interpretation == "MONOCHROME1",
            padding=_padding(header),
            grayscale=grayscale_of(header, max(chosen, 1)),
            frame=chosen,
            full_size=(facts.rows, facts.columns),
        )


def _inflated(path: Path) -> BinaryIO:
    """A deflated file's data set, inflated, as a native stream without meta header."""
    with parsing(RejectCode.DECODE_FAILED, "the deflated data set"):
        data = path.read_bytes()
        meta_length = struct.unpack_from("<I", data, 140)[0]
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        content = inflater.decompress(data[144 + meta_length :], MAX_INFLATED_BYTES)
        if inflater.unconsumed_tail:
            raise ImageRejected(RejectCode.TOO_LARGE, "the deflated data set inflates to over 2 GB")
        if not inflater.eof:
            raise ImageRejected(RejectCode.TRUNCATED, "the deflated data set is truncated")
    return BytesIO(content)


def _frame_number(frame: Frame, count: int) -> int:
    if frame == "max":
        return 0 if count > 1 else 1
    number = (count + 1) // 2 if frame == "middle" else int(frame)
    if not 1 <= number <= count:
        raise ImageRejected(
            RejectCode.UNSUPPORTED, f"frame {number} is asked for; the image has {count}"
        )
    return number


def _padding(header: Dataset) -> tuple[int, int] | None:
    value = number_at(header, "PixelPaddingValue")
    if value is None:
        return None
    limit = number_at(header, "PixelPaddingRangeLimit")
    other = value if limit is None else limit
    return int(min(value, other)), int(max(value, other))


class _FrameReader:
    """Reads single frames of the pixel element that a stream is positioned at."""

    def __init__(self, stream: BinaryIO, header: Dataset, facts: ImageFacts, reduce: int) -> None:
        self.stream, self.header, self.facts, self.reduce = stream, header, facts, reduce
        self.syntax = facts.transfer_syntax
        self.photometric = facts.photometric_interpretation or "MONOCHROME2"
        position = stream.tell()
        self.size = stream.seek(0, os.SEEK_END)
        stream.seek(position)
        with parsing(RejectCode.DAMAGED_HEADER, "the pixel description"):
            self.samples = int(number_at(header, "SamplesPerPixel") or 1)
            self.allocated = int(required_number(header, "BitsAllocated"))
            self.stored = facts.bits_stored
            self.high_bit = int(number_at(header, "HighBit") or self.stored - 1)
            self.signed = number_at(header, "PixelRepresentation") == 1
        self._read_element()
        self._check_description()

    def _read_element(self) -> None:
        """Tag, VR and length of the element at the stream's position."""
        order = ">" if self.syntax == BIG_ENDIAN else "<"
        head = self.stream.read(8)
        if len(head) < 8:
            raise ImageRejected(RejectCode.NO_PIXEL_DATA, "the file ends before any pixel data")
        group, self.element = struct.unpack(order + "HH", head[:4])
        if group != 0x7FE0 or self.element not in (_PIXEL_DATA, _FLOAT, _DOUBLE):
            raise ImageRejected(RejectCode.NO_PIXEL_DATA, "the file has no pixel data")
        self.vr = head[4:6]
        if self.vr in _PIXEL_VR:  # no implicit length looks like that: these would be odd
            self.length = struct.unpack(order + "I", self.stream.read(4).ljust(4, b"\0"))[0]
        else:
            self.vr, self.length = b"OW", struct.unpack(order + "I", head[4:8])[0]
        self.start = self.stream.tell()

    def _check_description(self) -> None:
        if self.samples not in (1, 3):
            raise ImageRejected(RejectCode.UNSUPPORTED, f"{self.samples} samples per pixel")
        if self.element != _PIXEL_DATA:
            return
        if self.allocated not in (8, 16) or not 1 <= self.stored <= 16:
            raise ImageRejected(
                RejectCode.UNSUPPORTED,
                f"{self.stored} bits stored in {self.allocated}; 8 to 16 in 8 or 16 can be read",
            )
        if not self.stored - 1 <= self.high_bit < self.allocated:
            raise ImageRejected(
                RejectCode.MISMATCH,
                f"{self.stored} bits with high bit {self.high_bit} do not fit into "
                f"{self.allocated} allocated bits",
            )

    def maximum(self) -> NDArray[Any]:
        """The maximum over all frames; for MONOCHROME1 the minimum, which is the brightest."""
        brighter = np.minimum if self.photometric == "MONOCHROME1" else np.maximum
        projection = self.read(1)
        for number in range(2, self.facts.number_of_frames + 1):
            projection = brighter(projection, self.read(number))
        return projection

    def read(self, number: int) -> NDArray[Any]:
        """The gray pixels of one frame, from 1."""
        if self.element != _PIXEL_DATA:
            return self._read_floats(number)
        if self.syntax in NATIVE:
            pixels = self._read_native(number)
        elif self.syntax == RLE:
            pixels = decode_rle(
                self._frame(number),
                self.facts.rows,
                self.facts.columns,
                self.samples,
                self.allocated,
            )
        else:
            pixels = self._read_codestream(number)
        return self._gray(self._values(pixels))

    def _read_bytes(self, number: int, frame_bytes: int) -> bytes:
        """One frame of native pixel data, after checking the element's length."""
        frames = self.facts.number_of_frames
        needed = frame_bytes * frames
        if self.length == 0xFFFFFFFF:
            raise ImageRejected(RejectCode.MISMATCH, "uncompressed pixel data of undefined length")
        if self.start + self.length > self.size:
            raise ImageRejected(
                RejectCode.TRUNCATED,
                f"the file is truncated: {self.size - self.start:,} of {self.length:,} bytes of "
                "pixel data are there",
            )
        excess = self.length - needed
        if excess < 0 or excess > _MAX_PADDING or self._tail(excess).strip(b"\0"):
            raise ImageRejected(
                RejectCode.WRONG_LENGTH,
                f"{self.length:,} bytes of pixel data; the header needs {needed:,}",
            )
        self.stream.seek(self.start + (number - 1) * frame_bytes)
        return self.stream.read(frame_bytes)

    def _tail(self, excess: int) -> bytes:
        """What follows the pixels within their element; a single byte evens the length."""
        self.stream.seek(self.start + self.length - excess)
        return b"" if excess <= 1 else self.stream.read(excess)

    def _read_native(self, number: int) -> NDArray[Any]:
        rows, columns, photometric = self.facts.rows, self.facts.columns, self.photometric
        if photometric == "YBR_FULL_422":
            return self._read_luma_of_422(number)
        count = rows * columns * self.samples
        order = ">" if self.syntax == BIG_ENDIAN else "<"
        data = self._read_bytes(number, count * self.allocated // 8)
        if self.allocated == 8 and self.syntax == BIG_ENDIAN and self.vr == b"OW":
            data = np.frombuffer(data.ljust(count + count % 2, b"\0"), "<u2").byteswap().tobytes()
        pixels = np.frombuffer(data, f"{order}u{self.allocated // 8}", count)
        if order == ">":
            pixels = pixels.astype(pixels.dtype.newbyteorder("="))
        if self.samples == 1:
            return pixels.reshape(rows, columns)
        if number_at(self.header, "PlanarConfiguration") == 1:
            return np.moveaxis(pixels.reshape(self.samples, rows, columns), 0, -1)
        return pixels.reshape(rows, columns, self.samples)

    def _read_luma_of_422(self, number: int) -> NDArray[Any]:
        """The Y samples of Y Y Cb Cr quadruples (PS3.3 C.7.6.3.1.2)."""
        rows, columns = self.facts.rows, self.facts.columns
        if self.allocated != 8 or columns % 2:
            raise ImageRejected(RejectCode.UNSUPPORTED, "YBR_FULL_422 of odd width or over 8 bits")
        data = self._read_bytes(number, 2 * rows * columns)
        luma = np.frombuffer(data, np.uint8).reshape(rows, columns // 2, 4)[..., :2]
        return np.ascontiguousarray(luma).reshape(rows, columns)

    def _read_floats(self, number: int) -> NDArray[Any]:
        if self.samples != 1 or self.syntax not in NATIVE:
            raise ImageRejected(RejectCode.UNSUPPORTED, "compressed or colour float pixel data")
        width = 4 if self.element == _FLOAT else 8
        order = ">" if self.syntax == BIG_ENDIAN else "<"
        data = self._read_bytes(number, self.facts.rows * self.facts.columns * width)
        pixels = np.frombuffer(data, f"{order}f{width}").astype(np.float32)
        return pixels.reshape(self.facts.rows, self.facts.columns)

    def _frame(self, number: int) -> bytes:
        """The bytes of one compressed frame."""
        self._check_fragments()
        self.stream.seek(self.start)
        with parsing(RejectCode.DECODE_FAILED, "the compressed frame"):
            extended = None
            if "ExtendedOffsetTable" in self.header:
                extended = (
                    self.header.ExtendedOffsetTable,
                    self.header.ExtendedOffsetTableLengths,
                )
            return get_frame(
                self.stream,
                number - 1,
                number_of_frames=self.facts.number_of_frames,
                extended_offsets=extended,
            )

    def _check_fragments(self) -> None:
        """Every fragment must lie within the file."""
        position = self.start
        while position + 8 <= self.size:
            self.stream.seek(position)
            group, element, length = struct.unpack("<HHI", self.stream.read(8))
            if (group, element) != (0xFFFE, 0xE000):
                break
            position += 8 + length
        if position > self.size:
            raise ImageRejected(
                RejectCode.TRUNCATED,
                f"the file is truncated: a compressed frame lacks its last "
                f"{position - self.size:,} bytes",
            )

    def _read_codestream(self, number: int) -> NDArray[Any]:
        codec = CODECS.get(self.syntax)
        if codec is None:
            raise ImageRejected(
                RejectCode.UNSUPPORTED, f"the transfer syntax {UID(self.syntax).name}"
            )
        stream = codec.inspect(self._frame(number))
        stated = (self.facts.rows, self.facts.columns, self.samples)
        if (stream.rows, stream.columns, stream.components) != stated:
            raise ImageRejected(
                RejectCode.MISMATCH,
                f"the codestream holds {stream.rows} × {stream.columns} × {stream.components}, "
                f"the header says {stated[0]} × {stated[1]} × {stated[2]}",
            )
        with parsing(RejectCode.DECODE_FAILED, "the compressed pixels"):
            rgb = self.photometric == "RGB"
            return codec.decode(stream, self.reduce if codec.reducible else 0, rgb)

    def _values(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Mask unused high bits and restore the sign."""
        if pixels.dtype.kind == "i":
            pixels = pixels.view(f"u{pixels.dtype.itemsize}")
        if self.syntax in NATIVE or self.syntax == RLE:
            shift = self.high_bit + 1 - self.stored
            if shift:
                pixels = pixels >> np.array(shift, pixels.dtype)
        width = 8 * pixels.dtype.itemsize
        if self.signed and self.stored <= width:
            spare = np.array(width - self.stored, pixels.dtype)
            return (pixels << spare).view(f"i{pixels.dtype.itemsize}") >> spare.astype(
                f"i{pixels.dtype.itemsize}"
            )
        if self.stored < width and pixels.max() >> self.stored:
            pixels = pixels & np.array((1 << self.stored) - 1, pixels.dtype)
        return pixels

    def _gray(self, pixels: NDArray[Any]) -> NDArray[Any]:
        if self.photometric == "PALETTE COLOR":
            with parsing(RejectCode.DECODE_FAILED, "the colour palette"):
                return gray_of_rgb(apply_color_lut(pixels, self.header))
        if pixels.ndim == 2:
            return pixels
        compressed = self.syntax in CODECS
        if self.photometric == "RGB" or compressed:  # codecs hand out RGB
            return gray_of_rgb(pixels)
        return np.ascontiguousarray(pixels[..., 0])  # the Y of YBR is the luma
