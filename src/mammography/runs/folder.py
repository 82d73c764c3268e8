"""A run's folder: one process at a time, its log, its summary."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mammography.errors import MammographyError, StoreError
from mammography.runs.provenance import write_summary

#: Where the lock lies in a log on Windows, which locks bytes and not files.
_FAR_BYTE = 1 << 30


@contextmanager
def run_folder(folder: Path, command: Any) -> Iterator[dict[str, Any]]:
    """Hold a folder for one run of a command: made, locked, tidied, and logged into run.log.

    When the block ends, `summary.json` says what was run and what came of it, also where the
    command had to give up; but that never replaces the summary of a run that went well.

    Args:
        folder: Made where it does not exist.
        command: The command's dataclass.

    Yields:
        What the summary shall say beside the command; filled by the block.

    Raises:
        StoreError: The folder cannot be made, belongs to another command, or is in use.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / "run.log").open("a", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{folder} cannot be written to: {error.strerror}.") from error
    with ExitStack() as stack:
        stack.callback(_close, log)
        _lock(log, folder)
        _refuse_other_command(folder, command.NAME)
        _remove_unfinished(folder)
        outcome: dict[str, Any] = {}
        try:
            with _logging_into(log):
                yield outcome
        except MammographyError as error:
            if not isinstance(error, StoreError) and not _went_well(folder):
                write_summary(folder, command, exit_code=2, error=str(error))
            raise
        write_summary(folder, command, **outcome)


def _close(log: IO[str]) -> None:
    with suppress(OSError):  # a full disk: the file that matters has said so
        log.close()


def _lock(stream: IO[str], folder: Path) -> None:
    """Take the lock that ends with this process, however it ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            stream.seek(_FAR_BYTE)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise StoreError(
            f"Another process is at work in {folder}; wait for it, or choose another --outdir."
        ) from error
    except OSError:  # a file system without locks: nothing to be had
        return


def _summary(folder: Path) -> dict[str, Any]:
    """What the last run left; empty where there was none."""
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is no summary of ours; choose another --outdir.") from error
    return summary if isinstance(summary, dict) else {}


def _refuse_other_command(folder: Path, name: str) -> None:
    other = _summary(folder).get("command", name)
    if other != name:
        raise StoreError(f"{folder} holds a run of {other}; choose another --outdir for {name}.")


def _went_well(folder: Path) -> bool:
    return _summary(folder).get("exit_code", 2) != 2


def _remove_unfinished(folder: Path) -> None:
    """Remove what `written_whole` could not finish because its process was killed."""
    for path in [*folder.glob(".*.part"), *folder.glob("*/.*.part")]:
        if re.fullmatch(r"\..+\.\d+\.part", path.name):
            path.unlink()


class _LogHandler(logging.StreamHandler):
    """Writes to a log on a disk that may be full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say nothing, as in `_close`."""


@contextmanager
def _logging_into(stream: IO[str]) -> Iterator[None]:
    """Append what the package logs, and the error that ends the block."""
    handler = _LogHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger = logging.getLogger("mammography")
    before = logger.level
    logger.addHandler(handler)
    if before == logging.NOTSET:
        logger.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        handler.handle(_last_words(error))
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _last_words(error: BaseException) -> logging.LogRecord:
    """What a log says of the error that ended its run; of a defect, where it was."""
    trace = None
    if isinstance(error, MammographyError):
        message = str(error)
    elif isinstance(error, KeyboardInterrupt):
        message = "interrupted"
    else:
        message, trace = "ended by a defect", (type(error), error, error.__traceback__)
    return logging.LogRecord("mammography", logging.ERROR, __file__, 0, message, None, trace)
