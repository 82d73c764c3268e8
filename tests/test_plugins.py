"""Names are found; an outsider's distribution adds a recipe, an encoder family and a dialect."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mammography import plugins
from mammography.archive.dialects import Dialect
from mammography.dicom.phantom.files import write_dicom
from mammography.encoders.encoder import Family
from mammography.errors import PluginError
from mammography.preprocess.recipe import Recipe

MODULE = '''
"""What a third party writes: one object of each kind."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from mammography.archive.dialects import Choice, Dialect, Key, Reading, densities
from mammography.archive.matching import By
from mammography.encoders.encoder import Architecture, Family
from mammography.preprocess.recipe import Recipe, Step


@dataclass(frozen=True)
class Corner(Recipe):
    """The corner of an image, to [0, 1] by a fixed factor."""

    NAME: ClassVar[str] = "corner"
    VERSION: ClassVar[int] = 1

    size: tuple[int, int] = (8, 8)

    def gray(self, image):
        rows, columns = self.size
        return (image.pixels[:rows, :columns] / 4095).astype(np.float32)

    def steps(self, image):
        return [Step(image.pixels, "stored"), Step(self.gray(image), "corner")]


class Flat(Family):
    """The pixels themselves, weighted by one."""

    names = ("pixels",)

    def architecture(self, name):
        if name != "pixels":
            return None
        return Architecture(
            name=name,
            build=lambda: nn.Sequential(nn.Flatten(), nn.Identity()),
            headless=lambda network: network,
            fetch=None,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )


def read(table, choice):
    label, values = densities([cell[-1:] for cell in table.cells("dichte")])
    return Reading((Key("akte", By.EXAM),), "dichte", label, values)


corner = Corner()
flat = Flat()
german = Dialect(fit=lambda table, choice: 2 * ("dichte" in table.frame.columns), read=read)
'''

ENTRY_POINTS = """
[mammography.recipes]
corner = outsider:corner

[mammography.encoders]
flat = outsider:flat

[mammography.dialects]
german-file = outsider:german
"""


def distribution(site: Path, name: str, module: str, entry_points: str) -> None:
    """Install a distribution by hand: a module, and the metadata that names its entry points."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    (site / f"{name}.py").write_text(module)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """What a test's plugins are is forgotten before and after it."""
    plugins.load.cache_clear()
    yield
    plugins.load.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_ours_are_found_by_name() -> None:
    assert {"classificacao", "mini-mias", "per-image"} <= plugins.load("dialects").keys()
    for kind, base in (("dialects", Dialect), ("recipes", Recipe), ("encoders", Family)):
        assert all(isinstance(plugin, base) for plugin in plugins.load(kind).values())
    assert plugins.get("dialects", "mini_mias") is plugins.get("dialects", "mini-mias")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(PluginError, match=r"no 'primer2' among the recipes; known are .*imagenet"):
        plugins.get("recipes", "primer2")


def test_a_plugin_that_fails_to_load_is_named_with_its_distribution(site: Path) -> None:
    distribution(site, "brittle", "1 / 0\n", "[mammography.recipes]\nglass = brittle:PLUGIN\n")
    with pytest.raises(PluginError, match=r"'glass' of brittle \(brittle:PLUGIN\).*ZeroDivision"):
        plugins.get("recipes", "imagenet")
    plugins.load("encoders")  # other kinds are not concerned


@pytest.mark.parametrize("target", ["absent:PLUGIN", "empty:PLUGIN"])
def test_a_plugin_that_is_not_there_is_named(target: str, site: Path) -> None:
    distribution(site, "empty", "", f"[mammography.recipes]\nhole = {target}\n")
    with pytest.raises(PluginError, match="'hole' of empty"):
        plugins.load("recipes")


def test_a_name_that_is_taken_is_refused(site: Path) -> None:
    distribution(site, "rival", "PLUGIN = 1\n", "[mammography.recipes]\nimagenet = rival:PLUGIN\n")
    with pytest.raises(PluginError, match="'imagenet' of rival takes a name that is already"):
        plugins.load("recipes")


def test_an_outsiders_recipe_encoder_and_dialect_work_through_the_command(
    site: Path, tmp_path: Path
) -> None:
    distribution(site, "outsider", MODULE, ENTRY_POINTS)
    pixels = {}
    for exam in ("07", "08"):
        pixels[exam] = np.random.default_rng(int(exam)).integers(0, 4096, (20, 16), np.uint16)
        write_dicom(tmp_path / f"archive/{exam}/a.dcm", pixels[exam], BitsStored=12)
    (tmp_path / "akten.csv").write_text("akte;dichte\n07;Typ B\n08;Typ C\n")
    command = [
        "embed", "--csv", "akten.csv", "--dicom-root", "archive", "--outdir", "out", "--save-csv",
        "--recipe", "corner", "--encoder", "pixels", "--weights", "random",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "mammography", *command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "read as 'german-file'" in done.stderr
    features = np.load(tmp_path / "out" / "features.npy")
    corners = [(pixels[exam][:8, :8] / 4095).astype(np.float32).ravel() for exam in ("07", "08")]
    np.testing.assert_array_equal(features, np.tile(np.stack(corners), 3))
    record = json.loads((tmp_path / "out" / "embedding.json").read_text())
    assert (record["recipe"]["name"], record["encoder"]["width"]) == ("corner", 192)
    rows = list(csv.DictReader((tmp_path / "out" / "joined.csv").open()))
    assert [(row["akte"], row["dichte"]) for row in rows] == [("07", "Typ B"), ("08", "Typ C")]


@pytest.mark.parametrize(("kind", "option"), [("recipes", "--recipe"), ("encoders", "--encoder")])
def test_a_plugin_of_the_wrong_kind_is_named(
    kind: str, option: str, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mammography.cli import main

    distribution(site, "wrong", "PLUGIN = 3\n", f"[mammography.{kind}]\nnumber = wrong:PLUGIN\n")
    write_dicom(tmp_path / "archive/07/a.dcm", np.eye(9, dtype=np.uint16))
    (tmp_path / "l.csv").write_text("AccessionNumber,Classification\n07,B\n")
    folders = ["--csv", tmp_path / "l.csv", "--dicom-root", tmp_path / "archive", "--outdir",
               tmp_path / "out"]  # fmt: skip
    arguments = ["embed", *map(str, folders), "--weights", "random", "--backend", "torch"]
    assert main([*arguments, option, "number"]) == 2
    assert "The plugin 'number' is no " in capsys.readouterr().err
