"""How well classes separate in feature space: cluster indices, and k-means against the labels.

What is undefined is null with a reason, never NaN and never a made-up value. Everything runs on
one thread, so that equal input gives equal bytes on one machine.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import (
    adjusted_rand_score,
    calinski_harabasz_score,
    davies_bouldin_score,
    normalized_mutual_info_score,
    silhouette_score,
)
from sklearn.metrics.pairwise import euclidean_distances
from threadpoolctl import threadpool_limits

#: The silhouette compares all pairs: of more images than this, a stratified sample is taken.
SILHOUETTE_SAMPLE = 10_000

#: Labels of more classes than this are taken for identifiers; k-means would run for days.
MOST_CLASSES = 100

SEPARATION = ("silhouette_score", "davies_bouldin_score", "calinski_harabasz_score")
AGREEMENT = ("adjusted_rand_index", "normalized_mutual_information")

#: Distances below this are rounding, where the points' root mean square radius is 1.
_ROUNDING = 1e-7

Features = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
#: The value of a metric, or the reason why it has none.
Outcome = float | str


def clustering_metrics(
    features: Features, labels: Sequence[str | None], seed: int
) -> dict[str, object]:
    """Measure how well the labelled classes separate, raw and with every row scaled to length 1.

    - ``silhouette_score`` (Rousseeuw 1987): mean of (b - a) / max(a, b), -1 to 1, higher is
      better; 0 for an image that is alone in its class.
    - ``davies_bouldin_score`` (Davies & Bouldin 1979): 0 upwards, lower is better.
    - ``calinski_harabasz_score`` (Calinski & Harabasz 1974): 0 upwards, higher is better.
    - ``kmeans``: the best of 10 starts with k = number of classes, against the labels, by the
      adjusted Rand index (Hubert & Arabie 1985) and the normalised mutual information (arithmetic
      mean of the entropies).

    Distances are Euclidean. Images without a label are counted and left out. 54,000 x 2,048
    features take about 2.8 GB and four minutes, nearly all of them for k-means.

    Args:
        features: (N, D) float32.
        labels: N class names; None where an image has none.
        seed: For k-means' starts, and for the silhouette's sample of more than
            `SILHOUETTE_SAMPLE` labelled images.

    Returns:
        JSON values: the three indices, ``l2_normalised`` with the same three, ``kmeans``,
        ``n_images``, ``n_labelled``, ``classes`` (name to count), ``silhouette_sample`` (number of
        images that the silhouette is taken over), ``seed``, and ``reasons`` (dotted name of every
        null to why it is null).
    """
    classes = dict(sorted(Counter(label for label in labels if label is not None).items()))
    code_of = {name: code for code, name in enumerate(classes)}
    codes = np.array([code_of[label] for label in labels if label is not None], dtype=np.int64)
    labelled = features[np.array([label is not None for label in labels], dtype=bool)]
    with threadpool_limits(limits=1):
        raw = _outcomes(labelled, codes, seed, unit_length=False)
        normalised = _outcomes(labelled, codes, seed, unit_length=True)
    by_dotted_name = {
        **{name: raw[name] for name in SEPARATION},
        **{f"l2_normalised.{name}": normalised[name] for name in SEPARATION},
        **{f"kmeans.raw.{name}": raw[name] for name in AGREEMENT},
        **{f"kmeans.l2_normalised.{name}": normalised[name] for name in AGREEMENT},
    }
    return {
        **_values(raw, SEPARATION),
        "l2_normalised": _values(normalised, SEPARATION),
        "kmeans": {
            "k": len(classes),
            "raw": _values(raw, AGREEMENT),
            "l2_normalised": _values(normalised, AGREEMENT),
        },
        "n_images": len(labels),
        "n_labelled": len(codes),
        "classes": classes,
        "silhouette_sample": len(_silhouette_rows(codes, seed)),
        "seed": seed,
        "reasons": {name: text for name, text in by_dotted_name.items() if isinstance(text, str)},
    }


def _values(outcomes: dict[str, Outcome], names: Sequence[str]) -> dict[str, float | None]:
    return {
        name: None if isinstance(value := outcomes[name], str) else float(value) for name in names
    }


def _outcomes(
    features: Features, codes: Codes, seed: int, *, unit_length: bool
) -> dict[str, Outcome]:
    """Every metric in one space. `codes` are 0 to k - 1, each in use."""
    points = _why_no_classes(codes) or _points(features, unit_length=unit_length)
    if isinstance(points, str):
        return dict.fromkeys(SEPARATION + AGREEMENT, points)
    return {
        "silhouette_score": _silhouette(points, codes, seed),
        "davies_bouldin_score": _davies_bouldin(points, codes),
        "calinski_harabasz_score": _calinski_harabasz(points, codes),
        **_agreement(points, codes, seed),
    }


def _why_no_classes(codes: Codes) -> str | None:
    n_classes = codes.max(initial=-1) + 1
    if n_classes == 0:
        return "no image has a label"
    if n_classes == 1:
        return "all labelled images are of one class"
    if n_classes == len(codes):
        return "every labelled image is a class of its own"
    if n_classes > MOST_CLASSES:
        return f"{n_classes} classes, more than {MOST_CLASSES}: the labels look like identifiers"
    return None


def _points(features: Features, *, unit_length: bool) -> Points | str:
    """The rows around their mean at root mean square radius 1, or why that cannot be.

    No metric here depends on position or scale, but the tolerances in their code do.
    """
    points = features.astype(np.float64)
    if not np.isfinite(points).all():
        return "some features are not finite numbers"
    if unit_length:
        lengths = np.linalg.norm(points, axis=1, keepdims=True)
        if zeros := np.count_nonzero(lengths == 0):
            return f"images whose features are all 0 have no direction; there are {zeros}"
        points /= lengths
    magnitude = np.linalg.norm(points)
    points -= points.mean(axis=0)
    spread = np.linalg.norm(points)
    if spread <= 1e-12 * magnitude:
        what = "features up to a factor" if unit_length else "features"
        return f"all labelled images have the same {what}"
    points *= np.sqrt(len(points)) / spread
    return points


def _silhouette(points: Points, codes: Codes, seed: int) -> Outcome:
    rows = _silhouette_rows(codes, seed)
    distances = euclidean_distances(points[rows])
    distances[distances < _ROUNDING] = 0  # else equal images under two labels score at random
    return silhouette_score(distances, codes[rows], metric="precomputed")


def _silhouette_rows(codes: Codes, seed: int) -> Codes:
    """All rows; of too many, a share of every class, but two at least where it has them."""
    if len(codes) <= SILHOUETTE_SAMPLE:
        return np.arange(len(codes))
    generator = np.random.default_rng(seed)
    chosen = []
    for code, count in enumerate(np.bincount(codes)):
        quota = max(round(SILHOUETTE_SAMPLE * count / len(codes)), min(count, 2))
        chosen.append(generator.choice(np.flatnonzero(codes == code), quota, replace=False))
    return np.sort(np.concatenate(chosen))


def _davies_bouldin(points: Points, codes: Codes) -> Outcome:
    """scikit-learn's, which ignores pairs of classes with one centre: for them it is infinite."""
    centres = np.stack([points[codes == code].mean(axis=0) for code in range(codes.max() + 1)])
    distances = euclidean_distances(centres)
    if distances[np.triu_indices_from(distances, k=1)].min() < _ROUNDING:
        return "two classes have the same centre"
    return davies_bouldin_score(points, codes)


def _calinski_harabasz(points: Points, codes: Codes) -> Outcome:
    """scikit-learn's, which says 1 where classes have no extent: there it is infinite."""
    extents = (np.ptp(points[codes == code], axis=0).max() for code in range(codes.max() + 1))
    if all(extent < _ROUNDING for extent in extents):
        return "within each class all images have the same features"
    return calinski_harabasz_score(points, codes)


def _agreement(points: Points, codes: Codes, seed: int) -> dict[str, Outcome]:
    k = int(codes.max()) + 1
    kmeans = KMeans(n_clusters=k, n_init=10, random_state=seed, copy_x=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what it warns of is checked below
        clusters = kmeans.fit_predict(points.astype(np.float32))
    if len(np.unique(clusters)) < k:
        reason = "there are fewer different feature vectors than classes"
        return dict.fromkeys(AGREEMENT, reason)
    return {
        "adjusted_rand_index": adjusted_rand_score(codes, clusters),
        "normalized_mutual_information": normalized_mutual_info_score(codes, clusters),
    }
