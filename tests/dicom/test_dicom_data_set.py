"""Recognising DICOM and reading its header, bounded and without names."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from mammography.dicom.data_set import looks_like_dicom, read_header
from mammography.dicom.header import ImageFacts, facts_of
from mammography.dicom.phantom.files import image_dataset, write_dicom
from mammography.dicom.streams import MAX_HEADER_BYTES, InflatedStream
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


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian", "deflated", "rle"])
def test_the_syntax_is_told_and_the_stream_is_at_the_pixels(tmp_path: Path, syntax: str) -> None:
    with written(tmp_path, syntax=syntax).open("rb") as file:
        header, stream = read_header(file)
        order = ">" if syntax == "big-endian" else "<"
        assert struct.unpack(order + "HH", stream.read(4)) == (0x7FE0, 0x0010)
    expected = pydicom.dcmread(tmp_path / "a.dcm").file_meta.TransferSyntaxUID
    assert facts_of(header).transfer_syntax == expected


def test_nothing_but_the_named_elements_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, PatientName="Doe^Jane", PatientBirthDate="19500101")
    with path.open("rb") as file:
        header, _ = read_header(file)
    assert "PatientID" in header
    assert "PatientName" not in header
    assert "PatientBirthDate" not in header
    assert "Jane" not in str(header)


def bare(tmp_path: Path, implicit: bool, little_endian: bool) -> bytes:
    """A file without preamble and meta header."""
    dataset = image_dataset(tmp_path / "a.dcm", PIXELS)
    del dataset.file_meta
    if not little_endian:
        dataset.PixelData = PIXELS.astype(">u2").tobytes()
    dataset.save_as(tmp_path / "a.dcm", implicit_vr=implicit, little_endian=little_endian)
    return (tmp_path / "a.dcm").read_bytes()


@pytest.mark.parametrize(
    ("implicit", "little_endian", "syntax"),
    [
        (True, True, "1.2.840.10008.1.2"),
        (False, True, "1.2.840.10008.1.2.1"),
        (False, False, "1.2.840.10008.1.2.2"),
    ],
)
def test_files_without_preamble(
    tmp_path: Path, implicit: bool, little_endian: bool, syntax: str
) -> None:
    data = bare(tmp_path, implicit, little_endian)
    assert looks_like_dicom(data[:144])
    assert facts(tmp_path / "a.dcm").transfer_syntax == syntax


@pytest.mark.parametrize(
    "head",
    [
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100",
        b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100",
        b"\x08\x00\x00\x00\x04\x00\x00\x00\x9c\x01\x00\x00",
        b"\x08\x00\x00\x00UL\x04\x00\x9c\x01\x00\x00",
        b"\x00\x08\x00\x05CS\x00\x0aISO_IR 100",
        b"\x02\x00\x00\x00UL\x04\x00\x9c\x01\x00\x00",
        b"\x08\x00\x06\x00SQ\x00\x00\xff\xff\xff\xff",
        b"\x08\x00\x60\x00CS\x02\x00MG\x08\x00\x70\x00",
        b"\x08\x00\x70\x00LO\x02\x00GE\x08\x00\x80\x00",
        bytes(128) + b"DICM",
        b"II*\0" + bytes(124) + b"DICM",
    ],
)
def test_dicom_is_recognised(head: bytes) -> None:
    assert looks_like_dicom(head.ljust(144, b"\0"))


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x08\x00\x05\x00",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"\xff\xd8\xff\xe0\0\x10JFIF\0",
        b"II*\0\x08\0\0\0\x0e\0\xfe\0",
        b"P5 100 100 255\n",
        b"\x08\x00\x05\x00\x01\x02\x03\x04ABCD",
        b"\x10\x00\x10\x00PN\x08\x00Doe^Jane",
        b"PK\x03\x04\x14\0\0\0\x08\0",
        b"%PDF-1.4 some text",
        b'{"a": 1, "b": 2}',
    ],
)
def test_other_files_are_not(head: bytes) -> None:
    assert not looks_like_dicom(head.ljust(144, b"\x01") if len(head) > 11 else head)


def test_random_bytes_are_hardly_ever_taken_for_dicom() -> None:
    """Two groups of 257 elements in two byte orders, of 2^32 beginnings: 1 in four million."""
    rng = np.random.default_rng(0)
    assert not any(looks_like_dicom(rng.bytes(144)) for _ in range(20_000))


def test_dicomdir() -> None:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests" / "DICOMDIR"
    assert refused(path.read_bytes()).code == RejectCode.NOT_AN_IMAGE


def with_element(tmp_path: Path, element: bytes, before: bytes = b"\x10\x00\x10\x00PN") -> bytes:
    data = written(tmp_path).read_bytes()
    position = data.index(before)
    return data[:position] + element + data[position:]


def private(vr: bytes, length: int, content: bytes = b"") -> bytes:
    return struct.pack("<HH2sHI", 0x0009, 0x1010, vr, 0, length) + content


ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
OPEN_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)


def test_large_elements_that_nobody_needs_are_passed_over(tmp_path: Path) -> None:
    data = with_element(tmp_path, private(b"OB", 2 * MAX_HEADER_BYTES, bytes(2 * MAX_HEADER_BYTES)))
    assert facts_of(read_header(io.BytesIO(data))[0]).rows == 4


@pytest.mark.parametrize(
    ("element", "words"),
    [
        (private(b"OB", 3_000_000_000), "without Rows"),  # passed over, to beyond the end
        (private(b"UN", 0xFFFFFFFF, b"x" * 100), "longer than"),
        (struct.pack("<HH2sHI", 0x0008, 0x0050, b"UN", 0, 3_000_000_000), "longer than"),
        (private(b"SQ", 0xFFFFFFFF, ITEM * 20_000), "longer than"),
        ((private(b"SQ", 0xFFFFFFFF) + OPEN_ITEM) * 20_000, "RecursionError"),
        (private(b"SQ", 0xFFFFFFFF, OPEN_ITEM + b"\x10\x00\x10\x00PN\xff\xff"), "OSError"),
    ],
    ids=["private", "undefined", "needed", "many items", "deep", "item without end"],
)
def test_header_bombs(
    tmp_path: Path, element: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mammography.dicom.streams.MAX_HEADER_BYTES", 100_000)
    verdict = refused(with_element(tmp_path, element))
    assert verdict.code in (RejectCode.DAMAGED_HEADER, RejectCode.NO_PIXEL_DATA)
    assert re.search(words, verdict.reason), verdict.reason


def deflated(*contents: bytes) -> bytes:
    """A meta header, and contents after it as one deflated stream."""
    syntax = DeflatedExplicitVRLittleEndian.encode()
    element = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(syntax)) + syntax
    version = b"\x02\x00\x01\x00OB\0\0\x02\0\0\0\0\1"
    length = b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(version + element))
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = b"".join(packer.compress(content) for content in contents) + packer.flush()
    return bytes(128) + b"DICM" + length + version + element + body


def test_a_deflated_file_without_preamble(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", PIXELS, syntax="deflated")
    data = (tmp_path / "a.dcm").read_bytes()
    assert looks_like_dicom(data[132:276])
    assert facts_of(read_header(io.BytesIO(data[132:]))[0]).rows == 4


def test_a_deflated_bomb_is_inflated_no_further_than_a_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mammography.dicom.streams.MAX_HEADER_BYTES", 100_000)
    data = bare(tmp_path, implicit=False, little_endian=True)
    header, stream = read_header(io.BytesIO(deflated(data, *[bytes(1 << 20)] * 200)))
    assert isinstance(stream, InflatedStream)
    assert facts_of(header).rows == 4
    assert len(stream._content) < 3 << 20
    assert refused(deflated(*[bytes(1 << 20)] * 200)).code == RejectCode.DAMAGED_HEADER


def test_an_image_may_not_inflate_to_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bare(tmp_path, implicit=False, little_endian=True)
    _, stream = read_header(io.BytesIO(deflated(data)))
    monkeypatch.setattr("mammography.dicom.streams.MAX_INFLATED_BYTES", len(data))
    stream.seek(len(data) - 2)
    assert stream.read(2) == data[-2:]
    stream.seek(len(data) - 1)
    with pytest.raises(ImageRejected) as verdict:
        stream.read(2)
    assert verdict.value.code == RejectCode.TOO_LARGE


def test_a_deflated_file_in_a_deflated_file() -> None:
    assert refused(deflated(deflated(b"x"))).code == RejectCode.DAMAGED_HEADER


def test_garbage_after_a_deflated_meta_header() -> None:
    assert refused(deflated()[:-2] + b"garbage").code == RejectCode.DAMAGED_HEADER


def test_pydicoms_warnings_are_not_shown_but_ours_are(tmp_path: Path) -> None:
    path = written(tmp_path, SpecificCharacterSet=DataElement(0x00080005, "CS", "ISO_NONE 7"))

    def warnings_of(read: Callable[[Path], object]) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read(path)
            warnings.warn("ours", UserWarning, stacklevel=1)
        return [str(warning.message) for warning in caught]

    assert len(warnings_of(lambda path: str(pydicom.dcmread(path)))) > 1
    assert warnings_of(facts) == ["ours"]


def test_a_meta_header_may_name_no_syntax(tmp_path: Path) -> None:
    dataset = image_dataset(tmp_path / "a.dcm", PIXELS, syntax="implicit")
    del dataset.file_meta.TransferSyntaxUID
    with (tmp_path / "a.dcm").open("wb") as file:
        pydicom.dcmwrite(file, dataset, implicit_vr=True, little_endian=True)
    assert facts(tmp_path / "a.dcm").transfer_syntax == ImplicitVRLittleEndian
