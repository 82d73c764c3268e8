"""What a search may try: parameters of a training, and the values of each."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammography.errors import UsageError
from mammography.runs import write_json, write_text

if TYPE_CHECKING:
    import optuna

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, both of them included.

    Attributes:
        distribution: "uniform", "log-uniform" (uniform in the logarithm), or "integer".
        low: The smallest; above 0 for "log-uniform".
        high: The largest.
    """

    distribution: str
    low: float
    high: float

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """A trial's value of the parameter `name`."""
        if self.distribution == "integer":
            return trial.suggest_int(name, int(self.low), int(self.high))
        log = self.distribution == "log-uniform"
        return trial.suggest_float(name, self.low, self.high, log=log)

    def extremes(self) -> tuple[Value, ...]:
        """Values that are allowed if all are."""
        return self.low, self.high


@dataclass(frozen=True)
class Categorical:
    """One of several values, without an order.

    Attributes:
        choices: At least one.
        distribution: "categorical".
    """

    choices: tuple[Value, ...]
    distribution: str = "categorical"

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """A trial's value of the parameter `name`."""
        return trial.suggest_categorical(name, self.choices)

    def extremes(self) -> tuple[Value, ...]:
        """Values that are allowed if all are."""
        return self.choices


Space = Mapping[str, Range | Categorical]

#: The search space that the field's documents publish.
PUBLISHED: Space = {
    "lr": Range("log-uniform", 1e-5, 1e-3),
    "backbone_lr": Range("log-uniform", 1e-6, 1e-4),
    "batch_size": Categorical((8, 16, 32)),
    "dropout": Categorical((0.1, 0.2, 0.3, 0.4)),
    "weight_decay": Categorical((0.0, 1e-5, 1e-4, 1e-3)),
    "warmup_epochs": Categorical((0, 2, 5)),
}


def record(space: Space) -> dict[str, Any]:
    """The space as JSON values, as `read_space` reads them."""
    records = {}
    for name, values in space.items():
        fields = asdict(values)
        if isinstance(values, Categorical):
            fields["choices"] = list(values.choices)
        records[name] = {"distribution": fields.pop("distribution"), **fields}
    return records


def write_space(path: Path, space: Space) -> None:
    """Write a space for people to edit, as JSON or TOML.

    Raises:
        UsageError: The name ends neither in .json nor in .toml.
        StoreError: The file cannot be written.
    """
    _refuse_other_endings(path)
    if path.suffix == ".json":
        write_json(path, record(space))
        return
    tables = [
        "\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items())])
        for name, fields in record(space).items()
    ]
    write_text(path, "\n\n".join(tables) + "\n")


def read_space(path: Path) -> dict[str, Range | Categorical]:
    """Read a space that `write_space` or a person wrote.

    Raises:
        UsageError: The file cannot be read, or says something that is no space.
    """
    _refuse_other_endings(path)
    try:
        text = path.read_text(encoding="utf-8")
        tables = json.loads(text) if path.suffix == ".json" else _toml(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"{path} is no {path.suffix[1:].upper()}: {error}.") from error
    if not isinstance(tables, dict) or not tables:
        raise UsageError(f"{path} names no parameter; --write-space writes an example.")
    return {name: _values(path, name, fields) for name, fields in tables.items()}


def _refuse_other_endings(path: Path) -> None:
    if path.suffix not in (".json", ".toml"):
        raise UsageError(f"A search space is a .json or a .toml file, not {path.name}.")


def _toml(text: str) -> Any:
    if sys.version_info < (3, 11):
        raise UsageError("Reading TOML needs Python 3.11; write the search space as JSON.")
    import tomllib

    return tomllib.loads(text)


def _values(path: Path, name: str, fields: Any) -> Range | Categorical:
    """One parameter's values."""
    distribution = fields.get("distribution") if isinstance(fields, dict) else None
    given = set(fields) - {"distribution"} if distribution else set()
    if distribution == "categorical" and given == {"choices"}:
        return _categorical(path, name, fields["choices"])
    if distribution in ("uniform", "log-uniform", "integer") and given == {"low", "high"}:
        return _range(path, name, Range(**fields))
    raise UsageError(
        f"{path}: {name} needs a distribution: uniform, log-uniform or integer with low and high, "
        f"or categorical with choices; and nothing else. It says {fields}."
    )


def _categorical(path: Path, name: str, choices: Any) -> Categorical:
    scalars = isinstance(choices, list) and all(isinstance(each, Value) for each in choices)
    if not scalars or not choices or len(set(choices)) < len(choices):
        raise UsageError(
            f"{path}: choices of {name} must be a list of different words or numbers, not "
            f"{choices}."
        )
    return Categorical(tuple(choices))


def _range(path: Path, name: str, values: Range) -> Range:
    bounds = (values.low, values.high)
    numbers = all(type(each) in (int, float) and math.isfinite(each) for each in bounds)
    if not numbers or values.low >= values.high:
        raise UsageError(f"{path}: {name} needs two numbers, low below high, not {bounds}.")
    if values.distribution == "log-uniform" and values.low <= 0:
        raise UsageError(f"{path}: {name} is log-uniform, so low must be above 0: {values.low}.")
    if values.distribution == "integer" and any(each != int(each) for each in bounds):
        raise UsageError(f"{path}: {name} is an integer, so low and high must be: {bounds}.")
    return values
