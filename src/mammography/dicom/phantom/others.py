"""What lies between the images of an archive without being one.

Each writer takes the path, an image of the exam and that image's tags.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

from mammography.dicom.phantom.files import code, file_meta, uid_of

_PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate",
    "AccessionNumber", "Manufacturer", "ManufacturerModelName",
)  # fmt: skip


def _document(tags: dict[str, Any], sop_class: str, modality: str, name: str) -> Dataset:
    """A data set of the same study that is no image."""
    dataset = Dataset()
    for keyword in _PATIENT_AND_STUDY:
        setattr(dataset, keyword, tags[keyword])
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = tags["SOPInstanceUID"]
    dataset.SeriesInstanceUID = uid_of(name, tags["SeriesInstanceUID"])
    dataset.Modality = modality
    dataset.PatientSex = "F"
    dataset.StudyTime = "120000"
    dataset.StudyID = "1"
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = 99
    dataset.InstanceNumber = 1
    dataset.ContentDate = tags["StudyDate"]
    dataset.ContentTime = "120500"
    return dataset


def _save(path: Path, dataset: Dataset) -> None:
    dataset.file_meta = file_meta(dataset, "explicit")
    dataset.save_as(path, enforce_file_format=True)


def write_dose_report(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    """An X-Ray Radiation Dose SR with an empty report."""
    dataset = _document(tags, uid.XRayRadiationDoseSRStorage, "SR", "dose")
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.ValueType = "CONTAINER"
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ConceptNameCodeSequence = code("113701", "X-Ray Radiation Dose Report", "DCM")
    dataset.ContentSequence = []
    _save(path, dataset)


def write_presentation_state(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    """A Grayscale Softcopy Presentation State that shows the whole of the image."""
    rows, columns = pixels.shape
    dataset = _document(tags, uid.GrayscaleSoftcopyPresentationStateStorage, "PR", "presentation")
    image = Dataset()
    image.ReferencedSOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
    image.ReferencedSOPInstanceUID = uid_of("shown", tags["SOPInstanceUID"])
    series = Dataset()
    series.SeriesInstanceUID = tags["SeriesInstanceUID"]
    series.ReferencedImageSequence = [image]
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [columns, rows]
    area.PresentationSizeMode = "SCALE TO FIT"
    dataset.ContentLabel = "PHANTOM"
    dataset.ContentDescription = "Synthetic"
    dataset.ContentCreatorName = ""
    dataset.PresentationCreationDate = tags["StudyDate"]
    dataset.PresentationCreationTime = "120500"
    dataset.ReferencedSeriesSequence = [series]
    dataset.DisplayedAreaSelectionSequence = [area]
    dataset.PresentationLUTShape = "IDENTITY"
    _save(path, dataset)


def write_dicomdir(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    """The index of a medium that lists nothing."""
    dataset = Dataset()
    dataset.SOPClassUID = uid.MediaStorageDirectoryStorage
    dataset.SOPInstanceUID = tags["SOPInstanceUID"]
    meta = file_meta(dataset, "explicit")
    directory = Dataset()
    directory.FileSetID = "PHANTOM"
    directory.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    directory.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    directory.FileSetConsistencyFlag = 0
    directory.DirectoryRecordSequence = []
    directory.file_meta = meta
    directory.save_as(path, enforce_file_format=True)


def write_note(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    """A text that someone left in the archive."""
    path.write_text("Synthetic archive: a text file that is no image.\n", encoding="utf-8")


def write_thumbnails(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    """The start of the compound file in which Windows keeps thumbnails."""
    path.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504))
