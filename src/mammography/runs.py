"""What a run leaves behind so that its numbers can be traced: config, versions, commit, log.

Files are written beside their final name and renamed into place, so that a reader never sees half
of one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import platform
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from mammography.errors import StoreError

RESEARCH_ONLY = "Research only: not for diagnosis."

#: Distributions whose version can change a number.
TRACED = (
    "mammography", "numpy", "polars", "pydicom", "imagecodecs", "opencv-python-headless", "pillow",
    "numba", "torch", "torchvision", "timm", "openvino", "scikit-learn", "umap-learn",
)  # fmt: skip


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path that takes the place of `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, the form that hashes are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, keys in the order given; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_of_text(content: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(content.encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


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
    """The commit of this package's own checkout, or None where it is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def config_of(command: Any) -> dict[str, Any]:
    """A command's dataclass as JSON values; paths as given."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return value.as_posix()
        return list(value) if isinstance(value, tuple) else value

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


@contextmanager
def run_log(path: Path) -> Iterator[None]:
    """Append everything the package logs to a file while the block runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger = logging.getLogger("mammography")
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def _salt() -> str:
    """The secret that patient identifiers are hashed with: one per user, made on first use."""
    if given := os.environ.get("MAMMOGRAPHY_SALT"):
        return given
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = home / "mammography" / "salt"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f"salt.{os.getpid()}")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_hex(32))
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise StoreError(
            f"The salt for hashing patient identifiers cannot be kept in {path}: {error.strerror}. "
            "Set the environment variable MAMMOGRAPHY_SALT to a secret of your own."
        ) from error


def pseudonym(identifier: str) -> str:
    """A patient identifier as a salted hash: the same person gives the same 16 hex digits.

    The salt is the user's own (``MAMMOGRAPHY_SALT``, or a file made on first use in the user's
    configuration folder); without it the hash cannot be tied to the identifier.
    """
    return hashlib.blake2b(
        identifier.encode(), key=hashlib.sha256(_salt().encode()).digest(), digest_size=8
    ).hexdigest()
