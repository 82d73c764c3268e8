"""Telling other programs about a run: MLflow, Optuna's and Ray Tune's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from mammography.errors import MissingExtraError
from mammography.runs import write_json, write_text


def mlflow_logger(uri: str, folder: Path) -> Logger:
    """A logger to an MLflow tracking URI.

    Raises:
        MissingExtraError: MLflow is not installed.
    """
    from lightning.pytorch.loggers import MLFlowLogger

    try:
        return MLFlowLogger("mammography", run_name=folder.name, tracking_uri=uri)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "--mlflow needs MLflow: pip install 'mammography[mlflow]'."
        ) from error


def write_trial_files(
    folder: Path,
    history: Mapping[str, list[Any]],
    optuna_trial: str | None,
    ray_trial: str | None,
    ray_logdir: Path | None,
    summary: Mapping[str, Any],
) -> None:
    """Write what the tuners' own tools read of a run.

    Args:
        folder: The run's.
        history: Of the training.
        optuna_trial: Name in ``optuna_trial.json``; None writes none.
        ray_trial: Name of ``ray_NAME.jsonl``, one line an epoch; None writes none.
        ray_logdir: Folder of a second copy of it.
        summary: With "metrics" and "best_epoch".
    """
    if optuna_trial is not None:
        trial = {
            "trial_id": optuna_trial,
            "value": summary["metrics"]["bal_acc_adj"],
            "metric": "bal_acc_adj of the best epoch",
            "best_epoch": summary["best_epoch"],
            "metrics": summary["metrics"],
            "intermediate_values": history["val_bal_acc_adj"],
        }
        write_json(folder / "optuna_trial.json", trial)
    if ray_trial is not None:
        lines = [
            json.dumps({"trial_name": ray_trial, "training_iteration": number + 1}
                       | {name: values[number] for name, values in history.items()})
            for number in range(len(history["epoch"]))
        ]  # fmt: skip
        for parent in (folder, *([ray_logdir] if ray_logdir else [])):
            write_text(parent / f"ray_{ray_trial}.jsonl", "\n".join(lines) + "\n")
