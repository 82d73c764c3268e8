"""The maps against plain linear algebra, known clusters, and every input without a map."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mammography.analysis.projection import (
    METHODS,
    NoProjection,
    Projection,
    pca_map,
    principal_components,
    tsne_map,
    umap_map,
)


def random_features(n: int, width: int, seed: int = 0) -> np.ndarray:
    """Normal features with falling variances in a random basis, so that components are distinct."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(width, width)))
    scales = 0.8 ** np.arange(width)
    return (rng.normal(size=(n, width)) * scales @ basis + 2).astype(np.float32)


def reference_pca(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and variance shares by the textbook: eigenvectors of the covariance matrix."""
    points = features.astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(points.T))
    values, vectors = values[::-1], vectors[:, ::-1]
    for column in vectors.T:
        column *= np.sign(column[np.argmax(np.abs(column))])
    return (points - points.mean(axis=0)) @ vectors[:, :2], values[:2] / values.sum()


@pytest.mark.parametrize(("n", "width"), [(200, 12), (12, 12), (7, 30), (9000, 5)])
def test_pca_equals_the_eigen_decomposition_of_the_covariance(n: int, width: int) -> None:
    features = random_features(n, width)
    projection = pca_map(features, 42)
    scores, shares = reference_pca(features)
    np.testing.assert_allclose(projection.coordinates, scores, atol=1e-10)
    np.testing.assert_allclose(projection.explained_variance, shares, rtol=1e-10)


def test_explained_variance_is_the_variance_of_the_scores() -> None:
    features = random_features(50, 8)
    projection = pca_map(features, 42)
    total = features.astype(np.float64).var(axis=0).sum()
    np.testing.assert_allclose(
        projection.explained_variance, projection.coordinates.var(axis=0) / total, rtol=1e-10
    )


@pytest.mark.parametrize(("n", "width"), [(40, 10), (10, 40)])
def test_pca_of_permuted_rows_is_permuted(n: int, width: int) -> None:
    features = random_features(n, width)
    order = np.random.default_rng(1).permutation(n)
    np.testing.assert_allclose(
        pca_map(features[order], 0).coordinates, pca_map(features, 0).coordinates[order], atol=1e-12
    )


@pytest.mark.parametrize("seed", range(20))
def test_pca_signs_do_not_depend_on_rounding_where_loadings_are_equal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    line = rng.normal(size=(40, 1)).astype(np.float32)
    features = line * np.array([[1, -1, 1, -1, 1]], dtype=np.float32)
    expected = np.sqrt(5) * (line - line.mean(dtype=np.float64))
    for order in (np.arange(40), rng.permutation(40)):
        scores = pca_map(features[order], 0).coordinates
        np.testing.assert_allclose(scores[:, :1], expected[order], atol=1e-12)


def test_pca_keeps_a_small_spread_around_a_large_mean() -> None:
    steps = np.arange(-50, 50)
    features = np.stack([1000 + steps * 2**-13, np.full(100, 1000.0)], axis=1).astype(np.float32)
    projection = pca_map(features, 0)
    np.testing.assert_allclose(projection.coordinates[:, 0], (steps + 0.5) * 2**-13, rtol=1e-9)
    assert projection.explained_variance == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize("n", [2, 3, 40])
@pytest.mark.parametrize("direction", [[1], [1, 0.5], [1, -2, 0.5, 4, 0.25]])
def test_pca_of_points_on_a_line_has_no_second_coordinate(n: int, direction: list[float]) -> None:
    line = np.random.default_rng(n).normal(size=(n, 1)).astype(np.float32)
    projection = pca_map(line * np.array([direction], dtype=np.float32), 0)
    expected = (line - line.mean(dtype=np.float64)) * np.linalg.norm(direction)
    np.testing.assert_allclose(projection.coordinates[:, :1], expected, atol=1e-12)
    assert projection.coordinates.shape == (n, 2)
    assert np.all(projection.coordinates[:, 1] == 0)
    assert projection.explained_variance == (pytest.approx(1.0), 0.0)


def test_components_beyond_the_rank_are_zero() -> None:
    scores, shares = principal_components(random_features(5, 3), 7)
    assert scores.shape == (5, 7)
    assert np.all(scores[:, 3:] == 0)
    assert np.all(shares[3:] == 0)
    assert shares.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("features", "reason"),
    [
        (np.zeros((0, 4)), "there are 0"),
        (np.ones((1, 4)), "there are 1"),
        (np.full((8, 4), 0.1), "all images have the same features"),
        (np.where(np.eye(8) == 1, np.nan, 1), "not finite"),
        (np.where(np.eye(8) == 1, np.inf, 1), "not finite"),
    ],
)
def test_a_map_that_does_not_exist_has_a_reason(
    method: str, features: np.ndarray, reason: str
) -> None:
    missing = METHODS[method](features.astype(np.float32), 42)
    assert isinstance(missing, NoProjection)
    assert missing.method == method
    assert reason in missing.reason


@pytest.mark.parametrize("method", ["tsne", "umap"])
@pytest.mark.parametrize("n", [2, 3])
def test_maps_of_neighbours_need_four_images(method: str, n: int) -> None:
    missing = METHODS[method](random_features(n, 6), 42)
    assert missing == NoProjection(method, f"it needs at least 4 images, and there are {n}")


@pytest.mark.parametrize(("n", "perplexity"), [(4, 1.0), (5, 4 / 3), (31, 10.0), (120, 30.0)])
def test_perplexity_follows_the_number_of_images(n: int, perplexity: float) -> None:
    projection = tsne_map(random_features(n, 6), 42)
    assert projection.settings["perplexity"] == pytest.approx(perplexity)
    assert projection.coordinates.shape == (n, 2)
    assert np.isfinite(projection.coordinates).all()


@pytest.mark.parametrize(("n", "neighbours"), [(4, 3), (5, 4), (40, 15)])
def test_neighbours_follow_the_number_of_images(n: int, neighbours: int) -> None:
    projection = umap_map(random_features(n, 6), 42)
    assert projection.settings["n_neighbors"] == neighbours
    assert projection.coordinates.shape == (n, 2)
    assert np.isfinite(projection.coordinates).all()


@pytest.mark.parametrize("method", METHODS)
def test_clusters_far_apart_stay_apart(method: str) -> None:
    cluster = np.repeat(np.arange(3), 30)
    centres = 50 * np.eye(3, 64)
    rng = np.random.default_rng(3)
    features = (centres[cluster] + rng.normal(size=(90, 64))).astype(np.float32)
    xy = METHODS[method](features, 42).coordinates
    distances = np.linalg.norm(xy[:, None] - xy[None], axis=-1) + np.diag(np.full(90, np.inf))
    assert np.all(cluster[distances.argmin(axis=1)] == cluster)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "features",
    [
        np.array([[0, 0], [0, 0], [0, 0], [0, 0], [1, 0]]),
        np.repeat(np.arange(10.0), 3)[:, None] * np.ones((30, 3)),
        random_features(20, 4) * 1e-30,
        random_features(20, 4) * 1e30,
    ],
    ids=["four-equal-rows", "triplets-on-a-line", "tiny", "huge"],
)
def test_degenerate_but_different_rows_have_a_map(method: str, features: np.ndarray) -> None:
    projection = METHODS[method](features.astype(np.float32), 42)
    assert isinstance(projection, Projection)
    assert np.isfinite(projection.coordinates).all()


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7),
        elements=st.sampled_from([0.0, 1.0, -1.0, 0.1, 1e-30, 3e38, np.nan]),
    )
)
def test_pca_and_tsne_give_a_finite_map_or_a_reason(features: np.ndarray) -> None:
    for method in (pca_map, tsne_map):
        match method(features, 1):
            case Projection(coordinates=coordinates, settings=used):
                assert coordinates.shape == (len(features), 2)
                assert np.isfinite(coordinates).all()
                json.dumps(used, allow_nan=False)
            case NoProjection(reason=reason):
                assert reason


def fingerprints() -> dict[str, str]:
    """SHA-256 of every map of the same features."""
    features = random_features(80, 100)
    return {
        name: hashlib.sha256(method(features, 42).coordinates.tobytes()).hexdigest()
        for name, method in METHODS.items()
    }


def test_equal_input_gives_equal_bytes_here_and_in_another_process() -> None:
    first = fingerprints()
    np.random.seed(5)  # noqa: NPY002  (the global generator must not matter)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert fingerprints() == first
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002  (nor be touched)
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, check=True, timeout=300
    )
    assert json.loads(done.stdout) == first


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_the_seed_decides(method: str) -> None:
    features = random_features(80, 100)
    one, other = METHODS[method](features, 1), METHODS[method](features, 2)
    assert (one.seed, other.seed) == (1, 2)
    assert not np.array_equal(one.coordinates, other.coordinates)


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_maps_of_a_line_use_the_plane(method: str) -> None:
    features = np.linspace(0, 1, 60, dtype=np.float32)[:, None] * np.ones((60, 3), np.float32)
    variances = np.linalg.eigvalsh(np.cov(METHODS[method](features, 42).coordinates.T))
    assert np.sqrt(variances[0] / variances[1]) > 0.01


if __name__ == "__main__":
    print(json.dumps(fingerprints()))  # noqa: T201
