"""The baselines' files for programs: what each set of features reached, predictions, models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mammography.analysis.baselines import fitted
from mammography.analysis.fold_results import RANKING, Evaluation, Problem, folds_record
from mammography.analysis.saved_models import save_model
from mammography.archive.dialects import Label
from mammography.runs import RESEARCH_ONLY, sha256_of_file, versions, write_json, written_whole


def write_baselines(
    folder: Path,
    evaluations: tuple[Evaluation, Evaluation],
    comparison: dict[str, Any],
    problem: Problem,
    index: pl.DataFrame,
    label: Label,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write all files but the figures and report.md.

    Args:
        folder: Where to.
        evaluations: Of the embeddings and of the descriptors.
        comparison: What `compare` gave.
        problem: What was asked.
        index: The N images.
        label: What was predicted.

    Returns:
        The documents, in the order of `evaluations`.
    """
    first, second = evaluations
    documents = _document(first, problem, label), _document(second, problem, label)
    for evaluation, result in zip(evaluations, documents, strict=True):
        name = evaluation.features.name
        write_json(folder / f"{name}_cv_results.json", result)
        _write_best_model(folder / f"best_model_{name}.skops", evaluation, problem, label)
    write_json(folder / "paired_ttest_results.json", comparison)
    write_predictions(folder / "cv_predictions.csv", evaluations, problem, index, label)
    return documents


def _document(evaluation: Evaluation, problem: Problem, label: Label) -> dict[str, Any]:
    """What one set of features reached, as JSON values."""
    scheme = (
        "Each patient (or exam, where no patient is known) is predicted by what was fitted on all "
        "others"
        if problem.leave_one_out
        else f"{len(problem.folds)} folds, stratified by class, the images of a patient (or exam, "
        f"where no patient is known) together, seed {problem.seed}"
    )
    return {
        "features": evaluation.features.name,
        "what": evaluation.features.what,
        **evaluation.features.origin,
        "label": _label_record(label),
        "images": len(problem.codes),
        "groups": len(np.unique(problem.groups)),
        "scheme": scheme,
        "leave_one_group_out": problem.leave_one_out,
        "seed": problem.seed,
        "folds": folds_record(problem),
        "classifiers": evaluation.results,
        "best": evaluation.best,
        "notice": RESEARCH_ONLY,
    }


def _label_record(label: Label) -> dict[str, Any]:
    return {"name": label.name, "classes": list(label.classes), "names": list(label.names)}


def write_predictions(
    path: Path,
    evaluations: Sequence[Evaluation],
    problem: Problem,
    index: pl.DataFrame,
    label: Label,
) -> None:
    """Write cv_predictions.csv: a row per image, set of features and classifier.

    Columns: `image_id`, `exam`, `patient`, `fold` (from 1), `features`, `classifier`,
    `true_label`, `pred_label`, and `prob_CLASS` for each class with as many digits as bring the
    same number back.
    """
    fold_of = np.empty(len(problem.codes), np.int64)
    for number, fold in enumerate(problem.folds, 1):
        fold_of[fold.validation] = number
    classes = pl.Series(label.classes, dtype=label.dtype)
    images = index.select("image_id", "exam", "patient").with_columns(fold=pl.Series(fold_of))
    blocks = [
        images.with_columns(
            pl.lit(evaluation.features.name).alias("features"),
            pl.lit(classifier).alias("classifier"),
            classes.gather(problem.codes).alias("true_label"),
            classes.gather(outcome.probabilities.argmax(axis=1)).alias("pred_label"),
            *(
                pl.Series(f"prob_{name}", outcome.probabilities[:, code])
                for code, name in enumerate(problem.classes)
            ),
        )
        for evaluation in evaluations
        for classifier, outcome in evaluation.outcomes.items()
    ]
    with written_whole(path) as temporary:
        pl.concat(blocks).write_csv(temporary)


def _write_best_model(path: Path, evaluation: Evaluation, problem: Problem, label: Label) -> None:
    """Fit the best classifier on all images, and save it with a JSON file that says what it is."""
    features, best = evaluation.features, evaluation.best
    points = features.values.astype(np.float64)
    model = fitted(best, points, problem.codes, features.n_components, problem.seed)
    trusted = save_model(path, model)
    numbers = evaluation.results[best]
    write_json(
        path.with_suffix(".json"),
        {
            "file": path.name,
            "sha256": sha256_of_file(path),
            "opens_with": f"skops.io.load({path.name!r}, trusted={trusted})",
            "classifier": best,
            "features": features.name,
            "what": features.what,
            **features.origin,
            "label": _label_record(label),
            "takes": f"(images, {points.shape[1]}) float64",
            "gives": "codes: 0 is the label's first class",
            "fitted_on": f"all {len(points)} images",
            "cross_validated": {
                "mean": numbers["mean"],
                "std": numbers["std"],
                "pooled": {key: numbers["pooled"][key] for key in RANKING},
            },
            "terms": "The terms of the images, the labels and the encoder hold for this model.",
            "versions": versions(),
            "notice": RESEARCH_ONLY,
        },
    )
