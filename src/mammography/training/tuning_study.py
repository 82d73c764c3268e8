"""Optuna's side of a search: its file, its pruner, its importances."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from mammography.errors import StoreError
from mammography.training.tuning_trials import METRIC, TrialRecord

#: Attribute of a trial that runs an earlier one again: the number of that one.
REPEATS = "repeats"

#: Completed trials without which importances are not computed.
_ENOUGH = 8


@dataclass(frozen=True)
class Pruning:
    """When a trial is ended early: its best epoch so far is worse than the median of the others.

    Attributes:
        after: Epochs that every trial is given.
        least_trials: Trials that must have come to an end before.
    """

    after: int
    least_trials: int


def opened(file: Path, pruning: Pruning | None) -> optuna.Study:
    """The study in a file, which is made where it does not exist.

    Raises:
        StoreError: The file is no study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if pruning:
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=pruning.least_trials, n_warmup_steps=pruning.after
        )
    try:
        return optuna.create_study(
            storage=f"sqlite:///{file}",
            study_name="tune-density",
            direction="maximize",
            pruner=pruner,
            load_if_exists=True,
        )
    except (SQLAlchemyError, RuntimeError) as error:
        raise StoreError(f"{file} is no study that can be gone on with: {error}.") from error


def record_of(trial: FrozenTrial) -> TrialRecord:
    """A trial without Optuna."""
    attributes = trial.user_attrs
    failed = trial.state == TrialState.FAIL
    return TrialRecord(
        number=trial.number,
        state="failed" if failed else trial.state.name.lower(),
        value=trial.value,
        epochs=max(trial.intermediate_values, default=0),
        best_epoch=attributes.get("best_epoch"),
        parameters=trial.params,
        metrics=attributes.get("metrics", {}),
        folder=attributes.get("folder"),
        exit_code=attributes.get("exit_code"),
        repeats=attributes.get(REPEATS),
        reason=attributes.get("reason", "it did not come to an end" if failed else None),
    )


def importances(study: optuna.Study) -> dict[str, float]:
    """How much each parameter decides whether a trial is among the best quarter; sum 1.

    PED-ANOVA (Watanabe, Bansal & Hutter, IJCAI 2023, arXiv:2304.10255), over completed trials.

    Raises:
        ValueError: They are too few, or all alike; the message says which.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(trials) < _ENOUGH:
        raise ValueError(f"fewer than {_ENOUGH} completed trials ({len(trials)})")
    if len({trial.value for trial in trials}) == 1:
        raise ValueError(f"all {len(trials)} completed trials have the same {METRIC}")
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
