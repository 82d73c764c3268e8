"""The header that a mammography unit would give an image (PS3.3 A.26, Digital Mammography)."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np

from mammography.dicom.phantom.files import code, uid_of
from mammography.dicom.phantom.image import LATERALITIES, VIEWS
from mammography.dicom.phantom.plan import PhantomExam
from mammography.dicom.phantom.vendors import NOMINAL_ROWS, VENDORS

#: View codes (CID 4014) in SNOMED CT and in the older SNOMED-RT.
_VIEW_CODES = {
    ("CC", "SCT"): ("399162004", "cranio-caudal"),
    ("CC", "SRT"): ("R-10242", "cranio-caudal"),
    ("MLO", "SCT"): ("399368009", "medio-lateral oblique"),
    ("MLO", "SRT"): ("R-10226", "medio-lateral oblique"),
}

#: Where the rows and the columns of an image point in the patient.
_ORIENTATION = {
    ("L", "CC"): ["A", "R"],
    ("R", "CC"): ["P", "L"],
    ("L", "MLO"): ["A", "FR"],
    ("R", "MLO"): ["P", "FL"],
}

_BREAST_CODES = {"SCT": ("76752008", "Breast"), "SRT": ("T-04000", "Breast")}


def header_tags(
    exam: PhantomExam, laterality: str, view: str, name: str, rows: int
) -> dict[str, Any]:
    """The header of one image: `write_dicom`'s tags.

    Args:
        exam: The exam.
        laterality: "R" or "L".
        view: "CC" or "MLO".
        name: The file's name, which makes its UID.
        rows: Image height, which scales the pixel spacing.
    """
    vendor = exam.vendor
    rng = np.random.default_rng([exam.woman, 4, exam.visit])
    age = int(rng.integers(40, 75))
    spacing = f"{vendor.spacing * NOMINAL_ROWS / rows:.6g}"
    studied = date(2020, 1, 6) + timedelta(days=exam.number % 240 + 400 * exam.visit)
    day = studied.strftime("%Y%m%d")
    views = code(*_VIEW_CODES[view, vendor.scheme], scheme=vendor.scheme)
    views[0].ViewModifierCodeSequence = []
    return {
        "SOPInstanceUID": uid_of(exam.accession, exam.woman, exam.visit, name),
        "StudyInstanceUID": uid_of("study", exam.accession, exam.woman, exam.visit),
        "SeriesInstanceUID": uid_of("series", exam.accession, exam.woman, exam.visit),
        "Manufacturer": vendor.manufacturer,
        "ManufacturerModelName": vendor.model,
        "InstitutionName": "Phantom Hospital",
        "StationName": "PHANTOM",
        "DeviceSerialNumber": f"{1000 + VENDORS.index(vendor)}",
        "SoftwareVersions": "PHANTOM 1",
        "PatientName": exam.patient.replace("-", "^"),
        "PatientID": exam.patient,
        "PatientBirthDate": f"{2020 - age}0101",
        "PatientAge": f"{age + exam.visit:03d}Y",
        "StudyDate": day,
        "SeriesDate": day,
        "AcquisitionDate": day,
        "ContentDate": day,
        "StudyDescription": "Mammography screening (synthetic)",
        "SeriesDescription": f"{laterality} {view}",
        "AccessionNumber": exam.accession,
        "InstanceNumber": 1 + 2 * VIEWS.index(view) + LATERALITIES.index(laterality),
        "PatientOrientation": _ORIENTATION[laterality, view],
        "ImageLaterality": laterality,
        "ViewPosition": view,
        "ViewCodeSequence": views,
        "AnatomicRegionSequence": code(*_BREAST_CODES[vendor.scheme], scheme=vendor.scheme),
        "AcquisitionContextSequence": [],
        "OrganExposed": "BREAST",
        "BreastImplantPresent": "NO",
        "PositionerType": "MAMMOGRAPHIC",
        "PositionerPrimaryAngle": "0" if view == "CC" else "45",
        "DetectorType": vendor.detector,
        "ImagerPixelSpacing": [spacing, spacing],
        "EstimatedRadiographicMagnificationFactor": "1",
        "KVP": f"{rng.integers(27, 33)}",
        "ExposureInuAs": int(rng.integers(60, 140)) * 1000,
        "CompressionForce": f"{rng.integers(70, 150)}",
        "BodyPartThickness": f"{rng.integers(38, 72)}",
        "AnodeTargetMaterial": vendor.target,
        "FilterMaterial": vendor.filter_material,
        "Grid": ["RECIPROCATING", "FOCUSED"],
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": 1 if vendor.monochrome1 else -1,
        "PresentationLUTShape": "INVERSE" if vendor.monochrome1 else "IDENTITY",
        "QualityControlImage": "NO",
        "BitsStored": exam.bits,
        "PixelPaddingValue": 0 if vendor.pads else None,
        **_windows(exam),
    }


def _windows(exam: PhantomExam) -> dict[str, Any]:
    """Windows that show the tissue; those of inverted images are mirrored."""
    vendor, top = exam.vendor, 2**exam.bits - 1
    darkest, brightest = vendor.tissue_range
    centre = top * (darkest + 0.45 * (brightest - darkest))
    if vendor.monochrome1:
        centre = top - centre
    width = 0.9 * top * (brightest - darkest)
    return {
        "WindowCenter": [f"{centre:.0f}"] * len(vendor.windows),
        "WindowWidth": [f"{width * factor:.0f}" for _, factor in vendor.windows],
        "WindowCenterWidthExplanation": [name for name, _ in vendor.windows],
        "VOILUTFunction": vendor.voi_function,
    }
