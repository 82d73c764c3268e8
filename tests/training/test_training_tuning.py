"""Searches whose trials are known functions of their parameters."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from mammography.errors import MammographyError, SplitError, StoreError, UsageError
from mammography.training.callbacks import OnEpoch
from mammography.training.tuning import Outcome, Proposal, TrialPruned, Tuning, run_here
from mammography.training.tuning_space import (
    PUBLISHED,
    Categorical,
    Range,
    Space,
    read_space,
    record,
    write_space,
)
from mammography.training.tuning_study import Pruning
from mammography.training.tuning_trials import TrialRecord, best_of, write_best, write_trials

SMALL: Space = {"lr": Range("log-uniform", 1e-5, 1e-3), "size": Categorical((8, 16))}
DATA = {"images": "a", "split": "b", "embeddings": None, "weights": "random"}


class Killed(BaseException):
    """Stands for a signal that leaves no time for anything."""


class Trainer:
    """Writes results folders like a run; a trial's worth is a function of its parameters.

    Args:
        runs: Folder of the results folders.
        fatal: Numbers of trials that are killed after their first epoch.
        data: What the runs say of their data.
    """

    def __init__(
        self, runs: Path, fatal: tuple[int, ...] = (), data: Mapping[str, Any] = DATA
    ) -> None:
        self.runs, self.fatal, self.data = runs, fatal, data

    def worth(self, parameters: Mapping[str, Any]) -> float:
        return 1 - abs(math.log10(parameters["lr"]) + 4) / 2 - (parameters["size"] == 16) / 10

    def __call__(self, proposal: Proposal, on_epoch: OnEpoch) -> Outcome:
        names = ("results" + (f"_{number}" if number else "") for number in count())
        folder = next(self.runs / name for name in names if not (self.runs / name).exists())
        folder.mkdir(parents=True)
        (folder / "identity.json").write_text(json.dumps({**self.data, **proposal.parameters}))
        value = self.worth(proposal.parameters)
        for epoch in (1, 2, 3):
            on_epoch({"epoch": epoch, "val_bal_acc_adj": value * epoch / 3})
            if proposal.number in self.fatal:
                raise Killed
        metrics = {"bal_acc_adj": value, "kappa": value / 2, "auc_ovr": 0.5}
        return Outcome(folder, metrics, 3, 0)


def tuning(folder: Path, space: Space = SMALL, seed: int = 42, **options: Any) -> Tuning:
    settings = {"pruning": None, "settings": {"epochs": 3}, **options}
    return Tuning(folder / "study.db", folder / "runs", space, seed, **settings)


def searched(folder: Path, trials: int, **options: Any) -> list[TrialRecord]:
    study = tuning(folder, **options)
    run_here(study, Trainer(folder / "runs"), trials)
    return study.trials()


def test_the_default_space_is_the_published_one(shared: Path) -> None:
    page = (shared / "seeds/density-classification.md").read_text(encoding="utf-8")
    table = page[page.index("### Search Space") :]
    rows = re.findall(r"^\| ([\w ()]+) \| \[(.+?)\] \| (\S+) \| (\S+) \|$", table, re.M)
    printed = {
        name: (distribution.lower(), [float(value) for value in values.split(",")])
        for name, values, distribution, _ in rows
    }
    ours = {
        "Learning rate (head)": "lr",
        "Learning rate (backbone)": "backbone_lr",
        "Batch size": "batch_size",
        "Dropout": "dropout",
        "Weight decay": "weight_decay",
        "Warmup epochs": "warmup_epochs",
    }
    assert printed == {
        words: (PUBLISHED[name].distribution, list(PUBLISHED[name].extremes()))
        for words, name in ours.items()
    }
    assert list(PUBLISHED) == list(ours.values())


@pytest.mark.parametrize("ending", ["json", "toml"])
def test_a_written_space_is_read_as_it_was(tmp_path: Path, ending: str) -> None:
    if ending == "toml" and sys.version_info < (3, 11):
        pytest.skip("Python reads TOML from 3.11 on")
    space: Space = {
        **PUBLISHED,
        "loss": Categorical(("cross-entropy", "ordinal")),
        "use_sampler": Categorical((True, False)),
        "accumulate": Range("integer", 1, 4),
        "mixup": Range("uniform", 0.0, 0.4),
    }
    path = tmp_path / f"space.{ending}"
    write_space(path, space)
    assert read_space(path) == space
    assert list(read_space(path)) == list(space)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "names no parameter"),
        ("{}", "names no parameter"),
        ('{"lr": 1}', "lr needs a distribution"),
        ('{"lr": {"distribution": "normal", "low": 0, "high": 1}}', "lr needs a distribution"),
        ('{"lr": {"distribution": "uniform", "low": 0}}', "lr needs a distribution"),
        ('{"lr": {"distribution": "uniform", "low": 0, "high": 1, "q": 1}}', "and nothing else"),
        ('{"lr": {"distribution": "uniform", "low": 1, "high": 1}}', "low below high"),
        ('{"lr": {"distribution": "uniform", "low": "0", "high": 1}}', "two numbers"),
        ('{"lr": {"distribution": "uniform", "low": 0, "high": Infinity}}', "two numbers"),
        ('{"lr": {"distribution": "log-uniform", "low": 0, "high": 1}}', "above 0"),
        ('{"lr": {"distribution": "integer", "low": 0.5, "high": 2}}', "is an integer"),
        ('{"lr": {"distribution": "categorical", "choices": []}}', "different words or numbers"),
        ('{"lr": {"distribution": "categorical", "choices": [1, 1.0]}}', "different words"),
        ('{"lr": {"distribution": "categorical", "choices": [[1]]}}', "different words"),
        ('{"lr": {"distribution": "categorical", "choices": "ab"}}', "different words"),
    ],
)
def test_what_is_no_space_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "space.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=words):
        read_space(path)


def test_a_space_is_json_or_toml(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not space\.yaml"):
        write_space(tmp_path / "space.yaml", PUBLISHED)
    with pytest.raises(UsageError, match="cannot be read"):
        read_space(tmp_path / "absent.json")


def test_proposals_lie_in_the_space_and_follow_from_the_seed(tmp_path: Path) -> None:
    space = {**PUBLISHED, "accumulate": Range("integer", 1, 4)}
    rounds = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        study = tuning(tmp_path / name, space, seed)
        rounds.append([study.propose().parameters for _ in range(12)])
    assert rounds[0] == rounds[1]
    assert rounds[0] != rounds[2]
    for parameters in rounds[0]:
        assert list(parameters) == list(space)
        for name, values in space.items():
            value = parameters[name]
            if isinstance(values, Categorical):
                assert value in values.choices
            else:
                assert isinstance(value, int | float)
                assert values.low <= value <= values.high
        assert isinstance(parameters["accumulate"], int)
    assert len({parameters["lr"] for parameters in rounds[0]}) == 12


def test_the_search_finds_what_is_good(tmp_path: Path) -> None:
    best = best_of(searched(tmp_path, 40))
    assert best is not None
    assert best.parameters["size"] == 8
    assert best.parameters["lr"] == pytest.approx(1e-4, rel=0.1)
    assert best.value == pytest.approx(Trainer(tmp_path).worth(best.parameters))


def test_killed_trials_are_failed_and_done_again_as_if_nothing_had_happened(
    tmp_path: Path,
) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = searched(tmp_path / "whole", 16)
    folder, fatal = tmp_path / "killed", (3, 12, 13)
    sessions = 0
    while True:
        study = tuning(folder)
        sessions += 1
        try:
            run_here(study, Trainer(folder / "runs", fatal), 16)
        except Killed:
            continue
        break
    assert sessions == 4
    trials = study.trials()
    assert [trial.number for trial in trials if trial.state == "failed"] == list(fatal)
    assert {trial.number: trial.repeats for trial in trials if trial.repeats is not None} == {
        4: 3, 13: 12, 14: 13,
    }  # fmt: skip
    done = [trial for trial in trials if trial.state == "complete"]
    assert [trial.parameters for trial in done] == [trial.parameters for trial in whole]
    assert [trial.value for trial in done] == [trial.value for trial in whole]
    assert trials[3].reason == "it did not come to an end"
    folders = [trial.folder for trial in trials]
    assert folders == ["results", *(f"results_{number}" for number in range(1, 19))]


def test_a_finished_study_is_left_alone_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    first = searched(tmp_path, 4)
    assert searched(tmp_path, 4) == first
    assert searched(tmp_path, 2) == first
    longer = searched(tmp_path, 6)
    assert longer[:4] == first
    assert len(longer) == 6


class Ranked(Trainer):
    """A trial's worth falls with its number."""

    def __call__(self, proposal: Proposal, on_epoch: OnEpoch) -> Outcome:
        self.number = proposal.number
        return super().__call__(proposal, on_epoch)

    def worth(self, parameters: Mapping[str, Any]) -> float:
        return 1 / (1 + self.number)


