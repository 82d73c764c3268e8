"""What is known of an encoder and its weights, without the network and without PyTorch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class WeightsRecord:
    """Where a network's weights come from and what may be done with them.

    Attributes:
        name: For people: "IMAGENET1K_V2", "random (seed 42)", a file's name.
        source: URL, file name, or "random".
        sha256: Of the file; of the tensors' bytes for random weights.
        licence: Of the weights, as far as known.
        trained_on: Data behind the weights.
        trained: False for random weights.
    """

    name: str
    source: str
    sha256: str
    licence: str
    trained_on: str
    trained: bool = True


@dataclass(frozen=True)
class EncoderInfo:
    """What is known of an encoder without its network.

    Attributes:
        name: As the user wrote it.
        width: Length of a feature vector, measured on the network.
        weights: Where its weights come from.
        mean: Channel means that its published weights expect.
        std: Channel standard deviations that they expect.
    """

    name: str
    width: int
    weights: WeightsRecord
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def record(self) -> dict[str, Any]:
        """Name, width and weights as JSON values."""
        return {"name": self.name, "width": self.width, "weights": asdict(self.weights)}
