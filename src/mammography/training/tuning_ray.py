"""The same trials on Ray Tune: on this machine, or on a cluster by its address."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.search import Searcher

from mammography.training.tuning import Proposal, Train, TrialPruned, Tuning, attempt

log = logging.getLogger(__name__)

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # tells nobody
    "RAY_AIR_NEW_OUTPUT": "0",  # says nothing
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # writes no files: runs have their own
}


def run_on_ray(
    tuning: Tuning,
    train: Train,
    trials: int,
    folder: Path,
    *,
    address: str | None,
    at_once: int,
    cores: int,
    devices: int,
) -> None:
    """Run trials on Ray Tune until so many parameters have been tried.

    The study stays in this process; Ray's workers train, and ask it after every epoch.

    Args:
        tuning: The study.
        train: Runs a trial; it must be picklable, and its paths must hold on every machine.
        trials: How many parameters, with those that have been tried before.
        folder: For Ray's own files.
        address: Of a running cluster; None starts Ray on this machine.
        at_once: Trials that run at the same time.
        cores: Of the processor, for each trial.
        devices: CUDA devices for each trial, where the cluster has any and the trial may use them.

    Raises:
        MammographyError: What a trial raised.
    """
    left = tuning.left(trials)
    if not left:
        return
    with _ray(address), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fail_fast")  # the first error shall end all
        devices = devices if ray.cluster_resources().get("GPU", 0) else 0
        log.info(
            "Ray Tune: %d trials at once, %d cores and %d CUDA devices each",
            at_once, cores, devices,
        )  # fmt: skip
        study = _Study(tuning)
        trainable = tune.with_parameters(_Trial, train=train)
        try:
            tune.run(
                tune.with_resources(trainable, {"cpu": cores, "gpu": devices}),
                name="tune-density",
                search_alg=study,
                stop=study.judge,
                num_samples=left,
                max_concurrent_trials=at_once,
                fail_fast="raise",
                storage_path=str(folder.resolve()),
                verbose=0,
            )
        except RayTaskError as error:
            raise error.cause from error


@contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """Ray, quietly; one that was started here is ended here."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ours = not ray.is_initialized()
    if ours:
        ray.init(
            address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


class _Study(Searcher):
    """What Ray Tune asks for proposals, and tells of results."""

    def __init__(self, tuning: Tuning) -> None:
        super().__init__()
        self._tuning = tuning
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next trial."""
        proposal = self._tuning.propose()
        self._numbers[trial_id] = proposal.number
        return asdict(proposal)

    def judge(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether a trial shall end after what it just told."""
        number = self._numbers[trial_id]
        if "line" in result:
            return self._tuning.report(number, result["line"])
        del self._numbers[trial_id]
        self._tuning.end(number, result["outcome"])
        return True

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial that ended without an outcome was ended early, unless it failed."""
        number = self._numbers.pop(trial_id, None)
        if number is not None and not error:
            self._tuning.prune(number)


class _Trial(tune.Trainable):
    """A trial in a thread of a worker, which waits after every epoch for the study's word."""

    def setup(self, config: dict[str, Any], train: Train) -> None:
        """Begin to train."""
        self._told: Queue[dict[str, Any] | BaseException] = Queue()
        self._goes_on: Queue[bool] = Queue()
        self._waiting = False
        proposal = Proposal(config["number"], config["parameters"])
        self._thread = Thread(target=self._train, args=(train, proposal))
        self._thread.start()

    def step(self) -> dict[str, Any]:
        """The next epoch's line, or what the trial came to."""
        if self._waiting:
            self._goes_on.put(True)
        told = self._told.get()
        if isinstance(told, BaseException):
            raise told
        self._waiting = "line" in told
        return told

    def cleanup(self) -> None:
        """End the thread, which leaves its folder in order."""
        if self._waiting:
            self._goes_on.put(False)
        self._thread.join()

    def _train(self, train: Train, proposal: Proposal) -> None:
        try:
            outcome = attempt(train, proposal, self._ask)
            self._told.put({"outcome": outcome, "done": True})
        except TrialPruned:
            return
        except BaseException as error:  # noqa: BLE001  (raised again by `step`)
            self._told.put(error)

    def _ask(self, line: Mapping[str, Any]) -> None:
        self._told.put({"line": dict(line)})
        if not self._goes_on.get():
            raise TrialPruned(f"Pruned after epoch {line['epoch']}: other trials were better.")
