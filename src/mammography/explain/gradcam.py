"""Grad-CAM: where in an image a classifier finds evidence for a class.

Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization,
2017. What is explained is the logarithm of the class's probability: it exists for every objective,
and unlike a logit it does not change when all classes gain alike.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from captum.attr import LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mammography.dicom.pixels import DEFAULT_MAX_PIXELS
from mammography.embeddings.embedding_set import EmbeddingSet
from mammography.embeddings.matching import rows_for
from mammography.errors import ImageRejected, UsageError
from mammography.explain.examples import CamExample
from mammography.explain.feature_map import last_feature_map
from mammography.preprocess.geometry import carry_back
from mammography.training.fused import open_embeddings
from mammography.training.model_files import TrainedModel, load_model
from mammography.training.prediction import Answer, ask, tensor_of

log = logging.getLogger(__name__)

#: Pictures have at most so many rows.
_ROWS = 1200


class _LogProbabilities(nn.Module):
    """A classifier that returns log-probabilities, (batch, classes) of float64.

    In float32, the gradient of a probability near 1 would be rounded away.
    """

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self._classifier, self._objective = model.classifier, model.objective

    def forward(self, images: Tensor, embeddings: Tensor | None = None) -> Tensor:
        return self._objective.log_probabilities(self._classifier(images, embeddings).double())


def grad_cam(
    model: TrainedModel,
    tensor: NDArray[np.float32],
    embedding: NDArray[np.float32] | None,
    target: int,
) -> NDArray[np.float32]:
    """The map of one image for one class, on the recipe's canvas.

    Args:
        model: To be explained.
        tensor: (3, rows, columns), as the model's recipe gives it.
        embedding: (1, width) for a model that needs it.
        target: Position of the class.

    Returns:
        (rows, columns), 0 to 1, its largest value being 1; 0 everywhere where nothing speaks for
        the class.

    Raises:
        UsageError: The encoder has no feature map.
    """
    images = torch.from_numpy(tensor[None])
    beside = None if embedding is None else torch.from_numpy(np.array(embedding))
    layer = last_feature_map(model.classifier.encoder, images)
    with torch.enable_grad():
        coarse = LayerGradCam(_LogProbabilities(model), layer).attribute(
            images.requires_grad_(),
            target,
            additional_forward_args=beside,
            relu_attributions=True,
        )
    fine = functional.interpolate(coarse.detach().double(), tensor.shape[1:], mode="bilinear")
    heat = fine[0, 0].numpy()
    return (heat / (heat.max() or 1.0)).astype(np.float32)


def explain_image(
    model: TrainedModel,
    path: Path,
    target: int | None = None,
    embedding: NDArray[np.float32] | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> tuple[CamExample, Answer]:
    """An image in its own aspect, with the map of one class over it.

    Args:
        model: To be explained.
        path: An image file.
        target: Position of the class; None for the predicted one.
        embedding: (1, width) for a model that needs it.
        max_pixels: Larger images are refused before memory is taken.

    Returns:
        Picture and map of at most 1,200 rows, and all that the model says of the image. Black bars
        that the recipe adds are not in the map, but its scale is that of the whole canvas: where
        the bars are hottest, it stays below 1.

    Raises:
        ImageRejected: The file cannot be used.
        UsageError: The recipe does not say where an image lands, or the encoder has no feature map.
    """
    recipe = model.recipe
    tensor = tensor_of(model, path, max_pixels)
    answer = ask(model, tensor, embedding)
    heat = grad_cam(model, tensor, embedding, answer.code if target is None else target)
    image = recipe.read(path, max_pixels)
    rows, columns = image.pixels.shape[:2]
    height = min(rows, _ROWS)
    shape = (height, max(1, round(columns * height / rows)))
    example = CamExample(
        image=recipe.with_options(size=shape).gray(image),
        heat=carry_back(heat, recipe.placement((rows, columns)), (rows, columns), shape),
        true=None,
        predicted=answer.name,
        probability=float(answer.probabilities[answer.code]),
        caption=path.name,
    )
    return example, answer


def run_examples(run: Path, dicom_root: Path | None, per_class: int, seed: int) -> list[CamExample]:
    """Validation images of a finished run, explained: right and wrong ones of each class.

    Args:
        run: Its results folder.
        dicom_root: The archive; None for where the run found it.
        per_class: At most so many right ones of each class, and as many wrong ones.
        seed: Of the choice.

    Raises:
        StoreError: The folder holds no finished run, or its embeddings are gone.
        UsageError: The archive is gone, or is another one.
    """
    model = load_model(run)
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    origin, config = Path(summary["working_directory"]), summary["config"]
    root = dicom_root or origin / config["dicom_root"]
    if not root.is_dir():
        raise UsageError(
            f"There is no folder {root} with the images of {run}: say where they are with "
            "--dicom-root."
        )
    embeddings = open_embeddings(model, _embeddings_folder(config, origin))
    max_pixels = config.get("max_pixels", DEFAULT_MAX_PIXELS)
    predictions = pl.read_csv(run / "val_predictions.csv", infer_schema=False)
    classes = [str(name) for name in model.label.classes]
    return [
        _explained(model, root, row, embeddings, model.label.names[code], max_pixels)
        for code, name in enumerate(classes)
        for row in _chosen(predictions.filter(pl.col("true_label") == name), per_class, seed)
    ]


def _embeddings_folder(config: dict[str, Any], origin: Path) -> Path | None:
    """Where a run found its embeddings, if it had some."""
    if config.get("embeddings_dir"):
        return origin / config["embeddings_dir"]
    if config.get("embeddings"):
        return (origin / config["embeddings"]).parent
    return None


def _chosen(rows: pl.DataFrame, per_class: int, seed: int) -> list[dict[str, str]]:
    """Some right and some wrong predictions of one class, drawn by the seed."""
    right = pl.col("true_label") == pl.col("pred_label")
    chosen = []
    for side in (rows.filter(right), rows.filter(~right)):
        order = np.random.default_rng(seed).permutation(side.height)[:per_class]
        chosen += side.sort("sample_id")[order.tolist()].to_dicts()
    return chosen


def _explained(
    model: TrainedModel,
    root: Path,
    row: dict[str, str],
    embeddings: EmbeddingSet | None,
    true: str,
    max_pixels: int,
) -> CamExample:
    """The map of one line of val_predictions.csv."""
    image = row["sample_id"]
    beside = None if embeddings is None else rows_for([image], embeddings)
    try:
        example, _ = explain_image(model, root / row["path"], None, beside, max_pixels)
    except ImageRejected as verdict:
        raise UsageError(
            f"{root / row['path']} was read when {model.run} was trained, and cannot be now: "
            f"{verdict}."
        ) from verdict
    recorded = float(row[f"prob_{row['pred_label']}"])
    if abs(example.probability - recorded) > 0.01:
        raise UsageError(
            f"{root / row['path']} is not the image that {model.run} was trained with: it gives "
            f"{example.predicted} with {example.probability:.3f}, and the run says "
            f"{row['pred_label']} with {recorded:.3f}. Is it another archive (--dicom-root)?"
        )
    return replace(example, true=true, caption=image)
