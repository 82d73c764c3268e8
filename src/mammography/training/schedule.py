"""Optimiser and learning rates of a classifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from mammography.training.classifier import Classifier
from mammography.training.settings import FitSettings

_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups, **rest: torch.optim.SGD(groups, momentum=0.9, **rest),
}

#: Epochs without a lower validation loss after which "plateau" halves the learning rates.
_PATIENCE = 3


def optimizer_of(classifier: Classifier, settings: FitSettings) -> Optimizer:
    """An optimiser of what is trained: a group "head", and "backbone" where there is one."""
    groups: list[dict[str, Any]] = [
        {"params": list(classifier.linear.parameters()), "lr": settings.lr, "name": "head"}
    ]
    backbone = [weight for weight in classifier.encoder.parameters() if weight.requires_grad]
    if backbone:
        groups.append({"params": backbone, "lr": settings.backbone_lr, "name": "backbone"})
    return _OPTIMIZERS[settings.optimizer](groups, weight_decay=settings.weight_decay)


def set_rates(optimizer: Optimizer, settings: FitSettings, val_losses: Sequence[float]) -> None:
    """Give an optimiser the learning rates of the epoch that comes after these.

    They follow from the epochs before, so that an interrupted training has them again.

    Args:
        optimizer: Of `optimizer_of`.
        settings: Of the trainer.
        val_losses: Of all epochs so far.
    """
    now = factor(settings, val_losses)
    for group in optimizer.param_groups:
        group["lr"] = now * (settings.lr if group["name"] == "head" else settings.backbone_lr)


def factor(settings: FitSettings, val_losses: Sequence[float]) -> float:
    """What the learning rates of the epoch that comes after these are multiplied by."""
    epoch, warmup = len(val_losses), settings.warmup_epochs
    if epoch < warmup:
        return (epoch + 1) / warmup
    if settings.scheduler == "plateau":
        return 0.5 ** _plateaus(val_losses[warmup:])
    rest = max(1, settings.epochs - warmup)
    if settings.scheduler == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - warmup) / rest)))
    if settings.scheduler == "step":
        return 0.1 ** min(2, 3 * (epoch - warmup) // rest)
    return 1.0


def _plateaus(losses: Sequence[float]) -> int:
    """How often the loss has gone without a new minimum for `_PATIENCE` epochs."""
    plateaus, waited, lowest = 0, 0, math.inf
    for loss in losses:
        waited = 0 if loss < lowest else waited + 1
        lowest = min(loss, lowest)
        if waited == _PATIENCE:
            plateaus, waited = plateaus + 1, 0
    return plateaus
