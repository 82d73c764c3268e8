"""Options that several commands have, with the words that --help shows for them.

Unset options are None: what then holds is not the command's to say, and the help says whose it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from mammography.errors import PluginError

if TYPE_CHECKING:
    from mammography.archive.manifest import Manifest
    from mammography.preprocess.recipe import Recipe


def _help(words: str, unset: str) -> Any:
    return tyro.conf.arg(help=words, help_behavior_hint=f"(default: {unset})")


ImgSize = Annotated[
    int | None, _help("Side of the square that the encoder sees, in pixels.", "the recipe's: 224")
]
Resize = Annotated[
    Literal["letterbox", "stretch", "crop"] | None,
    _help(
        "Keep the aspect ratio with black bars, give it up, or keep it and lose the edges.",
        "the recipe's: letterbox",
    ),
]
Voi = Annotated[
    Literal["none", "window", "lut", "sigmoid"] | None,
    _help(
        "VOI transformation of the header that comes before the percentiles.", "the recipe's: none"
    ),
]
VoiIndex = Annotated[
    int | None, _help("Which of several windows or VOI LUTs, from 0.", "the recipe's: 0")
]
Frame = Annotated[
    Literal["middle", "max"] | int | None,
    _help(
        "Frame of a multi-frame image (tomosynthesis): middle, maximum projection, or a number "
        "from 1.",
        "the recipe's: middle",
    ),
]
ReducedDecode = Annotated[
    Literal["full", "half", "quarter", "eighth"] | None,
    _help(
        "Decode JPEG 2000 and HTJ2K at lower resolution: faster, not the same picture.",
        "the recipe's: full",
    ),
]
Mean = Annotated[
    tuple[float, float, float] | None, _help("Channel means to subtract.", "those of the weights")
]
Std = Annotated[
    tuple[float, float, float] | None,
    _help("Channel standard deviations to divide by.", "those of the weights"),
]
LabelColumn = Annotated[str | None, _help("Column of the labels.", "recognised by its name")]
IdColumn = Annotated[
    str | None, _help("Column that names exams or images.", "recognised by its name")
]
Dialect = Annotated[
    str | None,
    _help(
        "How the table is written: classificacao, per-image, mini-mias or a plugin's.",
        "recognised by its columns",
    ),
]
Limit = Annotated[int | None, _help("Take only this many images, the first by path.", "all")]


def workers_of(command: Any) -> int:
    """How many processes a command's --num-workers asks for."""
    from mammography.archive.workers import cores

    return cores() if command.num_workers == "auto" else int(command.num_workers)


def manifest_of(command: Any, exclude: Sequence[Path]) -> Manifest:
    """The archive joined with its label table, as a command's options ask for.

    Args:
        command: Has the options of an archive and its table.
        exclude: Folders below the archive to pass over: the command's own.

    Raises:
        UsageError: There is no such archive, or class-5 rows are not provided for.
        LabelTableError: The table cannot be read.
        EmptyManifestError: No image is left.
    """
    from mammography.archive.manifest import build_manifest

    return build_manifest(
        command.dicom_root,
        command.csv,
        label_column=command.label_column,
        id_column=command.id_column,
        dialect=command.dialect,
        class5=getattr(command, "class5", "drop"),
        workers=workers_of(command),
        exclude=exclude,
    )


def recipe_of(command: Any) -> Recipe:
    """The recipe that a command's options ask for.

    Raises:
        PluginError: There is no such recipe.
        UsageError: The recipe has no such setting, or not with this value.
    """
    from mammography import plugins
    from mammography.preprocess.recipe import Recipe

    recipe = plugins.get("recipes", command.recipe)
    if not isinstance(recipe, Recipe):
        raise PluginError(f"The plugin {command.recipe!r} is no Recipe: {recipe!r}.")
    return recipe.with_options(
        size=None if command.img_size is None else (command.img_size, command.img_size),
        resize=command.resize,
        voi=command.voi,
        voi_index=command.voi_index,
        frame=command.frame,
        reduced_decode=command.reduced_decode,
    )
