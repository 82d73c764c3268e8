"""The commands as functions that take the options of their dataclasses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from mammography.commands.construct import construct
from mammography.commands.embed import Embed
from mammography.commands.phantom import Phantom
from mammography.commands.preview import Preview
from mammography.commands.scan import Scan

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class _Command(Protocol[R_co]):
    def run(self) -> R_co: ...


def _function(kind: type[_Command[R]]) -> Callable[..., R]:
    """A function that makes the command and runs it; paths may be text."""
    signature = inspect.signature(kind)

    def run(*values: Any, **options: Any) -> R:
        return construct(kind, signature.bind(*values, **options).arguments).run()

    run.__name__ = run.__qualname__ = kind.__name__.lower()
    run.__doc__ = kind.__doc__
    run.__signature__ = signature  # type: ignore[attr-defined]
    return run


embed = _function(Embed)
phantom = _function(Phantom)
preview = _function(Preview)
scan = _function(Scan)
