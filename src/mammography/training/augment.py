"""Augmentation of a whole batch where it lies: flips, rotation, brightness and contrast; mixup.

Every image draws from a generator of its own, seeded by run, epoch and image, so that what it gets
depends neither on the batch, the device, the number of processes nor on an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """What may happen to an image.

    Attributes:
        flip: Probability of a horizontal flip.
        degrees: Largest rotation, either way.
        brightness: Largest relative change of all values.
        contrast: Largest relative change of the distances to the image's mean.
    """

    flip: float = 0.5
    degrees: float = 15.0
    brightness: float = 0.1
    contrast: float = 0.1

    def __call__(self, images: Tensor, rows: Sequence[int], seed: int, epoch: int) -> Tensor:
        """Augmented images.

        Args:
            images: (batch, 1, height, width) float32 in [0, 1]; outside of them is black.
            rows: Which image of the data set each is.
            seed: Of the run.
            epoch: From 0.

        Returns:
            The same shape, in [0, 1].
        """
        draws = np.array([self._draw(seed, epoch, row) for row in rows], np.float32)
        flip, angle, brightness, contrast = torch.from_numpy(draws).to(images.device).T
        turned = _turned(images, flip, angle)
        means = turned.mean((1, 2, 3), keepdim=True)
        jittered = (turned - means) * contrast.view(-1, 1, 1, 1) + means
        return (jittered * brightness.view(-1, 1, 1, 1)).clamp(0, 1)

    def _draw(self, seed: int, epoch: int, row: int) -> tuple[float, float, float, float]:
        """Direction of the columns (1 or -1), angle in radians, two factors."""
        random = np.random.default_rng((seed, epoch, row))
        return (
            -1.0 if random.random() < self.flip else 1.0,
            np.deg2rad(random.uniform(-self.degrees, self.degrees)),
            random.uniform(1 - self.brightness, 1 + self.brightness),
            random.uniform(1 - self.contrast, 1 + self.contrast),
        )


def _turned(images: Tensor, flip: Tensor, angle: Tensor) -> Tensor:
    """Rotate about the centre, and flip; one bilinear interpolation for both."""
    height, width = images.shape[-2:]
    cosine, sine = torch.cos(angle), torch.sin(angle)
    zero = torch.zeros_like(angle)
    # From output to input positions, in units of half the image's width and height.
    top = torch.stack([flip * cosine, -sine * (height / width) * flip, zero], 1)
    bottom = torch.stack([sine * (width / height), cosine, zero], 1)
    matrices = torch.stack([top, bottom], 1)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def mixup(
    values: Sequence[Tensor], alpha: float, seed: int, epoch: int, step: int
) -> tuple[Tensor, ...]:
    """Blend each image of a batch with another one (Zhang et al., mixup, 2018).

    Args:
        values: Tensors over the same batch: images, soft targets, embeddings.
        alpha: Of the Beta distribution that the share is drawn from.
        seed: Of the run.
        epoch: From 0.
        step: Of the epoch.
    """
    random = np.random.default_rng((seed, epoch, step))
    share = float(random.beta(alpha, alpha))
    other = torch.from_numpy(random.permutation(len(values[0]))).to(values[0].device)
    return tuple(share * value + (1 - share) * value[other] for value in values)
