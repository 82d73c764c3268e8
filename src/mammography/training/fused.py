"""The embeddings that a fused classifier needs beside the images it is to judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

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


def refuse_missing(images: pl.DataFrame, embeddings: EmbeddingSet) -> None:
    """Find out before anything slow whether embeddings and images belong together.

    Images that the set has among its rejects are passed over: they may be rejected again.

    Args:
        images: A manifest's frame.
        embeddings: To go with it.

    Raises:
        StoreError: Images have no embedding, or embeddings no image; they are named.
    """
    wanted = images.filter(~pl.col("path").is_in(embeddings.rejects()["path"].to_list()))
    rows_for(wanted["image_id"].to_list(), embeddings, images["image_id"].to_list())


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