@pytest.mark.parametrize(
    ("pruning", "epochs"),
    [
        (None, [3, 3, 3, 3, 3]),
        (Pruning(after=0, least_trials=2), [3, 3, 1, 1, 1]),
        (Pruning(after=2, least_trials=2), [3, 3, 2, 2, 2]),
        (Pruning(after=0, least_trials=4), [3, 3, 3, 3, 1]),
        (Pruning(after=9, least_trials=1), [3, 3, 3, 3, 3]),
    ],
)
def test_bad_trials_end_early(tmp_path: Path, pruning: Pruning | None, epochs: list[int]) -> None:
    study = tuning(tmp_path, pruning=pruning)
    run_here(study, Ranked(tmp_path / "runs"), 5)
    trials = study.trials()
    assert [trial.epochs for trial in trials] == epochs
    ended = ["complete" if done == 3 else "pruned" for done in epochs]
    assert [trial.state for trial in trials] == ended
    assert trials[-1].value == pytest.approx(1 / 5 * epochs[-1] / 3)
    assert best_of(trials) == trials[0]
    assert all(trial.folder for trial in trials)


class Faulty(Trainer):
    """The second trial raises `error`."""

    error: Exception

    def __call__(self, proposal: Proposal, on_epoch: OnEpoch) -> Outcome:
        if proposal.number == 1:
            raise self.error
        return super().__call__(proposal, on_epoch)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.cuda.OutOfMemoryError("CUDA"), "the device's memory is too small for it"),
        (MammographyError("Training diverged."), "Training diverged."),
    ],
)
def test_parameters_that_cannot_be_trained_with_fail_and_are_not_tried_again(
    tmp_path: Path, error: Exception, reason: str
) -> None:
    study, train = tuning(tmp_path), Faulty(tmp_path / "runs")
    train.error = error
    run_here(study, train, 3)
    trials = tuning(tmp_path).trials()
    assert [trial.state for trial in trials] == ["complete", "failed", "complete"]
    assert trials[1].reason == reason
    assert tuning(tmp_path).left(3) == 0


