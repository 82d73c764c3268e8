"""The facts of a header."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedSRStorage,
)

from mammography.dicom.data_set import read_header
from mammography.dicom.header import ImageFacts, facts_of
from mammography.dicom.phantom.files import code, write_dicom
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

#: What pydicom says while it writes such headers.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

PIXELS = np.arange(20, dtype=np.uint16).reshape(4, 5)


def facts(path: Path) -> ImageFacts:
    with path.open("rb") as file:
        return facts_of(read_header(file)[0])


def written(tmp_path: Path, **tags: object) -> Path:
    write_dicom(tmp_path / "a.dcm", PIXELS, **tags)
    return tmp_path / "a.dcm"


def refused(data: bytes) -> ImageRejected:
    with pytest.raises(ImageRejected) as verdict:
        facts_of(read_header(io.BytesIO(data))[0])
    return verdict.value


def test_every_fact(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        syntax="jpeg-lossless",
        BitsStored=12,
        ImagerPixelSpacing=["0.07", "0.08"],
        PixelSpacing=["0.1", "0.1"],
        Manufacturer=" HOLOGIC, Inc. ",
        ManufacturerModelName="Selenia",
        ImageLaterality="R",
        ViewPosition="MLO",
        AccessionNumber="00001234",
        PatientID="000042",
        SOPInstanceUID="1.2.3",
        PhotometricInterpretation="MONOCHROME1",
    )
    assert facts(path) == ImageFacts(
        rows=4,
        columns=5,
        number_of_frames=1,
        bits_stored=12,
        photometric_interpretation="MONOCHROME1",
        transfer_syntax="1.2.840.10008.1.2.4.70",
        pixel_spacing=0.07,
        manufacturer="HOLOGIC, Inc.",
        model="Selenia",
        presentation_intent="FOR PRESENTATION",
        laterality="R",
        view="MLO",
        accession_number="00001234",
        patient_id="000042",
        sop_instance_uid="1.2.3",
    )


@pytest.mark.parametrize(
    ("tags", "fact", "value"),
    [
        ({"ImagerPixelSpacing": None, "PixelSpacing": ["0.1", "0.2"]}, "pixel_spacing", 0.1),
        ({"PixelSpacing": DataElement(0x00280030, "LO", "wide")}, "pixel_spacing", None),
        ({"ImageLaterality": None, "Laterality": "left"}, "laterality", "L"),
        ({"ImageLaterality": "X"}, "laterality", None),
        ({"ImageLaterality": None}, "laterality", None),
        ({"ViewPosition": "cc"}, "view", "CC"),
        ({"ViewPosition": "", "ViewCodeSequence": code("399368009", "MLO")}, "view", "MLO"),
        ({"ViewPosition": None, "ViewCodeSequence": code("R-10242", "cc", "SRT")}, "view", "CC"),
        ({"ViewPosition": None, "ViewCodeSequence": []}, "view", None),
        ({"ViewPosition": None, "ViewCodeSequence": None}, "view", None),
        ({"AccessionNumber": ""}, "accession_number", None),
        (
            {"AccessionNumber": DataElement(0x00080050, "SH", ["12", "13"])},
            "accession_number",
            "12",
        ),
        ({"NumberOfFrames": None}, "number_of_frames", 1),
        ({"NumberOfFrames": "0"}, "number_of_frames", 1),
        ({"NumberOfFrames": "17"}, "number_of_frames", 17),
        ({"BitsStored": None}, "bits_stored", 16),
        ({"PhotometricInterpretation": "monochrome1"}, "photometric_interpretation", "MONOCHROME1"),
        ({"PhotometricInterpretation": None}, "photometric_interpretation", None),
        ({"Manufacturer": None}, "manufacturer", None),
    ],
)
def test_optional_facts(tmp_path: Path, tags: dict, fact: str, value: object) -> None:
    assert getattr(facts(written(tmp_path, **tags)), fact) == value


@pytest.mark.parametrize("group", ["Shared", "PerFrame"])
def test_laterality_of_tomosynthesis_lies_in_the_functional_groups(
    tmp_path: Path, group: str
) -> None:
    anatomy, item = Dataset(), Dataset()
    anatomy.FrameLaterality = "R"
    item.FrameAnatomySequence = [anatomy]
    tags = {"ImageLaterality": None, f"{group}FunctionalGroupsSequence": [item]}
    assert facts(written(tmp_path, **tags)).laterality == "R"


@pytest.mark.parametrize("unusable", ["Rows", "Columns", "BitsAllocated"])
def test_what_an_image_needs(tmp_path: Path, unusable: str) -> None:
    tag = pydicom.tag.Tag(unusable)
    bits = {"BitsStored": None} if unusable == "BitsAllocated" else {}
    path = written(tmp_path, **({unusable: DataElement(tag, "LO", "many")} | bits))
    verdict = refused(path.read_bytes())
    assert verdict.code == RejectCode.DAMAGED_HEADER
    assert unusable in verdict.reason


@pytest.mark.parametrize(
    ("sop_class", "code", "words"),
    [
        (EnhancedSRStorage, RejectCode.NOT_AN_IMAGE, "Enhanced SR Storage"),
        (CTImageStorage, RejectCode.NO_PIXEL_DATA, "CT Image Storage"),
        ("1.2.3", RejectCode.DAMAGED_HEADER, "class"),
        ("Doe^Jane", RejectCode.DAMAGED_HEADER, "class"),
        (None, RejectCode.DAMAGED_HEADER, "class"),
    ],
)
def test_what_is_no_image(
    tmp_path: Path, sop_class: str | None, code: RejectCode, words: str
) -> None:
    path = written(tmp_path)
    dataset = pydicom.dcmread(path)
    del dataset.Rows, dataset.Columns, dataset.PixelData, dataset.SOPClassUID
    if sop_class:
        dataset.add_new("SOPClassUID", "UI", sop_class)
    dataset.save_as(path)
    verdict = refused(path.read_bytes())
    assert verdict.code == code
    assert words in verdict.reason
    assert "Jane" not in verdict.reason
