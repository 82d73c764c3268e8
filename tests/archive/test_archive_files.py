"""Finding files by content, whatever lies in an archive's folders."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mammography.archive.files import FoundFile, discover, read_facts, sniff
from mammography.archive.images import read_image
from mammography.dicom.phantom.files import write_dicom
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

PIXELS = np.arange(20, dtype=np.uint16).reshape(4, 5)


def codes(root: Path, **options: object) -> dict[str, RejectCode]:
    return {str(row["path"]): row["code"] for row in discover(root, **options).rejects}


def paths(root: Path, **options: object) -> list[str]:
    return [file.path for file in discover(root, **options).files]


def test_files_are_found_by_content_in_the_order_of_their_paths(tmp_path: Path) -> None:
    write_dicom(tmp_path / "b" / "IM000001", PIXELS)
    write_dicom(tmp_path / "b" / "1.2.840.113619.2", PIXELS)
    write_dicom(tmp_path / "B" / "x.dcm", PIXELS, syntax="rle")
    write_dicom(tmp_path / "picture.txt", PIXELS)
    image = Image.fromarray(PIXELS)
    for name, kind in (("a.png", "PNG"), ("c.tif", "TIFF"), ("d.dcm", "PNG"), ("e", "TIFF")):
        image.save(tmp_path / name, kind)
    Image.fromarray(PIXELS.astype(np.uint8)).save(tmp_path / "f.JPG", "JPEG")
    (tmp_path / "g.pgm").write_bytes(b"P5 2 1 255\n\1\2")
    found = discover(tmp_path)
    assert [(file.path, file.image_id) for file in found.files] == [
        ("B/x.dcm", "B/x"),
        ("a.png", "a"),
        ("b/1.2.840.113619.2", "b/1.2.840.113619.2"),
        ("b/IM000001", "b/IM000001"),
        ("c.tif", "c"),
        ("d.dcm", "d"),
        ("e", "e"),
        ("f.JPG", "f"),
        ("g.pgm", "g"),
        ("picture.txt", "picture.txt"),
    ]
    assert found.rejects == []
    kinds = [sniff(tmp_path / file.path) for file in found.files]
    assert kinds == [
        *("DICOM", "PNG", "DICOM", "DICOM", "TIFF", "PNG", "TIFF", "JPEG", "PGM", "DICOM"),
    ]
    assert all(read_facts(tmp_path / file.path).rows in (1, 4) for file in found.files)


def test_two_files_of_one_name_keep_their_endings(tmp_path: Path) -> None:
    write_dicom(tmp_path / "L_CC.dcm", PIXELS)
    Image.fromarray(PIXELS).save(tmp_path / "L_CC.png")
    write_dicom(tmp_path / "R_CC.dcm", PIXELS)
    assert discover(tmp_path).files == [
        FoundFile("L_CC.dcm", "L_CC.dcm"),
        FoundFile("L_CC.png", "L_CC.png"),
        FoundFile("R_CC.dcm", "R_CC"),
    ]


def test_everything_else_has_a_reason(tmp_path: Path) -> None:
    for name, content in (
        ("notes.txt", b"some words"),
        (".DS_Store", b"\0\0\0\1Bud1"),
        ("README", b"Data of 2019.\nDo not copy.\n"),
        ("page.dcm", b"<html>404 Not Found</html>"),
        ("empty.dcm", b""),
        ("empty", b""),
        ("noise.png", bytes(range(7, 200))),
        ("noise", bytes(range(7, 200))),
        ("P2P network", b"P2P networks are"),
    ):
        (tmp_path / name).write_bytes(content)
    assert codes(tmp_path) == {
        ".DS_Store": RejectCode.FOREIGN_FILE,
        "P2P network": RejectCode.FOREIGN_FILE,
        "README": RejectCode.FOREIGN_FILE,
        "empty": RejectCode.DAMAGED_HEADER,
        "empty.dcm": RejectCode.DAMAGED_HEADER,
        "noise": RejectCode.DAMAGED_HEADER,
        "noise.png": RejectCode.DAMAGED_HEADER,
        "notes.txt": RejectCode.FOREIGN_FILE,
        "page.dcm": RejectCode.DAMAGED_HEADER,
    }
    assert paths(tmp_path) == []


def test_a_preamble_may_pose_as_tiff(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", PIXELS)
    data = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(b"II*\0" + data[4:])
    assert sniff(tmp_path / "a.dcm") == "DICOM"
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").pixels, PIXELS)


@pytest.fixture
def in_time() -> Iterator[None]:
    """Fails a test that would wait for the other end of a pipe."""
    timer = threading.Timer(20, os.abort)
    timer.start()
    yield
    timer.cancel()


@pytest.mark.usefixtures("in_time")
def test_pipes_sockets_devices_and_folders_are_no_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "device.dcm").symlink_to("/dev/zero")
    (tmp_path / "folder.dcm").mkdir()
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.dcm")
        assert codes(tmp_path) == {
            "device.dcm": RejectCode.FOREIGN_FILE,
            "pipe.dcm": RejectCode.FOREIGN_FILE,
            "socket.dcm": RejectCode.FOREIGN_FILE,
        }
    for name in ("pipe.dcm", "device.dcm", "folder.dcm", "socket.dcm"):
        for read in (sniff, read_facts, read_image):
            with pytest.raises(ImageRejected):
                read(tmp_path / name)


def test_links_are_followed_once_and_dangling_ones_told(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    write_dicom(root / "exam" / "a.dcm", PIXELS)
    write_dicom(tmp_path / "elsewhere" / "b.dcm", PIXELS)
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(tmp_path / "elsewhere")
    (root / "exam" / "up").symlink_to(root)
    (root / "file.dcm").symlink_to(tmp_path / "elsewhere" / "b.dcm")
    (root / "gone.dcm").symlink_to(tmp_path / "nowhere")
    (root / "round.dcm").symlink_to(root / "round.dcm")
    assert paths(root) == ["again/b.dcm", "exam/a.dcm", "file.dcm"]
    assert paths(root, exclude=[tmp_path / "nothing"]) == ["again/b.dcm", "exam/a.dcm", "file.dcm"]
    assert codes(root) == {
        "gone.dcm": RejectCode.MISSING_FILE,
        "round.dcm": RejectCode.DAMAGED_HEADER,
    }


def test_excluded_files_and_folders_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.dcm", "b.dcm", "out/c.dcm", "out/deep/d.dcm", "outside/e.dcm"):
        write_dicom(tmp_path / name, PIXELS)
    assert paths(tmp_path, exclude=[tmp_path / "out", tmp_path / "b.dcm"]) == [
        "a.dcm",
        "outside/e.dcm",
    ]
    monkeypatch.chdir(tmp_path)
    assert paths(Path(), exclude=[Path("out"), Path("outside/../b.dcm")]) == [
        "a.dcm",
        "outside/e.dcm",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", PIXELS)
    write_dicom(tmp_path / "closed" / "b.dcm", PIXELS)
    (tmp_path / "a.dcm").chmod(0)
    (tmp_path / "closed").chmod(0)
    try:
        assert codes(tmp_path) == {
            "a.dcm": RejectCode.DAMAGED_HEADER,
            "closed": RejectCode.MISSING_FILE,
        }
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_folder_that_cannot_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dicom(tmp_path / "open" / "a.dcm", PIXELS)
    write_dicom(tmp_path / "closed" / "b.dcm", PIXELS)
    scandir = os.scandir

    def refuse(folder: str) -> object:
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = discover(tmp_path)
    assert [file.path for file in found.files] == ["open/a.dcm"]
    (row,) = found.rejects
    assert row == {
        "path": "closed",
        "code": RejectCode.MISSING_FILE,
        "reason": "the folder cannot be listed: Permission denied",
    }


def test_a_file_that_vanishes_is_missing(tmp_path: Path) -> None:
    for read in (sniff, read_facts, read_image):
        with pytest.raises(ImageRejected) as verdict:
            read(tmp_path / "gone.dcm")
        assert verdict.value.code == RejectCode.MISSING_FILE
        assert str(tmp_path) not in verdict.value.reason


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="Linux only")
def test_an_error_of_the_disk_is_a_verdict_on_the_file() -> None:
    """The first page of a process's memory cannot be read: EIO, as from a failing disk."""
    for read in (sniff, read_facts, read_image):
        with pytest.raises(ImageRejected) as verdict:
            read(Path("/proc/self/mem"))
        assert verdict.value.code == RejectCode.DAMAGED_HEADER
        assert "cannot be read" in verdict.value.reason


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.dcm")
    write_dicom(tmp_path / "a.dcm", PIXELS)
    (tmp_path / "a.dcm").rename(tmp_path / name)
    assert paths(tmp_path) == [name]
    assert read_facts(tmp_path / name).rows == 4


def test_reading_the_facts_of_dicom_loads_no_picture_decoders() -> None:
    """Workers that read headers start for every run."""
    code = "import sys, mammography.archive.files; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"cv2", "imagecodecs", "torch", "numba"} & set(done.stdout.split())