@pytest.mark.parametrize("error", [SplitError("It leaks."), ValueError("a defect")])
def test_what_is_wrong_for_all_trials_ends_the_search(tmp_path: Path, error: Exception) -> None:
    study, train = tuning(tmp_path), Faulty(tmp_path / "runs")
    train.error = error
    with pytest.raises(type(error), match=str(error)):
        run_here(study, train, 3)
    assert tuning(tmp_path).left(3) == 2  # the one that failed, and the third


def test_an_undefined_value_is_a_failure(tmp_path: Path) -> None:
    def train(proposal: Proposal, on_epoch: OnEpoch) -> Outcome:
        on_epoch({"epoch": 1, "val_bal_acc_adj": None})
        return Outcome(tmp_path, {"bal_acc_adj": None, "kappa": None, "auc_ovr": None}, 1, 0)

    study = tuning(tmp_path)
    run_here(study, train, 1)
    (trial,) = study.trials()
    assert (trial.state, trial.reason) == ("failed", "bal_acc_adj is undefined")
    assert best_of([trial]) is None


def test_ties_go_by_kappa_then_auc_then_to_the_first() -> None:
    def trial(number: int, value: float, kappa: float | None, auc: float | None) -> TrialRecord:
        metrics = {"kappa": kappa, "auc_ovr": auc}
        return TrialRecord(
            number, "complete", value, 3, 3, {}, metrics, f"results_{number}", 0, None, None
        )

    trials = [trial(0, 0.4, 0.9, 0.9), trial(1, 0.5, None, 0.9), trial(2, 0.5, 0.3, None)]
    assert best_of(trials) == trials[2]
    trials += [trial(3, 0.5, 0.3, 0.6), trial(4, 0.5, 0.3, 0.6)]
    assert best_of(trials) == trials[3]


def test_a_study_of_another_search_is_refused(tmp_path: Path) -> None:
    searched(tmp_path, 1)
    with pytest.raises(StoreError, match=r"of a search with other epochs;.*another --outdir"):
        tuning(tmp_path, settings={"epochs": 5})
    with pytest.raises(StoreError, match="with other space"):
        tuning(tmp_path, {"lr": SMALL["lr"]})


def test_trials_on_other_data_are_refused(tmp_path: Path) -> None:
    searched(tmp_path, 1)
    study = tuning(tmp_path)
    other = Trainer(tmp_path / "runs", data={**DATA, "images": "c", "split": "d"})
    with pytest.raises(StoreError, match=r"were run with other images, split"):
        run_here(study, other, 2)
    assert [trial.state for trial in tuning(tmp_path).trials()] == ["complete", "failed"]


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("nothing of the kind, and long enough to be looked at" * 9)
    with pytest.raises(StoreError, match=r"study\.db is no study"):
        tuning(tmp_path)


