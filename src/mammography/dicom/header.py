"""Reading a DICOM header: the facts that the manifest keeps, without the pixels.

Only the elements named here are read. The patient's name and birth date are not among them; the
patient's identifier leaves this module only to be hashed (see `mammography.runs.pseudonym`).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    UID_dictionary,
)
from pydicom.valuerep import STANDARD_VR

from mammography.dicom.parsing import PARSER_ERRORS, parsing
from mammography.dicom.streams import HeaderStream, InflatedStream, Stream
from mammography.errors import ImageRejected
from mammography.vocabulary import LATERALITIES, VIEW_OF_CODE, RejectCode

#: The only elements that are read.
_ELEMENTS = [
    Tag(keyword)
    for keyword in (
        *("SOPClassUID", "SOPInstanceUID", "AccessionNumber", "PatientID"),
        *("Manufacturer", "ManufacturerModelName", "PresentationIntentType"),
        *("ImageLaterality", "Laterality", "ViewPosition", "ViewCodeSequence"),
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
        *("Rows", "Columns", "NumberOfFrames", "ImagerPixelSpacing", "PixelSpacing"),
        *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
        *("PixelPaddingValue", "PixelPaddingRangeLimit"),
        *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
        *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
        *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
        *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
        *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
    )
]

_VRS = frozenset(vr.encode() for vr in STANDARD_VR)


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
    if len(head) < 12:
        return False
    for order in ("<", ">"):
        group, element = struct.unpack(order + "HH", head[:4])
        if group not in (0x0002, 0x0008) or element > 0x0100:
            continue
        if head[4:6] in _VRS:
            return True
        length = struct.unpack("<I", head[4:8])[0]  # without VR, DICOM is always little endian
        if order == "<" and length < 1024 and length % 2 == 0:
            return True
    return False


def read_header(file: BinaryIO) -> tuple[Dataset, Stream]:
    """Read a DICOM file up to its pixels.

    Args:
        file: The file from its start, with or without preamble and meta header.

    Returns:
        The data set, of which `file_meta.TransferSyntaxUID` is always set, and a stream at its
        pixel element: the file itself, or what a deflated file inflates to.

    Raises:
        ImageRejected: The header is damaged, or the file is a DICOMDIR.
    """
    with parsing(RejectCode.DAMAGED_HEADER, "the DICOM header"):
        deflated = _start_of_deflated(file.read(4096))
        file.seek(deflated or 0)
        stream: Stream = InflatedStream(file) if deflated else file
        dataset = pydicom.dcmread(
            HeaderStream(stream),
            stop_before_pixels=True,
            force=True,
            specific_tags=_ELEMENTS,
        )
        meta = dataset.file_meta
        if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            raise ImageRejected(RejectCode.NOT_AN_IMAGE, "a DICOMDIR, the index of a medium")
        if len(dataset) == 0:
            raise ImageRejected(RejectCode.DAMAGED_HEADER, "the DICOM header describes nothing")
        if deflated:
            meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        elif "TransferSyntaxUID" not in meta:
            meta.TransferSyntaxUID = _transfer_syntax_of_encoding(dataset)
    return dataset, stream


def _start_of_deflated(head: bytes) -> int | None:
    """Where the data set of a deflated file starts, after the meta header; None for other files."""
    position = 132 if head[128:132] == b"DICM" else 0
    syntax = b""
    while head[position : position + 2] == b"\2\0":
        element, vr = head[position + 2 : position + 4], head[position + 4 : position + 6]
        long = vr in (b"OB", b"UN")
        value = position + (12 if long else 8)
        end = value + int.from_bytes(head[value - (4 if long else 2) : value], "little")
        if element == b"\x10\0":
            syntax = head[value:end]
        position = end
    return position if syntax.strip(b"\0 ") == DeflatedExplicitVRLittleEndian.encode() else None


def _transfer_syntax_of_encoding(dataset: Dataset) -> UID:
    """The native syntax in which pydicom found a data set that does not name its own."""
    implicit, little_endian = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


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
