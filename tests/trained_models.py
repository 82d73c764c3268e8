"""Run folders of classifiers with random weights: what `train-density` leaves, without training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mammography.archive.dialects import DENSITY, Label
from mammography.encoders.registry import load_encoder
from mammography.preprocess.recipe import Recipe
from mammography.preprocess.recipes.density import Density
from mammography.training.classifier import Classifier
from mammography.training.model_files import save_model
from mammography.training.objective import find_objective


def write_model(
    folder: Path,
    *,
    arch: str = "timm:resnet10t",
    recipe: Recipe | None = None,
    label: Label = DENSITY,
    objective: str = "cross-entropy",
    fused: dict[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Write the model of a run into `folder`.

    Args:
        folder: Made.
        arch: Encoder.
        recipe: `density` at 64 × 64 where not given.
        label: The classes.
        objective: By name.
        fused: Width and fingerprint of the embeddings.
        seed: Of all weights.
    """
    recipe = recipe or Density(size=(64, 64))
    encoder = load_encoder(arch, "random", seed=seed, size=recipe.size)
    width = fused["width"] if fused else 0
    outputs = find_objective(objective).outputs(len(label.classes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(encoder.network, encoder.info.width, outputs, 0.2, width)
        with torch.no_grad():  # images shall differ in their classes
            brightness = torch.linspace(-2, 2, 16).reshape(16, 1, 1, 1)
            usual = encoder.network(torch.randn(16, 3, *recipe.size) + brightness)
            weights = classifier.linear.weight[:, : encoder.info.width]
            weights *= 2 / (usual @ weights.T).std(0)[:, None]
            classifier.linear.bias.copy_(-(usual @ weights.T).mean(0))
        classifier.embedding_mean.normal_()
        classifier.embedding_std.uniform_(0.5, 2.0)
    folder.mkdir(parents=True)
    save_model(
        folder,
        classifier,
        {
            "arch": arch,
            "encoder_width": encoder.info.width,
            "weights": asdict(encoder.info.weights),
            "label": {key: _plain(value) for key, value in asdict(label).items()},
            "objective": objective,
            "dropout": 0.2,
            "recipe": recipe.record() | {"hash": recipe.hash},
            "fused": fused,
            "temperature": 1.5,
            "seed": seed,
            "terms": "The terms of the test's images hold.",
            "notice": "Research only: not for diagnosis.",
        },
    )
    return folder


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
