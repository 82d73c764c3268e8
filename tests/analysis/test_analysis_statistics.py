"""Bootstrap intervals against resampling by hand, fold tests against formulas and SciPy."""

from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as oracle

from mammography.analysis.metrics import HEADLINE, headline
from mammography.analysis.statistics import bootstrap_intervals, paired_t_tests


def clustered(n_groups: int, seed: int, k: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of one to five images of one class, which are easy or hard together; rows shuffled."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, size=n_groups)
    groups = np.repeat(10 * rng.permutation(n_groups), sizes)
    true = np.repeat(rng.integers(k, size=n_groups), sizes)
    ease = np.repeat(rng.normal(1, 2, size=n_groups), sizes)
    logits = np.eye(k)[true] * ease[:, None] + rng.gumbel(size=(len(true), k))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = rng.permutation(len(true))
    return true[rows], probabilities[rows], groups[rows]


def test_intervals_equal_those_of_resamples_written_out() -> None:
    """Every resample is put together image by image and measured by scikit-learn."""
    true, probabilities, groups = clustered(25, seed=1)
    names = np.unique(groups)
    draws = np.random.default_rng(9).integers(len(names), size=(100, len(names)))
    values: dict[str, list[float]] = {name: [] for name in HEADLINE}
    for draw in draws:
        rows = np.concatenate([np.flatnonzero(groups == names[group]) for group in draw])
        t, p = true[rows], probabilities[rows]
        guess = p.argmax(axis=1)
        balanced = oracle.balanced_accuracy_score(t, guess)
        values["accuracy"].append(oracle.accuracy_score(t, guess))
        values["balanced_accuracy"].append(balanced)
        values["bal_acc_adj"].append((balanced - 1 / 3) / (2 / 3))
        values["kappa"].append(oracle.cohen_kappa_score(t, guess, weights="quadratic"))
        values["macro_f1"].append(oracle.f1_score(t, guess, average="macro"))
        values["auc_ovr"].append(oracle.roc_auc_score(t, p, multi_class="ovr"))
    found = bootstrap_intervals(true, probabilities, groups, resamples=100, seed=9, level=0.9)
    for name in HEADLINE:
        low, high = np.quantile(values[name], [0.05, 0.95])
        assert found[name] == {
            "low": pytest.approx(low, rel=1e-12),
            "high": pytest.approx(high, rel=1e-12),
            "resamples": 100,
        }, name


def test_two_groups_worked_out_by_hand() -> None:
    """Of the four draws one has only the right image, one only the three wrong ones, two both."""
    true, predicted = np.array([0, 1, 1, 1]), np.array([0, 0, 0, 0])
    probabilities = 0.1 + 0.8 * np.eye(2)[predicted]
    groups = [5, 7, 7, 7]

    def accuracy(level: float) -> tuple[float, float]:
        found = bootstrap_intervals(
            true, probabilities, groups, resamples=4000, seed=0, level=level
        )["accuracy"]
        return found["low"], found["high"]

    assert accuracy(0.95) == (0.0, 1.0)
    assert accuracy(0.40) == (0.25, 0.25)
    assert accuracy(0.54) == (0.0, 1.0)  # 0.23 and 0.77: just inside the outer quarters
    assert accuracy(0.46) == (0.25, 0.25)


def test_copies_of_an_image_in_its_group_change_nothing() -> None:
    true, probabilities, _ = clustered(40, seed=2)
    alone = np.arange(len(true))
    once = bootstrap_intervals(true, probabilities, alone, resamples=50, seed=3)
    thrice = [np.repeat(array, 3, axis=0) for array in (true, probabilities, alone)]
    assert bootstrap_intervals(*thrice, resamples=50, seed=3) == {
        name: pytest.approx(interval, rel=1e-12) for name, interval in once.items()
    }
    naive = bootstrap_intervals(
        thrice[0], thrice[1], np.arange(len(thrice[0])), resamples=200, seed=3
    )
    grouped = bootstrap_intervals(*thrice, resamples=200, seed=3)
    for name in HEADLINE:
        width = grouped[name]["high"] - grouped[name]["low"]
        assert width > 1.4 * (naive[name]["high"] - naive[name]["low"]), name


def test_the_order_of_rows_does_not_matter_and_the_seed_does() -> None:
    true, probabilities, groups = clustered(30, seed=4)
    rows = np.random.default_rng(0).permutation(len(true))
    first = bootstrap_intervals(true, probabilities, groups, resamples=70, seed=1)
    again = bootstrap_intervals(true[rows], probabilities[rows], groups[rows], resamples=70, seed=1)
    assert again == first
    assert bootstrap_intervals(true, probabilities, groups, resamples=70, seed=2) != first
    json.dumps(first, allow_nan=False)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Patients who are easy or hard as a whole: 95 % intervals over patients, 200 studies."""
    rng = np.random.default_rng(0)
    hits = 0
    for study in range(200):
        ease = rng.random(60)  # each patient's own accuracy; the mean is 0.5
        right = rng.random((60, 4)) < ease[:, None]
        true = np.tile([0, 1, 0, 1], 60)
        predicted = np.where(right.ravel(), true, 1 - true)
        interval = bootstrap_intervals(
            true, 0.1 + 0.8 * np.eye(2)[predicted], np.repeat(np.arange(60), 4),
            resamples=200, seed=study,
        )["accuracy"]  # fmt: skip
        hits += interval["low"] <= 0.5 <= interval["high"]
    assert 0.89 <= hits / 200 <= 0.985


def test_resamples_without_a_class_are_left_out_and_counted() -> None:
    true = np.array([0, 0, 1, 1, 2])
    probabilities = 0.1 + 0.7 * np.eye(3)[[0, 1, 1, 1, 2]]
    found = bootstrap_intervals(true, probabilities, range(5), resamples=500, seed=6)
    draws = np.random.default_rng(6).integers(5, size=(500, 5))
    whole = [len(set(true[draw])) == 3 for draw in draws]
    assert 100 < sum(whole) < 400
    for name in ("balanced_accuracy", "bal_acc_adj", "macro_f1", "auc_ovr"):
        assert found[name]["resamples"] == sum(whole), name
    assert found["accuracy"]["resamples"] == 500
    perfect = sum(any(set(draw) <= rows for rows in ({0}, {2, 3}, {4})) for draw in draws.tolist())
    assert perfect > 0, "of one class, and predicted as it"
    assert found["kappa"]["resamples"] == 500 - perfect


def test_a_class_that_never_occurs() -> None:
    true, probabilities, groups = clustered(20, seed=5)
    wider = np.column_stack([probabilities, np.zeros(len(true))])
    found = bootstrap_intervals(true, wider, groups, resamples=60, seed=0)
    assert found["auc_ovr"] == {"low": None, "high": None, "resamples": 0}
    plain = bootstrap_intervals(true, probabilities, groups, resamples=60, seed=0)
    for name in ("accuracy", "balanced_accuracy", "kappa", "macro_f1"):
        assert found[name] == pytest.approx(plain[name], rel=1e-12), name


def test_one_group_has_no_interval() -> None:
    true, probabilities, _ = clustered(20, seed=5)
    nothing = {"low": None, "high": None, "resamples": 0}
    found = bootstrap_intervals(true, probabilities, np.zeros(len(true), dtype=int), seed=0)
    assert found == dict.fromkeys(HEADLINE, nothing)


def test_the_number_itself_lies_in_its_interval() -> None:
    true, probabilities, groups = clustered(80, seed=6, k=4)
    found = bootstrap_intervals(true, probabilities, groups, seed=0)
    for name, value in headline(true, probabilities).items():
        assert found[name]["low"] < value < found[name]["high"], name
        assert found[name]["resamples"] == 1000


def test_groups_of_another_length_are_refused() -> None:
    true, probabilities, groups = clustered(5, seed=0)
    with pytest.raises(ValueError, match="groups for"):
        bootstrap_intervals(true, probabilities, groups[1:], seed=0)


# Tests over folds

A = [0.52, 0.49, 0.55, 0.50, 0.51]
B = [0.41, 0.44, 0.43, 0.47, 0.40]


def test_fold_tests_equal_the_formulas() -> None:
    found = paired_t_tests(A, B, test_train_ratio=1 / 4)
    differences = [a - b for a, b in zip(A, B, strict=True)]
    mean, deviation = statistics.mean(differences), statistics.stdev(differences)
    assert found["folds"] == 5
    assert found["mean_difference"] == pytest.approx(mean)
    assert found["standard_deviation"] == pytest.approx(deviation)
    assert found["cohens_d"] == pytest.approx(mean / deviation)
    assert found["undefined"] is None
    # Nadeau & Bengio 2003: variance of the mean is (1/J + n2/n1) times that of the differences.
    for test, error in (
        ("plain", deviation * math.sqrt(1 / 5)),
        ("corrected", deviation * math.sqrt(1 / 5 + 1 / 4)),
    ):
        reach = 2.7764451051977987 * error  # Student's t, 4 degrees of freedom, 97.5 %
        assert found[test] == {
            "t": pytest.approx(mean / error),
            "degrees_of_freedom": 4,
            "p": pytest.approx(2 * stats.t.sf(mean / error, 4)),
            "low": pytest.approx(mean - reach),
            "high": pytest.approx(mean + reach),
        }


@given(
    pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12),
    ratio=st.floats(0.01, 2),
)
def test_fold_tests_against_scipy_and_each_other(
    pairs: list[tuple[float, float]], ratio: float
) -> None:
    a, b = zip(*pairs, strict=True)
    found, mirrored = paired_t_tests(a, b, ratio), paired_t_tests(b, a, ratio)
    json.dumps(found, allow_nan=False)
    assert mirrored["mean_difference"] == -found["mean_difference"]
    if found["undefined"]:
        assert np.ptp(np.subtract(a, b)) < 1e-11
        assert found["cohens_d"] is found["plain"]["t"] is found["corrected"]["p"] is None
        return
    theirs = stats.ttest_rel(a, b)
    interval = theirs.confidence_interval(0.95)
    assert found["plain"] == {
        "t": pytest.approx(theirs.statistic, rel=1e-9),
        "degrees_of_freedom": theirs.df,
        "p": pytest.approx(theirs.pvalue, rel=1e-9),
        "low": pytest.approx(interval.low, rel=1e-9, abs=1e-15),
        "high": pytest.approx(interval.high, rel=1e-9, abs=1e-15),
    }
    shrunk = math.sqrt(1 + len(a) * ratio)
    assert found["corrected"]["t"] == pytest.approx(found["plain"]["t"] / shrunk)
    assert found["corrected"]["p"] >= found["plain"]["p"]
    assert mirrored["corrected"]["p"] == pytest.approx(found["corrected"]["p"])
    assert mirrored["corrected"]["low"] == pytest.approx(-found["corrected"]["high"])


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_equal_differences_cannot_be_tested(shift: float) -> None:
    found = paired_t_tests([score + shift for score in A], A, 0.25)
    assert found["mean_difference"] == pytest.approx(shift)
    assert (found["standard_deviation"], found["cohens_d"]) == (0.0, None)
    nothing = {"t": None, "degrees_of_freedom": 4, "p": None, "low": None, "high": None}
    assert found["plain"] == found["corrected"] == nothing
    assert found["undefined"] == "the difference is the same on all folds"


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([0.5], [0.4], "at least 2"),
        ([0.5, 0.6], [0.4], "at least 2"),
        ([[0.5, 0.6]], [[0.4, 0.5]], "at least 2"),
        ([0.5, math.nan], [0.4, 0.5], "not finite"),
        ([0.5, 0.6], [0.4, math.inf], "not finite"),
    ],
)
def test_folds_that_are_no_pairs_are_refused(a: list, b: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_t_tests(a, b, 0.25)
