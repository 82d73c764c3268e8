"""A search for good parameters: Optuna proposes, a file remembers, bad trials end early.

Nothing here knows what a trial is made of: whoever runs one tells what came of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.trial import TrialState

from mammography.errors import MammographyError, StoreError
from mammography.runs.results import IDENTITY, resumable
from mammography.training.callbacks import OnEpoch
from mammography.training.tuning_space import Space, Value, record
from mammography.training.tuning_study import REPEATS, Pruning, importances, opened, record_of
from mammography.training.tuning_trials import METRIC, TrialRecord, best_of, trial_name

log = logging.getLogger(__name__)

#: The sought metric in a run's history.
WATCHED = f"val_{METRIC}"

#: What of a run's identity must be the same in all trials.
_DATA = ("images", "split", "embeddings", "weights")


class TrialPruned(MammographyError):  # noqa: N818  (no failure)
    """Training ended early, because other trials were better at the same epoch."""


@dataclass(frozen=True)
class Proposal:
    """A trial to run.

    Attributes:
        number: As Optuna counts, from 0.
        parameters: Value by name.
    """

    number: int
    parameters: dict[str, Value]

    @property
    def name(self) -> str:
        """What the trial's files call it."""
        return trial_name(self.number)


@dataclass(frozen=True)
class Outcome:
    """What a trial's run came to.

    Attributes:
        folder: Its results.
        metrics: Headline metrics of its best epoch.
        best_epoch: From 1.
        exit_code: Of the run.
    """

    folder: Path
    metrics: dict[str, float | None]
    best_epoch: int
    exit_code: int


#: Runs a trial, telling every line of its history; may raise `TrialPruned` from there.
Train = Callable[[Proposal, OnEpoch], Outcome]


