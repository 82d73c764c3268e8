"""Synthetic mammograms with known truth.

A woman is a seed: her four images share size, shape, density and style of tissue, and differ as
the two sides and the two compressions of one woman do. The image is that of a processed mammogram
("for presentation"): thickness is evened out except near the skin, and dense tissue is bright.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mammography.dicom.phantom.anatomy import Anatomy, anatomy
from mammography.dicom.phantom.lesions import Finding, add_calcifications, add_mass, kinds_of
from mammography.dicom.phantom.tissue import Grid, Tissue, filled, tissue
from mammography.errors import UsageError

LATERALITIES = ("R", "L")
VIEWS = ("CC", "MLO")

#: Share of the breast that is dense, by BI-RADS category: below 25 %, to 50 %, to 75 %, above.
PERCENT_DENSE = {1: (6.0, 20.0), 2: (28.0, 47.0), 3: (53.0, 72.0), 4: (77.0, 86.0)}

#: Tissue is synthesised on about so many rows and then enlarged.
TISSUE_ROWS = 832

#: Standard deviation of the noise within the breast, in brightness.
QUANTUM_NOISE = 0.008


@dataclass(frozen=True)
class PhantomImage:
    """One synthetic mammogram and what is known about it.

    Attributes:
        pixels: uint16, shape (rows, columns), MONOCHROME2: dense tissue is bright, air dark.
        breast_mask: bool, everything within the skin line, the pectoral muscle included.
        muscle_mask: bool, the pectoral muscle; empty on CC.
        dense_mask: bool, fibroglandular tissue, the muscle left out.
        findings: Lesions with half-open boxes in pixels of this image.
        percent_dense: Area of `dense_mask` in per cent of the breast without the muscle.
    """

    pixels: np.ndarray
    breast_mask: np.ndarray
    muscle_mask: np.ndarray
    dense_mask: np.ndarray
    findings: tuple[Finding, ...]
    percent_dense: float


def phantom_image(
    rows: int,
    columns: int,
    *,
    laterality: str,
    view: str,
    density: int,
    seed: int,
    bits: int = 12,
    lesions: bool = False,
    visit: int = 0,
    tissue_range: tuple[float, float] = (0.0, 1.0),
    air_noise: float = 0.0,
) -> PhantomImage:
    """One view of one breast of a synthetic woman.

    Args:
        rows: Height in pixels, at least 64.
        columns: Width in pixels, at least 64; three quarters of the height is usual.
        laterality: "L" (chest wall at the left edge) or "R" (at the right edge).
        view: "CC" or "MLO".
        density: BI-RADS category, 1-4.
        seed: The woman; she keeps her shapes at every density and size.
        bits: Bits stored, 8-16.
        lesions: Give this breast a mass, a cluster of microcalcifications or both.
        visit: Which of her exams; shapes and density stay about the same.
        tissue_range: The darkest and the brightest tissue as shares of the range of the bits;
            air is 0 whatever the tissue.
        air_noise: Standard deviation of the noise in air, as a share of the range of the bits.

    Returns:
        The image and its truth.
    """
    if laterality not in LATERALITIES or view not in VIEWS or density not in PERCENT_DENSE:
        raise UsageError(
            f"There is no phantom of laterality {laterality!r}, view {view!r} and density "
            f"{density!r}; give R or L, CC or MLO, and 1 to 4."
        )
    if min(rows, columns) < 64 or not 8 <= bits <= 16:
        raise UsageError(
            f"There is no phantom of {rows} x {columns} pixels of {bits} bits; give at least "
            "64 x 64 pixels of 8 to 16 bits."
        )
    woman = np.random.default_rng([seed, 0])
    which = (LATERALITIES.index(laterality), VIEWS.index(view), visit)
    rng = np.random.default_rng([seed, 1, *which])
    shape = anatomy(view, woman, rng)
    low, high = PERCENT_DENSE[density]
    percent = float(np.clip(woman.uniform(low, high) + rng.normal(0, 1), low, high))
    shrink = max(1, round(rows / TISSUE_ROWS))
    grid = Grid.of(rows // shrink, columns // shrink, columns / rows)
    inside = tissue(shape, grid, percent, woman, rng)

    size = (columns, rows)
    image = cv2.resize(inside.brightness, size, interpolation=cv2.INTER_CUBIC)
    breast = filled(shape.outline, rows, columns).astype(bool)
    muscle = filled(shape.muscle, rows, columns).astype(bool) & breast
    dense = cv2.resize(inside.score, size, interpolation=cv2.INTER_LINEAR) > 0
    dense &= breast & ~muscle
    findings = _add_lesions(image, shape, inside, seed, which) if lesions else ()
    _expose(image, breast, tissue_range, air_noise, rng)
    if laterality == "R":
        image, breast, muscle, dense = (
            np.ascontiguousarray(plane[:, ::-1]) for plane in (image, breast, muscle, dense)
        )
        findings = tuple(finding.mirrored(columns) for finding in findings)
    _add_marker(image, laterality, view)
    return PhantomImage(
        pixels=(image * np.float32(2**bits - 1) + np.float32(0.5)).astype(np.uint16),
        breast_mask=breast,
        muscle_mask=muscle,
        dense_mask=dense,
        findings=findings,
        percent_dense=100 * float(dense.sum() / (breast & ~muscle).sum()),
    )


def _add_lesions(
    image: np.ndarray, shape: Anatomy, inside: Tissue, seed: int, which: tuple[int, int, int]
) -> tuple[Finding, ...]:
    """Put lesions behind the nipple, well below the skin and outside the muscle.

    Both views of a breast get the same lesions at places of their own. Their randomness is apart
    from the rest, so that the image without lesions is otherwise the same.
    """
    side, _, visit = which
    lesion_rng = np.random.default_rng([seed, 2, side, visit])
    place_rng = np.random.default_rng([seed, 3, *which])
    allowed = (inside.depth > 0.07) & (inside.muscle_depth == 0)
    rows = len(allowed)
    reach = [round((shape.gland[1] + sign * shape.spread[1]) * rows) for sign in (-1, 1)]
    allowed[: max(0, reach[0])] = allowed[reach[1] :] = allowed[:, : rows // 18] = False
    findings = []
    for kind in kinds_of(lesion_rng):
        row, column = place_rng.choice(np.argwhere(allowed))
        add = add_mass if kind == "mass" else add_calcifications
        findings.append(add(image, (column + 0.5) / rows, (row + 0.5) / rows, lesion_rng))
    return tuple(findings)


def _expose(
    image: np.ndarray,
    breast: np.ndarray,
    tissue_range: tuple[float, float],
    air_noise: float,
    rng: np.random.Generator,
) -> None:
    """Add the detector's noise, lay tissue into its range of values and air around it, in place."""
    darkest, brightest = tissue_range
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image += QUANTUM_NOISE * noise
    np.clip(image, 0, 1, out=image)
    image *= brightest - darkest
    image += darkest
    np.abs(noise, out=noise)
    noise *= air_noise
    np.copyto(image, noise, where=~breast)


def _add_marker(image: np.ndarray, laterality: str, view: str) -> None:
    """Burn in the marker of side and view, above and far from the chest wall."""
    rows, columns = image.shape
    font, scale, stroke = cv2.FONT_HERSHEY_SIMPLEX, rows / 900, max(1, round(rows / 500))
    text = f"{laterality} {view}"
    (width, height), below = cv2.getTextSize(text, font, scale, stroke)
    letters = np.zeros((height + below, width), np.uint8)
    cv2.putText(letters, text, (0, height), font, scale, 255, stroke)
    edge = round(0.02 * rows)
    left = columns - width - edge if laterality == "L" else edge
    image[edge:, left:][: height + below, :width][letters > 0] = 1
