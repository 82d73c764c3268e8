"""``mammography scan`` from end to end."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tyro

from mammography.commands.scan import Scan
from mammography.dicom.phantom.files import write_dicom
from mammography.dicom.pixels import DEFAULT_MAX_PIXELS
from mammography.errors import LabelTableError, NothingLeftError, StoreError, UsageError

PIXELS = np.random.default_rng(0).integers(0, 4096, (40, 30)).astype(np.uint16)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Ten exams of two images; labels beside them."""
    for exam in range(10):
        for view in ("CC", "MLO"):
            write_dicom(
                tmp_path / f"archive/{exam:03d}/{view}.dcm",
                PIXELS,
                AccessionNumber=f"{exam:03d}",
                PatientID="MRN4711",
                PatientName="Secret^Jane",
                PatientBirthDate="19511213",
                ViewPosition=view,
            )
    rows = "".join(f"{exam:03d},{'ABCD'[exam % 4]}\n" for exam in range(10))
    (tmp_path / "classificacao.csv").write_text("AccessionNumber,Classification\n" + rows)
    return tmp_path


def scan(folder: Path, **options: Any) -> Scan:
    return Scan(folder / "classificacao.csv", folder / "archive", num_workers=1, **options)


def test_a_sound_archive_passes(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = scan(archive).run()
    assert result.exit_code == 0
    assert result.audit["readable"]["share"] == 1.0
    assert result.manifest.frame.height == 20
    shown = capsys.readouterr().out
    assert "20 of 20 images readable (100.0%, by pixels; --min-readable is 95.0%): enough" in shown
    assert sorted(path.name for path in archive.iterdir()) == ["archive", "classificacao.csv"]


def test_files_that_are_cut_in_half_are_found_by_decoding_only(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for exam in ("001", "002"):
        path = archive / "archive" / exam / "CC.dcm"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) - PIXELS.nbytes // 2])
    result = scan(archive, outdir=archive / "out").run()
    assert result.exit_code == 1
    assert result.audit["readable"]["readable"] == 18
    assert result.audit["readable"]["unreadable"] == 2
    assert result.manifest.rejects["path"].to_list() == ["001/CC.dcm", "002/CC.dcm"]
    assert (archive / "out/rejects.csv").exists()
    assert "too few" in capsys.readouterr().out
    assert scan(archive, min_readable=0.9).run().exit_code == 0
    headers_only = scan(archive, decode=False).run()
    assert headers_only.exit_code == 0
    assert headers_only.audit["readable"]["checked"] == "headers only"
    assert "cut in half passes unnoticed" in capsys.readouterr().out


def test_nothing_readable_fails_the_gate_and_is_saved(archive: Path) -> None:
    result = scan(archive, max_pixels=100, outdir=archive / "out").run()
    assert result.exit_code == 1
    assert result.audit["readable"]["share"] == 0.0
    assert set(result.manifest.rejects["code"]) == {"too-large"}
    assert pl.read_csv(archive / "out/rejects.csv").height == 20


def test_json_is_all_that_is_on_standard_output(archive: Path) -> None:
    code = (
        "import logging, sys, pathlib\n"
        "logging.basicConfig(level='INFO')\n"
        "from mammography.commands.scan import Scan\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "Scan(folder / 'classificacao.csv', folder / 'archive', json=True).run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(archive)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["images"] == 20
    assert "--label-column overrides" in done.stderr


def test_what_is_saved(archive: Path) -> None:
    result = scan(archive, outdir=archive / "archive" / "out").run()
    out = archive / "archive" / "out"
    assert sorted(path.name for path in out.iterdir()) == sorted(Scan.OUTPUTS)
    assert json.loads((out / "audit.json").read_text()) == result.audit
    assert pl.read_parquet(out / "manifest.parquet").equals(result.manifest.frame)
    assert json.loads((out / "summary.json").read_text())["command"] == "scan"
    assert result.manifest.rejects.is_empty()  # its own outputs are no foreign files


def test_class_5_is_listed_and_not_refused(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = archive / "classificacao.csv"
    table.write_text(table.read_text().replace("003,D", "003,5"))
    result = scan(archive).run()
    assert result.exit_code == 0
    assert result.audit["class_5_rows"] == [{"table_row": 4, "exam": "003"}]
    assert "1 row of class 5 left out: row 4 (003)" in capsys.readouterr().out


def test_where_nothing_is_left_the_reasons_are_saved_all_the_same(archive: Path) -> None:
    table = archive / "classificacao.csv"
    rows = "".join(f"{exam},A\n" for exam in range(10))
    table.write_text("AccessionNumber,Classification\n" + rows)
    with pytest.raises(NothingLeftError, match="lost its leading zeros"):
        scan(archive, outdir=archive / "out").run()
    rejects = pl.read_csv(archive / "out/rejects.csv")
    assert dict(rejects["code"].value_counts().iter_rows()) == {
        "not-in-table": 20,
        "missing-exam": 10,
    }


def test_the_run_of_another_command_is_not_overwritten(archive: Path) -> None:
    out = archive / "out"
    out.mkdir()
    (out / "summary.json").write_text('{"command": "embed"}')
    with pytest.raises(StoreError, match="holds a run of embed"):
        scan(archive, outdir=out).run()
    assert sorted(path.name for path in out.iterdir()) == ["run.log", "summary.json"]
    assert (out / "summary.json").read_text() == '{"command": "embed"}'


def test_an_earlier_scan_is_not_overwritten(archive: Path) -> None:
    scan(archive, outdir=archive / "out").run()
    before = (archive / "out/audit.json").read_bytes()
    with pytest.raises(StoreError, match="holds an earlier scan"):
        scan(archive, outdir=archive / "out", min_readable=0.5).run()
    assert (archive / "out/audit.json").read_bytes() == before


def test_wrong_options_are_one_clear_error(archive: Path) -> None:
    with pytest.raises(UsageError, match="from 0 to 1, not 95"):
        scan(archive, min_readable=95).run()
    with pytest.raises(UsageError, match="at least 1, not -1"):
        replace(scan(archive), num_workers=-1).run()
    with pytest.raises(LabelTableError, match="no column 'x'"):
        scan(archive, label_column="x").run()


def test_names_and_birth_dates_are_nowhere(
    archive: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    damaged = archive / "archive/001/CC.dcm"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    scan(archive, outdir=archive / "out").run()
    scan(archive, json=True).run()
    shown = capfd.readouterr()
    seen = caplog.text + shown.out + shown.err
    for path in (archive / "out").iterdir():
        seen += path.read_bytes().decode("latin-1")
    for secret in ("Secret", "Jane", "19511213", "MRN4711"):
        assert secret not in seen


def test_the_command_line_is_the_dataclass(tmp_path: Path) -> None:
    words = "--csv a.csv --dicom-root b --no-decode --min-readable 0.5 --label-column ACR --json"
    assert tyro.cli(Scan, args=words.split()) == Scan(
        Path("a.csv"), Path("b"), decode=False, min_readable=0.5, label_column="ACR", json=True
    )
    assert Scan(Path(), Path()).max_pixels == DEFAULT_MAX_PIXELS


def test_the_command_is_cheap_to_import() -> None:
    code = "import mammography.commands.scan, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "polars", "pydicom", "rich"} & set(done.stdout.split())


def test_mini_mias(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared / "data/mini-mias"
    result = Scan(folder / "labels.csv", folder, json=True).run()
    assert result.exit_code == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers == result.audit
    assert numbers["classes"]["counts"] == {
        "fatty": {"images": 84, "exams": 42},
        "fatty-glandular": {"images": 84, "exams": 42},
        "dense-glandular": {"images": 90, "exams": 45},
    }
    assert numbers["images_per_exam"] == {"2": 129}
