"""``mammography rerun``: a summary becomes its command again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mammography.commands.phantom import Phantom
from mammography.commands.rerun import Rerun
from mammography.errors import UsageError


def summary(folder: Path, **changes: Any) -> Path:
    config = {"outdir": "phantom", "exams": 2, "rows": 104, "columns": 80, "syntax": ["rle"]}
    content = {"command": "phantom", "config": config, "working_directory": str(folder)}
    path = folder / "summary.json"
    path.write_text(json.dumps(content | changes))
    return path


def test_rerun_takes_paths_from_where_the_run_was(tmp_path: Path) -> None:
    assert Rerun(summary(tmp_path)).command() == Phantom(
        tmp_path / "phantom_1", exams=2, rows=104, columns=80, syntax=("rle",)
    )


def test_rerun_never_overwrites(tmp_path: Path) -> None:
    for number in (1, 2, 4):
        (tmp_path / f"phantom_{number}").mkdir()
    assert Rerun(summary(tmp_path)).command().outdir == tmp_path / "phantom_3"


def test_rerun_elsewhere_takes_the_new_folder_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = summary(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = Rerun(path, outdir=Path("new")).run()
    assert result.archive.resolve() == tmp_path / "here" / "new" / "archive"
    assert result.exams == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": "bake"}, "records the command 'bake', unknown here"),
        ({"config": None}, "is no summary of a run"),
        ({"config": {"outdir": "p", "flour": 3}}, "another version: There is no option 'flour'"),
        ({"config": {"outdir": "p", "exams": "many"}}, "The option exams takes int, not 'many'"),
        ({"config": {"exams": 2}}, "another version: .*outdir"),
    ],
)
def test_summaries_that_cannot_be_run_say_why(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        Rerun(summary(tmp_path, **changes)).command()


@pytest.mark.parametrize("content", [None, "", "[]", "{}"])
def test_files_that_are_no_summary_are_named(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(UsageError, match=r"summary\.json is no summary of a run"):
        Rerun(tmp_path / "summary.json").run()
