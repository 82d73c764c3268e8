"""``mammography cache``: what it lists, and that it removes this and nothing else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import tyro

from mammography.commands.cache import Cache, CacheResult
from mammography.dicom.phantom.files import write_dicom
from mammography.errors import StoreError, UsageError
from mammography.preprocess.cache import prepare_images
from mammography.preprocess.cache_entries import folder_for
from mammography.preprocess.grays import Grays
from mammography.preprocess.grays_levels import read_levels
from mammography.preprocess.recipe import Recipe
from mammography.preprocess.recipes.density import Density
from mammography.preprocess.recipes.imagenet import Imagenet

DENSITY, IMAGENET = Density(size=(32, 32)), Imagenet(size=(16, 12))
PATHS = [f"{number}.dcm" for number in range(3)]
MAX_PIXELS = 10_000
BYTES = {"density": 128 + 2 * 32 * 32 + 4, "imagenet": 128 + 2 * 16 * 12 + 4}  # of an image


def fill(folder: Path, recipe: Recipe, paths: list[str]) -> None:
    """Fill the cache without the cost of a worker process."""
    entries, record = folder_for(folder / "cache", recipe, MAX_PIXELS)
    entries.open(record)
    for path in paths:
        entries.write(*read_levels(recipe, MAX_PIXELS, folder / "archive" / path))


def used(folder: Path, recipe: Recipe, paths: list[str]) -> Grays:
    """What a run does that finds its images in the cache."""
    told: list[tuple[int, int]] = []
    grays, _ = prepare_images(
        folder / "archive",
        paths,
        recipe,
        "disk",
        folder / "cache",
        workers=1,
        max_pixels=MAX_PIXELS,
        progress=lambda images, rejected: told.append((images, rejected)),
    )
    assert told == [(len(paths), 0)]
    return grays


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache of three images in one recipe and two in another."""
    for number, path in enumerate(PATHS):
        pixels = np.random.default_rng(number).integers(0, 4096, (40, 30)).astype(np.uint16)
        write_dicom(tmp_path / "archive" / path, pixels, BitsStored=12)
    fill(tmp_path, DENSITY, PATHS)
    fill(tmp_path, IMAGENET, PATHS[:2])
    return tmp_path


def cache(folder: Path, *words: str) -> CacheResult:
    """The command, from its words."""
    config = (tyro.conf.DisallowNone,)
    command = tyro.cli(Cache, args=[*words, "--cache-dir", str(folder / "cache")], config=config)
    return command.run()


def listed(result: CacheResult) -> dict[str, int]:
    return {each.recipe: each.images for each in result.folders}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "cache").rglob("*") if path.is_file())


def unused_for(folder: Path, days: float, recipe: str) -> list[Path]:
    """Make the images of a recipe look as if they had not been used for so long."""
    [found] = [each for each in cache(folder, "ls").folders if each.recipe == recipe]
    images = sorted((folder / "cache" / found.hash).rglob("*.npy"))
    for path in images:
        os.utime(path, (0, time.time() - days * 86400))
    return images


