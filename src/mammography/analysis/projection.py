"""Two-dimensional maps of feature vectors: PCA, t-SNE and UMAP.

Equal input gives equal bytes on one machine: seeds are explicit, and everything runs on one
thread, because sums that are split over threads round differently from run to run.

t-SNE and UMAP see the first 50 principal components at unit scale, and start from the first two
of them (Kobak & Linderman 2021, doi:10.1038/s41587-020-00809-z: the start decides how much of the
global arrangement a map keeps). Unlike a spectral start it exists for every set of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

Features = npt.NDArray[np.float32]
Coordinates = npt.NDArray[np.float64]

#: Principal components that t-SNE and UMAP are given.
REDUCED_DIMENSIONS = 50

#: A perplexity below 1 (t-SNE), or a neighbourhood of one (UMAP), is none.
FEWEST_FOR_NEIGHBOURS = 4

PERPLEXITY = 30.0
NEIGHBOURS = 15
_BLOCK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Projection:
    """One map.

    Attributes:
        method: A key of `METHODS`.
        coordinates: (N, 2), row i belongs to row i of the features. PCA keeps the unit of the
            features; distances on t-SNE and UMAP maps have none.
        explained_variance: PCA's two shares of the total variance, 0-1; None for the others.
        seed: The seed that was given; PCA draws nothing.
        settings: What the method was run with, as JSON values.
    """

    method: str
    coordinates: Coordinates
    explained_variance: tuple[float, float] | None
    seed: int
    settings: dict[str, object]


@dataclass(frozen=True)
class NoProjection:
    """A map that does not exist for these features.

    Attributes:
        method: A key of `METHODS`.
        reason: Why, to be read after "No t-SNE map: ".
    """

    method: str
    reason: str


def pca_map(features: Features, seed: int) -> Projection | NoProjection:
    """Project onto the two directions of largest variance (Pearson 1901, Hotelling 1933).

    Where the features lie on a line the second coordinate is 0. Permuting the rows permutes the
    coordinates, up to rounding.

    Args:
        features: (N, D) float32, finite.
        seed: Recorded only.
    """
    if reason := _why_undefined(features, fewest=2):
        return NoProjection("pca", reason)
    scores, shares = principal_components(features, 2)
    return Projection("pca", scores, (float(shares[0]), float(shares[1])), seed, {})


def tsne_map(features: Features, seed: int) -> Projection | NoProjection:
    """Barnes-Hut t-SNE (van der Maaten 2014) of scikit-learn.

    The perplexity is min(30, (N - 1) / 3): three times as many neighbours are looked at, and no
    more than N - 1 exist. 54,000 images take about eight minutes.

    Args:
        features: (N, D) float32, finite.
        seed: For the noise on the starting points; scikit-learn itself then draws nothing.
    """
    if reason := _why_undefined(features, FEWEST_FOR_NEIGHBOURS):
        return NoProjection("tsne", reason)
    reduced = _reduced(features)
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    start = 1e-4 * _start(reduced, seed)
    with threadpool_limits(limits=1):
        tsne = TSNE(perplexity=perplexity, init=start, learning_rate="auto", random_state=seed)
        coordinates = tsne.fit_transform(reduced)
    settings = {
        "perplexity": perplexity,
        "init": "pca",
        "learning_rate": "auto",
        "pca_components": reduced.shape[1],
    }
    return Projection("tsne", coordinates.astype(np.float64), None, seed, settings)


def umap_map(features: Features, seed: int) -> Projection | NoProjection:
    """UMAP (McInnes, Healy & Melville 2018) of umap-learn, with min(15, N - 1) neighbours.

    Args:
        features: (N, D) float32, finite.
        seed: For umap-learn's random state and the noise on the starting points.
    """
    if reason := _why_undefined(features, FEWEST_FOR_NEIGHBOURS):
        return NoProjection("umap", reason)
    from umap import UMAP  # seconds of compilation: only whoever wants this map pays

    reduced = _reduced(features)
    neighbours = min(NEIGHBOURS, len(features) - 1)
    with threadpool_limits(limits=1):
        umap = UMAP(
            n_neighbors=neighbours,
            min_dist=0.1,
            init=_start(reduced, seed),
            random_state=seed,
            n_jobs=1,
        )
        coordinates = umap.fit_transform(reduced)
    settings = {
        "n_neighbors": neighbours,
        "min_dist": 0.1,
        "init": "pca",
        "pca_components": reduced.shape[1],
    }
    return Projection("umap", coordinates.astype(np.float64), None, seed, settings)


#: Every map by its name, which is also the stem of its files.
METHODS: dict[str, Callable[[Features, int], Projection | NoProjection]] = {
    "pca": pca_map,
    "tsne": tsne_map,
    "umap": umap_map,
}


def principal_components(
    features: Features, count: int
) -> tuple[Coordinates, npt.NDArray[np.float64]]:
    """Scores on the first principal components, in float64 throughout.

    Decomposes the smaller of the D x D scatter matrix and the N x N matrix of inner products
    exactly. The rows are centred in blocks before anything is multiplied: scikit-learn's
    ``covariance_eigh`` subtracts the mean afterwards and in the features' own precision, and so
    loses the small spread around a large mean that an untrained network gives. Takes no memory
    beyond the features, that matrix and the scores.

    Signs are fixed by making the largest loading of each component positive.

    Args:
        features: (N, D) float32, finite, not all rows equal.
        count: Number of components.

    Returns:
        Scores (N, count) and shares of the total variance (count,), 0 for components that carry
        nothing beyond rounding.
    """
    n_rows, width = features.shape
    mean = features.mean(axis=0, dtype=np.float64)
    blocks = [slice(start, start + _BLOCK_ROWS) for start in range(0, n_rows, _BLOCK_ROWS)]
    with threadpool_limits(limits=1):
        if width < n_rows:
            scatter = np.zeros((width, width))
            for block in blocks:
                centred = features[block] - mean
                scatter += centred.T @ centred
            values, loadings = _leading(scatter, count, max(n_rows, width))
            scores = np.concatenate([(features[block] - mean) @ loadings for block in blocks])
            total = np.trace(scatter)
        else:
            centred = features - mean
            products = centred @ centred.T
            values, vectors = _leading(products, count, max(n_rows, width))
            loadings = centred.T @ vectors
            scores = vectors * np.sqrt(values)
            total = np.trace(products)
    scores = np.where(values > 0, scores * _signs(loadings), 0.0)
    missing = count - len(values)
    return np.pad(scores, ((0, 0), (0, missing))), np.pad(values / total, (0, missing))


def _leading(
    matrix: npt.NDArray[np.float64], count: int, size: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The largest eigenvalues, falling, those within rounding of 0 as 0, and their vectors."""
    values, vectors = np.linalg.eigh(matrix)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    rounding = values[0] * size * np.finfo(np.float64).eps
    return np.where(values > rounding, values, 0.0), vectors


