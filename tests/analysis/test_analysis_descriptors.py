"""Descriptors against NumPy and SciPy, their invariances, and their table on disk."""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from scipy import stats

from mammography.analysis.descriptor_table import BLOCK, DescriptorTable, described, made_from
from mammography.analysis.descriptors import DESCRIPTORS, describe_file, describer
from mammography.preprocess.recipes.imagenet import PLUGIN
from mammography.runs import canonical_json
from mammography.vocabulary import RejectCode

BASIC, TEXTURE = DESCRIPTORS["basic"], DESCRIPTORS["texture"]
RECIPE = PLUGIN.with_options(size=(32, 32))


def picture(seed: int, side: int = 256) -> np.ndarray:
    """A breast of uneven brightness at the left, with dark surroundings."""
    row, column = np.indices((side, side)) / side
    breast = ((row - 0.5) / 0.4) ** 2 + (column / 0.5) ** 2 < 1
    noise = np.random.default_rng(seed).random((side, side)).astype(np.float32)
    tissue = cv2.GaussianBlur(noise, (0, 0), side / 100)
    tissue = (tissue - tissue.min()) / np.ptp(tissue)
    return np.where(breast, 0.3 + 0.6 * tissue, 0.01 * noise).astype(np.float32)


def named(descriptors: Any, gray: np.ndarray, view: str | None = None) -> dict[str, float]:
    values = descriptors.describe(gray, view)
    return dict(zip(descriptors.names, values.tolist(), strict=True))


def test_basic_descriptors_are_numpys_and_scipys() -> None:
    gray = picture(0)
    values = gray.astype(np.float64).ravel()
    found = named(BASIC, gray)
    expected = {
        "mean": np.mean(values), "std": np.std(values), "min": values.min(), "max": values.max(),
        "skewness": stats.skew(values), "kurtosis": stats.kurtosis(values),
        **{f"p{share}": np.percentile(values, share) for share in (10, 25, 50, 75, 90)},
    }  # fmt: skip
    for number in range(16):
        inside = (values >= number / 16) & (values < (number + 1) / 16)
        expected[f"histogram_{number:02d}"] = inside.mean()
    assert found == pytest.approx(expected)
    assert len(BASIC.names) == len(set(BASIC.names)) == len(expected)


def test_texture_does_not_look_outside_the_breast() -> None:
    gray = picture(1, 1024)
    labelled = gray.copy()
    labelled[30:80, 800:950] = 1.0
    one, other = (TEXTURE.describe(each, "CC") for each in (gray, labelled))
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_mirrored_breast_is_the_same_breast() -> None:
    gray = picture(2, 1024)
    one = TEXTURE.describe(gray, "MLO")
    other = TEXTURE.describe(np.ascontiguousarray(gray[:, ::-1]), "MLO")
    np.testing.assert_array_equal(one, other)


def test_percent_dense_area_is_the_share_that_is_bright() -> None:
    """A breast whose lower 30 % is dense."""
    row, column = np.indices((1024, 1024))
    breast = (row > 100) & (row < 900) & (column < 400)
    dense = breast & (row >= 660)
    rng = np.random.default_rng(0)
    gray = np.where(dense, 0.9, np.where(breast, 0.4, 0.0)) + rng.normal(0, 0.005, row.shape)
    found = named(TEXTURE, np.clip(gray, 0, 1).astype(np.float32))
    for name in ("dense_area_otsu", "dense_area_40%", "dense_area_60%"):
        assert found[name] == pytest.approx(0.3, abs=0.01)


def test_finer_tissue_is_rougher_at_the_finest_resolution() -> None:
    rng = np.random.default_rng(0)
    row, column = np.indices((1024, 1024))
    breast = (row > 100) & (row < 900) & (column < 500)
    contrasts = []
    for sigma in (3, 12):
        noise = cv2.GaussianBlur(rng.random((1024, 1024)), (0, 0), sigma)
        tissue = 0.4 + 0.4 * (noise - noise.min()) / np.ptp(noise)
        gray = np.where(breast, tissue, 0).astype(np.float32)
        contrasts.append(named(TEXTURE, gray)["glcm_contrast_1"])
    assert contrasts[0] > 3 * contrasts[1]


@pytest.mark.parametrize("descriptors", DESCRIPTORS.values(), ids=DESCRIPTORS)
def test_flat_and_tiny_pictures_give_finite_numbers(descriptors: Any) -> None:
    almost_flat = np.zeros((64, 64), np.float32)
    almost_flat[3, 3] = 1
    for gray in (np.full((40, 40), 0.5, np.float32), almost_flat, picture(3, 32)):
        values = descriptors.describe(gray, "MLO")
        assert values.shape == (len(descriptors.names),)
        assert np.isfinite(values).all()


def test_names_are_unique_and_the_size_is_the_sets_own() -> None:
    assert len(set(TEXTURE.names)) == len(TEXTURE.names)
    assert TEXTURE.recipe(RECIPE).size == (1024, 1024)
    assert BASIC.recipe(RECIPE) is RECIPE


# The table on disk.


def archive(root: Path, seeds: range) -> pl.DataFrame:
    """PNG files of the same size in bytes and pixels, whatever is on them."""
    root.mkdir(parents=True)
    paths = []
    for number, seed in enumerate(seeds):
        pixels = np.random.default_rng(seed).integers(0, 65536, (20, 16), np.uint16)
        path = root / f"{number}.png"
        ok, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])
        assert ok
        path.write_bytes(encoded.tobytes())
        paths.append(path.name)
    n = len(paths)
    return pl.DataFrame(
        {
            "image_id": [path[:-4] for path in paths],
            "path": paths,
            "view": ["CC"] * n,
            "table_row": list(range(1, n + 1)),
            "exam": [f"e{number}" for number in range(n)],
        }
    )


