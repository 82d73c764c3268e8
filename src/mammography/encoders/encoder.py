"""What an encoder is: a network by name, its weights by record, a feature vector per image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mammography.encoders.records import EncoderInfo, WeightsRecord
from mammography.encoders.weights import StateDict


@dataclass(frozen=True)
class Architecture:
    """A network that can be built and given weights.

    Attributes:
        name: The encoder's name.
        build: Makes the whole network with random weights, classifier included.
        headless: Takes the classifier off: the network then returns pooled features (batch, width).
        fetch: Downloads the published ImageNet weights, or finds them in the local cache; returns
            the file and its record without hash. Raises `WeightsUnavailableError`.
        adapt: Rewrites the keys of a file in an older layout of the same network.
        mean: What the published weights expect to be subtracted.
        std: What they expect to be divided by.
        last_block: Names of the modules, in the network without its classifier, that are trained
            when only the last block is: that block and what follows it. None where the network has
            no such thing.
    """

    name: str
    build: Callable[[], nn.Module]
    headless: Callable[[nn.Module], nn.Module]
    fetch: Callable[[], tuple[Path, WeightsRecord]]
    adapt: Callable[[StateDict], StateDict] = lambda state: state
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    last_block: Callable[[nn.Module], tuple[str, ...]] | None = None


class Family(ABC):
    """Answers for a set of encoder names; a plugin of the kind "encoders" is an instance."""

    #: Names, or a pattern of names, for people.
    names: tuple[str, ...]

    @abstractmethod
    def architecture(self, name: str) -> Architecture | None:
        """The architecture of that name, or None where the family has none."""


@dataclass(frozen=True)
class Encoder:
    """A network in evaluation mode that turns (batch, 3, rows, columns) into (batch, width).

    Attributes:
        info: What it is.
        network: In evaluation mode, without gradients, on the CPU.
    """

    info: EncoderInfo
    network: nn.Module
