"""Running a network on a device: in PyTorch, or on the CPU in OpenVINO where that is installed.

A backend is a function from a batch to its features that several threads may call at once. On the
CPU every call is single-threaded and as many run as there are cores: two threads within one
operator wait for each other as soon as anything else, such as decoding, needs the cores.

PyTorch is imported only where it runs.
"""

from __future__ import annotations

import importlib.util
import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammography.archive.workers import in_a_process
from mammography.encoders.records import EncoderInfo
from mammography.errors import MissingExtraError, UsageError

log = logging.getLogger(__name__)

Batch = NDArray[np.float32]

CPU_BATCH, ACCELERATOR_BATCH = 8, 64


@dataclass(frozen=True)
class EncoderRequest:
    """Which network, with which weights, is to run how.

    Attributes:
        name: Of the encoder.
        weights: "imagenet", "random" or a file's path.
        seed: Of random weights.
        size: (rows, columns) of every image.
        batch_size: Images in every batch; None for 8 on the CPU and 64 elsewhere.
        device: "auto", "cpu", "cuda" or "mps".
        backend: "auto", "torch" or "openvino".
        amp: Mixed precision: bfloat16, or float16 on CUDA devices without it.
        deterministic: Ask for algorithms that give the same bytes every time.
    """

    name: str
    weights: str
    seed: int
    size: tuple[int, int]
    batch_size: int | None = None
    device: str = "auto"
    backend: str = "auto"
    amp: bool = False
    deterministic: bool = True


@dataclass(frozen=True)
class Backend:
    """A network ready to run.

    Attributes:
        name: "torch" or "openvino".
        device: "cpu", "cuda" or "mps", and its model name where known.
        precision: "float32", "bfloat16" or "float16".
        deterministic: Whether the same batch gives the same bytes again.
        batch_size: Images in every batch.
        streams: How many calls may usefully run at once.
        infer: (batch, 3, rows, columns) float32 to (batch, width) float32; always with the batch
            size it was made for.
        close: Gives back the settings of PyTorch that running the network needed.
    """

    name: str
    device: str
    precision: str
    deterministic: bool
    batch_size: int
    streams: int
    infer: Callable[[Batch], Batch]
    close: Callable[[], None] = lambda: None

    def record(self) -> dict[str, object]:
        """What can change the last bits of a feature, as JSON values."""
        return {
            "backend": self.name,
            "device": self.device,
            "precision": self.precision,
            "deterministic": self.deterministic,
            "batch_size": self.batch_size,
        }


def open_backend(request: EncoderRequest) -> tuple[EncoderInfo, Backend]:
    """Load an encoder and put it on a device.

    Raises:
        UsageError: The request contradicts itself or the machine.
        MissingExtraError: OpenVINO is asked for and not installed.
        WeightsError: The weights cannot be had or do not fit.
    """
    installed = importlib.util.find_spec("openvino") is not None
    if request.backend == "openvino" and not installed:
        raise MissingExtraError("--backend openvino needs: pip install 'mammography[cpu]'")
    if request.backend == "openvino" and request.device not in ("auto", "cpu"):
        raise UsageError(f"--backend openvino runs on the CPU, not on {request.device}.")
    if installed and request.backend != "torch" and request.device in ("auto", "cpu"):
        from mammography.encoders import openvino_backend

        converted = in_a_process(openvino_backend.convert, request)
        if not isinstance(converted, str):
            return converted.info, openvino_backend.run(converted, request)
        if request.backend == "openvino":
            raise UsageError(f"--backend openvino cannot be had: {converted}; use --backend torch.")
        log.info("OpenVINO is not used: %s", converted)

    from mammography.encoders import torch_backend
    from mammography.encoders.registry import load_encoder

    device = torch_backend.choose_device(request.device)
    encoder = load_encoder(request.name, request.weights, seed=request.seed, size=request.size)
    return encoder.info, torch_backend.run(encoder, device, request)


def cpu_name() -> str:
    """The CPU as a record names it."""
    return f"cpu ({platform.machine()})"
