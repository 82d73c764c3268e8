"""Running a network on the CPU in OpenVINO.

The network is built and converted in a process of its own, so that the half gigabyte that PyTorch
takes is gone before the first image is read.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from mammography.archive.workers import cores
from mammography.encoders.backends import CPU_BATCH, Backend, Batch, EncoderRequest, cpu_name
from mammography.encoders.records import EncoderInfo

if TYPE_CHECKING:
    from mammography.encoders.encoder import Encoder

log = logging.getLogger(__name__)

# OpenVINO reports its use to a web analytics service unless this package of its own is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

#: The largest relative difference to eager PyTorch that a float32 network may show.
EXACT = 1e-5


@dataclass(frozen=True)
class Converted:
    """A network as OpenVINO's two files, and what is known of it."""

    info: EncoderInfo
    xml: bytes
    constants: bytes


def convert(request: EncoderRequest) -> Converted | str:
    """Build a network in PyTorch and convert it; or the reason why PyTorch should run it.

    The converted network is held against eager PyTorch on random input before it is trusted.
    """
    import openvino

    from mammography.encoders.registry import load_encoder
    from mammography.encoders.torch_backend import choose_device

    device = "cpu" if request.backend == "openvino" else choose_device(request.device)
    if device != "cpu":
        return f"there is a {device} device"
    encoder = load_encoder(request.name, request.weights, seed=request.seed, size=request.size)
    try:
        model = _converted(encoder, request.size)
    except Exception as error:  # noqa: BLE001  (the converter fails in any way; PyTorch still runs)
        first = (str(error).strip() or repr(error)).splitlines()[0]
        return f"it cannot convert {request.name} ({first[:200]})"
    difference = _difference(encoder, model, request.size)
    if not difference <= EXACT:
        return (
            f"it differs from eager PyTorch by {difference:.1e} (relative) on {request.name}, "
            f"more than {EXACT:.0e}"
        )
    with TemporaryDirectory() as folder:
        path = os.path.join(folder, "network.xml")  # noqa: PTH118  (OpenVINO takes strings)
        openvino.save_model(model, path, compress_to_fp16=False)
        with open(path, "rb") as xml, open(path[:-3] + "bin", "rb") as constants:  # noqa: PTH123
            return Converted(encoder.info, xml.read(), constants.read())


def _converted(encoder: Encoder, size: tuple[int, int]) -> Any:
    """An OpenVINO model for one image."""
    import openvino
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's advice to its own callers
        model = openvino.convert_model(encoder.network, example_input=torch.zeros(1, 3, *size))
    model.reshape([1, 3, *size])
    return model


def _difference(encoder: Encoder, model: Any, size: tuple[int, int]) -> float:
    """Relative difference (L2) between eager PyTorch and OpenVINO in float32 on random input."""
    import openvino
    import torch

    image = np.random.default_rng(0).standard_normal((1, 3, *size), np.float32)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.inference_mode():
        expected = encoder.network(torch.from_numpy(image)).numpy()
    return float(np.linalg.norm(compiled([image])[0] - expected) / np.linalg.norm(expected))


def run(converted: Converted, request: EncoderRequest) -> Backend:
    """Compile a converted network for batches, with one stream per core."""
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
    return Backend("openvino", cpu_name(), precision, True, shape[0], threads, infer)
