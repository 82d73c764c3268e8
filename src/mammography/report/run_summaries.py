"""Finished runs of `train-density`: finding their folders, and reading them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mammography.errors import UsageError
from mammography.report.run_checks import contradiction, wrong_epoch

_HISTORY, _METRICS, _MATRIX, _PREDICTIONS = (
    "train_history.json",
    "metrics/val_metrics.json",
    "metrics/confusion_matrix.npy",
    "val_predictions.csv",
)
_FILES = ("summary.json", "model.json", "split.csv", _HISTORY, _METRICS, _MATRIX, _PREDICTIONS)

#: Settings that say where a run lies, not what it is.
_PLACES = frozenset({"outdir", "cv_outdir", "seeds", "resume"})


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """One finished run, its files read.

    Attributes:
        folder: As the user named it, or below what they named.
        summary: `summary.json`.
        model: `model.json`.
        metrics: `metrics/val_metrics.json`: those of the best epoch.
        history: `train_history.json`.
        matrix: (K, K) confusion matrix, true class × predicted.
        predictions: `val_predictions.csv`; every column is text.
        training_images: Images that it was trained on.
    """

    folder: Path
    summary: dict[str, Any]
    model: dict[str, Any]
    metrics: dict[str, Any]
    history: dict[str, list[Any]]
    matrix: npt.NDArray[np.int64]
    predictions: pl.DataFrame
    training_images: int

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.summary["seed"])

    @property
    def arch(self) -> str:
        """The encoder's name."""
        return str(self.summary["arch"])

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept, as the history counts."""
        return int(self.metrics["epoch"])

    @property
    def classes(self) -> list[str]:
        """The classes as columns and keys name them."""
        return [str(value) for value in self.metrics["classes"]]

    @property
    def names(self) -> list[str]:
        """The classes as people call them."""
        return [str(name) for name in self.metrics["names"]]

    @property
    def label(self) -> str:
        """The manifest's column that is predicted, such as "density"."""
        return str(self.model["label"]["name"])

    @property
    def caution(self) -> str | None:
        """What must be said wherever the run's numbers are shown, or None."""
        weights, sentences = self.model["weights"], []
        if not weights["trained"]:
            sentences.append(f"The encoder started untrained: its weights were {weights['name']}.")
        if self.summary["exit_code"] == 1:
            share = 100 * self.summary["readable_share"]
            sentences.append(f"Only {share:.1f} % of the archive's images could be read.")
        return " ".join(sentences) or None


def read_runs(given: Sequence[Path]) -> list[FinishedRun]:
    """Read finished runs, of which the numbers may be put side by side.

    Args:
        given: Run folders, or folders that hold some: `results`, `results_1`… of several seeds,
            or `fold_1/results`… of a cross-validation.

    Raises:
        UsageError: There is no run, one is unfinished or contradicts itself, one is there twice,
            or they do not predict the same classes.
    """
    if not given:
        raise UsageError("Name at least one finished run: --run RESULTS.")
    runs = [read_run(folder) for folder in find_runs(given)]
    first = runs[0]
    contents: dict[bytes, Path] = {}
    for run in runs:
        if (run.label, run.classes) != (first.label, first.classes):
            raise UsageError(
                f"{first.folder} predicts {first.label} ({', '.join(first.classes)}) and "
                f"{run.folder} {run.label} ({', '.join(run.classes)}): their numbers cannot be "
                "put together."
            )
        twin = contents.setdefault((run.folder / _PREDICTIONS).read_bytes(), run.folder)
        if twin != run.folder:
            raise UsageError(
                f"{run.folder} holds the same predictions as {twin}: one is a copy of the other "
                "or the same seed again, and counting it twice would make the spread too small. "
                "Leave one out."
            )
    return runs


def find_runs(given: Iterable[Path]) -> list[Path]:
    """The run folders among these folders and those below them, `fold_2` before `fold_10`.

    Raises:
        UsageError: A folder does not exist, or a run is named twice.
    """
    found: list[Path] = []
    for folder in given:
        if not folder.is_dir():
            raise UsageError(f"There is no folder {folder} (--run).")
        inner = [
            path
            for pattern in ("results*", "fold_*/results*")
            for path in folder.glob(pattern)
            if path.is_dir() and re.fullmatch(r"results(_\d+)?", path.name)
        ]
        found += sorted(inner, key=_natural) or [folder]
    seen: set[Path] = set()
    for folder in found:
        if folder.resolve() in seen:
            raise UsageError(f"{folder} is named twice (--run).")
        seen.add(folder.resolve())
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    """A sorting key in which 2 comes before 10."""
    return [(int(part or 0), text) for text, part in re.findall(r"([^\d]+)(\d*)", path.as_posix())]


def read_run(folder: Path) -> FinishedRun:
    """Read one finished run, and check that its files agree with each other.

    Raises:
        UsageError: It is not finished, a file cannot be read, or numbers disagree.
    """
    _refuse_unfinished(folder)
    split = _table(folder / "split.csv", ["split"])
    metrics = _json(folder / _METRICS)
    columns = ["sample_id", "true_label", "pred_label"]
    try:
        columns += [f"prob_{name}" for name in metrics["classes"]]
        run = FinishedRun(
            folder=folder,
            summary=_json(folder / "summary.json"),
            model=_json(folder / "model.json"),
            metrics=metrics,
            history=_json(folder / _HISTORY),
            matrix=np.load(folder / _MATRIX, allow_pickle=False),
            predictions=_table(folder / _PREDICTIONS, columns),
            training_images=int((split["split"] == "train").sum()),
        )
        found = wrong_epoch(run.metrics, run.summary, run.history) or contradiction(
            run.metrics, run.matrix, run.predictions
        )
    except (KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise UsageError(
            f"{folder} cannot be read as a run of train-density ({error!r}); it may be of another "
            "version."
        ) from error
    if found:
        raise UsageError(
            f"{folder} contradicts itself: {found}. One of its files was changed, or is of another "
            "epoch or run: train again, or leave it out."
        )
    return run


def _refuse_unfinished(folder: Path) -> None:
    missing = [name for name in _FILES if not (folder / name).is_file()]
    summary = {} if "summary.json" in missing else _json(folder / "summary.json")
    if summary.get("command", "train-density") != "train-density":
        raise UsageError(f"{folder} is a run of {summary['command']}, not of train-density.")
    if summary.get("exit_code") == 2:
        raise UsageError(
            f"{folder} is not finished; it gave up with: {summary.get('error')} Leave it out."
        )
    if missing:
        raise UsageError(
            f"{folder} is no finished run of train-density: it lacks {', '.join(missing)}. Finish "
            "it with --resume, or leave it out."
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no object.")
    return content


def _table(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """A CSV whose cells are text: identifiers keep their zeros."""
    try:
        table = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    if missing := [name for name in columns if name not in table.columns]:
        raise UsageError(f"{path} has no column {', '.join(missing)}.")
    return table


def differing_settings(runs: Sequence[FinishedRun]) -> list[str]:
    """The settings in which runs differ, other than where they lie."""
    configs = [run.summary["config"] for run in runs]
    names = dict.fromkeys(name for config in configs for name in config)
    return [
        name
        for name in names
        if name not in _PLACES
        and any(config.get(name) != configs[0].get(name) for config in configs)
    ]
