"""``mammography preview``: a picture of every step of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mammography.commands.preview import Preview
from mammography.dicom.phantom.files import write_dicom
from mammography.errors import ImageRejected, StoreError, UsageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 4096, (60, 48), np.uint16)
    write_dicom(tmp_path / "a.dcm", pixels, photometric="MONOCHROME1", BitsStored=12)
    return tmp_path / "a.dcm"


def test_preview_draws_every_step(file: Path) -> None:
    result = Preview(file, out=file.parent / "new" / "steps.png", img_size=32).run()
    assert result.picture == file.parent / "new" / "steps.png"
    with Image.open(result.picture) as picture:
        assert picture.size[0] == 1600
        assert np.asarray(picture.convert("L")).std() > 10


def test_preview_shows_other_recipes_otherwise(file: Path) -> None:
    pictures = []
    for name, options in {"a": {}, "b": {"resize": "crop"}, "c": {"img_size": 512}}.items():
        pictures.append(Preview(file, out=file.parent / f"{name}.png", **options).run().picture)
    assert len({picture.read_bytes() for picture in pictures}) == 3


def test_preview_takes_pictures_too(tmp_path: Path) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)
    Image.fromarray(gray).save(tmp_path / "film.png")
    assert Preview(tmp_path / "film.png", out=tmp_path / "steps.png").run().picture.exists()


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", {}, r"a\.dcm: the file is empty\."),
        (None, {"voi": "window"}, r"a\.dcm: the recipe applies window 0 .* has 0\."),
        (None, {"frame": 7}, r"a\.dcm: frame 7 is asked for"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    content: bytes | None, options: dict[str, Any], message: str, file: Path
) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ImageRejected, match=message):
        Preview(file, out=file.parent / "steps.png", **options).run()
    assert not (file.parent / "steps.png").exists()


def test_a_picture_never_takes_the_place_of_another_file(file: Path) -> None:
    before = file.read_bytes()
    for out in (file, file.parent / "steps.xyz"):
        with pytest.raises(UsageError, match="never replaces what is no PNG"):
            Preview(file, out=out).run()
    (file.parent / "notes.png").write_text("no picture")
    with pytest.raises(UsageError, match="never replaces what is no PNG"):
        Preview(file, out=file.parent / "notes.png").run()
    assert file.read_bytes() == before
    Preview(file, out=file.parent / "steps.png").run()
    Preview(file, out=file.parent / "steps.png").run()  # a picture of ours it may


def test_a_folder_is_no_picture(file: Path) -> None:
    with pytest.raises(UsageError, match="takes one file"):
        Preview(file.parent, out=file.parent / "steps.png").run()


def test_a_picture_that_cannot_be_written_is_named(file: Path) -> None:
    with pytest.raises(StoreError, match=r"steps\.png cannot be written"):
        Preview(file, out=file / "steps.png").run()
