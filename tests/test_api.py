"""The Python API: the commands' dataclasses as functions, and the example that uses them."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import mammography
from mammography.commands import COMMANDS
from mammography.commands.construct import construct
from mammography.dicom.phantom.files import write_dicom
from mammography.errors import UsageError

EXAMPLE = Path(__file__).parents[1] / "examples" / "embed_archive.py"
FUNCTIONS = {
    name.replace("-", "_"): dataclass
    for name, (_, dataclass) in COMMANDS.items()
    if name not in ("explain", "rerun")
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for exam in ("07", "08"):
        pixels = np.random.default_rng(int(exam)).integers(0, 4096, (20, 16), np.uint16)
        write_dicom(tmp_path / f"archive/{exam}/a.dcm", pixels, BitsStored=12)
    (tmp_path / "labels.csv").write_text("AccessionNumber,Classification\n07,B\n08,C\n")
    return tmp_path


def test_every_name_is_there_and_listed() -> None:
    for name in mammography._HOMES:
        assert name in dir(mammography)
        assert getattr(mammography, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'embedd'"):
        mammography.embedd  # noqa: B018


def test_importing_it_imports_nothing_heavy() -> None:
    script = (
        "import sys, mammography; before = set(sys.modules); from mammography import embed, Scan\n"
        "print(len(before), *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    imported = done.stdout.split()
    assert int(imported[0]) < 150
    assert not {"numpy", "polars", "torch", "pydicom", "sklearn", "matplotlib"} & {*imported}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_dataclasses_signature(name: str) -> None:
    function, command = getattr(mammography, name), getattr(mammography, FUNCTIONS[name])
    assert inspect.signature(function) == inspect.signature(command)
    assert function.__doc__ == command.__doc__


def test_embed_scan_and_preview_take_text_for_paths(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {"csv": str(data / "labels.csv"), "dicom_root": str(data / "archive")}
    options = {"encoder": "timm:resnet10t", "weights": "random", "backend": "torch", "img_size": 32}
    result = mammography.embed(**folders, outdir=str(data / "out"), **options)
    assert isinstance(result, mammography.EmbedResult)
    assert isinstance(result.embeddings.index, pl.DataFrame)
    assert result.embeddings.features.shape == (2, 512)
    assert result.exit_code == 0
    again = mammography.load_embeddings(str(data / "out"))
    np.testing.assert_array_equal(again.features, result.embeddings.features)
    assert mammography.scan(**folders).audit["images"] == 2
    shown = mammography.preview(str(data / "archive/07/a.dcm"), out=str(data / "steps.png"))
    assert shown.picture == data / "steps.png"
    assert shown.picture.exists()


def test_the_dataclass_itself_runs_too(data: Path) -> None:
    command = mammography.Embed(
        data / "labels.csv",
        data / "archive",
        data / "out",
        encoder="timm:resnet10t",
        weights="random",
        backend="torch",
        img_size=32,
    )
    assert len(command.run().embeddings) == 2


def test_errors_are_the_packages_own(data: Path) -> None:
    with pytest.raises(mammography.MammographyError, match="no folder nowhere"):
        mammography.embed(csv=data / "labels.csv", dicom_root="nowhere", outdir=data / "out")
    with pytest.raises(TypeError, match="missing a required argument: 'dicom_root'"):
        mammography.embed(csv="labels.csv")
    with pytest.raises(TypeError, match="unexpected keyword argument 'dicomroot'"):
        mammography.embed("labels.csv", "archive", "out", dicomroot="archive")


RIGHT: list[tuple[str, Any, Any]] = [
    ("csv", "a/b.csv", Path("a/b.csv")),
    ("csv", Path("b.csv"), Path("b.csv")),
    ("weights", "imagenet", "imagenet"),
    ("weights", "w.safetensors", Path("w.safetensors")),
    ("mean", [0.5, 1, 0.25], (0.5, 1.0, 0.25)),
    ("mean", None, None),
    ("frame", 3, 3),
    ("frame", "max", "max"),
    ("batch_size", "auto", "auto"),
    ("min_readable", 1, 1.0),
    ("pca", True, True),
    ("limit", None, None),
]
WRONG: list[tuple[str, Any, str]] = [
    ("csv", 3, "a path"),
    ("resize", "fit", "'letterbox', 'stretch', 'crop' or None"),
    ("frame", "first", "'middle', 'max' or int or None"),
    ("frame", True, "'middle', 'max' or int or None"),
    ("mean", [0.5, 0.5], "a tuple of float, float, float or None"),
    ("mean", "abc", "a tuple of float, float, float or None"),
    ("mean", [0.5, "0.5", 0.5], "a tuple of float, float, float or None"),
    ("pca", "yes", "True or False"),
    ("pca", 1, "True or False"),
    ("seed", 1.5, "int"),
    ("seed", None, "int"),
    ("encoder", None, "text"),
    ("min_readable", "0.9", "float"),
]
NEEDED = {"csv": "l.csv", "dicom_root": "archive", "outdir": "out"}


@pytest.mark.parametrize(("option", "value", "expected"), RIGHT)
def test_values_become_what_the_option_is(option: str, value: Any, expected: Any) -> None:
    command = construct(mammography.Embed, NEEDED | {option: value})
    assert getattr(command, option) == expected
    assert type(getattr(command, option)) is type(expected)


@pytest.mark.parametrize(("option", "value", "takes"), WRONG)
def test_values_that_an_option_does_not_take_are_refused(
    option: str, value: Any, takes: str
) -> None:
    with pytest.raises(UsageError) as caught:
        construct(mammography.Embed, NEEDED | {option: value})
    assert str(caught.value) == f"The option {option} takes {takes}, not {value!r}."


def test_tuples_of_any_length_are_taken() -> None:
    made = construct(mammography.Phantom, {"outdir": "p", "syntax": ["rle", "htj2k"]})
    assert made.syntax == ("rle", "htj2k")
    with pytest.raises(UsageError, match="The option syntax takes a tuple of text, …, not"):
        construct(mammography.Phantom, {"outdir": "p", "syntax": ["rle", 3]})


def test_relative_paths_are_taken_from_their_base() -> None:
    base = Path("/somewhere")
    command = construct(mammography.Embed, NEEDED | {"outdir": "/else"}, base)
    assert (command.csv, command.outdir) == (base / "l.csv", Path("/else"))
    with pytest.raises(UsageError, match="no option 'colour'; known are csv, dicom_root"):
        construct(mammography.Embed, NEEDED | {"colour": 1})


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    specification = importlib.util.spec_from_file_location("embed_archive", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    accuracy = example.main(tmp_path, weights="random", exams=8)
    assert 0 <= accuracy <= 1
    shown = capsys.readouterr().out
    assert "32 images of" in shown
    assert "(32, 2048) features" in shown
    assert f"{accuracy:.2f}" in shown
