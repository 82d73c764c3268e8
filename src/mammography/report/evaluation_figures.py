"""Figures of a trained classifier: confusion, calibration, and how its training went."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mammography.report.page import (
    DPI,
    GRAY,
    GRID,
    INK,
    MARGIN,
    NOMINAL,
    WIDTH,
    axes_at,
    blank,
    header,
    header_height,
    own_style,
    save,
)

#: Column of a run's history, what the legend calls it, colour and line style.
_Curve = tuple[str, str, str, str]
_SHARES = LinearSegmentedColormap.from_list("shares", ["#f7fbff", "#56B4E9"])  # under dark words
_BLUE, _ORANGE, _GREEN = (colour for colour, _, _ in NOMINAL[:3])
_LOSSES: tuple[_Curve, ...] = (
    ("train_loss", "training", _ORANGE, "--"),
    ("val_loss", "validation", _BLUE, "-"),
)
_SCORES: tuple[_Curve, ...] = (
    ("train_acc", "training accuracy", _ORANGE, "--"),
    ("val_acc", "accuracy", _BLUE, "-"),
    ("val_bal_acc_adj", "bal_acc_adj", INK, "-"),
    ("val_kappa", "quadratic kappa", _GREEN, "-."),
)
_RATES: tuple[_Curve, ...] = (
    ("learning_rate", "head", _BLUE, "-"),
    ("learning_rate_backbone", "backbone", _ORANGE, "--"),
)


def confusion_figure(
    path: Path,
    matrix: npt.NDArray[np.integer],
    names: Sequence[str],
    title: str,
    *,
    warning: str | None = None,
    dpi: int = DPI,
) -> None:
    """Write a confusion matrix as a PNG, 8 inches wide. Arguments as in `draw_confusion`."""
    save(path, draw_confusion(matrix, names, title, warning), dpi)


@own_style()
def draw_confusion(
    matrix: npt.NDArray[np.integer],
    names: Sequence[str],
    title: str,
    warning: str | None = None,
) -> Figure:
    """Draw a confusion matrix; every cell has its share of the true class and its count.

    Args:
        matrix: (K, K) counts, true class × predicted class.
        names: K names of classes, in the matrix's order.
        title: What was predicted by what; long ones wrap.
        warning: What a reader must know before believing the figure, such as an untrained encoder.

    Raises:
        ValueError: Matrix and names do not fit together.
    """
    counts, size = np.asarray(matrix), len(names)
    if counts.shape != (size, size) or not size:
        raise ValueError(f"a matrix of {counts.shape} does not fit {size} classes")
    true, predicted, total = counts.sum(axis=1), counts.sum(axis=0), int(counts.sum())
    shares = counts / np.maximum(true, 1)[:, None]
    right = f"{100 * np.trace(counts) / max(total, 1):.1f} % correct"
    subtitle = (
        f"{total:,} images, {right}  ·  in each cell: share of the true class, number of images"
    )
    height = min(1.1 * size, 5.0)
    figure = blank(1.1 + height + header_height(title, subtitle, warning))
    header(figure, title, subtitle, warning)
    axes = axes_at(figure, 1.75, 1.1, 5.2, height)
    picture = axes.imshow(shares, cmap=_SHARES, vmin=0, vmax=1, aspect="auto")
    _cells(axes, counts, shares)
    points = min(9.0, 56 / size)
    axes.set_yticks(range(size), _counted(names, true, 18))
    axes.set_xticks(range(size), _counted(names, predicted, int(600 / size / points)))
    axes.tick_params(length=0, labelcolor=INK, labelsize=points)
    axes.set_ylabel("true class", color=GRAY)
    axes.set_xlabel("predicted class", color=GRAY)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(picture, cax=axes_at(figure, 7.12, 1.1, 0.12, height))
    bar.set_ticks([0, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    bar.outline.set_visible(False)
    return figure


def _counted(names: Sequence[str], counts: npt.NDArray[np.integer], width: int) -> list[str]:
    """Names wrapped to `width` characters, each with its number of images below."""
    return [
        "\n".join([*textwrap.wrap(name, width, max_lines=2, placeholder=" …"), f"n = {count:,}"])
        for name, count in zip(names, counts, strict=True)
    ]


def _cells(axes: Axes, counts: npt.NDArray[np.integer], shares: npt.NDArray[np.floating]) -> None:
    """White lines between the cells, and the numbers in them."""
    size = len(counts)
    large = min(13.0, 68 / size)
    axes.set_xticks(np.arange(1, size) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, size) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    for row, column in np.ndindex(size, size):
        share, count = shares[row, column], counts[row, column]
        words = f"{100 * share:.0f} %" if counts[row].any() else "–"
        bold = "bold" if row == column else "normal"
        axes.text(column, row - 0.03, words, ha="center", va="bottom", size=large, weight=bold)
        axes.text(column, row + 0.06, f"{count:,}", ha="center", va="top", size=0.7 * large)


def reliability_figure(
    path: Path,
    bins: Sequence[Mapping[str, Any]],
    ece: float,
    ece_after: float | None,
    title: str,
    *,
    warning: str | None = None,
    dpi: int = DPI,
) -> None:
    """Write a reliability diagram as a PNG, 8 inches wide. Arguments as in `draw_reliability`."""
    save(path, draw_reliability(bins, ece, ece_after, title, warning), dpi)


@own_style()
def draw_reliability(
    bins: Sequence[Mapping[str, Any]],
    ece: float,
    ece_after: float | None,
    title: str,
    warning: str | None = None,
) -> Figure:
    """Draw how often the model is right where it is how sure (Guo et al. 2017).

    Beside it stands how many images are in each bin. The bars are 95 % Wilson intervals
    (Wilson 1927), which take images as independent: two views of one breast are not, so the truth
    is wider.

    Args:
        bins: What `mammography.analysis.calibration.reliability` gives.
        ece: Expected calibration error of these bins.
        ece_after: The same after temperature scaling; None where there was none.
        title: What was predicted by what; long ones wrap.
        warning: What a reader must know before believing the figure, such as an untrained encoder.
    """
    filled = [each for each in bins if each["count"]]
    count = np.array([each["count"] for each in filled], dtype=np.int64)
    confidence = np.array([each["confidence"] for each in filled], dtype=np.float64)
    accuracy = np.array([each["accuracy"] for each in filled], dtype=np.float64)
    after = "" if ece_after is None else f", {ece_after:.3f} after temperature scaling"
    subtitle = (
        f"{count.sum():,} images  ·  expected calibration error {ece:.3f}{after}  ·  95 % intervals"
    )
    side = 3.25
    figure = blank(1.0 + side + header_height(title, subtitle, warning))
    header(figure, title, subtitle, warning)
    axes = axes_at(figure, 0.85, 0.85, side, side)
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle="--", zorder=1)
    low, high = _wilson(accuracy, count)
    axes.vlines(confidence, low, high, color=_BLUE, linewidth=1.2)
    axes.plot(confidence, accuracy, "o-", color=_BLUE, linewidth=1.5, markersize=5, clip_on=False)
    axes.text(0.03, 0.96, "underconfident", color=GRAY, size=8, va="top")
    axes.text(0.97, 0.04, "overconfident", color=GRAY, size=8, ha="right")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    _plain(axes)
    left = 0.85 + side + 0.75
    axes = axes_at(figure, left, 0.85, WIDTH - MARGIN - left, side)
    low = np.array([each["low"] for each in filled])
    width = np.array([each["high"] for each in filled]) - low
    axes.bar(low, count, width, align="edge", color=_BLUE, edgecolor="white", linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="confidence", ylabel="images")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    _plain(axes)
    return figure


def _wilson(
    share: npt.NDArray[np.float64], count: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The 95 % score interval of a proportion (Wilson 1927, doi 10.1080/01621459.1927.10502953)."""
    z = 1.959964
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return centre - half, centre + half


