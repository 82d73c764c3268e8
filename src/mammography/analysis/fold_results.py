"""Numbers of cross-validated classifiers: fold by fold, over folds, and pooled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammography.analysis.baselines import CLASSIFIERS, Fold, OutOfFold, cross_validate
from mammography.analysis.feature_sets import FeatureSet
from mammography.analysis.metrics import classification_metrics
from mammography.analysis.statistics import bootstrap_intervals
from mammography.archive import splits
from mammography.archive.dialects import Label

log = logging.getLogger(__name__)

#: What is told of every fold, all of them better when higher.
METRICS = (
    "balanced_accuracy",
    "kappa",
    "kappa_unweighted",
    "macro_f1",
    "accuracy",
    "bal_acc_adj",
    "auc_ovr",
)

#: What classifiers are ranked by: the first that differs decides.
RANKING = METRICS[:4]

#: Numbers that decision values of an SVM cannot give.
_OF_PROBABILITIES = ("log_loss", "brier", "ece")


@dataclass(frozen=True, eq=False)
class Problem:
    """What all classifiers are asked.

    Attributes:
        codes: (N,) the true classes, as positions in `classes`.
        classes: K names.
        groups: (N,) images of one number share a patient or an exam.
        folds: In which each image validates once.
        leave_one_out: Whether each fold is one group, too small for numbers of its own.
        seed: Of the folds, the random forests and the bootstrap.
    """

    codes: NDArray[np.int64]
    classes: tuple[str, ...]
    groups: NDArray[np.int64]
    folds: Sequence[Fold]
    leave_one_out: bool
    seed: int


def problem_of(index: pl.DataFrame, label: Label, k: int | None, seed: int) -> Problem:
    """Classes and folds of an embedding set's images.

    Args:
        index: `image_id`, `patient`, `exam` and the label's column.
        label: What is to be predicted.
        k: How many folds; None to leave one group out at a time.
        seed: See `Problem`.

    Raises:
        SplitError: The images cannot be divided so.
    """
    if k is None:
        made = splits.leave_one_group_out(index)
    else:
        made = splits.folds(index, label.name, k, seed)
    row_of = {image_id: row for row, image_id in enumerate(index["image_id"])}

    def rows(image_ids: tuple[str, ...]) -> NDArray[np.int64]:
        return np.array([row_of[image_id] for image_id in image_ids], dtype=np.int64)

    code_of = {value: code for code, value in enumerate(label.classes)}
    return Problem(
        codes=np.array([code_of[value] for value in index[label.name]], dtype=np.int64),
        classes=tuple(str(value) for value in label.classes),
        groups=np.array(splits.groups_of(index), dtype=np.int64),
        folds=[Fold(rows(split.train), rows(split.validation)) for split in made],
        leave_one_out=k is None,
        seed=seed,
    )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a set of features reached.

    Attributes:
        features: What was classified.
        outcomes: By classifier, the predictions.
        results: By classifier, their numbers; see `classifier_results`.
        best: The classifier that `best_classifier` names.
    """

    features: FeatureSet
    outcomes: dict[str, OutOfFold]
    results: dict[str, Any]
    best: str


def evaluate(features: FeatureSet, problem: Problem, workers: int) -> Evaluation:
    """Cross-validate all classifiers on a set of features; see `cross_validate`."""
    log.info("%s: %s; fitting", features.name, features.what)
    outcomes = cross_validate(
        features.values,
        problem.codes,
        len(problem.classes),
        problem.folds,
        n_components=features.n_components,
        seed=problem.seed,
        workers=workers,
    )
    results = classifier_results(problem, outcomes)
    return Evaluation(features, outcomes, results, best_classifier(results))


def folds_record(problem: Problem) -> list[dict[str, Any]]:
    """How many images and groups each fold has, and its validation images by class."""
    records = []
    for number, fold in enumerate(problem.folds, 1):
        counts = np.bincount(problem.codes[fold.validation], minlength=len(problem.classes))
        records.append(
            {
                "fold": number,
                "train_images": len(fold.train),
                "train_groups": len(np.unique(problem.groups[fold.train])),
                "validation_images": len(fold.validation),
                "validation_groups": len(np.unique(problem.groups[fold.validation])),
                "validation_classes": dict(zip(problem.classes, counts.tolist(), strict=True)),
            }
        )
    return records


