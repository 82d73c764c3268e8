"""Models with random weights, and embeddings, as `train-density` and `embed` leave them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from mammography.archive.dialects import DENSITY, Label
from mammography.encoders.registry import load_encoder
from mammography.preprocess.recipe import Recipe
from mammography.preprocess.recipes.density import Density
from mammography.runs import write_json
from mammography.tables import rejects_frame
from mammography.training.classifier import Classifier
from mammography.training.model_files import save_model
from mammography.training.objective import find_objective

#: What a model says of the embeddings of `write_embeddings`.
FUSED = {"width": 5, "fingerprint": "f" * 64}


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
            usual = encoder.network(torch.from_numpy(recipe.normalise(_grays(recipe.size))))
            weights = classifier.linear.weight[:, : encoder.info.width]
            weights *= 8
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


def write_embeddings(folder: Path, paths: Sequence[str], rows: Sequence[int]) -> Path:
    """Write an embedding set of five numbers an image, the same for the same path.

    Args:
        folder: Made.
        paths: Of an archive's images.
        rows: Which of them the set holds, in which order.
    """
    folder.mkdir(parents=True)
    features = [np.random.default_rng(list(paths[row].encode())).normal(size=5) for row in rows]
    np.save(folder / "features.npy", np.array(features, np.float32))
    held = [paths[row] for row in rows]
    ids = [path.removesuffix(".dcm") for path in held]
    pl.DataFrame({"image_id": ids, "path": held}).write_parquet(folder / "index.parquet")
    rejects_frame([]).write_csv(folder / "rejects.csv")
    record = {"encoder": {"width": 5}, "fingerprint": FUSED["fingerprint"]}
    write_json(folder / "embedding.json", record)
    return folder


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _grays(size: tuple[int, int]) -> NDArray[np.float32]:
    """Sixteen black pictures with bright corners of different sizes."""
    grays = np.zeros((16, *size), np.float32)
    for number in range(16):
        grays[number, : size[0] * (number + 1) // 16, : size[1] * (16 - number) // 16] = 0.8
    return grays
