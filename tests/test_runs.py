"""What a run leaves behind: whole files, a folder of its own, a log, a summary."""

from __future__ import annotations

import json
import logging
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from mammography import runs
from mammography.errors import NothingLeftError, StoreError
from mammography.runs import identity, provenance, run_folder, written_whole

log = logging.getLogger("mammography.tests")


@dataclass(frozen=True)
class Knead:
    """A command."""

    NAME: ClassVar[str] = "knead"

    dough: Path = Path("dough") / "rye"
    hands: tuple[int, ...] = (1, 2)
    minutes: float | None = None


def summary(folder: Path) -> dict[str, object]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


# Files.


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with written_whole(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    with pytest.raises(TypeError), written_whole(path) as temporary:
        temporary.write_bytes("no bytes")  # type: ignore[arg-type]
    assert path.read_text() == "whole"
    assert [child.name for child in path.parent.iterdir()] == ["file.txt"]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/inside.txt cannot be written: "):
        runs.write_text(tmp_path / "file" / "inside.txt", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="folder cannot be written: Is a directory"):
        runs.write_text(tmp_path / "folder", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_full_disk_is_one_message(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from mammography import runs\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "runs.write_text(Path(sys.argv[1]), 'x' * 2000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "big.txt")], capture_output=True, text=True
    )
    assert done.stderr.strip().endswith("big.txt cannot be written: File too large.")
    assert not list(tmp_path.iterdir())


def test_json_has_one_canonical_form_and_no_nan(tmp_path: Path) -> None:
    assert runs.canonical_json({"b": [1, 2.5], "a": "ç"}) == '{"a":"ç","b":[1,2.5]}'
    runs.write_json(tmp_path / "a.json", {"b": "ç", "a": None})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "b": "ç",\n  "a": null\n}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        runs.write_json(tmp_path / "a.json", float("nan"))
    assert "null" in (tmp_path / "a.json").read_text()


def test_hashes_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    published = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert runs.sha256_of_text("abc") == runs.sha256_of_file(tmp_path / "abc") == published


# Folders.


def test_a_run_leaves_log_and_summary(tmp_path: Path) -> None:
    folder = tmp_path / "some" / "run"
    with run_folder(folder, Knead(minutes=2.5)) as outcome:
        log.info("kneading")
        outcome.update(exit_code=1, loaves=3)
    log.info("after the run")
    said = summary(folder)
    assert said["command"] == "knead"
    assert said["config"] == {"dough": "dough/rye", "hands": [1, 2], "minutes": 2.5}
    assert (said["exit_code"], said["loaves"]) == (1, 3)
    assert said["working_directory"] == Path.cwd().as_posix()
    assert said["versions"]["numpy"]  # type: ignore[index]
    text = (folder / "run.log").read_text()
    assert "kneading" in text
    assert "after" not in text
    assert sorted(path.name for path in folder.iterdir()) == ["run.log", "summary.json"]


def test_the_log_grows_and_levels_are_given_back(tmp_path: Path) -> None:
    logger = logging.getLogger("mammography")
    before = logger.level, list(logger.handlers)
    for word in ("first", "second"):
        with run_folder(tmp_path, Knead()):
            log.info(word)
    assert (logger.level, list(logger.handlers)) == before
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["first", "second"]


def test_the_error_that_ends_a_run_is_in_log_and_summary(tmp_path: Path) -> None:
    with pytest.raises(NothingLeftError), run_folder(tmp_path, Knead()):
        raise NothingLeftError("no flour is left")
    assert (tmp_path / "run.log").read_text().endswith("ERROR   no flour is left\n")
    assert (summary(tmp_path)["exit_code"], summary(tmp_path)["error"]) == (2, "no flour is left")


def test_a_defect_leaves_its_traceback_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run_folder(tmp_path, Knead()):
        print(1 / 0)  # noqa: T201
    assert "ZeroDivisionError" in (tmp_path / "run.log").read_text()
    with pytest.raises(KeyboardInterrupt), run_folder(tmp_path, Knead()):
        raise KeyboardInterrupt
    assert (tmp_path / "run.log").read_text().endswith("ERROR   interrupted\n")


def test_a_failed_run_does_not_replace_the_summary_of_a_good_one(tmp_path: Path) -> None:
    with run_folder(tmp_path, Knead()) as outcome:
        outcome["exit_code"] = 0
    good = (tmp_path / "summary.json").read_bytes()
    for error in (NothingLeftError("gone"), StoreError("another run's")):
        with pytest.raises(type(error)), run_folder(tmp_path, Knead(minutes=9.0)):
            raise error
        assert (tmp_path / "summary.json").read_bytes() == good
        assert str(error) in (tmp_path / "run.log").read_text()


def test_a_refused_folder_gets_no_summary(tmp_path: Path) -> None:
    with pytest.raises(StoreError), run_folder(tmp_path, Knead()):
        raise StoreError("another run's")
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"command": "bake"}', r"holds a run of bake; choose another --outdir for knead\."),
        ("not JSON", r"summary\.json is no summary of ours"),
    ],
)
def test_the_folder_of_another_command_is_refused(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(StoreError, match=message), run_folder(tmp_path, Knead()):
        raise AssertionError("the run began")
    assert (tmp_path / "summary.json").read_text() == content


def test_folders_that_cannot_be_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(StoreError, match="cannot be written to"), run_folder(folder, Knead()):
            raise AssertionError("the run began")


def test_one_folder_is_for_one_process_and_a_dead_one_does_not_count(tmp_path: Path) -> None:
    holder = (
        "import sys; from pathlib import Path; from mammography.runs import run_folder\n"
        "from types import SimpleNamespace\n"
        "with run_folder(Path(sys.argv[1]), SimpleNamespace(NAME='knead')):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    in_use = pytest.raises(StoreError, match="Another process is at work in")
    with in_use, run_folder(tmp_path, Knead()):
        raise AssertionError("the run began")
    assert not (tmp_path / "summary.json").exists()
    process.kill()
    process.communicate()
    with run_folder(tmp_path, Knead()):
        log.info("mine now")
    assert "mine now" in (tmp_path / "run.log").read_text()


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "preview").mkdir()
    theirs = [tmp_path / ".notes.part", tmp_path / "preview" / "x.12.part"]
    halves = [tmp_path / ".features.npy.4711.part", tmp_path / "preview/.pca_projection.png.1.part"]
    for path in theirs + halves:
        path.touch()
    with run_folder(tmp_path, Knead()):
        pass
    assert all(path.exists() for path in theirs)
    assert not any(path.exists() for path in halves)


# Provenance.


def _git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_commit_is_the_packages_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "venv" / "provenance.py"
    module.parent.mkdir()
    module.write_text("# a copy in somebody's repository\n")
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert provenance.git_commit() is None  # no repository
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "theirs")
    assert provenance.git_commit() is None  # a repository that does not track it
    _git(tmp_path, "add", "venv")
    _git(tmp_path, "commit", "--quiet", "-m", "ours")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    assert provenance.git_commit() == commit
    module.write_text("# changed\n")
    assert provenance.git_commit() == f"{commit}-dirty"
    monkeypatch.setenv("PATH", "")
    assert provenance.git_commit() is None  # no git


