"""``mammography eval-export``: the numbers of finished runs in one table."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

if TYPE_CHECKING:
    from mammography.report.run_summaries import FinishedRun

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalExportResult:
    """What was gathered.

    Attributes:
        runs: The runs, in the order of the tables.
        best: The run with the highest `bal_acc_adj`; None where it is undefined in every run.
        worst: The run with the lowest.
    """

    runs: tuple[FinishedRun, ...]
    best: FinishedRun | None
    worst: FinishedRun | None


@dataclass(frozen=True)
class EvalExport:
    """Gather the metrics of finished train-density runs, and their spread over the runs.

    Every number is computed again from the run's predictions first; a run that is unfinished, or
    whose files contradict each other, is an error that names it.
    """

    NAME: ClassVar[str] = "eval-export"

    runs: Annotated[tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(name="run")]
    """A finished run, or a folder of several (seeds, or folds of a cross-validation)."""

    outdir: Path
    """Folder for exported_metrics.csv, exported_summary.json and per_class_summary.csv."""

    def run(self) -> EvalExportResult:
        """Gather.

        Raises:
            UsageError: A run is unfinished, contradicts itself, or does not belong to the others.
            StoreError: `outdir` cannot be written to.
        """
        from mammography.report import run_tables
        from mammography.report.run_summaries import read_runs

        runs = read_runs(self.runs)
        run_tables.write_metrics(self.outdir / "exported_metrics.csv", runs)
        run_tables.write_per_class(self.outdir / "per_class_summary.csv", runs)
        run_tables.write_summary(self.outdir / "exported_summary.json", runs)
        log.info(
            "exported_metrics.csv, exported_summary.json and per_class_summary.csv are in %s; %s",
            self.outdir, "1 run" if len(runs) == 1 else f"{len(runs)} runs",
        )  # fmt: skip
        best, worst = run_tables.best_and_worst(runs) or (None, None)
        _tell(runs, best, worst)
        return EvalExportResult(tuple(runs), best, worst)


def _tell(runs: list[FinishedRun], best: FinishedRun | None, worst: FinishedRun | None) -> None:
    """What a reader must know of the runs before the tables are opened."""
    from mammography.report.run_summaries import differing_settings
    from mammography.report.run_tables import spread

    for run in runs:
        if run.caution:
            log.warning("%s: %s", run.folder, run.caution)
    if differing := set(differing_settings(runs)) - {"seed"}:
        log.warning("The runs differ in more than their seed: %s.", ", ".join(sorted(differing)))
    if best is None or worst is None:
        log.warning("bal_acc_adj is undefined in every run: there is no best one.")
        return
    if len(runs) > 1:
        numbers = spread([run.metrics["bal_acc_adj"] for run in runs])
        log.info(
            "bal_acc_adj %.3f ± %.3f (mean and standard deviation of %d runs)",
            numbers["mean"], numbers["std"] or 0.0, numbers["n"],
        )  # fmt: skip
    log.info("best by bal_acc_adj: %s (%.3f)", best.folder, best.metrics["bal_acc_adj"])
    log.info("worst by bal_acc_adj: %s (%.3f)", worst.folder, worst.metrics["bal_acc_adj"])
