"""How a classifier is trained: every number that can change its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scheduler = Literal["cosine", "plateau", "step", "none"]
OptimizerName = Literal["adam", "adamw", "sgd"]


@dataclass(frozen=True)
class FitSettings:
    """The trainer's settings.

    Attributes:
        epochs: At most so many.
        batch_size: Images a batch, over all processes.
        lr: Learning rate of the head.
        backbone_lr: Of the encoder's trained part.
        optimizer: By name.
        weight_decay: Of all trained parameters.
        scheduler: What the learning rates do after the warm-up: cosine to 0, halved when the
            validation loss has had no new minimum for three epochs, a tenth after each third of
            the epochs, or nothing.
        warmup_epochs: The rates of epoch e, counted from 0, are multiplied by
            (e + 1) / warmup_epochs.
        patience: Epochs without a better model after which training ends; None for never.
        accumulate: Batches whose gradients are added up for one step.
        clip: Largest norm of the gradient; None for any.
        label_smoothing: Share of a target that is spread over all classes.
        mixup: Parameter of the Beta distribution; 0 for no mixup.
        augment: Whether training images are augmented.
        sampler: Whether images are drawn so that every class is as frequent as the others.
        seed: Of the order, the augmentation, dropout and the head's first weights.
        amp: Mixed precision.
        deterministic: Ask for algorithms that give the same bytes every time.
        device: "cpu", "cuda" or "mps".
    """

    epochs: int = 20
    batch_size: int = 16
    lr: float = 1e-4
    backbone_lr: float = 1e-5
    optimizer: OptimizerName = "adam"
    weight_decay: float = 0.0
    scheduler: Scheduler = "cosine"
    warmup_epochs: int = 2
    patience: int | None = None
    accumulate: int = 1
    clip: float | None = None
    label_smoothing: float = 0.0
    mixup: float = 0.0
    augment: bool = True
    sampler: bool = False
    seed: int = 42
    amp: bool = False
    deterministic: bool = True
    device: str = "cpu"
