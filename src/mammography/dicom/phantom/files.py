"""Writing any integer array as a valid DICOM image, in any transfer syntax, with any tags."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from mammography.dicom.phantom.codecs import Frame, syntax_named
from mammography.errors import UsageError

#: Photometric Interpretations of three samples per pixel.
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")

PIXEL_DATA = 0x7FE00010

#: Who wrote the file, as (0002,0012) and (0002,0013) say.
IMPLEMENTATION_UID = uid.UID("2.25.160316840913426742271325735401286574177")
IMPLEMENTATION_NAME = "MAMMOPHANTOM"


def uid_of(*words: object) -> str:
    """A UID made from words: the same words give the same UID (PS3.5 annex B.2)."""
    digest = hashlib.sha256("\0".join(map(str, words)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def code(value: str, meaning: str, scheme: str = "SCT") -> list[Dataset]:
    """A code sequence of one item (PS3.3 section 8)."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return [item]


def write_dicom(
    path: Path,
    pixels: np.ndarray,
    *,
    syntax: str = "explicit",
    photometric: str = "MONOCHROME2",
    **tags: Any,
) -> None:
    """Write an array as a DICOM image, sample for sample; nothing is scaled or inverted.

    Without tags the file is a left CC mammogram of a synthetic patient. UIDs are made from the
    names of the file and of its folder, so that the same call writes the same bytes.

    Args:
        path: The file; missing folders are made.
        pixels: Shape (rows, columns) or (frames, rows, columns), and with a colour photometric
            interpretation a last axis of 3. uint8, int8, uint16 or int16; or float32, which
            becomes Float Pixel Data and must not be compressed.
        syntax: A key of `mammography.dicom.phantom.codecs.SYNTAXES`. `jpeg-baseline` takes 8
            bits; `jpeg-extended` takes 16-bit arrays of 12-bit values.
        photometric: Photometric Interpretation. Samples are given as stored; only with YBR_RCT and
            YBR_ICT are they RGB, which JPEG 2000 transforms itself.
        **tags: DICOM keywords that override the defaults, even where the result contradicts the
            pixels (`Rows=60000`); None leaves a tag out. BitsStored also is the precision of
            JPEG and JPEG 2000 code streams; its default is that of the dtype.

    Raises:
        UsageError: The syntax is unknown or cannot hold such an array.
    """
    dataset = image_dataset(path, pixels, syntax=syntax, photometric=photometric, **tags)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def image_dataset(
    path: Path,
    pixels: np.ndarray,
    *,
    syntax: str = "explicit",
    photometric: str = "MONOCHROME2",
    **tags: Any,
) -> Dataset:
    """What `write_dicom` writes, as a data set with its file meta information."""
    colour = photometric in COLOURS
    if pixels.ndim not in ((3, 4) if colour else (2, 3)) or (colour and pixels.shape[-1] != 3):
        raise UsageError(f"An array of shape {pixels.shape} cannot be a {photometric} image.")
    if pixels.dtype not in (np.uint8, np.int8, np.uint16, np.int16, np.float32):
        raise UsageError(f"DICOM images of {pixels.dtype} are not written here.")
    compressed = syntax_named(syntax).encode is not None
    if compressed and pixels.dtype == np.float32:
        raise UsageError(f"Float Pixel Data cannot be written as {syntax}.")
    several = pixels.ndim == (4 if colour else 3)
    frames = pixels if several else pixels[np.newaxis]

    values = _default_tags(path, colour, several)
    values |= _pixel_tags(frames, photometric, several, syntax, tags.get("BitsStored"))
    values |= tags
    if compressed:
        values |= _encapsulated(frames, syntax, photometric, values["BitsStored"])
    else:
        values |= _native(frames, syntax, planar=values["PlanarConfiguration"] == 1)

    dataset = Dataset()
    for keyword, value in values.items():
        if isinstance(value, DataElement):
            dataset.add(value)
        elif value is not None:
            setattr(dataset, keyword, value)
    dataset.file_meta = file_meta(dataset, syntax)
    return dataset


