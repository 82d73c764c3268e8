"""Keep the documentation true: ``python docs/generate.py`` runs what it shows.

A page shows a command in a ``bash`` block and, after the line ``<!-- output -->``, what the command
prints in a ``text`` block. This script runs every such command and writes what it printed. The line
``<!-- output varies -->`` marks what depends on the machine or takes long: it is refreshed here and
not checked by ``tests/test_docs.py``, which runs all others and compares words. A block after
``<!-- file: NAME -->`` is a file that commands further down read. All commands of all pages run in
one temporary folder, in the order of `PAGES`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent

#: Pages with output, in the order in which they use each other's files.
PAGES = (
    "commands/phantom.md",
    "commands/scan.md",
    "your-own-archive.md",
    "commands/embed.md",
    "commands/train-density.md",
    "commands/embeddings-baselines.md",
    "commands/tune-density.md",
    "commands/predict.md",
    "commands/explain.md",
    "commands/eval-export.md",
    "commands/report-pack.md",
    "commands/cache.md",
    "commands/preview.md",
    "commands/rerun.md",
)

COLUMNS = 96

_BLOCK = re.compile(
    r"<!-- file: (?P<name>\S+) -->\n```\w*\n(?P<content>.*?)```"
    r"|```bash\n(?P<command>[^`]*)```\n\n<!-- output(?P<varies> varies)? -->\n"
    r"```text\n(?P<shown>.*?)```",
    re.S,
)


@dataclass(frozen=True)
class Example:
    """A command that a page shows, with its output as the page has it."""

    command: str
    shown: str
    varies: bool
    place: slice


def examples(text: str, folder: Path) -> Iterator[Example]:
    """The commands of a page in order; files that it shows are written to `folder` on the way."""
    for found in _BLOCK.finditer(text):
        if found["name"]:
            (folder / found["name"]).write_text(found["content"], encoding="utf-8")
        else:
            place = slice(found.start("shown"), found.end("shown"))
            yield Example(found["command"], found["shown"], bool(found["varies"]), place)


def output_of(command: str, folder: Path) -> str:
    """What a ``mammography`` command prints, without colour, at a fixed width."""
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    if program != "mammography":
        raise SystemExit(f"only the output of mammography can be shown, not that of {program}")
    environment = os.environ | {
        "COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "mammography", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = [line.rstrip() for line in done.stdout.strip("\n").splitlines()]
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Rewrite every block of output."""
    with tempfile.TemporaryDirectory() as temporary:
        for page in PAGES:
            path = DOCS / page
            text = path.read_text(encoding="utf-8")
            fresh = [
                (example.place, output_of(example.command, Path(temporary)))
                for example in examples(text, Path(temporary))
            ]
            for place, output in reversed(fresh):
                text = text[: place.start] + output + text[place.stop :]
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