def test_versions_are_those_of_the_distributions() -> None:
    import numpy

    assert runs.versions()["numpy"] == numpy.__version__
    assert runs.versions()["python"].startswith(f"{sys.version_info.major}.")


# Identity.


def test_pseudonyms_are_stable_and_depend_on_the_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMMOGRAPHY_SALT", "one")
    first = runs.pseudonym("MRN-4711")
    assert runs.pseudonym("MRN-4711") == first
    assert runs.pseudonym("MRN-4712") != first
    assert len(first) == 16
    assert int(first, 16) >= 0
    monkeypatch.setenv("MAMMOGRAPHY_SALT", "two")
    assert runs.pseudonym("MRN-4711") != first


def test_the_users_salt_is_made_once_and_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MAMMOGRAPHY_SALT")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    first = runs.pseudonym("MRN-4711")
    path = tmp_path / "mammography" / "salt"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text()) == 64
    assert runs.pseudonym("MRN-4711") == first
    path.write_text("another")
    assert runs.pseudonym("MRN-4711") != first
    assert [child.name for child in path.parent.iterdir()] == ["salt"]


def test_a_salt_that_cannot_be_kept_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MAMMOGRAPHY_SALT")
    (tmp_path / "mammography").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(StoreError, match="MAMMOGRAPHY_SALT"):
        identity.pseudonym("MRN-4711")
