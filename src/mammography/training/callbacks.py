"""What happens after every epoch: a line in the log, warnings, the best model, the checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mammography.runs import written_whole
from mammography.training.density import DensityTask
from mammography.training.settings import FitSettings

log = logging.getLogger(__name__)

#: Told after every epoch what its line of the history says; it may raise to end the training.
OnEpoch = Callable[[Mapping[str, Any]], None]

BEST, LAST = "best.pt", "last.ckpt"


def rank_of(line: Mapping[str, Any]) -> tuple[float, float, float]:
    """How good an epoch is: adjusted balanced accuracy, ties by kappa, then by AUC."""
    values = (line["val_bal_acc_adj"], line["val_kappa"], line["val_auc"])
    adjusted, kappa, auc = (-np.inf if value is None else value for value in values)
    return adjusted, kappa, auc


def collapse_signs(
    line: Mapping[str, Any], predicted: np.ndarray, codes: np.ndarray, names: list[str], warm: bool
) -> list[str]:
    """What in an epoch's validation looks like a collapsed classifier.

    Args:
        line: Of the history.
        predicted: (images,) codes of the predicted classes.
        codes: (images,) of the true ones.
        names: Of the classes.
        warm: Whether the warm-up is over.
    """
    signs = []
    if len(set(predicted.tolist())) == 1:
        signs.append(f"every image is taken for {names[predicted[0]]}")
    lost = [
        name
        for code, name in enumerate(names)
        if (codes == code).any() and not ((codes == code) & (predicted == code)).any()
    ]
    if lost:
        signs.append(f"no image of {', '.join(lost)} is recognised")
    for name, what in (("val_kappa", "quadratic kappa"), ("val_bal_acc_adj", "bal_acc_adj")):
        if warm and (line[name] is None or line[name] < 0.3):
            value = "undefined" if line[name] is None else f"{line[name]:.2f}, below 0.3"
            signs.append(f"{what} is {value}")
    return signs


class Epochs(Callback):
    """After every validation: say how it went, keep the best weights, save where to go on.

    Args:
        folder: For `BEST` and `LAST`.
        codes: (validation images,) true codes in the order of the rows.
        names: Of the classes.
        settings: Of the trainer.
        on_epoch: Told every line.

    Attributes:
        best_epoch: Of the best weights, from 1; 0 before any.
    """

    def __init__(
        self,
        folder: Path,
        codes: np.ndarray,
        names: list[str],
        settings: FitSettings,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        self._folder, self._codes, self._names = folder, codes, names
        self._settings, self._on_epoch = settings, on_epoch
        self._best: tuple[float, float, float] | None = None
        self.best_epoch = 0

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        """End at once what had ended early when it was interrupted."""
        assert isinstance(task, DensityTask)
        epochs = task.history["epoch"]
        trainer.should_stop = bool(epochs) and self._ends(epochs[-1])

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        """See the class."""
        assert isinstance(task, DensityTask)
        line = {name: values[-1] for name, values in task.history.items()}
        if trainer.is_global_zero:
            self._tell(task, line)
        if self._best is None or rank_of(line) > self._best:
            self._best, self.best_epoch = rank_of(line), line["epoch"]
            if trainer.is_global_zero:
                with written_whole(self._folder / BEST) as path:
                    torch.save(task.classifier.state_dict(), path)
        if self._ends(line["epoch"]):
            log.info("no better model for %d epochs: training ends", self._settings.patience)
            trainer.should_stop = True
        if trainer.is_global_zero:
            with written_whole(self._folder / LAST) as path:
                trainer.save_checkpoint(path)
        else:  # takes part, and writes nothing
            trainer.save_checkpoint(self._folder / LAST)
        if self._on_epoch and trainer.is_global_zero:
            self._on_epoch(line)

    def _ends(self, epoch: int) -> bool:
        patience = self._settings.patience
        return patience is not None and epoch - self.best_epoch >= patience

    def _tell(self, task: DensityTask, line: Mapping[str, Any]) -> None:
        log.info(
            "epoch %d/%d: loss %.4f, validation loss %.4f, accuracy %.3f, bal_acc_adj %s, kappa %s",
            line["epoch"], self._settings.epochs, line["train_loss"], line["val_loss"],
            line["val_acc"], _number(line["val_bal_acc_adj"]), _number(line["val_kappa"]),
        )  # fmt: skip
        warm = line["epoch"] > self._settings.warmup_epochs
        predicted = task.predicted.argmax(1)
        for sign in collapse_signs(line, predicted, self._codes, self._names, warm):
            log.warning("epoch %d: %s", line["epoch"], sign)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"best": self._best and list(self._best), "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        best = state_dict["best"]
        self._best = (best[0], best[1], best[2]) if best else None
        self.best_epoch = state_dict["best_epoch"]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
