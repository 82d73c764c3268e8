"""The part of a TeX file that is ours: between two marker comments, and nothing outside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mammography.errors import UsageError
from mammography.runs import written_whole

BEGIN = "% BEGIN mammography report-pack"
END = "% END mammography report-pack"

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: rf"\{character}" for character in "&%$#_{}"},
}


def escaped(words: str) -> str:
    """Words as TeX shows them as they are."""
    return "".join(_SPECIAL.get(character, character) for character in words)


@dataclass(frozen=True)
class Section:
    """A TeX file around our block.

    Attributes:
        path: The file.
        before: Its bytes up to our block, with the first marker.
        after: Its bytes from the second marker on.
        newline: How its lines end.
    """

    path: Path
    before: bytes
    after: bytes
    newline: bytes

    def write(self, block: str) -> None:
        """Put a block of whole lines between the markers; every other byte stays as it is.

        Raises:
            StoreError: The file cannot be written.
        """
        with written_whole(self.path) as temporary:
            content = block.encode().replace(b"\n", self.newline)
            temporary.write_bytes(self.before + content + self.after)


def open_section(path: Path, heading: str) -> Section:
    """Find our block in a TeX file, or the place for one in a new file.

    Args:
        path: The file.
        heading: What stands above the block where the file does not exist yet.

    Raises:
        UsageError: The file cannot be read, or has not both markers, once and in their order.
    """
    if not path.exists():
        return Section(path, f"{heading}{BEGIN}\n".encode(), f"{END}\n".encode(), b"\n")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    begins, ends = _lines(BEGIN, content), _lines(END, content)
    if len(begins) != 1 or len(ends) != 1 or begins[0].end() > ends[0].start():
        raise UsageError(
            f"{path} does not say which lines report-pack may rewrite. Add these two lines where "
            f"figures and metrics shall stand, each once and in this order (now: {len(begins)} and "
            f"{len(ends)} times), or name another file with --tex:\n{BEGIN}\n{END}"
        )
    newline = b"\r\n" if begins[0].group().endswith(b"\r\n") else b"\n"
    return Section(path, content[: begins[0].end()], content[ends[0].start() :], newline)


def _lines(marker: str, content: bytes) -> list[re.Match[bytes]]:
    """Where a marker stands on a line of its own."""
    line = rb"^[ \t]*" + re.escape(marker.encode()) + rb"[ \t]*(?:\r?\n|\Z)"
    return list(re.finditer(line, content, re.MULTILINE))
