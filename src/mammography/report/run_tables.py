"""Tables and a summary of several finished runs: every metric, and its spread over the runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from mammography.analysis.metrics import HEADLINE
from mammography.report.run_summaries import FinishedRun, differing_settings
from mammography.runs import RESEARCH_ONLY, git_commit, write_json, written_whole

#: What is gathered of each run; the headline numbers have intervals of their own.
METRICS = (*HEADLINE, "kappa_unweighted", "log_loss", "brier", "ece")

_PER_CLASS = ("precision", "recall", "f1")
_DEFINITIONS = {
    "std": "sample standard deviation over the runs, divisor n - 1",
    "ci95": "mean ± t(0.975, n - 1) · std / √n over the runs: how well these runs know the mean of "
    "further ones. Of seeds on one split it holds the training's chance alone, and folds of a "
    "cross-validation share training images, so either is narrower than what to expect of new "
    "patients; the intervals of each run, over its patients, are in exported_metrics.csv",
    "bal_acc_adj": "(balanced accuracy - 1/K) / (1 - 1/K), K classes",
    "kappa": "Cohen's, quadratic weights",
}


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, spread and 95 % t-interval of one metric over runs.

    Args:
        values: One per run; None where it is undefined, which leaves the run out.

    Returns:
        ``n`` (runs in which it is defined), ``mean``, ``std`` (n - 1), ``min``, ``max``,
        ``ci95_low`` and ``ci95_high`` (mean ± t(0.975, n - 1) · std / √n); null where n is too
        small.
    """
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    n = len(known)
    numbers: dict[str, Any] = dict.fromkeys(("mean", "std", "min", "max", "ci95_low", "ci95_high"))
    if n:
        mean = float(known.mean())
        numbers.update(mean=mean, min=float(known.min()), max=float(known.max()))
    if n > 1:
        std = float(known.std(ddof=1))
        half = float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n)
        numbers.update(std=std, ci95_low=mean - half, ci95_high=mean + half)
    return {"n": n, **numbers}


def best_and_worst(runs: Sequence[FinishedRun]) -> tuple[FinishedRun, FinishedRun] | None:
    """The runs with the highest and the lowest `bal_acc_adj`, the first among equals.

    None where it is undefined in every run.
    """
    ranked = [run for run in runs if run.metrics["bal_acc_adj"] is not None]
    if not ranked:
        return None

    def score(run: FinishedRun) -> float:
        return float(run.metrics["bal_acc_adj"])

    return max(ranked, key=score), min(ranked, key=score)


def write_metrics(path: Path, runs: Sequence[FinishedRun]) -> None:
    """Write `exported_metrics.csv`: a row per run, with the intervals of the headline numbers."""
    rows = []
    for run in runs:
        row: dict[str, Any] = {
            "run": run.folder.as_posix(),
            "seed": run.seed,
            "arch": run.arch,
            "weights": run.model["weights"]["name"],
            "label": run.label,
            "best_epoch": run.best_epoch,
            "epochs": len(run.history["epoch"]),
            "training_images": run.training_images,
            "validation_images": run.metrics["images"],
        }
        for name in METRICS:
            row[name] = run.metrics[name]
            if name in HEADLINE:
                interval = run.metrics["intervals"][name]
                row |= {f"{name}_low": interval["low"], f"{name}_high": interval["high"]}
        calibration = run.metrics["calibration"]
        row |= {"temperature": calibration["temperature"], "ece_after": calibration["ece_after"]}
        rows.append(row)
    _write_csv(path, rows)


def write_per_class(path: Path, runs: Sequence[FinishedRun]) -> None:
    """Write `per_class_summary.csv`: a row per class, with its numbers' spread over the runs."""
    rows = []
    for name, words in zip(runs[0].classes, runs[0].names, strict=True):
        of_runs = [run.metrics["per_class"][name] for run in runs]
        support = [each["support"] for each in of_runs]
        row: dict[str, Any] = {
            "class": name,
            "name": words,
            "runs": len(runs),
            "support_min": min(support),
            "support_max": max(support),
        }
        for metric in _PER_CLASS:
            numbers = spread([each[metric] for each in of_runs])
            row |= {
                f"{metric}_{statistic}": numbers[statistic]
                for statistic in ("n", "mean", "std", "min", "max")
            }
        rows.append(row)
    _write_csv(path, rows)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with written_whole(path) as temporary:
        pl.DataFrame(rows, infer_schema_length=None).write_csv(temporary)


def write_summary(path: Path, runs: Sequence[FinishedRun]) -> None:
    """Write `exported_summary.json`: the runs, and the spread of every metric over them."""
    extremes = best_and_worst(runs)
    images = {frozenset(run.predictions["sample_id"]) for run in runs}
    write_json(
        path,
        {
            "runs": [_record(run) for run in runs],
            "metrics": {name: spread([run.metrics[name] for run in runs]) for name in METRICS},
            "ranked_by": "bal_acc_adj",
            "best_run": extremes[0].folder.as_posix() if extremes else None,
            "worst_run": extremes[1].folder.as_posix() if extremes else None,
            "settings_that_differ": differing_settings(runs),
            "same_validation_images": len(images) == 1,
            "definitions": _DEFINITIONS,
            "git_commit": git_commit(),
            "notice": RESEARCH_ONLY,
        },
    )


def _record(run: FinishedRun) -> dict[str, Any]:
    return {
        "run": run.folder.as_posix(),
        "seed": run.seed,
        "arch": run.arch,
        "label": run.label,
        "classes": run.classes,
        "best_epoch": run.best_epoch,
        "validation_images": run.metrics["images"],
        "metrics": {name: run.metrics[name] for name in METRICS},
        "caution": run.caution,
        "git_commit": run.summary["git_commit"],
    }
