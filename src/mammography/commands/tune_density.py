"""``mammography tune-density``: search for good parameters of `train-density`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from mammography.commands.train_density import TrainDensity

if TYPE_CHECKING:
    from mammography.training.tuning_trials import TrialRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuneDensityResult:
    """What a search came to.

    Attributes:
        trials: All trials of the study, in their order.
        best: The best completed one; None where only the search space was written.
        exit_code: 0, or 1 where too little of the archive could be read.
    """

    trials: tuple[TrialRecord, ...]
    best: TrialRecord | None
    exit_code: int


@dataclass(frozen=True)
class TuneDensity(TrainDensity):
    """Search for the learning rates, batch size… with which train-density does best.

    Each trial is a run of train-density with the options below, but for those that are searched.
    The best has the highest bal_acc_adj on the validation images. The same command goes on with a
    study that was interrupted. Exit code 1 where less than --min-readable of the images could be
    read.
    """

    NAME: ClassVar[str] = "tune-density"

    csv: Path = Path("classificacao.csv")
    """Label table: one row per exam (AccessionNumber) or per image (path, file name or UID)."""

    dicom_root: Path = Path("archive")
    """Folder of the archive; images are found by content, at any depth."""

    outdir: Path = Path("outputs/mammo_efficientnetb0_density")
    """Folder of the study; its trials go to hpo_runs/results, hpo_runs/results_1, … below it."""

    trials: int = 20
    """Trials of the study in all, with those of earlier sessions; one that is done again is one."""

    space: Annotated[
        Path | None,
        tyro.conf.arg(
            help="Search space: a .json or .toml file as --write-space writes it.",
            help_behavior_hint="(default: the published one)",
        ),
    ] = None

    write_space: Annotated[
        Path | None,
        tyro.conf.arg(
            help="Write the published search space to this .json or .toml file, and do no more.",
            help_behavior_hint="(optional)",
        ),
    ] = None

    prune: bool = True
    """End trials early whose best epoch so far is below the median of the others."""

    prune_after: Annotated[
        int | None,
        tyro.conf.arg(
            help="Epochs that every trial may train, whatever it is worth.",
            help_behavior_hint="(default: the longest warm-up that is tried)",
        ),
    ] = None

    prune_trials: int = 5
    """Trials that must have come to their end before any is ended early."""

    engine: Literal["optuna", "ray"] = "optuna"
    """One trial after the other in this process, or Ray Tune; needs the extra tune or ray."""

    ray_address: Annotated[
        str | None,
        tyro.conf.arg(
            help="Address of a Ray cluster, whose machines see the same folders.",
            help_behavior_hint="(default: Ray is started on this machine)",
        ),
    ] = None

    ray_trials: int = 1
    """Trials that Ray runs at once."""

    ray_cores: Annotated[
        int | None,
        tyro.conf.arg(
            help="Processor cores for each of them.",
            help_behavior_hint="(default: those of this machine, shared out)",
        ),
    ] = None

    def run(self) -> TuneDensityResult:  # type: ignore[override]  # what it shares is options
        """Search.

        Raises:
            UsageError: Options that make no sense, or a search space that is none.
            MissingExtraError: Optuna or Ray is not installed.
            StoreError: `outdir` holds the study of another search.
            NothingLeftError: No trial was completed.
            MammographyError: What a trial raised; see `TrainDensity.run`.
        """
        from mammography.commands.tuning_options import check, space_of
        from mammography.training.tuning_space import PUBLISHED, write_space

        if self.write_space:
            write_space(self.write_space, PUBLISHED)
            log.info("%s; edit it, and give it to --space", self.write_space)
            return TuneDensityResult((), None, 0)
        space = space_of(self)
        check(self, space)
        from mammography.commands.tuning_run import search  # needs Optuna, which `check` looks for

        trials, best, exit_code = search(self, space)
        return TuneDensityResult(tuple(trials), best, exit_code)
