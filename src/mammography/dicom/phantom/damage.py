"""Every kind of file that an archive holds and that cannot be read as an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid

from mammography.dicom.phantom.archive import exam_image, stored_pixels
from mammography.dicom.phantom.codecs import SYNTAXES
from mammography.dicom.phantom.files import image_dataset, write_dicom
from mammography.dicom.phantom.headers import header_tags
from mammography.dicom.phantom.others import (
    write_dicomdir,
    write_dose_report,
    write_note,
    write_presentation_state,
    write_thumbnails,
)
from mammography.dicom.phantom.plan import PhantomExam
from mammography.vocabulary import RejectCode

#: What one damaged file is made from: its path, a good image and that image's tags.
Spoiler = Callable[[Path, np.ndarray, dict[str, Any]], None]

#: The side that a header or a code stream of 60,000 x 60,000 pixels claims.
ABSURD_SIDE = 60_000


def _halved(syntax: str) -> Spoiler:
    """The first half of a good file."""

    def spoil(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
        write_dicom(path, pixels, syntax=syntax, **tags)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

    return spoil


def _noise(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    rng = np.random.default_rng(int(tags["SOPInstanceUID"].split(".")[-1]))
    path.write_bytes(rng.bytes(1 << 16))


def _empty(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    path.write_bytes(b"")


def _header_only(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    dataset = image_dataset(path, pixels, **tags)
    del dataset.PixelData
    dataset.save_as(path, enforce_file_format=True)


def _short_pixels(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    rows, columns = pixels.shape
    write_dicom(path, pixels[: rows * 3 // 4], **(tags | {"Rows": rows, "Columns": columns}))


def _absurd_header(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    write_dicom(path, pixels, **(tags | {"Rows": ABSURD_SIDE, "Columns": ABSURD_SIDE}))


def _other_size(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    rows = pixels.shape[0]
    write_dicom(path, pixels[: rows // 2], syntax="jpeg-lossless", **(tags | {"Rows": rows}))


def _absurd_stream(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    write_dicom(path, pixels, syntax="jpeg-lossless", **tags)
    data = bytearray(path.read_bytes())
    height = data.index(b"\xff\xc3\x00\x0b") + 5  # in the start of frame (ISO 10918-1, B.2.2)
    data[height : height + 4] = np.array([ABSURD_SIDE] * 2, ">u2").tobytes()
    path.write_bytes(data)


def _constant(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    write_dicom(path, np.full_like(pixels, 100), **tags)


def _all_padding(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    write_dicom(path, np.zeros_like(pixels), **(tags | {"PixelPaddingValue": 0}))


def _not_a_number(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    values = pixels.astype(np.float32)
    values[values.shape[0] // 2] = np.nan
    write_dicom(path, values, **(tags | {"BitsStored": None, "PixelPaddingValue": None}))


def _too_many_bits(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    write_dicom(path, (pixels & 0xFF).astype(np.uint8), **(tags | {"BitsStored": 12}))


def _video(path: Path, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    gray = (pixels & 0xFF).astype(np.uint8)
    dataset = image_dataset(path, gray, syntax="jpeg-baseline", **(tags | {"BitsStored": 8}))
    dataset.file_meta.TransferSyntaxUID = uid.MPEG2MPML
    dataset.save_as(path, enforce_file_format=True)


#: Columns of `bad_files.csv`.
BAD_COLUMNS = ("path", "kind", "expected", "code")


@dataclass(frozen=True)
class BadKind:
    """One way in which a file is no readable image.

    Attributes:
        spoil: Writes such a file.
        code: The reject code that a reader should give.
        name: Name of the file, or None for one made from the kind's own name.
        expected: "reject" for a broken image, "skip" for what is no image at all.
    """

    spoil: Spoiler
    code: RejectCode
    name: str | None = None
    expected: str = "reject"


BAD_KINDS: dict[str, BadKind] = {
    "truncated-uncompressed": BadKind(_halved("explicit"), RejectCode.TRUNCATED),
    "truncated-deflated": BadKind(_halved("deflated"), RejectCode.TRUNCATED),
    "truncated-rle": BadKind(_halved("rle"), RejectCode.TRUNCATED),
    "truncated-jpeg-lossless": BadKind(_halved("jpeg-lossless"), RejectCode.TRUNCATED),
    "truncated-jpeg-ls": BadKind(_halved("jpeg-ls"), RejectCode.TRUNCATED),
    "truncated-jpeg2000": BadKind(_halved("jpeg2000"), RejectCode.TRUNCATED),
    **(
        {"truncated-htj2k": BadKind(_halved("htj2k"), RejectCode.TRUNCATED)}
        if "htj2k" in SYNTAXES
        else {}
    ),
    "noise": BadKind(_noise, RejectCode.DAMAGED_HEADER),
    "empty": BadKind(_empty, RejectCode.DAMAGED_HEADER),
    "header-only": BadKind(_header_only, RejectCode.NO_PIXEL_DATA),
    "short-pixel-data": BadKind(_short_pixels, RejectCode.WRONG_LENGTH),
    "absurd-header": BadKind(_absurd_header, RejectCode.TOO_LARGE),
    "codestream-of-other-size": BadKind(_other_size, RejectCode.MISMATCH),
    "absurd-codestream": BadKind(_absurd_stream, RejectCode.MISMATCH),
    "constant": BadKind(_constant, RejectCode.FLAT),
    "all-padding": BadKind(_all_padding, RejectCode.FLAT),
    "not-a-number": BadKind(_not_a_number, RejectCode.NOT_FINITE),
    "too-many-bits": BadKind(_too_many_bits, RejectCode.MISMATCH),
    "video-syntax": BadKind(_video, RejectCode.UNSUPPORTED),
    "dose-report": BadKind(write_dose_report, RejectCode.NOT_AN_IMAGE, expected="skip"),
    "presentation-state": BadKind(
        write_presentation_state, RejectCode.NOT_AN_IMAGE, expected="skip"
    ),
    "dicomdir": BadKind(write_dicomdir, RejectCode.NOT_AN_IMAGE, "DICOMDIR", "skip"),
    "text-file": BadKind(write_note, RejectCode.FOREIGN_FILE, "notes.txt", "skip"),
    "thumbnails": BadKind(write_thumbnails, RejectCode.FOREIGN_FILE, "Thumbs.db", "skip"),
}


def write_bad_file(
    archive: Path, rows: int, columns: int, kind_and_exam: tuple[str, PhantomExam]
) -> dict[str, object]:
    """Add one bad file to an exam's folder.

    Args:
        archive: The archive's root.
        rows: Height of the good image that is spoiled.
        columns: Its width.
        kind_and_exam: A key of `BAD_KINDS`, and the exam.

    Returns:
        Its row of `bad_files.csv`.
    """
    name_of_kind, exam = kind_and_exam
    kind = BAD_KINDS[name_of_kind]
    name = kind.name or f"bad_{name_of_kind}.dcm"
    path = archive / exam.accession / name
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = header_tags(exam, "L", "CC", name, rows)
    pixels = stored_pixels(exam, exam_image(exam, "L", "CC", rows, columns))
    kind.spoil(path, pixels, tags | {"PhotometricInterpretation": exam.photometric})
    row = (f"{exam.accession}/{name}", name_of_kind, kind.expected, kind.code.value)
    return dict(zip(BAD_COLUMNS, row, strict=True))
