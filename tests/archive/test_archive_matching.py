"""Which files an identifier names."""

from __future__ import annotations

import random
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammography.archive.matching import ArchiveFile, By, NearMisses, match

FILES = [
    ArchiveFile("0001/a.dcm", "0001", "1.2.3"),
    ArchiveFile("0001/deep/b.dcm", "0001", "1.2.4"),
    ArchiveFile("flat/c.dcm", "0002", "1.2.5"),
    ArchiveFile("flat/c.png", None, None),
    ArchiveFile("flat/extensionless", "0003", "1.2.6"),
    ArchiveFile("other/a.dcm", None, "1.2.4"),
    ArchiveFile("root.dcm", "0002", None),
]
ROOT = Path("/data/archive")


def one(by: By, identifier: str, files: list[ArchiveFile] = FILES, root: Path = ROOT) -> list[str]:
    return match(by, [identifier], files, root)[identifier]


def test_an_exam_has_all_files_below_its_folder_at_any_depth() -> None:
    assert one(By.EXAM, "0001") == ["0001/a.dcm", "0001/deep/b.dcm"]
    nested = [ArchiveFile("site/0001/x/y.dcm"), ArchiveFile("0001.dcm")]
    assert one(By.EXAM, "0001", nested) == ["site/0001/x/y.dcm"]


def test_an_exam_without_folder_is_found_by_accession_number() -> None:
    assert one(By.EXAM, "0002") == ["flat/c.dcm", "root.dcm"]


def test_the_folder_wins_over_the_header_and_the_nearest_folder_over_others() -> None:
    files = [ArchiveFile("A/B/x.dcm", "C"), ArchiveFile("A/y.dcm", "B")]
    assert match(By.EXAM, ["A", "B", "C"], files, ROOT) == {
        "A": ["A/y.dcm"],
        "B": ["A/B/x.dcm"],
        "C": [],
    }


@pytest.mark.parametrize("identifier", ["1", "01", "00001", "0001.0", "0001/", "0001 x", ".", ".."])
def test_identifiers_are_never_numbers(identifier: str) -> None:
    assert one(By.EXAM, identifier) == []


def test_an_identifier_is_never_joined_to_a_path(tmp_path: Path) -> None:
    (tmp_path / "secret.dcm").touch()
    (tmp_path / "archive").mkdir()
    files = [ArchiveFile("a.dcm")]
    for by in By:
        for identifier in ("../../x", "../secret.dcm", "../secret", "/", f"{tmp_path}/secret.dcm"):
            assert one(by, identifier, files, tmp_path / "archive") == []


@pytest.mark.parametrize(
    "spelling",
    [
        "0001/deep/b.dcm",
        "0001/deep/b",
        "./0001/deep/b.dcm",
        "0001\\deep\\b.dcm",
        ".\\0001\\deep\\b",
        "/data/archive/0001/deep/b.dcm",
        "/data/archive/0001/deep/b",
        "archive/0001/deep/b.dcm",
    ],
)
def test_a_path_may_be_spelled_in_many_ways(spelling: str) -> None:
    assert one(By.PATH, spelling) == ["0001/deep/b.dcm"]


def test_absolute_paths_work_below_a_root_that_is_relative_or_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    files = [ArchiveFile("x/a.dcm")]
    for root in (Path("link"), tmp_path / "link", Path("real"), Path("./real")):
        assert one(By.PATH, f"{tmp_path.resolve()}/real/x/a.dcm", files, root) == ["x/a.dcm"]
    monkeypatch.chdir("real")
    assert one(By.PATH, f"{Path.cwd()}/x/a.dcm", files, Path()) == ["x/a.dcm"]
    assert one(By.PATH, "/x/a.dcm", files, Path()) == []


def test_a_path_is_no_file_name_and_the_other_way_round() -> None:
    assert one(By.PATH, "b.dcm") == []
    assert one(By.NAME, "0001/deep/b.dcm") == []
    assert one(By.PATH, "missing/a.dcm") == []


def test_a_file_name_with_or_without_ending() -> None:
    assert one(By.NAME, "b.dcm") == one(By.NAME, "b") == ["0001/deep/b.dcm"]
    assert one(By.NAME, "extensionless.dcm") == ["flat/extensionless"]
    assert one(By.NAME, "c.png") == ["flat/c.png"]
    assert one(By.NAME, "b.png") == []


def test_a_shared_name_gives_every_file_that_has_it() -> None:
    assert one(By.NAME, "a") == ["0001/a.dcm", "other/a.dcm"]
    assert one(By.NAME, "c") == ["flat/c.dcm", "flat/c.png"]
    assert one(By.PATH, "flat/c") == ["flat/c.dcm", "flat/c.png"]


def test_the_last_number_of_a_uid_is_no_ending() -> None:
    files = [ArchiveFile("1.2.840.7"), ArchiveFile("1.2.840.8.dcm")]
    assert one(By.NAME, "1.2.840.7", files) == ["1.2.840.7"]
    assert one(By.NAME, "1.2.840.8", files) == ["1.2.840.8.dcm"]
    assert one(By.NAME, "1.2.840", files) == []


def test_sop_instance_uids_are_those_of_the_headers() -> None:
    assert one(By.UID, "1.2.3") == ["0001/a.dcm"]
    assert one(By.UID, "1.2.4") == ["0001/deep/b.dcm", "other/a.dcm"]
    assert one(By.UID, "1.2.99") == []


def test_composed_and_decomposed_accents_are_the_same_name() -> None:
    files = [ArchiveFile(normalize("NFD", "exame-é/joão.dcm"))]
    assert one(By.EXAM, "exame-é", files) == [files[0].path]
    assert one(By.NAME, "joão", files) == [files[0].path]
    assert one(By.PATH, "exame-é/joão.dcm", files) == [files[0].path]


@given(st.permutations(FILES), st.sampled_from(list(By)))
def test_the_order_of_the_files_does_not_change_who_is_named(
    files: list[ArchiveFile], by: By
) -> None:
    ids = ["0001", "0002", "0003", "a", "c", "flat/c", "1.2.4", "root.dcm", "nothing"]
    random.Random(0).shuffle(ids)
    expected = match(by, ids, FILES, ROOT)
    assert {key: sorted(paths) for key, paths in match(by, ids, files, ROOT).items()} == expected


@pytest.mark.parametrize(
    ("identifier", "words"),
    [
        ("1", "'0001' is: has the table lost its leading zeros?"),
        ("0001.0", "'0001' is: has the table been saved with numbers"),
        ("00001", "'0001' is: identifiers are compared letter by letter"),
        ("FLAT", "'flat' is: identifiers are compared letter by letter"),
        ("1.23457E+12", "a spreadsheet has shortened it"),
        ("1,2E+15", "a spreadsheet has shortened it"),
    ],
)
def test_near_misses_are_named_and_not_taken(identifier: str, words: str) -> None:
    assert words in NearMisses(By.EXAM, FILES).hint(identifier)
    assert one(By.EXAM, identifier) == []


def test_there_is_no_hint_where_nothing_is_near() -> None:
    for by in By:
        for identifier in ("zzz", "0000", "77.0"):
            assert NearMisses(by, FILES).hint(identifier) == ""


def test_near_misses_of_images() -> None:
    assert "'0001/a.dcm' is" in NearMisses(By.PATH, FILES).hint("0001/A.dcm")
    assert "'c' is" in NearMisses(By.NAME, FILES).hint("00c")
