"""Results folders: always a new one, and the old one found again."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mammography.errors import StoreError
from mammography.runs.results import new_results, resumable

ONE = {"seed": 42, "lr": 0.1, "images": "ab"}


def names(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir())


def test_every_run_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    parent = tmp_path / "deep" / "down"
    made = [new_results(parent, ONE | {"seed": seed}) for seed in (1, 2, 3)]
    assert [path.name for path in made] == ["results", "results_1", "results_2"]
    for seed, path in zip((1, 2, 3), made, strict=True):
        assert json.loads((path / "identity.json").read_text()) == ONE | {"seed": seed}


def test_what_is_there_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine.txt").write_text("mine")
    (tmp_path / "results_1").write_text("a file")
    assert new_results(tmp_path, ONE).name == "results_2"
    assert names(tmp_path / "results") == ["mine.txt"]
    assert (tmp_path / "results_1").read_text() == "a file"


def test_runs_that_begin_at_once_get_different_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda seed: new_results(tmp_path, {"seed": seed}), range(16)))
    assert len(set(made)) == 16
    for seed, path in enumerate(made):
        assert json.loads((path / "identity.json").read_text()) == {"seed": seed}


def test_a_run_is_found_by_all_that_decides_its_numbers(tmp_path: Path) -> None:
    first = new_results(tmp_path, ONE)
    other = new_results(tmp_path, ONE | {"seed": 43})
    assert resumable(tmp_path, ONE) == (first, ["results_1 differs in seed"])
    assert resumable(tmp_path, ONE | {"seed": 43}) == (other, ["results differs in seed"])
    assert resumable(tmp_path, ONE | {"more": True})[0] is None
    assert resumable(tmp_path, {"seed": 44, "lr": 0.2, "images": "ab"}) == (
        None, ["results differs in seed, lr", "results_1 differs in seed, lr"],
    )  # fmt: skip


def test_of_equal_runs_the_last_is_taken(tmp_path: Path) -> None:
    for _ in range(12):
        last = new_results(tmp_path, ONE)
    assert last.name == "results_11"
    assert resumable(tmp_path, ONE)[0] == last


def test_deleted_folders_hide_no_others(tmp_path: Path) -> None:
    made = [new_results(tmp_path, ONE | {"seed": seed}) for seed in (1, 2, 3)]
    shutil.rmtree(made[0])
    shutil.rmtree(made[1])
    assert resumable(tmp_path, ONE | {"seed": 3})[0] == made[2]
    assert new_results(tmp_path, ONE).name == "results"


def test_folders_that_say_not_what_they_are_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results_1").mkdir()
    (tmp_path / "results_1" / "identity.json").write_text("{half")
    (tmp_path / "results_old").mkdir()
    (tmp_path / "results_old" / "identity.json").write_text(json.dumps(ONE))
    assert resumable(tmp_path, ONE) == (
        None, ["results says not what it is of", "results_1 says not what it is of"],
    )  # fmt: skip
    assert resumable(tmp_path / "nothing", ONE) == (None, [])


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file cannot be written to: "):
        new_results(tmp_path / "file", ONE)
