"""One module per command: a frozen dataclass with a `run()`; heavy imports inside `run()`."""

from __future__ import annotations

import importlib
from typing import Any

#: Command to its module and dataclass, in the order of the help.
COMMANDS = {
    "scan": ("mammography.commands.scan", "Scan"),
    "embed": ("mammography.commands.embed", "Embed"),
    "embeddings-baselines": ("mammography.commands.embeddings_baselines", "EmbeddingsBaselines"),
    "train-density": ("mammography.commands.train_density", "TrainDensity"),
    "tune-density": ("mammography.commands.tune_density", "TuneDensity"),
    "predict": ("mammography.commands.predict", "Predict"),
    "explain": ("mammography.commands.explain", "Explain"),
    "eval-export": ("mammography.commands.eval_export", "EvalExport"),
    "report-pack": ("mammography.commands.report_pack", "ReportPack"),
    "cache": ("mammography.commands.cache", "Cache"),
    "preview": ("mammography.commands.preview", "Preview"),
    "phantom": ("mammography.commands.phantom", "Phantom"),
    "rerun": ("mammography.commands.rerun", "Rerun"),
}


def command_class(name: str) -> Any:
    """The dataclass of a command; only its own module is imported."""
    module, attribute = COMMANDS[name]
    return getattr(importlib.import_module(module), attribute)
