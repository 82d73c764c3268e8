"""Running a network on a device: in PyTorch, or on the CPU in OpenVINO where that is installed.

A backend is a function from a batch to its features that several threads may call at once. On the
CPU every call is single-threaded and as many run as there are cores: two threads within one
operator wait for each other as soon as anything else, such as decoding, needs the cores.

PyTorch is imported only where it runs. For OpenVINO the network is built and converted in a process
of its own, so that its half gigabyte is gone before the first image is read.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mammography.archive.workers import cores, in_a_process
from mammography.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from mammography.encoders.encoder import Encoder
    from mammography.encoders.records import EncoderInfo

log = logging.getLogger(__name__)

Batch = NDArray[np.float32]

#: The largest relative difference to eager PyTorch that a float32 backend may show.
EXACT = 1e-5

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
    """

    name: str
    device: str
    precision: str
    deterministic: bool
    batch_size: int
    streams: int
    infer: Callable[[Batch], Batch]

    def record(self) -> dict[str, object]:
        """What can change the last bits of a feature, as JSON values."""
        return {
            "backend": self.name,
            "device": self.device,
            "precision": self.precision,
            "deterministic": self.deterministic,
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
    if installed and request.backend != "torch" and request.device in ("auto", "cpu"):
        converted = in_a_process(convert, request)
        if converted is not None:
            return converted.info, _openvino(converted, request)
    from mammography.encoders.registry import load_encoder

    device = _choose_device(request.device)
    if device != "cpu" and request.backend == "openvino":
        raise UsageError(f"--backend openvino runs on the CPU, not on {device}.")
    encoder = load_encoder(request.name, request.weights, seed=request.seed, size=request.size)
    run = _torch_on_cpu if device == "cpu" else _torch_on_accelerator
    return encoder.info, run(encoder, device, request)


def _choose_device(device: str) -> str:
    """Resolve "auto" to the best device that is there."""
    import torch

    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, present in there.items() if present)
    if not there[device]:
        raise UsageError(f"There is no {device} device here; use --device cpu or auto.")
    return device


@dataclass(frozen=True)
class Converted:
    """A network as OpenVINO's two files, and what is known of it."""

    info: EncoderInfo
    xml: bytes
    constants: bytes


def convert(request: EncoderRequest) -> Converted | None:
    """Build a network in PyTorch and convert it; None where it should run in PyTorch after all.

    The converted network is held against eager PyTorch on random input before it is trusted.
    """
    from tempfile import TemporaryDirectory

    import openvino
    import torch

    from mammography.encoders.registry import load_encoder

    if _choose_device(request.device) != "cpu":
        return None
    encoder = load_encoder(request.name, request.weights, seed=request.seed, size=request.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's advice to its own callers
        model = openvino.convert_model(
            encoder.network, example_input=torch.zeros(1, 3, *request.size)
        )
    model.reshape([1, 3, *request.size])
    difference = _difference(encoder, model, request.size)
    if difference > EXACT:
        complaint = (
            f"OpenVINO differs from eager PyTorch by {difference:.1e} (relative) on "
            f"{request.name}, more than {EXACT:.0e}"
        )
        if request.backend == "openvino":
            raise UsageError(f"{complaint}; use --backend torch.")
        return None
    with TemporaryDirectory() as folder:
        path = os.path.join(folder, "network.xml")  # noqa: PTH118  (OpenVINO takes strings)
        openvino.save_model(model, path, compress_to_fp16=False)
        with open(path, "rb") as xml, open(path[:-3] + "bin", "rb") as constants:  # noqa: PTH123
            return Converted(encoder.info, xml.read(), constants.read())


def _difference(encoder: Encoder, model: object, size: tuple[int, int]) -> float:
    """Relative difference (L2) between eager PyTorch and OpenVINO in float32 on random input."""
    import openvino
    import torch

    image = np.random.default_rng(0).standard_normal((1, 3, *size), np.float32)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.inference_mode():
        expected = encoder.network(torch.from_numpy(image)).numpy()
    return float(np.linalg.norm(compiled([image])[0] - expected) / np.linalg.norm(expected))


def _openvino(converted: Converted, request: EncoderRequest) -> Backend:
    import openvino

    core = openvino.Core()
    model = core.read_model(converted.xml, converted.constants)
    shape = (request.batch_size or CPU_BATCH, 3, *request.size)
    model.reshape(list(shape))
    threads = cores()
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16" if request.amp else "f32",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
        },
    )
    local = threading.local()

    def infer(batch: Batch) -> Batch:
        if not hasattr(local, "request"):
            local.request = compiled.create_infer_request()
        return local.request.infer([batch])[0].astype(np.float32)

    # OpenVINO's binding initialises itself on its first call, and deadlocks when two threads make
    # that call together.
    infer(np.zeros(shape, np.float32))

    # The CPU plugin keeps float32 where the processor has no bfloat16.
    used = str(compiled.get_property("INFERENCE_PRECISION_HINT"))
    precision = "bfloat16" if "bf" in used else "float32"
    if request.amp and precision == "float32":
        log.warning("This CPU has no bfloat16: --amp has no effect, float32 is used.")
    return Backend("openvino", _cpu_name(), precision, True, shape[0], threads, infer)


def _torch_on_cpu(encoder: Encoder, device: str, request: EncoderRequest) -> Backend:
    import torch

    network = encoder.network.to(memory_format=torch.channels_last)
    torch.set_num_threads(1)

    def infer(batch: Batch) -> Batch:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=request.amp):
            tensor = torch.from_numpy(batch).to(memory_format=torch.channels_last)
            return network(tensor).float().numpy()

    precision = "bfloat16" if request.amp else "float32"
    batch_size = request.batch_size or CPU_BATCH
    return Backend("torch", _cpu_name(), precision, True, batch_size, cores(), infer)


def _torch_on_accelerator(encoder: Encoder, device: str, request: EncoderRequest) -> Backend:
    import torch

    amp, exact = request.amp, request.deterministic
    if device == "mps" and amp:
        log.warning("Mixed precision is unreliable on MPS: --amp has no effect, float32 is used.")
        amp = False
    if device == "mps" and exact:
        log.warning("MPS does not promise the same bytes for the same batch.")
    dtype = torch.bfloat16
    if device == "cuda":
        if amp and not torch.cuda.is_bf16_supported():
            dtype = torch.float16
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic = exact
        torch.backends.cudnn.benchmark = not exact
        torch.backends.cuda.matmul.allow_tf32 = not exact
        torch.backends.cudnn.allow_tf32 = not exact
    torch.use_deterministic_algorithms(exact, warn_only=True)
    network = encoder.network.to(device, memory_format=torch.channels_last)

    def infer(batch: Batch) -> Batch:
        tensor = torch.from_numpy(batch)
        tensor = tensor.pin_memory() if device == "cuda" else tensor
        with torch.inference_mode(), torch.autocast(device, dtype, enabled=amp):
            tensor = tensor.to(device, non_blocking=True, memory_format=torch.channels_last)
            return network(tensor).float().cpu().numpy()

    name = f"cuda ({torch.cuda.get_device_name()})" if device == "cuda" else device
    precision = str(dtype).removeprefix("torch.") if amp else "float32"
    same_bytes = exact and device == "cuda"
    batch_size = request.batch_size or ACCELERATOR_BATCH
    return Backend("torch", name, precision, same_bytes, batch_size, 2, infer)


def _cpu_name() -> str:
    return f"cpu ({platform.machine()})"
