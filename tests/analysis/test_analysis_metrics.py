"""Metrics against scikit-learn, against plain loops, and every undefined case."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from mammography.analysis.metrics import (
    HEADLINE,
    auc_ovr,
    classification_metrics,
    headline,
)


def predictions(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with ties, better than chance, and classes of different sizes."""
    rng = np.random.default_rng(seed)
    true = np.r_[np.arange(k), rng.choice(k, size=n - k, p=rng.dirichlet(np.full(k, 3.0)))]
    raw = rng.integers(1, 20, size=(n, k)) + 8 * np.eye(k)[true] * rng.random((n, 1))
    raw = np.round(raw)
    return true, raw / raw.sum(axis=1, keepdims=True)


def loop_quadratic_kappa(true: list[int], predicted: list[int], k: int) -> float:
    """Cohen 1968: 1 - weighted disagreement of the pairs over that of all pairings."""
    n = len(true)
    observed = sum((t - p) ** 2 / (k - 1) ** 2 for t, p in zip(true, predicted, strict=True)) / n
    chance = sum((t - p) ** 2 / (k - 1) ** 2 for t in true for p in predicted) / n**2
    return 1 - observed / chance


def loop_auc(true: list[int], scores: list[float], code: int) -> float:
    """Mann & Whitney: how many pairs are in the right order, ties half."""
    pairs = [
        (p, q)
        for p, t in zip(scores, true, strict=True)
        if t == code
        for q, u in zip(scores, true, strict=True)
        if u != code
    ]
    return sum((p > q) + (p == q) / 2 for p, q in pairs) / len(pairs)


@pytest.mark.parametrize("k", [2, 3, 4, 7])
@pytest.mark.parametrize("seed", range(3))
def test_everything_equals_scikit_learn(k: int, seed: int) -> None:
    true, probabilities = predictions(150, k, seed)
    predicted = probabilities.argmax(axis=1)
    names = [f"class {code}" for code in range(k)]
    found = classification_metrics(true, probabilities, names)
    one_hot = np.eye(k)[true]
    expected = {
        "images": 150,
        "accuracy": oracle.accuracy_score(true, predicted),
        "balanced_accuracy": oracle.balanced_accuracy_score(true, predicted),
        "bal_acc_adj": oracle.balanced_accuracy_score(true, predicted, adjusted=True),
        "kappa": oracle.cohen_kappa_score(true, predicted, weights="quadratic"),
        "kappa_unweighted": oracle.cohen_kappa_score(true, predicted),
        "macro_f1": oracle.f1_score(true, predicted, average="macro"),
        "auc_ovr": np.mean(
            [oracle.roc_auc_score(one_hot[:, code], probabilities[:, code]) for code in range(k)]
        ),
        "log_loss": oracle.log_loss(true, probabilities),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    if k > 2:
        whole = oracle.roc_auc_score(true, probabilities, multi_class="ovr", average="macro")
        assert found["auc_ovr"] == pytest.approx(whole, rel=1e-12)
    squared = oracle.mean_squared_error(one_hot, probabilities)
    assert found["brier"] == pytest.approx(k * squared, rel=1e-12)
    assert found["confusion_matrix"] == oracle.confusion_matrix(true, predicted).tolist()
    report = oracle.classification_report(
        true, predicted, target_names=names, output_dict=True, zero_division=np.nan
    )
    for name, values in found["per_class"].items():
        theirs = report[name]
        assert values["support"] == theirs["support"]
        assert values["predicted"] == np.count_nonzero(predicted == names.index(name))
        for mine, other in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            if values[mine] is None:
                assert math.isnan(theirs[other])
                assert f"per_class.{name}.{mine}" in found["undefined"]
            else:
                assert values[mine] == pytest.approx(theirs[other], rel=1e-12)
    assert headline(true, probabilities) == {name: found[name] for name in HEADLINE}


@pytest.mark.parametrize("seed", range(4))
def test_kappa_and_auc_equal_plain_loops(seed: int) -> None:
    true, probabilities = predictions(40, 4, seed)
    found = headline(true, probabilities)
    predicted = probabilities.argmax(axis=1).tolist()
    kappa = loop_quadratic_kappa(true.tolist(), predicted, 4)
    assert found["kappa"] == pytest.approx(kappa, rel=1e-12)
    areas = [loop_auc(true.tolist(), probabilities[:, code].tolist(), code) for code in range(4)]
    assert found["auc_ovr"] == pytest.approx(sum(areas) / 4, rel=1e-12)
    assert len(set(probabilities[:, 0].tolist())) < 40, "the example must have ties"


def test_a_worked_example() -> None:
    """Four classes counted by hand: a woman of D is taken for B, one of B for C."""
    true = np.array([0, 1, 1, 2, 2, 3])
    predicted = [0, 1, 2, 2, 2, 1]
    probabilities = 0.1 + 0.6 * np.eye(4)[predicted]
    found = classification_metrics(true, probabilities, ["A", "B", "C", "D"])
    assert found["confusion_matrix"] == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 2, 0], [0, 1, 0, 0]]
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert found["bal_acc_adj"] == pytest.approx((0.625 - 0.25) / 0.75)
    # disagreement 1 + 4; by chance the six truths against the six guesses 0 1 1 2 2 2
    by_chance = (
        (0 + 1 + 1 + 4 * 3) + 2 * (1 + 0 + 0 + 1 * 3) + 2 * (4 + 1 + 1 + 0) + (9 + 4 + 4 + 3)
    )
    assert found["kappa"] == pytest.approx(1 - 5 * 6 / by_chance)
    assert found["macro_f1"] == pytest.approx((1 + 0.5 + 0.8 + 0) / 4)
    assert found["brier"] == pytest.approx(
        (4 * (0.3**2 + 3 * 0.1**2) + 2 * (0.9**2 + 0.7**2 + 0.02)) / 6
    )
    assert found["log_loss"] == pytest.approx(-(4 * math.log(0.7) + 2 * math.log(0.1)) / 6)
    assert found["ece"] == pytest.approx(abs(4 / 6 - 0.7))
    assert found["per_class"]["D"] == {
        "precision": None, "recall": 0.0, "f1": 0.0, "support": 1, "predicted": 0,
    }  # fmt: skip
    assert found["undefined"] == {
        "per_class.D.precision": "no image is predicted as this class",
    }


