"""The recipe `density`: the recipe `imagenet` at the size that density classifiers train on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mammography.preprocess.recipes.imagenet import Imagenet


@dataclass(frozen=True)
class Density(Imagenet):
    """`Imagenet` on 512 × 512 pixels; a change of its version is a change of this one's."""

    NAME: ClassVar[str] = "density"

    size: tuple[int, int] = (512, 512)


PLUGIN = Density()
