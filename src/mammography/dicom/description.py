"""The Image Pixel module (DICOM PS3.3 C.7.6.3): how the bytes of a frame are to be understood."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from mammography.dicom.header import ImageFacts, number_at, required_number
from mammography.dicom.parsing import parsing
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")

#: Photometric Interpretations by samples per pixel.
_PHOTOMETRIC = {
    1: (*MONOCHROME, "PALETTE COLOR"),
    3: (
        *("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420"),
        *("YBR_RCT", "YBR_ICT"),
    ),
}


@dataclass(frozen=True)
class PixelDescription:
    """How the samples of an image are stored.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        frames: At least 1.
        samples: Per pixel: 1 or 3.
        photometric: One of the Photometric Interpretations that go with so many samples.
        planar: Whether uncompressed colours are stored plane by plane.
        allocated: Bits that one sample takes: 8, 16 or 32; meaningless for float pixels.
        stored: Bits of a sample that carry its value: 1 to 16.
        high_bit: Position of the highest of them, from 0.
        signed: Whether they are a two's complement.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    planar: bool
    allocated: int
    stored: int
    high_bit: int
    signed: bool

    @property
    def shift(self) -> int:
        """Unused bits below the value of a sample."""
        return self.high_bit + 1 - self.stored


def describe(header: Dataset, facts: ImageFacts, floats: bool) -> PixelDescription:
    """Read and check the description of the pixels.

    Args:
        header: The data set.
        facts: Its facts.
        floats: Whether the pixels are floating-point numbers, which need no bit counts.

    Raises:
        ImageRejected: It contradicts itself, or describes what cannot be read here.
    """
    with parsing(RejectCode.DAMAGED_HEADER, "the pixel description"):
        samples = int(number_at(header, "SamplesPerPixel") or 1)
        # The standard demands it; files from before 1993 lack it.
        photometric = facts.photometric_interpretation or "MONOCHROME2"
        allocated = int(required_number(header, "BitsAllocated"))
        stored = facts.bits_stored
        high_bit = int(number_at(header, "HighBit") or stored - 1)
        signed = number_at(header, "PixelRepresentation") == 1
        planar = number_at(header, "PlanarConfiguration") == 1
    if samples not in _PHOTOMETRIC:
        raise ImageRejected(RejectCode.UNSUPPORTED, f"{samples} samples per pixel")
    if photometric not in _PHOTOMETRIC[samples]:
        raise ImageRejected(
            RejectCode.UNSUPPORTED,
            f"{samples} sample(s) per pixel with a Photometric Interpretation that is none of "
            + ", ".join(_PHOTOMETRIC[samples]),
        )
    if not floats:
        _check_bits(allocated, stored, high_bit)
    if signed and (samples > 1 or photometric == "PALETTE COLOR"):
        raise ImageRejected(RejectCode.UNSUPPORTED, "signed colour")
    return PixelDescription(
        facts.rows,
        facts.columns,
        facts.number_of_frames,
        samples,
        photometric,
        planar,
        allocated,
        stored,
        high_bit,
        signed,
    )


def _check_bits(allocated: int, stored: int, high_bit: int) -> None:
    if allocated not in (8, 16, 32) or not 1 <= stored <= 16:
        raise ImageRejected(
            RejectCode.UNSUPPORTED,
            f"{stored} bits stored in {allocated}; up to 16 bits in 8, 16 or 32 can be read",
        )
    if not stored - 1 <= high_bit < allocated:
        raise ImageRejected(
            RejectCode.MISMATCH,
            f"{stored} bits with high bit {high_bit} do not fit into {allocated} allocated bits",
        )
