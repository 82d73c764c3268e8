"""Reading a DICOM header: the facts that the manifest keeps, without the pixels.

The patient's name and birth date are never read. The patient's identifier leaves this module only
as a salted hash (see `mammography.runs.pseudonym`).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID, MediaStorageDirectoryStorage

from mammography.errors import ImageRejected
from mammography.vocabulary import LATERALITIES, VIEW_OF_CODE, RejectCode

#: What parsers written by others raise on damaged bytes; anything else is a defect of ours.
PARSER_ERRORS = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    IndexError,
    InvalidDicomError,
    KeyError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

#: The largest inflated size of a deflated file; beyond it the file is taken for a bomb.
MAX_INFLATED_BYTES = 2 << 30


@contextmanager
def parsing(code: RejectCode, what: str) -> Iterator[None]:
    """Turn whatever another library raises on damaged bytes into an `ImageRejected`.

    Args:
        code: The reject code to give.
        what: What was being done, as the first words of the reason: "the header".
    """
    try:
        yield
    except ImageRejected:
        raise
    except PARSER_ERRORS as error:
        detail = " ".join(str(error).split())[:160] or type(error).__name__
        raise ImageRejected(code, f"{what} cannot be read: {detail}") from error


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


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file's first 144 bytes are DICOM, with or without the 128-byte preamble.

    A file without preamble must start with an element of group 0002 or 0008 whose VR or length is
    plausible.
    """
    if head[128:132] == b"DICM":
        return True
    for order in ("<", ">"):
        if len(head) < 12:
            return False
        group, element = struct.unpack(order + "HH", head[:4])
        if group not in (0x0002, 0x0008) or element > 0x0100:
            continue
        explicit = head[4:6] in (b"UL", b"UI", b"CS", b"OB", b"SH", b"DA", b"TM")
        length = struct.unpack(order + "I", head[4:8])[0]
        if explicit or (length < 1024 and length % 2 == 0):
            return True
    return False


def read_header(source: Path | BinaryIO) -> Dataset:
    """Read a DICOM file up to its pixels.

    Args:
        source: The file, with or without preamble and meta header.

    Returns:
        The data set; `file_meta.TransferSyntaxUID` is always set.

    Raises:
        ImageRejected: The header is damaged, or the file is a DICOMDIR.
    """
    with parsing(RejectCode.DAMAGED_HEADER, "the DICOM header"):
        dataset = pydicom.dcmread(source, stop_before_pixels=True, force=True)
        if len(dataset) == 0:
            raise ImageRejected(RejectCode.DAMAGED_HEADER, "the DICOM header holds no elements")
        meta = dataset.file_meta
        if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            raise ImageRejected(RejectCode.NOT_AN_IMAGE, "a DICOMDIR, the index of a medium")
        if "TransferSyntaxUID" not in meta:
            meta.TransferSyntaxUID = _transfer_syntax_of_encoding(dataset)
    return dataset


def _transfer_syntax_of_encoding(dataset: Dataset) -> UID:
    """The native syntax in which pydicom found a data set that does not name its own."""
    implicit, little_endian = dataset.original_encoding
    if implicit:
        return pydicom.uid.ImplicitVRLittleEndian
    return pydicom.uid.ExplicitVRLittleEndian if little_endian else pydicom.uid.ExplicitVRBigEndian


def facts_of(dataset: Dataset) -> ImageFacts:
    """The facts of a header, with every missing or unusable optional value as None.

    Raises:
        ImageRejected: The object is no image (a report, a presentation state), or lacks what an
            image must have.
    """
    with parsing(RejectCode.DAMAGED_HEADER, "the DICOM header"):
        _refuse_what_is_no_image(dataset)
        spacing = number_at(dataset, "ImagerPixelSpacing") or number_at(dataset, "PixelSpacing")
        return ImageFacts(
            rows=int(required_number(dataset, "Rows")),
            columns=int(required_number(dataset, "Columns")),
            number_of_frames=int(number_at(dataset, "NumberOfFrames") or 1),
            # Float Pixel Data has no Bits Stored.
            bits_stored=int(
                number_at(dataset, "BitsStored") or required_number(dataset, "BitsAllocated")
            ),
            photometric_interpretation=text(dataset, "PhotometricInterpretation"),
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
    sop_class = text(dataset, "SOPClassUID")
    if sop_class is None:
        raise ImageRejected(
            RejectCode.DAMAGED_HEADER, "the DICOM header has neither image size nor SOP class"
        )
    name = UID(sop_class).name
    if "Image Storage" in name:
        raise ImageRejected(RejectCode.NO_PIXEL_DATA, f"{name} without Rows and Columns")
    raise ImageRejected(RejectCode.NOT_AN_IMAGE, f"not an image but {name}")


def text(dataset: Dataset, keyword: str) -> str | None:
    """A text element, stripped; its first value where it has several; None where it has none."""
    value = dataset.get(keyword)
    if isinstance(value, (MultiValue, list)):
        value = value[0] if len(value) else None
    value = "" if value is None else str(value).strip().strip("\0").strip()
    return value or None


def number_at(dataset: Dataset, keyword: str, index: int = 0) -> float | None:
    """One finite number of an element; None where it is missing, unreadable or not finite."""
    value: Any = dataset.get(keyword)
    if isinstance(value, (MultiValue, list)):
        value = value[index] if len(value) > index else None
    elif index:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
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


def _laterality(dataset: Dataset) -> str | None:
    found = text(dataset, "ImageLaterality") or text(dataset, "Laterality")
    if found is None:
        for group in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
            anatomy = _first_item(_first_item(dataset, group), "FrameAnatomySequence")
            found = found or (text(anatomy, "FrameLaterality") if anatomy is not None else None)
    found = found.upper()[:1] if found else None
    return found if found in LATERALITIES else None


def _view(dataset: Dataset) -> str | None:
    code = _first_item(dataset, "ViewCodeSequence")
    named = VIEW_OF_CODE.get(text(code, "CodeValue") or "") if code is not None else None
    position = text(dataset, "ViewPosition")
    return position.upper() if position else named


def _first_item(dataset: Dataset | None, keyword: str) -> Dataset | None:
    sequence = dataset.get(keyword) if dataset is not None else None
    return sequence[0] if sequence else None
