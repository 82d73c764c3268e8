"""Finding the last layer of a network that still knows where it looks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mammography.errors import UsageError


def last_feature_map(network: nn.Module, images: Tensor) -> nn.Module:
    """The module whose output is the network's last feature map.

    It is found by running the network once: the last module to return something with more than one
    position, which must be (batch, channels, rows, columns). Modules after it see pooled features.

    Args:
        network: An encoder without its classifier.
        images: (batch, 3, rows, columns).

    Raises:
        UsageError: What the network pools is no map of channels: a transformer's tokens, say.
    """
    last: list[tuple[nn.Module, tuple[int, ...]]] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim > 2 and output[0, 0].numel() > 1:
            last[:] = [(module, tuple(output.shape))]

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            width = network(images).shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    if not last:
        raise UsageError(
            f"{type(network).__name__} has no feature map for images of {images.shape[2]} × "
            f"{images.shape[3]}; Grad-CAM needs one with more than one position."
        )
    module, shape = last[0]
    channels_last = shape[-1] == width != shape[1]
    if len(shape) != 4 or channels_last:
        raise UsageError(
            f"The last features of {type(network).__name__} are {shape[1:]} for an image, not "
            "channels × rows × columns: Grad-CAM explains convolutional networks only."
        )
    return module
