"""Cluster metrics against plain loops written from their papers, and every undefined case."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import silhouette_score

from mammography.analysis import clusters
from mammography.analysis.clusters import AGREEMENT, SEPARATION, clustering_metrics


def example(n: int = 60, width: int = 7, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Three overlapping classes around different centres, of different sizes and lengths."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(["A", "B", "C"], p=[0.2, 0.3, 0.5], size=n)
    centres = {"A": 0.0, "B": 1.0, "C": 3.0}
    features = rng.normal(size=(n, width)) + [[centres[label]] * width for label in labels] + 2
    return features.astype(np.float32), labels.tolist()


def loop_silhouette(points: np.ndarray, labels: list[str]) -> float:
    """Rousseeuw 1987: mean distance to the own class against the nearest other class."""
    widths = []
    for i, own in enumerate(labels):
        distances: dict[str, list[float]] = {}
        for j, label in enumerate(labels):
            if i != j:
                distances.setdefault(label, []).append(math.dist(points[i], points[j]))
        if own not in distances:
            widths.append(0.0)
            continue
        a = sum(distances[own]) / len(distances[own])
        b = min(sum(d) / len(d) for label, d in distances.items() if label != own)
        widths.append((b - a) / max(a, b) if max(a, b) > 0 else 0.0)
    return sum(widths) / len(widths)


def centres_of(points: np.ndarray, labels: list[str]) -> dict[str, np.ndarray]:
    return {
        name: sum(p for p, label in zip(points, labels, strict=True) if label == name) / count
        for name, count in Counter(labels).items()
    }


def loop_davies_bouldin(points: np.ndarray, labels: list[str]) -> float:
    """Davies & Bouldin 1979 with p = 2, q = 1: worst ratio of scatters to separation, averaged."""
    centres, scatter = centres_of(points, labels), Counter()
    for point, label in zip(points, labels, strict=True):
        scatter[label] += math.dist(point, centres[label]) / labels.count(label)
    worst = [
        max(
            (scatter[i] + scatter[j]) / math.dist(centres[i], centres[j]) for j in centres if i != j
        )
        for i in centres
    ]
    return sum(worst) / len(worst)


def loop_calinski_harabasz(points: np.ndarray, labels: list[str]) -> float:
    """Calinski & Harabasz 1974: variance ratio between and within classes."""
    centres, n, k = centres_of(points, labels), len(labels), len(set(labels))
    middle = sum(points) / n
    between = sum(labels.count(name) * math.dist(c, middle) ** 2 for name, c in centres.items())
    within = sum(math.dist(p, centres[label]) ** 2 for p, label in zip(points, labels, strict=True))
    return (between / (k - 1)) / (within / (n - k))


def pair_adjusted_rand(first: list, second: list) -> float:
    """Hubert & Arabie 1985, counted over all pairs of objects."""
    both = in_first = in_second = pairs = 0
    for i, j in itertools.combinations(range(len(first)), 2):
        pairs += 1
        in_first += first[i] == first[j]
        in_second += second[i] == second[j]
        both += first[i] == first[j] and second[i] == second[j]
    expected = in_first * in_second / pairs
    return (both - expected) / ((in_first + in_second) / 2 - expected)


def loop_mutual_information(first: list, second: list) -> float:
    """Mutual information over the mean of the two entropies, in nats."""
    n = len(first)

    def entropy(names: list) -> float:
        return -sum(c / n * math.log(c / n) for c in Counter(names).values())

    joint = entropy(list(zip(first, second, strict=True)))
    total = entropy(first) + entropy(second)
    return (total - joint) / (total / 2)


def unit_length(features: np.ndarray) -> np.ndarray:
    points = features.astype(np.float64)
    return points / np.sqrt((points**2).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(3))
def test_separation_equals_the_formulas(seed: int) -> None:
    features, labels = example(seed=seed)
    result = clustering_metrics(features, labels, 42)
    for found, points in (
        (result, features.astype(np.float64)),
        (result["l2_normalised"], unit_length(features)),
    ):
        reference = (
            loop_silhouette(points, labels),
            loop_davies_bouldin(points, labels),
            loop_calinski_harabasz(points, labels),
        )
        assert [found[name] for name in SEPARATION] == pytest.approx(reference, rel=1e-9)
    assert result["reasons"] == {}


def test_separation_of_a_worked_example() -> None:
    features = np.array([[0.0], [2.0], [10.0], [14.0]], dtype=np.float32)
    result = clustering_metrics(features, ["x", "x", "y", "y"], 0)
    # a = 2, 2, 4, 4; b = 12, 10, 9, 13; centres 1 and 12, scatters 1 and 2
    assert result["silhouette_score"] == pytest.approx((10 / 12 + 8 / 10 + 5 / 9 + 9 / 13) / 4)
    assert result["davies_bouldin_score"] == pytest.approx(3 / 11)
    assert result["calinski_harabasz_score"] == pytest.approx(121 / (10 / 2))
    assert result["kmeans"]["raw"] == {
        "adjusted_rand_index": 1.0,
        "normalized_mutual_information": 1.0,
    }


def test_kmeans_is_scored_by_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = example(n=90)
    seen: list[list[int]] = []

    class Watched(clusters.KMeans):
        def fit_predict(self, points: np.ndarray) -> np.ndarray:
            assert (self.n_clusters, self.n_init, self.random_state) == (3, 10, 42)
            seen.append(super().fit_predict(points).tolist())
            return np.array(seen[-1])

    monkeypatch.setattr(clusters, "KMeans", Watched)
    result = clustering_metrics(features, labels, 42)
    assert len(seen) == 2
    for found, assigned in zip(("raw", "l2_normalised"), seen, strict=True):
        scores = result["kmeans"][found]
        assert scores["adjusted_rand_index"] == pytest.approx(pair_adjusted_rand(labels, assigned))
        assert scores["normalized_mutual_information"] == pytest.approx(
            loop_mutual_information(labels, assigned)
        )
        assert 0 < scores["adjusted_rand_index"] < 1


def test_kmeans_recovers_classes_far_apart() -> None:
    features, labels = example()
    features += 100 * np.array([[label == "A", label == "B", *[0] * 5] for label in labels])
    kmeans = clustering_metrics(features, labels, 42)["kmeans"]
    perfect = pytest.approx(dict.fromkeys(AGREEMENT, 1.0))
    assert kmeans == {"k": 3, "raw": perfect, "l2_normalised": perfect}


def test_position_and_scale_of_the_features_do_not_matter() -> None:
    features, labels = example(width=3)
    plain = clustering_metrics(features, labels, 42)
    for factor in (2.0**-60, 2.0**60):
        scaled = clustering_metrics(features * np.float32(factor), labels, 42)
        assert scaled == plain
    rounded = np.round(features * 64) / 64
    near, far = (clustering_metrics(rounded + shift, labels, 42) for shift in (0, 4096))
    for name in SEPARATION:
        assert far[name] == pytest.approx(near[name], rel=1e-9)


def test_images_without_a_label_are_counted_and_left_out() -> None:
    features, labels = example()
    gaps = [None if i % 4 == 0 else label for i, label in enumerate(labels)]
    kept = [i for i, label in enumerate(gaps) if label is not None]
    result = clustering_metrics(features, gaps, 42)
    alone = clustering_metrics(features[kept], [labels[i] for i in kept], 42)
    assert (result.pop("n_images"), alone.pop("n_images")) == (60, 45)
    assert result == alone
    assert result["n_labelled"] == 45
    assert result["classes"] == dict(sorted(Counter(labels[i] for i in kept).items()))


def test_a_class_of_one_image_has_silhouette_0() -> None:
    features, labels = example(n=20)
    labels = ["only"] + ["A", "B"] * 9 + ["A"]
    result = clustering_metrics(features, labels, 42)
    points = features.astype(np.float64)
    assert result["silhouette_score"] == pytest.approx(loop_silhouette(points, labels), rel=1e-9)
    assert result["davies_bouldin_score"] == pytest.approx(loop_davies_bouldin(points, labels))
    assert result["reasons"] == {}


EVERY_NULL = {
    *SEPARATION,
    *(f"l2_normalised.{name}" for name in SEPARATION),
    *(f"kmeans.{space}.{name}" for space in ("raw", "l2_normalised") for name in AGREEMENT),
}


def nulls(result: dict) -> set[str]:
    """Dotted names of everything that is None."""
    spaces = {"": result, "l2_normalised.": result["l2_normalised"]}
    spaces |= {f"kmeans.{space}.": result["kmeans"][space] for space in ("raw", "l2_normalised")}
    return {
        prefix + name
        for prefix, values in spaces.items()
        for name, value in values.items()
        if value is None
    }


@pytest.mark.parametrize(
    ("features", "labels", "reason"),
    [
        (np.zeros((0, 3)), [], "no image has a label"),
        (np.eye(4), [None] * 4, "no image has a label"),
        (np.eye(1), ["A"], "all labelled images are of one class"),
        (np.eye(4), ["A"] * 4, "all labelled images are of one class"),
        (np.eye(2), ["A", "B"], "every labelled image is a class of its own"),
        (np.eye(5), [*"ABCD", None], "every labelled image is a class of its own"),
        (np.eye(4) * np.nan, [*"ABAB"], "some features are not finite numbers"),
        (np.full((4, 3), np.inf), [*"ABAB"], "some features are not finite numbers"),
        (
            np.random.default_rng(0).normal(size=(300, 2)),
            [str(i % 101) for i in range(300)],
            "101 classes, more than 100: the labels look like identifiers",
        ),
    ],
)
def test_where_nothing_is_defined_every_null_has_the_reason(
    features: np.ndarray, labels: list[str | None], reason: str
) -> None:
    result = clustering_metrics(features.astype(np.float32), labels, 42)
    assert nulls(result) == EVERY_NULL
    assert result["reasons"] == dict.fromkeys(result["reasons"], reason)
    assert set(result["reasons"]) == EVERY_NULL


@pytest.mark.parametrize("n", range(3, 20))
def test_equal_rows_separate_nothing(n: int) -> None:
    row = np.random.default_rng(n).normal(size=50).astype(np.float32)
    result = clustering_metrics(np.tile(row, (n, 1)), ["A", *["B"] * (n - 1)], 42)
    assert nulls(result) == set(result["reasons"]) == EVERY_NULL
    assert result["reasons"]["silhouette_score"] == "all labelled images have the same features"
    assert result["reasons"]["l2_normalised.silhouette_score"] == (
        "all labelled images have the same features up to a factor"
    )


def test_rows_of_one_direction_separate_only_before_they_are_normalised() -> None:
    features = np.array([[1, 2], [2, 4], [8, 16], [16, 32]], dtype=np.float32)
    result = clustering_metrics(features, [*"AABB"], 42)
    assert nulls(result) == {name for name in EVERY_NULL if "l2" in name}


def test_a_row_of_zeros_has_no_direction() -> None:
    features, labels = example(n=12)
    features[3] = features[7] = 0
    result = clustering_metrics(features, labels, 42)
    assert nulls(result) == set(result["reasons"]) == {name for name in EVERY_NULL if "l2" in name}
    assert set(result["reasons"].values()) == {
        "images whose features are all 0 have no direction; there are 2"
    }


def test_classes_around_one_centre_have_no_davies_bouldin_score() -> None:
    around = np.random.default_rng(0).integers(-1000, 1000, size=(9, 4)) / 1024
    pairs = np.concatenate([[point, -point] for point in around]) + 3
    features = np.concatenate([pairs, [[9, 9, 1, 1]]]).astype(np.float32)
    result = clustering_metrics(features, [*"AAAABBBBBBBBBBBBBB", "C"], 42)
    assert result["davies_bouldin_score"] is None
    assert result["reasons"]["davies_bouldin_score"] == "two classes have the same centre"
    assert result["calinski_harabasz_score"] is not None


def test_classes_without_extent_have_no_calinski_harabasz_score() -> None:
    features = np.array([[0.1, 1], [0.1, 1], [0.7, 3], [0.7, 3]], dtype=np.float32)
    result = clustering_metrics(features, [*"AABB"], 42)
    assert result["silhouette_score"] == 1.0
    assert result["davies_bouldin_score"] == 0.0
    assert nulls(result) == {"calinski_harabasz_score", "l2_normalised.calinski_harabasz_score"}
    assert result["reasons"]["calinski_harabasz_score"] == (
        "within each class all images have the same features"
    )


def test_fewer_different_rows_than_classes_leave_kmeans_undefined() -> None:
    features = np.array([[1, 0], [0, 1]] * 4, dtype=np.float32)
    result = clustering_metrics(features, [*"ABCABCAB"], 42)
    assert result["kmeans"]["k"] == 3
    assert result["reasons"]["kmeans.raw.adjusted_rand_index"] == (
        "there are fewer different feature vectors than classes"
    )


@pytest.mark.parametrize("seed", range(8))
def test_equal_images_under_two_labels_have_silhouette_0(seed: int) -> None:
    row = np.random.default_rng(seed).normal(size=500)
    features = np.stack([*[row] * 6, -row, -row, 2 * row]).astype(np.float32)
    labels = [*"AAABBBCCC"]
    reference = loop_silhouette(features.astype(np.float64), labels)
    result = clustering_metrics(features, labels, 42)
    assert result["silhouette_score"] == pytest.approx(reference, rel=1e-9)


def test_large_archives_are_sampled_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "SILHOUETTE_SAMPLE", 500)
    features, labels = example(n=3000)
    labels[10], labels[20] = "rare", "rare"
    result = clustering_metrics(features, labels, 42)
    whole = silhouette_score(features, labels)
    assert abs(result["silhouette_sample"] - 500) <= 4
    assert result["silhouette_score"] == pytest.approx(whole, abs=0.05)
    assert result["silhouette_score"] != pytest.approx(whole, abs=1e-9)
    codes = np.unique(labels, return_inverse=True)[1]
    rows = clusters._silhouette_rows(codes, 42)
    assert len(np.unique(rows)) == len(rows) == result["silhouette_sample"]
    shares = np.bincount(codes[rows]) / len(rows)
    np.testing.assert_allclose(shares, np.bincount(codes) / 3000, atol=0.004)
    assert np.bincount(codes[rows])[3] == 2
    assert clustering_metrics(features, labels, 42) == result
    assert (
        clustering_metrics(features, labels, 43)["silhouette_score"] != (result["silhouette_score"])
    )


def test_small_archives_are_not_sampled() -> None:
    features, labels = example()
    assert clustering_metrics(features, labels, 42)["silhouette_sample"] == 60


def test_the_features_are_left_as_they_are() -> None:
    features, labels = example()
    before = features.copy()
    clustering_metrics(features, labels, 42)
    assert np.array_equal(features, before)


def as_text() -> str:
    features, labels = example(n=300, width=40)
    return json.dumps(clustering_metrics(features, labels, 42), allow_nan=False)


def test_equal_input_gives_equal_bytes_here_and_in_another_process() -> None:
    first = as_text()
    assert as_text() == first
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.strip() == first


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_input_gives_valid_json_and_a_reason_for_every_null(data: st.DataObject) -> None:
    values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.1, 3.0, 1e-30, -1e-30, 3e38, np.inf, np.nan])
    finite = st.floats(-1e6, 1e6, width=32)
    features = data.draw(
        hnp.arrays(
            np.float32,
            hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
            elements=data.draw(st.sampled_from([values, finite])),
        )
    )
    names = st.sampled_from([None, "A", "B", "C", "", "a\0", "a"])
    labels = data.draw(st.lists(names, min_size=len(features), max_size=len(features)))
    result = clustering_metrics(features, labels, 42)
    json.dumps(result, allow_nan=False)
    assert nulls(result) == set(result["reasons"])
    assert all(result["reasons"].values())
    assert result["n_images"] == len(labels)
    assert sum(result["classes"].values()) == result["n_labelled"]
    if result["silhouette_score"] is not None:
        assert -1 <= result["silhouette_score"] <= 1
    for name in ("davies_bouldin_score", "calinski_harabasz_score"):
        assert result[name] is None or result[name] >= 0


if __name__ == "__main__":
    print(as_text())  # noqa: T201
