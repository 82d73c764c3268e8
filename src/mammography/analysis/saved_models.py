"""Fitted scikit-learn models on disk as skops files, which execute nothing when they are opened."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import skops.io
from sklearn.pipeline import Pipeline

from mammography.runs import written_whole

#: Time stamp of every member: the earliest that a ZIP file can hold.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def save_model(path: Path, model: Pipeline) -> list[str]:
    """Write a model; the same model gives the same bytes.

    Returns:
        The types that a reader has to trust beside those that skops trusts by itself:
        ``skops.io.load(path, trusted=…)``.
    """
    content = _canonical(skops.io.dumps(model))
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
    return sorted(skops.io.get_untrusted_types(data=content))


def _canonical(content: bytes) -> bytes:
    """The same skops file with objects numbered in their order, instead of by address and time."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        schema = json.loads(archive.read("schema.json"))
        members = {name: archive.read(name) for name in archive.namelist()}
    del members["schema.json"]
    names: dict[str, str] = {}
    _renumber(schema, {}, names)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, renamed in names.items():
            _add(archive, renamed, members[name])
        _add(archive, "schema.json", json.dumps(schema).encode())
    return out.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _NO_TIME), content, zipfile.ZIP_DEFLATED)


def _renumber(node: Any, numbers: dict[int, int], names: dict[str, str]) -> None:
    """Replace object addresses, and the file names made of them, in place."""
    if isinstance(node, list):
        for item in node:
            _renumber(item, numbers, names)
    elif isinstance(node, dict):
        if "__id__" in node:
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers))
        if isinstance(node.get("file"), str):
            suffix = Path(node["file"]).suffix
            node["file"] = names.setdefault(node["file"], f"{len(names)}{suffix}")
        for value in node.values():
            _renumber(value, numbers, names)
