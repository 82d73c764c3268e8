"""Modality and VOI transformations, from the header and from functional groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from mammography.dicom.data_set import read_header
from mammography.dicom.grayscale import Grayscale, grayscale_of
from mammography.dicom.lut import read_lut
from mammography.dicom.phantom.files import write_dicom
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

PIXELS = np.arange(600, dtype=np.uint16).reshape(20, 30)


def grayscale(path: Path, frame: int = 1) -> Grayscale:
    with path.open("rb") as file:
        return grayscale_of(read_header(file)[0], frame)


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def lut_item(first: int, bits: int, entries: list[int], order: str = "<") -> Dataset:
    """LUTData as words; the VR of the descriptor follows the sign of its second value."""
    words = np.array(entries, f"{order}u2").tobytes()
    dataset = item(LUTExplanation="test")
    vr = "SS" if first < 0 else "US"
    dataset.add_new("LUTDescriptor", vr, [len(entries) % 65536, first, bits])
    dataset.add_new("LUTData", "OW", words)
    return dataset


def test_a_plain_header_has_none(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", PIXELS, RescaleSlope=None, RescaleIntercept=None)
    assert grayscale(tmp_path / "a.dcm") == Grayscale()


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big-endian", "deflated"])
def test_everything_a_header_can_say(tmp_path: Path, syntax: str) -> None:
    order = ">" if syntax == "big-endian" else "<"
    write_dicom(
        tmp_path / "a.dcm",
        PIXELS,
        syntax=syntax,
        RescaleSlope="-2.5",
        RescaleIntercept="100",
        WindowCenter=["300", "2e3"],
        WindowWidth=["10.5", "4000"],
        VOILUTFunction="SIGMOID",
        ModalityLUTSequence=[lut_item(5, 16, [7, 500, 65535], order)],
        VOILUTSequence=[lut_item(0, 12, [0, 4095], order), lut_item(9, 8, [1, 2, 3], order)],
    )
    found = grayscale(tmp_path / "a.dcm")
    assert (found.slope, found.intercept) == (-2.5, 100)
    assert found.windows == ((300.0, 10.5), (2000.0, 4000.0))
    assert found.voi_function == "SIGMOID"
    assert found.modality_lut is not None
    tables = [found.modality_lut, *found.voi_luts]
    assert [(table.first, table.bits) for table in tables] == [(5, 16), (0, 12), (9, 8)]
    entries = [table.entries.tolist() for table in tables]
    assert entries == [[7, 500, 65535], [0, 4095], [1, 2, 3]]


def test_functional_groups_go_before_the_header_and_frames_before_what_they_share(
    tmp_path: Path,
) -> None:
    shared = item(
        FrameVOILUTSequence=[
            item(WindowCenter="10", WindowWidth="20", VOILUTFunction="LINEAR_EXACT")
        ],
        PixelValueTransformationSequence=[item(RescaleSlope="3", RescaleIntercept="4")],
    )
    second = item(FrameVOILUTSequence=[item(WindowCenter="50", WindowWidth="60")])
    write_dicom(
        tmp_path / "a.dcm",
        np.stack([PIXELS] * 3),
        WindowCenter="1",
        WindowWidth="2",
        RescaleSlope="9",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[Dataset(), second],
    )
    first, middle, last = (grayscale(tmp_path / "a.dcm", frame) for frame in (1, 2, 3))
    assert first == last == Grayscale(3, 4, None, ((10.0, 20.0),), "LINEAR_EXACT")
    assert middle == Grayscale(3, 4, None, ((50.0, 60.0),), "LINEAR")


@pytest.mark.parametrize(
    ("center", "width", "windows"),
    [
        (None, None, ()),
        ("1", None, ()),
        (["1", "2"], ["3"], ((1.0, 3.0),)),
        ("", "", ()),
        (DataElement(0x00281050, "LO", "left"), "3", ()),
        (DataElement(0x00281050, "DS", "1"), DataElement(0x00281051, "LO", "nan"), ()),
    ],
)
def test_windows_that_are_not_pairs_of_numbers_are_none(
    tmp_path: Path, center: object, width: object, windows: tuple
) -> None:
    write_dicom(tmp_path / "a.dcm", PIXELS, WindowCenter=center, WindowWidth=width)
    assert grayscale(tmp_path / "a.dcm").windows == windows


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"RescaleSlope": "0"}, RejectCode.MISMATCH),
        ({"RescaleSlope": DataElement(0x00281053, "LO", "nan")}, RejectCode.NOT_FINITE),
        ({"RescaleIntercept": DataElement(0x00281052, "LO", "none")}, RejectCode.NOT_FINITE),
        ({"ModalityLUTSequence": [Dataset()]}, RejectCode.DAMAGED_HEADER),
        ({"VOILUTSequence": [lut_item(0, 8, [])]}, RejectCode.DAMAGED_HEADER),
        (
            {"PerFrameFunctionalGroupsSequence": DataElement(0x52009230, "LO", "x")},
            RejectCode.DAMAGED_HEADER,
        ),
    ],
)
def test_transformations_that_make_no_sense(tmp_path: Path, tags: dict, code: RejectCode) -> None:
    write_dicom(tmp_path / "a.dcm", PIXELS, **tags)
    with pytest.raises(ImageRejected) as verdict:
        grayscale(tmp_path / "a.dcm")
    assert verdict.value.code == code


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
@pytest.mark.parametrize("first", [0, 40, 598, -20])
def test_looking_up_is_what_pydicom_does(tmp_path: Path, syntax: str, first: int) -> None:
    """PS3.3 C.11.1.1.1: values below the first take the first entry, values beyond, the last."""
    rng = np.random.default_rng(3)
    entries = rng.integers(0, 65536, 300).tolist()
    pixels = PIXELS if first >= 0 else (PIXELS.astype(np.int16) - 100)
    table = lut_item(first, 16, entries)
    tags = {"RescaleSlope": None, "RescaleIntercept": None}
    write_dicom(tmp_path / "m.dcm", pixels, syntax=syntax, ModalityLUTSequence=[table], **tags)
    write_dicom(tmp_path / "v.dcm", pixels, syntax=syntax, VOILUTSequence=[table], **tags)
    modality = grayscale(tmp_path / "m.dcm").modality_lut
    (voi,) = grayscale(tmp_path / "v.dcm").voi_luts
    assert modality is not None
    expected = [entries[min(max(int(value) - first, 0), 299)] for value in pixels.flat]
    for lut, apply, name in ((modality, apply_modality_lut, "m"), (voi, apply_voi_lut, "v")):
        np.testing.assert_array_equal(lut(pixels).ravel(), expected)
        theirs = apply(pixels, pydicom.dcmread(tmp_path / f"{name}.dcm"))
        np.testing.assert_array_equal(lut(pixels), theirs)


def test_values_between_integers_belong_to_the_entry_below() -> None:
    lut = read_lut([3, 10, 8], bytes([5, 6, 7]), little_endian=True)
    found = lut(np.array([-1e9, 9.9, 10, 10.99, 11, 12.5, 1e9]))
    assert found.tolist() == [5, 5, 5, 5, 6, 7, 7]


@pytest.mark.parametrize(
    ("descriptor", "data", "little_endian", "entries"),
    [
        ([2, 0, 16], b"\1\2\3\4", True, [0x0201, 0x0403]),
        ([2, 0, 16], b"\1\2\3\4", False, [0x0102, 0x0304]),
        ([4, 0, 8], b"\1\2\3\4", True, [1, 2, 3, 4]),
        ([3, 0, 8], b"\1\2\3\4", True, [1, 2, 3]),
        ([2, 0, 16], [-1, 70000], True, [65535, 4464]),
        ([0, 0, 16], bytes(2 * 65536), True, [0] * 65536),
        ([-32768, 0, 16], bytes(2 * 32768), True, [0] * 32768),
    ],
)
def test_entries(descriptor: list[int], data: object, little_endian: bool, entries: list) -> None:
    assert read_lut(descriptor, data, little_endian).entries.tolist() == entries
