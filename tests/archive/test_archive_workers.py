"""Worker processes: order, crashes, hangs, defects, and nothing left behind."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import psutil
import pytest
from worker_jobs import (
    PeculiarError,
    accident,
    array_of,
    environment,
    length_of,
    noisy,
    slow_square,
    square,
    trouble,
    wait,
)

from mammography.archive import workers
from mammography.archive.workers import WorkerError, cores, in_a_process, over_items
from mammography.errors import ImageRejected, MammographyError, UsageError
from mammography.vocabulary import RejectCode


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After every test: no child, no zombie, no thread, no open file more than before."""
    me = psutil.Process()
    files, threads = me.num_fds(), threading.active_count()
    yield
    assert me.children() == []
    assert me.num_fds() == files
    assert threading.active_count() == threads


@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
@pytest.mark.parametrize("processes", [1, 3])
def test_results_come_in_the_order_of_the_items(count: int, processes: int) -> None:
    found = list(over_items(slow_square, iter(range(count)), processes))
    assert found == [(number, number * number) for number in range(count)]


def test_a_partial_function() -> None:
    assert list(over_items(partial(pow, 2), [3, 4], 1)) == [(3, 8), (4, 16)]


def test_items_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    results = over_items(square, items(), workers=2)
    assert taken == []
    for number, _ in itertools.islice(results, 30):
        assert len(taken) - number <= 4 * 2 + 1
    results.close()


@pytest.mark.parametrize(
    ("fatal", "words"),
    [
        ("SIGSEGV", "Segmentation fault"),
        ("SIGABRT", "Abort"),
        ("SIGFPE", "Floating point"),
        ("SIGKILL", "memory"),
        ("exit", "exit status 3"),
        ("leave", "exit status 4"),
    ],
)
def test_a_crash_costs_one_item(fatal: str, words: str) -> None:
    items = [1, fatal, 2, 3, fatal, fatal, 4, 5, 6, fatal]
    found = list(over_items(accident, items, workers=2))
    assert [item for item, _ in found] == items
    for item, result in found:
        if item == fatal:
            assert isinstance(result, ImageRejected)
            assert result.code == RejectCode.DECODER_CRASHED
            assert words in result.reason
        else:
            assert result == item


@pytest.mark.parametrize("hang", ["sleep", "spin", "native"])
def test_an_item_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, hang: str) -> None:
    monkeypatch.setattr(workers, "TIME_LIMIT", 0.3)
    found = dict(over_items(accident, [1, hang, 2, 3], workers=2))
    verdict = found.pop(hang)
    assert isinstance(verdict, ImageRejected)
    assert verdict.code == RejectCode.DECODER_CRASHED
    assert "longer than" in verdict.reason
    assert found == {1: 1, 2: 2, 3: 3}


def test_the_limit_is_for_an_item_and_not_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TIME_LIMIT", 0.5)
    assert [result for _, result in over_items(wait, [0.2] * 5, workers=1)] == [0.2] * 5


def test_the_limit_is_not_for_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TIME_LIMIT", 0.2)

    def late() -> Iterator[int]:
        yield 1
        time.sleep(0.5)
        yield 2

    assert list(over_items(square, late(), workers=1)) == [(1, 1), (2, 4)]


def test_verdicts_are_results() -> None:
    found = dict(over_items(trouble, ["fine", "reject", "memory", "good"], workers=2))
    assert (found["fine"], found["good"]) == ("fine", "good")
    assert (found["reject"].code, found["reject"].reason) == (RejectCode.FLAT, "too flat")
    assert found["memory"].code == RejectCode.TOO_LARGE


@pytest.mark.parametrize(
    ("item", "error", "words"),
    [
        ("usage", UsageError, "^no such option$"),
        ("own", PeculiarError, "^strange$"),
        ("defect", WorkerError, "'defect'(.|\n)*Traceback(.|\n)*ZeroDivisionError"),
        ("unpicklable", WorkerError, "Traceback(.|\n)*lambda"),
    ],
)
def test_errors_that_are_no_verdicts_end_the_work(
    item: str, error: type[MammographyError], words: str
) -> None:
    results = over_items(trouble, ["fine", item, "never"], workers=2)
    assert next(results) == ("fine", "fine")
    with pytest.raises(error, match=words):
        next(results)


