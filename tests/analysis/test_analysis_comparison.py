"""Results over folds, differences and the verdict, computed again by other means."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from mammography.analysis.baselines import CLASSIFIERS, Fold, OutOfFold
from mammography.analysis.comparison import compare, paired_bootstrap
from mammography.analysis.feature_sets import FeatureSet
from mammography.analysis.fold_results import (
    METRICS,
    Evaluation,
    Problem,
    best_classifier,
    classifier_results,
    folds_record,
)

CLASSES = ("F", "G", "D")
GROUPS = np.repeat(np.arange(40), 3)
CODES = (np.arange(40) % 3)[GROUPS].astype(np.int64)
N = len(CODES)


def problem(k: int = 5, *, leave_one_out: bool = False, codes: np.ndarray = CODES) -> Problem:
    count = len(np.unique(GROUPS)) if leave_one_out else k
    parts = [np.flatnonzero(GROUPS % count == part) for part in range(count)]
    folds = [Fold(np.setdiff1d(np.arange(N), part), part) for part in parts]
    return Problem(codes, CLASSES, GROUPS, folds, leave_one_out, 42)


def predictions(skill: float, seed: int) -> np.ndarray:
    """Probabilities that favour the true class by `skill`."""
    raw = np.random.default_rng(seed).random((N, 3)) + skill * np.eye(3)[CODES]
    return raw / raw.sum(axis=1, keepdims=True)


def outcomes(*skills: float, seed: int = 0) -> dict[str, OutOfFold]:
    return {
        name: OutOfFold(predictions(skill, seed + number), (), ())
        for number, (name, skill) in enumerate(zip(CLASSIFIERS, skills, strict=True))
    }


def evaluation(name: str, asked: Problem, made: dict[str, OutOfFold]) -> Evaluation:
    features = FeatureSet(name, np.zeros((N, 2), np.float32), None, "nothing", {})
    results = classifier_results(asked, made)
    return Evaluation(features, made, results, best_classifier(results))


def test_numbers_of_folds_are_scikit_learns() -> None:
    asked, made = problem(), outcomes(0.3, 0.5, 0.2)
    results = classifier_results(asked, made)
    for name, outcome in made.items():
        balanced, kappas, f1 = [], [], []
        for fold in asked.folds:
            true = CODES[fold.validation]
            predicted = outcome.probabilities[fold.validation].argmax(axis=1)
            balanced.append(metrics.balanced_accuracy_score(true, predicted))
            kappas.append(metrics.cohen_kappa_score(true, predicted))
            f1.append(metrics.f1_score(true, predicted, average="macro"))
        found = results[name]
        assert [fold["balanced_accuracy"] for fold in found["folds"]] == pytest.approx(balanced)
        for key, values in (
            ("balanced_accuracy", balanced), ("kappa_unweighted", kappas), ("macro_f1", f1),
        ):  # fmt: skip
            assert found["mean"][key] == pytest.approx(np.mean(values))
            assert found["std"][key] == pytest.approx(np.std(values, ddof=1))
        recall = metrics.recall_score(CODES, outcome.probabilities.argmax(axis=1), average=None)
        pooled = [value["recall"] for value in found["pooled"]["per_class"].values()]
        assert pooled == pytest.approx(recall)
        assert found["pooled"]["intervals"]["accuracy"]["low"] < found["pooled"]["accuracy"]
    json.dumps(results, allow_nan=False)


def test_decision_values_of_the_svm_are_no_probabilities() -> None:
    results = classifier_results(problem(), outcomes(0.3, 0.3, 0.3))
    for key in ("log_loss", "brier", "ece"):
        assert results["svm_rbf"]["pooled"][key] is None
        assert "no probabilities" in results["svm_rbf"]["pooled"]["undefined"][key]
        assert results["random_forest"]["pooled"][key] is not None


def test_what_a_fold_lacks_has_no_mean_but_a_reason() -> None:
    codes = np.where(GROUPS == 0, 2, CODES % 2).astype(np.int64)  # class D in one fold only
    results = classifier_results(problem(codes=codes), outcomes(0.3, 0.3, 0.3))
    for found in results.values():
        assert found["mean"]["auc_ovr"] is found["std"]["auc_ovr"] is None
        assert found["undefined"] == {"auc_ovr": "undefined in fold 2, 3, 4, 5"}
        assert found["mean"]["balanced_accuracy"] is not None
    json.dumps(results, allow_nan=False)


def test_folds_are_recorded_with_their_classes() -> None:
    record = folds_record(problem())
    assert [fold["fold"] for fold in record] == [1, 2, 3, 4, 5]
    assert sum(fold["validation_images"] for fold in record) == N
    assert record[0]["validation_groups"] == 8
    assert record[0]["train_groups"] == 32
    assert sum(record[0]["validation_classes"].values()) == record[0]["validation_images"]


def test_the_best_has_the_highest_balanced_accuracy_and_ties_go_on() -> None:
    made = {
        name: {"mean": dict.fromkeys(METRICS, 0.5), "pooled": {}} for name in CLASSIFIERS
    }  # fmt: skip
    assert best_classifier(made) == "logistic_regression"
    made["random_forest"]["mean"]["kappa"] = 0.51
    assert best_classifier(made) == "random_forest"
    made["svm_rbf"]["mean"]["balanced_accuracy"] = 0.6
    assert best_classifier(made) == "svm_rbf"
    made["svm_rbf"]["mean"]["balanced_accuracy"] = None
    assert best_classifier(made) == "random_forest"


def test_the_tests_are_paired_over_the_same_folds() -> None:
    asked = problem()
    first = evaluation("embeddings", asked, outcomes(0.6, 0.2, 0.2))
    second = evaluation("classical", asked, outcomes(0.2, 0.3, 0.1, seed=9))
    compared = compare(asked, first, second)
    best = compared["best_against_best"]
    assert (best["embeddings"], best["classical"]) == (first.best, second.best)
    for name in CLASSIFIERS:
        pair = compared["same_classifier"][name]
        assert pair["embeddings"] == pair["classical"] == name
        a, b = (
            [fold["macro_f1"] for fold in side.results[name]["folds"]] for side in (first, second)
        )
        found, expected = pair["t_tests"]["macro_f1"], stats.ttest_rel(a, b)
        assert found["plain"]["t"] == pytest.approx(expected.statistic)
        assert found["plain"]["p"] == pytest.approx(expected.pvalue)
        assert found["corrected"]["p"] > found["plain"]["p"]
    assert compared["test_train_ratio"] == pytest.approx(1 / 4)
    json.dumps(compared, allow_nan=False)


def loop_bootstrap(a: np.ndarray, b: np.ndarray) -> tuple[list[float], list[float]]:
    """Differences in balanced accuracy and quadratic kappa of each drawn set of groups."""
    generator = np.random.default_rng(42)
    balanced, kappa = [], []
    for draw in generator.integers(40, size=(1000, 40))[:60]:
        rows = np.concatenate([np.flatnonzero(group == GROUPS) for group in draw])
        scores = [
            (
                metrics.balanced_accuracy_score(CODES[rows], each[rows].argmax(axis=1)),
                metrics.cohen_kappa_score(
                    CODES[rows], each[rows].argmax(axis=1), weights="quadratic"
                ),
            )
            for each in (a, b)
        ]
        balanced.append(scores[0][0] - scores[1][0])
        kappa.append(scores[0][1] - scores[1][1])
    return balanced, kappa


def test_the_bootstrap_draws_the_same_groups_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = predictions(0.6, 1), predictions(0.3, 2)
    monkeypatch.setattr("mammography.analysis.comparison.RESAMPLES", 60)
    found = paired_bootstrap(problem(), a, b)
    balanced, kappa = loop_bootstrap(a, b)
    for key, values in (("balanced_accuracy", balanced), ("kappa", kappa)):
        low, high = np.quantile(values, [0.025, 0.975])
        assert (found[key]["low"], found[key]["high"]) == pytest.approx((low, high))
        assert found[key]["resamples"] == 60
    right = [(each.argmax(axis=1) == CODES).mean() for each in (a, b)]
    assert found["accuracy"]["difference"] == pytest.approx(right[0] - right[1])


def test_a_difference_of_nothing_is_exactly_nothing() -> None:
    same = predictions(0.4, 3)
    for numbers in paired_bootstrap(problem(), same, same).values():
        assert numbers["difference"] == numbers["low"] == numbers["high"] == 0


def test_one_group_cannot_be_resampled() -> None:
    asked = problem()
    lone = Problem(asked.codes, CLASSES, np.zeros(N, np.int64), asked.folds, False, 0)
    found = paired_bootstrap(lone, predictions(0.6, 1), predictions(0.3, 2))["accuracy"]
    assert found["low"] is found["high"] is None
    assert found["resamples"] == 0
    assert found["difference"] is not None


def verdict(asked: Problem, ours: Any, theirs: Any) -> dict[str, Any]:
    first, second = evaluation("embeddings", asked, ours), evaluation("classical", asked, theirs)
    return compare(asked, first, second)["verdict"]


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_a_winner_is_named_only_where_the_interval_says_so(leave_one_out: bool) -> None:
    asked = problem(leave_one_out=leave_one_out)
    strong, weak = outcomes(3.0, 3.0, 3.0), outcomes(0.1, 0.1, 0.1, seed=5)
    for ours, theirs, winner in (
        (strong, weak, "embeddings"),
        (weak, strong, "classical"),
        (outcomes(0.30, 0.3, 0.3), outcomes(0.32, 0.3, 0.3, seed=5), None),
    ):
        found = verdict(asked, ours, theirs)
        assert found["winner"] == winner
        outside = found["low"] > 0 or found["high"] < 0
        assert outside == (winner is not None)
        assert found["low"] <= found["difference"] <= found["high"]


def test_equal_predictions_have_no_winner_but_a_reason() -> None:
    same = outcomes(0.4, 0.4, 0.4)
    found = verdict(problem(), same, same)
    assert found["winner"] is found["low"] is None
    assert found["undefined"] == "the difference is the same on all folds"


def test_groups_left_out_alone_have_no_numbers_of_their_own() -> None:
    asked = problem(leave_one_out=True)
    results = classifier_results(asked, outcomes(0.3, 0.5, 0.2))
    assert best_classifier(results) == "svm_rbf"
    for found in results.values():
        assert found["folds"] == []
        assert found["mean"] is found["std"] is None
        assert found["undefined"]
        assert found["pooled"]["images"] == N
    first = evaluation("embeddings", asked, outcomes(0.6, 0.2, 0.2))
    compared = compare(asked, first, first)
    tests = compared["best_against_best"]["t_tests"]["balanced_accuracy"]
    assert tests == {"undefined": "each fold is one group of images; see the bootstrap"}
    assert "bootstrap" in compared["verdict"]["interval_by"]
    json.dumps(compared, allow_nan=False)


def test_few_groups_left_out_alone_name_no_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = problem(leave_one_out=True)
    strong, weak = outcomes(3.0, 3.0, 3.0), outcomes(0.1, 0.1, 0.1, seed=5)
    monkeypatch.setattr("mammography.analysis.comparison.FEWEST_GROUPS", 40)
    assert verdict(asked, strong, weak)["winner"] == "embeddings"
    monkeypatch.setattr("mammography.analysis.comparison.FEWEST_GROUPS", 41)
    found = verdict(asked, strong, weak)
    assert found["winner"] is found["low"] is None
    assert "the bootstrap of 40 groups, fewer than 41" in found["undefined"]
    assert found["difference"] > 0