def _signs(loadings: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """+1 or -1 per column, the sign of its largest loading; of the first one among equals."""
    sizes = np.abs(loadings)
    largest = np.argmax(sizes >= sizes.max(axis=0) * (1 - 1e-6), axis=0)
    return np.where(loadings[largest, np.arange(loadings.shape[1])] < 0, -1.0, 1.0)


def _reduced(features: Features) -> Features:
    """The leading principal components, scaled to a mean squared distance of 1 from the centre."""
    count = max(2, min(REDUCED_DIMENSIONS, *features.shape))
    scores, _ = principal_components(features, count)
    return (scores / np.sqrt((scores**2).sum(axis=1).mean())).astype(np.float32)


def _start(reduced: Features, seed: int) -> Features:
    """The first two components at unit scale, with noise: features on a line must leave it."""
    noise = np.random.default_rng(seed).normal(scale=0.01, size=(len(reduced), 2))
    return (reduced[:, :2] / reduced[:, 0].std() + noise).astype(np.float32)


def _why_undefined(features: Features, fewest: int) -> str | None:
    if len(features) < fewest:
        return f"it needs at least {fewest} images, and there are {len(features)}"
    if not np.isfinite(features).all():
        return "some features are not finite numbers"
    if (features == features[0]).all():
        return "all images have the same features"
    return None
