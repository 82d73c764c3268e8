"""The task of classifying images: one training step, one validation, what an epoch came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor

from mammography.analysis.metrics import headline
from mammography.errors import MammographyError
from mammography.training.augment import Augmentation, mixup
from mammography.training.classifier import Classifier
from mammography.training.data import Batch
from mammography.training.objective import Objective, losses, soft_targets, weighted_mean
from mammography.training.schedule import optimizer_of, set_rates
from mammography.training.settings import FitSettings

#: What an epoch's line of the history says, in this order.
HISTORY = (
    "epoch", "train_loss", "train_acc", "val_loss", "val_acc", "val_balanced_accuracy",
    "val_bal_acc_adj", "val_kappa", "val_macro_f1", "val_auc", "learning_rate",
    "learning_rate_backbone",
)  # fmt: skip

#: The history's names of headline metrics.
_MEASURED = {
    "val_acc": "accuracy", "val_balanced_accuracy": "balanced_accuracy",
    "val_bal_acc_adj": "bal_acc_adj", "val_kappa": "kappa", "val_macro_f1": "macro_f1",
    "val_auc": "auc_ovr",
}  # fmt: skip


class DensityTask(LightningModule):
    """Train a classifier and watch it on validation images.

    Args:
        classifier: Frozen as it shall be.
        objective: What its outputs mean.
        settings: How it is trained.
        weights: (classes,) weight of each class in the loss.
        mean: Of the three channels that the encoder expects.
        std: Likewise.

    Attributes:
        history: A list for each name of `HISTORY`, one item an epoch.
        predicted: (validation images, classes) probabilities of the last validation, in the order
            of the data set's rows.
    """

    _weights: Tensor
    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        classifier: Classifier,
        objective: Objective,
        settings: FitSettings,
        weights: NDArray[np.float64],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.classifier, self.objective, self.settings = classifier, objective, settings
        #: What convolutions are fastest with: a third faster than the usual layout on the CPU.
        self._layout = torch.contiguous_format if settings.device == "mps" else torch.channels_last
        classifier.encoder.to(memory_format=self._layout)
        self.history: dict[str, list[Any]] = {name: [] for name in HISTORY}
        self.predicted: NDArray[np.float64] = np.zeros((0, len(weights)))
        self._augmentation = Augmentation()
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []
        self._sums = torch.zeros(4)
        self._rates: dict[str, float] = {}
        for name, values in {"weights": weights, "mean": mean, "std": std}.items():
            values = torch.tensor(np.asarray(values), dtype=torch.float32)
            self.register_buffer(f"_{name}", values, persistent=False)

    def images(self, grays: Tensor) -> Tensor:
        """Grays (batch, rows, columns) in [0, 1] as the encoder wants them."""
        mean, std = self._mean.view(1, 3, 1, 1), self._std.view(1, 3, 1, 1)
        images = (grays.unsqueeze(1) - mean) / std
        return images.contiguous(memory_format=self._layout)

    def configure_optimizers(self) -> Any:
        """See `mammography.training.schedule`."""
        return optimizer_of(self.classifier, self.settings)

    def on_train_epoch_start(self) -> None:
        """Start the sums of the epoch's line, and set its learning rates."""
        self._sums = torch.zeros(4, device=self.device)
        optimizer: Any = self.optimizers()
        set_rates(optimizer, self.settings, self.history["val_loss"])
        self._rates = {group["name"]: group["lr"] for group in optimizer.param_groups}

    def training_step(self, batch: Batch, step: int) -> Tensor:
        """The weighted loss of a batch, over all processes together."""
        settings, classes = self.settings, len(self._weights)
        self._seed_dropout(step)
        grays = batch.grays.to(torch.float32) / 65535
        if settings.augment:
            rows = batch.rows.tolist()
            grays = self._augmentation(
                grays.unsqueeze(1), rows, settings.seed, self.current_epoch
            ).squeeze(1)
        targets = soft_targets(batch.codes, classes, settings.label_smoothing)
        embeddings = batch.embeddings
        if settings.mixup:
            values = [grays, targets] + ([] if embeddings is None else [embeddings])
            grays, targets, *rest = mixup(
                values, settings.mixup, settings.seed, self.current_epoch, step
            )
            embeddings = rest[0] if rest else None
        logits = self.classifier(self.images(grays), embeddings)
        log_probabilities = self.objective.log_probabilities(logits.float())
        of_each = losses(log_probabilities, targets)
        weights = self._weights[batch.codes]
        if settings.mixup:
            weights = (targets * self._weights).sum(1)
        right = (log_probabilities.argmax(1) == batch.codes).sum()
        images = torch.ones_like(weights).sum()
        self._sums += torch.stack(
            [torch.dot(of_each.detach(), weights), weights.sum(), right, images]
        )
        loss = self._over_processes(weighted_mean(of_each, weights), weights.sum())
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def _seed_dropout(self, step: int) -> None:
        """Make what the network draws depend on the place in the training alone."""
        place = (self.settings.seed, self.current_epoch, step, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def _over_processes(self, mean: Tensor, weight: Tensor) -> Tensor:
        """Scale a process's mean so that the average over processes is that of all images."""
        world = self.trainer.world_size
        if world == 1:
            return mean
        total = self.trainer.strategy.reduce(weight.clone(), reduce_op="sum")
        return mean * weight * world / torch.where(total > 0, total, 1.0)

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self._seen = []

    def validation_step(self, batch: Batch, step: int) -> None:
        """Keep the probabilities of a batch."""
        grays = batch.grays.to(torch.float32) / 65535
        logits = self.classifier(self.images(grays), batch.embeddings)
        seen = self.objective.log_probabilities(logits.float())
        self._seen.append((batch.rows, batch.codes, seen))

    def on_validation_epoch_end(self) -> None:
        """Add a line to the history.

        Raises:
            MammographyError: The training has diverged.
        """
        if self.trainer.sanity_checking:
            return
        rows, codes, logs = (torch.cat(parts).cpu() for parts in zip(*self._seen, strict=True))
        if self.trainer.world_size > 1:
            rows, codes, logs = _gathered(rows, codes, logs)
        if logs.isnan().any():
            raise MammographyError(
                f"Training diverged in epoch {self.current_epoch + 1}: the network's outputs are "
                "no numbers any more. Lower --lr and --backbone-lr, or limit gradients with --clip."
            )
        order = rows.argsort()
        codes, logs = codes[order], logs[order]
        targets = soft_targets(codes, logs.shape[1], 0.0)
        loss = weighted_mean(losses(logs, targets), self._weights.cpu()[codes])
        self.predicted = logs.exp().double().numpy()
        self.predicted /= self.predicted.sum(1, keepdims=True)
        self._add_to_history(float(loss), headline(codes.numpy(), self.predicted))

    def _add_to_history(self, val_loss: float, measured: Mapping[str, float | None]) -> None:
        sums = self.trainer.strategy.reduce(self._sums.clone(), reduce_op="sum").tolist()
        line = {
            "epoch": self.current_epoch + 1,
            "train_loss": sums[0] / sums[1] if sums[1] else None,
            "train_acc": sums[2] / sums[3],
            "val_loss": val_loss,
            **{name: measured[metric] for name, metric in _MEASURED.items()},
            "learning_rate": self._rates["head"],
            "learning_rate_backbone": self._rates.get("backbone"),
        }
        for name, value in line.items():
            self.history[name].append(value)
            if name != "epoch" and value is not None:
                shown = name in ("val_bal_acc_adj", "val_kappa", "learning_rate")
                self.log(name, value, prog_bar=shown, rank_zero_only=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the history."""
        self.history = checkpoint["history"]


def _gathered(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors of all processes, one behind the other."""
    everywhere: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everywhere, tensors)
    return tuple(torch.cat(parts) for parts in zip(*everywhere, strict=True))
