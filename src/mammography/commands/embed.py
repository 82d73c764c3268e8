"""``mammography embed``: an archive of mammograms becomes an embedding set."""

from __future__ import annotations

import logging
import math
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from mammography.commands import options
from mammography.errors import ImageRejected, NothingLeftError, UsageError

if TYPE_CHECKING:
    from mammography.archive.manifest import Manifest
    from mammography.embeddings.embedding_set import EmbeddingSet
    from mammography.embeddings.store import PartialSet
    from mammography.encoders.backends import Backend
    from mammography.encoders.records import EncoderInfo
    from mammography.preprocess.recipe import Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbedResult:
    """What `embed` made.

    Attributes:
        embeddings: The finished set.
        manifest: Its images and everything that was rejected.
        readable_share: Readable images of those that the table refers to.
        exit_code: 0, or 1 where too little of the archive could be read.
    """

    embeddings: EmbeddingSet
    manifest: Manifest
    readable_share: float
    exit_code: int


@dataclass(frozen=True)
class Embed:
    """Turn an archive of mammograms and its label table into embeddings, maps and metrics.

    Every image goes through the recipe and the encoder; what cannot is listed in rejects.csv.
    Killed at any time, the same command goes on where it stopped. Exit code 1 where less than
    --min-readable of the images could be read; all that could be computed is saved.
    """

    NAME: ClassVar[str] = "embed"

    csv: Path
    """Label table: one row per exam (AccessionNumber) or per image (path, file name or UID)."""

    dicom_root: Path
    """Folder of the archive; images are found by content, at any depth."""

    outdir: Path
    """Folder of the embedding set."""

    save_csv: bool = False
    """Also write joined.csv: every column of the label table, then the features."""

    pca: bool = False
    """Draw a PCA map."""

    tsne: bool = False
    """Draw a t-SNE map."""

    umap: bool = False
    """Draw a UMAP map."""

    seed: int = 42
    """Seed of t-SNE, UMAP, k-means and random weights."""

    encoder: str = "resnet50"
    """resnet50, densenet121, efficientnet_b0, timm:NAME, or a plugin's."""

    weights: Literal["imagenet", "random"] | Path = "imagenet"
    """Published weights, none, or a file (safetensors or PyTorch state dict)."""

    recipe: str = "imagenet"
    """How pixels become a tensor."""

    img_size: options.ImgSize = None
    resize: options.Resize = None
    voi: options.Voi = None
    voi_index: options.VoiIndex = None
    frame: options.Frame = None
    reduced_decode: options.ReducedDecode = None
    mean: options.Mean = None
    std: options.Std = None
    label_column: options.LabelColumn = None
    id_column: options.IdColumn = None
    dialect: options.Dialect = None

    class5: Literal["refuse", "drop", "keep"] = "refuse"
    """What to do with rows of class 5, which is no density class."""

    min_readable: float = 0.95
    """Smallest share of readable images that passes, from 0 to 1."""

    # mammography.dicom.pixels.DEFAULT_MAX_PIXELS, which is too slow to import for --help
    max_pixels: int = 100_000_000
    """Images that claim more pixels are refused before memory is taken."""

    limit: options.Limit = None

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the network runs."""

    backend: Literal["auto", "torch", "openvino"] = "auto"
    """What runs it; on the CPU, auto is OpenVINO where it is installed."""

    amp: bool = False
    """Mixed precision: bfloat16 where the device likes it. Faster, not the same bits."""

    deterministic: bool = True
    """Ask the device for algorithms that give the same bytes every time."""

    batch_size: int | Literal["auto"] = "auto"
    """Images a batch; auto is 8 on the CPU and 64 elsewhere."""

    num_workers: int | Literal["auto"] = "auto"
    """Processes that decode; auto is one per core."""

    def run(self) -> EmbedResult:
        """Embed.

        Raises:
            UsageError: Options that make no sense, or class-5 rows without --class5.
            LabelTableError: The table cannot be read.
            NothingLeftError: No image is left; what was found out is saved before.
            WeightsError: The weights cannot be had or do not fit.
            StoreError: `outdir` holds something else, is in use, or cannot be written to.
        """
        from mammography.runs import RESEARCH_ONLY, run_folder

        self._check()
        with run_folder(self.outdir, self) as summary:
            log.info("mammography embed: %s", RESEARCH_ONLY)
            self._refuse_bad_table()
            recipe, info, backend = self._open()
            with closing(backend):
                manifest = self._manifest()
                embeddings, manifest = self._embed(manifest, recipe, info, backend)
            share = self._report(embeddings, manifest)
            exit_code = 0 if share >= self.min_readable else 1
            if exit_code:
                log.warning(
                    "Only %.2f %% of the images could be read, less than --min-readable %.2f %%: "
                    "look at %s before you use these numbers.",
                    math.floor(1e4 * share) / 100, 100 * self.min_readable,
                    self.outdir / "rejects.csv",
                )  # fmt: skip
            summary.update(exit_code=exit_code, images=len(embeddings), readable_share=share)
        return EmbedResult(embeddings, manifest, share, exit_code)

    def _check(self) -> None:
        if not 0 <= self.min_readable <= 1:
            raise UsageError(f"--min-readable is a share from 0 to 1, not {self.min_readable}.")
        for name in ("img_size", "limit", "batch_size", "num_workers", "max_pixels"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}.")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed is from 0 to 4294967295, not {self.seed}.")
        if not self.dicom_root.is_dir():
            raise UsageError(f"There is no folder {self.dicom_root} (--dicom-root).")
        if self.outdir.resolve() == self.dicom_root.resolve():
            raise UsageError("--outdir must be another folder than --dicom-root.")
        if self.dicom_root.resolve() in self.outdir.resolve().parents:
            log.warning(
                "--outdir %s lies inside the archive: later runs with another --outdir will find "
                "its pictures among the images.", self.outdir,
            )  # fmt: skip

    def _refuse_bad_table(self) -> None:
        """Fail on a wrong table before anything slow; `_manifest` reads it again, and says more."""
        from mammography.archive.dialects import read_dialect
        from mammography.archive.label_table import read_label_table
        from mammography.archive.rows import refuse_class_5

        archive_log = logging.getLogger("mammography.archive")
        level = archive_log.level
        archive_log.setLevel(logging.ERROR)
        try:
            table = read_label_table(self.csv)
            reading = read_dialect(
                table,
                dialect=self.dialect,
                label_column=self.label_column,
                id_column=self.id_column,
            )
            if self.class5 == "refuse":
                refuse_class_5(table, reading)
        finally:
            archive_log.setLevel(level)

    def _open(self) -> tuple[Recipe, EncoderInfo, Backend]:
        """Recipe and network, as the options and the weights' record ask for them."""
        from mammography.encoders.backends import EncoderRequest, open_backend

        recipe = options.recipe_of(self)
        info, backend = open_backend(
            EncoderRequest(
                self.encoder,
                str(self.weights),
                self.seed,
                recipe.size,
                batch_size=None if self.batch_size == "auto" else self.batch_size,
                device=self.device,
                backend=self.backend,
                amp=self.amp,
                deterministic=self.deterministic,
            )
        )
        recipe = recipe.with_options(mean=self.mean or info.mean, std=self.std or info.std)
        log.info("recipe %s (%s…)", recipe.NAME, recipe.hash[:12])
        log.info(
            "encoder %s, %d features, weights %s; %s on %s in %s, batches of %d",
            info.name, info.width, info.weights.name,
            backend.name, backend.device, backend.precision, backend.batch_size,
        )  # fmt: skip
        if not info.weights.trained:
            log.warning("The encoder is untrained (--weights random): its features mean little.")
        return recipe, info, backend

    def _manifest(self) -> Manifest:
        """The archive joined with its table; rejects are saved even where nothing is left."""
        from mammography.archive.manifest import EmptyManifestError

        try:
            manifest = options.manifest_of(self, [self.outdir])
        except EmptyManifestError as error:
            self._save_rejects(error.manifest)
            raise
        manifest = self._limited(manifest)
        _tell_rows(manifest)
        return manifest

    def _limited(self, manifest: Manifest) -> Manifest:
        """The first images by path, and the rejects among them."""
        import polars as pl

        images = manifest.frame.height
        if self.limit is None or self.limit >= images:
            return manifest
        log.info("--limit: the first %d of %d images", self.limit, images)
        frame = manifest.frame.head(self.limit)
        among = pl.col("path").is_null() | (pl.col("path") <= frame["path"][-1])
        return replace(manifest, frame=frame, rejects=manifest.rejects.filter(among))

    def _embed(
        self, manifest: Manifest, recipe: Recipe, info: EncoderInfo, backend: Backend
    ) -> tuple[EmbeddingSet, Manifest]:
        """Compute what is missing and finish the set; or take it as it is, if it is finished."""
        from mammography.embeddings import provenance
        from mammography.embeddings.embedding_set import load_embeddings
        from mammography.embeddings.store import PartialSet, is_finished

        key = provenance.made_from(
            self.dicom_root, manifest, recipe, info, backend, self.max_pixels
        )
        if is_finished(self.outdir, key):
            log.info("%s is finished: its features are used as they are", self.outdir)
            embeddings = load_embeddings(self.outdir)
            rejects = embeddings.rejects()
            return embeddings, replace(manifest, frame=embeddings.index, rejects=rejects)
        images = manifest.frame.height
        target = PartialSet(self.outdir, key, images, part_rows=max(128, backend.batch_size))
        verdicts = self._extract(manifest, target, recipe, backend)
        manifest = manifest.without(verdicts)
        if manifest.frame.is_empty():
            self._save_rejects(manifest)
            raise NothingLeftError(
                f"None of the {images} images could be read; {self.outdir / 'rejects.csv'} says "
                "why for each."
            )
        record = provenance.record(manifest, recipe, info, backend)
        target.finish(manifest.frame, manifest.rejects, record)
        return load_embeddings(self.outdir), manifest

    def _extract(
        self, manifest: Manifest, target: PartialSet, recipe: Recipe, backend: Backend
    ) -> dict[str, ImageRejected]:
        """Fill the parts that are missing; the verdicts on images without features, by path."""
        from mammography.commands.progress import progress
        from mammography.embeddings.extract import extract

        paths = manifest.frame["path"].to_list()
        done = len(paths) - target.rows_missing()
        if done:
            log.info("continuing: %d of %d images were done", done, len(paths))
        with progress(len(paths), done) as advance:
            extract(
                self.dicom_root,
                paths,
                target,
                recipe,
                backend,
                workers=options.workers_of(self),
                max_pixels=self.max_pixels,
                progress=advance,
            )
        return {paths[row]: verdict for row, verdict in target.rejected().items()}

    def _save_rejects(self, manifest: Manifest) -> None:
        """Save the rejects of a run without images, unless a finished set lies there."""
        from mammography.embeddings.embedding_set import read_record
        from mammography.runs import written_whole

        if read_record(self.outdir) is None:
            with written_whole(self.outdir / "rejects.csv") as path:
                manifest.rejects.write_csv(path)

    def _report(self, embeddings: EmbeddingSet, manifest: Manifest) -> float:
        """Write what people read, and say what there is; the readable share."""
        from mammography.archive.audit import readable_share
        from mammography.report.embedding_report import write_joined, write_maps, write_metrics

        write_metrics(
            self.outdir / "clustering_metrics.json", embeddings, manifest.label, self.seed
        )
        if self.save_csv:
            write_joined(self.outdir / "joined.csv", embeddings, manifest.table)
        methods = [name for name in ("pca", "tsne", "umap") if getattr(self, name)]
        write_maps(self.outdir / "preview", embeddings, manifest.label, methods, self.seed)
        readable, unreadable = readable_share(manifest)
        log.info(
            "%d embeddings of width %d in %s; %d rejects in rejects.csv",
            *embeddings.features.shape, self.outdir, manifest.rejects.height,
        )  # fmt: skip
        return readable / (readable + unreadable)


def _tell_rows(manifest: Manifest) -> None:
    """How the number of images relates to the rows of the user's table."""
    if manifest.table is None or manifest.key is None:
        return
    rows = manifest.frame["table_row"].n_unique()
    log.info(
        "%d images belong to %d of the table's %d rows (%.2f images a row)",
        manifest.frame.height, rows, len(manifest.table.numbers), manifest.frame.height / rows,
    )  # fmt: skip
