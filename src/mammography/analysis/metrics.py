"""How well predicted classes and probabilities agree with the truth.

All functions take `true`, (N,) codes 0 to K - 1, and `probabilities`, (N, K) float64 with rows that
sum to 1; the prediction is the class of the largest probability, the first among equals. What is
undefined is None with a reason, never NaN and never a made-up value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammography.analysis.calibration import (
    Codes,
    Floats,
    brier_score,
    expected_calibration_error,
    log_loss,
)

#: The numbers that stand for a model, all of them better when higher.
HEADLINE = ("accuracy", "balanced_accuracy", "bal_acc_adj", "kappa", "macro_f1", "auc_ovr")


def classification_metrics(
    true: Codes, probabilities: Floats, classes: Sequence[str | int]
) -> dict[str, Any]:
    """Everything that is reported of one set of predictions.

    - ``accuracy``; ``balanced_accuracy``: mean recall of the classes that occur.
    - ``bal_acc_adj``: (balanced accuracy - 1/K) / (1 - 1/K), 0 for chance and 1 for perfect.
    - ``kappa``: Cohen 1968 with quadratic weights over the order of the classes;
      ``kappa_unweighted``: Cohen 1960.
    - ``macro_f1``: mean F1 of the classes that occur or are predicted.
    - ``auc_ovr``: area under the ROC curve of each class against the rest, mean over all K.
    - ``log_loss``, ``brier``, ``ece``: see `mammography.analysis.calibration`.
    - ``per_class``: ``precision``, ``recall``, ``f1``, ``support`` (images of the class) and
      ``predicted`` (images taken for it), by the class's name.
    - ``confusion_matrix``: rows are the true classes, columns the predicted ones.

    All but the Brier score and undefined numbers equal scikit-learn's defaults.

    Args:
        true: (N,) codes, N at least 1.
        probabilities: (N, K).
        classes: K names in the order of the codes; numbers become text.

    Returns:
        JSON values: the above, ``images``, and ``undefined`` (dotted name of every None to why it
        is None).

    Raises:
        ValueError: The arrays are not what they should be.
    """
    true, probabilities = checked(true, probabilities)
    names = [str(name) for name in classes]
    if len(set(names)) != probabilities.shape[1]:
        raise ValueError(f"probabilities of {probabilities.shape[1]} classes, and names {names}")
    confusion = confusion_matrices(true, probabilities, np.zeros(len(true), dtype=np.int64))[0]
    per_class = _per_class(confusion, names)
    numbers = {
        **_headline(true, probabilities, confusion),
        "kappa_unweighted": _number(_kappa(confusion, 1 - np.eye(len(names)))),
    }
    return {
        "images": len(true),
        **{name: numbers[name] for name in HEADLINE[:4]},
        "kappa_unweighted": numbers["kappa_unweighted"],
        **{name: numbers[name] for name in HEADLINE[4:]},
        "log_loss": log_loss(true, probabilities),
        "brier": brier_score(true, probabilities),
        "ece": expected_calibration_error(true, probabilities),
        "per_class": per_class,
        "confusion_matrix": confusion.tolist(),
        "undefined": _reasons(numbers, per_class, confusion, names),
    }


def headline(true: Codes, probabilities: Floats) -> dict[str, float | None]:
    """The numbers of `HEADLINE` alone, by name; see `classification_metrics`.

    Raises:
        ValueError: The arrays are not what they should be.
    """
    true, probabilities = checked(true, probabilities)
    confusion = confusion_matrices(true, probabilities, np.zeros(len(true), dtype=np.int64))[0]
    return _headline(true, probabilities, confusion)


def checked(true: Codes, probabilities: Floats) -> tuple[Codes, Floats]:
    """The arrays with their types, after a look at shapes and ranges.

    Raises:
        ValueError: They are empty or of different lengths, codes are not from 0 to K - 1, or rows
            are not probabilities with sum 1 (to 0.001: tables hold rounded ones).
    """
    true, probabilities = np.asarray(true), np.asarray(probabilities, dtype=np.float64)
    if true.ndim != 1 or true.dtype.kind not in "iu" or probabilities.shape[:-1] != true.shape:
        raise ValueError(f"codes {true.dtype}{true.shape}, probabilities {probabilities.shape}")
    if not len(true) or probabilities.shape[1] < 2:
        raise ValueError(f"nothing to measure in probabilities {probabilities.shape}")
    if true.min() < 0 or true.max() >= probabilities.shape[1]:
        raise ValueError(f"codes from {true.min()} to {true.max()} of {probabilities.shape[1]}")
    if not (probabilities >= 0).all() or not (abs(probabilities.sum(axis=1) - 1) < 1e-3).all():
        raise ValueError("rows that are not probabilities with sum 1")
    return true.astype(np.int64), probabilities


def confusion_matrices(
    true: Codes, probabilities: Floats, groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    """One confusion matrix per group.

    Args:
        true: (N,).
        probabilities: (N, K).
        groups: (N,) numbers 0 to G - 1.

    Returns:
        (G, K, K), true x predicted.
    """
    k = probabilities.shape[1]
    cells = np.ravel_multi_index(
        (groups, true, probabilities.argmax(axis=1)), (groups.max() + 1, k, k)
    )
    return np.bincount(cells, minlength=(groups.max() + 1) * k * k).reshape(-1, k, k)


def scores(confusions: NDArray[Any]) -> dict[str, Floats]:
    """The numbers of `HEADLINE` that follow from confusion matrices; NaN where undefined.

    Args:
        confusions: (…, K, K) counts, true x predicted, at least one image in each.

    Returns:
        All but ``auc_ovr``, each of shape (…,).
    """
    k = confusions.shape[-1]
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    support, predicted = confusions.sum(axis=-1), confusions.sum(axis=-2)
    balanced = np.nanmean(_ratio(right, support), axis=-1)
    return {
        "accuracy": right.sum(axis=-1) / support.sum(axis=-1),
        "balanced_accuracy": balanced,
        "bal_acc_adj": (balanced - 1 / k) / (1 - 1 / k),
        "kappa": _kappa(confusions, np.subtract.outer(np.arange(k), np.arange(k)) ** 2),
        "macro_f1": np.nanmean(_ratio(2 * right, support + predicted), axis=-1),
    }


def auc_ovr(true: Codes, probabilities: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve of each class against the rest, mean over all classes.

    The share of pairs of an image of the class and another one in which the former is given the
    higher probability, ties counting half (Mann & Whitney 1947; Hanley & McNeil 1982).

    Args:
        true: (N,).
        probabilities: (N, K).
        weights: (N, R) how often each image occurs in each of R samples.

    Returns:
        (R,) NaN where a class or its opposite does not occur.
    """
    areas = np.empty((probabilities.shape[1], weights.shape[1]))
    for code, of_class in enumerate(probabilities.T):
        positive, negative = np.flatnonzero(true == code), np.flatnonzero(true != code)
        negative = negative[np.argsort(of_class[negative])]
        passed = np.zeros((len(negative) + 1, weights.shape[1]))  # weight of the i lowest
        np.cumsum(weights[negative], axis=0, out=passed[1:])
        below, upto = (
            np.searchsorted(of_class[negative], of_class[positive], side)
            for side in ("left", "right")
        )
        in_sample = weights[positive]
        won = (in_sample * (passed[below] + passed[upto]) / 2).sum(axis=0)
        areas[code] = _ratio(won, in_sample.sum(axis=0) * passed[-1])
    return areas.mean(axis=0)


