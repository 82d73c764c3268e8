"""What the options of `tune-density` ask for, and the refusal of those that make no sense."""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mammography.commands import density_options
from mammography.commands.construct import construct
from mammography.commands.train_density import TrainDensity
from mammography.errors import MissingExtraError, UsageError
from mammography.runs.provenance import config_of
from mammography.training import ranks
from mammography.training.tuning_space import PUBLISHED, Space, read_space

if TYPE_CHECKING:
    from mammography.commands.tune_density import TuneDensity

log = logging.getLogger(__name__)

#: Options that can be searched: how is trained, never on what, or trials could not be compared.
SEARCHABLE = (
    "arch", "train_backbone", "unfreeze_last_block", "dropout", "epochs", "batch_size", "lr",
    "backbone_lr", "optimizer", "weight_decay", "scheduler", "warmup_epochs", "loss",
    "class_weights", "use_sampler", "label_smoothing", "mixup", "train_augment",
    "early_stopping", "accumulate", "clip", "img_size", "resize",
)  # fmt: skip

#: Options of `train-density` that are the search's own business.
_NOT_HERE = {
    "cv_folds": "A trial is one run; cross-validate the best one with train-density",
    "cv_outdir": "A trial is one run; cross-validate the best one with train-density",
    "seeds": "A trial is one run; train the best one with several seeds with train-density",
    "resume": "The same command goes on with its study anyway",
    "optuna_trial_id": "Trials are named by their numbers",
    "ray_trial_name": "Trials are named by their numbers",
}

#: Options of `train-density` that may change when a study is gone on with.
_MAY_CHANGE = frozenset(
    {
        "outdir", "cache_mode", "cache_dir", "num_workers", "prefetch_factor",
        "persistent_workers", "mlflow", "ray_logdir", "min_readable", "save_embeddings",
    }
)  # fmt: skip


def space_of(command: TuneDensity) -> Space:
    """The search space, without what nothing depends on.

    Raises:
        UsageError: --space is none.
    """
    space = {**(read_space(command.space) if command.space else PUBLISHED)}
    encoder = ("train_backbone", "unfreeze_last_block")
    frozen = not any(name in space or getattr(command, name) for name in encoder)
    if frozen and "backbone_lr" in space:
        del space["backbone_lr"]
        log.info("backbone_lr is not searched: nothing of the encoder is trained.")
    return space


def training_of(command: TuneDensity) -> TrainDensity:
    """The run that all trials have in common; what is searched has its default."""
    options = {field.name: getattr(command, field.name) for field in fields(TrainDensity)}
    return TrainDensity(**options | {"outdir": command.outdir / "hpo_runs"})


def settings_of(command: TuneDensity, space: Space) -> dict[str, Any]:
    """What must be the same whenever a study is gone on with, as JSON values."""
    training = config_of(training_of(command))
    searched = {*space, *_MAY_CHANGE}
    return {
        **{name: value for name, value in training.items() if name not in searched},
        "prune": command.prune,
        "prune_after": prune_after(command, space),
        "prune_trials": command.prune_trials,
    }


def prune_after(command: TuneDensity, space: Space) -> int:
    """How many epochs every trial is given."""
    if command.prune_after is not None:
        return command.prune_after
    warmups = space.get("warmup_epochs")
    if warmups is None:
        return command.warmup_epochs
    return int(max(value for value in warmups.extremes() if isinstance(value, int | float)))


def check(command: TuneDensity, space: Space) -> None:
    """Refuse what makes no sense, before anything slow.

    Raises:
        UsageError: The message says what, and what to do.
        MissingExtraError: Optuna or Ray is not installed.
    """
    _check_extras(command)
    for name, why in _NOT_HERE.items():
        if getattr(command, name):
            raise UsageError(f"{_option(name)} is not for tune-density. {why}.")
    if ranks.world() > 1:
        raise UsageError("Start tune-density without torchrun; --devices trains in parallel.")
    least = {"trials": 1, "prune_after": 0, "prune_trials": 1, "ray_trials": 1, "ray_cores": 1}
    for name, smallest in least.items():
        value = getattr(command, name)
        if value is not None and value < smallest:
            raise UsageError(f"{_option(name)} must be at least {smallest}, not {value}.")
    density_options.check(training_of(command))
    for name, values in space.items():
        _check_searched(command, name, values.extremes())


def _check_extras(command: TuneDensity) -> None:
    extras = {"optuna": ("Optuna", "tune"), "ray": ("Ray Tune", "ray")}
    for module in {"optuna": None, command.engine: None}:
        if find_spec(module) is None:
            program, extra = extras[module]
            raise MissingExtraError(
                f"tune-density needs {program}: pip install 'mammography[{extra}]'."
            )


def _check_searched(command: TuneDensity, name: str, extremes: tuple[Any, ...]) -> None:
    """Refuse a parameter that cannot be searched, or with these values."""
    if name not in SEARCHABLE:
        raise UsageError(
            f"{name} cannot be searched (--space); what can is {', '.join(SEARCHABLE)}."
        )
    training = training_of(command)
    if getattr(command, name) != getattr(type(command)(), name):
        raise UsageError(
            f"{_option(name)} is searched. To give it one value, take {name} out of the search "
            "space: --write-space writes it, --space reads it."
        )
    for value in extremes:
        options = {"csv": command.csv, "dicom_root": command.dicom_root, name: value}
        option = getattr(construct(TrainDensity, options), name)
        density_options.check(replace(training, **{name: option}))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
