"""Writing an exam of a synthetic archive: four images and the truth about them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from mammography.dicom.phantom.codecs import syntax_named
from mammography.dicom.phantom.files import write_dicom
from mammography.dicom.phantom.headers import header_tags
from mammography.dicom.phantom.image import LATERALITIES, VIEWS, PhantomImage, phantom_image
from mammography.dicom.phantom.lesions import Finding
from mammography.dicom.phantom.plan import PhantomExam

#: Columns of `truth.csv`; paths are relative to the archive's root.
TRUTH_COLUMNS = (
    "path", "AccessionNumber", "patient", "laterality", "view", "density", "percent_dense",
    "photometric_interpretation", "transfer_syntax", "manufacturer",
)  # fmt: skip

#: Columns of `findings.csv`; boxes are half-open, in pixels of the stored image.
FINDING_COLUMNS = ("path", *(field.name for field in fields(Finding)))


@dataclass(frozen=True)
class WrittenExam:
    """What is true of the four images of an exam.

    Attributes:
        truth: Rows of `truth.csv`, one per image.
        findings: Rows of `findings.csv`, one per lesion and image.
    """

    truth: list[dict[str, object]]
    findings: list[dict[str, object]]


def write_exam(archive: Path, exam: PhantomExam, rows: int, columns: int) -> WrittenExam:
    """Write the four images of an exam into its folder.

    Args:
        archive: The archive's root; the exam's folder is its accession number.
        exam: The exam.
        rows: Height of an image.
        columns: Width of an image.
    """
    truth: list[dict[str, object]] = []
    findings: list[dict[str, object]] = []
    for view in VIEWS:
        for laterality in LATERALITIES:
            image = exam_image(exam, laterality, view, rows, columns)
            name = f"{laterality}_{view}.dcm"
            write_dicom(
                archive / exam.accession / name,
                stored_pixels(exam, image),
                syntax=exam.syntax,
                photometric=exam.photometric,
                **header_tags(exam, laterality, view, name, rows),
            )
            path = f"{exam.accession}/{name}"
            facts = (path, exam.accession, exam.patient, laterality, view, exam.density,
                     round(image.percent_dense, 3), exam.photometric,
                     str(syntax_named(exam.syntax).uid), exam.vendor.manufacturer)  # fmt: skip
            truth.append(dict(zip(TRUTH_COLUMNS, facts, strict=True)))
            findings += [{"path": path, **asdict(finding)} for finding in image.findings]
    return WrittenExam(truth, findings)


def exam_image(
    exam: PhantomExam, laterality: str, view: str, rows: int, columns: int
) -> PhantomImage:
    """One of the four images of an exam, as MONOCHROME2."""
    return phantom_image(
        rows,
        columns,
        laterality=laterality,
        view=view,
        density=exam.density,
        seed=exam.woman,
        bits=exam.bits,
        lesions=exam.lesion_side == laterality,
        visit=exam.visit,
        tissue_range=exam.vendor.tissue_range,
        air_noise=exam.vendor.air_noise,
    )


def stored_pixels(exam: PhantomExam, image: PhantomImage) -> np.ndarray:
    """The values that the exam's unit would store: inverted for MONOCHROME1, 8 or 16 bits wide."""
    pixels = image.pixels
    if exam.vendor.monochrome1:
        pixels = np.uint16(2**exam.bits - 1) - pixels
    return pixels.astype(np.uint8) if exam.bits == 8 else pixels
