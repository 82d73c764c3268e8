"""Recognising DICOM files, and reading their data set up to the pixels.

Only the elements named here are read. The patient's name and birth date are not among them.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from pydicom.valuerep import STANDARD_VR

from mammography.dicom.parsing import parsing
from mammography.dicom.streams import HeaderStream, InflatedStream, Stream
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

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