def test_the_parameter_that_decides_is_the_important_one(tmp_path: Path) -> None:
    space = {**SMALL, "noise": Range("uniform", 0, 1)}
    study = tuning(tmp_path, space)
    run_here(study, Trainer(tmp_path / "runs"), 30)
    importances = study.importances()
    assert sum(importances.values()) == pytest.approx(1)
    assert max(importances, key=lambda name: importances[name]) == "lr"
    assert importances == tuning(tmp_path, space).importances()


def test_importances_of_few_or_equal_trials_are_undefined(tmp_path: Path) -> None:
    class Equal(Trainer):
        def worth(self, parameters: Mapping[str, Any]) -> float:
            return 0.0

    study = tuning(tmp_path)
    run_here(study, Equal(tmp_path / "runs"), 7)
    with pytest.raises(ValueError, match="fewer than 8 completed trials"):
        study.importances()
    run_here(study, Equal(tmp_path / "runs"), 8)
    with pytest.raises(ValueError, match="all 8 completed trials have the same bal_acc_adj"):
        study.importances()


def test_the_table_has_every_trial(tmp_path: Path) -> None:
    study = tuning(tmp_path)
    with pytest.raises(Killed):
        run_here(study, Trainer(tmp_path / "runs", (2,)), 4)
    study = tuning(tmp_path, pruning=None)
    run_here(study, Trainer(tmp_path / "runs"), 4)
    trials = study.trials()
    write_trials(tmp_path / "trials.csv", trials, list(SMALL))
    with (tmp_path / "trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["trial"] for row in rows] == [f"hpo_trial_{number:03d}" for number in range(5)]
    assert [row["state"] for row in rows] == ["complete"] * 2 + ["failed"] + ["complete"] * 2
    assert [row["repeats"] for row in rows] == ["", "", "", "2", ""]
    for row, trial in zip(rows, trials, strict=True):
        assert float(row["lr"]) == trial.parameters["lr"]
        assert row["size"] == str(trial.parameters["size"])
        assert row["folder"] == trial.folder
        identity = json.loads((tmp_path / "runs" / row["folder"] / "identity.json").read_text())
        assert identity["lr"] == float(row["lr"])
        assert row["value"] == ("" if trial.value is None else repr(trial.value))


@pytest.mark.parametrize("importances", [{"lr": 0.75, "size": 0.25}, "too few"])
def test_the_best_trial_is_written(tmp_path: Path, importances: dict[str, float] | str) -> None:
    trials = searched(tmp_path, 5)
    write_best(tmp_path / "best_trial.json", trials, importances)
    written = json.loads((tmp_path / "best_trial.json").read_text())
    best = max(trials, key=lambda trial: trial.value or 0)
    assert written["number"] == best.number
    assert written["value"] == best.value == max(trial.value or 0 for trial in trials)
    assert written["parameters"] == best.parameters
    assert written["folder"] == best.folder
    assert written["trials"] == {"complete": 5, "pruned": 0, "failed": 0}
    named = isinstance(importances, dict)
    assert written["importances"] == (importances if named else None)
    assert written["importances_undefined"] == (None if named else "too few")


def test_spaces_are_recorded_as_they_are_written(tmp_path: Path) -> None:
    write_space(tmp_path / "space.json", PUBLISHED)
    assert json.loads((tmp_path / "space.json").read_text()) == record(PUBLISHED)


def test_pruning_is_said_to_the_run_as_no_defect(tmp_path: Path) -> None:
    heard: list[BaseException] = []

    class Listening(Ranked):
        def __call__(self, proposal: Proposal, on_epoch: OnEpoch) -> Outcome:
            try:
                return super().__call__(proposal, on_epoch)
            except TrialPruned as pruned:
                heard.append(pruned)
                raise

    study = tuning(tmp_path, pruning=Pruning(0, 1))
    run_here(study, Listening(tmp_path / "runs"), 2)
    assert [str(each) for each in heard] == ["Pruned after epoch 1: other trials were better."]


def test_a_trial_without_a_folder_does_not_claim_an_earlier_ones(tmp_path: Path) -> None:
    train = Faulty(tmp_path / "runs", fatal=(0,))
    train.error = torch.cuda.OutOfMemoryError("CUDA")
    with pytest.raises(Killed):
        run_here(tuning(tmp_path), train, 1)
    study = tuning(tmp_path)
    run_here(study, train, 1)
    killed, again = study.trials()
    assert (again.repeats, again.parameters) == (0, killed.parameters)
    assert (killed.folder, again.folder) == ("results", None)
