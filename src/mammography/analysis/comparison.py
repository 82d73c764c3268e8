"""Embeddings against classical descriptors on the same folds: by how much, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammography.analysis.baselines import CLASSIFIERS
from mammography.analysis.fold_results import METRICS, Evaluation, Problem
from mammography.analysis.metrics import confusion_matrices, scores
from mammography.analysis.statistics import paired_t_tests

#: What the verdict is about.
DECISIVE = "balanced_accuracy"

RESAMPLES = 1000

#: Of fewer groups the percentile interval is too narrow (Cameron, Gelbach & Miller 2008).
FEWEST_GROUPS = 20


def compare(problem: Problem, embeddings: Evaluation, classical: Evaluation) -> dict[str, Any]:
    """Compare the two sets of features, each classifier with itself and best with best.

    A winner is named only where the 95 % interval of the difference in balanced accuracy, best
    against best, does not contain 0: the corrected t-test's (Nadeau & Bengio 2003) over folds, or
    the grouped bootstrap's where each fold is one group.

    Args:
        problem: What was asked.
        embeddings: What the embeddings reached.
        classical: What the descriptors reached, on the same folds.

    Returns:
        JSON values; all differences are embeddings - classical.
    """
    best = _pair(problem, (embeddings, embeddings.best), (classical, classical.best))
    return {
        "difference": "embeddings - classical",
        "test_train_ratio": _test_train_ratio(problem),
        "best_against_best": best
        | {"caution": "Each best one was chosen by these very folds, which flatters both."},
        "same_classifier": {
            name: _pair(problem, (embeddings, name), (classical, name)) for name in CLASSIFIERS
        },
        "verdict": _verdict(best, problem),
    }


def paired_bootstrap(
    problem: Problem, a: NDArray[np.float64], b: NDArray[np.float64]
) -> dict[str, Any]:
    """Percentile intervals of pooled differences, whole groups drawn with replacement.

    Both sets of predictions are taken of the same drawn groups; see
    `mammography.analysis.statistics.bootstrap_intervals`. A resample in which a number is
    undefined is left out of its interval.

    Args:
        problem: Of the predictions.
        a: (N, K) probabilities.
        b: Likewise, of the same images.

    Returns:
        For each number that follows from a confusion matrix ``difference`` (a - b), ``low`` and
        ``high`` of the 95 % interval (None where nothing can be resampled), ``resamples``.
    """
    _, group_of = np.unique(problem.groups, return_inverse=True)
    k, n_groups = len(problem.classes), int(group_of.max()) + 1
    counts = [confusion_matrices(problem.codes, each, group_of) for each in (a, b)]
    generator = np.random.default_rng(problem.seed)
    drawn = generator.integers(n_groups, size=(RESAMPLES if n_groups > 1 else 0, n_groups))
    times = np.stack(
        [np.bincount(row, minlength=n_groups) for row in [np.arange(n_groups), *drawn]]
    )
    # The first row is every group once: the difference itself.
    first, second = (scores((times @ each.reshape(-1, k * k)).reshape(-1, k, k)) for each in counts)
    support = (times @ counts[0].sum(axis=2))[:, counts[0].sum(axis=(0, 2)) > 0]
    lacking = (support == 0).any(axis=1)
    intervals = {}
    for name in first:
        differences = first[name] - second[name]
        resampled = differences[1:][~lacking[1:] & ~np.isnan(differences[1:])]
        low, high = np.quantile(resampled, [0.025, 0.975]) if len(resampled) else (None, None)
        intervals[name] = {
            "difference": None if np.isnan(differences[0]) else float(differences[0]),
            "low": None if low is None else float(low),
            "high": None if high is None else float(high),
            "resamples": len(resampled),
        }
    return intervals


def _pair(
    problem: Problem, first: tuple[Evaluation, str], second: tuple[Evaluation, str]
) -> dict[str, Any]:
    """One classifier on the embeddings against one on the descriptors."""
    folds = [side.results[name]["folds"] for side, name in (first, second)]
    probabilities = [side.outcomes[name].probabilities for side, name in (first, second)]
    return {
        "embeddings": first[1],
        "classical": second[1],
        "t_tests": {
            key: _tests(problem, *([fold[key] for fold in each] for each in folds))
            for key in METRICS
        },
        "bootstrap": paired_bootstrap(problem, *probabilities),
    }


def _tests(problem: Problem, a: list[float | None], b: list[float | None]) -> dict[str, Any]:
    if problem.leave_one_out:
        return {"undefined": "each fold is one group of images; see the bootstrap"}
    if None in a or None in b:
        lacking = [n for n, pair in enumerate(zip(a, b, strict=True), 1) if None in pair]
        return {"undefined": f"undefined in fold {', '.join(map(str, lacking))}"}
    return paired_t_tests(a, b, _test_train_ratio(problem))  # type: ignore[arg-type]


def _test_train_ratio(problem: Problem) -> float:
    """Validation images over training images, summed over folds: 1 / (k - 1) for k folds."""
    tested = sum(len(fold.validation) for fold in problem.folds)
    return tested / sum(len(fold.train) for fold in problem.folds)


def _verdict(best: dict[str, Any], problem: Problem) -> dict[str, Any]:
    """Who is better, if that can be said."""
    verdict: dict[str, Any] = {"metric": DECISIVE, "winner": None}
    if problem.leave_one_out:
        numbers = best["bootstrap"][DECISIVE]
        verdict |= {
            **{key: numbers[key] for key in ("difference", "low", "high")},
            "interval_by": "the bootstrap over groups",
            "undefined": None,
        }
        if (groups := len(np.unique(problem.groups))) < FEWEST_GROUPS:
            verdict |= {"low": None, "high": None}
            verdict["undefined"] = (
                f"the bootstrap of {groups} groups, fewer than {FEWEST_GROUPS}, is too sure"
            )
    else:
        numbers = best["t_tests"][DECISIVE]
        corrected = numbers.get("corrected", {})
        verdict |= {
            "difference": numbers.get("mean_difference"),
            "low": corrected.get("low"),
            "high": corrected.get("high"),
            "interval_by": "the corrected t-test over folds",
            "undefined": numbers["undefined"],
        }
    low, high = verdict["low"], verdict["high"]
    if low is not None and high is not None and (low > 0 or high < 0):
        verdict["winner"] = "embeddings" if low > 0 else "classical"
    return verdict