def _default_tags(path: Path, colour: bool, several: bool) -> dict[str, Any]:
    """A left CC mammogram of a synthetic patient, or the SOP class that its shape asks for."""
    place = f"{path.parent.name}/{path.name}"
    sop_class = uid.DigitalMammographyXRayImageStorageForPresentation
    if several:
        sop_class = uid.BreastTomosynthesisImageStorage
    if colour:
        sop_class = uid.SecondaryCaptureImageStorage
    return {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": uid_of("instance", place),
        "StudyInstanceUID": uid_of("study", path.parent.name),
        "SeriesInstanceUID": uid_of("series", place),
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "Modality": "MG",
        "Manufacturer": "PHANTOM",
        "PatientName": "PHANTOM^0000",
        "PatientID": "PHANTOM-0000",
        "PatientBirthDate": "",
        "PatientSex": "F",
        "StudyDate": "20200101",
        "StudyTime": "120000",
        "ContentDate": "20200101",
        "ContentTime": "120000",
        "AccessionNumber": "00000000",
        "ReferringPhysicianName": "",
        "StudyID": "1",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "PatientOrientation": ["A", "R"],
        "PresentationIntentType": "FOR PRESENTATION",
        "ImageLaterality": "L",
        "ViewPosition": "CC",
        "ViewCodeSequence": code("399162004", "cranio-caudal"),
        "AnatomicRegionSequence": code("76752008", "Breast"),
        "BurnedInAnnotation": "NO",
        "RescaleIntercept": "0",
        "RescaleSlope": "1",
        "RescaleType": "US",
        "PresentationLUTShape": "IDENTITY",
    }


def _pixel_tags(
    frames: np.ndarray, photometric: str, several: bool, syntax: str, bits: int | None
) -> dict[str, Any]:
    """The Image Pixel module of an array of shape (frames, rows, columns[, 3])."""
    colour = frames.ndim == 4
    tags: dict[str, Any] = {
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": photometric,
        "PlanarConfiguration": 0 if colour else None,
        "NumberOfFrames": len(frames) if several else None,
        "Rows": frames.shape[1],
        "Columns": frames.shape[2],
        "BitsAllocated": frames.dtype.itemsize * 8,
    }
    if frames.dtype == np.float32:
        return tags
    bits = bits or (12 if syntax == "jpeg-extended" else frames.dtype.itemsize * 8)
    return tags | {
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(frames.dtype.kind == "i"),
        "LossyImageCompression": "00",
    }


def _native(frames: np.ndarray, syntax: str, planar: bool) -> dict[str, Any]:
    """The pixel data element of samples that are stored as they are."""
    planes = np.moveaxis(frames, -1, 1) if planar else frames
    order = frames.dtype.newbyteorder(">" if syntax == "big-endian" else "<")
    data = planes.astype(order).tobytes()
    if frames.dtype == np.float32:
        return {"FloatPixelData": data}
    vr = "OW" if syntax == "implicit" or frames.dtype.itemsize == 2 else "OB"
    return {"PixelData": DataElement(PIXEL_DATA, vr, data + b"\0" * (len(data) % 2))}


def _encapsulated(
    frames: np.ndarray, syntax: str, photometric: str, bits_stored: int | None
) -> dict[str, Any]:
    """The pixel data element of encoded frames, and what a lossy syntax must say of itself."""
    how = syntax_named(syntax)
    assert how.encode is not None
    width = frames.dtype.itemsize * 8
    precision = min(bits_stored or width, width)
    streams = [bytes(how.encode(Frame(frame, precision, photometric))) for frame in frames]
    data = DataElement(PIXEL_DATA, "OB", encapsulate(streams), is_undefined_length=True)
    if how.lossy_method is None:
        return {"PixelData": data}
    return {
        "PixelData": data,
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": f"{frames.nbytes / sum(map(len, streams)):.2f}",
        "LossyImageCompressionMethod": how.lossy_method,
    }


def file_meta(dataset: Dataset, syntax: str) -> FileMetaDataset:
    """The File Meta Information of a data set (PS3.10 section 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax_named(syntax).uid
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    return meta
