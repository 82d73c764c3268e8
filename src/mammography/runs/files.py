"""Files that are written whole or not at all, and what they are hashed by."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mammography.errors import StoreError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path that takes the place of `path` when the block ends well.

    Raises:
        StoreError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("r+b") as stream:  # on disk before its name is: power may fail
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="\n")


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
