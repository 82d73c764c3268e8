"""What the workers of `test_archive_workers` do; they import this module and little else."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

from mammography.errors import ImageRejected, MammographyError, UsageError
from mammography.vocabulary import RejectCode


def square(number: int) -> int:
    return number * number


def slow_square(number: int) -> int:
    time.sleep(0.02 * (number % 3))
    return number * number


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def noisy(number: int) -> int:
    print("Python prints", number)  # noqa: T201
    sys.stderr.write("Python complains\n")
    os.write(1, b"\x80\x05 something like a pickle\n")
    libc = ctypes.CDLL(None)
    libc.printf(b"C prints\n")
    libc.fflush(None)
    os.system("echo a child prints")
    return number


def accident(item: int | str) -> int | str:
    """Dies in the way that the item names."""
    if item == "exit":
        os._exit(3)
    if item == "leave":
        sys.exit(4)
    if isinstance(item, str) and item.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, item))
    if item == "sleep":
        time.sleep(1000)
    if item == "spin":
        while True:
            pass
    if item == "native":
        ctypes.PyDLL(None).sleep(1000)  # holds Python's lock
    return item


class PeculiarError(MammographyError):
    pass


def trouble(item: str) -> object:
    if item == "reject":
        raise ImageRejected(RejectCode.FLAT, "too flat")
    if item == "usage":
        raise UsageError("no such option")
    if item == "own":
        raise PeculiarError("strange")
    if item == "defect":
        return 1 // 0
    if item == "memory":
        raise MemoryError
    if item == "unpicklable":
        return lambda: None
    return item


def array_of(megabytes: int) -> object:
    import numpy as np

    return np.full(megabytes << 20, megabytes, np.uint8)


def length_of(data: bytes) -> int:
    return len(data)


def environment(name: str) -> str | None:
    return os.environ.get(name)
