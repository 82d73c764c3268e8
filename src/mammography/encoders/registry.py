"""Encoders by name, with the weights that the user asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from mammography import plugins
from mammography.encoders.encoder import Architecture, Encoder, Family
from mammography.encoders.records import EncoderInfo, WeightsRecord
from mammography.encoders.weights import hash_of_tensors, place, read_state_dict
from mammography.errors import PluginError, UsageError
from mammography.runs import sha256_of_file


def find_architecture(name: str) -> Architecture:
    """The architecture of an encoder name.

    Raises:
        UsageError: No family knows the name.
        PluginError: A plugin is not a family.
    """
    families = plugins.load("encoders")
    for plugin, family in families.items():
        if not isinstance(family, Family):
            raise PluginError(f"The plugin {plugin!r} is no Family of encoders: {family!r}.")
        if (found := family.architecture(name)) is not None:
            return found
    known = ", ".join(known for family in families.values() for known in family.names)
    raise UsageError(f"There is no encoder {name!r}; known are {known}.")


def load_encoder(name: str, weights: str, *, seed: int, size: tuple[int, int]) -> Encoder:
    """Build an encoder and give it weights.

    Args:
        name: See `find_architecture`.
        weights: "imagenet" for the published weights, "random" for none, or a file's path.
        seed: Of the random initialisation.
        size: (rows, columns) of the images it will see.

    Returns:
        The encoder in evaluation mode, without gradients.

    Raises:
        WeightsUnavailableError: The published weights can neither be found nor downloaded.
        WeightsError: A file does not fit the network.
        UsageError: No such encoder, or it cannot take images of this size.
    """
    architecture = find_architecture(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = architecture.build()
    whole = network.state_dict()
    network = architecture.headless(network).eval().requires_grad_(False)
    if weights == "random":
        record = WeightsRecord(
            name=f"random (seed {seed})",
            source="random",
            sha256=hash_of_tensors(whole),
            licence="none needed",
            trained_on="nothing",
            trained=False,
        )
    else:
        if weights == "imagenet":
            path, record = architecture.fetch()
        else:
            path = Path(weights)
            record = WeightsRecord(path.name, path.name, "", "as its owner says", "unknown")
        state = architecture.adapt(read_state_dict(path))
        place(state, network, whole.keys() - network.state_dict().keys(), str(path))
        record = replace(record, sha256=sha256_of_file(path))
    width = _width(name, network, size)
    return Encoder(EncoderInfo(name, width, record, architecture.mean, architecture.std), network)


def _width(name: str, network: torch.nn.Module, size: tuple[int, int]) -> int:
    """The length of the network's feature vector, found by asking it."""
    try:
        with torch.inference_mode():
            features = network(torch.zeros(1, 3, *size))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"The encoder {name} cannot take images of {size[0]} × {size[1]}: {reason} "
            "(--img-size)."
        ) from error
    if features.ndim != 2:
        raise UsageError(
            f"The encoder {name} returns {tuple(features.shape)} for one image, not a vector."
        )
    return int(features.shape[1])
