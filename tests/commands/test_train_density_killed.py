"""``mammography train-density`` killed at any moment, and taken up again with ``--resume``.

Each run is a process of its own, forked from a server that has PyTorch imported already.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from density_runs import command, contents, differing, json_of

from mammography.commands.rerun import Rerun
from mammography.commands.train_density import TrainDensity
from mammography.errors import StoreError

EPOCHS: dict[str, Any] = {"epochs": 5, "save_embeddings": True}


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["timm", "lightning", "torch.utils.tensorboard", "mammography.commands.density_run"]
    )
    return context


# What the processes do.


def _run(task: TrainDensity) -> None:
    import torch

    torch.set_num_threads(1)
    raise SystemExit(task.run().exit_code)


def _run_and_die(task: TrainDensity, name: str, times: int, before: bool) -> None:
    """Kill -9 the process when the n-th file of that name is being put into its place."""
    rename, left = Path.replace, [times]

    def deadly(path: Path, target: Path) -> Path:
        left[0] -= Path(target).name == name
        if before and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        renamed = rename(path, target)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return renamed

    Path.replace = deadly  # type: ignore[method-assign, assignment]
    _run(task)


def _run_and_die_while_tidying(task: TrainDensity) -> None:
    """Kill -9 the process when it has removed the first file of the checkpoints."""

    def deadly(folder: Path) -> None:
        next(Path(folder).iterdir()).unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    shutil.rmtree = deadly  # type: ignore[assignment]
    _run(task)


def _run_and_interrupt(task: TrainDensity) -> None:
    """Press Ctrl-C, as it were, while the first checkpoint is being put into its place."""
    from mammography.cli import _run as run_as_a_user_does

    rename = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if Path(target).name == "last.ckpt":
            os.kill(os.getpid(), signal.SIGINT)
        return rename(path, target)

    Path.replace = interrupted  # type: ignore[method-assign, assignment]
    code = run_as_a_user_does(task, debug=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    raise SystemExit(code)


def ended(server: ForkServerContext, target: Callable[..., None], *arguments: Any) -> int | None:
    process = server.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def expected(
    server: ForkServerContext, phantoms: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("expected")
    assert ended(server, _run, command(phantoms, out, **EPOCHS)) == 0
    return out / "results"


# Name of a file, which time, and whether before or after it is in its place. Counted anew by every
# process: a resumed one writes the files of its first epoch for the first time.
MOMENTS = [
    ("split.csv", 1, True), ("best.pt", 1, False), ("last.ckpt", 1, True), ("last.ckpt", 1, False),
    ("last.ckpt", 2, True), ("val_predictions.csv", 1, False), ("best_model.safetensors", 1, False),
    ("summary.json", 1, True),
]  # fmt: skip


def test_killed_again_and_again_the_result_is_the_same_to_the_byte(
    server: ForkServerContext, phantoms: Path, expected: Path, tmp_path: Path
) -> None:
    for number, moment in enumerate(MOMENTS):
        task = command(phantoms, tmp_path, **EPOCHS, resume=number > 0)
        assert ended(server, _run_and_die, task, *moment) == -signal.SIGKILL
    task = command(phantoms, tmp_path, **EPOCHS, resume=True)
    assert ended(server, _run, task) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert differing(expected, tmp_path / "results") == []
    epochs = [line.split("epoch ")[1].split(":")[0]
              for line in (tmp_path / "results" / "run.log").read_text().splitlines()
              if " epoch " in line and "validation loss" in line]  # fmt: skip
    assert epochs == ["1/5", "1/5", "1/5", "2/5", "3/5", "3/5", "4/5", "5/5"]
    assert not Rerun(tmp_path / "results" / "summary.json").command().resume


def test_killed_at_random_moments_the_result_is_the_same(
    server: ForkServerContext, phantoms: Path, expected: Path, tmp_path: Path
) -> None:
    dice = random.Random(1)
    for _ in range(4):
        process = server.Process(
            target=_run,
            args=(command(phantoms, tmp_path, **EPOCHS, resume=(tmp_path / "results").exists()),),
        )
        process.start()
        time.sleep(dice.uniform(0.5, 2.5))
        process.kill()
        process.join()
    identified = (tmp_path / "results" / "identity.json").exists()
    assert ended(server, _run, command(phantoms, tmp_path, **EPOCHS, resume=identified)) == 0
    assert differing(expected, tmp_path / "results") == []


def test_killed_while_it_tidies_up_it_is_finished(
    server: ForkServerContext, phantoms: Path, expected: Path, tmp_path: Path
) -> None:
    task = command(phantoms, tmp_path, **EPOCHS)
    assert ended(server, _run_and_die_while_tidying, task) == -signal.SIGKILL
    before = contents(tmp_path / "results")
    assert json_of(tmp_path / "results" / "summary.json")["exit_code"] == 0
    result = command(phantoms, tmp_path, **EPOCHS, resume=True).run()
    assert [run.folder for run in result.runs] == [tmp_path / "results"]
    assert result.runs[0].metrics == json_of(expected / "metrics/val_metrics.json")
    after = contents(tmp_path / "results")
    assert before == after | {name: before[name] for name in before.keys() - after.keys()}


def test_ctrl_c_is_exit_code_130_and_can_be_resumed(
    server: ForkServerContext, phantoms: Path, expected: Path, tmp_path: Path
) -> None:
    task = command(phantoms, tmp_path, **EPOCHS)
    assert ended(server, _run_and_interrupt, task) == 130
    log = (tmp_path / "results" / "run.log").read_text().splitlines()
    assert log[-1].endswith("ERROR   interrupted")
    assert not (tmp_path / "results" / "summary.json").exists()
    assert ended(server, _run, command(phantoms, tmp_path, **EPOCHS, resume=True)) == 0
    assert differing(expected, tmp_path / "results") == []


# What is not resumed.


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"seed": 43}, "results differs in split, seed"),
        ({"lr": 0.5}, "results differs in lr"),
        ({"train_backbone": False}, "results differs in train_backbone"),
        ({"img_size": 32}, "results differs in recipe, img_size"),
    ],
)
def test_a_run_with_other_options_is_not_taken_up(
    options: dict[str, Any], why: str, phantoms: Path, expected: Path
) -> None:
    before = contents(expected)
    task = command(phantoms, expected.parent, **(EPOCHS | options), resume=True)
    with pytest.raises(StoreError, match=rf"no run with these options to go on with \({why}\)"):
        task.run()
    assert contents(expected) == before
    assert [path.name for path in expected.parent.iterdir()] == ["results"]


def test_a_run_of_other_images_is_not_taken_up(
    phantoms: Path, expected: Path, tmp_path: Path
) -> None:
    lines = (phantoms / "classificacao.csv").read_text().splitlines()
    exam, density = lines[1].split(",")
    changed = tmp_path / "classificacao.csv"
    changed.write_text("\n".join([lines[0], f"{exam},{int(density) % 4 + 1}", *lines[2:]]) + "\n")
    task = command(phantoms, expected.parent, **EPOCHS, csv=changed, resume=True)
    with pytest.raises(StoreError, match=r"results differs in csv, .*images"):
        task.run()


def test_there_must_be_something_to_resume(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no run with these options to go on with\. Leave"):
        command(phantoms, tmp_path, **EPOCHS, resume=True).run()


def test_a_finished_run_is_taken_as_it_is(phantoms: Path, expected: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in expected.rglob("*") if path.is_file()}
    result = command(phantoms, expected.parent, **EPOCHS, resume=True).run()
    assert [run.folder for run in result.runs] == [expected]
    assert {path: path.stat().st_mtime_ns for path in times} == times
