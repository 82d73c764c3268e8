"""Training a classifier to the end: Lightning's trainer with our data, callbacks and folder."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from mammography.training import ranks
from mammography.training.callbacks import BEST, LAST, Epochs, OnEpoch
from mammography.training.data import BatchOrder, ImageBatches, Images, class_weights
from mammography.training.density import DensityTask
from mammography.training.settings import FitSettings

log = logging.getLogger(__name__)

#: Where a run keeps what it needs to go on, and its best weights.
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Loading:
    """How data is loaded, which changes no number.

    Attributes:
        workers: Processes; 0 loads in this one.
        prefetch_factor: Batches that each process keeps ready.
        persistent: Keep the processes from epoch to epoch.
        progress_bar: Show bars on the terminal.
    """

    workers: int = 0
    prefetch_factor: int = 2
    persistent: bool = True
    progress_bar: bool = False


@dataclass(frozen=True)
class Fitted:
    """What a training came to.

    Attributes:
        history: A list for each name of `mammography.training.density.HISTORY`.
        best_epoch: Whose weights the classifier now has, from 1.
    """

    history: dict[str, list[Any]]
    best_epoch: int


def fit(
    task: DensityTask,
    images: Images,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    names: list[str],
    folder: Path,
    loading: Loading,
    *,
    loggers: list[Logger] | None = None,
    on_epoch: OnEpoch | None = None,
) -> Fitted:
    """Train, and leave the best epoch's weights in the task's classifier.

    Goes on from the checkpoint in `folder`, where there is one.

    Args:
        task: The classifier and its settings.
        images: All images.
        train: Rows of `images` to train on.
        validation: Rows to watch.
        names: Of the classes.
        folder: The run's; `CHECKPOINTS` and ``tensorboard`` go below it.
        loading: How data is loaded.
        loggers: Beside TensorBoard.
        on_epoch: Told every line of the history.
    """
    settings = task.settings
    checkpoints = folder / CHECKPOINTS
    checkpoints.mkdir(parents=True, exist_ok=True)
    epochs = Epochs(checkpoints, images.codes[validation], names, settings, on_epoch)
    begun = checkpoints / LAST if (checkpoints / LAST).exists() else None
    board = TensorBoardLogger(folder, name="tensorboard", version="")
    with _quiet(), _exact(settings), _interruptible():
        trainer = Trainer(
            accelerator=settings.device,
            **ranks.placement(),
            precision=_precision(settings),
            max_epochs=settings.epochs,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip,
            logger=[board, *(loggers or [])],
            callbacks=[epochs, *([RichProgressBar()] if loading.progress_bar else [])],
            enable_progress_bar=loading.progress_bar,
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            log_every_n_steps=1,
            default_root_dir=folder,
        )
        trainer.fit(
            task,
            _training_loader(images, train, settings, loading),
            _validation_loader(images, validation, settings, loading),
            ckpt_path=begun,
            weights_only=True,
        )
    best = torch.load(checkpoints / BEST, map_location="cpu", weights_only=True)
    task.classifier.load_state_dict(best)
    return Fitted(task.history, epochs.best_epoch)


def _training_loader(
    images: Images, rows: NDArray[np.int64], settings: FitSettings, loading: Loading
) -> DataLoader:
    codes = images.codes[rows]
    weights = class_weights(codes, int(images.codes.max()) + 1)[codes] if settings.sampler else None
    order = BatchOrder(
        rows, settings.batch_size, settings.seed, weights, rank=ranks.rank(), world=ranks.world()
    )
    return _loader(images, order, settings, loading)


def _validation_loader(
    images: Images, rows: NDArray[np.int64], settings: FitSettings, loading: Loading
) -> DataLoader:
    mine = rows[ranks.rank() :: ranks.world()]
    order = BatchOrder(mine, settings.batch_size, shuffle=False)
    return _loader(images, order, settings, loading)


def _loader(
    images: Images, order: BatchOrder, settings: FitSettings, loading: Loading
) -> DataLoader:
    return DataLoader(
        ImageBatches(images),
        sampler=order,
        batch_size=None,
        num_workers=loading.workers,
        prefetch_factor=loading.prefetch_factor if loading.workers else None,
        persistent_workers=loading.persistent and loading.workers > 0,
        pin_memory=settings.device == "cuda",
    )


def _precision(settings: FitSettings) -> Any:
    if not settings.amp:
        return "32-true"
    if settings.device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "16-mixed"
    return "bf16-mixed"


@contextmanager
def _exact(settings: FitSettings) -> Iterator[None]:
    """The same bytes every time, where the device can."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end a training as it ends all else; Lightning makes an exit with code 1 of it."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)  # Lightning has it ignored
        raise KeyboardInterrupt from end


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice to developers away from users."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
