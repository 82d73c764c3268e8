"""Optimiser and learning rates of a classifier."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, MultiplicativeLR, ReduceLROnPlateau

from mammography.training.classifier import Classifier
from mammography.training.settings import FitSettings

_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups, **rest: torch.optim.SGD(groups, momentum=0.9, **rest),
}


def optimizer_of(classifier: Classifier, settings: FitSettings) -> Optimizer:
    """An optimiser of what is trained: a group "head", and "backbone" where there is one."""
    groups: list[dict[str, Any]] = [
        {"params": list(classifier.linear.parameters()), "lr": settings.lr, "name": "head"}
    ]
    backbone = [weight for weight in classifier.encoder.parameters() if weight.requires_grad]
    if backbone:
        groups.append({"params": backbone, "lr": settings.backbone_lr, "name": "backbone"})
    return _OPTIMIZERS[settings.optimizer](groups, weight_decay=settings.weight_decay)


def factor(settings: FitSettings, epoch: int) -> float:
    """What the learning rates of an epoch, counted from 0, are multiplied by.

    For "plateau", the warm-up alone.
    """
    warmup = settings.warmup_epochs
    if epoch < warmup:
        return (epoch + 1) / warmup
    rest = max(1, settings.epochs - warmup)
    if settings.scheduler == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - warmup) / rest)))
    if settings.scheduler == "step":
        return 0.1 ** min(2, 3 * (epoch - warmup) // rest)
    return 1.0


def schedulers_of(optimizer: Optimizer, settings: FitSettings) -> list[dict[str, Any]]:
    """What changes the learning rates after each epoch, as Lightning takes it."""
    if settings.scheduler != "plateau":
        return [{"scheduler": LambdaLR(optimizer, lambda epoch: factor(settings, epoch))}]
    for group in optimizer.param_groups:
        group["lr"] *= factor(settings, 0)
    warmup = MultiplicativeLR(
        optimizer, lambda epoch: factor(settings, epoch) / factor(settings, epoch - 1)
    )
    plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=3)
    return [{"scheduler": warmup}, {"scheduler": plateau, "monitor": "val_loss"}]
