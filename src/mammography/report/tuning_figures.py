"""Figures of a search: how its trials went, and which parameters decided."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
    write,
)
from mammography.training.tuning_trials import TrialRecord, best_of, counts

_BLUE, _ORANGE = NOMINAL[0][0], NOMINAL[1][0]

#: Completed trials below which importances are mostly chance: five are among the best quarter.
_FEW = 20


def history_figure(
    path: Path,
    trials: Sequence[TrialRecord],
    title: str,
    *,
    warning: str | None = None,
    dpi: int = DPI,
) -> None:
    """Write how a search went as a PNG, 8 inches wide. Arguments as in `draw_history`."""
    save(path, draw_history(trials, title, warning), dpi)


@own_style()
def draw_history(trials: Sequence[TrialRecord], title: str, warning: str | None = None) -> Figure:
    """Draw what each trial came to, and the best so far.

    Args:
        trials: In their order.
        title: What was searched; long ones wrap.
        warning: What a reader must know before believing the figure, such as an untrained encoder.
    """
    number = counts(trials)
    best = best_of(trials)
    found = "none was completed" if best is None else f"the best is trial {best.number}"
    subtitle = (
        f"{number['complete']} completed, {number['pruned']} ended early, "
        f"{number['failed']} failed (no marker)  ·  {found}"
    )
    figure = blank(4.2 + header_height(title, subtitle, warning))
    top = header(figure, title, subtitle, warning) - 0.35
    axes = axes_at(figure, 0.85, 0.85, WIDTH - MARGIN - 0.85, top - 0.85)
    complete, pruned = _values(trials, "complete"), _values(trials, "pruned")
    if complete:
        so_far = np.maximum.accumulate(list(complete.values()))
        ends = [*complete, trials[-1].number]
        axes.plot(
            ends, [*so_far, so_far[-1]], drawstyle="steps-post", color=INK, linewidth=1.2,
            label="best so far",
        )  # fmt: skip
    for some, marker, colour, face, label in (
        (complete, "o", _BLUE, _BLUE, "completed"),
        (pruned, "s", _ORANGE, "white", "ended early: its last epoch"),
    ):
        axes.plot(
            list(some), list(some.values()), marker,
            color=colour, markerfacecolor=face, markersize=5, label=label,
        )  # fmt: skip
    axes.set(xlabel="trial", ylabel="validation bal_acc_adj")
    axes.set_xlim(-0.5, max((trial.number for trial in trials), default=0) + 0.5)
    axes.margins(y=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, frameon=False, fontsize=8,
        borderaxespad=0.2,
    )  # fmt: skip
    _plain(axes)
    return figure


def _values(trials: Sequence[TrialRecord], state: str) -> dict[int, float]:
    """Values by number of the trials in a state."""
    return {
        trial.number: trial.value
        for trial in trials
        if trial.state == state and trial.value is not None
    }


def importance_figure(
    path: Path,
    importances: Mapping[str, float] | str,
    completed: int,
    title: str,
    *,
    warning: str | None = None,
    dpi: int = DPI,
) -> None:
    """Write which parameters decided as a PNG, 8 inches wide. Arguments as in `draw_importance`."""
    save(path, draw_importance(importances, completed, title, warning), dpi)


@own_style()
def draw_importance(
    importances: Mapping[str, float] | str,
    completed: int,
    title: str,
    warning: str | None = None,
) -> Figure:
    """Draw how much each parameter decides whether a trial is among the best quarter.

    Args:
        importances: By parameter, with sum 1; or why there are none.
        completed: How many completed trials they are computed from.
        title: What was searched; long ones wrap.
        warning: What a reader must know before believing the figure, such as an untrained encoder.
    """
    subtitle = (
        "what decides whether a trial is among the best quarter  ·  "
        f"n = {completed} completed trials"
    )
    if isinstance(importances, str):
        return _undefined(importances, title, subtitle, warning)
    if completed < _FEW:
        subtitle += f"; below {_FEW} mostly chance"
    height = 0.34 * len(importances) + 0.1
    figure = blank(0.85 + height + header_height(title, subtitle, warning))
    header(figure, title, subtitle, warning)
    axes = axes_at(figure, 2.0, 0.8, WIDTH - MARGIN - 2.5, height)
    names = sorted(importances, key=lambda name: importances[name])
    shares = [importances[name] for name in names]
    axes.barh(range(len(names)), shares, height=0.6, color=_BLUE)
    for place, share in enumerate(shares):
        axes.text(share, place, f"  {share:.2f}", va="center", size=8)
    shown = [textwrap.shorten(name, 26, placeholder="…") for name in names]
    axes.set_yticks(range(len(names)), shown)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set(xlim=(0, max(shares)), xlabel="importance (PED-ANOVA), sum 1")
    _plain(axes)
    axes.grid(visible=False, axis="y")
    return figure


def _undefined(reason: str, title: str, subtitle: str, warning: str | None) -> Figure:
    """A page that says why there is nothing to draw."""
    figure = blank(1.1 + header_height(title, subtitle, warning))
    y = header(figure, title, subtitle, warning) - 0.3
    write(figure, MARGIN, y, f"Undefined: {reason}.", color=GRAY)
    return figure


def _plain(axes: Axes) -> None:
    """Axes without a frame, on a faint grid."""
    axes.spines[["right", "top"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.6)
