"""Finished runs of train-density written by hand, in the formats that it publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mammography.analysis.calibration import expected_calibration_error, reliability
from mammography.analysis.metrics import classification_metrics
from mammography.analysis.statistics import bootstrap_intervals

DENSITY = {"name": "density", "classes": [1, 2, 3, 4], "names": ["A", "B", "C", "D"]}
TISSUE = {"name": "tissue", "classes": ["F", "G", "D"], "names": ["fatty", "glandular", "dense"]}


def write_run(
    folder: Path,
    *,
    seed: int = 42,
    images: int = 60,
    label: dict[str, Any] = DENSITY,
    config: dict[str, Any] | None = None,
    trained: bool = True,
    fused: dict[str, Any] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """Write `folder`; predictions follow from the seed. `without`: classes that no image has."""
    (folder / "metrics").mkdir(parents=True)
    classes = [str(name) for name in label["classes"]]
    random = np.random.default_rng(seed)
    there = [code for code, name in enumerate(classes) if name not in without]
    true = random.choice(there, images)
    logits = random.normal(size=(images, len(classes))) + 1.2 * np.eye(len(classes))[true]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    metrics = classification_metrics(true, probabilities, classes)
    ece = expected_calibration_error(true, probabilities)
    metrics |= {
        "epoch": 3,
        "intervals": bootstrap_intervals(
            true, probabilities, np.arange(images) // 2, resamples=50, seed=seed
        ),
        "calibration": {
            "temperature": 1.3,
            "ece_before": ece,
            "ece_after": ece / 2,
            "bins": reliability(true, probabilities),
        },
        "classes": label["classes"],
        "names": label["names"],
    }
    write_json(folder / "metrics/val_metrics.json", metrics)
    np.save(folder / "metrics/confusion_matrix.npy", np.array(metrics["confusion_matrix"]))
    samples = [f"{number:05d}/L_MLO" for number in range(images)]
    table = {
        "sample_id": samples,
        "true_label": [classes[code] for code in true],
        "pred_label": [classes[code] for code in probabilities.argmax(axis=1)],
        **{f"prob_{name}": probabilities[:, code] for code, name in enumerate(classes)},
        **{f"cal_prob_{name}": probabilities[:, code] for code, name in enumerate(classes)},
        "path": [f"{sample}.dcm" for sample in samples],
        "exam": [f"{number:05d}" for number in range(images)],
    }
    pl.DataFrame(table).write_csv(folder / "val_predictions.csv")
    split = {"image_id": [*samples, *(f"t{number}" for number in range(3 * images))]}
    split["split"] = ["validation"] * images + ["train"] * (3 * images)
    pl.DataFrame(split).write_csv(folder / "split.csv")
    write_json(folder / "train_history.json", history(metrics["bal_acc_adj"]))
    weights = {"name": "IMAGENET1K_V1" if trained else f"random (seed {seed})", "trained": trained}
    write_json(
        folder / "model.json",
        {"arch": "efficientnet_b0", "weights": weights, "label": label, "fused": fused},
    )
    write_json(
        folder / "summary.json",
        {
            "command": "train-density",
            "config": {"dicom_root": "archive", "outdir": "out", "seed": seed, "lr": 1e-4}
            | (config or {}),
            "working_directory": folder.parent.as_posix(),
            "exit_code": 0,
            "best_epoch": 3,
            "seed": seed,
            "arch": "efficientnet_b0",
            "epochs": 5,
            "git_commit": "0123abc",
        },
    )
    return folder


def history(best: float | None) -> dict[str, list[Any]]:
    """Five epochs, the third of which is the best."""
    best = 0.4 if best is None else best
    return {
        "epoch": [1, 2, 3, 4, 5],
        "train_loss": [1.4, 1.2, 1.0, 0.9, 0.8],
        "train_acc": [0.3, 0.4, 0.5, 0.6, 0.7],
        "val_loss": [1.3, 1.2, 1.1, 1.15, 1.2],
        "val_acc": [0.3, 0.4, 0.6, 0.55, 0.5],
        "val_balanced_accuracy": [0.25, 0.4, 0.6, 0.5, 0.5],
        "val_bal_acc_adj": [best - 0.3, best - 0.1, best, best - 0.02, best],
        "val_kappa": [None, 0.2, 0.4, 0.35, 0.3],
        "val_macro_f1": [0.2, 0.3, 0.5, 0.45, 0.4],
        "val_auc": [0.5, 0.6, 0.8, 0.78, 0.75],
        "learning_rate": [5e-5, 1e-4, 7.5e-5, 2.5e-5, 0.0],
        "learning_rate_backbone": [None] * 5,
    }


def change(path: Path, **values: Any) -> None:
    """Change keys of a JSON file."""
    write_json(path, json.loads(path.read_text()) | values)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
