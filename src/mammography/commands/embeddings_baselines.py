"""``mammography embeddings-baselines``: what plain classifiers make of an embedding set."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from mammography.commands import options
from mammography.errors import NothingLeftError, StoreError, UsageError

if TYPE_CHECKING:
    from mammography.analysis.descriptor_table import DescriptorTable
    from mammography.archive.dialects import Label
    from mammography.embeddings.embedding_set import EmbeddingSet
    from mammography.preprocess.recipe import Recipe

log = logging.getLogger(__name__)

#: Smallest share of the set's images that must be readable again.
_MIN_READABLE = 0.95

#: Of fewer patients, each one that cannot be trained on is missed.
_FEW_GROUPS = 30


@dataclass(frozen=True)
class BaselinesResult:
    """What `embeddings-baselines` found.

    Attributes:
        documents: The contents of embeddings_cv_results.json and classical_cv_results.json.
        comparison: The content of paired_ttest_results.json.
        exit_code: 0, or 1 where too few images could be read again.
    """

    documents: tuple[dict[str, Any], dict[str, Any]]
    comparison: dict[str, Any]
    exit_code: int


@dataclass(frozen=True)
class EmbeddingsBaselines:
    """Cross-validate plain classifiers on embeddings, and on classical descriptors beside them.

    Logistic regression, SVM and random forest predict the set's labels on the same
    patient-grouped, stratified folds. A winner is named only where the interval says so. Exit code
    1 where less than 95 % of the images could be read again for the descriptors.
    """

    NAME: ClassVar[str] = "embeddings-baselines"

    embeddings_dir: Path
    """Folder of a finished embedding set, made with labels."""

    outdir: Path = Path("outputs/embeddings_baselines")
    """Folder of report.md and the numbers behind it."""

    cv_folds: int = 5
    """Folds of the cross-validation."""

    random_seed: int = 42
    """Seed of the folds, the random forests and the bootstrap."""

    n_components: int = 50
    """Principal components that the classical descriptors are reduced to, at most."""

    descriptors: Literal["basic", "texture"] = "basic"
    """basic: brightness of the whole picture; texture: inside the breast, LBP, GLCM, dense area."""

    leave_one_group_out: bool = False
    """Predict each patient by what was fitted on all others; for small sets."""

    dicom_root: Annotated[
        Path | None,
        tyro.conf.arg(
            help="Folder of the archive, which the descriptors are computed from.",
            help_behavior_hint="(default: the one that was embedded)",
        ),
    ] = None

    num_workers: int | Literal["auto"] = "auto"
    """Processes that describe images, and threads that fit; auto is one per core."""

    def run(self) -> BaselinesResult:
        """Describe, cross-validate, compare.

        Raises:
            UsageError: Options that make no sense, a set without labels, or an archive that is
                gone.
            SplitError: The images cannot be divided so.
            NothingLeftError: No image could be read again.
            StoreError: `embeddings_dir` holds no finished set; `outdir` holds other results, is in
                use, or cannot be written to.
        """
        from mammography.embeddings.embedding_set import load_embeddings
        from mammography.embeddings.origin import archive_of, label_of, recipe_of
        from mammography.runs import RESEARCH_ONLY, run_folder

        self._check()
        with run_folder(self.outdir, self) as summary:
            log.info("mammography embeddings-baselines: %s", RESEARCH_ONLY)
            embeddings = load_embeddings(self.embeddings_dir)
            label, recipe = label_of(embeddings), recipe_of(embeddings)
            root = self.dicom_root or archive_of(embeddings)
            made_from = self._made_from(embeddings, recipe, root)
            self._refuse_other_results(made_from)
            result = self._run(embeddings, label, recipe, root)
            summary.update(
                exit_code=result.exit_code,
                made_from=made_from,
                images=result.documents[0]["images"],
                best={each["features"]: each["best"] for each in result.documents},
                verdict=result.comparison["verdict"],
            )
        return result

    def _check(self) -> None:
        if self.cv_folds < 2:
            raise UsageError(f"--cv-folds must be at least 2, not {self.cv_folds}.")
        if not 0 <= self.random_seed < 2**32:
            raise UsageError(f"--random-seed is from 0 to 4294967295, not {self.random_seed}.")
        if self.n_components < 1:
            raise UsageError(f"--n-components must be at least 1, not {self.n_components}.")
        if self.num_workers != "auto" and self.num_workers < 1:
            raise UsageError(f"--num-workers must be at least 1, not {self.num_workers}.")
        if self.dicom_root is not None and not self.dicom_root.is_dir():
            raise UsageError(f"There is no folder {self.dicom_root} (--dicom-root).")

    def _made_from(self, embeddings: EmbeddingSet, recipe: Recipe, root: Path) -> dict[str, str]:
        """What tells this set and its images from any other, to the bit."""
        from mammography.analysis.descriptor_table import made_from
        from mammography.analysis.descriptors import DESCRIPTORS
        from mammography.embeddings.embedding_set import FEATURES
        from mammography.runs import canonical_json, sha256_of_file, sha256_of_text

        images = made_from(
            root, embeddings.index, DESCRIPTORS[self.descriptors], recipe, _max_pixels(embeddings)
        )
        return {
            "fingerprint": embeddings.fingerprint,
            "features": sha256_of_file(embeddings.folder / FEATURES),
            "index": sha256_of_text(embeddings.index.write_csv()),
            "images": sha256_of_text(canonical_json(images)),
        }

    def _refuse_other_results(self, made_from: dict[str, str]) -> None:
        """Finished results are only made again where they would come out the same."""
        from mammography.runs import config_of

        path = self.outdir / "summary.json"
        if not path.exists():
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        if before.get("exit_code", 2) == 2:
            return
        was = before["config"] | before.get("made_from", {})
        wanted = config_of(self) | made_from
        ours = set(wanted) - {"outdir", "num_workers", "embeddings_dir", "dicom_root"}
        if differing := sorted(name for name in ours if was.get(name) != wanted[name]):
            told = "; ".join(
                f"{name} was {was.get(name)!s:.20} and is {wanted[name]!s:.20}"
                for name in differing
            )
            raise StoreError(
                f"{self.outdir} holds the results of another run: {told}. Choose another --outdir."
            )

    def _run(
        self, embeddings: EmbeddingSet, label: Label, recipe: Recipe, root: Path
    ) -> BaselinesResult:
        from mammography.analysis.comparison import compare
        from mammography.analysis.descriptors import DESCRIPTORS
        from mammography.analysis.feature_sets import of_descriptors, of_embeddings
        from mammography.analysis.fold_results import evaluate, problem_of
        from mammography.report.baselines_files import write_baselines
        from mammography.report.embedding_report import caution

        kind, workers = DESCRIPTORS[self.descriptors], options.workers_of(self)
        table = self._described(embeddings, recipe, root)
        index = embeddings.index[table.rows]
        folds = None if self.leave_one_group_out else self.cv_folds
        problem = problem_of(index, label, folds, self.random_seed)
        if folds and (groups := int(problem.groups.max()) + 1) < _FEW_GROUPS:
            log.info(
                "%d patients or exams are few: with --leave-one-group-out all but one of them are "
                "fitted on", groups,
            )  # fmt: skip
        ours = evaluate(of_embeddings(embeddings, table.rows), problem, workers)
        classical = of_descriptors(kind, table.values, recipe, self.n_components)
        theirs = evaluate(classical, problem, workers)
        comparison = compare(problem, ours, theirs)
        documents = write_baselines(self.outdir, (ours, theirs), comparison, problem, index, label)
        self._report(documents, comparison, caution(embeddings), len(table.rejected))
        share = len(table.rows) / len(embeddings)
        if share < _MIN_READABLE:
            log.warning(
                "Only %.1f %% of the images could be read again, less than %.0f %%: look at %s "
                "before you use these numbers.",
                100 * share, 100 * _MIN_READABLE, self.outdir / "rejects.csv",
            )  # fmt: skip
        exit_code = int(share < _MIN_READABLE)
        return BaselinesResult(documents, comparison, exit_code)

    def _described(self, embeddings: EmbeddingSet, recipe: Recipe, root: Path) -> DescriptorTable:
        """The descriptors; what could not be read again is in rejects.csv."""
        from mammography.analysis.descriptor_table import described
        from mammography.analysis.descriptors import DESCRIPTORS
        from mammography.commands.progress import progress
        from mammography.runs import written_whole

        log.info("%s descriptors of %d images of %s", self.descriptors, len(embeddings), root)
        with progress(len(embeddings)) as advance:
            table = described(
                self.outdir / "descriptors",
                root,
                embeddings.index,
                DESCRIPTORS[self.descriptors],
                recipe,
                max_pixels=_max_pixels(embeddings),
                workers=options.workers_of(self),
                progress=advance,
            )
        with written_whole(self.outdir / "rejects.csv") as path:
            table.rejects(embeddings.index).write_csv(path)
        if table.rejected:
            log.warning(
                "%d of %d images cannot be read again and count in neither set of features; see %s",
                len(table.rejected), len(embeddings), self.outdir / "rejects.csv",
            )  # fmt: skip
        if not len(table.rows):
            first = next(iter(table.rejected.values()))
            raise NothingLeftError(
                f"None of the {len(embeddings)} images could be read below {root} (such as: "
                f"{first}): say with --dicom-root where they are."
            )
        return table

    def _report(
        self,
        documents: Sequence[dict[str, Any]],
        comparison: dict[str, Any],
        warning: str | None,
        left_out: int,
    ) -> None:
        """Figures and report.md, and the verdict for the screen."""
        from mammography.report.baselines_report import (
            verdict_words,
            write_confusion,
            write_report,
        )

        for document in documents:
            name = document["features"]
            path = self.outdir / f"confusion_matrix_{name}.png"
            write_confusion(path, document, warning if name == "embeddings" else None)
        write_report(self.outdir / "report.md", documents, comparison, warning, left_out)
        log.info("%s", verdict_words(documents, comparison).replace("**", ""))
        log.info("report.md and the numbers behind it are in %s", self.outdir)


def _max_pixels(embeddings: EmbeddingSet) -> int:
    """What the images were refused by when they were embedded."""
    return int(embeddings.record["made_from"]["max_pixels"])