def test_an_item_that_cannot_be_sent_ends_the_work() -> None:
    with pytest.raises(Exception, match=r"pickle|lambda|local"):
        list(over_items(square, [1, lambda: None, 2], workers=2))


def test_a_function_that_workers_cannot_import(monkeypatch: pytest.MonkeyPatch) -> None:
    ghost = types.ModuleType("ghost")
    exec("def work(item): return item", ghost.__dict__)
    monkeypatch.setitem(sys.modules, "ghost", ghost)
    with pytest.raises(WorkerError, match=r"could not start(.|\n)*No module named 'ghost'"):
        list(over_items(ghost.work, [1, 2, 3], workers=2))


def test_an_interpreter_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho this is no Python >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(WorkerError, match=r"could not start(.|\n)*this is no Python"):
        list(over_items(square, [1], workers=1))


def test_printing_does_not_garble_answers(capfd: pytest.CaptureFixture) -> None:
    assert list(over_items(noisy, [1, 2, 3], workers=2)) == [(1, 1), (2, 2), (3, 3)]
    assert capfd.readouterr() == ("", "")


def test_large_questions_and_answers_and_a_slow_reader() -> None:
    for megabytes, result in over_items(array_of, [1, 9, 3, 5, 2, 8], workers=2):
        time.sleep(0.05)
        assert result.nbytes == megabytes << 20
        assert (result == megabytes).all()
    sizes = [5 << 20, 0, 3 << 20]
    assert [r for _, r in over_items(length_of, [bytes(n) for n in sizes], 2)] == sizes


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_early_ends_everything_at_once(taken: int) -> None:
    results = over_items(wait, itertools.chain([0] * taken, itertools.repeat(60)), workers=2)
    assert len(list(itertools.islice(results, taken))) == taken
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 5


def test_closing_while_a_worker_starts_again() -> None:
    for _ in range(3):
        results = over_items(accident, itertools.cycle([1, "exit"]), workers=3)
        assert next(results) == (1, 1)
        results.close()


def test_an_error_of_the_consumer_ends_everything() -> None:
    def consume() -> None:
        for _, seconds in over_items(wait, itertools.chain([0], itertools.repeat(60)), workers=2):
            1 // int(seconds)

    with pytest.raises(ZeroDivisionError):
        consume()


def test_many_crashes_leave_no_zombies_and_no_files() -> None:
    me = psutil.Process()
    before, most = me.num_fds(), 0
    for _, result in over_items(accident, ["exit"] * 20, workers=2):
        assert isinstance(result, ImageRejected)
        most = max(most, me.num_fds() - before)
        assert len(me.children()) <= 4
    assert most <= 20


def test_a_pool_forgets_the_dead_and_starts_nothing_once_closed() -> None:
    with closing(workers._Pool(accident, 2, limit=10)) as pool:
        futures = [pool.submit(item) for item in ["exit"] * 6]
        assert all(isinstance(future.result(), ImageRejected) for future in futures)
        assert not pool._children
    with pytest.raises(WorkerError, match="closed"):
        pool._start()


def test_workers_use_one_thread_each() -> None:
    names = ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "HOME"]
    assert dict(over_items(environment, names, 1)) == dict.fromkeys(names[:2], "1") | {
        "HOME": os.environ.get("HOME")
    }


def test_in_a_process() -> None:
    assert in_a_process(square, 12) == 144
    with pytest.raises(UsageError, match="no such option"):
        in_a_process(trouble, "usage")
    with pytest.raises(WorkerError, match=r"ended early.*exit status 3"):
        in_a_process(accident, "exit")


def test_a_process_of_its_own_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TIME_LIMIT", 0.2)
    assert in_a_process(wait, 0.5) == 0.5


