"""What an embedding set was made of, as far as it can be had again: labels, recipe, archive."""

from __future__ import annotations

import json
from pathlib import Path

from mammography.archive.dialects import Label
from mammography.embeddings.embedding_set import EmbeddingSet
from mammography.errors import UsageError
from mammography.preprocess.recipe import Recipe
from mammography.preprocess.recorded import recorded_recipe


def label_of(embeddings: EmbeddingSet) -> Label:
    """The label column of the set's index.

    Raises:
        UsageError: The set was made without labels.
    """
    record = embeddings.record["label"]
    if record is None:
        raise UsageError(
            f"{embeddings.folder} has no labels: run mammography embed with --csv on the archive."
        )
    return Label(record["name"], tuple(record["classes"]), tuple(record["names"]))


def recipe_of(embeddings: EmbeddingSet) -> Recipe:
    """The recipe that the set's images went through, to the last setting.

    Raises:
        PluginError: There is no such recipe here.
        UsageError: The recipe has changed since.
    """
    return recorded_recipe(embeddings.record["recipe"], embeddings.folder)


def archive_of(embeddings: EmbeddingSet) -> Path:
    """The folder that the set's images lay in when they were embedded, as its summary says.

    Raises:
        UsageError: No summary says so, or the folder is gone.
    """
    summary = embeddings.folder / "summary.json"
    way_on = "say with --dicom-root where the images are."
    try:
        recorded = json.loads(summary.read_text(encoding="utf-8"))
        root = Path(recorded["working_directory"]) / recorded["config"]["dicom_root"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{summary} does not say which archive was embedded ({error!r}): {way_on}"
        ) from error
    if not root.is_dir():
        raise UsageError(
            f"The archive of {embeddings.folder} was {root}, which is gone or out of reach: "
            f"{way_on}"
        )
    return root
