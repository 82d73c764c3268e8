"""``mammography preview``: what a recipe makes of one file, step by step."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tyro.conf import Positional

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreviewResult:
    """The picture that was written."""

    picture: Path


@dataclass(frozen=True)
class Preview:
    """Draw each step from one file's stored pixels to what the encoder sees."""

    NAME: ClassVar[str] = "preview"

    file: Positional[Path]
    """A DICOM, PNG, PGM, TIFF or JPEG file."""

    out: Path = Path("preview.png")
    """The picture to write."""

    recipe: str = "imagenet"
    """How pixels become a tensor."""

    img_size: int | None = None
    """Side of the square that the encoder sees, in pixels."""

    resize: Literal["letterbox", "stretch", "crop"] | None = None
    """Keep the aspect ratio with black bars, give it up, or keep it and lose the edges."""

    voi: Literal["none", "window", "lut", "sigmoid"] | None = None
    """VOI transformation of the header that comes before the percentiles."""

    voi_index: int | None = None
    """Which of several windows or VOI LUTs, from 0."""

    frame: Literal["middle", "max"] | int | None = None
    """Frame of a multi-frame image: middle, maximum projection, or a number from 1."""

    reduced_decode: Literal["full", "half", "quarter", "eighth"] | None = None
    """Decode JPEG 2000 and HTJ2K at lower resolution."""

    def run(self) -> PreviewResult:
        """Draw.

        Raises:
            ImageRejected: The file cannot be used.
        """
        from mammography import plugins
        from mammography.report.figures import Panel, steps_figure

        recipe = plugins.get("recipes", self.recipe).with_options(
            size=(self.img_size, self.img_size) if self.img_size else None,
            resize=self.resize,
            voi=self.voi,
            voi_index=self.voi_index,
            frame=self.frame,
            reduced_decode=self.reduced_decode,
        )
        image = recipe.read(self.file)
        panels = [
            Panel(step.pixels, step.caption, step.value_range) for step in recipe.steps(image)
        ]
        steps_figure(self.out, panels, f"{self.file.name}: recipe {recipe.NAME}")
        log.info("recipe %s (%s…): %s", recipe.NAME, recipe.hash[:12], self.out)
        return PreviewResult(self.out)
