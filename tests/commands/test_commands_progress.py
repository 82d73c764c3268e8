"""How progress is shown."""

from __future__ import annotations

import io
import logging
import re

import pytest
from rich.console import Console

from mammography.commands import progress as progress_module
from mammography.commands.progress import progress


def test_progress_is_lines_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 11.0, 12.0, 40.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO), progress(100, done=20) as advance:
        advance(10, 0)
        advance(12, 2)
        advance(8, 0)
        advance(50, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "42 of 100 images, 2.0 images/s, 29 s left, 2 rejected",
        "100 of 100 images, 2.0 images/s, 0 s left, 3 rejected",
    ]


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=90)
    monkeypatch.setattr(progress_module, "terminal", lambda: console)
    with progress(4) as advance:
        advance(3, 1)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "3/4 images" in shown
    assert "1 rejected" in shown
    assert "images/s" in shown


def test_nothing_to_do_is_no_progress(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), progress(5, done=5):
        pass
    assert not caplog.records
