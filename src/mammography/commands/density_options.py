"""What the options of `train-density` ask for, and the refusal of those that make no sense."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mammography.errors import UsageError

if TYPE_CHECKING:
    from mammography.archive.dialects import Label
    from mammography.commands.train_density import TrainDensity
    from mammography.training.settings import FitSettings
    from mammography.training.study import ModelChoice

_LEAST = {
    "epochs": 1, "batch_size": 1, "accumulate": 1, "devices": 1, "max_pixels": 1,
    "warmup_epochs": 0, "lr": 0, "backbone_lr": 0, "weight_decay": 0, "mixup": 0,
    "min_readable": 0, "img_size": 1, "subset": 2, "early_stopping": 1, "num_workers": 1,
    "prefetch_factor": 1, "cv_folds": 2,
}  # fmt: skip


def check(command: TrainDensity) -> None:
    """Refuse options that are out of range or contradict each other.

    Raises:
        UsageError: The message says which, and what to do.
    """
    for name, least in _LEAST.items():
        value = getattr(command, name)
        if isinstance(value, (int, float)) and not least <= value < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {least}, not {value}.")
    for name in ("dropout", "label_smoothing"):
        if not 0 <= getattr(command, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} is a share from 0 to below 1.")
    if command.clip is not None and not command.clip > 0:
        raise UsageError(f"--clip must be above 0, not {command.clip}.")
    if not 0 < command.val_frac < 1:
        raise UsageError(f"--val-frac is a share above 0 and below 1, not {command.val_frac}.")
    if not command.dicom_root.is_dir():
        raise UsageError(f"There is no folder {command.dicom_root} (--dicom-root).")
    if command.use_sampler and command.class_weights not in (None, "none"):
        raise UsageError(
            "--use-sampler draws rare classes more often, and --class-weights makes them weigh "
            "more: together they would count twice. With the sampler, leave --class-weights out."
        )
    exclusive = (
        ("embeddings", "embeddings_dir"), ("split", "cv_folds"), ("cv_folds", "seeds"),
    )  # fmt: skip
    for one, other in exclusive:
        if getattr(command, one) is not None and getattr(command, other) is not None:
            first, second = (f"--{name.replace('_', '-')}" for name in (one, other))
            raise UsageError(f"{first} and {second} exclude each other.")
    if command.cv_outdir and not command.cv_folds:
        raise UsageError("--cv-outdir needs --cv-folds.")
    class_weights_of(command)
    seeds_of(command)


def class_weights_of(command: TrainDensity) -> str | tuple[float, ...]:
    """--class-weights as "auto", "none" or numbers.

    Raises:
        UsageError: It is nothing of that.
    """
    if command.class_weights is None:
        return "none" if command.use_sampler else "auto"
    if command.class_weights in ("auto", "none"):
        return command.class_weights
    try:
        weights = tuple(float(word) for word in command.class_weights.split(","))
    except ValueError as error:
        raise UsageError(
            "--class-weights takes auto, none, or numbers separated by commas, not "
            f"{command.class_weights!r}."
        ) from error
    if not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise UsageError("--class-weights must be at least 0, and not all of them 0.")
    return weights


def check_class_weights(command: TrainDensity, label: Label) -> None:
    """Refuse class weights that are not as many as the classes.

    Raises:
        UsageError: The message says which classes there are.
    """
    weights, names = class_weights_of(command), label.names
    if isinstance(weights, tuple) and len(weights) != len(names):
        raise UsageError(
            f"--class-weights needs one number for each of {', '.join(names)}: {len(names)}, not "
            f"{len(weights)}."
        )


def seeds_of(command: TrainDensity) -> list[int]:
    """--seeds as numbers; without it, --seed.

    Raises:
        UsageError: They are none, or one is there twice.
    """
    if command.seeds is None:
        return [command.seed]
    try:
        seeds = [int(word) for word in command.seeds.split(",")]
    except ValueError as error:
        raise UsageError(
            f"--seeds takes numbers separated by commas, not {command.seeds!r}."
        ) from error
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds names a seed twice: {command.seeds}.")
    return seeds


def settings_of(command: TrainDensity) -> FitSettings:
    """The trainer's settings.

    Raises:
        UsageError: There is no such device.
    """
    from mammography.encoders.torch_backend import choose_device
    from mammography.training.settings import FitSettings

    return FitSettings(
        epochs=command.epochs,
        batch_size=command.batch_size,
        lr=command.lr,
        backbone_lr=command.lr / 10 if command.backbone_lr is None else command.backbone_lr,
        optimizer=command.optimizer,
        weight_decay=command.weight_decay,
        scheduler=command.scheduler,
        warmup_epochs=command.warmup_epochs,
        patience=command.early_stopping,
        accumulate=command.accumulate,
        clip=command.clip,
        label_smoothing=command.label_smoothing,
        mixup=command.mixup,
        augment=command.train_augment,
        sampler=command.use_sampler,
        seed=command.seed,
        amp=command.amp,
        deterministic=command.deterministic,
        device=choose_device(command.device),
    )


def model_of(command: TrainDensity) -> ModelChoice:
    """What is trained."""
    from mammography.training.study import ModelChoice

    return ModelChoice(
        arch=command.arch,
        weights=str(command.weights),
        objective=command.loss,
        dropout=command.dropout,
        train_backbone=command.train_backbone,
        last_block=command.unfreeze_last_block,
        class_weights=class_weights_of(command),
    )
