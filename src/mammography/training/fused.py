"""The embeddings that a fused classifier needs beside the images it is to judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammography.archive.manifest import Manifest
from mammography.embeddings.embedding_set import EmbeddingSet, load_embeddings
from mammography.embeddings.matching import rows_for
from mammography.errors import StoreError, UsageError
from mammography.training.model_files import TrainedModel


def open_embeddings(model: TrainedModel, folder: Path | None) -> EmbeddingSet | None:
    """The embedding set for a model; None for a model that looks at images alone.

    Args:
        model: Trained with embeddings, or without.
        folder: The set's.

    Raises:
        UsageError: The model needs embeddings and there is no folder, or the other way round.
        StoreError: The set was made otherwise than the one of the training.
    """
    fused = model.record["fused"]
    if fused is None:
        if folder is not None:
            raise UsageError(
                f"{model.run} was trained without embeddings: leave --embeddings-dir out."
            )
        return None
    if folder is None:
        raise UsageError(
            f"{model.run} was trained with embeddings beside the images: give those of these "
            "images with --embeddings-dir, from mammography embed with the same encoder, weights "
            "and recipe."
        )
    embeddings = load_embeddings(folder)
    if embeddings.fingerprint != fused["fingerprint"]:
        raise StoreError(
            f"{folder} has the fingerprint {embeddings.fingerprint[:12]}… and {model.run} was "
            f"trained with {fused['fingerprint'][:12]}…: embed these images with the encoder, the "
            "weights and the recipe of the training's embeddings."
        )
    return embeddings


def refuse_mismatch(manifest: Manifest, embeddings: EmbeddingSet) -> None:
    """Find out before anything slow whether an archive and embeddings belong together.

    Images that the set has among its rejects may be rejected again, and need no embedding; those
    that are rejects now may have one.

    Args:
        manifest: The archive's.
        embeddings: To go with it.

    Raises:
        StoreError: Images have no embedding, or embeddings no image; they are named.
    """
    names_only = replace(embeddings, features=embeddings.features[:, :0])
    rejected = embeddings.rejects()["path"].to_list()
    wanted = manifest.frame.filter(~pl.col("path").is_in(rejected))["image_id"].to_list()
    unreadable = pl.col("path").is_in(manifest.rejects["path"].drop_nulls().to_list())
    known = [*manifest.frame["image_id"], *embeddings.index.filter(unreadable)["image_id"]]
    rows_for(wanted, names_only, known)


def embedding_of_file(
    model: TrainedModel, folder: Path | None, root: Path | None, file: Path
) -> NDArray[np.float32] | None:
    """The embedding (1, width) of one file, found by its path below its archive's root.

    None for a model that looks at images alone.

    Args:
        model: Trained with embeddings, or without.
        folder: The embedding set's.
        root: The archive's.
        file: Below it.

    Raises:
        UsageError: As `open_embeddings`; or there is no root, or the file is not below it.
        StoreError: As `open_embeddings`; or the file has no embedding.
    """
    embeddings = open_embeddings(model, folder)
    if embeddings is None:
        return None
    if root is None:
        raise UsageError(
            f"Where {file} lies in its archive names its embedding: say which folder the archive "
            "is with --dicom-root."
        )
    try:
        path = file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError as error:
        raise UsageError(
            f"{file} does not lie below {root} (--dicom-root), so its embedding cannot be found."
        ) from error
    known = embeddings.index.filter(pl.col("path") == path)["image_id"].to_list()
    return rows_for(known or [path], embeddings)
