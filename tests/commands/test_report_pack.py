"""``mammography report-pack``: figures of finished runs, and the TeX section that shows them."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from finished_runs import TISSUE, change, write_run
from PIL import Image

from mammography.commands.report_pack import ReportPack
from mammography.errors import UsageError
from mammography.explain.examples import CamExample
from mammography.report.tex import BEGIN, END

Asked = tuple[Path, Path | None, int]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """Maps without a network; what is asked for them: run, archive, seed."""
    asked = []

    def run_examples(
        run: Path, dicom_root: Path | None, per_class: int, seed: int
    ) -> list[CamExample]:
        if not (dicom_root or tmp_path / "archive").is_dir():
            raise UsageError("There is no folder with the images (--dicom-root).")
        asked.append((run, dicom_root, seed))
        gray = np.random.default_rng(seed).random((64, 48))
        return [
            CamExample(gray, gray[::-1], true, predicted, 0.7, "00001, L MLO")
            for true in "AB"
            for predicted in "AB"
            for _ in range(per_class)
        ]

    gradcam = SimpleNamespace(run_examples=run_examples)
    monkeypatch.setitem(sys.modules, "mammography.explain.gradcam", gradcam)
    return asked


@pytest.fixture
def article(tmp_path: Path) -> Path:
    (tmp_path / "archive").mkdir()
    return tmp_path / "Article"


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_run_becomes_three_pictures_and_a_section(article: Path, asked: list[Asked]) -> None:
    run = write_run(article.parent / "results_4", seed=42)
    result = ReportPack((run,), article / "assets").run()
    names = [f"density_{kind}_seed42.png" for kind in ("train", "confusion", "gradcam")]
    assert list(result.pictures) == [article / "assets" / name for name in names]
    for picture in result.pictures:
        with Image.open(picture) as opened:
            assert (opened.format, opened.width) == ("PNG", 2400)
            assert opened.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert result.tex == article / "sections/density_model.tex"
    text = result.tex.read_text()
    assert [name for name in names if f"{{assets/{name}}}" in text] == names
    assert asked == [(run, None, 42)]


def test_the_assets_folder_may_be_the_current_one(
    article: Path, asked: list[Asked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "results")
    article.mkdir()
    monkeypatch.chdir(article)
    result = ReportPack((run,), Path()).run()
    assert result.tex == tmp_path / "sections/density_model.tex"
    assert "{Article/density_train_seed42.png}" in result.tex.read_text()


def test_a_section_that_exists_changes_between_its_markers_only(
    article: Path, asked: list[Asked], tmp_path: Path
) -> None:
    run = write_run(tmp_path / "results", seed=7)
    tex = tmp_path / "paper.tex"
    before, after = b"\\section{Ours}\r\ncaf\xe9 % latin-1\r\n", b"\\input{next}"
    markers = [f"{marker}\r\n".encode() for marker in (BEGIN, END)]
    tex.write_bytes(before + markers[0] + b"three seeds\r\n" + markers[1] + after)
    ReportPack((run,), article / "assets", tex=tex).run()
    content = tex.read_bytes()
    assert content.startswith(before + markers[0])
    assert content.endswith(markers[1] + after)
    assert b"three seeds" not in content
    assert b"density_train_seed7.png" in content
    assert not (article / "sections").exists()


def test_several_seeds_get_pictures_of_their_own_and_a_mean(
    article: Path, asked: list[Asked], tmp_path: Path
) -> None:
    for seed, name in {42: "results", 43: "results_1"}.items():
        write_run(tmp_path / "runs" / name, seed=seed, label=TISSUE)
    result = ReportPack((tmp_path / "runs",), article / "assets").run()
    assert len(result.pictures) == 6
    assert {path.name for path in (article / "assets").iterdir()} == {
        f"density_{kind}_seed{seed}.png"
        for kind in ("train", "confusion", "gradcam")
        for seed in (42, 43)
    }
    assert "mean $\\pm$ SD" in result.tex.read_text()
    assert len(asked) == 2


def test_doing_it_again_gives_the_same_bytes(
    article: Path, asked: list[Asked], tmp_path: Path
) -> None:
    run = write_run(tmp_path / "results")
    tex = ReportPack((run,), article / "assets").run().tex
    first = digests(article / "assets") | digests(tex.parent)
    ReportPack((run,), article / "assets").run()
    assert digests(article / "assets") | digests(tex.parent) == first


def test_numbers_of_the_section_are_those_of_the_run(
    article: Path, asked: list[Asked], tmp_path: Path
) -> None:
    """Trap 10: a section printed conclusions whatever the run was."""
    shown = []
    for seed in (1, 2):
        run = write_run(tmp_path / f"results_{seed}", seed=seed)
        text = ReportPack((run,), article / "assets").run().tex.read_text()
        shown.append(re.findall(r"\$(-?\d\.\d{3})\$", text))
    assert len(shown[0]) == len(shown[1]) == 18
    assert shown[0] != shown[1]


def test_without_the_archive_the_other_figures_are_made(
    article: Path, asked: list[Asked], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    run = write_run(tmp_path / "results")
    shutil.rmtree(tmp_path / "archive")
    result = ReportPack((run,), article / "assets").run()
    assert [path.name for path in result.pictures] == [
        "density_train_seed42.png", "density_confusion_seed42.png",
    ]  # fmt: skip
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == (
        "No Grad-CAM figure for the seed 42: There is no folder with the images (--dicom-root)."
    )
    assert "gradcam" not in result.tex.read_text()
    assert asked == []


def test_the_archive_may_have_moved(article: Path, asked: list[Asked], tmp_path: Path) -> None:
    run = write_run(tmp_path / "results")
    shutil.move(tmp_path / "archive", tmp_path / "moved")
    ReportPack((run,), article / "assets", dicom_root=tmp_path / "moved").run()
    assert asked == [(run, tmp_path / "moved", 42)]
    with pytest.raises(UsageError, match=r"There is no folder .*gone \(--dicom-root\)"):
        ReportPack((run,), article / "assets", dicom_root=tmp_path / "gone").run()


def test_a_figure_of_an_earlier_run_does_not_stay(
    article: Path, asked: list[Asked], tmp_path: Path
) -> None:
    """Another run's maps under this run's name would be worse than none."""
    run = write_run(tmp_path / "results")
    ReportPack((run,), article / "assets").run()
    shutil.rmtree(tmp_path / "archive")
    ReportPack((run,), article / "assets").run()
    assert not (article / "assets/density_gradcam_seed42.png").exists()


def test_two_runs_of_one_seed_cannot_share_a_name(article: Path, tmp_path: Path) -> None:
    for fold in (1, 2):
        write_run(tmp_path / f"cv/fold_{fold}/results", seed=fold)
        change(tmp_path / f"cv/fold_{fold}/results/summary.json", seed=42)
    with pytest.raises(UsageError, match=r"fold_1/results and .*fold_2/results both .* seed 42"):
        ReportPack((tmp_path / "cv",), article / "assets").run()
    assert not article.exists()


def test_nothing_is_drawn_where_the_section_cannot_be_written(
    article: Path, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "results")
    (tmp_path / "paper.tex").write_text("\\section{Mine}\n")
    with pytest.raises(UsageError, match=r"paper\.tex does not say which lines"):
        ReportPack((run,), article / "assets", tex=tmp_path / "paper.tex").run()
    assert not article.exists()
    assert (tmp_path / "paper.tex").read_text() == "\\section{Mine}\n"


def test_an_unfinished_run_is_named(article: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "results_2")
    (run / "model.json").unlink()
    with pytest.raises(UsageError, match=r"results_2 is no finished run .*lacks model\.json"):
        ReportPack((run,), article / "assets").run()
    assert not article.exists()
