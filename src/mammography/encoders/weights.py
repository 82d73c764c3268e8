"""Weight files: how they are read without running or losing anything.

A file is safetensors or a PyTorch state dict; the latter is opened by PyTorch's restricted
unpickler. Every tensor of a file must find its place in the network and every place its tensor.
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Collection
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mammography.errors import WeightsError

log = logging.getLogger(__name__)

StateDict = dict[str, Tensor]

#: Keys under which training scripts put a state dict inside a larger checkpoint.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_state_dict(path: Path) -> StateDict:
    """Read the tensors of a weight file; nothing in it is executed.

    Args:
        path: A ``.safetensors`` file, or a PyTorch file holding a state dict, alone or under one of
            the usual keys.

    Raises:
        WeightsError: The file is missing, damaged, holds code, or holds no state dict.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weight file {path}.")
    try:
        with path.open("rb") as stream:
            head = stream.read(9)
        if head[8:9] == b"{":
            content: object = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pickle protocols
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a parser may fail on foreign bytes in any way
        raise WeightsError(_why_refused(path, error)) from error
    return _state_dict_in(content, path)


def _why_refused(path: Path, error: Exception) -> str:
    """The reason in one line, without PyTorch's advice to run what the file holds."""
    way_on = "Save the state dict alone, best as safetensors."
    if wanted := re.search(r"GLOBAL ([\w.]+)", str(error)):
        what = f"opening it would mean to run {wanted[1]}"
    elif "TorchScript" in str(error):
        what = "it is a program (TorchScript)"
    elif isinstance(error, UnpicklingError):
        what = "it is damaged, or pickles something else than tensors"
    else:
        first = (str(error).strip() or repr(error)).splitlines()[0]
        return (
            f"{path} is damaged, or neither safetensors nor a PyTorch state dict "
            f"({type(error).__name__}: {first[:200]})."
        )
    return f"{path} is refused: {what}; nothing in a weight file is executed. {way_on}"


def _state_dict_in(content: object, path: Path) -> StateDict:
    if isinstance(content, dict):
        wrapped = [content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)]
        state = wrapped[0] if wrapped else content
        if state and all(isinstance(value, Tensor) for value in state.values()):
            if all(str(key).startswith("module.") for key in state):  # DistributedDataParallel
                return {str(key)[len("module.") :]: value for key, value in state.items()}
            return {str(key): value for key, value in state.items()}
    raise WeightsError(
        f"{path} holds no state dict: a dictionary of names to tensors is expected, alone or "
        f"under {', '.join(_WRAPPERS)}."
    )


def place(state: StateDict, network: nn.Module, classifier: Collection[str], origin: str) -> None:
    """Put every tensor of a state dict into a network, or say why not.

    Features do not pass through the classifier: a file may lack it, or have one for other classes.

    Args:
        state: Names to tensors.
        network: Without its classifier.
        classifier: Names of the classifier's tensors.
        origin: Names the file in errors.

    Raises:
        WeightsError: Tensors are missing, left over, of another shape or type, or not finite; they
            are named.
    """
    wanted = network.state_dict()
    # Counters that old files lack and that evaluation never reads.
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    both = sorted(wanted.keys() & state.keys())
    faults = {
        "missing": sorted(wanted.keys() - optional - state.keys()),
        "left over": sorted(state.keys() - wanted.keys() - set(classifier)),
        "of the wrong shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
            for key in both
            if state[key].shape != wanted[key].shape
        ],
        "of the wrong type": [
            f"{key} {state[key].dtype}"
            for key in both
            if state[key].is_floating_point() != wanted[key].is_floating_point()
        ],
        "with NaN or infinity": [key for key in both if not state[key].isfinite().all()],
    }
    problems = [
        f"{len(names)} {what}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
        for what, names in faults.items()
        if names
    ]
    if problems:
        raise WeightsError(
            f"{origin} does not fit {type(network).__name__}. Of {len(wanted)} tensors, "
            f"{'; '.join(problems)}. Choose the encoder that these weights belong to (--encoder)."
        )
    network.load_state_dict({key: state[key] for key in both}, strict=False)


def hash_of_tensors(state: StateDict) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def renamed(state: StateDict, pattern: str, replacement: str) -> StateDict:
    """A state dict with its keys rewritten by a regular expression."""
    return {re.sub(pattern, replacement, key): value for key, value in state.items()}