def test_cores() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


def run_script(tmp_path: Path, text: str, **options: object) -> subprocess.Popen:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(text))
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, str(script)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, **pipes, **options)


PLAIN_SCRIPT = """
    from posixpath import basename
    from mammography.archive.workers import over_items
    print("once")
    print(list(over_items(basename, ["a/b", "c/d"], 2)))
"""


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    output = run_script(tmp_path, PLAIN_SCRIPT).communicate(timeout=30)
    assert output == ("once\n[('a/b', 'b'), ('c/d', 'd')]\n", "")


def test_a_command_line_is_enough() -> None:
    command = [sys.executable, "-c", textwrap.dedent(PLAIN_SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("once\n[('a/b', 'b'), ('c/d', 'd')]\n", "")


def test_a_package_that_is_only_on_the_search_path_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def double(item): return 2 * item")
    script = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from mine import double
        from mammography.archive.workers import over_items
        print(list(over_items(double, [1, 2], 1)))
    """
    assert run_script(tmp_path, script).communicate(timeout=30) == ("[(1, 2), (2, 4)]\n", "")


def test_a_function_of_the_script_itself_is_an_error_and_no_loop(tmp_path: Path) -> None:
    script = """
        from mammography.archive.workers import over_items
        def work(item): return item
        list(over_items(work, [1], 1))
    """
    _, complaints = run_script(tmp_path, script).communicate(timeout=30)
    assert "A worker process could not start" in complaints


@pytest.mark.parametrize(
    ("ending", "status"), [("pass", 0), ("sys.exit(7)", 7), ("del results", 0), ("os._exit(5)", 5)]
)
def test_leaving_with_work_under_way_is_quick_and_silent(
    tmp_path: Path, ending: str, status: int
) -> None:
    script = f"""
        import itertools, os, sys
        from worker_jobs import wait
        from mammography.archive.workers import over_items
        results = over_items(wait, itertools.repeat(0.05), 2)
        next(results)
        {ending}
    """
    start = time.monotonic()
    process = run_script(tmp_path, script)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == status
    assert time.monotonic() - start < 15


WAITING_SCRIPT = """
    import itertools
    import psutil
    from worker_jobs import wait
    from mammography.archive.workers import over_items
    for number, _ in enumerate(over_items(wait, itertools.chain([0] * 9, itertools.repeat({})), 2)):
        if number == 0:
            print(*(child.pid for child in psutil.Process().children()), flush=True)
"""


def ended(pids: list[int], patience: float) -> bool:
    """Whether processes end in time; an orphaned zombie has ended, whoever buries it."""

    def running(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if not any(map(running, pids)):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("fatal", [signal.SIGKILL, signal.SIGTERM])
def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path, fatal: signal.Signals) -> None:
    process = run_script(tmp_path, WAITING_SCRIPT.format(0.5))
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.3)
    process.send_signal(fatal)
    process.communicate(timeout=30)
    assert process.returncode == -fatal
    assert ended(pids, 10)


def test_ctrl_c_that_the_parent_survives_costs_no_item(tmp_path: Path) -> None:
    script = """
        import signal
        from worker_jobs import wait
        from mammography.archive.workers import over_items
        signal.signal(signal.SIGINT, lambda *_: None)
        print("ready", flush=True)
        print([result for _, result in over_items(wait, [0.3] * 6, 2)])
    """
    process = run_script(tmp_path, script, start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    for _ in range(10):
        time.sleep(0.08)
        os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30) == (f"{[0.3] * 6}\n", "")


def test_ctrl_c_ends_all_with_one_traceback(tmp_path: Path) -> None:
    process = run_script(tmp_path, WAITING_SCRIPT.format(1000), start_new_session=True)
    pids = [int(word) for word in process.stdout.readline().split()]
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, complaints = process.communicate(timeout=30)
    assert complaints.count("Traceback") == 1
    assert complaints.rstrip().endswith("KeyboardInterrupt")
    assert ended(pids, 10)
