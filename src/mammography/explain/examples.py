"""An image with the attribution map of one prediction: what the figures of explanations show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class CamExample:
    """One image, what the model said of it, and where it looked.

    Attributes:
        image: (rows, columns) float, 0-1, in the image's original aspect.
        heat: (rows, columns) float, 0-1: the map over the same pixels.
        true: Name of the class that the label table gives; None where the image has no label.
        predicted: Name of the class that the model gives.
        probability: The model's probability of the predicted class, 0-1.
        caption: Which image it is, in a few words.
    """

    image: npt.NDArray[np.floating]
    heat: npt.NDArray[np.floating]
    true: str | None
    predicted: str
    probability: float
    caption: str

    @property
    def correct(self) -> bool:
        """Whether the model gives the class of the label table."""
        return self.predicted == self.true
