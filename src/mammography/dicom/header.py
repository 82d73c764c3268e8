"""What a DICOM header says: the facts that the manifest keeps.

The patient's identifier leaves this module only to be hashed (see `mammography.runs.pseudonym`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID_dictionary

from mammography.dicom.parsing import PARSER_ERRORS, parsing
from mammography.errors import ImageRejected
from mammography.vocabulary import LATERALITIES, VIEW_OF_CODE, RejectCode


@dataclass(frozen=True)
class ImageFacts:
    """What an image file says about itself.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        number_of_frames: 1 for a plain image.
        bits_stored: Bits that carry the value of one sample.
        photometric_interpretation: DICOM's code string; None where the header has none.
        transfer_syntax: UID for DICOM; "PNG", "PGM", "TIFF" or "JPEG" for other files.
        pixel_spacing: Row spacing at the detector in mm; None where unknown.
        manufacturer: As the header gives it, stripped.
        model: Manufacturer's model name.
        presentation_intent: "FOR PRESENTATION", "FOR PROCESSING" or None.
        laterality: "L", "R", "B" or None.
        view: View Position code string ("CC", "MLO", …) or None.
        accession_number: None where empty.
        patient_id: The identifier in clear; hash it before it is stored anywhere.
        sop_instance_uid: None where missing.
    """

    rows: int
    columns: int
    number_of_frames: int = 1
    bits_stored: int = 8
    photometric_interpretation: str | None = None
    transfer_syntax: str = ""
    pixel_spacing: float | None = None
    manufacturer: str | None = None
    model: str | None = None
    presentation_intent: str | None = None
    laterality: str | None = None
    view: str | None = None
    accession_number: str | None = None
    patient_id: str | None = None
    sop_instance_uid: str | None = None


def facts_of(dataset: Dataset) -> ImageFacts:
    """The facts of a header, with every missing or unusable optional value as None.

    Raises:
        ImageRejected: The object is no image (a report, a presentation state), or lacks what an
            image must have.
    """
    with parsing(RejectCode.DAMAGED_HEADER, "the DICOM header"):
        _refuse_what_is_no_image(dataset)
        spacing = number_at(dataset, "ImagerPixelSpacing") or number_at(dataset, "PixelSpacing")
        photometric = text(dataset, "PhotometricInterpretation")
        return ImageFacts(
            rows=int(required_number(dataset, "Rows")),
            columns=int(required_number(dataset, "Columns")),
            number_of_frames=_number_of_frames(dataset),
            # Float Pixel Data has no Bits Stored.
            bits_stored=int(
                number_at(dataset, "BitsStored") or required_number(dataset, "BitsAllocated")
            ),
            photometric_interpretation=photometric.upper() if photometric else None,
            transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
            pixel_spacing=spacing,
            manufacturer=text(dataset, "Manufacturer"),
            model=text(dataset, "ManufacturerModelName"),
            presentation_intent=text(dataset, "PresentationIntentType"),
            laterality=_laterality(dataset),
            view=_view(dataset),
            accession_number=text(dataset, "AccessionNumber"),
            patient_id=text(dataset, "PatientID"),
            sop_instance_uid=text(dataset, "SOPInstanceUID"),
        )


def _refuse_what_is_no_image(dataset: Dataset) -> None:
    if "Rows" in dataset and "Columns" in dataset:
        return
    name = UID_dictionary.get(text(dataset, "SOPClassUID") or "", ("",))[0]
    if not name:
        raise ImageRejected(
            RejectCode.DAMAGED_HEADER, "the DICOM header has neither image size nor known class"
        )
    if "Image Storage" in name:
        raise ImageRejected(RejectCode.NO_PIXEL_DATA, f"{name} without Rows and Columns")
    raise ImageRejected(RejectCode.NOT_AN_IMAGE, f"not an image but {name}")


def _number_of_frames(dataset: Dataset) -> int:
    """1 where the header has none or, as old files do, says 0."""
    if dataset.get("NumberOfFrames") in (None, "", 0):
        return 1
    count = int(required_number(dataset, "NumberOfFrames"))
    if count < 1:
        raise ImageRejected(RejectCode.DAMAGED_HEADER, f"an image of {count} frames")
    return count


def value_of(dataset: Dataset, keyword: str) -> Any:
    """An element's value; None where it is missing or cannot be read."""
    try:
        return dataset.get(keyword)
    except PARSER_ERRORS:
        return None


def text(dataset: Dataset, keyword: str) -> str | None:
    """A text element, stripped; its first value where it has several; None where it has none."""
    value = value_of(dataset, keyword)
    if isinstance(value, (MultiValue, list)):
        value = value[0] if len(value) else None
    value = "" if value is None else str(value).strip("\0 \t\r\n")
    return value or None


def number_at(dataset: Dataset, keyword: str, index: int = 0) -> float | None:
    """One finite number of an element; None where it is missing, unreadable or not finite."""
    value = value_of(dataset, keyword)
    if isinstance(value, (MultiValue, list)):
        value = value[index] if len(value) > index else None
    elif index:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def required_number(dataset: Dataset, keyword: str) -> float:
    """A number that an image cannot do without.

    Raises:
        ImageRejected: The element is missing or not a number.
    """
    number = number_at(dataset, keyword)
    if number is None:
        raise ImageRejected(RejectCode.DAMAGED_HEADER, f"the header has no usable {keyword}")
    return number


def first_item(dataset: Dataset | None, keyword: str) -> Dataset | None:
    """The first item of a sequence; None where there is none."""
    sequence = value_of(dataset, keyword) if dataset is not None else None
    return sequence[0] if isinstance(sequence, Sequence) and len(sequence) else None


def _laterality(dataset: Dataset) -> str | None:
    found = text(dataset, "ImageLaterality") or text(dataset, "Laterality")
    for group in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        if found is None:
            anatomy = first_item(first_item(dataset, group), "FrameAnatomySequence")
            found = text(anatomy, "FrameLaterality") if anatomy is not None else None
    found = found.upper()[:1] if found else None
    return found if found in LATERALITIES else None


def _view(dataset: Dataset) -> str | None:
    code = first_item(dataset, "ViewCodeSequence")
    named = VIEW_OF_CODE.get(text(code, "CodeValue") or "") if code is not None else None
    position = text(dataset, "ViewPosition")
    return position.upper() if position else named