def test_weights_are_repetitions() -> None:
    true, probabilities = predictions(60, 3, seed=5)
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 4, size=(60, 5))
    weights[:3] = 1  # every class occurs
    found = auc_ovr(true, probabilities, weights.astype(np.float64))
    for sample in range(5):
        rows = np.repeat(np.arange(60), weights[:, sample])
        assert found[sample] == headline(true[rows], probabilities[rows])["auc_ovr"]


@settings(max_examples=100, deadline=None)
@given(
    data=st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.integers(0, 5), min_size=4, max_size=4)),
        min_size=1,
        max_size=30,
    ),
    random=st.randoms(use_true_random=False),
)
def test_any_predictions_give_numbers_in_range_whatever_their_order(
    data: list, random: Any
) -> None:
    def measured(rows: list) -> dict[str, Any]:
        raw = np.array([row for _, row in rows], dtype=np.float64) + 0.01
        true = np.array([code for code, _ in rows])
        return classification_metrics(true, raw / raw.sum(axis=1, keepdims=True), "ABCD")

    found = measured(data)
    json.dumps(found, allow_nan=False)
    missing = {name for name, value in found.items() if value is None}
    for label, values in found["per_class"].items():
        missing |= {f"per_class.{label}.{name}" for name in values if values[name] is None}
    assert missing == set(found["undefined"])
    lowest = {"bal_acc_adj": -1 / 3, "kappa": -1.0, "kappa_unweighted": -1.0}
    highest = {"brier": 2.0, "log_loss": 40.0}
    for name in (*HEADLINE, "kappa_unweighted", "log_loss", "brier", "ece"):
        if found[name] is not None:
            low, high = lowest.get(name, 0.0), highest.get(name, 1.0)
            assert low - 1e-9 <= found[name] <= high + 1e-9, name
    again = random.sample(data, len(data))
    shuffled = measured(again)
    assert shuffled["confusion_matrix"] == found["confusion_matrix"]
    for name in HEADLINE:
        assert shuffled[name] == found[name]


