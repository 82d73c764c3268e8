"""The two sets of features that are compared, each with what must be known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammography.analysis.descriptors import Descriptors
from mammography.embeddings.embedding_set import EmbeddingSet
from mammography.preprocess.recipe import Recipe


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of the images that all classifiers see.

    Attributes:
        name: "embeddings" or "classical".
        values: (N, D) float32.
        n_components: Principal components that they are reduced to, at most; None for none.
        what: The features in a few words.
        origin: What they were made by, as JSON values.
    """

    name: str
    values: NDArray[np.float32]
    n_components: int | None
    what: str
    origin: dict[str, Any]


def of_embeddings(embeddings: EmbeddingSet, rows: NDArray[np.int64]) -> FeatureSet:
    """These rows of an embedding set, as they are."""
    encoder = embeddings.record["encoder"]
    return FeatureSet(
        "embeddings",
        embeddings.features[rows],
        None,
        f"{encoder['name']}, {encoder['width']} features, weights {encoder['weights']['name']}",
        {
            "fingerprint": embeddings.fingerprint,
            "encoder": encoder,
            "recipe": embeddings.record["recipe"],
        },
    )


def of_descriptors(
    descriptors: Descriptors, values: NDArray[np.float32], recipe: Recipe, n_components: int
) -> FeatureSet:
    """Descriptors, to be reduced to principal components."""
    used = descriptors.recipe(recipe)
    width = len(descriptors.names)
    return FeatureSet(
        "classical",
        values,
        n_components,
        f"{descriptors.name}, {width} descriptors of {used.size[0]} x {used.size[1]} pixels, "
        f"reduced to {n_components} principal components at most",
        {
            "descriptors": {
                "name": descriptors.name,
                "version": descriptors.version,
                "names": list(descriptors.names),
            },
            "recipe": used.record() | {"hash": used.hash},
        },
    )
