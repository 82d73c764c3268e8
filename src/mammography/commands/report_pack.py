"""``mammography report-pack``: figures and numbers of finished runs, for a paper."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from mammography.errors import StoreError, UsageError

if TYPE_CHECKING:
    from mammography.explain.examples import CamExample
    from mammography.report.density_section import Pictures
    from mammography.report.run_summaries import FinishedRun

log = logging.getLogger(__name__)

#: Correct and wrong examples of each class in the Grad-CAM figure.
_EXAMPLES = 2


@dataclass(frozen=True)
class ReportPackResult:
    """What was written.

    Attributes:
        pictures: All pictures.
        tex: The TeX file.
    """

    pictures: tuple[Path, ...]
    tex: Path


@dataclass(frozen=True)
class ReportPack:
    """Make the figures of finished train-density runs at 300 dpi, and put them into a TeX section.

    Only what is between two marker lines of the TeX file is rewritten.
    """

    NAME: ClassVar[str] = "report-pack"

    runs: Annotated[tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(name="run")]
    """A finished run, or a folder of several; each needs a seed of its own."""

    assets_dir: Path = Path("Article/assets")
    """Folder for the pictures; those of the same seed are replaced."""

    tex: Annotated[
        Path | None,
        tyro.conf.arg(
            help="TeX file to update, made if it does not exist.",
            help_behavior_hint="(default: sections/density_model.tex beside --assets-dir)",
        ),
    ] = None

    dicom_root: Annotated[
        Path | None,
        tyro.conf.arg(
            help="The archive, for the Grad-CAM figure.",
            help_behavior_hint="(default: where the run found it)",
        ),
    ] = None

    def run(self) -> ReportPackResult:
        """Draw, then write the section.

        Raises:
            UsageError: A run is unfinished or contradicts itself, two have the same seed, or the
                TeX file has no markers; nothing is written.
            StoreError: A file cannot be written.
        """
        from mammography.report.density_section import HEADING, density_section
        from mammography.report.run_summaries import read_runs
        from mammography.report.tex import open_section

        if self.dicom_root is not None and not self.dicom_root.is_dir():
            raise UsageError(f"There is no folder {self.dicom_root} (--dicom-root).")
        runs = read_runs(self.runs)
        _refuse_shared_seeds(runs)
        tex = self.tex or self.assets_dir.resolve().parent / "sections" / "density_model.tex"
        section = open_section(tex, HEADING)
        pictures = [self._draw(run) for run in runs]
        section.write(density_section(runs, [self._named(made) for made in pictures]))
        seeds = ", ".join(str(run.seed) for run in runs)
        log.info("%s: figures and metrics of seed %s", tex, seeds)
        return ReportPackResult(tuple(path for made in pictures for path in made.values()), tex)

    def _draw(self, run: FinishedRun) -> dict[str, Path]:
        """Draw one run's pictures; their paths by kind."""
        from mammography.report.evaluation_figures import confusion_figure, training_figure
        from mammography.report.explanation_figures import gradcam_figure
        from mammography.report.page import PRINT_DPI

        def path_of(kind: str) -> Path:
            return self.assets_dir / f"density_{kind}_seed{run.seed}.png"

        what = f"{run.arch}, {run.label}, seed {run.seed}"
        made = {kind: path_of(kind) for kind in ("train", "confusion")}
        training_figure(
            made["train"],
            run.history,
            f"Training: {what}",
            run.best_epoch,
            warning=run.caution,
            dpi=PRINT_DPI,
        )
        confusion_figure(
            made["confusion"],
            run.matrix,
            run.names,
            f"Confusion matrix: {what}",
            warning=run.caution,
            dpi=PRINT_DPI,
        )
        path_of("gradcam").unlink(missing_ok=True)  # an older run's, should there be none of this
        if examples := self._examples(run):
            made["gradcam"] = path_of("gradcam")
            gradcam_figure(
                made["gradcam"],
                examples,
                f"Grad-CAM: {what}",
                warning=run.caution,
                dpi=PRINT_DPI,
            )
        for path in made.values():
            log.info("%s", path)
        return made

    def _examples(self, run: FinishedRun) -> list[CamExample]:
        """Images with their maps; none, after a warning, where the images cannot be had."""
        from mammography.explain.gradcam import run_examples

        try:
            return run_examples(run.folder, self.dicom_root, _EXAMPLES, run.seed)
        except (UsageError, StoreError) as error:
            log.warning("No Grad-CAM figure for the seed %d: %s", run.seed, error)
            return []

    def _named(self, made: dict[str, Path]) -> Pictures:
        """Pictures as TeX finds them from the folder that holds the assets folder."""
        from mammography.report.density_section import Pictures

        names = {
            kind: f"{self.assets_dir.resolve().name}/{path.name}" for kind, path in made.items()
        }
        return Pictures(names["train"], names["confusion"], names.get("gradcam"))


def _refuse_shared_seeds(runs: list[FinishedRun]) -> None:
    """Pictures are named by seed."""
    folders: dict[int, Path] = {}
    for run in runs:
        if folders.setdefault(run.seed, run.folder) != run.folder:
            raise UsageError(
                f"{folders[run.seed]} and {run.folder} both have the seed {run.seed}, by which "
                "pictures are named: give one run per seed (eval-export takes the folds of a "
                "cross-validation)."
            )
