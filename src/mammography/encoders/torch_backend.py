"""Running a network in PyTorch, on the CPU or an accelerator."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch

from mammography.archive.workers import cores
from mammography.encoders.backends import (
    ACCELERATOR_BATCH,
    CPU_BATCH,
    Backend,
    Batch,
    EncoderRequest,
    cpu_name,
)
from mammography.encoders.encoder import Encoder
from mammography.errors import UsageError

log = logging.getLogger(__name__)


def choose_device(device: str) -> str:
    """Resolve "auto" to the best device that is there.

    Raises:
        UsageError: There is no such device.
    """
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


def run(encoder: Encoder, device: str, request: EncoderRequest) -> Backend:
    """Put an encoder on a device."""
    on_device = {"cpu": _on_cpu, "cuda": _on_cuda, "mps": _on_mps}
    return on_device[device](encoder, request)


def _on_cpu(encoder: Encoder, request: EncoderRequest) -> Backend:
    network = encoder.network.to(memory_format=torch.channels_last)
    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def infer(batch: Batch) -> Batch:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=request.amp):
            tensor = torch.from_numpy(batch).to(memory_format=torch.channels_last)
            return network(tensor).float().numpy()

    return Backend(
        "torch",
        cpu_name(),
        "bfloat16" if request.amp else "float32",
        deterministic=True,
        batch_size=request.batch_size or CPU_BATCH,
        streams=cores(),
        infer=infer,
        close=partial(torch.set_num_threads, before),
    )


def _on_cuda(encoder: Encoder, request: EncoderRequest) -> Backend:
    settings = ExitStack()
    settings.enter_context(_cuda_settings(request.deterministic))
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    dtype = torch.bfloat16 if has_bfloat16 else torch.float16
    network = encoder.network.to("cuda").to(memory_format=torch.channels_last)
    torch.cuda.synchronize()  # the network is there before another stream uses it
    local = threading.local()

    def infer(batch: Batch) -> Batch:
        if not hasattr(local, "stream"):
            local.stream = torch.cuda.Stream()
        with (
            torch.inference_mode(),
            torch.cuda.stream(local.stream),
            torch.autocast("cuda", dtype, enabled=request.amp),
        ):
            # From pinned memory, the copy runs beside the other stream's network.
            tensor = torch.from_numpy(batch).pin_memory().to("cuda", non_blocking=True)
            features = network(tensor.contiguous(memory_format=torch.channels_last))
            return features.float().cpu().numpy()

    return Backend(
        "torch",
        f"cuda ({torch.cuda.get_device_name()})",
        str(dtype).removeprefix("torch.") if request.amp else "float32",
        deterministic=request.deterministic,
        batch_size=request.batch_size or ACCELERATOR_BATCH,
        streams=2,
        infer=infer,
        close=settings.close,
    )


@contextmanager
def _cuda_settings(exact: bool) -> Iterator[None]:
    """Float32 that is float32 (no TF32), and with `exact` the same bytes every time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    precision = torch.get_float32_matmul_precision()
    torch.use_deterministic_algorithms(exact, warn_only=True)
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=not exact, deterministic=exact, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def _on_mps(encoder: Encoder, request: EncoderRequest) -> Backend:
    if request.amp:
        log.warning("Mixed precision is unreliable on MPS: --amp has no effect, float32 is used.")
    if request.deterministic:
        log.warning("MPS does not promise the same bytes for the same batch.")
    network = encoder.network.to("mps")

    def infer(batch: Batch) -> Batch:
        with torch.inference_mode():
            return network(torch.from_numpy(batch).to("mps")).float().cpu().numpy()

    return Backend(
        "torch",
        "mps",
        "float32",
        deterministic=False,
        batch_size=request.batch_size or ACCELERATOR_BATCH,
        streams=2,
        infer=infer,
    )
