"""Work on many files in worker processes, where a crash costs one file and not the run.

Native decoders can end their process on damaged bytes, and some hold Python's lock while they
work; so each worker is a process of its own. `multiprocessing` would run a notebook's or script's
own code again in every worker; these run this module and nothing else.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from typing import IO, Any, TypeVar, cast

from mammography.errors import ImageRejected, MammographyError
from mammography.vocabulary import RejectCode

T = TypeVar("T")
R = TypeVar("R")

#: Seconds after which a worker is taken to hang on its item.
TIME_LIMIT = 600.0

#: What a worker runs. It gets the parent's search path as arguments.
_COMMAND = (
    "import sys; sys.path[:] = sys.argv[1:]\nfrom mammography.archive.workers import serve; serve()"
)

#: One thread a worker: the workers themselves are the parallelism. And memory that one image gave
#: back serves the next, in huge pages: asking the system anew costs a tenth of a JPEG 2000 decode.
_ENVIRONMENT = {
    **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB")},
    "POLARS_MAX_THREADS": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824"
    ":glibc.malloc.trim_threshold=1073741824",
}


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
        Each item with its result, in the order of the items. A file that kills its worker, keeps it
        longer than `TIME_LIMIT` or needs more memory than there is gives an `ImageRejected`.

    Raises:
        MammographyError: What `work` raised, other than `ImageRejected`.
        WorkerError: `work` failed in a way that is nobody's fault but ours; the message holds its
            traceback.
    """
    pending: deque[tuple[T, Future[R | ImageRejected]]] = deque()
    with closing(_Pool(work, workers, TIME_LIMIT)) as pool:
        for item in items:
            pending.append((item, pool.submit(item)))
            if len(pending) > 4 * workers:
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()


def in_a_process(work: Callable[[T], R], item: T) -> R:
    """Call a function once in a process of its own, whose memory is gone afterwards.

    It may take its time: a download, for example.

    Raises:
        MammographyError: What `work` raised.
        WorkerError: The process died, or `work` has a defect.
    """
    with closing(_Pool(work, 1, limit=0.0)) as pool:
        result = pool.submit(item).result()
    if isinstance(result, ImageRejected):
        raise WorkerError(f"A helper process ended early: {result}")
    return result


class _Pool:
    """Worker processes, each with a thread here that waits for its answers.

    `limit` is in seconds an item; 0 is none.
    """

    def __init__(self, work: Callable[[Any], Any], workers: int, limit: float) -> None:
        self._work, self._limit = work, limit
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the pool)
        self._threads = ThreadPoolExecutor(workers, "mammography-worker")
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._children: set[_Child] = set()
        self._closed = False

    def submit(self, item: Any) -> Future[Any]:
        return self._threads.submit(self._ask, item)

    def close(self) -> None:
        """End all processes and threads at once, whatever they are doing."""
        with self._lock:
            self._closed = True
            for child in self._children:
                child.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._children:
            child.close()
        self._complaints.close()

    def _ask(self, item: Any) -> Any:
        child = getattr(self._mine, "child", None)
        if child is None:
            child = self._mine.child = self._start()
        try:
            kind, value = child.ask(item)
        except _ChildDied as death:
            self._mine.child = None
            with self._lock:
                self._children.discard(child)
            child.close()
            return death.verdict
        if kind == "error":
            raise value
        if kind == "defect":
            raise WorkerError(f"A worker failed on {item!r}; please report this:\n{value}")
        return value

    def _start(self) -> _Child:
        with self._lock:
            if self._closed:
                raise WorkerError("The workers have been closed.")
            child = _Child(self._complaints)
            self._children.add(child)
        try:
            kind, problem = child.ask((self._work, self._limit))
        except _ChildDied as death:
            self._complaints.seek(0)
            problem = self._complaints.read().decode(errors="replace").strip()
            raise WorkerError(f"A worker process could not start:\n{problem}") from death
        if kind == "defect":
            raise WorkerError(f"A worker process could not start:\n{problem}")
        return child


class _ChildDied(Exception):  # noqa: N818  (it is told, not raised to the user)
    """A worker process ended before it answered; `verdict` is for the file that it died of."""

    def __init__(self, status: int) -> None:
        if status == -signal.SIGALRM:
            why = f"reading the file took longer than {TIME_LIMIT:.0f} s"
        elif status == -signal.SIGKILL:
            why = "the process that read the file was killed, perhaps because memory ran out"
        else:
            cause = signal.strsignal(-status) if status < 0 else f"exit status {status}"
            why = f"the decoder crashed on this file ({cause})"
        super().__init__(why)
        self.verdict = ImageRejected(RejectCode.DECODER_CRASHED, why)


class _Child:
    """One worker process, asked one item at a time."""

    def __init__(self, complaints: IO[bytes]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=os.environ | _ENVIRONMENT,
            start_new_session=True,  # Ctrl-C is the parent's business
        )
        self._questions = cast(IO[bytes], self._process.stdin)
        self._answers = cast(IO[bytes], self._process.stdout)

    def ask(self, item: Any) -> tuple[str, Any]:
        """The answer to an item; see `serve`."""
        try:
            pickle.dump(item, self._questions, protocol=pickle.HIGHEST_PROTOCOL)
            self._questions.flush()
            return pickle.load(self._answers)  # noqa: S301  (our own child's answer)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise _ChildDied(self._process.wait()) from None

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Kill it, and leave neither a zombie nor an open pipe."""
        self._process.kill()
        self._process.wait()
        self._answers.close()
        with suppress(BrokenPipeError):  # what was still to be sent
            self._questions.close()


def serve() -> None:
    """A worker's side: read the function and the time limit, then items, and answer each.

    An answer is a pair: "result" and what the function returned, an `ImageRejected` included;
    "error" and a `MammographyError` that it raised; or "defect" and the traceback of anything else.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, even inside native code
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # native libraries that print must not garble the answers

    def answer(pickled: bytes) -> None:
        answers.write(pickled)
        answers.flush()

    try:
        work, limit = pickle.load(questions)  # noqa: S301  (our own parent's question)
    except Exception:  # noqa: BLE001  (handed to the parent, which ends the command with it)
        return answer(pickle.dumps(("defect", traceback.format_exc())))
    answer(pickle.dumps(("result", None)))
    while True:
        try:
            item = pickle.load(questions)  # noqa: S301
        except EOFError:
            return None
        signal.setitimer(signal.ITIMER_REAL, limit)
        pickled = _pickled_outcome(work, item)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answer(pickled)


def _pickled_outcome(work: Callable[[Any], Any], item: Any) -> bytes:
    try:
        return pickle.dumps(("result", work(item)), protocol=pickle.HIGHEST_PROTOCOL)
    except ImageRejected as verdict:
        return pickle.dumps(("result", verdict))
    except MammographyError as error:
        return pickle.dumps(("error", error))
    except MemoryError:
        too_large = ImageRejected(RejectCode.TOO_LARGE, "not enough memory for this file")
        return pickle.dumps(("result", too_large))
    except Exception:  # noqa: BLE001  (handed to the parent, which ends the command with it)
        return pickle.dumps(("defect", traceback.format_exc()))
