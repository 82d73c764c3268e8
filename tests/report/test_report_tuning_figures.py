"""What the figures of a search say, against what was put in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from mammography.report.tuning_figures import (
    draw_history,
    draw_importance,
    history_figure,
    importance_figure,
)
from mammography.training.tuning_trials import TrialRecord


def trial(number: int, state: str, value: float | None) -> TrialRecord:
    metrics = {"kappa": 0.1, "auc_ovr": 0.5}
    return TrialRecord(number, state, value, 3, 1, {}, metrics, "results", 0, None, None)


TRIALS = [
    trial(0, "complete", 0.2),
    trial(1, "complete", 0.1),
    trial(2, "failed", None),
    trial(3, "pruned", 0.05),
    trial(4, "complete", 0.4),
    trial(5, "pruned", 0.15),
]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_history_shows_every_value_and_the_best_so_far() -> None:
    figure = draw_history(TRIALS, "T")
    lines = {
        line.get_label(): list(zip(*line.get_data(), strict=True)) for line in figure.axes[0].lines
    }
    assert lines == {
        "best so far": [(0, 0.2), (1, 0.2), (4, 0.4), (5, 0.4)],
        "completed": [(0, 0.2), (1, 0.1), (4, 0.4)],
        "ended early: its last epoch": [(3, 0.05), (5, 0.15)],
    }
    said = " ".join(words(figure))
    assert "3 completed, 2 ended early, 1 failed" in said
    assert "the best is trial 4" in said
    assert "Research only: not for diagnosis." in said


def test_history_without_a_completed_trial_says_so() -> None:
    figure = draw_history([trial(0, "failed", None)], "T", "The encoder began untrained.")
    said = " ".join(words(figure))
    assert "none was completed" in said
    assert "The encoder began untrained." in said


def test_importances_are_bars_in_their_order() -> None:
    figure = draw_importance({"lr": 0.2, "dropout": 0.7, "batch_size": 0.1}, 25, "T")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["batch_size", "lr", "dropout"]
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2, 0.7]
    assert [text.get_text().strip() for text in axes.texts] == ["0.10", "0.20", "0.70"]
    said = " ".join(words(figure))
    assert "n = 25 completed trials" in said
    assert "mostly chance" not in said


def test_importances_of_few_trials_warn() -> None:
    assert any(
        "below 20 mostly chance" in said for said in words(draw_importance({"lr": 1.0}, 19, "T"))
    )


def test_undefined_importances_say_why() -> None:
    said = words(draw_importance("3 completed trials are fewer than 8", 3, "T"))
    assert "Undefined: 3 completed trials are fewer than 8." in said


@pytest.mark.parametrize("name", ["history", "importance"])
def test_equal_input_gives_equal_bytes(tmp_path: Path, name: str) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        if name == "history":
            history_figure(path, TRIALS, "T")
        else:
            importance_figure(path, {"lr": 0.75, "dropout": 0.25}, 30, "T")
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}) == 1
    assert Image.open(paths[0]).width == 1600
