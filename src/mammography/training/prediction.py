"""What a trained classifier says of images without labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from mammography.archive.dialects import Label
from mammography.embeddings.embedding_set import EmbeddingSet
from mammography.embeddings.matching import rows_for
from mammography.embeddings.store import PartialSet
from mammography.encoders.backends import Backend, EncoderRequest, open_backend
from mammography.encoders.records import EncoderInfo
from mammography.preprocess.grays_levels import as_trained
from mammography.runs import sha256_of_file
from mammography.training.model_files import WEIGHTS, TrainedModel


@dataclass(frozen=True)
class Answer:
    """What a model says of one image.

    Attributes:
        label: The classes.
        probabilities: (classes,) adding up to 1.
        calibrated: (classes,), those of the logits divided by the model's temperature.
    """

    label: Label
    probabilities: NDArray[np.float64]
    calibrated: NDArray[np.float64]

    @property
    def code(self) -> int:
        """Position of the likeliest class."""
        return int(self.probabilities.argmax())

    @property
    def name(self) -> str:
        """The likeliest class as people call it."""
        return self.label.names[self.code]

    def record(self) -> dict[str, Any]:
        """As JSON values; probabilities by class."""
        classes = [str(name) for name in self.label.classes]
        return {
            "label": self.label.name,
            "predicted": classes[self.code],
            "name": self.name,
            "probabilities": dict(zip(classes, self.probabilities.tolist(), strict=True)),
            "calibrated": dict(zip(classes, self.calibrated.tolist(), strict=True)),
        }


def about(model: TrainedModel) -> dict[str, Any]:
    """What must stand beside a model's predictions wherever they are kept, as JSON values."""
    return {
        "model": {name: model.record[name] for name in ("arch", "objective", "seed", "temperature")}
        | {"run": model.run.as_posix(), "sha256": sha256_of_file(model.run / WEIGHTS)},
        "caution": caution(model),
        "terms": model.record["terms"],
    }


def caution(model: TrainedModel) -> str | None:
    """What a reader must know before believing a model's predictions, or None."""
    weights = model.record["weights"]
    return None if weights["trained"] else f"The encoder began untrained: {weights['name']}."


def ask(
    model: TrainedModel, tensor: NDArray[np.float32], embedding: NDArray[np.float32] | None = None
) -> Answer:
    """Ask a model about one image, on the CPU.

    Args:
        model: To be asked.
        tensor: (3, rows, columns), as its recipe gives it.
        embedding: (1, width), for a model that needs it.
    """
    with torch.inference_mode():
        features = model.classifier.encoder(torch.from_numpy(tensor[None])).numpy()
    logits = model.logits(features, embedding)
    return Answer(
        model.label,
        model.probabilities(logits)[0],
        model.probabilities(logits, model.temperature)[0],
    )


def tensor_of(model: TrainedModel, path: Path, max_pixels: int) -> NDArray[np.float32]:
    """A file as the model's encoder saw files in training: (3, rows, columns).

    Raises:
        ImageRejected: The file cannot be used.
    """
    return model.recipe.normalise(as_trained(model.recipe, max_pixels, path))


@contextmanager
def running_encoder(
    model: TrainedModel, *, device: str, backend: str, batch_size: int | None
) -> Iterator[tuple[EncoderInfo, Backend]]:
    """The model's trained encoder on a device; arguments as in `EncoderRequest`.

    Raises:
        UsageError: What is asked for contradicts itself or the machine.
        MissingExtraError: OpenVINO is asked for and not installed.
    """
    state = model.classifier.encoder.state_dict()
    with TemporaryDirectory() as folder:
        weights = Path(folder) / "encoder.safetensors"
        save_file({name: value.contiguous() for name, value in state.items()}, weights)
        request = EncoderRequest(
            model.record["arch"],
            str(weights),
            seed=0,
            size=model.recipe.size,
            batch_size=batch_size,
            device=device,
            backend=backend,
        )
        info, opened = open_backend(request)
    try:
        yield info, opened
    finally:
        opened.close()


def logits_of(
    model: TrainedModel, features: PartialSet, frame: pl.DataFrame, embeddings: EmbeddingSet | None
) -> NDArray[np.float64]:
    """The logits (images, outputs) of all images that have features.

    Args:
        model: To be asked.
        features: Of its encoder, every part there.
        frame: The manifest's rows that have features, in their order.
        embeddings: For a model that needs them.

    Raises:
        StoreError: An image has no embedding.
    """
    ids = frame["image_id"].to_list()
    logits, start = [], 0
    for part in features.parts():
        if len(part.kept):
            of_part = ids[start : start + len(part.kept)]
            beside = None if embeddings is None else rows_for(of_part, embeddings)
            logits.append(model.logits(part.features, beside))
            start += len(part.kept)
    return np.concatenate(logits)
