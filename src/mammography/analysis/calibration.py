"""Whether probabilities mean what they say: proper scores, reliability, temperature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import softmax

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Temperatures that are looked at. Perfectly separated images have none that is best: the lower
#: bound then stands for "as sure as can be".
TEMPERATURES = (0.05, 20.0)

#: A probability of 0 for what happened would be infinitely bad; it counts as this.
_SMALLEST = float(np.finfo(np.float64).eps)


def log_loss(true: Codes, probabilities: Floats) -> float:
    """Mean of -ln p(true class): 0 upwards, lower is better.

    Args:
        true: (N,) codes.
        probabilities: (N, K); those below 2.2e-16 count as that much, as in scikit-learn.
    """
    of_true = probabilities[np.arange(len(true)), true]
    return float(-np.log(np.clip(of_true, _SMALLEST, 1 - _SMALLEST)).mean())


def brier_score(true: Codes, probabilities: Floats) -> float:
    """Mean over images of the squared error summed over classes (Brier 1950): 0 to 2, 0 is best.

    For two classes this is twice the score of one probability that is in common use.
    """
    happened = np.eye(probabilities.shape[1])[true]
    return float(((probabilities - happened) ** 2).sum(axis=1).mean())


def reliability(true: Codes, probabilities: Floats, bins: int = 10) -> list[dict[str, Any]]:
    """Sort images by how sure the prediction is, and compare that with how often it is right.

    Args:
        true: (N,) codes.
        probabilities: (N, K); the largest of a row is its confidence, its place the prediction.
        bins: How many bins of equal width divide 0-1; each contains its upper end.

    Returns:
        For each bin ``low``, ``high``, ``count``, and ``confidence`` and ``accuracy``: means over
        its images, None where it has none.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == true
    edges = np.arange(bins + 1) / bins
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    rows: list[dict[str, Any]] = []
    for number in range(bins):
        inside = place == number
        some = bool(inside.any())
        rows.append(
            {
                "low": float(edges[number]),
                "high": float(edges[number + 1]),
                "count": int(inside.sum()),
                "confidence": float(confidence[inside].mean()) if some else None,
                "accuracy": float(right[inside].mean()) if some else None,
            }
        )
    return rows


def expected_calibration_error(true: Codes, probabilities: Floats, bins: int = 10) -> float:
    """Mean distance of confidence and accuracy over bins, weighted by their images.

    Guo, Pleiss, Sun & Weinberger 2017, "On Calibration of Modern Neural Networks", equation 3:
    0 to 1, lower is better.
    """
    filled = [row for row in reliability(true, probabilities, bins) if row["count"]]
    distances = (row["count"] * abs(row["accuracy"] - row["confidence"]) for row in filled)
    return sum(distances) / len(true)


def fit_temperature(
    true: Codes,
    logits: Floats,
    probabilities_of: Callable[[Floats], Floats] = lambda logits: softmax(logits, axis=1),
) -> float:
    """Find the number T for which the probabilities of logits / T have the lowest log loss.

    Temperature scaling (Guo et al. 2017, section 4.2); predictions of softmax stay what they are.

    Args:
        true: (N,) codes.
        logits: (N, outputs) of images that were not trained on.
        probabilities_of: The objective's way from logits to (N, K) probabilities.

    Returns:
        T within `TEMPERATURES`; 1 where no other is better.
    """

    def loss(log_temperature: float) -> float:
        return log_loss(true, probabilities_of(logits / np.exp(log_temperature)))

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0
