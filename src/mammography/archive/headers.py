"""The headers of a whole archive, read in parallel."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mammography.archive.files import FoundFile, discover, read_facts
from mammography.archive.workers import cores, over_items
from mammography.dicom.header import ImageFacts
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

logger = logging.getLogger(__name__)

_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Archive:
    """What lies below a folder.

    Attributes:
        images: Files whose header could be read, with what it says, by path.
        rejected: Every other file, with its verdict, by path.
    """

    images: dict[str, tuple[FoundFile, ImageFacts]]
    rejected: dict[str, ImageRejected]

    @property
    def image_paths(self) -> set[str]:
        """The files that are images, be they readable or not."""
        no_image = {RejectCode.NOT_AN_IMAGE, RejectCode.FOREIGN_FILE}
        broken = {path for path, verdict in self.rejected.items() if verdict.code not in no_image}
        return self.images.keys() | broken


def read_archive(root: Path, *, workers: int = 0, exclude: Sequence[Path] = ()) -> Archive:
    """Find all files below a folder and read the headers of the images.

    Args:
        root: The archive's folder.
        workers: How many processes read; 0 for one per core.
        exclude: Files and folders to pass over.
    """
    discovery = discover(root, exclude)
    logger.info("%s: reading the headers of %d image files", root, len(discovery.files))
    images: dict[str, tuple[FoundFile, ImageFacts]] = {}
    rejected = {
        _printable(str(row["path"])): ImageRejected(RejectCode(row["code"]), str(row["reason"]))
        for row in discovery.rejects
    }
    taken: dict[str, str] = {}
    for file, facts in _read(root, discovery.files, workers or cores(), at_once=100):
        if isinstance(facts, ImageRejected):
            rejected[_printable(file.path)] = facts
        elif (other := taken.setdefault(file.image_id, file.path)) != file.path:
            rejected[file.path] = ImageRejected(
                RejectCode.AMBIGUOUS_NAME,
                f"{other} has the same name but for its ending; rename one of the two",
            )
        else:
            images[file.path] = (file, facts)
    return Archive(images, rejected)


def _read(
    root: Path, files: Sequence[FoundFile], workers: int, at_once: int
) -> Iterator[tuple[FoundFile, ImageFacts | ImageRejected]]:
    """Each file with its facts, in order; many at once, because asking a worker takes longer.

    Where a worker dies, its files are asked for one by one, so that the verdict falls on one.
    """
    batches = [files[start : start + at_once] for start in range(0, len(files), at_once)]
    for batch, answers in over_items(partial(_facts_of_all, root), batches, workers):
        if not isinstance(answers, ImageRejected):
            yield from zip(batch, answers, strict=True)
        elif at_once > 1:
            yield from _read(root, batch, workers=1, at_once=1)
        else:
            yield batch[0], answers


def _facts_of_all(root: Path, files: Sequence[FoundFile]) -> list[ImageFacts | ImageRejected]:
    answers: list[ImageFacts | ImageRejected] = []
    for file in files:
        try:
            answers.append(_facts_of(root, file))
        except ImageRejected as verdict:
            answers.append(verdict)
    return answers


def _facts_of(root: Path, file: FoundFile) -> ImageFacts:
    if _printable(file.path) != file.path:
        raise ImageRejected(RejectCode.UNSUPPORTED, "the file's name is not valid UTF-8; rename it")
    facts = read_facts(root / file.path)
    claims = (facts.rows, facts.columns, facts.number_of_frames, facts.bits_stored)
    if max(claims) > _LARGEST:
        raise ImageRejected(RejectCode.TOO_LARGE, f"the header claims a size of {max(claims)}")
    return facts


def _printable(path: str) -> str:
    """A path that can be written anywhere, with escapes for bytes that are not UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
