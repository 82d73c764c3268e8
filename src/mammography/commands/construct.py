"""Commands from values that Python code or a JSON file gives, held against the options' types."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mammography.errors import UsageError

C = TypeVar("C")


def construct(kind: type[C], options: Mapping[str, Any], base: Path = Path()) -> C:
    """Make a command of option values.

    Text becomes a path where the option is one, and a list a tuple.

    Args:
        kind: The command's dataclass.
        options: Value by option; those not named keep their defaults.
        base: Folder that relative paths are taken from.

    Raises:
        UsageError: The command has no such option, or the option no such value.
    """
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    chosen = {}
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"There is no option {name!r}; known are {', '.join(known)}.")
        try:
            chosen[name] = _converted(value, hints[name], base)
        except TypeError as error:
            takes = _words(hints[name])
            raise UsageError(f"The option {name} takes {takes}, not {value!r}.") from error
    return kind(**chosen)


def _converted(value: Any, hint: Any, base: Path) -> Any:
    """The value as the type has it; a TypeError where the type has no such value."""
    if get_origin(hint) in (Union, UnionType):
        for alternative in get_args(hint):
            try:
                return _converted(value, alternative, base)
            except TypeError:
                continue
    elif get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
    elif get_origin(hint) is tuple:
        return _converted_items(value, get_args(hint), base)
    elif hint is Path:
        if isinstance(value, str | os.PathLike):
            return base / value
    elif hint is float and type(value) is int:
        return float(value)
    elif isinstance(value, hint) and (type(value) is not bool or hint is bool):
        return value
    raise TypeError


def _converted_items(value: Any, hints: tuple[Any, ...], base: Path) -> tuple[Any, ...]:
    any_number = len(hints) == 2 and hints[1] is Ellipsis
    if not isinstance(value, list | tuple) or not (any_number or len(value) == len(hints)):
        raise TypeError
    each = hints[:1] * len(value) if any_number else hints
    return tuple(_converted(item, hint, base) for item, hint in zip(value, each, strict=True))


def _words(hint: Any) -> str:
    """A type for people."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_words(alternative) for alternative in get_args(hint))
    if get_origin(hint) is Literal:
        return ", ".join(map(repr, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a tuple of {', '.join(_words(item) for item in get_args(hint))}"
    named = {NoneType: "None", Path: "a path", str: "text", bool: "True or False"}
    return named.get(hint, getattr(hint, "__name__", "…"))
