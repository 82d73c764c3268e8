"""The cache of grays: exact in every mode, whole whatever happens to the processes that fill it."""

from __future__ import annotations

import logging
import os
import pickle
import resource
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mammography.dicom.phantom.files import write_dicom
from mammography.errors import ImageRejected, MammographyError, PluginError, StoreError, UsageError
from mammography.preprocess.cache import default_cache_dir, prepare_images
from mammography.preprocess.cache_entries import STALE, folder_for
from mammography.preprocess.grays import Grays
from mammography.preprocess.grays_levels import WHITE, identity, levels, read_levels
from mammography.preprocess.recipes.imagenet import Imagenet
from mammography.vocabulary import RejectCode

RECIPE = Imagenet(size=(64, 48))
MAX_PIXELS = 100_000
MODES = ("none", "memory", "disk")


def write(path: Path, seed: int, shape: tuple[int, int] = (90, 70)) -> None:
    pixels = np.random.default_rng(seed).integers(0, 4096, shape).astype(np.uint16)
    write_dicom(path, pixels, BitsStored=12)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Nine good images, and three files that are none."""
    root = tmp_path / "archive"
    for number in range(9):
        write(root / f"{number}.dcm", number)
    write(root / "large.dcm", 0, (400, 400))
    (root / "noise.dcm").write_bytes(b"noise" * 100)
    return root


GOOD = [f"{number}.dcm" for number in range(9)]
PATHS = ["noise.dcm", *GOOD[:4], "absent.dcm", *GOOD[4:], "large.dcm"]


def prepared(root: Path, mode: Any = "disk", **options: Any) -> tuple[Grays, dict, list]:
    """`prepare_images`, and what it told of its progress."""
    told: list[tuple[int, int]] = []
    settings = {"paths": PATHS, "recipe": RECIPE, "workers": 1, "max_pixels": MAX_PIXELS} | options
    grays, rejected = prepare_images(
        root,
        mode=mode,
        cache_dir=root.parent / "cache",
        progress=lambda images, rejects: told.append((images, rejects)),
        **settings,
    )
    return grays, rejected, told


def expected(path: Path, recipe: Imagenet = RECIPE) -> np.ndarray:
    """The definition, in fractions."""
    gray = recipe.gray(recipe.read(path))
    whole = [int(Fraction(float(value)) * 65535 + Fraction(1, 2)) for value in gray.ravel()]
    return np.array(whole, np.uint16).reshape(recipe.size)


def cached(root: Path, name: str, recipe: Imagenet = RECIPE) -> Path:
    """The file that holds an image's gray."""
    folder, _ = folder_for(root.parent / "cache", recipe, MAX_PIXELS)
    key = identity(root / name)
    assert key is not None
    return folder.file(key)


def parts(root: Path) -> list[Path]:
    return list((root.parent / "cache").rglob("*.part"))


# The values.


@given(st.floats(0, 1, width=32))
@example(0.0)
@example(0.5)
@example(1.0)
def test_levels_are_the_nearest_integers_halves_up(gray: float) -> None:
    [[value]] = levels(np.array([[gray]], np.float32))
    assert value == int(Fraction(gray) * WHITE + Fraction(1, 2))


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same_images_the_same_values_and_verdicts(
    archive: Path, mode: str
) -> None:
    for _ in range(2):  # the second time the cache is full
        grays, rejected, told = prepared(archive, mode)
        assert len(grays) == len(GOOD)
        for position, name in enumerate(GOOD):
            gray = grays[position]
            assert not gray.flags.writeable
            np.testing.assert_array_equal(gray, expected(archive / name), strict=True)
        np.testing.assert_array_equal(grays[-1], grays[8])
        with pytest.raises(IndexError):
            grays[9]
        assert {path: verdict.code for path, verdict in rejected.items()} == {
            "noise.dcm": RejectCode.DAMAGED_HEADER,
            "absent.dcm": RejectCode.MISSING_FILE,
            "large.dcm": RejectCode.TOO_LARGE,
        }
        assert list(rejected) == ["noise.dcm", "absent.dcm", "large.dcm"]
        assert [sum(count) for count in zip(*told, strict=True)] == [12, 3]


def test_nothing_usable_is_no_gray(archive: Path) -> None:
    for mode in MODES:
        grays, rejected, _ = prepared(archive, mode, paths=["noise.dcm"])
        assert len(grays) == 0
        assert list(rejected) == ["noise.dcm"]
        assert len(prepared(archive, mode, paths=[])[0]) == 0


