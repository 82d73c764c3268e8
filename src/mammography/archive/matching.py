"""Which files of the archive an identifier of the label table names.

Identifiers are compared as text with names that were found on disk. They are never joined to a
path, so that one like ``../../x`` simply names nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from mammography.archive.files import IMAGE_ENDINGS


class By(str, Enum):
    """What an identifier is compared with."""

    EXAM = "exam folder or AccessionNumber"
    PATH = "path"
    NAME = "file name"
    UID = "SOPInstanceUID"


@dataclass(frozen=True)
class ArchiveFile:
    """What identifiers are compared with: a file's path below the root, and two header elements."""

    path: str
    accession_number: str | None = None
    sop_instance_uid: str | None = None

    @property
    def folders(self) -> tuple[str, ...]:
        """The names of the folders below the root that hold the file, nearest first."""
        return tuple(reversed(PurePosixPath(self.path).parent.parts))


def match(
    by: By, identifiers: Iterable[str], files: Sequence[ArchiveFile], root: Path
) -> dict[str, list[str]]:
    """Find the files that each identifier names.

    Args:
        by: What to compare with.
        identifiers: Stripped, not empty, in Unicode's composed form (NFC).
        files: The archive's files, in the order in which matches are listed.
        root: The archive's folder, as the user gave it; taken off absolute paths.

    Returns:
        Each identifier with the paths of its files, perhaps none. An exam has any number; an
        image that matches several files is ambiguous.
    """
    wanted = set(identifiers)
    if by is By.EXAM:
        return _by_exam(wanted, files)
    if by is By.UID:
        named = _grouped((file.sop_instance_uid or "", file.path) for file in files)
        return {identifier: named.get(identifier, []) for identifier in wanted}
    if by is By.NAME:
        lookup = _Names((PurePosixPath(file.path).name, file.path) for file in files)
        return {identifier: lookup.find(identifier) for identifier in wanted}
    lookup = _Names((file.path, file.path) for file in files)
    return {
        identifier: next(filter(None, map(lookup.find, _below(identifier, root))), [])
        for identifier in wanted
    }


def _by_exam(wanted: set[str], files: Sequence[ArchiveFile]) -> dict[str, list[str]]:
    """Each file belongs to the nearest folder that names an exam, else to its AccessionNumber."""
    found: dict[str, list[str]] = {identifier: [] for identifier in wanted}
    for file in files:
        names = (normalize("NFC", name) for name in (*file.folders, file.accession_number or ""))
        if exam := next((name for name in names if name in wanted), None):
            found[exam].append(file.path)
    return found


class _Names:
    """Files by their name or path, with or without the ending of an image file."""

    def __init__(self, named: Iterable[tuple[str, str]]) -> None:
        pairs = [(normalize("NFC", name), path) for name, path in named]
        self._full = _grouped(pairs)
        self._bare = _grouped((without_ending(name), path) for name, path in pairs)

    def find(self, name: str) -> list[str]:
        """The files of this very name; else those that have it but for an ending on either side."""
        bare = without_ending(name)
        return self._full.get(name) or self._bare.get(name) or self._full.get(bare) or []


def without_ending(name: str) -> str:
    """A name or path without its image ending."""
    ending = PurePosixPath(name).suffix
    return name[: -len(ending)] if ending.lower() in IMAGE_ENDINGS else name


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return dict(groups)


def _below(identifier: str, root: Path) -> list[str]:
    """A path as it may be written below the root: as it is, or without the root before it."""
    path = re.sub(r"^(\./)+", "", identifier.replace("\\", "/"))
    whole = root.resolve()
    roots = (root.as_posix(), root.absolute().as_posix(), whole.as_posix(), whole.name)
    shortened = (path[len(start) + 1 :] for start in roots if path.startswith(f"{start}/"))
    return [path, *shortened]


class NearMisses:
    """Names that an identifier would match if its table had not been through a spreadsheet."""

    def __init__(self, by: By, files: Sequence[ArchiveFile]) -> None:
        self._known: dict[str, str] = {}
        for file in files:
            for name in self._names(by, file):
                self._known.setdefault(_loose(name), name)

    @staticmethod
    def _names(by: By, file: ArchiveFile) -> tuple[str, ...]:
        if by is By.EXAM:
            return (*file.folders, file.accession_number or "")
        if by is By.UID:
            return (file.sop_instance_uid or "",)
        name = file.path if by is By.PATH else PurePosixPath(file.path).name
        return name, without_ending(name)

    def hint(self, identifier: str) -> str:
        """The end of a sentence that says what the identifier may have been; "" where unknown."""
        if re.fullmatch(r"\d([.,]\d+)?[Ee]\+\d+", identifier):
            return ": a spreadsheet has shortened it; export the column as text"
        close = self._known.get(_loose(identifier))
        if not close:
            return ""
        if identifier.lstrip("0") == close.lstrip("0") and len(identifier) < len(close):
            return f", but {close!r} is: has the table lost its leading zeros?"
        if re.fullmatch(r".*\.0+", identifier):
            return f", but {close!r} is: has the table been saved with numbers for identifiers?"
        return f", but {close!r} is: identifiers are compared letter by letter"


def _loose(name: str) -> str:
    return re.sub(r"\.0+$", "", normalize("NFC", name)).casefold().lstrip("0")
