"""Classical descriptors: a gray mammogram as a few named numbers, without any network.

`basic` are those of the whole picture's brightness; `texture` looks at the breast only, at five
resolutions. Neither learns anything from other images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mammography.analysis.breast_mask import Breast, find_breast, otsu
from mammography.analysis.texture import (
    CO_OCCURRENCE,
    POINTS,
    binary_patterns,
    co_occurrence,
    quantised,
)
from mammography.preprocess.recipe import Recipe, prepare

Gray = NDArray[np.float32]
Floats = NDArray[np.float64]

_PERCENTILES = (10, 25, 50, 75, 90)
_BINS = 16

#: Rows and columns that texture is measured at: 0.2 to 0.3 mm a pixel for most mammograms.
_SIDE = 1024

#: How often that picture is halved for the binary patterns, and for everything else.
_HALVINGS, _COARSE = (0, 1, 2, 3, 4), 1

#: Distances in pixels of the picture halved once, for co-occurrence.
_DISTANCES = (1, 4, 16)

#: Pixels from the skin inwards, about 5 mm, in which the breast is thin.
_THIN = 24

#: Shares of the tissue's own range above which it counts as dense, beside Otsu's.
_DENSE = (0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Descriptors:
    """A set of descriptors.

    Attributes:
        name: What --descriptors calls it.
        version: Raised whenever the same picture would give other numbers.
        names: What the numbers are called, D of them.
        side: Rows and columns of the gray picture; None for those of the embeddings' recipe.
        describe: From gray (rows, columns) in [0, 1] and the view (None where unknown) to (D,)
            finite numbers.
    """

    name: str
    version: int
    names: tuple[str, ...]
    side: int | None
    describe: Callable[[Gray, str | None], Floats]

    def recipe(self, recipe: Recipe) -> Recipe:
        """The embeddings' recipe at the size that is described."""
        return recipe if self.side is None else recipe.with_options(size=(self.side, self.side))


def describe_file(
    name: str, recipe: Recipe, max_pixels: int, root: Path, image: tuple[str, str | None]
) -> NDArray[np.float32]:
    """Read and describe one image: what a worker does.

    Args:
        name: A key of `DESCRIPTORS`.
        recipe: What `Descriptors.recipe` gave.
        max_pixels: Larger images are refused.
        root: The archive's folder.
        image: Path relative to it, and view.

    Raises:
        ImageRejected: The file cannot be used.
    """
    path, view = image
    cv2.setNumThreads(1)  # the workers themselves are the parallelism
    gray = prepare(recipe, max_pixels, root / path)
    return DESCRIPTORS[name].describe(gray, view).astype(np.float32)


def _brightness(values: Floats) -> Floats:
    """Mean, standard deviation, skewness and excess kurtosis (0 where all are equal), percentiles.

    Skewness and kurtosis are the plain moments' (Joanes & Gill 1998, g1 and g2).
    """
    mean, deviation = values.mean(), values.std()
    standard = (values - mean) / deviation if deviation > 1e-6 else np.zeros_like(values)
    skewness, kurtosis = (standard**3).mean(), (standard**4).mean() - 3 if standard.any() else 0.0
    return np.array([mean, deviation, skewness, kurtosis, *np.percentile(values, _PERCENTILES)])


_BRIGHTNESS = ("mean", "std", "skewness", "kurtosis", *(f"p{share}" for share in _PERCENTILES))


def _histogram(values: Floats) -> Floats:
    """Shares of `_BINS` bins of equal width from 0 to 1."""
    return np.histogram(values, bins=_BINS, range=(0, 1))[0] / values.size


_HISTOGRAM = tuple(f"histogram_{number:02d}" for number in range(_BINS))


def _basic(gray: Gray, view: str | None) -> Floats:
    """The whole picture, background and all, as pipelines of the field do; the view is ignored."""
    values = gray.astype(np.float64).ravel()
    ends = (values.min(), values.max())
    return np.concatenate([_brightness(values), ends, _histogram(values)])


