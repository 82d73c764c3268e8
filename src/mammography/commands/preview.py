"""``mammography preview``: what a recipe makes of one file, step by step."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from mammography.commands import options
from mammography.errors import ImageRejected, UsageError

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

    img_size: options.ImgSize = None
    resize: options.Resize = None
    voi: options.Voi = None
    voi_index: options.VoiIndex = None
    frame: options.Frame = None
    reduced_decode: options.ReducedDecode = None

    def run(self) -> PreviewResult:
        """Draw.

        Raises:
            UsageError: Options that make no sense, or a picture in the place of another file.
            ImageRejected: The file cannot be used.
            StoreError: The picture cannot be written.
        """
        from mammography.report.figures import Panel, steps_figure

        recipe = options.recipe_of(self)
        if self.out.suffix.lower() != ".png" or _is_other_content(self.out):
            raise UsageError(
                f"--out {self.out} must end in .png, and never replaces what is no PNG picture."
            )
        if self.file.is_dir():
            raise UsageError(f"{self.file} is a folder; preview takes one file of it.")
        try:
            steps = recipe.steps(recipe.read(self.file))
        except ImageRejected as verdict:
            raise ImageRejected(verdict.code, f"{self.file}: {verdict.reason}.") from verdict
        panels = [Panel(step.pixels, step.caption, step.value_range) for step in steps]
        steps_figure(self.out, panels, f"{self.file.name}: recipe {recipe.NAME}")
        log.info("recipe %s (%s…): %s", recipe.NAME, recipe.hash[:12], self.out)
        return PreviewResult(self.out)


def _is_other_content(path: Path) -> bool:
    """Whether there is a file that is no PNG."""
    try:
        with path.open("rb") as stream:
            return stream.read(8) != b"\x89PNG\r\n\x1a\n"
    except (FileNotFoundError, NotADirectoryError):
        return False
