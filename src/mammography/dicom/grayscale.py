"""What a header says about the meaning of stored values: modality and VOI transformations.

DICOM PS3.3 C.11.1 (Modality LUT), C.11.2 (VOI LUT). They are read here and applied by a recipe
that asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from mammography.dicom.header import number_at, text
from mammography.dicom.lut import Lut, read_lut
from mammography.dicom.parsing import parsing
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode


@dataclass(frozen=True)
class Grayscale:
    """Modality and VOI transformations of one frame.

    Attributes:
        slope: Rescale Slope.
        intercept: Rescale Intercept.
        modality_lut: Used instead of slope and intercept where the header has one.
        windows: (center, width) pairs in the header's order.
        voi_function: "LINEAR", "LINEAR_EXACT" or "SIGMOID".
        voi_luts: VOI LUTs in the header's order.
    """

    slope: float = 1.0
    intercept: float = 0.0
    modality_lut: Lut | None = None
    windows: tuple[tuple[float, float], ...] = ()
    voi_function: str = "LINEAR"
    voi_luts: tuple[Lut, ...] = ()


def grayscale_of(header: Dataset, frame: int) -> Grayscale:
    """Read the transformations of one frame, from the header or its functional groups.

    Args:
        header: The data set without pixels.
        frame: Number of the frame, from 1.

    Raises:
        ImageRejected: A slope of zero or not a number, or a damaged LUT.
    """
    with parsing(RejectCode.DAMAGED_HEADER, "the modality or VOI transformation"):
        rescale = _macro(header, frame, "PixelValueTransformationSequence")
        voi = _macro(header, frame, "FrameVOILUTSequence")
        slope = _number_or(rescale, "RescaleSlope", 1.0)
        if slope == 0:
            raise ImageRejected(RejectCode.MISMATCH, "the header's RescaleSlope is 0")
        modality = header.get("ModalityLUTSequence")
        little_endian = header.original_encoding[1] is not False
        return Grayscale(
            slope=slope,
            intercept=_number_or(rescale, "RescaleIntercept", 0.0),
            modality_lut=_lut(modality[0], little_endian) if modality else None,
            windows=_windows(voi),
            voi_function=(text(voi, "VOILUTFunction") or "LINEAR").upper(),
            voi_luts=tuple(_lut(item, little_endian) for item in voi.get("VOILUTSequence") or ()),
        )


def _macro(header: Dataset, frame: int, sequence: str) -> Dataset:
    """The item that holds a frame's attributes: per frame, shared, or the header itself."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    shared = header.get("SharedFunctionalGroupsSequence")
    groups = [per_frame[frame - 1]] if per_frame and len(per_frame) >= frame else []
    groups += [shared[0]] if shared else []
    for group in groups:
        if group.get(sequence):
            return group[sequence][0]
    return header


def _number_or(header: Dataset, keyword: str, default: float) -> float:
    if header.get(keyword) in (None, ""):
        return default
    number = number_at(header, keyword)
    if number is None:
        raise ImageRejected(RejectCode.NOT_FINITE, f"the header's {keyword} is no finite number")
    return number


def _windows(voi: Dataset) -> tuple[tuple[float, float], ...]:
    windows: list[tuple[float, float]] = []
    while True:
        center = number_at(voi, "WindowCenter", len(windows))
        width = number_at(voi, "WindowWidth", len(windows))
        if center is None or width is None:
            return tuple(windows)
        windows.append((center, width))


def _lut(item: Dataset, little_endian: bool) -> Lut:
    return read_lut(item.LUTDescriptor, item.LUTData, little_endian)
