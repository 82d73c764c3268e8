"""The page that every figure is drawn on: its style, header, notice and file.

Figures have Agg canvases of their own, never pyplot's, so that a notebook's backend and style
neither change nor matter. Equal input gives equal bytes. Positions are in inches from the lower
left corner.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mammography.runs import RESEARCH_ONLY, written_whole

DPI = 200
PRINT_DPI = 300
WIDTH = 8.0  # 1,600 pixels at 200 dpi, 2,400 at 300
MARGIN = 0.3

#: Okabe & Ito's colours (2008), told apart with every common colour vision, each with a marker
#: and the factor that makes the marker's area look like the others'.
NOMINAL = (
    ("#0072B2", "o", 1.0),
    ("#E69F00", "s", 0.85),
    ("#009E73", "^", 1.1),
    ("#CC79A7", "D", 0.75),
    ("#56B4E9", "v", 1.1),
    ("#D55E00", "P", 1.15),
    ("#000000", "X", 1.1),
    ("#F0E442", "*", 1.6),
)

INK, GRAY, FAINT, GRID = "#222222", "#6b6b6b", "#b5b5b5", "#ececec"
AMBER, PALE_AMBER, BROWN = "#E69F00", "#fff6de", "#5c4000"


@contextmanager
def own_style() -> Iterator[None]:
    """Our style, whatever the user's; a decorator of every function that draws."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.size": 9,
                "text.color": INK,
                "text.parse_math": False,  # a $ in a user's label is a $
                "axes.edgecolor": FAINT,
                "axes.labelcolor": INK,
                "xtick.color": GRAY,
                "ytick.color": GRAY,
                "xtick.labelsize": 8,
                "ytick.labelsize": 8,
            }
        )
        yield


def blank(height: float) -> Figure:
    """A white page with the notice at its foot."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    FigureCanvasAgg(figure)
    write(figure, WIDTH - MARGIN, 0.16, RESEARCH_ONLY, ha="right", fontsize=7, color=GRAY)
    return figure


def header_height(title: str, subtitle: str | None, warning: str | None = None) -> float:
    """How much of a page `header` takes, in inches."""
    band = 0.18 * len(textwrap.wrap(warning, 98)) + 0.24 if warning else 0.0
    return 0.4 + 0.25 * len(textwrap.wrap(title, 60)) + (0.2 if subtitle else 0.0) + band


def header(figure: Figure, title: str, subtitle: str | None, warning: str | None = None) -> float:
    """Write what stands above the figure's body, and return the height where the body begins."""
    y = figure.get_figheight() - 0.4
    for line in textwrap.wrap(title, 60):
        write(figure, MARGIN, y, line, fontsize=13, fontweight="bold")
        y -= 0.25
    if subtitle:
        write(figure, MARGIN, y, subtitle, color=GRAY)
        y -= 0.2
    if warning:
        lines = textwrap.wrap(warning, 98)
        y -= 0.18 * len(lines) + 0.14
        _band(figure, y, lines)
        y -= 0.1
    return y


def _band(figure: Figure, bottom: float, lines: Sequence[str]) -> None:
    """A warning on a pale ground with a stripe at its left."""
    width, height = WIDTH - 2 * MARGIN, 0.18 * len(lines) + 0.14
    for band_width, colour in ((width, PALE_AMBER), (0.06, AMBER)):
        band = Rectangle((MARGIN, bottom), band_width, height, color=colour, lw=0)
        band.set_transform(figure.dpi_scale_trans)
        figure.add_artist(band)
    for number, line in enumerate(lines):
        y = bottom + height - 0.2 - 0.18 * number
        write(figure, MARGIN + 0.2, y, line, color=BROWN, fontsize=8.5, weight="bold")


def write(figure: Figure, x: float, y: float, words: str, **style: Any) -> None:
    """Write one line at a place of the page."""
    figure.text(x, y, words, transform=figure.dpi_scale_trans, **style)


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes in a box of the page."""
    page_height = figure.get_figheight()
    return figure.add_axes(
        (left / WIDTH, bottom / page_height, width / WIDTH, height / page_height)
    )


def save(path: Path, figure: Figure, dpi: int = DPI) -> None:
    """Write the page as a PNG, whole or not at all.

    Raises:
        StoreError: The file cannot be written.
    """
    with own_style(), written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None})