def describe(
    folder: Path,
    root: Path,
    index: pl.DataFrame,
    told: list[int] | None = None,
    *,
    descriptors: Any = BASIC,
    recipe: Any = RECIPE,
    max_pixels: int = 10**6,
) -> DescriptorTable:
    """`told` gets the numbers of images that progress is told of."""
    calls: list[int] = [] if told is None else told
    return described(
        folder,
        root,
        index,
        descriptors,
        recipe,
        max_pixels=max_pixels,
        workers=1,
        progress=lambda images, rejected: calls.append(images),
    )


def test_every_image_has_its_own_numbers(tmp_path: Path) -> None:
    index = archive(tmp_path / "a", range(5))
    table = describe(tmp_path / "out", tmp_path / "a", index)
    np.testing.assert_array_equal(table.rows, np.arange(5))
    for row, path in enumerate(index["path"]):
        expected = describe_file("basic", RECIPE, 10**6, tmp_path / "a", (path, "CC"))
        np.testing.assert_array_equal(table.values[row], expected, strict=True)
    (saved,) = (tmp_path / "out").glob("*/descriptors.parquet")
    frame = pl.read_parquet(saved)
    assert frame.columns == ["image_id", *BASIC.names]
    np.testing.assert_array_equal(frame.drop("image_id").to_numpy(), table.values)


def test_a_second_run_reads_what_the_first_computed(tmp_path: Path) -> None:
    index = archive(tmp_path / "a", range(3))
    first = describe(tmp_path / "out", tmp_path / "a", index)
    (part,) = (tmp_path / "out").glob("*/.parts/000000.npz")
    written = part.stat().st_mtime_ns
    told: list[int] = []
    second = describe(tmp_path / "out", tmp_path / "a", index, told)
    np.testing.assert_array_equal(first.values, second.values)
    assert part.stat().st_mtime_ns == written
    assert told == [3]


def test_another_archive_of_the_same_size_gets_its_own_numbers(tmp_path: Path) -> None:
    """Known trap: a cache keyed by the number of rows gave the first archive's features."""
    first_index = archive(tmp_path / "a", range(4))
    second_index = archive(tmp_path / "b", range(9, 13))
    assert first_index.equals(second_index)
    first = describe(tmp_path / "out", tmp_path / "a", first_index)
    second = describe(tmp_path / "out", tmp_path / "b", second_index)
    fresh = describe(tmp_path / "fresh", tmp_path / "b", second_index)
    assert not np.array_equal(first.values, second.values)
    np.testing.assert_array_equal(second.values, fresh.values)


def test_a_file_that_changed_in_place_is_described_again(tmp_path: Path) -> None:
    index = archive(tmp_path / "a", range(3))
    archive(tmp_path / "b", range(7, 8))
    first = describe(tmp_path / "out", tmp_path / "a", index)
    shutil.copyfile(tmp_path / "b/0.png", tmp_path / "a/1.png")  # as many bytes
    os.utime(tmp_path / "a/1.png", ns=(1, 1))
    second = describe(tmp_path / "out", tmp_path / "a", index)
    np.testing.assert_array_equal(first.values[[0, 2]], second.values[[0, 2]])
    assert not np.array_equal(first.values[1], second.values[1])


def test_whatever_changes_the_numbers_changes_the_tables_key(tmp_path: Path) -> None:
    index = archive(tmp_path / "a", range(2))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    settings = (tmp_path / "a", index, BASIC, RECIPE, 10**6)
    keys = [canonical_json(made_from(*settings))]
    for place, other in (
        (0, tmp_path / "b"),
        (1, index.with_columns(view=pl.lit("MLO"))),
        (1, index.reverse()),
        (2, TEXTURE),
        (2, replace(BASIC, version=2)),
        (3, PLUGIN.with_options(size=(16, 16))),
        (4, 999),
    ):
        changed = (*settings[:place], other, *settings[place + 1 :])
        keys.append(canonical_json(made_from(*changed)))  # type: ignore[arg-type]
    assert len(set(keys)) == len(keys) == 8
    assert canonical_json(made_from(*settings)) == keys[0]


def test_an_unreadable_image_keeps_its_row_free(tmp_path: Path) -> None:
    index = archive(tmp_path / "a", range(4))
    (tmp_path / "a/1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (tmp_path / "a/2.png").unlink()
    table = describe(tmp_path / "out", tmp_path / "a", index)
    assert table.rows.tolist() == [0, 3]
    assert table.values.shape == (2, len(BASIC.names))
    rejects = table.rejects(index)
    assert rejects["path"].to_list() == ["1.png", "2.png"]
    assert rejects["code"].to_list()[1] == RejectCode.MISSING_FILE.value
    assert rejects["exam"].to_list() == ["e1", "e2"]
    again = describe(tmp_path / "out", tmp_path / "a", index)
    assert again.rejects(index).equals(rejects)


def test_a_killed_run_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mammography.analysis.descriptor_table.BLOCK", 2)
    index = archive(tmp_path / "a", range(5))
    whole = describe(tmp_path / "whole", tmp_path / "a", index)
    describe(tmp_path / "out", tmp_path / "a", index)
    (lost,) = (tmp_path / "out").glob("*/.parts/000001.npz")
    lost.unlink()
    told: list[int] = []
    resumed = describe(tmp_path / "out", tmp_path / "a", index, told)
    assert told == [3, 1, 1]
    np.testing.assert_array_equal(resumed.values, whole.values)
    assert BLOCK > 2


def test_workers_can_be_sent_the_work() -> None:
    work = describer(TEXTURE, RECIPE, 10**6, Path("root"))
    assert pickle.loads(pickle.dumps(work)).args == work.args  # noqa: S301
