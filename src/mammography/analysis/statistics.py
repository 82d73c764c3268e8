"""How sure the numbers are: intervals that respect patients, and tests over folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mammography.analysis.calibration import Codes, Floats
from mammography.analysis.metrics import HEADLINE, auc_ovr, checked, confusion_matrices, scores

#: Resamples at a time: their weights for all images stay in the processor's cache.
_BLOCK = 32

#: Differences of scores between 0 and 1 that agree to this are the same.
_ROUNDING = 1e-12

#: Numbers that are means over classes: over fewer classes they are other numbers.
_OVER_CLASSES = ("balanced_accuracy", "bal_acc_adj", "macro_f1", "auc_ovr")


def bootstrap_intervals(
    true: Codes,
    probabilities: Floats,
    groups: Sequence[int] | NDArray[np.int64],
    *,
    resamples: int = 1000,
    seed: int,
    level: float = 0.95,
) -> dict[str, dict[str, Any]]:
    """Percentile intervals of the headline numbers, whole groups drawn with replacement.

    The cluster bootstrap (Field & Welsh 2007): images of one patient are not independent, so
    patients are drawn, each with all their images (Efron & Tibshirani 1993, chapter 13, for the
    percentile interval). A resample without a class that the images have tells nothing of means
    over classes and is left out of theirs; how many remain is told.

    Args:
        true: (N,) codes; see `mammography.analysis.metrics`.
        probabilities: (N, K).
        groups: (N,) what is drawn together, such as `mammography.archive.splits.groups_of`.
        resamples: How many.
        seed: Of the draw.
        level: The interval's share of the resamples.

    Returns:
        By the names of `mammography.analysis.metrics.HEADLINE`: ``low``, ``high`` and
        ``resamples``, the number in which the metric is defined. The ends are None where that is
        0; of fewer than two groups nothing can be resampled.

    Raises:
        ValueError: The arrays are not what they should be.
    """
    true, probabilities = checked(true, probabilities)
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    if group_of.shape != true.shape:
        raise ValueError(f"{group_of.shape} groups for {len(true)} images")
    n_groups = int(group_of.max()) + 1
    per_group = confusion_matrices(true, probabilities, group_of)
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[Floats]] = {name: [np.empty(0)] for name in HEADLINE}
    for start in range(0, resamples if n_groups > 1 else 0, _BLOCK):
        times = _times_drawn(generator, min(_BLOCK, resamples - start), n_groups)
        for name, values in _block(true, probabilities, group_of, per_group, times).items():
            drawn[name].append(values)
    return {name: _interval(np.concatenate(values), level) for name, values in drawn.items()}


def _times_drawn(generator: np.random.Generator, resamples: int, n_groups: int) -> Floats:
    """(resamples, n_groups) how often each group is drawn in n_groups draws."""
    draws = generator.integers(n_groups, size=(resamples, n_groups))
    return np.stack([np.bincount(row, minlength=n_groups) for row in draws]).astype(np.float64)


def _block(
    true: Codes,
    probabilities: Floats,
    group_of: NDArray[np.int64],
    per_group: NDArray[np.int64],
    times: Floats,
) -> dict[str, Floats]:
    """The headline numbers of some resamples; NaN where undefined."""
    k = probabilities.shape[1]
    confusions = (times @ per_group.reshape(-1, k * k)).reshape(-1, k, k)
    numbers = scores(confusions)
    numbers["auc_ovr"] = auc_ovr(true, probabilities, times.T[group_of])
    there = per_group.sum(axis=(0, 2)) > 0
    lacking = (confusions.sum(axis=2)[:, there] == 0).any(axis=1)
    for name in _OVER_CLASSES:
        numbers[name] = np.where(lacking, np.nan, numbers[name])
    return numbers


def _interval(values: Floats, level: float) -> dict[str, Any]:
    values = values[~np.isnan(values)]
    if not len(values):
        return {"low": None, "high": None, "resamples": 0}
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return {"low": float(low), "high": float(high), "resamples": len(values)}


def paired_t_tests(
    a: Sequence[float], b: Sequence[float], test_train_ratio: float
) -> dict[str, Any]:
    """Whether two methods differ, from their scores on the same folds.

    Training sets of different folds overlap, so the scores are not independent and the plain
    paired t-test is too sure. The corrected one (Nadeau & Bengio 2003, "Inference for the
    Generalization Error") takes the variance of the mean difference to be (1/J + n_test / n_train)
    times that of the J differences, instead of 1/J times.

    Args:
        a: One method's score on each fold.
        b: The other's on the same folds.
        test_train_ratio: Test images over training images of a fold; 1 / (k - 1) for k folds.

    Returns:
        JSON values: ``folds``, ``mean_difference`` (a - b), ``standard_deviation`` of the
        differences (n - 1), ``cohens_d`` (their mean over their standard deviation, for pairs),
        and under ``plain`` and ``corrected`` each ``t``, ``degrees_of_freedom``, ``p`` (two-sided)
        and ``low`` and ``high`` of the 95 % interval. Where all differences are the same there is
        no variance to test against: ``cohens_d`` and the tests' numbers are None, and ``undefined``
        says so; otherwise it is None.

    Raises:
        ValueError: The folds are not paired, fewer than two, or not finite numbers.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise ValueError(f"scores of {first.shape} and {second.shape} folds; at least 2 pairs")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("scores that are not finite numbers")
    differences = first - second
    n, mean = len(differences), differences.mean()
    same = bool(np.ptp(differences) < _ROUNDING)
    deviation = 0.0 if same else float(differences.std(ddof=1))
    return {
        "folds": n,
        "mean_difference": float(mean),
        "standard_deviation": deviation,
        "cohens_d": None if same else float(mean / deviation),
        "plain": _t_test(mean, deviation * np.sqrt(1 / n), n),
        "corrected": _t_test(mean, deviation * np.sqrt(1 / n + test_train_ratio), n),
        "undefined": "the difference is the same on all folds" if same else None,
    }


def _t_test(mean: float, error: float, n: int) -> dict[str, Any]:
    """Student's test of a mean with its standard error, n - 1 degrees of freedom."""
    if error == 0:
        nothing = dict.fromkeys(("p", "low", "high"))
        return {"t": None, "degrees_of_freedom": n - 1, **nothing}
    t = mean / error
    reach = stats.t.ppf(0.975, n - 1) * error
    return {
        "t": float(t),
        "degrees_of_freedom": n - 1,
        "p": float(2 * stats.t.sf(abs(t), n - 1)),
        "low": float(mean - reach),
        "high": float(mean + reach),
    }