def classifier_results(problem: Problem, outcomes: dict[str, OutOfFold]) -> dict[str, Any]:
    """Every classifier's numbers, as JSON values.

    Returns:
        By classifier ``settings``; ``folds`` (`METRICS`, recall of each class and confusion matrix;
        none where single groups are left out), their ``mean`` and ``std`` (n - 1); ``pooled``: all
        images' predictions at once, as `classification_metrics` with ``intervals`` of the grouped
        bootstrap; ``principal_components`` and ``unconverged_folds``. A number that a fold lacks,
        such as the AUC where a class is absent, has no mean; ``undefined`` says why.
    """
    return {name: _results(problem, name, outcome) for name, outcome in outcomes.items()}


def best_classifier(results: dict[str, Any]) -> str:
    """The classifier with the highest mean balanced accuracy; ties by the rest of `RANKING`.

    The mean over folds, or the pooled number where folds have none. The first wins full ties.
    """

    def rank(name: str) -> tuple[float, ...]:
        numbers = results[name]["mean"] or results[name]["pooled"]
        return tuple(-np.inf if numbers[key] is None else numbers[key] for key in RANKING)

    return max(results, key=rank)


def _results(problem: Problem, name: str, outcome: OutOfFold) -> dict[str, Any]:
    parameters = CLASSIFIERS[name](problem.seed).get_params()
    folds = [] if problem.leave_one_out else _of_folds(problem, outcome)
    mean, std, undefined = _over_folds(folds)
    pooled = classification_metrics(problem.codes, outcome.probabilities, problem.classes)
    if name == "svm_rbf":
        pooled |= dict.fromkeys(_OF_PROBABILITIES)
        reason = "the SVM's decision values are no probabilities"
        pooled["undefined"] |= dict.fromkeys(_OF_PROBABILITIES, reason)
    pooled["intervals"] = bootstrap_intervals(
        problem.codes, outcome.probabilities, problem.groups, seed=problem.seed
    )
    return {
        "settings": {key: parameters[key] for key in sorted(parameters) if key != "n_jobs"},
        "folds": folds,
        "mean": mean,
        "std": std,
        "undefined": undefined,
        "pooled": pooled,
        "principal_components": list(outcome.components),
        "unconverged_folds": list(outcome.unconverged),
    }


def _of_folds(problem: Problem, outcome: OutOfFold) -> list[dict[str, Any]]:
    rows = []
    for number, fold in enumerate(problem.folds, 1):
        numbers = classification_metrics(
            problem.codes[fold.validation],
            outcome.probabilities[fold.validation],
            problem.classes,
        )
        rows.append(
            {
                "fold": number,
                **{key: numbers[key] for key in METRICS},
                "recall": {key: value["recall"] for key, value in numbers["per_class"].items()},
                "confusion_matrix": numbers["confusion_matrix"],
                "undefined": numbers["undefined"],
            }
        )
    return rows


def _over_folds(
    folds: list[dict[str, Any]],
) -> tuple[dict[str, Any] | None, dict[str, Any] | None, dict[str, str]]:
    """Means, standard deviations, and why a number has none."""
    if not folds:
        return None, None, {"mean": "each fold is one group of images", "std": "likewise"}
    mean: dict[str, Any] = {}
    std: dict[str, Any] = {}
    undefined = {}
    for key in METRICS:
        lacking = [fold["fold"] for fold in folds if fold[key] is None]
        if lacking:
            undefined[key] = f"undefined in fold {', '.join(map(str, lacking))}"
        values = [fold[key] for fold in folds]
        mean[key] = None if lacking else float(np.mean(values))
        std[key] = None if lacking else float(np.std(values, ddof=1))
    return mean, std, undefined
