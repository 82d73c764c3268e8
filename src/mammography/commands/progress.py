"""Showing how far a long job is: a bar on a terminal, plain lines elsewhere and in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

#: Its lines say what the bar shows, so a terminal leaves them out.
LOGGER = "mammography.progress"

log = logging.getLogger(LOGGER)

#: Seconds between two lines.
_INTERVAL = 10.0


@cache
def terminal() -> Console:
    """Standard error; bar and log lines share it, so that neither breaks the other."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def progress(total: int, done: int = 0) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of `total` images, of which `done` are there already.

    Yields:
        A function that is told how many more images have been dealt with, and rejected.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("[bold]{task.completed}/{task.total}[/] images"),
        BarColumn(),
        TextColumn("{task.fields[rate]:.1f} images/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rejects]} rejected"),
        console=terminal(),
        disable=not terminal().is_terminal,
    )
    task = bar.add_task("", total=total, completed=done, rate=0.0, rejects=0)
    started = last = time.monotonic()
    dealt = rejects = 0

    def advance(images: int, rejected: int) -> None:
        nonlocal dealt, rejects, last
        dealt += images
        rejects += rejected
        now = time.monotonic()
        rate = dealt / max(now - started, 1e-9)
        bar.update(task, advance=images, rate=rate, rejects=rejects)
        if now - last > _INTERVAL or done + dealt == total:
            last = now
            left = (total - done - dealt) / rate if rate else 0.0
            log.info(
                "%d of %d images, %.1f images/s, %.0f s left, %d rejected",
                done + dealt, total, rate, left, rejects,
            )  # fmt: skip

    with bar:
        yield advance
