"""The command line: ``mammography COMMAND`` becomes a dataclass, which is run.

Only the module of the command asked for is imported, and none of them imports anything heavy before
it runs. Exit codes: 0 done; 1 done, but the data failed a gate; 2 could not run; 130 interrupted.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

from mammography import __version__
from mammography.commands import COMMANDS, command_class
from mammography.errors import MammographyError

INTERRUPTED = 130


def overview() -> str:
    """What ``mammography --help`` prints."""
    lines = [
        "usage: mammography COMMAND [OPTIONS]",
        "",
        "A research toolkit for archives of mammograms. Research only: not for diagnosis.",
        "",
        "commands:",
    ]
    width = max(map(len, COMMANDS)) + 2
    for name in COMMANDS:
        summary = (command_class(name).__doc__ or "").partition("\n")[0]
        lines.append(f"  {name:<{width}}{summary}")
    lines += [
        "",
        "mammography COMMAND --help lists a command's options; --debug after any command shows",
        "the traceback of an error; mammography --version prints the version.",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code.

    Raises:
        SystemExit: After a command's help (0), or options that it does not take (2).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # The field's pages print a command's lines joined by "\  ", which a shell reads as blank
    # arguments, and put a lone "--" after the command.
    given = [argument for argument in given if argument.strip()]
    if not given or given[0] in ("-h", "--help", "help"):
        print(overview())  # noqa: T201
        return 0 if given else 2
    if given[0] == "--version":
        print(f"mammography {__version__}")  # noqa: T201
        return 0
    name, options = given[0], given[1:]
    if name not in COMMANDS:
        return _fail(f"There is no command {name!r}; the commands are {', '.join(COMMANDS)}.")
    if options[:1] == ["--"]:
        options = options[1:]
    debug = "--debug" in options
    return _run(_parsed(name, [option for option in options if option != "--debug"]), debug)


def _parsed(name: str, options: Sequence[str]) -> Any:
    import tyro

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(
                command_class(name),
                prog=f"mammography {name}",
                args=options,
                config=(tyro.conf.DisallowNone,),
            )
    except SystemExit as end:
        if end.code:
            _fail(_plain(said.getvalue()))
        raise


def _plain(box: str) -> str:
    """What tyro says of wrong options, without the box that it draws around it."""
    text = " ".join(re.sub(r"[─│╭╮╰╯┄]", " ", box).split())
    return re.sub(r"\[/?[a-z]+\]", "", text).removeprefix("Parsing error ")


def _run(command: Any, debug: bool) -> int:
    with _logging_to_terminal():
        try:
            return int(getattr(command.run(), "exit_code", 0))
        except KeyboardInterrupt:
            _fail(
                "interrupted; the same command goes on where it stopped "
                "(train-density with --resume)."
            )
            return INTERRUPTED
        except Exception as error:
            if debug:
                raise
            return _fail(_message(error))


def _message(error: Exception) -> str:
    """What the user reads: our own errors and the system's as they are, others as a defect."""
    if isinstance(error, MammographyError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return (
        f"{type(error).__name__}: {error}. This is a defect of mammography; please report it "
        "with what the same command prints with --debug."
    )


@contextmanager
def _logging_to_terminal() -> Iterator[None]:
    """Everything the package logs goes to standard error; progress lines only where no bar is."""
    handler = _handler()
    handler.setFormatter(_Words())
    logger = logging.getLogger("mammography")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _handler() -> logging.Handler:
    from mammography.commands.progress import LOGGER, terminal

    if not terminal().is_terminal:
        return logging.StreamHandler()
    from rich.logging import RichHandler

    handler = RichHandler(console=terminal(), show_time=False, show_path=False, show_level=False)
    handler.addFilter(lambda record: record.name != LOGGER)
    return handler


class _Words(logging.Formatter):
    """Messages as they are, with the level in front of what is more than information."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.levelno <= logging.INFO:
            return message
        return f"{record.levelname.lower()}: {message}"


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    return 2


def entry_point() -> None:
    """What the installed ``mammography`` script calls."""
    sys.exit(main())


if __name__ == "__main__":
    entry_point()
