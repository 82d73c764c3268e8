"""Random fields that look like breast tissue.

The power spectrum of mammographic parenchyma falls as 1 / f^beta with beta near 3 (Burgess,
Jacobson and Judy, "Human observer detection experiments with mammograms and power-law noise",
Medical Physics 28(4), 2001, doi:10.1118/1.1355308).
"""

from __future__ import annotations

import cv2
import numpy as np

#: Exponent of the power spectrum of mammographic backgrounds.
BETA = 3.0


def power_law_noise(
    size: int, rng: np.random.Generator, beta: float = BETA, coarsest: float = 0.0
) -> np.ndarray:
    """Periodic Gaussian noise with a power spectrum of 1 / (f^2 + coarsest^2)^(beta / 2).

    Args:
        size: Side of the square, a power of two.
        rng: Where the randomness comes from.
        beta: Exponent; 0 is white noise.
        coarsest: Cycles per side below which the spectrum is flat; 0 is a pure power law.

    Returns:
        float32 of shape (size, size), mean 0, standard deviation 1.
    """
    white = rng.standard_normal((size, size), dtype=np.float32)
    across = np.arange(size // 2 + 1, dtype=np.float32)
    down = np.minimum(np.arange(size), size - np.arange(size)).astype(np.float32)[:, np.newaxis]
    squared = across**2 + down**2 + np.float32(coarsest**2)
    squared[0, 0] = np.inf
    spectrum = np.fft.rfft2(white) * squared ** np.float32(-beta / 4)
    noise = np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32)
    return noise / noise.std()


def sampled(field: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Read a periodic field at positions in units of its period.

    Args:
        field: float32 of shape (size, size).
        x: Positions across, float32, any shape (rows, columns).
        y: Positions down, of the same shape.

    Returns:
        float32 of that shape.
    """
    size = np.float32(len(field))
    return cv2.remap(
        field,
        np.mod(x, 1) * size,
        np.mod(y, 1) * size,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )


def strands(field: np.ndarray, width: float) -> np.ndarray:
    """Fine lines where a smooth field passes zero, as Cooper's ligaments and septa do.

    Args:
        field: Standard deviation 1.
        width: Of the lines, in units of the field.

    Returns:
        The same shape, 1 on the lines and 0 far from them.
    """
    return np.exp(-np.square(field / np.float32(width)))


def smoothstep(values: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    clipped = np.clip(values, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)
