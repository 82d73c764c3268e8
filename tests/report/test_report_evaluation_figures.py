"""What the figures of a classifier say, against what was put in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from finished_runs import history
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from mammography.analysis.calibration import expected_calibration_error, reliability
from mammography.report.evaluation_figures import (
    confusion_figure,
    draw_confusion,
    draw_reliability,
    draw_training,
    reliability_figure,
    training_figure,
)

MATRIX = np.array([[5, 2, 1, 0], [4, 44, 16, 2], [0, 31, 98, 27], [0, 0, 0, 0]])
NOTICE = "Research only: not for diagnosis."


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def curves(axes: Axes) -> dict[str, list[float]]:
    return {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in axes.lines}


def predictions(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(n)
    logits = random.normal(size=(n, 4))
    true = random.integers(0, 4, n)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return true, probabilities


def test_cells_hold_row_percentages_and_counts() -> None:
    axes = draw_confusion(MATRIX, list("ABCD"), "T").axes[0]
    cells = [text.get_text() for text in axes.texts]
    assert cells[:8] == ["62 %", "5", "25 %", "2", "12 %", "1", "0 %", "0"]
    assert cells[16:20] == ["0 %", "0", "20 %", "31"]
    assert cells[24:] == ["–", "0"] * 4
    shares = np.asarray(axes.images[0].get_array())
    assert shares[:3].sum(axis=1) == pytest.approx(1)
    assert shares[2, 2] == 98 / 156
    assert not shares[3].any()


def test_rows_are_the_true_classes() -> None:
    figure = draw_confusion(MATRIX, ["fatty", "b", "c", "d"], "T")
    axes = figure.axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")
    assert axes.get_yticklabels()[0].get_text() == "fatty\nn = 8"
    assert axes.get_xticklabels()[0].get_text() == "fatty\nn = 9"
    low, high = axes.get_ylim()
    assert low > high  # the first class is at the top
    assert any("230 images, 63.9 % correct" in said for said in words(figure))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.69, 0.71, 1.0])
def test_numbers_in_cells_can_be_read(share: float) -> None:
    """Contrast of at least 4.5 : 1 on every shade, as WCAG 2.1 asks."""
    counts = np.array([[round(1000 * share), 1000 - round(1000 * share)], [0, 1]])
    axes = draw_confusion(counts, ["a", "b"], "T").axes[0]
    ground = axes.images[0].cmap(axes.images[0].norm(counts[0, 0] / 1000))

    def luminance(colour: Any) -> float:
        channels = np.array(matplotlib.colors.to_rgb(colour))
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ [0.2126, 0.7152, 0.0722])

    dark, light = sorted((luminance(axes.texts[0].get_color()), luminance(ground)))
    assert (light + 0.05) / (dark + 0.05) > 4.5


@pytest.mark.parametrize("matrix", [np.zeros((2, 3)), np.zeros((3, 3)), np.zeros((0, 0))])
def test_a_matrix_must_fit_its_names(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        draw_confusion(matrix, ["a"] * 2 if matrix.size else [], "T")


@pytest.mark.parametrize("size", [2, 3, 8, 12])
def test_words_stay_on_the_page_and_apart(size: int) -> None:
    names = [f"a rather heterogeneously dense class {number}" for number in range(size)]
    counts = np.random.default_rng(0).integers(0, 99_999, (size, size))
    figure = draw_confusion(counts, names, "long title " * 12, "a warning " * 20)
    figure.canvas.draw()
    page = figure.bbox
    boxes = [t.get_window_extent() for t in figure.findobj(Text) if t.get_text().strip()]
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)
    assert all(box.x1 <= page.x1 and box.y1 <= page.y1 for box in boxes)
    axes = figure.axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        extents = [label.get_window_extent() for label in labels]
        assert not any(a.overlaps(b) for i, a in enumerate(extents) for b in extents[:i])


def test_reliability_shows_the_filled_bins() -> None:
    true, probabilities = predictions()
    bins = reliability(true, probabilities)
    ece = expected_calibration_error(true, probabilities)
    figure = draw_reliability(bins, ece, 0.0312, "T")
    diagram, counts = figure.axes
    filled = [each for each in bins if each["count"]]
    assert np.asarray(diagram.lines[1].get_xdata()) == pytest.approx(
        [each["confidence"] for each in filled]
    )
    assert np.asarray(diagram.lines[1].get_ydata()) == pytest.approx(
        [each["accuracy"] for each in filled]
    )
    heights = {round(bar.get_x(), 6): bar.get_height() for bar in counts.patches}  # type: ignore[attr-defined]
    assert heights == {round(each["low"], 6): each["count"] for each in filled}
    (subtitle,) = [said for said in words(figure) if "images" in said and "·" in said]
    assert subtitle.startswith(f"300 images  ·  expected calibration error {ece:.3f}, 0.031 after")
    assert not any("after" in said for said in words(draw_reliability(bins, ece, None, "T")))


def test_intervals_are_wilsons() -> None:
    """Wilson 1927: 8 of 10 gives 0.490-0.943, 0 of 1 gives 0-0.793 (Newcombe 1998, method 3)."""
    one = {"low": 0.0, "high": 0.1, "confidence": 0.1, "accuracy": 0.8, "count": 10}
    two = {"low": 0.1, "high": 0.2, "confidence": 0.2, "accuracy": 0.0, "count": 1}
    figure = draw_reliability([one, two], 0.1, None, "T")
    first, second = figure.axes[0].collections[0].get_segments()
    assert first[:, 1] == pytest.approx([0.4902, 0.9433], abs=1e-4)
    assert second[:, 1] == pytest.approx([0.0, 0.7935], abs=1e-4)


def test_curves_are_the_history() -> None:
    given = history(0.4)
    losses, rates, scores = draw_training(given, "T", 3).axes
    assert curves(losses)["training"] == given["train_loss"]
    assert curves(losses)["validation"] == given["val_loss"]
    assert curves(scores)["bal_acc_adj"] == given["val_bal_acc_adj"]
    kappa = curves(scores)["quadratic kappa"]
    assert np.isnan(kappa[0])
    assert kappa[1:] == given["val_kappa"][1:]
    assert curves(rates)["head"] == given["learning_rate"]
    assert "backbone" not in curves(rates)
    for axes in (losses, rates, scores):
        assert np.asarray(axes.lines[-1].get_xdata()).tolist() == [3, 3]


def test_negative_scores_are_in_view() -> None:
    given = history(0.1)
    scores = draw_training(given, "T", 3).axes[2]
    assert scores.get_ylim()[0] < min(given["val_bal_acc_adj"]) < 0


def test_learning_rates_are_logarithmic_and_zero_is_left_out() -> None:
    figure = draw_training(history(0.4), "T", 3)
    figure.canvas.draw()
    rates = figure.axes[1]
    assert rates.get_yscale() == "log"
    assert rates.get_ylim()[0] > 1e-5
    assert not np.isfinite(rates.transScale.transform((5.0, 0.0))[1])
    shown = [label.get_text() for label in rates.get_yticklabels()]
    assert "1e-4" in shown
    assert not any("mathdefault" in said for said in words(figure))


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_short_histories_can_be_drawn(epochs: int) -> None:
    figure = draw_training({key: values[:epochs] for key, values in history(0.4).items()}, "T", 1)
    figure.canvas.draw()
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(float(tick).is_integer() for tick in ticks)


def test_title_warning_and_notice_are_on_every_page() -> None:
    true, probabilities = predictions()
    for figure in (
        draw_confusion(MATRIX, list("ABCD"), "Title", "Caution!"),
        draw_reliability(reliability(true, probabilities), 0.1, None, "Title", "Caution!"),
        draw_training(history(0.4), "Title", 3, "Caution!"),
    ):
        assert {"Title", "Caution!", NOTICE} <= set(words(figure))


def write_all(folder: Path, dpi: int) -> list[str]:
    true, probabilities = predictions()
    confusion_figure(folder / "a.png", MATRIX, list("ABCD"), "T", dpi=dpi)
    reliability_figure(folder / "b.png", reliability(true, probabilities), 0.1, 0.05, "T", dpi=dpi)
    training_figure(folder / "c.png", history(0.4), "T", 3, dpi=dpi)
    return [hashlib.sha256((folder / f"{name}.png").read_bytes()).hexdigest() for name in "abc"]


@pytest.mark.parametrize(("dpi", "width"), [(200, 1600), (300, 2400)])
def test_equal_input_gives_equal_bytes_of_the_asked_resolution(
    dpi: int, width: int, tmp_path: Path
) -> None:
    first = write_all(tmp_path, dpi)
    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 50, "axes.grid": True}):
        assert write_all(tmp_path, dpi) == first
    for name in "abc":
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width == width
            assert picture.info["dpi"] == pytest.approx((dpi, dpi), abs=0.1)
