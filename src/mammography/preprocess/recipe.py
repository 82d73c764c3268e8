"""What a recipe is: everything between a file and the tensor a network sees, named and hashable."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mammography.archive.images import read_image
from mammography.dicom.pixels import DEFAULT_MAX_PIXELS, Frame, StoredImage
from mammography.errors import UsageError
from mammography.runs import canonical_json, sha256_of_text

if TYPE_CHECKING:
    from mammography.preprocess.geometry import Placement

ReducedDecode = Literal["full", "half", "quarter", "eighth"]

_HALVINGS = {"full": 0, "half": 1, "quarter": 2, "eighth": 3}


@dataclass(frozen=True)
class Step:
    """One step of a recipe, to be looked at.

    Attributes:
        pixels: (rows, columns) of any real type.
        caption: What was done.
        value_range: Values to show black and white.
    """

    pixels: NDArray[Any]
    caption: str
    value_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Recipe(ABC):
    """The base of all recipes; a subclass adds its own settings and `gray`.

    Attributes:
        size: (rows, columns) of the tensor.
        frame: Which frame of a multi-frame image.
        reduced_decode: Resolution at which JPEG 2000 and HTJ2K are decoded; not the same picture
            as a full decode, hence part of the hash.
        mean: Subtracted from each of the three channels.
        std: Each channel is divided by it afterwards.

    Raises:
        UsageError: A setting that makes no sense.
    """

    NAME: ClassVar[str]
    #: Raised whenever the same settings would give another array.
    VERSION: ClassVar[int]

    size: tuple[int, int] = (224, 224)
    frame: Frame = "middle"
    reduced_decode: ReducedDecode = "full"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        sound = {
            "size": len(self.size) == 2 and min(self.size) >= 1,
            "frame": self.frame in ("middle", "max")
            or (isinstance(self.frame, int) and self.frame >= 1),
            "reduced_decode": self.reduced_decode in _HALVINGS,
            "mean": len(self.mean) == 3 and all(map(isfinite, self.mean)),
            "std": len(self.std) == 3 and all(isfinite(std) and std > 0 for std in self.std),
        }
        self.check(sound)

    def check(self, sound: dict[str, bool]) -> None:
        """Refuse settings that are not sound, by name; for `__post_init__`."""
        for name in [name for name, fine in sound.items() if not fine]:
            raise UsageError(f"The recipe {self.NAME} takes no {name} {getattr(self, name)!r}.")

    @abstractmethod
    def gray(self, image: StoredImage) -> NDArray[np.float32]:
        """Stored pixels to brightness.

        Returns:
            `size` values of float32 in [0, 1].

        Raises:
            ImageRejected: The recipe cannot take this image.
        """

    @abstractmethod
    def steps(self, image: StoredImage) -> list[Step]:
        """The pictures between stored pixels and tensor, ending with the tensor's first channel.

        Raises:
            ImageRejected: The recipe cannot take this image.
        """

    def placement(self, shape: tuple[int, int]) -> Placement:
        """Where an image of `shape` (rows, columns) lands on the tensor.

        A recipe need not know; maps of where a network looks can then not be carried back.

        Raises:
            UsageError: The recipe does not know.
        """
        raise UsageError(
            f"The recipe {self.NAME} does not say where an image lands on the tensor: what the "
            "network saw cannot be shown on the image."
        )

    def read(self, path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> StoredImage:
        """Read a file as this recipe needs it.

        Raises:
            ImageRejected: The file cannot be used.
        """
        return read_image(
            path, frame=self.frame, reduce=_HALVINGS[self.reduced_decode], max_pixels=max_pixels
        )

    def normalise(self, gray: NDArray[np.float32]) -> NDArray[np.float32]:
        """Replicate gray (…, rows, columns) to three channels and standardise each.

        Returns:
            (…, 3, rows, columns) of float32.
        """
        tensor = np.empty((*gray.shape[:-2], 3, *gray.shape[-2:]), np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            plane = tensor[..., channel, :, :]
            np.subtract(gray, np.float32(mean), out=plane)
            np.divide(plane, np.float32(std), out=plane)
        return tensor

    def __call__(self, path: Path) -> NDArray[np.float32]:
        """A file as the tensor (3, rows, columns) of float32."""
        return self.normalise(self.gray(self.read(path)))

    def record(self) -> dict[str, Any]:
        """Name, version and every setting, as JSON values."""
        settings = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }
        return {"name": self.NAME, "version": self.VERSION, **settings}

    @property
    def hash(self) -> str:
        """SHA-256 of the record's canonical JSON."""
        return sha256_of_text(canonical_json(self.record()))

    def with_options(self, **options: Any) -> Recipe:
        """The recipe with some settings replaced; None leaves a setting as it is.

        Raises:
            UsageError: The recipe has no such setting.
        """
        chosen = {name: value for name, value in options.items() if value is not None}
        known = {field.name for field in dataclasses.fields(self)}
        if unknown := chosen.keys() - known:
            raise UsageError(
                f"The recipe {self.NAME} has no {', '.join(sorted(unknown))}; "
                f"it has {', '.join(sorted(known))}."
            )
        return dataclasses.replace(self, **chosen)


def prepare(recipe: Recipe, max_pixels: int, path: Path) -> NDArray[np.float32]:
    """Read a file and apply a recipe up to gray: what a worker does.

    Raises:
        ImageRejected: The file cannot be used.
    """
    return recipe.gray(recipe.read(path, max_pixels))


def preparer(recipe: Recipe, max_pixels: int) -> partial[NDArray[np.float32]]:
    """`prepare` for `mammography.archive.workers.over_items`."""
    return partial(prepare, recipe, max_pixels)