def test_ls_tells_recipe_images_room_and_last_use(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = cache(folder, "ls")
    assert listed(result) == {"density": 3, "imagenet": 2}
    for each in result.folders:
        assert each.bytes == each.images * BYTES[each.recipe]
        assert each.size == {"density": (32, 32), "imagenet": (16, 12)}[each.recipe]
        assert each.last_used is not None
        assert 0 <= time.time() - each.last_used < 60
        assert (folder / "cache" / each.hash / "recipe.json").is_file()
    shown = capsys.readouterr().out.split("\n")
    assert shown[0].split() == ["recipe", "size", "hash", "images", "room", "last", "used"]
    [line] = [line for line in shown if line.startswith("density")]
    assert "32 × 32" in line
    assert time.strftime("%Y-%m-%d") in line
    assert shown[-2] == f"5 images, {result.bytes / 1000:.1f} kB, in {folder / 'cache'}"


def test_json_is_all_that_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = cache(folder, "ls", "imagenet", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["cache_dir"] == str(folder / "cache")
    assert told["bytes"] == result.bytes == 2 * BYTES["imagenet"]
    [each] = told["folders"]
    assert each["size"] == [16, 12]
    assert each["last_used"].endswith("+00:00")


def test_clear_removes_everything_and_folders_with_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = cache(folder, "clear")
    assert listed(result) == {"density": 3, "imagenet": 2}
    assert result.bytes == 3 * BYTES["density"] + 2 * BYTES["imagenet"]
    assert "5 images" in capsys.readouterr().out
    assert list((folder / "cache").iterdir()) == []
    assert cache(folder, "ls").folders == []
    assert capsys.readouterr().out == f"0 images, 0 bytes, in {folder / 'cache'}\n"


def test_clear_one_recipe_by_its_name_or_the_beginning_of_its_hash(folder: Path) -> None:
    assert listed(cache(folder, "clear", "density")) == {"density": 3}
    [left] = cache(folder, "ls").folders
    assert listed(cache(folder, "clear", left.hash[:6])) == {"imagenet": 2}
    assert cache(folder, "ls").folders == []


@pytest.mark.parametrize("action", ["ls", "clear"])
def test_a_name_that_nothing_has_is_an_error(folder: Path, action: str) -> None:
    before = files(folder)
    with pytest.raises(UsageError, match=r"no 'primer'; it holds .*density \([0-9a-f]{16}\)"):
        cache(folder, action, "primer")
    assert files(folder) == before


def test_older_than_counts_from_the_last_use(folder: Path) -> None:
    old = unused_for(folder, 10.5, "density")
    used(folder, DENSITY, PATHS[:1])
    assert listed(cache(folder, "ls", "--older-than", "11")) == {}
    assert listed(cache(folder, "ls", "--older-than", "10")) == {"density": 2}
    assert listed(cache(folder, "clear", "--older-than", "10")) == {"density": 2}
    assert [path.exists() for path in old].count(True) == 1
    assert listed(cache(folder, "ls")) == {"density": 1, "imagenet": 2}
    with pytest.raises(UsageError, match="number of days"):
        cache(folder, "clear", "--older-than", "-1")


def test_what_is_not_the_caches_own_is_left_alone(folder: Path) -> None:
    [name] = [each.hash for each in cache(folder, "ls").folders if each.recipe == "density"]
    foreign = [
        folder / "cache" / "notes.txt",
        folder / "cache" / "thesis" / "00" / f"{'0' * 64}.npy",
        folder / "cache" / name / "00" / "mine.npy",
        folder / "cache" / name / "mine.txt",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    cache(folder, "clear")
    assert {*foreign} <= {*files(folder)} <= {*foreign, folder / "cache" / name / "recipe.json"}


def test_a_folder_whose_record_is_lost_can_be_cleared(folder: Path) -> None:
    for record in (folder / "cache").rglob("recipe.json"):
        record.write_text("{")
    assert {each.recipe for each in cache(folder, "ls").folders} == {"unknown"}
    assert [each.size for each in cache(folder, "ls").folders] == [None, None]
    cache(folder, "clear", "unknown")
    assert files(folder) == []


def test_no_cache_is_an_empty_one(tmp_path: Path) -> None:
    assert cache(tmp_path, "ls").folders == []
    assert cache(tmp_path, "clear").bytes == 0
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StoreError, match="cannot be read: Not a directory"):
        cache(tmp_path, "ls")


def test_the_users_own_cache_is_the_default(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMMOGRAPHY_CACHE", str(folder / "cache"))
    assert listed(Cache("ls").run()) == {"density": 3, "imagenet": 2}


def test_a_run_goes_on_when_its_cache_is_cleared(folder: Path) -> None:
    grays = used(folder, DENSITY, PATHS)
    before = [grays[position] for position in range(3)]
    cache(folder, "clear")
    for position in range(3):
        np.testing.assert_array_equal(grays[position], before[position], strict=True)
    [each] = cache(folder, "ls").folders
    assert (each.images, each.recipe) == (3, "unknown")
    used(folder, DENSITY, PATHS)
    assert listed(cache(folder, "ls")) == {"density": 3}
