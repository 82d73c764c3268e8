"""``mammography explain``: where in an image a trained classifier finds evidence for a class."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from mammography.errors import ImageRejected, UsageError

if TYPE_CHECKING:
    from mammography.archive.dialects import Label
    from mammography.explain.examples import CamExample
    from mammography.training.prediction import Answer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExplainResult:
    """What was explained.

    Attributes:
        picture: The PNG.
        record: The JSON beside it.
        example: Image and map.
        answer: What the model says of the image.
    """

    picture: Path
    record: Path
    example: CamExample
    answer: Answer


@dataclass(frozen=True)
class Explain:
    """Show where in one image a trained classifier finds evidence for a class (Grad-CAM)."""

    NAME: ClassVar[str] = "explain"

    run_dir: Annotated[Path, tyro.conf.arg(name="run")]
    """Results folder of a finished train-density run."""

    image: Path
    """A DICOM, PNG, PGM, TIFF or JPEG file."""

    target: Annotated[
        str | None,
        tyro.conf.arg(
            name="class",
            help="Class to look for evidence of, by value or name.",
            help_behavior_hint="(default: the predicted one)",
        ),
    ] = None

    outdir: Path = Path("outputs/explain")
    """Folder for the picture and its record; those of the same image and class are replaced."""

    embeddings_dir: Path | None = None
    """Embedding set that holds the image, for a model that was trained with embeddings."""

    dicom_root: Path | None = None
    """The archive that the image lies in, for a model that was trained with embeddings."""

    # mammography.dicom.pixels.DEFAULT_MAX_PIXELS, which is too slow to import for --help
    max_pixels: int = 100_000_000
    """Images that claim more pixels are refused before memory is taken."""

    def run(self) -> ExplainResult:
        """Explain.

        Raises:
            UsageError: There is no such class; embeddings are missing or not needed; or recipe or
                encoder cannot be explained.
            ImageRejected: The image cannot be used.
            StoreError: There is no finished run, embeddings do not fit, or `outdir` cannot be
                written to.
            WeightsError: The run's model is damaged.
        """
        from mammography.explain.gradcam import explain_image
        from mammography.report.explanation_figures import gradcam_figure
        from mammography.runs import RESEARCH_ONLY, write_json
        from mammography.training.fused import embedding_of_file
        from mammography.training.model_files import load_model
        from mammography.training.prediction import about, caution

        model = load_model(self.run_dir)
        target = None if self.target is None else _code(self.target, model.label)
        embedding = embedding_of_file(model, self.embeddings_dir, self.dicom_root, self.image)
        try:
            example, answer = explain_image(model, self.image, target, embedding, self.max_pixels)
        except ImageRejected as verdict:
            raise ImageRejected(verdict.code, f"{self.image}: {verdict.reason}.") from verdict
        code = answer.code if target is None else target
        explained, name = str(model.label.classes[code]), model.label.names[code]
        if not example.heat.any():
            log.warning("Nothing in the image speaks for %s: the map is empty.", name)
        picture = self.outdir / f"{_stem(self.image)}_gradcam_{explained}.png"
        title = f"{self.image.name}: evidence for {model.label.name} {name}"
        gradcam_figure(picture, [example], title, warning=caution(model))
        record = picture.with_suffix(".json")
        said = {"image": self.image.as_posix(), "explained": explained, **answer.record()}
        write_json(record, said | about(model) | {"notice": RESEARCH_ONLY})
        log.info(
            "predicted %s (%.3f); evidence for %s: %s and %s",
            answer.name, example.probability, name, picture, record.name,
        )  # fmt: skip
        log.info("%s", RESEARCH_ONLY)
        return ExplainResult(picture, record, example, answer)


def _code(word: str, label: Label) -> int:
    """The position of a class that is given by value or name."""
    for code, known in enumerate(zip(label.classes, label.names, strict=True)):
        if word.casefold() in (str(known[0]).casefold(), known[1].casefold()):
            return code
    classes = ", ".join(
        f"{value} ({name})" for value, name in zip(label.classes, label.names, strict=True)
    )
    raise UsageError(f"The run knows no class {word!r}; it tells apart {classes} (--class).")


def _stem(image: Path) -> str:
    """A name for an image's files: exams have files of the same name, so the folder is in it."""
    from mammography.archive.files import IMAGE_ENDINGS

    name = image.stem if image.suffix.lower() in IMAGE_ENDINGS else image.name
    return "_".join(filter(None, (image.resolve().parent.name, name)))
