"""What a trained classifier leaves for people and for other programs: predictions and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammography.analysis.calibration import expected_calibration_error, reliability
from mammography.analysis.metrics import HEADLINE, classification_metrics, headline
from mammography.analysis.statistics import bootstrap_intervals
from mammography.archive.dialects import Label
from mammography.archive.splits import groups_of
from mammography.report.evaluation_figures import (
    confusion_figure,
    reliability_figure,
    training_figure,
)
from mammography.report.run_tables import spread
from mammography.runs import write_json, write_text, written_whole
from mammography.training.prediction_tables import exam_table, image_table

#: Columns of the manifest for whose values metrics are told, too.
_GROUPS = ("laterality", "view", "manufacturer")


@dataclass(frozen=True)
class Evaluation:
    """A classifier's word on its validation images.

    Attributes:
        frame: Their rows of the manifest.
        label: The classes.
        codes: (images,) true positions among them.
        probabilities: (images, classes), as the network gives them.
        calibrated: The same with the temperature.
        temperature: That was fitted on these very images.
        history: Of the training.
        best_epoch: Whose weights were used, from 1.
        seed: Of the bootstrap.
    """

    frame: pl.DataFrame
    label: Label
    codes: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    temperature: float
    history: dict[str, list[Any]]
    best_epoch: int
    seed: int


def write_evaluation(
    folder: Path, evaluation: Evaluation, title: str, warning: str | None
) -> dict[str, Any]:
    """Write predictions, metrics and figures into a run's folder.

    Args:
        folder: The run's.
        evaluation: What to write.
        title: Of the figures.
        warning: What whoever looks at a figure must know, or None.

    Returns:
        What `metrics/val_metrics.json` holds.
    """
    images = image_predictions(evaluation)
    with written_whole(folder / "val_predictions.csv") as path:
        images.write_csv(path)
    exams = exam_predictions(images, evaluation.label)
    with written_whole(folder / "val_predictions_exam.csv") as path:
        exams.write_csv(path)
    metrics = _metrics(evaluation, exams)
    write_json(folder / "metrics" / "val_metrics.json", metrics)
    write_text(folder / "metrics" / "val_metrics.txt", metrics_text(metrics, title))
    matrix = np.array(metrics["confusion_matrix"], np.int64)
    with written_whole(folder / "metrics" / "confusion_matrix.npy") as path, path.open("wb") as out:
        np.save(out, matrix)
    write_json(folder / "train_history.json", evaluation.history)
    names = evaluation.label.names
    confusion_figure(
        folder / "metrics" / "confusion_matrix.png", matrix, names, title, warning=warning
    )
    calibration = metrics["calibration"]
    reliability_figure(
        folder / "metrics" / "reliability.png",
        calibration["bins"],
        calibration["ece_before"],
        calibration["ece_after"],
        title,
        warning=warning,
    )
    training_figure(
        folder / "training_curves.png",
        evaluation.history,
        title,
        evaluation.best_epoch,
        warning=warning,
    )
    return metrics


def image_predictions(evaluation: Evaluation) -> pl.DataFrame:
    """One row per image: `sample_id`, labels, probabilities, calibrated ones, origin."""
    frame, named = evaluation.frame, np.array([str(value) for value in evaluation.label.classes])
    table = image_table(evaluation.label, frame, evaluation.probabilities, evaluation.calibrated)
    true = pl.Series("true_label", named[evaluation.codes].tolist(), pl.String)
    return table.insert_column(1, true).with_columns(frame["manufacturer"])


def exam_predictions(images: pl.DataFrame, label: Label) -> pl.DataFrame:
    """One row per exam, in their order: the mean probabilities of its images.

    An exam whose images bear different labels has no true one; images without an exam are left out.
    """
    one = pl.when(pl.col("true_label").n_unique() == 1).then(pl.col("true_label").first())
    labels = images.drop_nulls("exam").group_by("exam", maintain_order=True).agg(one)
    return exam_table(label, images).insert_column(3, labels["true_label"])


def _metrics(evaluation: Evaluation, exams: pl.DataFrame) -> dict[str, Any]:
    codes, probabilities, frame = evaluation.codes, evaluation.probabilities, evaluation.frame
    classes = [str(value) for value in evaluation.label.classes]
    groups = groups_of(frame)
    return {
        **classification_metrics(codes, probabilities, classes),
        "classes": classes,
        "names": list(evaluation.label.names),
        "epoch": evaluation.best_epoch,
        "intervals": bootstrap_intervals(codes, probabilities, groups, seed=evaluation.seed),
        "intervals_of": "95 %, whole patients (or exams) of the validation part drawn with "
        "replacement; the epoch was chosen on the same images, so all numbers are optimistic",
        "calibration": {
            "temperature": evaluation.temperature,
            "fitted_on": "the same validation images: ece_after is optimistic",
            "ece_before": expected_calibration_error(codes, probabilities),
            "ece_after": expected_calibration_error(codes, evaluation.calibrated),
            "bins": reliability(codes, probabilities),
        },
        "per_exam": _per_exam(exams, classes, evaluation.seed),
        "groups": {name: _by(frame[name], codes, probabilities) for name in _GROUPS},
    }


def _per_exam(exams: pl.DataFrame, classes: list[str], seed: int) -> dict[str, Any] | None:
    """Headline numbers over the exams whose images agree on a label."""
    exams = exams.filter(pl.col("true_label").is_not_null())
    if exams.is_empty():
        return None
    codes = np.array([classes.index(value) for value in exams["true_label"]], np.int64)
    probabilities = exams.select(f"prob_{name}" for name in classes).to_numpy()
    patients = exams["patient"].fill_null(pl.lit("exam ") + exams["exam"])
    return {
        "exams": exams.height,
        **headline(codes, probabilities),
        "intervals": bootstrap_intervals(codes, probabilities, patients.to_list(), seed=seed),
    }


def _by(
    values: pl.Series, codes: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> dict[str, Any]:
    """Headline numbers for each known value of a column."""
    known = values.drop_nulls().unique().sort().to_list()
    chosen = {value: (values == value).fill_null(False).to_numpy() for value in known}
    return {
        value: {"images": int(rows.sum()), **headline(codes[rows], probabilities[rows])}
        for value, rows in chosen.items()
    }


def metrics_text(metrics: dict[str, Any], title: str) -> str:
    """The metrics for people, with their intervals."""
    lines = [title, f"best epoch {metrics['epoch']}, {metrics['images']} validation images", ""]
    for name in HEADLINE:
        interval = metrics["intervals"][name]
        ends = (_shown(interval["low"]), _shown(interval["high"]))
        lines.append(f"{name:<20}{_shown(metrics[name]):>10}   [{ends[0]}, {ends[1]}]")
    lines += ["", f"{'class':<20}{'recall':>10}{'precision':>11}{'f1':>8}{'images':>8}"]
    for name, of_class in metrics["per_class"].items():
        numbers = [_shown(of_class[key]) for key in ("recall", "precision", "f1")]
        lines.append(
            f"{name:<20}{numbers[0]:>10}{numbers[1]:>11}{numbers[2]:>8}{of_class['support']:>8}"
        )
    lines += ["", metrics["intervals_of"], "Research only: not for diagnosis."]
    return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def summary_over_runs(metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean, sample standard deviation and range of the headline numbers over runs."""
    table: dict[str, Any] = {}
    for name in HEADLINE:
        numbers = spread([run[name] for run in metrics])
        kept = {key: numbers[key] for key in ("mean", "std", "min", "max")}
        table[name] = kept | {"runs": numbers["n"]}
    return table
