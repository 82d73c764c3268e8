"""Runs of ``train-density`` on phantoms that take a second or two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import torch

from mammography.commands.train_density import TrainDensity

#: So small a network that reading the archive takes longer than training.
SMALL: dict[str, Any] = {
    "arch": "timm:test_efficientnet",
    "weights": "random",
    "img_size": 64,
    "epochs": 2,
    "batch_size": 8,
    "lr": 1e-3,
    "num_workers": 1,
}

#: What holds the time of day.
TIMED = ("run.log", "summary.json")


@contextmanager
def single_thread() -> Iterator[None]:
    """Threads that wait for each other are slow on a machine that does other things too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def command(data: Path, outdir: Path, **options: Any) -> TrainDensity:
    paths = {"csv": data / "classificacao.csv", "dicom_root": data / "archive", "outdir": outdir}
    return TrainDensity(**(paths | SMALL | options))


def train(data: Path, outdir: Path, **options: Any) -> Path:
    """Train; the folder of the last run."""
    result = command(data, outdir, **options).run()
    assert result.exit_code == 0
    return result.runs[-1].folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run but those that hold the time of day."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in TIMED and path.parent.name != "tensorboard"
    }


def differing(one: Path, other: Path) -> list[str]:
    """The names of the files that are not the same in both, or not in both."""
    first, second = contents(one), contents(other)
    names = first.keys() | second.keys()
    return sorted(name for name in names if first.get(name) != second.get(name))


def json_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def table(path: Path) -> pl.DataFrame:
    """A CSV file, all columns as text."""
    return pl.read_csv(path, infer_schema=False)


def predictions(folder: Path) -> pl.DataFrame:
    """`val_predictions.csv` with numbers where they belong."""
    frame = table(folder / "val_predictions.csv")
    numbers = [name for name in frame.columns if "prob_" in name]
    return frame.with_columns(pl.col(numbers).cast(pl.Float64))
