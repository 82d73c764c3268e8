"""What an objective is: how a network's outputs become class probabilities, and their loss.

An objective is a module of `mammography.training.objectives`, or a plugin of another distribution
in the entry-point group ``mammography.objectives``, and holds ``PLUGIN``, an `Objective`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mammography import plugins
from mammography.errors import PluginError


@dataclass(frozen=True)
class Objective:
    """A way to see classes in outputs.

    Attributes:
        outputs: How many outputs a network needs for so many classes.
        log_probabilities: Outputs (batch, outputs) to logarithms of probabilities (batch, classes).
    """

    outputs: Callable[[int], int]
    log_probabilities: Callable[[Tensor], Tensor]


def find_objective(name: str) -> Objective:
    """The objective of that name.

    Raises:
        PluginError: There is none, or the plugin is no objective.
    """
    found = plugins.get("objectives", name)
    if not isinstance(found, Objective):
        raise PluginError(f"The plugin {name!r} is no Objective: {found!r}.")
    return found


def soft_targets(codes: Tensor, classes: int, smoothing: float) -> Tensor:
    """One-hot targets, of which `smoothing` is spread over all classes (Szegedy et al., 2016).

    Args:
        codes: (batch,) int64, 0 to classes - 1.
        classes: How many there are.
        smoothing: Share in [0, 1).

    Returns:
        (batch, classes) float32, rows adding up to 1.
    """
    hard = functional.one_hot(codes, classes).float()
    return hard * (1 - smoothing) + smoothing / classes


def losses(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each image, -Σ t log p.

    Args:
        log_probabilities: (batch, classes).
        targets: (batch, classes), rows adding up to 1.

    Returns:
        (batch,) float32, in nats.
    """
    return -(targets * log_probabilities.float()).sum(1)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Σ w v / Σ w, as `torch.nn.CrossEntropyLoss` averages with class weights; both (batch,).

    0 where all weights are 0: such images say nothing.
    """
    total = weights.sum()
    return torch.dot(values, weights) / torch.where(total > 0, total, 1.0)
