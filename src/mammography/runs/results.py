"""Results folders: results, results_1, results_2… of runs that never overwrite each other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from mammography.errors import StoreError
from mammography.runs.files import write_json

IDENTITY = "identity.json"


def new_results(parent: Path, identity: dict[str, Any]) -> Path:
    """Make the next free results folder, marked with what decides the run's numbers.

    Args:
        parent: Made where it does not exist.
        identity: JSON values; see `resumable`.

    Raises:
        StoreError: The folder cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for folder in _names(parent):
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            write_json(folder / IDENTITY, identity)
            return folder
    except OSError as error:
        raise StoreError(f"{parent} cannot be written to: {error.strerror}.") from error
    raise AssertionError("there is always another name")


def resumable(parent: Path, identity: dict[str, Any]) -> tuple[Path | None, list[str]]:
    """The last results folder of a run with the same identity, whether finished or not.

    Returns:
        The folder, or None; and why the others are not it, for people.
    """
    reasons, found = [], None
    for folder in _existing(parent):
        try:
            theirs = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            reasons.append(f"{folder.name} says not what it is of")
            continue
        keys = [key for key in identity if theirs.get(key) != identity[key]]
        if keys:
            reasons.append(f"{folder.name} differs in {', '.join(keys)}")
        else:
            found = folder
    return found, reasons


def _existing(parent: Path) -> list[Path]:
    """The results folders that there are, by their numbers; some may have been deleted."""
    numbered = {
        int(match[1] or 0): folder
        for folder in parent.glob("results*")
        if (match := re.fullmatch(r"results(?:_(\d+))?", folder.name))
    }
    return [numbered[number] for number in sorted(numbered)]


def _names(parent: Path) -> Iterator[Path]:
    yield parent / "results"
    yield from (parent / f"results_{number}" for number in count(1))
