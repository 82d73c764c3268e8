"""Which dialect reads a table, which columns it takes, and how labels read."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from mammography import plugins
from mammography.archive.dialects import DENSITY, Reading, read_dialect
from mammography.archive.label_table import read_label_table
from mammography.archive.matching import By
from mammography.errors import LabelTableError, PluginError, UsageError


def reading_of(folder: Path, text: str, **options: str) -> Reading:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return read_dialect(read_label_table(path), **options)


def keys_of(reading: Reading) -> list[tuple[str, By]]:
    return [(key.column, key.by) for key in reading.keys]


@pytest.mark.parametrize(
    "name", ["AccessionNumber", "accession_number", "Accession", "exam_id", "Exame", "Study ID"]
)
def test_a_row_per_exam_is_known_by_its_column(tmp_path: Path, name: str) -> None:
    reading = reading_of(tmp_path, f"{name},Classification\n001,A\n")
    assert keys_of(reading) == [(name, By.EXAM)]
    assert reading.label == DENSITY


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("path", By.PATH),
        ("image file path", By.PATH),
        ("file", By.NAME),
        ("FileName", By.NAME),
        ("image_id", By.NAME),
        ("SOPInstanceUID", By.UID),
    ],
)
def test_a_row_per_image_is_known_by_its_column(tmp_path: Path, name: str, first: By) -> None:
    reading = reading_of(tmp_path, f"AccessionNumber,{name},density\n001,x,A\n")
    assert keys_of(reading)[0] == (name, first)
    assert {by for _, by in keys_of(reading)} == {By.PATH, By.NAME, By.UID}
    assert reading.exam_column == "AccessionNumber"


def test_the_id_column_decides_between_exam_and_image(tmp_path: Path) -> None:
    text = "AccessionNumber,file,code,density\n001,x,y,A\n"
    assert keys_of(reading_of(tmp_path, text, id_column="accession_number")) == [
        ("AccessionNumber", By.EXAM)
    ]
    assert keys_of(reading_of(tmp_path, text, id_column="file"))[0] == ("file", By.NAME)
    unknown = keys_of(reading_of(tmp_path, text, id_column="code"))
    assert unknown == [("code", by) for by in (By.PATH, By.NAME, By.UID, By.EXAM)]


def test_the_dialect_can_be_chosen(tmp_path: Path) -> None:
    text = "AccessionNumber,file,density\n001,x,A\n"
    assert keys_of(reading_of(tmp_path, text, dialect="classificacao"))[0][1] is By.EXAM
    assert keys_of(reading_of(tmp_path, text, dialect="per_image"))[0][1] is By.NAME
    with pytest.raises(LabelTableError, match=r"no column 'image_id' \(dialect mini-mias\)"):
        reading_of(tmp_path, text, dialect="mini-mias")
    with pytest.raises(PluginError, match="no 'x' among the dialects; known are classificacao, "):
        reading_of(tmp_path, text, dialect="x")


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ("BIRADS,breast_density", "breast_density"),
        ("Bi-Rads,label,ACR", "ACR"),
        ("label,Classificação,birads", "Classificação"),
        ("label,density", "density"),
        ("birads,label", "label"),
        ("BI-RADS,comment", "BI-RADS"),
    ],
)
def test_the_label_column_nearest_to_density_wins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, columns: str, chosen: str
) -> None:
    caplog.set_level(logging.INFO, "mammography")
    assert reading_of(tmp_path, f"exam,{columns}\n1,A,A,A\n").label_column == chosen
    assert repr(chosen) in caplog.text
    assert "--label-column overrides" in caplog.text


def test_the_label_column_can_be_chosen(tmp_path: Path) -> None:
    text = "exam,density,Second Reader\n1,A,D\n"
    assert reading_of(tmp_path, text, label_column="second_reader").values == [4]


@pytest.mark.parametrize(
    ("header", "option"),
    [("who,density", "--id-column"), ("exam,what", "--label-column"), ("file,what", "--label-col")],
)
def test_unknown_columns_end_in_one_line_that_lists_them(
    tmp_path: Path, header: str, option: str
) -> None:
    with pytest.raises(LabelTableError) as raised:
        reading_of(tmp_path, f"{header}\n1,A\n")
    message = str(raised.value)
    assert option in message
    assert message.endswith(", ".join(repr(name) for name in header.split(",")) + ".")
    assert "\n" not in message


def test_densities_are_never_shifted(tmp_path: Path) -> None:
    """Trap 1: a rule meant for 0-3 merged classes C and D."""
    labels = ["1", "2", "3", "4", "A", "b", "C", "d", "3.0", "BI-RADS B", "5", "0", "", "x", "1.5"]
    text = "exam,classification\n" + "\n".join(f"{i},{label}" for i, label in enumerate(labels))
    reading = reading_of(tmp_path, text)
    assert reading.values == [1, 2, 3, 4, 1, 2, 3, 4, 3, 2, 5, None, None, None, None]
    assert reading.label.classes == (1, 2, 3, 4)
    assert reading.label.names == ("A", "B", "C", "D")
    assert reading.label.dtype is pl.Int8
    for low in ("1,2,3", "1,2,3,4"):
        rows = "\n".join(f"{i},{label}" for i, label in enumerate(low.split(",")))
        assert reading_of(tmp_path, f"exam,density\n{rows}\n").values == list(
            map(int, low.split(","))
        )


def test_other_classes_than_densities_are_text_in_sorted_order(tmp_path: Path) -> None:
    rows = "a,malignant\nb,benign\nc,\nd,benign\n"
    reading = reading_of(tmp_path, f"file,label\n{rows}")
    assert reading.label.name == "label"
    assert reading.label.classes == reading.label.names == ("benign", "malignant")
    assert reading.label.dtype is pl.String
    assert reading.values == ["malignant", "benign", None, "benign"]


def test_one_density_makes_the_others_unreadable(tmp_path: Path) -> None:
    reading = reading_of(tmp_path, "file,label\na,malignant\nb,A\n")
    assert reading.label == DENSITY
    assert reading.values == [None, 1]


def test_columns_that_can_only_hold_densities_do(tmp_path: Path) -> None:
    assert reading_of(tmp_path, "file,density\na,fatty\n").values == [None]
    assert reading_of(tmp_path, "exam,classification\na,fatty\n").values == [None]
    for text in ("exam,density\na,fatty\n", "file,density\na,fatty\n"):
        assert reading_of(tmp_path, text, label_column="density").values == ["fatty"]


def test_mini_mias_is_recognised_by_its_tissue(shared: Path) -> None:
    table = read_label_table(shared / "data/mini-mias/labels.csv")
    reading = read_dialect(table)
    assert reading.label.name == "tissue"
    assert reading.label.classes == ("F", "G", "D")
    assert list(reading.values) == table.frame["tissue"].to_list()
    assert reading.patient_column == reading.exam_column == "woman"


def test_other_tissues_are_not_mini_mias(tmp_path: Path) -> None:
    text = "image_id,woman,laterality,view,tissue,label\na,w,L,CC,F,A\nb,w,R,CC,adipose,B\n"
    assert reading_of(tmp_path, text).label == DENSITY


@pytest.fixture
def outsider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of distributions on the path, with a clean registry before and after."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    plugins.load.cache_clear()
    yield folder
    plugins.load.cache_clear()
    for name in [name for name in sys.modules if name.startswith("outsider")]:
        del sys.modules[name]


def install(folder: Path, name: str, module: str, code: str) -> None:
    """A distribution whose one module offers a dialect."""
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    entry = f"[mammography.dialects]\n{name} = {module}:PLUGIN\n"
    (info / "entry_points.txt").write_text(entry)


HOSPITAL = """
from mammography.archive.dialects import Dialect, Key, Label, Reading
from mammography.archive.matching import By

