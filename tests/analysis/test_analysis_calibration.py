"""Proper scores, reliability and temperature against loops, scikit-learn and hand-made cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, softmax
from sklearn import metrics as oracle

from mammography.analysis.calibration import (
    TEMPERATURES,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability,
)


def overconfident(n: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truths drawn from the softmax of some logits, and the logits times a factor."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(n, 4))
    true = (logits + rng.gumbel(size=(n, 4))).argmax(axis=1)
    return true, factor * logits


def loop_calibration_error(true: np.ndarray, probabilities: np.ndarray, bins: int) -> float:
    """Guo et al. 2017: images i with confidence in ((m - 1) / M, m / M], for each bin m."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [
            (max(row), float(np.argmax(row) == code))
            for code, row in zip(true, probabilities.tolist(), strict=True)
            if (m - 1) / bins < max(row) <= m / bins
        ]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(a for _, a in inside) / len(inside)
            total += len(inside) / len(true) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("bins", [1, 7, 10, 15])
def test_calibration_error_equals_the_formula(bins: int) -> None:
    true, logits = overconfident(300, 2.0)
    probabilities = softmax(logits, axis=1)
    found = expected_calibration_error(true, probabilities, bins)
    assert found == pytest.approx(loop_calibration_error(true, probabilities, bins), rel=1e-12)
    assert found > 0.02


def test_reliability_of_a_worked_example() -> None:
    probabilities = np.array([[0.7, 0.3], [0.31, 0.69], [0.35, 0.65], [1.0, 0.0], [0.5, 0.5]])
    rows = reliability(np.array([0, 1, 0, 0, 1]), probabilities)
    assert [row["count"] for row in rows] == [0, 0, 0, 0, 1, 0, 3, 0, 0, 1]
    assert [(row["low"], row["high"]) for row in rows][6:8] == [(0.6, 0.7), (0.7, 0.8)]
    assert rows[0] == {"low": 0, "high": 0.1, "count": 0, "confidence": None, "accuracy": None}
    assert rows[6]["confidence"] == pytest.approx((0.7 + 0.69 + 0.65) / 3)
    assert rows[6]["accuracy"] == pytest.approx(2 / 3)
    assert (rows[4]["confidence"], rows[4]["accuracy"]) == (0.5, 0.0)
    error = expected_calibration_error(np.array([0, 1, 0, 0, 1]), probabilities)
    assert error == pytest.approx((3 * abs(2 / 3 - 0.68) + 1 * 0.0 + 1 * 0.5) / 5)


def test_calibrated_probabilities_have_no_error() -> None:
    """Three of four right at confidence 0.75, all at 1."""
    probabilities = np.array([[0.75, 0.25]] * 4 + [[0.0, 1.0]] * 2)
    assert expected_calibration_error(np.array([0, 0, 0, 1, 1, 1]), probabilities) == 0.0


@given(
    confidence=st.lists(st.integers(10, 20).map(lambda n: n / 20), min_size=1, max_size=30),
    bins=st.integers(1, 20),
)
def test_every_image_is_in_the_bin_of_its_confidence(confidence: list[float], bins: int) -> None:
    probabilities = np.array([[c, 1 - c] for c in confidence])
    rows = reliability(np.zeros(len(confidence), dtype=int), probabilities, bins)
    assert sum(row["count"] for row in rows) == len(confidence)
    assert [row["low"] for row in rows[1:]] == [row["high"] for row in rows[:-1]]
    assert (rows[0]["low"], rows[-1]["high"]) == (0.0, 1.0)
    for row in rows:
        if row["count"]:
            assert row["low"] - 1e-12 < row["confidence"] <= row["high"] + 1e-12


def test_proper_scores_equal_scikit_learn() -> None:
    true, logits = overconfident(200, 1.5)
    probabilities = softmax(logits, axis=1)
    assert log_loss(true, probabilities) == pytest.approx(oracle.log_loss(true, probabilities))
    one_against_rest = [
        oracle.brier_score_loss(true == code, probabilities[:, code]) for code in range(4)
    ]
    assert brier_score(true, probabilities) == pytest.approx(sum(one_against_rest))


def test_a_probability_of_0_for_what_happened_is_bad_but_finite() -> None:
    true, probabilities = np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])
    assert log_loss(true, probabilities) == pytest.approx(-math.log(2.220446e-16) / 2, rel=1e-6)
    assert log_loss(true, probabilities) == pytest.approx(oracle.log_loss(true, probabilities))
    assert brier_score(true, probabilities) == 1.0


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.0, 6.0])
def test_temperature_undoes_what_the_logits_were_multiplied_with(factor: float) -> None:
    true, logits = overconfident(4000, factor)
    temperature = fit_temperature(true, logits)
    assert temperature == pytest.approx(factor, rel=0.06)
    # At the optimum the mean logit of the truth is what the probabilities expect.
    probabilities = softmax(logits / temperature, axis=1)
    expected = (probabilities * logits).sum(axis=1).mean()
    assert logits[np.arange(4000), true].mean() == pytest.approx(expected, abs=1e-4 * factor)
    before = expected_calibration_error(true, softmax(logits, axis=1))
    after = expected_calibration_error(true, probabilities)
    assert after < 0.03
    assert after <= before + 0.005
    assert fit_temperature(true, logits) == temperature


@settings(max_examples=50, deadline=None)
@given(
    logits=hnp.arrays(np.float64, (12, 3), elements=st.floats(-30, 30)),
    true=hnp.arrays(np.int64, 12, elements=st.integers(0, 2)),
)
def test_no_temperature_of_a_grid_is_better(logits: np.ndarray, true: np.ndarray) -> None:
    temperature = fit_temperature(true, logits)
    assert TEMPERATURES[0] <= temperature <= TEMPERATURES[1]
    best = log_loss(true, softmax(logits / temperature, axis=1))
    for other in [1.0, *np.geomspace(0.051, 19.6, 60)]:
        assert best <= log_loss(true, softmax(logits / other, axis=1)) + 1e-6
    calibrated = softmax(logits / temperature, axis=1)
    most = logits.max(axis=1) - np.sort(logits, axis=1)[:, 1] > 1e-6
    assert (calibrated.argmax(axis=1) == logits.argmax(axis=1))[most].all()


def test_logits_that_are_always_right_or_always_wrong_reach_the_bounds() -> None:
    true = np.array([0, 1, 2, 1])
    right = np.eye(3)[true]
    assert fit_temperature(true, right) == pytest.approx(TEMPERATURES[0], rel=1e-3)
    assert fit_temperature(true, -right) == pytest.approx(TEMPERATURES[1], rel=1e-3)


def test_logits_that_say_nothing_keep_temperature_1() -> None:
    assert fit_temperature(np.array([0, 1, 1]), np.zeros((3, 2))) == 1.0


def test_an_objective_brings_its_own_probabilities() -> None:
    """Cumulative logits: K - 1 outputs, differences of their sigmoids are the probabilities."""

    def cumulative(logits: np.ndarray) -> np.ndarray:
        above = np.column_stack([np.ones(len(logits)), expit(logits), np.zeros(len(logits))])
        return above[:, :-1] - above[:, 1:]

    rng = np.random.default_rng(0)
    score = rng.normal(scale=2, size=3000)
    thresholds = np.array([-2.0, 0.0, 2.0])
    true = (score[:, None] + rng.logistic(size=(3000, 1)) > thresholds).sum(axis=1)
    logits = 3 * (score[:, None] - thresholds)
    assert fit_temperature(true, logits, cumulative) == pytest.approx(3, rel=0.06)