def training_figure(
    path: Path,
    history: Mapping[str, Sequence[float | None]],
    title: str,
    best_epoch: int,
    *,
    warning: str | None = None,
    dpi: int = DPI,
) -> None:
    """Write the curves of a training as a PNG, 8 inches wide. Arguments as in `draw_training`."""
    save(path, draw_training(history, title, best_epoch, warning), dpi)


@own_style()
def draw_training(
    history: Mapping[str, Sequence[float | None]],
    title: str,
    best_epoch: int,
    warning: str | None = None,
) -> Figure:
    """Draw losses, scores and learning rates over the epochs, and which epoch was kept.

    Args:
        history: Columns of `train_history.json`, one value per epoch; None is a gap, and a column
            that is absent or empty has no curve.
        title: What was trained; long ones wrap.
        best_epoch: The epoch whose weights were kept, as `history["epoch"]` counts.
        warning: What a reader must know before believing the figure, such as an untrained encoder.
    """
    epochs = np.array(history["epoch"], dtype=np.int64)
    subtitle = f"the weights of epoch {best_epoch} of {epochs[-1]} were kept (dotted line)"
    figure = blank(4.45 + header_height(title, subtitle, warning))
    top = header(figure, title, subtitle, warning) - 0.35
    width, left = 3.1, WIDTH - MARGIN - 3.1
    losses = axes_at(figure, 0.75, 2.45, width, top - 2.45)
    rates = axes_at(figure, 0.75, 0.85, width, 1.0)
    scores = axes_at(figure, left, 0.85, width, top - 0.85)
    drawn = _curves(losses, epochs, history, _LOSSES)
    losses.set(ylim=(0, 1.05 * max(drawn, default=1.0)), ylabel="loss")
    drawn = _curves(scores, epochs, history, _SCORES)
    scores.set(ylim=(min([0.0, *drawn]) - 0.02, 1.02), ylabel="score", xlabel="epoch")
    _logarithmic(rates, _curves(rates, epochs, history, _RATES))
    rates.set(ylabel="learning rate", xlabel="epoch")
    for axes in (losses, rates, scores):
        axes.axvline(best_epoch, color=GRAY, linewidth=1, linestyle=":", zorder=1)
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        axes.xaxis.set_major_locator(
            MaxNLocator(8, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
        )
        _plain(axes)
    return figure


def _curves(
    axes: Axes,
    epochs: npt.NDArray[np.int64],
    history: Mapping[str, Sequence[float | None]],
    curves: Sequence[_Curve],
) -> list[float]:
    """Draw those curves that have values, with a legend above; all values that were drawn."""
    drawn: list[float] = []
    for key, name, colour, line in curves:
        given = history.get(key, ())
        known = [value for value in given if value is not None]
        if known:
            values = [np.nan if value is None else value for value in given]
            marker = "o" if len(epochs) <= 40 else None
            axes.plot(epochs, values, line, color=colour, marker=marker, markersize=2.5, label=name)
            drawn += known
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=2,
        frameon=False,
        fontsize=8,
        borderaxespad=0.2,
        columnspacing=1.2,
        handlelength=2.6,
    )
    return drawn


def _logarithmic(axes: Axes, rates: Sequence[float]) -> None:
    """A logarithmic axis over the rates above 0, its ticks written as 1e-4."""
    positive = [rate for rate in rates if rate > 0] or [1.0]
    low, high = min(positive) / 1.6, max(positive) * 1.6
    axes.set_yscale("log", nonpositive="mask")
    axes.set_ylim(low, high)
    steps = (1.0,) if high / low > 30 else (1.0, 3.0)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-"))


def _plain(axes: Axes) -> None:
    """Axes without a frame, on a faint grid."""
    axes.spines[["right", "top"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.6)
