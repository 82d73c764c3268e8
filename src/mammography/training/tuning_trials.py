"""What became of a search's trials: the table of all of them, and the best."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammography.runs import RESEARCH_ONLY, write_json, written_whole
from mammography.training.tuning_space import Value

#: What of a run's metrics is sought to be high.
METRIC = "bal_acc_adj"


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: As Optuna counts, from 0.
        state: "complete", "pruned", "failed" or "running".
        value: `METRIC` of the run; of a pruned one that of its last epoch; None where there is
            none.
        epochs: How many it was seen to do.
        best_epoch: From 1; of completed trials.
        parameters: Value by name.
        metrics: Headline metrics of completed trials.
        folder: Name of its results folder; None where it was killed before it had done an epoch.
        exit_code: Of the run, where it was completed.
        repeats: Number of the trial that it runs again.
        reason: Why it failed.
    """

    number: int
    state: str
    value: float | None
    epochs: int
    best_epoch: int | None
    parameters: Mapping[str, Value]
    metrics: Mapping[str, float | None]
    folder: str | None
    exit_code: int | None
    repeats: int | None
    reason: str | None

    @property
    def name(self) -> str:
        """What the trial's files call it."""
        return trial_name(self.number)


def trial_name(number: int) -> str:
    """What a trial's files call it."""
    return f"hpo_trial_{number:03d}"


def best_of(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The completed trial with the highest value; ties go by kappa, then AUC, then to the first."""

    def rank(trial: TrialRecord) -> tuple[float, ...]:
        values = (trial.value, trial.metrics["kappa"], trial.metrics["auc_ovr"])
        return tuple(-math.inf if value is None else value for value in values)

    return max((trial for trial in trials if trial.state == "complete"), key=rank, default=None)


def counts(trials: Sequence[TrialRecord]) -> dict[str, int]:
    """How many trials there are in each state that ends one."""
    found = Counter(trial.state for trial in trials)
    return {state: found[state] for state in ("complete", "pruned", "failed")}


def write_trials(path: Path, trials: Sequence[TrialRecord], parameters: Sequence[str]) -> None:
    """Write every trial as a row of a CSV.

    Args:
        path: Of the file.
        trials: In the order of the rows.
        parameters: Names, in the order of their columns.

    Raises:
        StoreError: The file cannot be written.
    """
    columns = ("number", "state", "value", "epochs", "best_epoch", "folder", "repeats", "reason")
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["trial", *columns[:5], *parameters, *columns[5:]])
        for trial in trials:
            values = [getattr(trial, column) for column in columns]
            tried = [trial.parameters.get(name) for name in parameters]
            table.writerow([trial.name, *values[:5], *tried, *values[5:]])


def write_best(
    path: Path, trials: Sequence[TrialRecord], importances: Mapping[str, float] | str
) -> None:
    """Write which trial was best, and what can be said of the parameters.

    Args:
        path: Of the file.
        trials: All of them; at least one is completed.
        importances: By parameter, or why there are none.

    Raises:
        StoreError: The file cannot be written.
    """
    best = best_of(trials)
    assert best is not None  # the caller's promise
    undefined = isinstance(importances, str)
    content: dict[str, Any] = {
        "trial": best.name,
        "number": best.number,
        "metric": METRIC,
        "value": best.value,
        "best_epoch": best.best_epoch,
        "parameters": dict(best.parameters),
        "metrics": dict(best.metrics),
        "folder": best.folder,
        "trials": counts(trials),
        "importances": None if undefined else importances,
        "importances_undefined": importances if undefined else None,
        "caution": "The best of several trials on the images that chose it: its numbers are too "
        "good. Train it again with other seeds, or test it on images of other patients.",
        "notice": RESEARCH_ONLY,
    }
    write_json(path, content)
