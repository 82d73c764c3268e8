"""``mammography rerun``: do again what a run folder's summary.json says was done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from tyro.conf import Positional

from mammography.commands import COMMANDS, command_class
from mammography.commands.construct import construct
from mammography.errors import UsageError


@dataclass(frozen=True)
class Rerun:
    """Run the command that a summary.json records again, with all its options.

    Relative paths are taken from the folder that the command was run in.
    """

    NAME: ClassVar[str] = "rerun"

    summary: Positional[Path]
    """The summary.json of a run."""

    outdir: Path | None = None
    """Folder for the new run; without it, the first of NAME_1, NAME_2… beside the old one."""

    def run(self) -> Any:
        """Run it; the result of the command that was run.

        Raises:
            UsageError: The file is no summary of a command that exists here.
        """
        return self.command().run()

    def command(self) -> Any:
        """The recorded command as its dataclass."""
        try:
            recorded = json.loads(self.summary.read_text(encoding="utf-8"))
            name, config = recorded["command"], dict(recorded["config"])
            origin = Path(recorded["working_directory"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = getattr(error, "strerror", None) or "it holds something else"
            raise UsageError(f"{self.summary} is no summary of a run: {why}.") from error
        if name not in COMMANDS:
            raise UsageError(f"{self.summary} records the command {name!r}, unknown here.")
        if config.get("outdir") is not None:
            old = origin / config["outdir"]
            config["outdir"] = self.outdir.resolve() if self.outdir else _beside(old)
        try:
            return construct(command_class(name), config, origin)
        except (UsageError, TypeError) as error:
            raise UsageError(f"{self.summary} is of another version: {error}") from error


def _beside(folder: Path) -> Path:
    """The first of folder_1, folder_2… that does not exist: a run never overwrites another."""
    names = (folder.with_name(f"{folder.name}_{number}") for number in count(1))
    return next(path for path in names if not path.exists())