def test_only_accepted_images_are_cached_and_others_can_read_them(archive: Path) -> None:
    grays, _, _ = prepared(archive)
    files = sorted((archive.parent / "cache").rglob("*.npy"))
    assert files == sorted(cached(archive, name) for name in GOOD)
    np.testing.assert_array_equal(np.load(cached(archive, "3.dcm")), grays[3], strict=True)
    mapped = np.load(cached(archive, "3.dcm"), mmap_mode="r")
    np.testing.assert_array_equal(mapped, grays[3], strict=True)


def test_grays_travel_to_other_processes(archive: Path) -> None:
    for mode in MODES:
        grays, _, _ = prepared(archive, mode)
        again = pickle.loads(pickle.dumps(grays))  # noqa: S301
        np.testing.assert_array_equal(again[5], grays[5])


# When an entry is used.


def rewritten_in_secret(path: Path, seed: int) -> None:
    """Other pixels in a file whose size and time stay."""
    before = path.stat()
    write(path, seed)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_full_cache_is_read_and_nothing_decoded(archive: Path) -> None:
    first, _, _ = prepared(archive, paths=GOOD)
    for name in GOOD:
        rewritten_in_secret(archive / name, seed=100)
    second, _, told = prepared(archive, paths=GOOD)
    assert all((first[i] == second[i]).all() for i in range(9))
    assert told == [(9, 0)]


def test_a_file_that_changes_is_decoded_again(archive: Path) -> None:
    prepared(archive)
    time_before = (archive / "3.dcm").stat().st_mtime_ns
    write(archive / "3.dcm", seed=100)
    os.utime(archive / "3.dcm", ns=(time_before, time_before + 1))  # the same size, 1 ns later
    write(archive / "4.dcm", seed=101, shape=(91, 70))
    grays, _, told = prepared(archive)
    for position, name in enumerate(GOOD):
        np.testing.assert_array_equal(grays[position], expected(archive / name))
    assert told[0] == (7, 0)


def test_a_file_is_the_same_by_whatever_way_it_is_reached(archive: Path) -> None:
    prepared(archive, paths=GOOD)
    (archive.parent / "link").symlink_to(archive)
    (archive / "other.dcm").symlink_to("3.dcm")
    paths = [*(f"../link/{name}" for name in GOOD), "other.dcm"]
    assert prepared(archive, paths=paths)[2] == [(10, 0)]


def test_encoders_that_expect_another_mean_share_the_cache(archive: Path) -> None:
    prepared(archive, paths=GOOD)
    other = RECIPE.with_options(mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))
    assert other.hash != RECIPE.hash
    assert prepared(archive, paths=GOOD, recipe=other)[2] == [(9, 0)]


class _Next(Imagenet):
    VERSION = Imagenet.VERSION + 1


@pytest.mark.parametrize(
    "other",
    [
        replace(RECIPE, size=(48, 64)),
        replace(RECIPE, frame="max"),
        replace(RECIPE, reduced_decode="half"),
        replace(RECIPE, resize="crop"),
        replace(RECIPE, tail=0.01),
        replace(RECIPE, voi="window"),
        replace(RECIPE, voi_index=1),
        _Next(size=(64, 48)),
    ],
    ids=repr,
)
def test_every_setting_that_shapes_the_gray_has_a_folder_of_its_own(
    other: Imagenet, tmp_path: Path
) -> None:
    ours, _ = folder_for(tmp_path, RECIPE, MAX_PIXELS)
    assert folder_for(tmp_path, other, MAX_PIXELS)[0].path != ours.path


def test_a_smaller_limit_refuses_what_a_larger_one_has_cached(archive: Path) -> None:
    assert list(prepared(archive, max_pixels=1_000_000, paths=["large.dcm"])[1]) == []
    assert list(prepared(archive, max_pixels=MAX_PIXELS, paths=["large.dcm"])[1]) == ["large.dcm"]


def test_other_decoders_have_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, record = folder_for(tmp_path, RECIPE, MAX_PIXELS)
    assert {"mammography", "pydicom", "imagecodecs"} <= record["versions"].keys()
    newer = {**record["versions"], "imagecodecs": "2100.1.1", "torch": "1.0"}
    monkeypatch.setattr("mammography.preprocess.cache_entries.versions", lambda: newer)
    other, record = folder_for(tmp_path, RECIPE, MAX_PIXELS)
    assert ours.path != other.path
    assert "torch" not in record["versions"]  # it decodes nothing


# Damage.


def cut(path: Path) -> None:
    os.truncate(path, 1000)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def lengthened(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"more")


