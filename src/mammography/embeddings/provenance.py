"""Where an embedding set comes from: what decides its bytes, and what its record says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mammography.archive.manifest import Manifest
from mammography.encoders.backends import Backend
from mammography.encoders.records import EncoderInfo
from mammography.preprocess.recipe import Recipe
from mammography.runs import RESEARCH_ONLY, canonical_json, git_commit, sha256_of_text, versions


def fingerprint(encoder_name: str, weights_sha256: str, recipe_hash: str) -> str:
    """What two sets must share to be compared, searched or fused."""
    return sha256_of_text(canonical_json([encoder_name, weights_sha256, recipe_hash]))


def made_from(
    root: Path,
    manifest: Manifest,
    recipe: Recipe,
    info: EncoderInfo,
    backend: Backend,
    max_pixels: int,
) -> dict[str, Any]:
    """Everything that decides the features' bytes and which rows they belong to, as JSON values.

    Files are told apart by path and size: reading them all would take as long as embedding them.
    """
    sizes = [[path, _size(root / path)] for path in manifest.frame["path"]]
    tables = manifest.frame.write_csv() + manifest.rejects.write_csv()
    return {
        "images": sha256_of_text(canonical_json(sizes)),
        "labels and headers": sha256_of_text(tables),
        "encoder": info.name,
        "weights": info.weights.sha256,
        "untrained weights": None if info.weights.trained else info.weights.name,
        "recipe": recipe.record(),
        **backend.record(),
        "max_pixels": max_pixels,
    }


def _size(path: Path) -> int | None:
    """Bytes of a file; None where it is gone, which its worker will say."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def record(
    manifest: Manifest, recipe: Recipe, info: EncoderInfo, backend: Backend
) -> dict[str, Any]:
    """The set's `embedding.json`; the same bytes for the same run."""
    label = manifest.label
    return {
        "fingerprint": fingerprint(info.name, info.weights.sha256, recipe.hash),
        "images": manifest.frame.height,
        "encoder": info.record(),
        "recipe": recipe.record() | {"hash": recipe.hash},
        **backend.record(),
        "label": {"name": label.name, "classes": label.classes, "names": label.names}
        if label
        else None,
        "terms": "The terms of the images, the labels and the weights hold for these features.",
        "versions": versions(),
        "git_commit": git_commit(),
        "notice": RESEARCH_ONLY,
    }
