"""Finding image files by content, and reading what they say about themselves.

DICOM with or without preamble, PNG, PGM, TIFF and JPEG are recognised by their first bytes, never
by name. What is not an image is listed with a reason.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mammography.dicom.data_set import looks_like_dicom, read_header
from mammography.dicom.header import ImageFacts, facts_of
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

#: Endings that image files carry; stripped from image ids, never used to decide what a file is.
IMAGE_ENDINGS = frozenset(
    {".dcm", ".dicom", ".ima", ".png", ".pgm", ".tif", ".tiff", ".jpg", ".jpeg"}
)

_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"P[25][\s#]"), "PGM"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
)

_TEXT = bytes(range(0x20, 0x7F)) + b"\t\r\n"


@dataclass(frozen=True)
class FoundFile:
    """A file below the archive's root that should be an image.

    Attributes:
        path: Relative to the root, with forward slashes.
        image_id: The path without its image ending; with it where two files would share an id.
    """

    path: str
    image_id: str


@dataclass(frozen=True)
class Discovery:
    """Everything that lies below the root: image files by path, and the rest with reasons."""

    files: list[FoundFile]
    rejects: list[dict[str, object]]


def discover(root: Path, exclude: Sequence[Path] = ()) -> Discovery:
    """List the files of an archive in a fixed order.

    Folder links are followed, each real folder once.

    Args:
        root: The archive's folder.
        exclude: Files and folders to pass over, such as the command's own output folder.

    Returns:
        Files sorted by path. Rejects are rows of `mammography.tables.REJECT_COLUMNS`: files whose
        name promises an image and whose content is none, foreign files, and folders that cannot
        be listed.
    """
    images: list[str] = []
    verdicts: dict[str, ImageRejected] = {}

    def unlisted(error: OSError) -> None:
        folder = os.path.relpath(error.filename, root)
        verdicts[folder] = ImageRejected(
            RejectCode.MISSING_FILE, f"the folder cannot be listed: {error.strerror}"
        )

    for path in _walk(root, {os.path.realpath(path) for path in exclude}, unlisted):
        relative = path.relative_to(root).as_posix()
        try:
            sniff(path)
            images.append(relative)
        except ImageRejected as verdict:
            verdicts[relative] = verdict
    shared = Counter(_without_ending(path) for path in images)
    files = [
        FoundFile(path, path if shared[_without_ending(path)] > 1 else _without_ending(path))
        for path in sorted(images)
    ]
    rejects: list[dict[str, object]] = [
        {"path": path, "code": verdict.code, "reason": verdict.reason}
        for path, verdict in sorted(verdicts.items())
    ]
    return Discovery(files, rejects)


def _walk(root: Path, passed_over: set[str], unlisted: Callable[[OSError], None]) -> Iterator[Path]:
    seen = set(passed_over)
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=unlisted):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if not passed_over or os.path.realpath(path) not in passed_over:
                yield path


def _without_ending(path: str) -> str:
    return path[: -len(suffix)] if (suffix := _ending(path)) in IMAGE_ENDINGS else path


def _ending(path: str) -> str:
    """The lower-case ending; a run of digits after a dot belongs to a UID and is none."""
    suffix = PurePosixPath(path).suffix.lower()
    return "" if re.fullmatch(r"\.\d*", suffix) else suffix


def sniff(path: Path) -> str:
    """What kind of image a file is, by its first bytes.

    Returns:
        "DICOM", "PNG", "PGM", "TIFF" or "JPEG".

    Raises:
        ImageRejected: The file is empty, unreadable, or something else.
    """
    with opened(path) as (_, kind):
        return kind


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """Open an image file; also says what kind of image it is, as `sniff` does.

    Raises:
        ImageRejected: The file is empty, unreadable, or something else.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its other end
            raise ImageRejected(RejectCode.FOREIGN_FILE, "a pipe, socket or device, not a file")
        file = path.open("rb")
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise ImageRejected(
            RejectCode.MISSING_FILE if missing else RejectCode.DAMAGED_HEADER,
            f"the file cannot be opened: {error.strerror}",
        ) from error
    try:
        with file:
            kind = _kind(path.name, file.read(144))
            file.seek(0)
            yield file, kind
    except OSError as error:  # the disk or the network
        raise ImageRejected(
            RejectCode.DAMAGED_HEADER, f"the file cannot be read: {error.strerror}"
        ) from error


def _kind(name: str, head: bytes) -> str:
    if looks_like_dicom(head):  # first: the preamble of a DICOM file may pose as TIFF
        return "DICOM"
    for magic, kind in _MAGIC:
        if magic.match(head):
            return kind
    ending = _ending(name)
    if (ending and ending not in IMAGE_ENDINGS) or name.startswith("."):
        raise ImageRejected(RejectCode.FOREIGN_FILE, f"not an image file ({ending or name})")
    if not head:
        raise ImageRejected(RejectCode.DAMAGED_HEADER, "the file is empty")
    if not ending and not head.translate(None, _TEXT):
        raise ImageRejected(RejectCode.FOREIGN_FILE, "a text file")
    raise ImageRejected(
        RejectCode.DAMAGED_HEADER, "the file is neither DICOM nor PNG, PGM, TIFF or JPEG"
    )


def read_facts(path: Path) -> ImageFacts:
    """Read what a file says about itself, without decoding its pixels.

    Raises:
        ImageRejected: The file is no image, or its header is damaged.
    """
    with opened(path) as (file, kind):
        if kind == "DICOM":
            header, _ = read_header(file)
            return facts_of(header)
        from mammography.archive.pictures import picture_facts  # which loads decoders

        return picture_facts(file, kind)
