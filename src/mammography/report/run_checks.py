"""Whether the files of a run agree: a number is passed on only if it can be computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mammography.analysis.metrics import classification_metrics

#: Stored and recomputed numbers may differ by this much: tables may hold rounded probabilities.
_TOLERANCE = 1e-6


def wrong_epoch(
    metrics: Mapping[str, Any], summary: Mapping[str, Any], history: Mapping[str, Sequence[Any]]
) -> str | None:
    """Why the metrics are not those of the epoch with the highest `bal_acc_adj`, or None.

    Args:
        metrics: `val_metrics.json`.
        summary: `summary.json`.
        history: `train_history.json`.
    """
    epoch, kept = metrics["epoch"], summary["best_epoch"]
    if epoch != kept:
        return f"val_metrics.json is of epoch {epoch}, but summary.json says {kept} was kept"
    if epoch not in history["epoch"]:
        return f"val_metrics.json is of epoch {epoch}, which train_history.json does not have"
    scores = {
        number: score
        for number, score in zip(history["epoch"], history["val_bal_acc_adj"], strict=True)
        if score is not None
    }
    best = max(scores, key=lambda number: scores[number], default=epoch)
    if scores and scores[best] > scores.get(epoch, -np.inf) + _TOLERANCE:
        return f"val_metrics.json is of epoch {epoch}, but epoch {best} had a higher bal_acc_adj"
    return None


def contradiction(
    metrics: Mapping[str, Any], matrix: npt.NDArray[np.int64], predictions: pl.DataFrame
) -> str | None:
    """The first number that does not follow from the predictions, in words, or None.

    Args:
        metrics: `val_metrics.json`.
        matrix: `confusion_matrix.npy`, (K, K).
        predictions: `val_predictions.csv`; every column is text.

    Raises:
        KeyError, ValueError, pl.exceptions.PolarsError: They are not what a run writes.
    """
    classes = [str(name) for name in metrics["classes"]]
    codes = {name: code for code, name in enumerate(classes)}
    true = np.array([codes[name] for name in predictions["true_label"]], dtype=np.int64)
    columns = [predictions[f"prob_{name}"].cast(pl.Float64).to_numpy() for name in classes]
    probabilities = np.stack(columns, axis=1)
    likeliest = [classes[code] for code in probabilities.argmax(axis=1)]
    labelled = predictions["pred_label"].to_list()
    for sample, label, follows in zip(predictions["sample_id"], labelled, likeliest, strict=True):
        if label != follows:
            return f"val_predictions.csv predicts {label} of {sample}, its probabilities {follows}"
    computed = classification_metrics(true, probabilities, classes)
    computed.pop("undefined")  # the same numbers, in words that may change
    if matrix.tolist() != computed["confusion_matrix"]:
        return "confusion_matrix.npy does not follow from val_predictions.csv"
    return _difference(metrics, computed)


def _difference(
    stored: Mapping[str, Any], computed: Mapping[str, Any], within: str = ""
) -> str | None:
    """The first number of `computed` that `stored` has otherwise."""
    for name, expected in computed.items():
        value = stored.get(name)
        if isinstance(expected, Mapping) and isinstance(value, Mapping):
            if found := _difference(value, expected, f"{within}{name}."):
                return found
        elif not _equal(value, expected):
            return (
                f"{within}{name} is {value} in val_metrics.json, but {expected} by the "
                "probabilities of val_predictions.csv"
            )
    return None


def _equal(stored: Any, computed: Any) -> bool:
    if isinstance(stored, int | float) and isinstance(computed, int | float):
        return abs(stored - computed) <= _TOLERANCE
    return bool(stored == computed)
