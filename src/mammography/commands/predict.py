"""``mammography predict``: what a trained classifier says of images without labels."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from mammography.commands import options
from mammography.errors import ImageRejected, NothingLeftError, StoreError, UsageError

if TYPE_CHECKING:
    import polars as pl

    from mammography.archive.manifest import Manifest
    from mammography.embeddings.embedding_set import EmbeddingSet
    from mammography.embeddings.store import PartialSet
    from mammography.encoders.backends import Backend
    from mammography.encoders.records import EncoderInfo
    from mammography.training.model_files import TrainedModel
    from mammography.training.prediction import Answer

log = logging.getLogger(__name__)

IMAGES, EXAMS, REJECTS = "image_predictions.csv", "exam_predictions.csv", "rejects.csv"
ONE = "prediction.json"


@dataclass(frozen=True)
class PredictResult:
    """Predictions for an archive.

    Attributes:
        images: A row per image: `image_predictions.csv`.
        exams: A row per exam: `exam_predictions.csv`.
        rejects: What could not be predicted: `mammography.tables.REJECT_COLUMNS`.
        readable_share: Readable images of all image files.
        exit_code: 0, or 1 where too little of the archive could be read.
    """

    images: pl.DataFrame
    exams: pl.DataFrame
    rejects: pl.DataFrame
    readable_share: float
    exit_code: int


@dataclass(frozen=True)
class Predict:
    """Ask a trained classifier about an archive of mammograms, or about one image.

    No labels are needed. What the model's recipe cannot take is listed in rejects.csv; one image
    alone is refused with the reason. Killed at any time, the same command goes on where it
    stopped. Exit code 1 where less than --min-readable of the archive could be read.
    """

    NAME: ClassVar[str] = "predict"

    run_dir: Annotated[Path, tyro.conf.arg(name="run")]
    """Results folder of a finished train-density run."""

    dicom_root: Path | None = None
    """Folder of the archive; with --image, only for models that were trained with embeddings."""

    image: Path | None = None
    """Ask about this file alone, and print the answer."""

    outdir: Annotated[
        Path | None,
        tyro.conf.arg(
            help="Folder for the predictions.",
            help_behavior_hint="(default: outputs/predictions; for --image, none is written)",
        ),
    ] = None

    embeddings_dir: Path | None = None
    """Embedding set of the same images, for a model that was trained with embeddings."""

    json: bool = False
    """With --image: print the answer as JSON, and nothing else on standard output."""

    min_readable: float = 0.95
    """Smallest share of readable images that passes, from 0 to 1."""

    # mammography.dicom.pixels.DEFAULT_MAX_PIXELS, which is too slow to import for --help
    max_pixels: int = 100_000_000
    """Images that claim more pixels are refused before memory is taken."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the network runs on an archive."""

    backend: Literal["auto", "torch", "openvino"] = "auto"
    """What runs it; on the CPU, auto is OpenVINO where it is installed."""

    batch_size: int | Literal["auto"] = "auto"
    """Images a batch; auto is 8 on the CPU and 64 elsewhere."""

    num_workers: int | Literal["auto"] = "auto"
    """Processes that decode; auto is one per core."""

    def run(self) -> PredictResult | Answer:
        """Predict.

        Raises:
            UsageError: Options that make no sense, or embeddings that are missing or not needed.
            ImageRejected: `image` cannot be used.
            NothingLeftError: No image of the archive is left; the rejects are saved before.
            StoreError: There is no finished run; embeddings do not fit; `outdir` holds something
                else, is in use, or cannot be written to.
            WeightsError: The run's model is damaged.
        """
        self._check()
        return self._predict_archive() if self.image is None else self._predict_image(self.image)

    def _check(self) -> None:
        if not 0 <= self.min_readable <= 1:
            raise UsageError(f"--min-readable is a share from 0 to 1, not {self.min_readable}.")
        for name in ("batch_size", "num_workers", "max_pixels"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}.")
        if self.image is None and self.dicom_root is None:
            raise UsageError("Say what to predict: an archive (--dicom-root) or a file (--image).")
        if self.dicom_root is not None and not self.dicom_root.is_dir():
            raise UsageError(f"There is no folder {self.dicom_root} (--dicom-root).")
        if self.json and self.image is None:
            raise UsageError(f"--json is for --image; an archive's predictions are in {IMAGES}.")
        if self.outdir and self.dicom_root and self.outdir.resolve() == self.dicom_root.resolve():
            raise UsageError("--outdir must be another folder than --dicom-root.")

    def _predict_image(self, image: Path) -> Answer:
        """Print the answer for one image, and save it where `outdir` says."""
        from mammography.runs import RESEARCH_ONLY, run_folder, write_json

        log.info("mammography predict: %s", RESEARCH_ONLY)
        if self.outdir is None:
            return self._answer(image)[0]
        with run_folder(self.outdir, self) as summary:
            _refuse_used(self.outdir)
            answer, record = self._answer(image)
            write_json(self.outdir / ONE, record)
            summary.update(exit_code=0, images=1)
        return answer

    def _answer(self, image: Path) -> tuple[Answer, dict[str, Any]]:
        """Ask about one image and print the answer; it and its record."""
        from mammography.runs import RESEARCH_ONLY
        from mammography.training.fused import embedding_of_file
        from mammography.training.model_files import load_model
        from mammography.training.prediction import about, ask, tensor_of

        model = load_model(self.run_dir)
        _warn(model)
        embedding = embedding_of_file(model, self.embeddings_dir, self.dicom_root, image)
        try:
            answer = ask(model, tensor_of(model, image, self.max_pixels), embedding)
        except ImageRejected as verdict:
            raise ImageRejected(verdict.code, f"{image}: {verdict.reason}.") from verdict
        record = {"image": image.as_posix(), **answer.record(), **about(model)}
        record |= {"notice": RESEARCH_ONLY}
        if self.json:
            sys.stdout.write(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        else:
            _print_answer(answer)
        return answer, record

    def _predict_archive(self) -> PredictResult:
        from mammography.embeddings.store import PARTS
        from mammography.runs import RESEARCH_ONLY, run_folder
        from mammography.training.fused import open_embeddings, refuse_mismatch
        from mammography.training.model_files import load_model
        from mammography.training.prediction import about, running_encoder

        assert self.dicom_root is not None  # _check
        outdir = self.outdir or Path("outputs/predictions")
        with run_folder(outdir, replace(self, outdir=outdir)) as summary:
            log.info("mammography predict: %s", RESEARCH_ONLY)
            _refuse_used(outdir)
            model = load_model(self.run_dir)
            _warn(model)
            embeddings = open_embeddings(model, self.embeddings_dir)
            manifest = self._manifest(self.dicom_root, outdir)
            if embeddings is not None:
                refuse_mismatch(manifest, embeddings)
            with running_encoder(
                model,
                device=self.device,
                backend=self.backend,
                batch_size=None if self.batch_size == "auto" else self.batch_size,
            ) as (info, backend):
                target, manifest = self._extract(
                    self.dicom_root, outdir, manifest, model, info, backend
                )
            result = self._result(outdir, manifest, model, target, embeddings)
            summary.update(
                exit_code=result.exit_code,
                images=result.images.height,
                exams=result.exams.height,
                readable_share=result.readable_share,
                **about(model),
                **backend.record(),
            )
        shutil.rmtree(outdir / PARTS)  # now that the summary keeps other models out
        return result

    def _manifest(self, root: Path, outdir: Path) -> Manifest:
        """The archive's images; rejects are saved even where nothing is left."""
        from mammography.archive.manifest import EmptyManifestError, build_manifest

        try:
            return build_manifest(root, None, workers=options.workers_of(self), exclude=[outdir])
        except EmptyManifestError as error:
            _save(error.manifest.rejects, outdir / REJECTS)
            raise

    def _extract(
        self,
        root: Path,
        outdir: Path,
        manifest: Manifest,
        model: TrainedModel,
        info: EncoderInfo,
        backend: Backend,
    ) -> tuple[PartialSet, Manifest]:
        """Compute the features that are missing; they, and the manifest without rejects."""
        from mammography.commands.progress import progress
        from mammography.embeddings.extract import extract
        from mammography.embeddings.provenance import made_from
        from mammography.embeddings.store import PartialSet
        from mammography.preprocess.grays_levels import as_trained

        paths = manifest.frame["path"].to_list()
        key = made_from(root, manifest, model.recipe, info, backend, self.max_pixels)
        target = PartialSet(outdir, key, len(paths), part_rows=max(128, backend.batch_size))
        done = len(paths) - target.rows_missing()
        log.info(
            "%s on %s in %s, batches of %d",
            backend.name, backend.device, backend.precision, backend.batch_size,
        )  # fmt: skip
        if done:
            log.info("continuing: %d of %d images were done", done, len(paths))
        with progress(len(paths), done) as advance:
            extract(
                root,
                paths,
                target,
                model.recipe,
                backend,
                workers=options.workers_of(self),
                max_pixels=self.max_pixels,
                progress=advance,
                prepare=as_trained,
            )
        verdicts = {paths[row]: verdict for row, verdict in target.rejected().items()}
        manifest = manifest.without(verdicts)
        _save(manifest.rejects, outdir / REJECTS)
        if manifest.frame.is_empty():
            raise NothingLeftError(
                f"None of the {len(paths)} images could be read; {outdir / REJECTS} says why for "
                "each."
            )
        return target, manifest

    def _result(
        self,
        outdir: Path,
        manifest: Manifest,
        model: TrainedModel,
        target: PartialSet,
        embeddings: EmbeddingSet | None,
    ) -> PredictResult:
        """Features to probabilities; write the tables, and say what there is."""
        from mammography.archive.audit import readable_share
        from mammography.training.prediction import logits_of
        from mammography.training.prediction_tables import exam_table, image_table

        logits = logits_of(model, target, manifest.frame, embeddings)
        images = image_table(
            model.label,
            manifest.frame,
            model.probabilities(logits),
            model.probabilities(logits, model.temperature),
        )
        exams = exam_table(model.label, images)
        _save(images, outdir / IMAGES)
        _save(exams, outdir / EXAMS)
        readable, unreadable = readable_share(manifest)
        share = readable / (readable + unreadable)
        exit_code = 0 if share >= self.min_readable else 1
        _tell(outdir, model, images, exams, manifest)
        if exit_code:
            log.warning(
                "Only %.1f %% of the images could be read, less than --min-readable %.1f %%: look "
                "at %s.", 100 * share, 100 * self.min_readable, outdir / REJECTS,
            )  # fmt: skip
        return PredictResult(images, exams, manifest.rejects, share, exit_code)


def _refuse_used(outdir: Path) -> None:
    """Earlier predictions are never overwritten, unless there were none."""
    summary = outdir / "summary.json"
    if summary.exists() and json.loads(summary.read_text("utf-8")).get("exit_code") != 2:
        raise StoreError(f"{outdir} holds earlier predictions; choose another --outdir.")


def _save(table: pl.DataFrame, path: Path) -> None:
    from mammography.runs import written_whole

    with written_whole(path) as temporary:
        table.write_csv(temporary)


def _warn(model: TrainedModel) -> None:
    from mammography.training.prediction import caution

    if found := caution(model):
        log.warning("%s", found)


def _print_answer(answer: Answer) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("class", "probability", "calibrated", title=answer.label.name)
    rows = zip(answer.label.names, answer.probabilities, answer.calibrated, strict=True)
    for code, (name, probability, calibrated) in enumerate(rows):
        style = "bold" if code == answer.code else None
        table.add_row(name, f"{probability:.3f}", f"{calibrated:.3f}", style=style)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"predicted: {answer.name}", markup=False)


def _tell(
    outdir: Path,
    model: TrainedModel,
    images: pl.DataFrame,
    exams: pl.DataFrame,
    manifest: Manifest,
) -> None:
    """What came out, and what is in no table."""
    alone = images["exam"].null_count()
    if alone:
        log.warning(
            "%d images have no AccessionNumber and lie in no folder: they are in no exam, and %s "
            "leaves them out.", alone, EXAMS,
        )  # fmt: skip
    counts = images["pred_label"].value_counts()
    numbers = dict(counts.iter_rows())
    classes = zip(model.label.classes, model.label.names, strict=True)
    log.info(
        "%d images of %d exams (at most %d images an exam); predicted %s; %d rejects",
        images.height, exams.height, exams["images"].max() or 0,
        ", ".join(f"{name} {numbers.get(str(value), 0)}" for value, name in classes),
        manifest.rejects.height,
    )  # fmt: skip
    log.info("%s, %s and %s are in %s", IMAGES, EXAMS, REJECTS, outdir)
    log.info("%s", model.record["terms"])
