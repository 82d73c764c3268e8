"""``mammography embed`` killed at any moment, on a full disk, and with a growing archive.

Each run is a process of its own, forked from a server that has PyTorch imported already.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mammography.commands.embed import Embed
from mammography.dicom.phantom.files import write_dicom

EXAMS, VIEWS = 55, 5  # 275 images: two whole parts and a third


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "timm", "polars", "mammography.embeddings.extract", "mammography.report.figures"]
    )
    return context


@pytest.fixture(scope="module", autouse=True)
def _salt() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMMOGRAPHY_SALT", "tests")
        yield


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for exam in range(EXAMS):
        for view in range(VIEWS):
            pixels = np.random.default_rng([exam, view]).integers(0, 4096, (20, 16), np.uint16)
            write_dicom(root / f"archive/{exam:03d}/{view}.dcm", pixels, BitsStored=12)
    for exam in (0, 27, 54):
        (root / f"archive/{exam:03d}/2.dcm").write_bytes(b"noise" * 500)
    rows = "".join(f"{exam:03d},{'ABCD'[exam % 4]}\n" for exam in range(EXAMS))
    (root / "classificacao.csv").write_text("AccessionNumber,Classification\n" + rows)
    return root


def command(data: Path, outdir: Path, **options: Any) -> Embed:
    return Embed(
        data / "classificacao.csv",
        data / "archive",
        outdir,
        encoder="timm:resnet10t",
        weights="random",
        backend="torch",
        img_size=32,
        num_workers=1,
        save_csv=True,
        pca=True,
        **options,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("run.log", "summary.json")
    }


# What the processes do.


def _run(task: Embed) -> None:
    raise SystemExit(task.run().exit_code)


def _run_and_die(task: Embed, renames: int, before: bool) -> None:
    """Run a command and kill -9 its process at its n-th rename, just before or just after it."""
    rename, left = Path.replace, [renames]

    def deadly(path: Path, target: Path) -> Path:
        left[0] -= 1
        if before and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        renamed = rename(path, target)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return renamed

    Path.replace = deadly  # type: ignore[method-assign, assignment]
    task.run()


def _run_on_a_full_disk(task: Embed, largest: int, errors: Path) -> None:
    from mammography.cli import _run as run

    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    with errors.open("w") as stream, redirect_stderr(stream):
        raise SystemExit(run(task, debug=False))


def _run_and_weigh(task: Embed, answer: Any) -> None:
    task.run()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    answer.send((own, workers))


def ended(server: ForkServerContext, target: Any, *arguments: Any) -> int | None:
    process = server.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def expected(
    server: ForkServerContext, archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("expected")
    assert ended(server, _run, command(archive, out)) == 0
    return contents(out)


def test_killed_at_every_rename_in_turn_the_result_is_the_same(
    server: ForkServerContext, archive: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """(n, True) is just before the n-th rename, which leaves a file under its temporary name."""
    task = command(archive, tmp_path / "out")
    key_and_parts = [(1, True), (1, False), (1, False), (1, False), (1, True), (1, False)]
    features_index_rejects_record = [(1, True), (1, False), (2, False), (3, True), (4, True)]
    record_then_metrics_joined_map = [(4, False), (1, False), (2, True), (3, False), (5, True)]
    moments = key_and_parts + features_index_rejects_record + record_then_metrics_joined_map
    for renames, before in moments:
        assert ended(server, _run_and_die, task, renames, before) == -signal.SIGKILL
    assert ended(server, _run, task) == 0
    assert contents(tmp_path / "out") == expected
    log = (tmp_path / "out" / "run.log").read_text()
    assert "continuing: 128 of 272 images were done" in log
    assert "continuing: 272 of 272 images were done" in log
    assert "is finished: its features are used as they are" in log


def test_killed_at_random_moments_the_result_is_the_same(
    server: ForkServerContext, archive: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    task, dice = command(archive, tmp_path / "out"), random.Random(0)
    for _ in range(3):
        process = server.Process(target=_run, args=(task,))
        process.start()
        time.sleep(dice.uniform(0.3, 4.0))
        process.kill()
        process.join()
    assert ended(server, _run, task) == 0
    assert contents(tmp_path / "out") == expected


@pytest.mark.parametrize("largest", [50_000, 300_000])
def test_a_full_disk_is_one_message_and_the_next_run_goes_on(
    largest: int,
    server: ForkServerContext,
    archive: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """No file may grow beyond some size: first no part can be written, then no features.npy."""
    task = command(archive, tmp_path / "out")
    assert ended(server, _run_on_a_full_disk, task, largest, tmp_path / "errors") == 2
    message = (tmp_path / "errors").read_text().splitlines()[-1]
    assert re.fullmatch(r"error: .*/out/.* cannot be written: File too large\.", message)
    assert message.removeprefix("error: ") in (tmp_path / "out" / "run.log").read_text()
    assert ended(server, _run, task) == 0
    assert contents(tmp_path / "out") == expected


def test_memory_does_not_grow_with_the_archive(
    server: ForkServerContext, archive: Path, tmp_path: Path
) -> None:
    weights = []
    for limit in (55, 275):
        receiver, sender = multiprocessing.Pipe(duplex=False)
        task = command(archive, tmp_path / str(limit), limit=limit)
        assert ended(server, _run_and_weigh, task, sender) == 0
        weights.append(receiver.recv())
    (own, workers), (own_at_5, workers_at_5) = weights
    assert own_at_5 < 1.05 * own
    assert workers_at_5 < 1.05 * workers
