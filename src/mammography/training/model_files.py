"""A trained classifier on disk: its tensors, and the record that says what they are.

``best_model.pth`` holds a plain state dict that opens with ``weights_only=True``;
``best_model.safetensors`` holds the same tensors with ``model.json`` in its header.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mammography.archive.dialects import Label
from mammography.encoders.registry import find_architecture
from mammography.errors import StoreError, WeightsError
from mammography.preprocess.recipe import Recipe
from mammography.preprocess.recorded import recorded_recipe
from mammography.runs import canonical_json, write_json, written_whole
from mammography.training.classifier import Classifier
from mammography.training.objective import Objective, find_objective

WEIGHTS, TWIN, RECORD = "best_model.pth", "best_model.safetensors", "model.json"


@dataclass(frozen=True)
class TrainedModel:
    """A classifier that can be used.

    Attributes:
        classifier: In evaluation mode, without gradients, on the CPU.
        label: The classes it tells apart.
        recipe: What turns a file into its input.
        objective: What its outputs mean.
        temperature: Divides the logits for calibrated probabilities (Guo et al., 2017).
        record: The whole of `model.json`.
        run: The folder it was trained in.
    """

    classifier: Classifier
    label: Label
    recipe: Recipe
    objective: Objective
    temperature: float
    record: dict[str, Any]
    run: Path

    def logits(
        self, features: NDArray[np.float32], embeddings: NDArray[np.float32] | None = None
    ) -> NDArray[np.float64]:
        """Logits of pooled features (N, width) and embeddings (N, embedding width)."""
        with torch.inference_mode():
            beside = None if embeddings is None else torch.from_numpy(np.array(embeddings))
            logits = self.classifier.head(torch.from_numpy(np.array(features)), beside)
        return logits.double().numpy()

    def probabilities(
        self, logits: NDArray[np.float64], temperature: float = 1.0
    ) -> NDArray[np.float64]:
        """Class probabilities (N, classes) of logits (N, outputs), rows adding up to 1."""
        return probabilities_of(self.objective, logits, temperature)


def probabilities_of(
    objective: Objective, logits: NDArray[np.float64], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Class probabilities (N, classes) of logits (N, outputs) divided by a temperature."""
    logs = objective.log_probabilities(torch.from_numpy(logits / temperature))
    probabilities = logs.exp().numpy()
    return probabilities / probabilities.sum(1, keepdims=True)


def save_model(folder: Path, classifier: Classifier, record: dict[str, Any]) -> None:
    """Write both weight files and the record.

    Args:
        folder: The run's.
        classifier: To save.
        record: `model.json`, as JSON values.
    """
    state = {name: value.detach().cpu() for name, value in classifier.state_dict().items()}
    with written_whole(folder / WEIGHTS) as path, path.open("wb") as stream:
        torch.save(state, stream)  # into a file of its own naming, it would write the name
    with written_whole(folder / TWIN) as path:
        contiguous = {name: value.contiguous() for name, value in state.items()}
        save_file(contiguous, path, {"mammography": canonical_json(record)})
    write_json(folder / RECORD, record)


def load_model(run: Path) -> TrainedModel:
    """Open the classifier of a finished run.

    Raises:
        StoreError: The folder holds no finished run.
        WeightsError: Its files disagree or are damaged.
    """
    record = read_model_record(run)
    try:
        with safe_open(run / TWIN, "pt") as opened:
            inside = (opened.metadata() or {}).get("mammography", "")
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{run / TWIN} is missing or damaged ({error}); train again.") from error
    if inside != canonical_json(record):
        raise WeightsError(
            f"{run / TWIN} and {RECORD} beside it are of different runs; train again, or put the "
            "files back that belong together."
        )
    architecture = find_architecture(record["arch"])
    encoder = architecture.headless(architecture.build())
    label = Label(
        record["label"]["name"], tuple(record["label"]["classes"]), tuple(record["label"]["names"])
    )
    objective = find_objective(record["objective"])
    classifier = Classifier(
        encoder,
        record["encoder_width"],
        objective.outputs(len(label.classes)),
        record["dropout"],
        record["fused"]["width"] if record["fused"] else 0,
    )
    try:
        classifier.load_state_dict(state)
    except RuntimeError as error:
        what = " ".join(str(error).split())
        raise WeightsError(f"{run / TWIN} does not fit {RECORD} beside it: {what}") from error
    classifier.eval().requires_grad_(False)
    return TrainedModel(
        classifier,
        label,
        recorded_recipe(record["recipe"], run),
        objective,
        record["temperature"],
        record,
        run,
    )


def read_model_record(run: Path) -> dict[str, Any]:
    """`model.json` of a finished run.

    Raises:
        StoreError: There is none, or it cannot be read.
    """
    try:
        return json.loads((run / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(
            f"{run} holds no finished run ({RECORD} is missing): give the results folder of "
            "mammography train-density."
        ) from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{run / RECORD} cannot be read ({error}).") from error