def test_perfect_predictions() -> None:
    true = np.array([0, 1, 2, 3, 2])
    found = classification_metrics(true, np.eye(4)[true], "ABCD")
    assert {name: found[name] for name in HEADLINE} == dict.fromkeys(HEADLINE, 1.0)
    assert (found["brier"], found["ece"]) == (0.0, 0.0)
    assert found["log_loss"] == pytest.approx(0, abs=1e-12)
    assert found["undefined"] == {}


def test_a_class_that_does_not_occur() -> None:
    """Recall is measured over the others, as scikit-learn does; its own numbers are undefined."""
    true = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3]])
    found = classification_metrics(true, probabilities, ["F", "G", "D"])
    assert found["balanced_accuracy"] == 0.75
    assert found["bal_acc_adj"] == pytest.approx((0.75 - 1 / 3) / (2 / 3))
    predicted = probabilities.argmax(axis=1)
    assert found["macro_f1"] == oracle.f1_score(true, predicted, average="macro")
    assert found["auc_ovr"] is None
    assert found["undefined"] == {
        "auc_ovr": "no image is of class D",
        "per_class.D.precision": "no image is predicted as this class",
        "per_class.D.recall": "no image is of this class",
        "per_class.D.f1": "no image is of this class or predicted as it",
    }


def test_a_class_that_is_only_predicted_counts_in_macro_f1() -> None:
    true, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    found = headline(true, 0.1 + 0.7 * np.eye(3)[predicted])
    expected = oracle.f1_score(true, predicted, average="macro")
    assert found["macro_f1"] == pytest.approx(expected) == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_one_class_only() -> None:
    found = classification_metrics(np.zeros(3, dtype=int), np.tile([0.9, 0.1], (3, 1)), "AB")
    assert (found["accuracy"], found["balanced_accuracy"]) == (1.0, 1.0)
    assert found["kappa"] is found["kappa_unweighted"] is found["auc_ovr"] is None
    assert found["undefined"]["kappa"] == "all images are of one class, and predicted as it"
    found = classification_metrics(np.zeros(2, dtype=int), np.array([[0.9, 0.1], [0.1, 0.9]]), "AB")
    assert found["kappa"] == 0.0


def test_ties_go_to_the_first_class_and_integers_may_be_class_names() -> None:
    found = classification_metrics(np.array([0, 1]), np.full((2, 2), 0.5), [1, 2])
    assert found["confusion_matrix"] == [[1, 0], [1, 0]]
    assert list(found["per_class"]) == ["1", "2"]


@pytest.mark.parametrize(
    ("true", "probabilities", "names", "message"),
    [
        ([], np.zeros((0, 2)), "AB", "nothing to measure"),
        ([0], [[1.0]], "A", "nothing to measure"),
        ([0, 1], [[0.5, 0.5]], "AB", "probabilities"),
        ([0.0], [[0.5, 0.5]], "AB", "float64"),
        ([2], [[0.5, 0.5]], "AB", "codes from 2 to 2"),
        ([-1], [[0.5, 0.5]], "AB", "codes from -1"),
        ([0], [[0.5, 0.4]], "AB", "sum 1"),
        ([0], [[1.5, -0.5]], "AB", "sum 1"),
        ([0], [[np.nan, 0.5]], "AB", "sum 1"),
        ([0], [[0.5, 0.5]], "ABC", "of 2 classes"),
        ([0], [[0.5, 0.5]], "AA", "of 2 classes"),
    ],
)
def test_wrong_arrays_are_refused(true: list, probabilities: Any, names: str, message: str) -> None:
    true_array = np.array(true, dtype=None if true else np.int64)
    with pytest.raises(ValueError, match=message):
        classification_metrics(true_array, np.array(probabilities), names)
