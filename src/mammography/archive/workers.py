"""Work on many files in worker processes, where a crash costs one file and not the run.

Native decoders can end their process on damaged bytes, and some hold Python's lock while they
work; so each worker is a process of its own. It is started as ``python -m`` rather than by
`multiprocessing`, which would run a notebook's or script's own code again in every worker.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from mammography.errors import ImageRejected, MammographyError
from mammography.vocabulary import RejectCode

T = TypeVar("T")
R = TypeVar("R")

#: Seconds after which a worker is taken to hang on its item.
TIME_LIMIT = 600.0

#: One thread a worker: the workers themselves are the parallelism.
_SINGLE_THREADED = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB")
} | {"POLARS_MAX_THREADS": "1"}


class WorkerError(MammographyError):
    """A worker could not start, or its code is at fault rather than a file."""


def cores() -> int:
    """The processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def over_items(
    work: Callable[[T], R], items: Iterable[T], workers: int
) -> Iterator[tuple[T, R | ImageRejected]]:
    """Apply a function to items in worker processes.

    Args:
        work: A module-level function, or `functools.partial` of one; it may raise `ImageRejected`.
        items: What to work on; picklable, taken from the iterable as workers become free.
        workers: How many processes.

    Yields:
        Each item with its result, in the order of the items. A file that kills its worker, or
        keeps it longer than `TIME_LIMIT`, gives an `ImageRejected` of its own.

    Raises:
        MammographyError: What `work` raised, other than `ImageRejected`.
        WorkerError: `work` failed in a way that is nobody's fault but ours; the message holds its
            traceback.
    """
    local = threading.local()
    children: list[_Child] = []

    def start() -> None:
        local.child = _Child(work)
        children.append(local.child)

    def run(item: T) -> R | ImageRejected:
        return local.child.ask(item)

    pending: deque[tuple[T, Future[R | ImageRejected]]] = deque()
    pool = ThreadPoolExecutor(workers, "mammography-worker", initializer=start)
    try:
        for item in items:
            pending.append((item, pool.submit(run, item)))
            if len(pending) > 4 * workers:
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.stop()


def in_a_process(work: Callable[[T], R], item: T) -> R:
    """Call a function once in a process of its own, whose memory is gone afterwards.

    Raises:
        MammographyError: What `work` raised.
        WorkerError: The process died, or `work` has a defect.
    """
    ((_, result),) = over_items(work, [item], workers=1)
    if isinstance(result, ImageRejected):
        raise WorkerError(f"A helper process ended early: {result}")
    return result


class _Child:
    """One worker process, asked one item at a time; it is replaced when it dies."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work
        self._stopped = False
        self._start()

    def _start(self) -> None:
        self._complaints = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=os.environ | _SINGLE_THREADED,
        )
        self._send((sys.path, self._work))
        try:
            pickle.load(self._process.stdout)  # noqa: S301  (our own child saying it is ready)
        except EOFError as error:
            self._complaints.seek(0)
            complaint = self._complaints.read().decode(errors="replace").strip()
            raise WorkerError(f"A worker process could not start:\n{complaint}") from error

    def ask(self, item: Any) -> Any:
        """The worker's result for one item, or an `ImageRejected` for it."""
        late = threading.Timer(TIME_LIMIT, self._process.kill)
        late.start()
        try:
            self._send(item)
            kind, value = pickle.load(self._process.stdout)  # noqa: S301  (our own child's answer)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            if self._stopped:
                raise
            return self._replace(timed_out=not late.is_alive())
        finally:
            late.cancel()
        if kind == "error":
            raise value
        if kind == "defect":
            raise WorkerError(f"A worker failed on {item!r}; please report this:\n{value}")
        return value

    def _send(self, value: Any) -> None:
        stream = self._process.stdin
        assert stream is not None
        pickle.dump(value, stream, protocol=pickle.HIGHEST_PROTOCOL)
        stream.flush()

    def _replace(self, *, timed_out: bool) -> ImageRejected:
        """Start a new worker; the verdict on the file that the old one died of."""
        status = self._process.wait()
        self.stop()
        self._stopped = False
        self._start()
        if timed_out:
            why = f"reading the file took longer than {TIME_LIMIT:.0f} s"
        else:
            cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            why = f"the decoder crashed on this file ({cause})"
        return ImageRejected(RejectCode.DECODER_CRASHED, why)

    def stop(self) -> None:
        """End the process at once."""
        self._stopped = True
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._complaints):
            try:
                stream.close()  # type: ignore[union-attr]
            except BrokenPipeError:
                continue


def _serve() -> None:
    """The worker's side: read the function, then items, and answer each."""
    import traceback

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # native libraries that print must not garble the answers
    sys.path[:], work = pickle.load(sys.stdin.buffer)  # noqa: S301  (our own parent's request)
    pickle.dump("ready", answers)
    answers.flush()
    while True:
        try:
            item = pickle.load(sys.stdin.buffer)  # noqa: S301
        except EOFError:
            return
        try:
            answer = ("result", work(item))
        except ImageRejected as verdict:
            answer = ("result", verdict)
        except MammographyError as error:
            answer = ("error", error)
        except Exception:  # noqa: BLE001  (handed to the parent, which ends the command with it)
            answer = ("defect", traceback.format_exc())
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    _serve()
