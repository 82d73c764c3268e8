"""The torchvision networks that the field's documents name, with their ImageNet-1k weights."""

from __future__ import annotations

import socket
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import nn
from torchvision import models

from mammography.encoders.encoder import Architecture, Family
from mammography.encoders.records import WeightsRecord
from mammography.encoders.weights import StateDict, renamed
from mammography.errors import WeightsError, WeightsUnavailableError
from mammography.runs import sha256_of_file

#: Name to (attribute of the classifier, published weights, last block and what follows it).
_NETS = {
    "resnet50": ("fc", models.ResNet50_Weights.IMAGENET1K_V2, ("layer4",)),
    "densenet121": (
        "classifier",
        models.DenseNet121_Weights.IMAGENET1K_V1,
        ("features.denseblock4", "features.norm5"),
    ),
    "efficientnet_b0": (
        "classifier",
        models.EfficientNet_B0_Weights.IMAGENET1K_V1,
        ("features.7", "features.8"),
    ),
}

#: The same networks as other programs of the field write them.
_ALSO_CALLED = {"efficientnetb0": "efficientnet_b0"}

#: Seconds that the server may stay silent.
_TIMEOUT = 20.0


class TorchvisionNets(Family):
    """ResNet-50, DenseNet-121 and EfficientNet-B0: pooled features before the classifier."""

    names = tuple(_NETS)

    def architecture(self, name: str) -> Architecture | None:
        """See `Family.architecture`."""
        name = _ALSO_CALLED.get(name, name)
        if name not in _NETS:
            return None
        classifier, weights, last_block = _NETS[name]
        return Architecture(
            name=name,
            build=partial(models.get_model, name, weights=None),
            headless=partial(_without, classifier),
            fetch=partial(fetch, weights.url, weights.name),
            adapt=_undotted if name.startswith("densenet") else lambda state: state,
            last_block=lambda network: last_block,
        )


def _without(classifier: str, network: nn.Module) -> nn.Module:
    setattr(network, classifier, nn.Identity())
    return network


def _undotted(state: StateDict) -> StateDict:
    """The DenseNet files of torchvision still carry names of 2017: ``norm.1`` for ``norm1``."""
    return renamed(state, r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.")


def fetch(url: str, weights_name: str) -> tuple[Path, WeightsRecord]:
    """The published file, from torch's cache folder or the network.

    Args:
        url: Of the file, whose name ends in the beginning of its SHA-256.
        weights_name: For people.

    Raises:
        WeightsUnavailableError: It is not in the folder and cannot be downloaded.
        WeightsError: What lies in the folder is not the published file.
    """
    name = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    hash_prefix = path.stem.rpartition("-")[2]
    if not path.exists():
        _download(url, path, hash_prefix)
    elif not sha256_of_file(path).startswith(hash_prefix):
        raise WeightsError(
            f"{path} is not the published file, perhaps only half of it: its SHA-256 does not "
            f"begin with {hash_prefix}. Remove it, and it will be downloaded; or put the file from "
            f"{url} in its place."
        )
    record = WeightsRecord(
        name=weights_name,
        source=url,
        sha256="",
        licence="BSD-3-Clause (torchvision); ImageNet images: non-commercial research",
        trained_on="ImageNet-1k",
    )
    return path, record


def _download(url: str, path: Path, hash_prefix: str) -> None:
    """Download a file under another name, check its hash, and put it in its place."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix, progress=False)
    except (OSError, HTTPException, RuntimeError) as error:
        raise WeightsUnavailableError(
            f"The ImageNet weights {path.name} could not be downloaded ({error}). Put the file "
            f"from {url} into {path.parent}, or give a file of your own with --weights PATH, or "
            "run untrained with --weights random."
        ) from error
    finally:
        socket.setdefaulttimeout(before)


PLUGIN = TorchvisionNets()
