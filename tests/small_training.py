"""A network and images so small that a whole training takes a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mammography.training.classifier import Classifier
from mammography.training.data import Images
from mammography.training.density import DensityTask
from mammography.training.fit import Fitted, Loading, fit
from mammography.training.objective import find_objective
from mammography.training.settings import FitSettings

WIDTH, ROWS, COLUMNS = 6, 20, 16
NAMES = ("A", "B", "C", "D")


class Stop(Exception):  # noqa: N818
    """Ends a training from outside."""


def images(count: int = 40, *, classes: int = 4, embeddings: bool = False) -> Images:
    """Noise that is the brighter the higher the class; classes take turns."""
    random = np.random.default_rng(7)
    codes = np.arange(count) % classes
    grays = random.integers(0, 30000, (count, ROWS, COLUMNS)) + 10000 * codes[:, None, None]
    beside = random.normal(3.0, 2.0, (count, 5)).astype(np.float32) if embeddings else None
    return Images(list(grays.astype(np.uint16)), codes.astype(np.int64), beside)


def encoder() -> nn.Module:
    """Two small layers with batch normalisation, and dropout."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2),
        nn.Conv2d(4, WIDTH, 3, stride=2), nn.BatchNorm2d(WIDTH), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def make_task(
    settings: FitSettings,
    *,
    of: type[DensityTask] = DensityTask,
    objective: str = "cross-entropy",
    trained: Sequence[str] = ("",),
    weights: Sequence[float] = (1, 1, 1, 1),
    embedding_width: int = 0,
) -> DensityTask:
    """The task of training that network; always the same first weights."""
    found, network = find_objective(objective), encoder()
    classifier = Classifier(network, WIDTH, found.outputs(len(weights)), 0.2, embedding_width)
    classifier.freeze_all_but(trained)
    mean, std = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
    return of(classifier, found, settings, np.array(weights, np.float64), mean, std)


def train(
    task: DensityTask,
    folder: Path,
    data: Images | None = None,
    *,
    stop_after: int | None = None,
) -> Fitted | None:
    """Train on four fifths; None where `stop_after` that many epochs the training was ended."""
    data = data or images()
    validates = np.arange(len(data.codes)) % 20 >= 16

    def on_epoch(line: Mapping[str, Any]) -> None:
        if line["epoch"] == stop_after:
            raise Stop

    try:
        return fit(
            task, data, np.flatnonzero(~validates), np.flatnonzero(validates), list(NAMES), folder,
            Loading(), on_epoch=on_epoch,
        )  # fmt: skip
    except Stop:
        return None


def state(task: DensityTask) -> dict[str, Tensor]:
    """A copy of the classifier's tensors."""
    return {name: value.clone() for name, value in task.classifier.state_dict().items()}


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    """The names of the tensors that are not the same to the bit."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}