def _texture(gray: Gray, view: str | None) -> Floats:
    """The breast without the pectoral muscle; texture and dense area without its thin margin."""
    breast = _cropped(find_breast(gray, view))
    tissue, deep = breast.tissue, _deep(breast)
    patterns = [binary_patterns(*_halved(breast.gray, deep, times)) for times in _HALVINGS]
    coarse = _halved(breast.gray, deep, _COARSE)
    values = breast.gray[tissue].astype(np.float64)
    return np.concatenate(
        [
            _brightness(values),
            _histogram(values),
            _dense_area(coarse[0][coarse[1]].astype(np.float64)),
            [breast.muscle.sum() / breast.breast.sum()],
            co_occurrence(quantised(*coarse), _DISTANCES).ravel(),
            *patterns,
        ]
    )


def _cropped(breast: Breast) -> Breast:
    """The breast's box, its sides multiples of what halving needs."""
    unit = 2 ** max(_HALVINGS)
    box = []
    for axis in (1, 0):
        inside = np.flatnonzero(breast.breast.any(axis=axis))
        box.append(slice(inside[0] // unit * unit, -(-(inside[-1] + 1) // unit) * unit))
    rows, columns = box
    return Breast(
        np.ascontiguousarray(breast.gray[rows, columns]),
        breast.breast[rows, columns],
        breast.muscle[rows, columns],
    )


def _halved(gray: Gray, mask: NDArray[np.bool_], times: int) -> tuple[Gray, NDArray[np.bool_]]:
    """Picture and mask at lower resolution, by averaging.

    The mask has the pixels that are mostly in it, or, where there is none, those that are most.
    """
    if not times:
        return gray, mask
    size = (gray.shape[1] >> times, gray.shape[0] >> times)
    share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32), np.asarray(share >= min(0.5, share.max()))


def _deep(breast: Breast) -> NDArray[np.bool_]:
    """The tissue without the breast's thin margin, where every picture is dark and smooth.

    All tissue where nothing else is.
    """
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _THIN + 1, 2 * _THIN + 1))
    inner = cv2.erode(breast.breast.astype(np.uint8), disk) > 0
    deep = breast.tissue & inner
    return deep if deep.any() else breast.tissue


def _dense_area(values: Floats) -> Floats:
    """Percent dense area: shares of deep tissue above thresholds within its brightness range.

    The range runs from the 1st to the 99th percentile. The first threshold is Otsu's (an automatic
    stand-in for a reader's in the manner of Byng et al. 1994), which is given too.
    """
    low, high = np.percentile(values, [1, 99])
    share = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    threshold = otsu(share)
    return np.array([threshold, *((share > at).mean() for at in (threshold, *_DENSE))])


_TEXTURE = (
    *(f"tissue_{name}" for name in (*_BRIGHTNESS, *_HISTOGRAM)),
    "dense_threshold",
    "dense_area_otsu",
    *(f"dense_area_{share:.0%}" for share in _DENSE),
    "muscle_area",
    *(f"glcm_{name}_{distance}" for distance in _DISTANCES for name in CO_OCCURRENCE),
    *(f"lbp_{2**times}_{number:02d}" for times in _HALVINGS for number in range(POINTS + 2)),
)

DESCRIPTORS = {
    "basic": Descriptors("basic", 1, (*_BRIGHTNESS, "min", "max", *_HISTOGRAM), None, _basic),
    "texture": Descriptors("texture", 1, _TEXTURE, _SIDE, _texture),
}


def describer(
    descriptors: Descriptors, recipe: Recipe, max_pixels: int, root: Path
) -> partial[NDArray[np.float32]]:
    """`describe_file` for `mammography.archive.workers.over_items`."""
    return partial(describe_file, descriptors.name, descriptors.recipe(recipe), max_pixels, root)
