"""Finding image files by content, and reading what they say about themselves.

DICOM with or without preamble, PNG, PGM, TIFF and JPEG are recognised by their first bytes, never
by name. What is not an image is listed with a reason.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mammography.dicom.header import ImageFacts, facts_of, looks_like_dicom, read_header
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

#: Endings that image files carry; stripped from image ids, never used to decide what a file is.
IMAGE_ENDINGS = frozenset(
    {".dcm", ".dicom", ".ima", ".png", ".pgm", ".tif", ".tiff", ".jpg", ".jpeg"}
)

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"P5", "PGM"),
    (b"P2", "PGM"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\xff\xd8\xff", "JPEG"),
)


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
        name promises an image and whose content is none, and foreign files.
    """
    passed_over = {path.resolve() for path in exclude}
    images: list[str] = []
    rejects: list[dict[str, object]] = []
    for path in _walk(root, passed_over):
        relative = path.relative_to(root).as_posix()
        try:
            sniff(path)
            images.append(relative)
        except ImageRejected as verdict:
            rejects.append({"path": relative, "code": verdict.code, "reason": verdict.reason})
    shared = Counter(_without_ending(path) for path in images)
    files = [
        FoundFile(path, path if shared[_without_ending(path)] > 1 else _without_ending(path))
        for path in sorted(images)
    ]
    return Discovery(files, sorted(rejects, key=lambda row: str(row["path"])))


def _walk(root: Path, passed_over: set[Path]) -> Iterator[Path]:
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or Path(real) in passed_over:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.resolve() not in passed_over:
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
    try:
        with path.open("rb") as stream:
            head = stream.read(144)
    except OSError as error:
        raise ImageRejected(
            RejectCode.DAMAGED_HEADER, f"the file cannot be opened: {error.strerror}"
        ) from error
    if looks_like_dicom(head):  # first: the preamble of a DICOM file may pose as TIFF
        return "DICOM"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    ending = _ending(path.name)
    if ending and ending not in IMAGE_ENDINGS or path.name.startswith("."):
        raise ImageRejected(RejectCode.FOREIGN_FILE, f"not an image file ({ending or path.name})")
    if not head:
        raise ImageRejected(RejectCode.DAMAGED_HEADER, "the file is empty")
    raise ImageRejected(
        RejectCode.DAMAGED_HEADER, "the file is neither DICOM nor PNG, PGM, TIFF or JPEG"
    )


def read_facts(path: Path) -> ImageFacts:
    """Read what a file says about itself, without decoding its pixels.

    Raises:
        ImageRejected: The file is no image, or its header is damaged.
    """
    if sniff(path) == "DICOM":
        return facts_of(read_header(path))
    from mammography.archive.pictures import picture_facts

    return picture_facts(path)