class Tuning:
    """A study in a file. Trials that were killed are failed, and proposed again.

    A proposal depends on the seed, on its place among the proposals, and on what came of the trials
    that ended before it; so an interrupted search goes on as if nothing had happened, as long as
    trials run one after the other and their numbers are reproducible.

    Args:
        file: Of the study; made where it does not exist.
        runs: Folder that the trials' results folders lie in.
        space: What is searched.
        seed: Of the proposals.
        pruning: None to train every trial to its end.
        settings: JSON values that must be the same whenever the search goes on.

    Raises:
        StoreError: The file is no study, or that of a search with other settings.
    """

    def __init__(
        self,
        file: Path,
        runs: Path,
        space: Space,
        seed: int,
        pruning: Pruning | None,
        settings: Mapping[str, Any],
    ) -> None:
        self._runs, self._space, self._seed = runs, space, seed
        self._running: dict[int, optuna.Trial] = {}
        self._study = opened(file, pruning)
        self._same("settings", {**settings, "space": record(space)}, f"{file} is of a search")
        self.requeue_unfinished()

    def trials(self) -> list[TrialRecord]:
        """All trials there ever were, in their order."""
        return [
            record_of(trial) for trial in self._study.trials if trial.state != TrialState.WAITING
        ]

    def left(self, trials: int) -> int:
        """How many trials are still to run until so many parameters have been tried."""
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return len(waiting) + max(0, trials - self._proposed())

    def propose(self) -> Proposal:
        """The next trial."""
        seed = np.random.SeedSequence((self._proposed(), self._seed)).generate_state(1)[0]
        self._study.sampler = optuna.samplers.TPESampler(seed=int(seed))
        trial = self._study.ask()
        parameters = {name: values.suggest(trial, name) for name, values in self._space.items()}
        self._running[trial.number] = trial
        proposal = Proposal(trial.number, parameters)
        shown = ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                          for name, value in parameters.items())  # fmt: skip
        log.info("trial %d (%s): %s", proposal.number, proposal.name, shown)
        return proposal

    def report(self, number: int, line: Mapping[str, Any]) -> bool:
        """Take note of an epoch of a trial.

        Args:
            number: Of the trial.
            line: Of its history.

        Returns:
            Whether the trial shall end.

        Raises:
            StoreError: It is trained on other data than the trials before.
        """
        trial = self._running[number]
        self._note_folder(trial)
        if line[WATCHED] is None:
            return False
        trial.report(line[WATCHED], line["epoch"])
        return trial.should_prune()

    def end(self, number: int, outcome: Outcome | str) -> None:
        """Take note of what a trial came to, or why it failed; that one is not tried again.

        Raises:
            StoreError: It was trained on other data than the trials before.
        """
        trial = self._running.pop(number)
        self._note_folder(trial)
        if isinstance(outcome, str):
            self._fail(trial, outcome)
            return
        trial.set_user_attr("folder", outcome.folder.name)
        trial.set_user_attr("metrics", outcome.metrics)
        trial.set_user_attr("best_epoch", outcome.best_epoch)
        trial.set_user_attr("exit_code", outcome.exit_code)
        value = outcome.metrics[METRIC]
        if value is None:
            self._fail(trial, f"{METRIC} is undefined")
            return
        self._study.tell(trial, value)
        best = best_of(self.trials())
        assert best is not None
        log.info(
            "trial %d: %s %.3f; the best is trial %d with %.3f",
            number, METRIC, value, best.number, best.value,
        )  # fmt: skip

    def prune(self, number: int) -> None:
        """Take note that a trial was ended early."""
        trial = self._running.pop(number)
        self._note_folder(trial)
        self._study.tell(trial, state=TrialState.PRUNED)
        log.info("trial %d is worse than the median of the others: ended early", number)

    def requeue_unfinished(self) -> None:
        """Fail the trials that nobody runs any more, and propose their parameters again."""
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            if trial.params.keys() >= self._space.keys():  # or it is as if it had never been
                self._study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})
                log.warning("trial %d did not come to its end, and is done again", trial.number)
            self._study.tell(trial.number, state=TrialState.FAIL)

    def importances(self) -> dict[str, float]:
        """See `mammography.training.tuning_study.importances`."""
        return importances(self._study)

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)
        log.warning("trial %d failed: %s", trial.number, reason)

    def _proposed(self) -> int:
        """How many sets of parameters were proposed; a repeated trial is no new one."""
        return sum(
            trial.params.keys() >= self._space.keys() and REPEATS not in trial.user_attrs
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state != TrialState.WAITING
        )

    def _note_folder(self, trial: optuna.Trial) -> None:
        """Record which folder the trial's run made, and that it has the data of the others."""
        if "folder" in trial.user_attrs:
            return
        folder, _ = resumable(self._runs, trial.params)
        if folder is None or folder.name in {other.folder for other in self.trials()}:
            return
        trial.set_user_attr("folder", folder.name)
        identity = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
        data = {key: identity[key] for key in _DATA}
        self._same("data", data, f"Earlier trials in {self._runs} were run")

    def _same(self, name: str, values: Mapping[str, Any], what: str) -> None:
        """Remember these values, or refuse them where others are remembered."""
        known = self._study.user_attrs.get(name)
        if known is None:
            self._study.set_user_attr(name, dict(values))
            return
        other = sorted(key for key in {*known, *values} if known.get(key) != values.get(key))
        if other:
            raise StoreError(
                f"{what} with other {', '.join(other)}; results would not be comparable. Choose "
                "another --outdir, or give the options that it was begun with."
            )


def attempt(train: Train, proposal: Proposal, on_epoch: OnEpoch) -> Outcome | str:
    """Run a trial; what it came to, or why its parameters are at fault.

    Raises:
        TrialPruned: `on_epoch` did.
        MammographyError: Something is wrong that all trials have in common.
    """
    try:
        return train(proposal, on_epoch)
    except torch.cuda.OutOfMemoryError:
        return "the device's memory is too small for it"
    except MammographyError as error:
        if type(error) is not MammographyError:  # the kinds of error are those of options and data
            raise
        return str(error)


def run_here(tuning: Tuning, train: Train, trials: int) -> None:
    """Run trials one after the other in this process, until so many parameters have been tried."""
    for _ in range(tuning.left(trials)):
        proposal = tuning.propose()
        try:
            outcome = attempt(train, proposal, _judge(tuning, proposal.number))
        except TrialPruned:
            tuning.prune(proposal.number)
        else:
            tuning.end(proposal.number, outcome)


def _judge(tuning: Tuning, number: int) -> OnEpoch:
    def judge(line: Mapping[str, Any]) -> None:
        if tuning.report(number, line):
            raise TrialPruned(f"Pruned after epoch {line['epoch']}: other trials were better.")

    return judge
