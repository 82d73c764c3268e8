"""``mammography embed``: an archive of mammograms becomes an embedding set."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mammography.errors import NothingLeftError, UsageError

if TYPE_CHECKING:
    from mammography.archive.manifest import Manifest
    from mammography.embeddings.store import EmbeddingSet
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

    weights: str = "imagenet"
    """imagenet (published weights), random, or a file (safetensors or PyTorch state dict)."""

    recipe: str = "imagenet"
    """How pixels become a tensor."""

    img_size: int | None = None
    """Side of the square that the encoder sees, in pixels; the recipe's own is 224."""

    resize: Literal["letterbox", "stretch", "crop"] | None = None
    """Keep the aspect ratio with black bars, give it up, or keep it and lose the edges."""

    voi: Literal["none", "window", "lut", "sigmoid"] | None = None
    """VOI transformation of the header that comes before the percentiles."""

    voi_index: int | None = None
    """Which of several windows or VOI LUTs, from 0."""

    frame: Literal["middle", "max"] | int | None = None
    """Frame of a multi-frame image (tomosynthesis): middle, maximum projection, or a number from 1."""

    reduced_decode: Literal["full", "half", "quarter", "eighth"] | None = None
    """Decode JPEG 2000 and HTJ2K at lower resolution: faster, not the same picture."""

    mean: tuple[float, float, float] | None = None
    """Channel means to subtract, if not those of the weights."""

    std: tuple[float, float, float] | None = None
    """Channel standard deviations to divide by, if not those of the weights."""

    label_column: str | None = None
    """Column of the labels, where its name does not say so."""

    id_column: str | None = None
    """Column that names exams or images, where its name does not say so."""

    dialect: str | None = None
    """How the table is written: classificacao, per-image, mini-mias or a plugin's; else guessed."""

    class5: Literal["refuse", "drop", "keep"] = "refuse"
    """What to do with rows of class 5, which is no density class."""

    min_readable: float = 0.95
    """Smallest share of readable images that passes, from 0 to 1."""

    # mammography.dicom.pixels.DEFAULT_MAX_PIXELS, which is too slow to import for --help
    max_pixels: int = 100_000_000
    """Images that claim more pixels are refused before memory is taken."""

    limit: int | None = None
    """Take only this many images, the first by path."""

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
            StoreError: `outdir` holds other embeddings.
        """
        from mammography.runs import RESEARCH_ONLY, run_log, write_summary

        self._check()
        with run_log(self.outdir / "run.log"):
            log.info("mammography embed: %s", RESEARCH_ONLY)
            manifest = self._manifest()
            recipe, info, backend = self._open(manifest)
            embeddings, manifest = self._embed(manifest, recipe, info, backend)
            share = self._report(embeddings, manifest)
            write_summary(self.outdir, self, readable_share=share, images=len(embeddings))
            passed = share >= self.min_readable
            if not passed:
                log.warning(
                    "Only %.1f %% of the images could be read, less than --min-readable %.1f %%: "
                    "look at %s before you use these numbers.",
                    100 * share, 100 * self.min_readable, self.outdir / "rejects.csv",
                )  # fmt: skip
        return EmbedResult(embeddings, manifest, share, exit_code=0 if passed else 1)

    def _check(self) -> None:
        if not 0 <= self.min_readable <= 1:
            raise UsageError(f"--min-readable is a share from 0 to 1, not {self.min_readable}.")
        for name in ("img_size", "limit", "batch_size", "num_workers", "max_pixels"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}.")

    @property
    def _workers(self) -> int:
        from mammography.archive.workers import cores

        return cores() if self.num_workers == "auto" else self.num_workers

    def _manifest(self) -> Manifest:
        """The archive joined with its table; rejects are saved even where nothing is left."""
        from mammography.archive.manifest import EmptyManifestError, build_manifest

        try:
            manifest = build_manifest(
                self.dicom_root,
                self.csv,
                label_column=self.label_column,
                id_column=self.id_column,
                dialect=self.dialect,
                class5=self.class5,
                workers=self._workers,
                exclude=[self.outdir],
            )
        except EmptyManifestError as error:
            _save_rejects(self.outdir, error.manifest)
            raise
        if self.limit is not None and self.limit < manifest.frame.height:
            log.info("--limit: the first %d of %d images", self.limit, manifest.frame.height)
            manifest = replace(manifest, frame=manifest.frame.head(self.limit))
        _tell_rows(manifest)
        return manifest

    def _open(self, manifest: Manifest) -> tuple[Recipe, EncoderInfo, Backend]:
        """Recipe and network, as the options and the weights' record ask for them."""
        from mammography import plugins
        from mammography.encoders.backends import EncoderRequest, open_backend

        recipe = plugins.get("recipes", self.recipe).with_options(
            size=(self.img_size, self.img_size) if self.img_size else None,
            resize=self.resize,
            voi=self.voi,
            voi_index=self.voi_index,
            frame=self.frame,
            reduced_decode=self.reduced_decode,
        )
        info, backend = open_backend(
            EncoderRequest(
                self.encoder,
                self.weights,
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

    def _embed(
        self, manifest: Manifest, recipe: Recipe, info: EncoderInfo, backend: Backend
    ) -> tuple[EmbeddingSet, Manifest]:
        """Compute what is missing and finish the set; or take it as it is, if it is finished."""
        from mammography.embeddings.store import is_finished, load_embeddings

        key = self._key(manifest, recipe, info, backend)
        if is_finished(self.outdir, key):
            log.info("%s is finished: its features are used as they are", self.outdir)
            embeddings = load_embeddings(self.outdir)
            rejects = embeddings.rejects()
            return embeddings, replace(manifest, frame=embeddings.index, rejects=rejects)
        return self._extract(manifest, recipe, info, backend, key)

    def _extract(
        self,
        manifest: Manifest,
        recipe: Recipe,
        info: EncoderInfo,
        backend: Backend,
        key: dict[str, Any],
    ) -> tuple[EmbeddingSet, Manifest]:
        from mammography.commands.progress import progress
        from mammography.embeddings.extract import extract
        from mammography.embeddings.store import PartialSet, load_embeddings

        paths = manifest.frame["path"].to_list()
        target = PartialSet(self.outdir, key, len(paths), part_rows=max(128, backend.batch_size))
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
                workers=self._workers,
                max_pixels=self.max_pixels,
                progress=advance,
            )
        kept, rejected = target.outcome()
        manifest = manifest.without({paths[row]: verdict for row, verdict in rejected.items()})
        if not kept:
            _save_rejects(self.outdir, manifest)
            raise NothingLeftError(
                f"None of the {len(paths)} images could be read; {self.outdir / 'rejects.csv'} "
                "says why for each."
            )
        target.finish(
            manifest.frame, manifest.rejects, _record(key, recipe, info, backend, manifest)
        )
        return load_embeddings(self.outdir), manifest

    def _key(
        self, manifest: Manifest, recipe: Recipe, info: EncoderInfo, backend: Backend
    ) -> dict[str, Any]:
        """Everything that decides the features' bytes and which rows they belong to."""
        from mammography.runs import sha256_of_text

        sizes = [(self.dicom_root / path).stat().st_size for path in manifest.frame["path"]]
        rows = manifest.frame.write_csv() + manifest.rejects.write_csv() + repr(sizes)
        return {
            "archive and labels": sha256_of_text(rows),
            "recipe": recipe.hash,
            "encoder": info.name,
            "weights": info.weights.sha256,
            **backend.record(),
            "batch_size": backend.batch_size,
            "max_pixels": self.max_pixels,
        }

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


def _record(
    key: dict[str, Any],
    recipe: Recipe,
    info: EncoderInfo,
    backend: Backend,
    manifest: Manifest,
) -> dict[str, Any]:
    """`embedding.json`: where the features come from; the same bytes for the same run."""
    from mammography.embeddings.store import fingerprint
    from mammography.runs import RESEARCH_ONLY, git_commit, versions

    label = manifest.label
    return {
        "fingerprint": fingerprint(info.name, info.weights.sha256, recipe.hash),
        "images": manifest.frame.height,
        "encoder": info.record(),
        "recipe": recipe.record() | {"hash": recipe.hash},
        **backend.record(),
        "label": {"name": label.name, "classes": label.classes, "names": label.names}
        if label
        else None,
        "made_from": key,
        "terms": "The terms of the images, the labels and the weights hold for these features.",
        "versions": versions(),
        "git_commit": git_commit(),
        "notice": RESEARCH_ONLY,
    }


def _save_rejects(outdir: Path, manifest: Manifest) -> None:
    from mammography.runs import written_whole

    with written_whole(outdir / "rejects.csv") as path:
        manifest.rejects.write_csv(path)


def _tell_rows(manifest: Manifest) -> None:
    """How the number of images relates to the rows of the user's table."""
    if manifest.table is None or manifest.key is None:
        return
    rows = manifest.frame["table_row"].n_unique()
    log.info(
        "%d images belong to %d of the table's %d rows (%.2f images a row)",
        manifest.frame.height, rows, len(manifest.table.numbers), manifest.frame.height / rows,
    )  # fmt: skip
