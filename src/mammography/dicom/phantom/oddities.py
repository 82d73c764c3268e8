"""Good images that careless readers stumble over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

from mammography.dicom.phantom.archive import exam_image, stored_pixels
from mammography.dicom.phantom.files import image_dataset, write_dicom
from mammography.dicom.phantom.headers import header_tags
from mammography.dicom.phantom.plan import PhantomExam

#: Frames of the tomosynthesis stack; the sharpest is the middle one.
TOMOSYNTHESIS_FRAMES = 5

#: Columns of `odd_files.csv`.
ODD_COLUMNS = (
    "path", "AccessionNumber", "patient", "laterality", "view", "density", "kind", "reading",
)  # fmt: skip

_NO_WINDOW = dict.fromkeys(
    ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
)


def _bare(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    dataset = image_dataset(path, pixels, syntax="implicit", **tags)
    del dataset.file_meta
    dataset.save_as(path, implicit_vr=True, little_endian=True)


def _padded(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    dataset = image_dataset(path, pixels, **tags)
    dataset["PixelData"].value += b"\0\0"
    dataset.save_as(path, enforce_file_format=True)


def _signed(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    middle = 1 << (tags["BitsStored"] - 1)
    values = (pixels.astype(np.int32) - middle).astype(np.int16)
    more = {"RescaleIntercept": f"{middle}", "PixelPaddingValue": None}
    write_dicom(path, values, **(tags | more))


def _eight_bits(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    write_dicom(path, _reduced(pixels, tags, 8), **(tags | _NO_WINDOW | {"BitsStored": 8}))


def _colour(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    gray = _reduced(pixels, tags, 8)
    if tags["PhotometricInterpretation"] == "MONOCHROME1":
        gray = 255 - gray
    more = {
        "BitsStored": 8,
        "PhotometricInterpretation": "RGB",
        "PresentationIntentType": None,
        "PresentationLUTShape": None,
        "PixelPaddingValue": None,
        "ConversionType": "WSD",
    }
    write_dicom(path, np.dstack([gray] * 3), photometric="RGB", **(tags | _NO_WINDOW | more))


def _overlay_in_high_bits(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    values = _reduced(pixels, tags, 12).astype(np.uint16)
    rows, columns = values.shape
    values[rows // 4 : rows // 2, columns // 4 : columns // 2] |= 1 << 12
    dataset = image_dataset(path, values, **(tags | _NO_WINDOW | {"BitsStored": 12}))
    for element, vr, value in (
        (0x0010, "US", rows),
        (0x0011, "US", columns),
        (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 16),
        (0x0102, "US", 12),
    ):
        dataset.add_new((0x6000, element), vr, value)
    dataset.save_as(path, enforce_file_format=True)


def _tomosynthesis(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    rows, columns = pixels.shape
    small = cv2.resize(pixels, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    middle = TOMOSYNTHESIS_FRAMES // 2
    frames = [
        cv2.GaussianBlur(small, (0, 0), max(0.1, abs(place - middle) * rows / 800))
        for place in range(TOMOSYNTHESIS_FRAMES)
    ]
    anatomy, voi, shared = Dataset(), Dataset(), Dataset()
    anatomy.FrameLaterality = tags["ImageLaterality"]
    anatomy.AnatomicRegionSequence = tags["AnatomicRegionSequence"]
    voi.WindowCenter, voi.WindowWidth = tags["WindowCenter"], tags["WindowWidth"]
    shared.FrameAnatomySequence = [anatomy]
    shared.FrameVOILUTSequence = [voi]
    more = {
        "SOPClassUID": uid.BreastTomosynthesisImageStorage,
        "SharedFunctionalGroupsSequence": [shared],
        "ImageLaterality": None,
        "ViewPosition": None,
    }
    write_dicom(path, np.stack(frames), syntax="jpeg2000", **(tags | _NO_WINDOW | more))


def _reduced(pixels: np.ndarray, tags: dict[str, Any], bits: int) -> np.ndarray:
    """The highest bits of pixels, at most so many."""
    values = pixels >> max(0, tags["BitsStored"] - bits)
    return values.astype(np.uint8) if bits == 8 else values


@dataclass(frozen=True)
class OddKind:
    """One kind of image that must be read all the same.

    Attributes:
        write: Writes it from a path, an image and that image's tags.
        reading: What a reader must make of it.
        name: Name of the file, or None for one made from the kind's own name.
    """

    write: Callable[[Path, np.ndarray, dict[str, Any]], None]
    reading: str
    name: str | None = None


ODD_KINDS: dict[str, OddKind] = {
    "no-preamble": OddKind(_bare, "DICOM by content: no preamble, no meta header", "IM000001"),
    "two-bytes-padded": OddKind(_padded, "two zero bytes follow the pixels"),
    "tomosynthesis": OddKind(_tomosynthesis, f"{TOMOSYNTHESIS_FRAMES} frames, the middle sharp"),
    "signed": OddKind(_signed, "signed values with a rescale intercept"),
    "eight-bits": OddKind(_eight_bits, "8 bits stored in 8"),
    "colour": OddKind(_colour, "a gray picture in RGB, as secondary capture"),
    "overlay-in-high-bits": OddKind(_overlay_in_high_bits, "bit 12 is an overlay, to be masked"),
}


def write_odd_file(
    archive: Path, rows: int, columns: int, kind_and_exam: tuple[str, PhantomExam]
) -> dict[str, object]:
    """Add one odd but good image, of the left CC view, to an exam's folder.

    Args:
        archive: The archive's root.
        rows: Height of the image.
        columns: Its width.
        kind_and_exam: A key of `ODD_KINDS`, and the exam.

    Returns:
        Its row of `odd_files.csv`.
    """
    name_of_kind, exam = kind_and_exam
    kind = ODD_KINDS[name_of_kind]
    name = kind.name or f"odd_{name_of_kind}.dcm"
    path = archive / exam.accession / name
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = header_tags(exam, "L", "CC", name, rows)
    pixels = stored_pixels(exam, exam_image(exam, "L", "CC", rows, columns))
    kind.write(path, pixels, tags | {"PhotometricInterpretation": exam.photometric})
    row = (f"{exam.accession}/{name}", exam.accession, exam.patient, "L", "CC", exam.density,
           name_of_kind, kind.reading)  # fmt: skip
    return dict(zip(ODD_COLUMNS, row, strict=True))
