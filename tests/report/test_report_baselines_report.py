"""The words of the baselines' report, where they decide something."""

from __future__ import annotations

from typing import Any

import pytest

from mammography.report.baselines_report import verdict_words

DOCUMENTS = (
    {"features": "embeddings", "best": "svm_rbf"},
    {"features": "classical", "best": "random_forest"},
)


def words(**verdict: Any) -> str:
    standing = {
        "metric": "balanced_accuracy", "winner": None, "difference": 0.1, "low": -0.05,
        "high": 0.25, "interval_by": "the corrected t-test over folds", "undefined": None,
    }  # fmt: skip
    return verdict_words(DOCUMENTS, {"verdict": standing | verdict})


def test_without_a_winner_nobody_is_called_better() -> None:
    told = words()
    assert told.startswith("No winner: the interval contains 0. embeddings + SVM (RBF) against")
    assert "+0.100, 95 % interval -0.050 to +0.250 by the corrected t-test over folds" in told
    assert "better" not in told


@pytest.mark.parametrize(
    ("winner", "sentence"),
    [
        ("embeddings", "The embeddings are better than the classical descriptors"),
        ("classical", "The classical descriptors are better than the embeddings"),
    ],
)
def test_a_winner_is_named_with_its_interval(winner: str, sentence: str) -> None:
    sign = 1 if winner == "embeddings" else -1
    low, high = sorted((0.05 * sign, 0.2 * sign))
    told = words(winner=winner, difference=0.1 * sign, low=low, high=high)
    assert sentence in told
    assert f"{low:+.3f} to {high:+.3f}" in told


def test_what_cannot_be_tested_says_why() -> None:
    told = words(low=None, high=None, undefined="the difference is the same on all folds")
    assert told.startswith("No winner: the difference of")
    assert told.endswith("cannot be tested (the difference is the same on all folds).")
