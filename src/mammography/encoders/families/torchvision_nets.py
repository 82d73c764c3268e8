"""The torchvision networks that the field's documents name, with their ImageNet-1k weights."""

from __future__ import annotations

import socket
import urllib.error
from functools import partial
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import nn
from torchvision import models

from mammography.encoders.encoder import Architecture, Family
from mammography.encoders.records import WeightsRecord
from mammography.encoders.weights import StateDict, renamed
from mammography.errors import WeightsUnavailableError

#: Name to (attribute of the classifier, published weights).
_NETS = {
    "resnet50": ("fc", models.ResNet50_Weights.IMAGENET1K_V2),
    "densenet121": ("classifier", models.DenseNet121_Weights.IMAGENET1K_V1),
    "efficientnet_b0": ("classifier", models.EfficientNet_B0_Weights.IMAGENET1K_V1),
}
_TIMEOUT = 20.0


class TorchvisionNets(Family):
    """ResNet-50, DenseNet-121 and EfficientNet-B0: pooled features before the classifier."""

    names = tuple(_NETS)

    def architecture(self, name: str) -> Architecture | None:
        """See `Family.architecture`."""
        if name not in _NETS:
            return None
        head, weights = _NETS[name]
        return Architecture(
            name=name,
            build=partial(models.get_model, name, weights=None),
            head=f"{head}.",
            headless=partial(_without, head),
            fetch=partial(_fetch, weights),
            adapt=_undotted if name.startswith("densenet") else lambda state: state,
        )


def _without(head: str, network: nn.Module) -> nn.Module:
    setattr(network, head, nn.Identity())
    return network


def _undotted(state: StateDict) -> StateDict:
    """The DenseNet files of torchvision still carry names of 2017: ``norm.1`` for ``norm1``."""
    return renamed(state, r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.")


def _fetch(weights: models.WeightsEnum) -> tuple[Path, WeightsRecord]:
    """The published file, from torch's cache folder or the network."""
    name = Path(urlparse(weights.url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        hash_prefix = path.stem.rpartition("-")[2]
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_TIMEOUT)
        try:
            torch.hub.download_url_to_file(weights.url, str(path), hash_prefix, progress=False)
        except (urllib.error.URLError, OSError, RuntimeError) as error:
            raise WeightsUnavailableError(
                f"The ImageNet weights {name} could not be downloaded ({error}). Put the file from "
                f"{weights.url} into {path.parent}, or give a file of your own with "
                "--weights PATH, or run untrained with --weights random."
            ) from error
        finally:
            socket.setdefaulttimeout(before)
    record = WeightsRecord(
        name=weights.name,
        source=weights.url,
        sha256="",
        licence="BSD-3-Clause (torchvision); ImageNet images: non-commercial research",
        trained_on="ImageNet-1k",
    )
    return path, record


PLUGIN = TorchvisionNets()
