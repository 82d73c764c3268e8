"""Encoding one frame in each transfer syntax that a mammography archive may hold.

The counterpart of the readers: phantoms, tests and benchmarks need files in every syntax.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import imagecodecs
import numpy as np
from pydicom import uid

from mammography.errors import UsageError

#: imagecodecs returns one or the other.
Encoded = bytes | bytearray

#: JPEG quality, and JPEG 2000 peak signal-to-noise ratio in dB, of the lossy syntaxes.
JPEG_QUALITY = 95
JPEG2000_PSNR = 65

#: Largest error of a pixel, in stored values, in JPEG-LS near-lossless.
JPEG_LS_NEAR = 2


@dataclass(frozen=True)
class Frame:
    """One frame to be encoded.

    Attributes:
        samples: Shape (rows, columns) or (rows, columns, 3); 8 or 16 bits, signed or unsigned.
        precision: Bits that carry the value, at most those of the dtype.
        photometric: Photometric Interpretation of the stored samples.
    """

    samples: np.ndarray
    precision: int
    photometric: str

    @property
    def unsigned(self) -> np.ndarray:
        """The samples as bit patterns of `precision` bits, contiguous."""
        width = self.samples.dtype.itemsize * 8
        pattern = np.ascontiguousarray(self.samples).view(f"u{width // 8}")
        if self.precision < width and self.samples.dtype.kind == "i":
            return pattern & pattern.dtype.type((1 << self.precision) - 1)
        return pattern


def _rle(frame: Frame) -> Encoded:
    """RLE Lossless (DICOM PS3.5 annex G): one PackBits segment per byte plane, high byte first."""
    pattern = frame.unsigned
    planes = np.moveaxis(np.atleast_3d(pattern), 2, 0)
    segments = []
    for plane in planes:
        octets = np.ascontiguousarray(plane).view(np.uint8).reshape(*plane.shape, -1)
        for index in reversed(range(octets.shape[2])):
            segment = imagecodecs.packbits_encode(np.ascontiguousarray(octets[:, :, index]))
            segments.append(segment + b"\0" * (len(segment) % 2))
    offsets = np.zeros(16, dtype="<u4")
    offsets[0] = len(segments)
    offsets[1 : len(segments) + 1] = 64 + np.cumsum([0, *map(len, segments[:-1])])
    return offsets.tobytes() + b"".join(segments)


def _jpeg_lossless(predictor: int) -> Callable[[Frame], Encoded]:
    def encode(frame: Frame) -> Encoded:
        return imagecodecs.jpeg8_encode(
            frame.unsigned, lossless=True, predictor=predictor, bitspersample=frame.precision
        )

    return encode


def _jpeg_lossy(precision: int) -> Callable[[Frame], Encoded]:
    def encode(frame: Frame) -> Encoded:
        if frame.precision != precision or frame.samples.dtype.kind == "i":
            raise UsageError(
                f"This JPEG process holds unsigned samples of {precision} bits, not "
                f"{frame.samples.dtype} with {frame.precision} bits stored."
            )
        if frame.samples.ndim == 2:
            return imagecodecs.jpeg8_encode(
                frame.unsigned, level=JPEG_QUALITY, bitspersample=precision
            )
        space = "RGB" if frame.photometric == "RGB" else "YCBCR"
        return imagecodecs.jpeg8_encode(
            frame.unsigned,
            level=JPEG_QUALITY,
            colorspace=space,
            outcolorspace=space,
            subsampling="422" if frame.photometric == "YBR_FULL_422" else "444",
        )

    return encode


def _jpeg_ls(level: int) -> Callable[[Frame], Encoded]:
    return lambda frame: imagecodecs.jpegls_encode(frame.unsigned, level=level)


def _jpeg2000(reversible: bool) -> Callable[[Frame], Encoded]:
    def encode(frame: Frame) -> Encoded:
        return imagecodecs.jpeg2k_encode(
            np.ascontiguousarray(frame.samples),
            level=0 if reversible else JPEG2000_PSNR,
            codecformat="j2k",
            reversible=reversible,
            bitspersample=frame.precision,
            mct=frame.photometric in ("YBR_RCT", "YBR_ICT"),
        )

    return encode


def _htj2k(frame: Frame) -> Encoded:
    return imagecodecs.htj2k_encode(np.ascontiguousarray(frame.samples), reversible=True)


@dataclass(frozen=True)
class Syntax:
    """How one transfer syntax is written.

    Attributes:
        uid: Its UID.
        encode: From a frame to its code stream; None where samples are stored as they are.
        lossy_method: Lossy Image Compression Method (0028,2114); None where nothing is lost.
    """

    uid: uid.UID
    encode: Callable[[Frame], Encoded] | None = None
    lossy_method: str | None = None


SYNTAXES: dict[str, Syntax] = {
    "implicit": Syntax(uid.ImplicitVRLittleEndian),
    "explicit": Syntax(uid.ExplicitVRLittleEndian),
    "big-endian": Syntax(uid.ExplicitVRBigEndian),
    "deflated": Syntax(uid.DeflatedExplicitVRLittleEndian),
    "rle": Syntax(uid.RLELossless, _rle),
    "jpeg-lossless": Syntax(uid.JPEGLosslessSV1, _jpeg_lossless(predictor=1)),
    "jpeg-lossless-p14": Syntax(uid.JPEGLossless, _jpeg_lossless(predictor=6)),
    "jpeg-baseline": Syntax(uid.JPEGBaseline8Bit, _jpeg_lossy(8), "ISO_10918_1"),
    "jpeg-extended": Syntax(uid.JPEGExtended12Bit, _jpeg_lossy(12), "ISO_10918_1"),
    "jpeg-ls": Syntax(uid.JPEGLSLossless, _jpeg_ls(level=0)),
    "jpeg-ls-near": Syntax(uid.JPEGLSNearLossless, _jpeg_ls(JPEG_LS_NEAR), "ISO_14495_1"),
    "jpeg2000": Syntax(uid.JPEG2000Lossless, _jpeg2000(reversible=True)),
    "jpeg2000-lossy": Syntax(uid.JPEG2000, _jpeg2000(reversible=False), "ISO_15444_1"),
}
# The last imagecodecs for Python 3.10 reads HTJ2K (through OpenJPEG) and does not write it.
if hasattr(imagecodecs, "htj2k_encode"):
    SYNTAXES["htj2k"] = Syntax(uid.HTJ2KLossless, _htj2k)


def syntax_named(name: str) -> Syntax:
    """The transfer syntax of a name; an unknown name is an error that lists the known ones."""
    if name not in SYNTAXES:
        raise UsageError(f"There is no transfer syntax {name!r}; known are {', '.join(SYNTAXES)}.")
    return SYNTAXES[name]