def fit(table, choice):
    return 2 if table.frame.columns == ["Fall", "Dichte"] else 0

def read(table, choice):
    values = [cell or None for cell in table.cells("Dichte")]
    label = Label("dichte", ("licht", "dicht"), ("light", "dense"))
    return Reading((Key("Fall", By.EXAM),), "Dichte", label, values)

PLUGIN = Dialect(fit, read)
"""


def test_an_outsider_adds_a_dialect_by_entry_point(outsider: Path, tmp_path: Path) -> None:
    install(outsider, "my_hospital", "outsider_hospital", HOSPITAL)
    for options in ({}, {"dialect": "my-hospital"}, {"dialect": "my_hospital"}):
        reading = reading_of(tmp_path, "Fall;Dichte\n01;dicht\n02;licht\n03;\n", **options)
        assert reading.values == ["dicht", "licht", None]
        assert reading.label.name == "dichte"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import does_not_exist", "my-hospital.*outsider.hospital.*does_not_exist"),
        ("", "my-hospital.*outsider.hospital.*PLUGIN"),
        (HOSPITAL.replace("def fit(", "def fit(one, "), "dialect 'my-hospital' failed on .*labels"),
        (HOSPITAL.replace("cell or None", "1 / 0"), "dialect 'my-hospital' failed.*division"),
        (HOSPITAL.replace("cell or None", "'grau'"), "'my-hospital'.*none of its classes: 'grau'"),
    ],
)
def test_a_failing_plugin_is_named(outsider: Path, tmp_path: Path, code: str, message: str) -> None:
    install(outsider, "my-hospital", "outsider_hospital", code)
    with pytest.raises(PluginError, match=message):
        reading_of(tmp_path, "Fall,Dichte\n01,dicht\n")


def test_a_plugin_cannot_take_a_name_of_ours(outsider: Path, tmp_path: Path) -> None:
    install(outsider, "per_image", "outsider_thief", HOSPITAL)
    with pytest.raises(PluginError, match=r"'per_image' of outsider.thief takes a name"):
        reading_of(tmp_path, "exam,density\n01,A\n")


def test_two_dialects_that_fit_equally_are_the_users_choice(outsider: Path, tmp_path: Path) -> None:
    install(outsider, "one", "outsider_one", HOSPITAL)
    install(outsider, "two", "outsider_two", HOSPITAL)
    with pytest.raises(UsageError, match="as one and as two: choose with --dialect"):
        reading_of(tmp_path, "Fall,Dichte\n01,dicht\n")
