"""The engine: every image's features are its own, whoever stands beside it and whatever failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mammography.dicom.phantom.files import write_dicom
from mammography.embeddings.extract import extract
from mammography.embeddings.store import PartialSet
from mammography.encoders.backends import Backend, EncoderRequest, open_backend
from mammography.preprocess.recipes.imagenet import Imagenet

IMAGES, BATCH, PART = 23, 4, 10
RECIPE = Imagenet(size=(32, 32))


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    request = EncoderRequest(
        "timm:resnet10t", "random", 3, RECIPE.size, batch_size=BATCH, backend="torch"
    )
    _, backend = open_backend(request)
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive")
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 4096, (40 + number, 33))
        write_dicom(root / f"{number:02d}.dcm", pixels.astype(np.uint16), BitsStored=12)
    return root


@pytest.fixture(scope="module")
def alone(archive: Path, backend: Backend) -> np.ndarray:
    """Every image's features, computed without the engine and without company."""
    features = []
    for number in range(IMAGES):
        batch = np.zeros((BATCH, 3, *RECIPE.size), np.float32)
        batch[0] = RECIPE(archive / f"{number:02d}.dcm")
        features.append(backend.infer(batch)[0])
    return np.stack(features)


def run(
    folder: Path, root: Path, paths: list[str], backend: Backend, workers: int = 2
) -> tuple[PartialSet, list[tuple[int, int]]]:
    target = PartialSet(folder, {}, len(paths), part_rows=PART)
    told: list[tuple[int, int]] = []
    extract(
        root,
        paths,
        target,
        RECIPE,
        backend,
        workers=workers,
        max_pixels=10**6,
        progress=lambda images, rejected: told.append((images, rejected)),
    )
    return target, told


def features_of(target: PartialSet) -> np.ndarray:
    return np.concatenate([part.features for part in target.parts() if len(part.kept)])


def names(numbers: range) -> list[str]:
    return [f"{number:02d}.dcm" for number in numbers]


@pytest.mark.parametrize("workers", [1, 3])
def test_row_i_is_image_i_alone(
    workers: int, archive: Path, alone: np.ndarray, backend: Backend, tmp_path: Path
) -> None:
    target, told = run(tmp_path, archive, names(range(IMAGES)), backend, workers)
    np.testing.assert_array_equal(features_of(target), alone, strict=True)
    assert sum(images for images, _ in told) == IMAGES
    assert not target.rejected()
    assert not target.missing()


BAD = {
    "first": {0},
    "last": {IMAGES - 1},
    "a whole part": set(range(10, 20)),
    "the ends of a part": {9, 10, 19},
    "every second": set(range(0, IMAGES, 2)),
    "a whole batch": {4, 5, 6, 7},
    "all": set(range(IMAGES)),
}


@pytest.mark.parametrize("place", BAD)
def test_bad_images_shift_nobody(
    place: str, archive: Path, alone: np.ndarray, backend: Backend, tmp_path: Path
) -> None:
    bad = BAD[place]
    paths = ["absent.dcm" if number in bad else f"{number:02d}.dcm" for number in range(IMAGES)]
    target, told = run(tmp_path, archive, paths, backend)
    assert target.rejected().keys() == bad
    kept = [row for part in target.parts() for row in part.kept.tolist()]
    assert kept == sorted(set(range(IMAGES)) - bad)
    if kept:
        np.testing.assert_array_equal(features_of(target), alone[kept], strict=True)
    assert sum(images for images, _ in told) == IMAGES
    assert sum(rejected for _, rejected in told) == len(bad)


def test_parts_that_are_there_are_left_alone(
    archive: Path, alone: np.ndarray, backend: Backend, tmp_path: Path
) -> None:
    target, _ = run(tmp_path, archive, names(range(IMAGES)), backend)
    parts = sorted((tmp_path / ".parts").glob("*.npz"))
    before = {path: path.read_bytes() for path in parts}
    parts[1].unlink()
    target, told = run(tmp_path, archive, names(range(IMAGES)), backend)
    assert sum(images for images, _ in told) == PART
    assert {path: path.read_bytes() for path in parts} == before
    np.testing.assert_array_equal(features_of(target), alone)


def test_features_that_are_not_finite_become_rejects(
    archive: Path, alone: np.ndarray, backend: Backend, tmp_path: Path
) -> None:
    def overflowing(batch: np.ndarray) -> np.ndarray:
        features = backend.infer(batch)
        for row in (3, 17):
            features[(features == alone[row]).all(axis=1), 5] = np.inf
        return features

    unsound = replace(backend, infer=overflowing)
    target, told = run(tmp_path, archive, names(range(IMAGES)), unsound)
    rejected = target.rejected()
    assert rejected.keys() == {3, 17}
    assert {verdict.code for verdict in rejected.values()} == {"not-finite"}
    np.testing.assert_array_equal(features_of(target), np.delete(alone, (3, 17), 0))
    assert sum(count for _, count in told) == 2
    assert sum(images for images, _ in told) == IMAGES


def test_no_images_are_no_work(archive: Path, backend: Backend, tmp_path: Path) -> None:
    target, told = run(tmp_path, archive, [], backend)
    assert not told
    assert not list(target.parts())


def test_an_error_of_the_network_ends_the_run_and_the_workers(
    archive: Path, backend: Backend, tmp_path: Path
) -> None:
    def broken(batch: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of memory on the device")

    with pytest.raises(RuntimeError, match="out of memory on the device"):
        run(tmp_path, archive, names(range(IMAGES)), replace(backend, infer=broken))