def _headline(
    true: Codes, probabilities: Floats, confusion: NDArray[np.int64]
) -> dict[str, float | None]:
    numbers = scores(confusion)
    numbers["auc_ovr"] = auc_ovr(true, probabilities, np.ones((len(true), 1)))[0]
    return {name: _number(numbers[name]) for name in HEADLINE}


def _kappa(confusions: NDArray[Any], weights: NDArray[Any]) -> Floats:
    """1 - observed disagreement / that of chance; NaN where chance cannot disagree.

    Args:
        confusions: (…, K, K).
        weights: (K, K) how bad it is to take one class for another, 0 on the diagonal.
    """
    support, predicted = confusions.sum(axis=-1), confusions.sum(axis=-2)
    chance = support[..., :, None] * predicted[..., None, :]
    observed = (weights * confusions).sum(axis=(-2, -1)) * support.sum(axis=-1)
    return 1 - _ratio(observed, (weights * chance).sum(axis=(-2, -1)))


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """The quotient; NaN where the denominator is 0."""
    nothing = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator != 0)


def _number(value: NDArray[Any] | float) -> float | None:
    return None if np.isnan(value) else float(value)


def _per_class(confusion: NDArray[np.int64], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    right, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = _ratio(right, predicted), _ratio(right, support)
    f1 = _ratio(2 * right, support + predicted)
    return {
        name: {
            "precision": _number(precision[code]),
            "recall": _number(recall[code]),
            "f1": _number(f1[code]),
            "support": int(support[code]),
            "predicted": int(predicted[code]),
        }
        for code, name in enumerate(names)
    }


def _reasons(
    numbers: dict[str, float | None],
    per_class: dict[str, dict[str, Any]],
    confusion: NDArray[np.int64],
    names: Sequence[str],
) -> dict[str, str]:
    """Why each None is one."""
    absent = [name for name, count in zip(names, confusion.sum(axis=1), strict=True) if not count]
    why = {
        "kappa": "all images are of one class, and predicted as it",
        "kappa_unweighted": "all images are of one class, and predicted as it",
        "auc_ovr": f"no image is of class {', '.join(absent)}",
        "precision": "no image is predicted as this class",
        "recall": "no image is of this class",
        "f1": "no image is of this class or predicted as it",
    }
    reasons = {name: why[name] for name, value in numbers.items() if value is None}
    for label, values in per_class.items():
        for name, value in values.items():
            if value is None:
                reasons[f"per_class.{label}.{name}"] = why[name]
    return reasons
