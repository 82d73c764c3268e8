"""What all runs of one `train-density` share: its images, prepared once, and their labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from mammography.archive.audit import readable_share
from mammography.archive.split_table import listed
from mammography.archive.splits import Split, hold_out, read_split
from mammography.commands import density_options, options
from mammography.commands.progress import progress
from mammography.embeddings.embedding_set import EmbeddingSet, load_embeddings
from mammography.embeddings.matching import open_features
from mammography.encoders.registry import find_architecture, load_encoder
from mammography.errors import NothingLeftError, SplitError
from mammography.preprocess.cache import Grays, prepare_images
from mammography.training.labels import label_and_codes
from mammography.training.objective import find_objective
from mammography.training.study import Study, make_study, with_subset

if TYPE_CHECKING:
    from mammography.archive.manifest import Manifest
    from mammography.commands.train_density import TrainDensity
    from mammography.preprocess.recipe import Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """What all runs of one command share, and what had to stay out.

    Attributes:
        study: Images, labels, embeddings, model.
        split: The user's own, or None.
        rejects: `mammography.tables.REJECT_COLUMNS`.
        readable_share: Readable images of those that the table refers to.
        exit_code: 0, or 1 where that share is too small.
    """

    study: Study
    split: Split | None
    rejects: pl.DataFrame
    readable_share: float
    exit_code: int


def training_data(command: TrainDensity) -> TrainingData:
    """Read the table and the archive, and prepare every image once.

    Raises:
        As `TrainDensity.run`.
    """
    find_objective(command.loss)
    architecture = find_architecture(command.arch)
    recipe = options.recipe_of(command).with_options(
        mean=command.mean or architecture.mean, std=command.std or architecture.std
    )
    embeddings = _embeddings(command)
    folders = [command.outdir, *([command.cv_outdir] if command.cv_outdir else [])]
    manifest = options.manifest_of(command, folders)
    known, table_label = _known(manifest, embeddings), manifest.label
    assert table_label is not None  # there is a table
    # Fail before anything slow.
    label, _ = label_and_codes(manifest.frame, table_label, command.classes)
    density_options.check_class_weights(command, label)
    load_encoder(command.arch, str(command.weights), seed=command.seed, size=recipe.size)
    split = read_split(command.split, manifest.frame, complete=False) if command.split else None
    grays, manifest = _prepared(command, manifest, recipe)
    label, codes = label_and_codes(manifest.frame, table_label, command.classes)
    model = density_options.model_of(command)
    study = make_study(manifest.frame, label, codes, grays, recipe, model, embeddings, known)
    study = _subset(command, study)
    readable, unreadable = readable_share(manifest)
    share = readable / (readable + unreadable)
    own = None if split is None else _among(split, study.frame["image_id"].to_list())
    return TrainingData(study, own, manifest.rejects, share, int(share < command.min_readable))


def _prepared(command: TrainDensity, manifest: Manifest, recipe: Recipe) -> tuple[Grays, Manifest]:
    """The images' grays, and the manifest without those that cannot be read."""
    with progress(manifest.frame.height) as advance:
        grays, verdicts = prepare_images(
            command.dicom_root,
            manifest.frame["path"].to_list(),
            recipe,
            command.cache_mode,
            command.cache_dir,
            workers=options.workers_of(command),
            max_pixels=command.max_pixels,
            progress=advance,
        )
    manifest = manifest.without(verdicts)
    if manifest.frame.is_empty():
        raise NothingLeftError("No image can be read; mammography scan says why for each.")
    return grays, manifest


def _embeddings(command: TrainDensity) -> EmbeddingSet | None:
    if command.embeddings_dir:
        return load_embeddings(command.embeddings_dir)
    return open_features(command.embeddings) if command.embeddings else None


def _known(manifest: Manifest, embeddings: EmbeddingSet | None) -> list[str]:
    """Every image of the archive that the embeddings may be of, whether it has a label or not."""
    labelled = manifest.frame["image_id"].to_list()
    if embeddings is None:
        return labelled
    others = manifest.rejects["path"].drop_nulls().to_list()
    return labelled + embeddings.index.filter(pl.col("path").is_in(others))["image_id"].to_list()


def _among(split: Split, image_ids: list[str]) -> Split:
    """The split without images that cannot be read or are not in the sample.

    Raises:
        SplitError: An image is on neither side, or a side has none.
    """
    there = set(image_ids)
    if missing := sorted(there - {*split.train, *split.validation}):
        raise SplitError(f"--split puts these images on neither side: {listed(missing)}.")
    train, validation = (
        tuple(image for image in side if image in there) for side in (split.train, split.validation)
    )
    if not (train and validation):
        raise SplitError("One side of --split has no image left.")
    return Split(train, validation)


def _subset(command: TrainDensity, study: Study) -> Study:
    images = study.frame.height
    if command.subset is None or command.subset >= images:
        return study
    chosen = hold_out(study.frame, study.label.name, command.subset / images, command.seed)
    log.info("--subset: %d of %d images", len(chosen.validation), images)
    return with_subset(study, chosen)
