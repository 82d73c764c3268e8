"""Embeddings beside other tables: rows are matched by image_id, never by position."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammography.embeddings.embedding_set import FEATURES, EmbeddingSet, load_embeddings
from mammography.errors import StoreError


def open_features(path: Path) -> EmbeddingSet:
    """The embedding set of a ``features.npy``: rows without their index cannot be matched.

    Raises:
        StoreError: The file is not that of a finished set.
    """
    if path.name != FEATURES:
        raise StoreError(
            f"{path} has no index beside it: give the {FEATURES} of a folder that mammography "
            "embed made, where index.parquet says which row is which image."
        )
    return load_embeddings(path.parent)


def rows_for(
    image_ids: Sequence[str], embeddings: EmbeddingSet, known: Collection[str] | None = None
) -> NDArray[np.float32]:
    """The embeddings of these images, in their order.

    Args:
        image_ids: Of the images.
        embeddings: A set that holds each of them.
        known: Every image_id that the set may hold; None for any.

    Returns:
        (images, width) float32.

    Raises:
        StoreError: Images have no embedding, or embeddings belong to none of the known images; they
            are named.
    """
    position = {image: row for row, image in enumerate(embeddings.index["image_id"])}
    missing = [image for image in image_ids if image not in position]
    if missing:
        raise StoreError(
            f"{embeddings.folder} has no embedding of {_some(missing)}: embed the same archive "
            "again, or leave these images out."
        )
    foreign = [] if known is None else sorted(position.keys() - set(known))
    if foreign:
        raise StoreError(
            f"{embeddings.folder} holds embeddings of images that this archive does not have: "
            f"{_some(foreign)}. Is it the set of another archive?"
        )
    return np.asarray(embeddings.features[[position[image] for image in image_ids]])


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)} images ({shown}{', …' if len(names) > 5 else ''})"
