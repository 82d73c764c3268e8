"""The recipe `imagenet`: a mammogram as networks trained on ImageNet expect an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from mammography.dicom.pixels import StoredImage
from mammography.preprocess.geometry import Placement, Resize, place, resample
from mammography.preprocess.intensity import Voi, brightness
from mammography.preprocess.recipe import Recipe, Step


@dataclass(frozen=True)
class Imagenet(Recipe):
    """Own percentiles to [0, 1], exact area resize, black bars, ImageNet mean and std.

    Attributes:
        resize: How the image fills the square.
        tail: Fraction of the pixels clipped to black, and to white; in [0, 0.5).
        voi: VOI transformation that comes first; "none" takes the stored values.
        voi_index: Which of the header's windows or LUTs, from 0.
    """

    NAME: ClassVar[str] = "imagenet"
    VERSION: ClassVar[int] = 1

    resize: Resize = "letterbox"
    tail: float = 0.005
    voi: Voi = "none"
    voi_index: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(
            {
                "resize": self.resize in get_args(Resize),
                "tail": 0 <= self.tail < 0.5,
                "voi": self.voi in get_args(Voi),
                "voi_index": self.voi_index >= 0,
            }
        )

    def placement(self, shape: tuple[int, int]) -> Placement:
        """See `Recipe.placement`."""
        return place(shape, self.size, self.resize)

    def gray(self, image: StoredImage) -> NDArray[np.float32]:
        """Brightness at full bit depth, resized on the canvas; see `Recipe.gray`."""
        scale = brightness(image, self.tail, self.voi, self.voi_index)
        shape = (scale.pixels.shape[0], scale.pixels.shape[1])
        placement = self.placement(shape)
        top, left = placement.origin
        part = scale.pixels[top : top + placement.source[0], left : left + placement.source[1]]
        sums, denominator = resample(part, scale.table, placement.content)
        canvas = np.zeros(self.size, np.float32)
        top, left = placement.offset
        rows, columns = placement.content
        canvas[top : top + rows, left : left + columns] = sums / (denominator * scale.white)
        return canvas

    def steps(self, image: StoredImage) -> list[Step]:
        """Stored values, brightness, canvas, first channel; see `Recipe.steps`."""
        scale = brightness(image, self.tail, self.voi, self.voi_index)
        gray = self.gray(image)
        mean, std = self.mean[0], self.std[0]
        voi = "" if self.voi == "none" else f"VOI {self.voi} {self.voi_index}, "
        ends = (scale.high, scale.low) if scale.inverted else (scale.low, scale.high)
        return [
            Step(image.pixels, f"stored values, {image.pixels.dtype}"),
            Step(
                scale.table[scale.pixels] / scale.white,
                f"{voi}{ends[0]:g}–{ends[1]:g} → 0–1",
                (0.0, 1.0),
            ),
            Step(gray, f"{self.resize} to {self.size[0]} × {self.size[1]}", (0.0, 1.0)),
            Step(
                self.normalise(gray)[0],
                "mean and std, first channel",
                (-mean / std, (1 - mean) / std),
            ),
        ]


PLUGIN = Imagenet()