def foreign(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def of_another_shape(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(64, 48)", b"(48, 64)"))


def a_bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3000] ^= 4
    path.write_bytes(content)


def zeros(path: Path) -> None:
    """What some file systems make of a file that was renamed just before power failed."""
    path.write_bytes(bytes(path.stat().st_size))


DAMAGE = [cut, emptied, lengthened, foreign, of_another_shape, a_bit_flipped, zeros]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_damaged_entry_is_made_again_with_a_warning(
    archive: Path, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the files are gone through, or after that, while training reads."""
    grays, _, _ = prepared(archive, paths=GOOD)
    harmed = dict(zip(GOOD, DAMAGE, strict=False))
    for name, damage in harmed.items():
        damage(cached(archive, name))
    if when == "before":
        grays, rejected, _ = prepared(archive, paths=GOOD)
        assert not rejected
    for _ in range(2):
        for position, name in enumerate(GOOD):
            np.testing.assert_array_equal(grays[position], expected(archive / name), strict=True)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert sorted(warnings) == sorted(
        f"{cached(archive, name)} is damaged; it is made again." for name in harmed
    )


def test_an_entry_that_was_removed_is_made_again(
    archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grays, _, _ = prepared(archive)
    before = grays[3]
    cached(archive, "3.dcm").unlink()
    cached(archive, "3.dcm").parent.rmdir()
    np.testing.assert_array_equal(grays[3], before, strict=True)
    assert "has been removed; it is made again" in caplog.text
    assert cached(archive, "3.dcm").is_file()


@pytest.mark.parametrize("mode", ["none", "disk"])
def test_a_file_that_changes_after_it_was_gone_through_ends_the_run(
    archive: Path, mode: str
) -> None:
    grays, _, _ = prepared(archive, mode)
    entry = cached(archive, "3.dcm")
    write(archive / "3.dcm", seed=100)
    (archive / "4.dcm").unlink()
    if mode == "disk":
        np.testing.assert_array_equal(grays[3], np.load(entry))  # what this run began with
        entry.unlink()
        for folder in (archive.parent / "cache").glob("*/??"):
            for path in folder.iterdir():
                path.unlink()
    with pytest.raises(MammographyError, match=r"3\.dcm has changed since this run began"):
        grays[3]
    with pytest.raises(MammographyError, match=r"4\.dcm could be read .*: the file cannot be"):
        grays[4]


@dataclass(frozen=True)
class Touching(Imagenet):
    """Somebody writes to the file while its gray is made."""

    path: ClassVar[Path]

    def gray(self, image: Any) -> Any:
        gray = super().gray(image)
        with self.path.open("ab") as stream:
            stream.write(b"more")
        return gray


def test_a_file_that_changes_while_it_is_read_is_rejected(archive: Path) -> None:
    Touching.path = archive / "3.dcm"
    read_levels(Touching(), MAX_PIXELS, archive / "2.dcm")
    with pytest.raises(ImageRejected, match="changed while it was being read"):
        read_levels(Touching(), MAX_PIXELS, archive / "3.dcm")


@dataclass(frozen=True)
class Wild(Imagenet):
    """A plugin that breaks the promise of `Recipe.gray`."""

    made: ClassVar[np.ndarray]

    def gray(self, image: Any) -> Any:
        return self.made


@pytest.mark.parametrize(
    "made",
    [
        np.full((2, 2), 1.001, np.float32),
        np.full((2, 2), -0.001, np.float32),
        np.full((2, 2), np.nan, np.float32),
        np.zeros((2, 3), np.float32),
    ],
)
def test_a_recipe_that_breaks_its_promise_is_named(archive: Path, made: np.ndarray) -> None:
    Wild.made = made
    with pytest.raises(PluginError, match=r"recipe imagenet made of .*0\.dcm an array \(2, \d\)"):
        read_levels(Wild(size=(2, 2)), MAX_PIXELS, archive / "0.dcm")


# Many processes, some of which die.

FILL = """
import pickle, sys
from pathlib import Path
from mammography.preprocess.cache import prepare_images
root, paths, recipe, max_pixels = pickle.loads(bytes.fromhex(sys.argv[1]))
grays, rejected = prepare_images(
    root, paths, recipe, "disk", root.parent / "cache", workers=2, max_pixels=max_pixels,
    progress=lambda *_: None,
)
sys.stdout.buffer.write(b"".join(grays[i].tobytes() for i in range(len(grays))))
"""


def filling(root: Path, code: str = FILL) -> subprocess.Popen[bytes]:
    task = pickle.dumps((root, PATHS, RECIPE, MAX_PIXELS)).hex()
    return subprocess.Popen(
        [sys.executable, "-c", code, task], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_two_processes_fill_one_cache_at_once(archive: Path) -> None:
    together = [filling(archive) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in together]
    whole = b"".join(expected(archive / name).tobytes() for name in GOOD)
    assert [output for output, _ in outputs] == [whole, whole]
    assert len(list((archive.parent / "cache").rglob("*.npy"))) == len(GOOD)
    assert parts(archive) == []


DIE_WRITING = """
import pickle, resource, signal, sys
from mammography.preprocess.cache_entries import folder_for
from mammography.preprocess.grays_levels import read_levels
root, paths, recipe, max_pixels = pickle.loads(bytes.fromhex(sys.argv[1]))
folder, record = folder_for(root.parent / "cache", recipe, max_pixels)
folder.open(record)
key, gray = read_levels(recipe, max_pixels, root / "3.dcm")
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # kills at the 4001st byte of a file
folder.write(key, gray)
"""


def test_a_process_killed_while_it_writes_leaves_nothing_to_be_seen(
    archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = filling(archive, DIE_WRITING)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGXFSZ
    [left] = parts(archive)
    assert left.stat().st_size == 4000
    assert not cached(archive, "3.dcm").exists()
    grays, _, _ = prepared(archive)
    np.testing.assert_array_equal(grays[3], expected(archive / "3.dcm"))
    assert not caplog.records or "damaged" not in caplog.text
    assert parts(archive) == [left]  # somebody may still be writing it
    os.utime(left, (0, time.time() - STALE - 10))
    prepared(archive)
    assert parts(archive) == []


def test_killed_in_the_middle_every_entry_is_whole(archive: Path) -> None:
    process = filling(archive)
    while not list((archive.parent / "cache").rglob("*.npy")) and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.communicate(timeout=60)
    folder, _ = folder_for(archive.parent / "cache", RECIPE, MAX_PIXELS)
    made = 0
    for name in GOOD:
        entry = cached(archive, name)
        if entry.exists():
            made += 1
            np.testing.assert_array_equal(folder.read(entry.stem), expected(archive / name))
    assert made
    grays, _, _ = prepared(archive)
    np.testing.assert_array_equal(grays[8], expected(archive / "8.dcm"))


FULL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"


def test_a_full_disk_is_one_clear_error(archive: Path) -> None:
    """No file may grow beyond 4,000 bytes; a gray takes 6,276."""
    process = filling(archive, FULL_DISK + FILL)
    _, complaint = process.communicate(timeout=60)
    last = complaint.decode().splitlines()[-1]
    assert last.startswith("mammography.errors.StoreError: ")
    assert "cannot be written: File too large. Make room (mammography cache clear)" in last
    assert parts(archive) == []
    assert not list((archive.parent / "cache").rglob("*.npy"))


def test_a_cache_that_cannot_be_is_one_clear_error(archive: Path) -> None:
    (archive.parent / "cache").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot be written: .* --cache-mode none"):
        prepared(archive)


def test_an_entry_that_cannot_be_read_is_one_clear_error(archive: Path) -> None:
    grays, _, _ = prepared(archive)
    cached(archive, "3.dcm").unlink()
    cached(archive, "3.dcm").mkdir()
    for read in (lambda: grays[3], lambda: prepared(archive)):
        with pytest.raises(StoreError, match=r"\.npy in the cache cannot be read: Is a directory"):
            read()


# What it costs, and who may see it.


def test_grays_on_disk_hold_neither_arrays_nor_open_files(archive: Path) -> None:
    grays, _, _ = prepared(archive, paths=GOOD * 40)
    assert len(grays) == 360
    assert len(pickle.dumps(grays)) < 360 * 300
    _, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 30, hard)
        )
        held = [grays[position] for position in range(360)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(held) == 360


def test_grays_that_cannot_fit_into_memory_are_refused_before_work(archive: Path) -> None:
    huge = Imagenet(size=(1 << 20, 1 << 20))
    with pytest.raises(UsageError, match=r"9 images of .* take 19791\.2 GB.*--cache-mode disk"):
        prepared(archive, "memory", paths=GOOD, recipe=huge)


def test_only_the_user_may_look(archive: Path) -> None:
    before = os.umask(0)
    try:
        prepared(archive)
    finally:
        os.umask(before)
    cache = archive.parent / "cache"
    for path in [cache, *cache.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAMMOGRAPHY_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache/mammography"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_cache_dir() == Path("/xdg/mammography")
    monkeypatch.setenv("MAMMOGRAPHY_CACHE", "~/mine")
    assert default_cache_dir() == tmp_path / "mine"


def test_without_a_folder_the_default_one_is_filled(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAMMOGRAPHY_CACHE", str(archive.parent / "mine"))
    options: Any = {"workers": 1, "max_pixels": MAX_PIXELS, "progress": lambda *_: None}
    prepare_images(archive, GOOD, RECIPE, "disk", None, **options)
    assert len(list((archive.parent / "mine").rglob("*.npy"))) == len(GOOD)
