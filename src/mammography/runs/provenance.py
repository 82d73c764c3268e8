"""Where a number comes from: the command, the versions, the commit."""

from __future__ import annotations

import dataclasses
import math
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from mammography.runs.files import write_json

RESEARCH_ONLY = "Research only: not for diagnosis."

#: Distributions whose version can change a number.
TRACED = (
    "mammography", "numpy", "polars", "pydicom", "imagecodecs", "opencv-python-headless", "pillow",
    "numba", "torch", "torchvision", "timm", "openvino", "lightning", "scikit-learn",
    "scikit-image", "scipy", "umap-learn",
)  # fmt: skip

_QUIETLY: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 10}


def versions() -> dict[str, str]:
    """Versions of Python, the platform and every traced distribution that is installed."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in TRACED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of this package's own checkout, "-dirty" behind it where files differ from it.

    None where the package lies in no checkout, or untracked in somebody else's.
    """
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], **_QUIETLY, check=True)
        told = subprocess.run(
            [*git, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
            **_QUIETLY,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()


def config_of(command: Any) -> dict[str, Any]:
    """A command's dataclass as JSON values; paths as given."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return value.as_posix()
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)  # JSON has no such number
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    return {
        field.name: plain(getattr(command, field.name)) for field in dataclasses.fields(command)
    }


def write_summary(folder: Path, command: Any, **extra: Any) -> None:
    """Write `summary.json`: the command that was run, resolved, and where it was run."""
    summary = {
        "command": command.NAME,
        "config": config_of(command),
        "working_directory": Path.cwd().as_posix(),
        "arguments": sys.argv,
        **extra,
        "versions": versions(),
        "git_commit": git_commit(),
        "notice": RESEARCH_ONLY,
    }
    write_json(folder / "summary.json", summary)
