"""Augmentation: what happens to an image, and what it depends on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from mammography.training.augment import Augmentation, mixup

HEIGHT, WIDTH = 96, 64
RADIUS = 18.0

TURN_ONLY = Augmentation(flip=0, degrees=15, brightness=0, contrast=0)
NOTHING = Augmentation(flip=0, degrees=0, brightness=0, contrast=0)


def spot() -> Tensor:
    """A smooth spot right of the centre of an image that is higher than wide."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    x, y = x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2
    return torch.from_numpy(np.exp(-((x - RADIUS) ** 2 + y**2) / (2 * 4**2)))


def many(image: Tensor, augmentation: Augmentation, count: int = 400, epoch: int = 0) -> Tensor:
    """`count` augmented copies, (count, height, width)."""
    copies = image.expand(count, 1, *image.shape)
    return augmentation(copies, range(count), seed=5, epoch=epoch)[:, 0]


def places(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Where the centre of mass lies, from the image's centre, in pixels: x, y."""
    masses = images.sum((1, 2))
    x = (images.sum(1) @ (torch.arange(WIDTH) - (WIDTH - 1) / 2)) / masses
    y = (images.sum(2) @ (torch.arange(HEIGHT) - (HEIGHT - 1) / 2)) / masses
    return x.double().numpy(), y.double().numpy()


def test_rotations_keep_shapes_and_go_up_to_fifteen_degrees_both_ways() -> None:
    x, y = places(many(spot(), TURN_ONLY))
    np.testing.assert_allclose(np.hypot(x, y), RADIUS, atol=0.05)
    angles = np.rad2deg(np.arctan2(y, x))
    assert -15.1 < angles.min() < -14
    assert 14 < angles.max() < 15.1
    quartiles = np.percentile(angles, [25, 50, 75])
    np.testing.assert_allclose(quartiles, [-7.5, 0, 7.5], atol=1.5)


def test_half_of_the_images_are_flipped_and_up_stays_up() -> None:
    augmentation = Augmentation(flip=0.5, degrees=15, brightness=0, contrast=0)
    x, y = places(many(spot(), augmentation))
    np.testing.assert_allclose(np.hypot(x, y), RADIUS, atol=0.05)
    assert 0.4 < (x < 0).mean() < 0.6
    assert np.abs(np.rad2deg(np.arctan2(y, np.abs(x)))).max() < 15.1
    above, _ = places(many(torch.flip(spot(), [1]), Augmentation(1, 0, 0, 0), 5))
    np.testing.assert_allclose(above, RADIUS, atol=0.01)


def test_a_turned_image_is_scipys_and_opencvs() -> None:
    random = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(random.random((HEIGHT, WIDTH)).astype(np.float32), 4)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    x, y = places(many(spot(), TURN_ONLY, 6))
    turned = many(torch.from_numpy(smooth), TURN_ONLY, 6).numpy()  # by the same angles
    for angle, ours in zip(np.rad2deg(np.arctan2(y, x)), turned, strict=True):
        scipys = ndimage.rotate(smooth, -angle, reshape=False, order=1)
        centre = ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, -angle, 1.0)
        opencvs = cv2.warpAffine(smooth, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        inside = np.s_[14:-14, 14:-14]  # they treat the border otherwise
        np.testing.assert_allclose(ours[inside], scipys[inside], atol=2e-3)
        np.testing.assert_allclose(ours[inside], opencvs[inside], atol=5e-3)


def test_what_comes_in_from_outside_is_black() -> None:
    white = many(torch.ones(HEIGHT, WIDTH), TURN_ONLY, 40)
    _, y = places(many(spot(), TURN_ONLY, 40))
    tilted = np.abs(y) > 2
    corners = white[:, [0, 0, -1, -1], [0, -1, 0, -1]].numpy()
    assert tilted.sum() > 10
    assert corners[tilted].max() < 0.01
    np.testing.assert_allclose(white[:, HEIGHT // 2, WIDTH // 2], 1, atol=1e-6)


def test_brightness_scales_all_values_and_contrast_their_distances_to_the_mean() -> None:
    image = torch.linspace(0.4, 0.6, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    jittered = many(image, Augmentation(flip=0, degrees=0, brightness=0.1, contrast=0.2))
    brightness = (jittered.mean((1, 2)) / image.mean()).numpy()
    contrast = (jittered.std((1, 2)) / image.std()).numpy() / brightness
    for factors, most in ((brightness, 0.1), (contrast, 0.2)):
        assert 1 - most - 1e-3 < factors.min() < 1 - 0.9 * most
        assert 1 + 0.9 * most < factors.max() < 1 + most + 1e-3
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.2
    expected = image * torch.from_numpy(contrast * brightness)[0]
    expected = expected + jittered[0].mean() - expected.mean()
    torch.testing.assert_close(jittered[0], expected.float(), rtol=0, atol=1e-5)


def test_values_stay_between_black_and_white() -> None:
    image = torch.from_numpy(np.random.default_rng(0).random((HEIGHT, WIDTH), np.float32))
    jittered = many(image, Augmentation(brightness=0.9, contrast=0.9), 50)
    assert jittered.min() == 0
    assert jittered.max() == 1


def test_without_any_range_nothing_happens() -> None:
    image = torch.from_numpy(np.random.default_rng(0).random((512, 400), np.float32))
    same = NOTHING(image[None, None], [0], 0, 0)[0, 0]
    torch.testing.assert_close(same, image, rtol=0, atol=2e-4)


@pytest.mark.parametrize("side", [64, 512])
def test_an_image_gets_the_same_whatever_surrounds_it(side: int) -> None:
    images = torch.rand(8, 1, side, side, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    rows = [3, 1, 4, 15, 9, 2, 6, 5]
    whole = Augmentation()(images, rows, 1, 2)
    torch.testing.assert_close(Augmentation()(images, rows, 1, 2), whole, rtol=0, atol=0)
    for chosen in ([7], [5, 0, 2]):
        some = Augmentation()(images[chosen], [rows[i] for i in chosen], 1, 2)
        torch.testing.assert_close(some, whole[chosen], rtol=0, atol=1e-6)
    assert torch.equal(images, before)


def test_seed_epoch_and_image_each_change_what_it_gets() -> None:
    image = spot()[None, None]
    one = Augmentation()(image, [0], 1, 2)
    for row, seed, epoch in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not torch.allclose(Augmentation()(image, [row], seed, epoch), one, atol=1e-2)


# mixup


def test_mixup_blends_images_targets_and_embeddings_alike() -> None:
    """Image i is filled with i, so that a blend says what it is made of."""
    count = 8
    grays = torch.arange(count, dtype=torch.float32).view(-1, 1, 1).expand(count, 4, 4)
    targets, embeddings = torch.eye(count), torch.eye(count) * 10
    blended, soft, beside = mixup([grays, targets, embeddings], 0.4, seed=1, epoch=2, step=3)
    torch.testing.assert_close(soft.sum(1), torch.ones(count))
    torch.testing.assert_close(beside, soft * 10)
    torch.testing.assert_close(blended[:, 0, 0], soft @ torch.arange(count, dtype=torch.float32))
    torch.testing.assert_close(soft.sum(0), torch.ones(count))  # each is another's partner once
    others = [row[index] for index, row in enumerate(soft) if row[index] < 1]
    assert len(others) > 4
    torch.testing.assert_close(torch.stack(others), others[0].expand(len(others)))


def test_mixup_depends_on_seed_epoch_and_step_alone() -> None:
    values = [torch.rand(6, 3, 3, generator=torch.Generator().manual_seed(0))]
    [one] = mixup(values, 0.4, 1, 2, 3)
    torch.manual_seed(123)
    assert torch.equal(mixup(values, 0.4, 1, 2, 3)[0], one)
    for place in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(mixup(values, 0.4, *place)[0], one)


def test_mixups_share_follows_its_beta_distribution() -> None:
    def share(step: int) -> float:
        [soft] = mixup([torch.eye(2)], 0.4, 0, 0, step)
        return float(soft[0, 0])

    shares = np.array([share(step) for step in range(2000)])
    kept = shares[shares < 1]  # the others had themselves as a partner
    assert len(kept) > 800
    random = np.random.default_rng(0).beta(0.4, 0.4, 100_000)
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert abs(np.quantile(kept, quantile) - np.quantile(random, quantile)) < 0.06
