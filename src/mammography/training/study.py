"""The images, labels and embeddings that all runs of one training command share."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from mammography.archive.dialects import Label
from mammography.archive.splits import Split
from mammography.embeddings.embedding_set import EmbeddingSet
from mammography.embeddings.matching import rows_for
from mammography.encoders.encoder import Encoder
from mammography.encoders.registry import find_architecture, load_encoder
from mammography.preprocess.recipe import Recipe
from mammography.training.classifier import Classifier, trained_modules
from mammography.training.data import Grays, Images, class_weights
from mammography.training.density import DensityTask
from mammography.training.objective import find_objective
from mammography.training.settings import FitSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelChoice:
    """Which network is trained, and how much of it.

    Attributes:
        arch: Name of the encoder.
        weights: "imagenet", "random" or a file's path.
        objective: By name.
        dropout: Before the linear layer.
        train_backbone: Whether the encoder may be trained as a whole.
        last_block: Train its last block only.
        class_weights: "auto" for images / (classes · images of the class), "none", or a weight for
            each class.
    """

    arch: str = "efficientnet_b0"
    weights: str = "imagenet"
    objective: str = "cross-entropy"
    dropout: float = 0.2
    train_backbone: bool = True
    last_block: bool = False
    class_weights: str | tuple[float, ...] = "auto"


@dataclass(frozen=True)
class Study:
    """What all runs share.

    Attributes:
        frame: One row per image: a manifest's frame, with the column of `label`.
        label: The classes to tell apart.
        images: The same images' grays, codes and embeddings.
        recipe: Which made the grays.
        model: What is trained.
        embeddings: The set that is fused in, or None.
    """

    frame: pl.DataFrame
    label: Label
    images: Images
    recipe: Recipe
    model: ModelChoice
    embeddings: EmbeddingSet | None = None

    @property
    def names(self) -> list[str]:
        """The classes' names."""
        return list(self.label.names)

    def rows(self, image_ids: tuple[str, ...]) -> NDArray[np.int64]:
        """The rows of these images."""
        place = {image: row for row, image in enumerate(self.frame["image_id"])}
        return np.array([place[image] for image in image_ids], np.int64)


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to train.

    Attributes:
        task: With its classifier.
        encoder: What the classifier was made of.
        train: Rows of the study's images.
        validation: Likewise.
        trained: Names of the parameters that are trained.
    """

    task: DensityTask
    encoder: Encoder
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    trained: tuple[str, ...]


def make_study(
    frame: pl.DataFrame,
    label: Label,
    codes: NDArray[np.int64],
    grays: Grays,
    recipe: Recipe,
    model: ModelChoice,
    embeddings: EmbeddingSet | None,
    archive_ids: list[str],
) -> Study:
    """Put images, labels and embeddings together.

    Args:
        frame: The manifest's frame.
        label: See `Study`.
        codes: (images,) positions among its classes.
        grays: Of the frame's images.
        recipe: Which made them.
        model: What is trained.
        embeddings: To fuse in, or None.
        archive_ids: Every image_id of the archive, used here or not.

    Raises:
        StoreError: An image has no embedding, or an embedding no image.
    """
    values = [label.classes[code] for code in codes.tolist()]
    frame = frame.with_columns(pl.Series(label.name, values, dtype=label.dtype))
    beside = None
    if embeddings is not None:
        beside = rows_for(frame["image_id"].to_list(), embeddings, archive_ids)
    return Study(frame, label, Images(grays, codes, beside), recipe, model, embeddings)


def prepare(study: Study, split: Split, settings: FitSettings) -> Prepared:
    """Build the classifier of one run: everything that depends on split and seed.

    Raises:
        UsageError: The encoder has no last block.
        WeightsError: The encoder's weights cannot be had or do not fit.
    """
    model, images = study.model, study.images
    train, validation = study.rows(split.train), study.rows(split.validation)
    weights = _loss_weights(study, train)
    encoder = load_encoder(model.arch, model.weights, seed=settings.seed, size=study.recipe.size)
    objective = find_objective(model.objective)
    classes = len(study.label.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        classifier = Classifier(
            encoder.network,
            encoder.info.width,
            objective.outputs(classes),
            model.dropout,
            0 if images.embeddings is None else images.embeddings.shape[1],
        )
    if images.embeddings is not None:
        _standardise(classifier, images.embeddings[train])
    modules = trained_modules(
        find_architecture(model.arch),
        encoder.network,
        train_backbone=model.train_backbone,
        last_block=model.last_block,
    )
    classifier.freeze_all_but(modules)
    trained = [(name, p.numel()) for name, p in classifier.named_parameters() if p.requires_grad]
    log.info(
        "%d of %d tensors are trained (%s): %d weights; the others stay as they are",
        len(trained), len(list(classifier.parameters())),
        ", ".join((*(m or "the whole encoder" for m in modules), "the head")),
        sum(count for _, count in trained),
    )  # fmt: skip
    recipe = study.recipe
    task = DensityTask(classifier, objective, settings, weights, recipe.mean, recipe.std)
    return Prepared(task, encoder, train, validation, tuple(name for name, _ in trained))


def _loss_weights(study: Study, train: NDArray[np.int64]) -> NDArray[np.float64]:
    """The weight of each class in the loss."""
    chosen, classes = study.model.class_weights, len(study.label.classes)
    if chosen == "none":
        return np.ones(classes)
    if chosen == "auto":
        return class_weights(study.images.codes[train], classes)
    return np.asarray(chosen, np.float64)


def _standardise(classifier: Classifier, training: NDArray[np.float32]) -> None:
    """Take mean and standard deviation of the training images' embeddings."""
    spread = training.std(0, dtype=np.float64)
    classifier.embedding_mean = torch.from_numpy(training.mean(0, dtype=np.float64)).float()
    classifier.embedding_std = torch.from_numpy(np.where(spread > 0, spread, 1.0)).float()


def with_subset(study: Study, split: Split) -> Study:
    """The study of the validation side of a split alone, as a sample of all images."""
    rows = np.sort(study.rows(split.validation))
    images = study.images
    return replace(
        study,
        frame=study.frame[rows.tolist()],
        images=Images(
            _Some(images.grays, rows),
            images.codes[rows],
            None if images.embeddings is None else images.embeddings[rows],
        ),
    )


@dataclass(frozen=True)
class _Some:
    """Some of the grays."""

    grays: Grays
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int, /) -> NDArray[np.uint16]:
        return self.grays[int(self.rows[position])]
