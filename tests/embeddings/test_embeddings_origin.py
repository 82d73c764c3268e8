"""What an embedding set's own files say of where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mammography.archive.dialects import DENSITY
from mammography.embeddings.embedding_set import EmbeddingSet
from mammography.embeddings.origin import archive_of, label_of, recipe_of
from mammography.errors import PluginError, UsageError
from mammography.preprocess.recipes.imagenet import PLUGIN

RECIPE = PLUGIN.with_options(size=(96, 64), resize="crop", frame=3, tail=0.01, std=(0.2, 0.3, 0.4))


def embeddings(folder: Path, **record: Any) -> EmbeddingSet:
    stored = json.loads(json.dumps(RECIPE.record() | {"hash": RECIPE.hash}))
    return EmbeddingSet(
        np.zeros((0, 3), np.float32), pl.DataFrame(), {"recipe": stored, "label": None} | record,
        folder,
    )  # fmt: skip


def test_a_recipe_comes_back_to_the_last_setting(tmp_path: Path) -> None:
    assert recipe_of(embeddings(tmp_path)) == RECIPE


@pytest.mark.parametrize("change", [{"version": 0}, {"hash": "0" * 64}])
def test_a_recipe_that_has_changed_since_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    stored = RECIPE.record() | {"hash": RECIPE.hash} | change
    if "version" in change:
        stored["hash"] = "1" * 64  # that of the other version
    with pytest.raises(UsageError, match="The recipe imagenet has changed since"):
        recipe_of(embeddings(tmp_path, recipe=stored))


def test_a_recipe_of_an_absent_plugin_is_named(tmp_path: Path) -> None:
    stored = RECIPE.record() | {"hash": RECIPE.hash, "name": "foreign"}
    with pytest.raises(PluginError, match="foreign"):
        recipe_of(embeddings(tmp_path, recipe=stored))


def test_labels_come_back_in_their_order(tmp_path: Path) -> None:
    record = {"name": "density", "classes": [1, 2, 3, 4], "names": ["A", "B", "C", "D"]}
    assert label_of(embeddings(tmp_path, label=record)) == DENSITY
    with pytest.raises(UsageError, match="has no labels: run mammography embed with --csv"):
        label_of(embeddings(tmp_path))


def summary(folder: Path, dicom_root: str, working_directory: Path) -> None:
    content = {
        "config": {"dicom_root": dicom_root},
        "working_directory": working_directory.as_posix(),
    }
    (folder / "summary.json").write_text(json.dumps(content))


def test_the_archive_is_found_from_where_embed_was_run(tmp_path: Path) -> None:
    (tmp_path / "data/archive").mkdir(parents=True)
    summary(tmp_path, "archive", tmp_path / "data")
    assert archive_of(embeddings(tmp_path)) == tmp_path / "data/archive"
    summary(tmp_path, (tmp_path / "data").as_posix(), Path("/elsewhere"))
    assert archive_of(embeddings(tmp_path)) == tmp_path / "data"


def test_an_archive_that_is_gone_is_named(tmp_path: Path) -> None:
    summary(tmp_path, "archive", tmp_path)
    with pytest.raises(UsageError, match=r"was .*archive, which is gone.*--dicom-root"):
        archive_of(embeddings(tmp_path))


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"config": {}}'])
def test_without_a_summary_the_user_is_asked(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(UsageError, match="does not say which archive was embedded"):
        archive_of(embeddings(tmp_path))
