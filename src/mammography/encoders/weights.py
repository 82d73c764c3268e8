"""Weight files: how they are read without running or losing anything.

A file is safetensors or a PyTorch state dict; the latter is opened by PyTorch's restricted
unpickler. Every tensor of a file must find its place in the network and every place its tensor.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mammography.errors import WeightsError

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
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        detail = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise WeightsError(
            f"{path} is neither safetensors nor a PyTorch file of plain tensors, which is all that "
            f"is opened (nothing in a weight file is executed): {detail}"
        ) from error
    return _state_dict_in(content, path)


def _state_dict_in(content: object, path: Path) -> StateDict:
    if isinstance(content, dict):
        for key in _WRAPPERS:
            if isinstance(content.get(key), dict):
                content = content[key]
                break
        assert isinstance(content, dict)
        if content and all(isinstance(value, Tensor) for value in content.values()):
            if all(str(key).startswith("module.") for key in content):  # DistributedDataParallel
                return {str(key)[len("module.") :]: value for key, value in content.items()}
            return {str(key): value for key, value in content.items()}
    raise WeightsError(
        f"{path} holds no state dict: a dictionary of names to tensors is expected, alone or "
        f"under {', '.join(_WRAPPERS)}."
    )


def place(state: StateDict, network: nn.Module, head: str, origin: str) -> None:
    """Put every tensor of a state dict into a network, or say why not.

    A file without the network's classifier is fine: features do not pass through it.

    Args:
        state: Names to tensors.
        network: The whole network, classifier included.
        head: Prefix of the classifier's names.
        origin: Names the file in errors.

    Raises:
        WeightsError: Tensors are missing, left over, or of another shape; they are named.
    """
    wanted = network.state_dict()
    headless = {key for key in wanted if not key.startswith(head)}
    expected = set(wanted) if any(key.startswith(head) for key in state) else headless
    # Counters that old files lack and that evaluation never reads.
    optional = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = sorted(expected - optional - set(state))
    foreign = sorted(set(state) - expected)
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(expected & set(state))
        if state[key].shape != wanted[key].shape
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
        for what, names in (
            ("missing", missing),
            ("left over", foreign),
            ("of the wrong shape", misshapen),
        )
        if names
    ]
    if problems:
        raise WeightsError(
            f"{origin} does not fit {type(network).__name__}. Of {len(expected)} tensors, "
            f"{'; '.join(problems)}. Choose the encoder that these weights belong to (--encoder)."
        )
    network.load_state_dict(state, strict=False)


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
