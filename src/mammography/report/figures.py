"""Figures for papers and logs: maps of feature vectors, and the steps of a recipe."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mammography.analysis.projection import Projection
from mammography.report.page import (
    FAINT,
    GRAY,
    GRID,
    MARGIN,
    NOMINAL,
    WIDTH,
    axes_at,
    blank,
    header,
    own_style,
    save,
    write,
)


@dataclass(frozen=True, eq=False)
class Panel:
    """One step of a chain of gray images.

    Attributes:
        image: (rows, columns), integers or finite floats.
        caption: What was done.
        value_range: The values drawn black and white; None for the image's own extremes.
    """

    image: npt.NDArray[np.generic]
    caption: str
    value_range: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class _Group:
    """Points that are drawn alike and counted in one line of the legend."""

    name: str
    rows: npt.NDArray[np.int64]
    colour: str
    marker: str
    relative_size: float
    zorder: int = 2


def projection_figure(
    path: Path,
    projection: Projection,
    labels: Sequence[str | None],
    class_order: Sequence[str],
    title: str,
    warning: str | None = None,
    *,
    ordered: bool = False,
) -> None:
    """Write a map as a PNG, 1,600 pixels wide. Arguments and errors as in `draw_projection`."""
    save(path, draw_projection(projection, labels, class_order, title, warning, ordered=ordered))


@own_style()
def draw_projection(
    projection: Projection,
    labels: Sequence[str | None],
    class_order: Sequence[str],
    title: str,
    warning: str | None = None,
    *,
    ordered: bool = False,
) -> Figure:
    """Draw a map with its classes, their counts, and what it was made with.

    Classes differ by colour and by marker. Their points are drawn in mixed order, so that no
    class hides another.

    Args:
        projection: N points.
        labels: N class names as the legend shall show them; None where an image has none.
        class_order: Every class name, in the order of the legend; classes without images too.
        title: What the map is of; long ones wrap.
        warning: What a reader must know before believing the map, such as an untrained encoder.
        ordered: Whether the order of the classes means something (density A-D): their colours
            then follow viridis, otherwise Okabe & Ito.

    Raises:
        ValueError: A label is not in `class_order`, or labels and points differ in number.
    """
    if len(labels) != len(projection.coordinates):
        raise ValueError(f"there are {len(labels)} labels for {len(projection.coordinates)} points")
    if unknown := {label for label in labels if label is not None}.difference(class_order):
        raise ValueError(f"these labels are not in class_order: {sorted(unknown)}")
    groups = _groups(labels, class_order, ordered)
    figure = blank(height=6.3)
    top = header(figure, title, _made_with(projection), warning)
    has_units = projection.explained_variance is not None
    left, bottom, legend_left = (0.8, 0.72, 5.8) if has_units else (MARGIN, 0.4, 5.8)
    axes = axes_at(figure, left, bottom, legend_left - 0.25 - left, top - bottom)
    _scatter(axes, projection, groups)
    _label_axes(axes, projection)
    _legend(figure, groups, legend_left, top)
    return figure


def _groups(
    labels: Sequence[str | None], class_order: Sequence[str], ordered: bool
) -> list[_Group]:
    """The groups in the order of the legend: classes, surplus classes, unlabelled points."""

    def rows_of(*names: str | None) -> npt.NDArray[np.int64]:
        wanted = set(names)
        return np.array([i for i, label in enumerate(labels) if label in wanted], dtype=np.int64)

    shown, surplus = class_order[: len(NOMINAL)], class_order[len(NOMINAL) :]
    viridis = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(shown)))
    groups = []
    for number, name in enumerate(shown):
        colour, marker, relative_size = NOMINAL[number]
        colour = to_hex(viridis[number]) if ordered else colour
        groups.append(_Group(name, rows_of(name), colour, marker, relative_size))
    if surplus:
        name = f"further classes: {len(surplus)}"
        groups.append(_Group(name, rows_of(*surplus), GRAY, "o", 0.6))
    if len(unlabelled := rows_of(None)):
        groups.append(_Group("no label", unlabelled, FAINT, "o", 0.6, zorder=1))
    return groups


def _made_with(projection: Projection) -> str:
    settings, n_images = projection.settings, f"{len(projection.coordinates):,} images"
    if projection.method == "tsne":
        how = f"t-SNE, perplexity {settings['perplexity']:.3g}, seed {projection.seed}"
    elif projection.method == "umap":
        how = f"UMAP, {settings['n_neighbors']} neighbours, seed {projection.seed}"
    else:
        how = "PCA"
    return f"{how}  ·  {n_images}"


def _scatter(axes: Axes, projection: Projection, groups: Sequence[_Group]) -> None:
    """Draw the points in random layers, each with its share of every group."""
    n_points = len(projection.coordinates)
    area, alpha = _area_and_alpha(n_points)
    edges = "white" if n_points <= 3000 else "none"
    group_of = np.empty(n_points, dtype=np.int64)
    for number, group in enumerate(groups):
        group_of[group.rows] = number
    shuffled = np.random.default_rng(0).permutation(n_points)
    for layer in np.array_split(shuffled, min(n_points, 24)):
        for number, group in enumerate(groups):
            x, y = projection.coordinates[layer[group_of[layer] == number]].T
            axes.scatter(
                x,
                y,
                s=area * group.relative_size,
                c=group.colour,
                marker=group.marker,
                alpha=alpha,
                edgecolors=edges,
                linewidths=0.4,
                zorder=group.zorder,
            )
    axes.margins(0.06)


def _area_and_alpha(n_points: int) -> tuple[float, float]:
    """Marker area in square points and opacity: from 80 and 0.95 down to 2.5 and 0.35."""
    area = min(max(560 / math.sqrt(n_points), 2.5), 80.0)
    alpha = min(max(1.3 - 0.2 * math.log10(n_points), 0.35), 0.95)
    return area, alpha


def _label_axes(axes: Axes, projection: Projection) -> None:
    if projection.explained_variance is None:  # only nearness means something on these maps
        axes.set_aspect("equal", adjustable="datalim")
        axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
        return
    first, second = (100 * share for share in projection.explained_variance)
    axes.set_xlabel(f"PC 1 ({first:.1f} %)")
    axes.set_ylabel(f"PC 2 ({second:.1f} %)")
    axes.locator_params(nbins=6)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.6)


def _legend(figure: Figure, groups: Sequence[_Group], left: float, top: float) -> None:
    """A column of markers, names and counts; matplotlib's own drops names that begin with _."""
    axes = axes_at(figure, left, 0, WIDTH - left, top)
    axes.set(xlim=(0, WIDTH - left), ylim=(0, top))
    axes.axis("off")
    names = [textwrap.wrap(group.name, 25, max_lines=2, placeholder=" …") for group in groups]
    line_height = min(0.17, (top - 0.5) / sum(len(lines) + 1.5 for lines in names))
    y = top - 0.1
    for group, lines in zip(groups, names, strict=True):
        axes.scatter(0.1, y, s=40 * group.relative_size, c=group.colour, marker=group.marker, lw=0)
        for line in lines:
            axes.text(0.27, y, line, va="center_baseline")
            y -= line_height
        axes.text(0.27, y, f"n = {len(group.rows):,}", va="center_baseline", color=GRAY, size=8)
        y -= 1.5 * line_height


def steps_figure(path: Path, panels: Sequence[Panel], title: str) -> None:
    """Write images and their histograms as a PNG, 1,600 pixels wide, as in `draw_steps`."""
    save(path, draw_steps(panels, title))


@own_style()
def draw_steps(panels: Sequence[Panel], title: str) -> Figure:
    """Draw up to four images in one row, more in two, each above the histogram of its values.

    Histograms count on a logarithmic scale: half a mammogram is background of one value.

    Args:
        panels: At least one, in the order of the steps.
        title: What the images are; long ones wrap.
    """
    n_columns = len(panels) if len(panels) <= 4 else math.ceil(len(panels) / 2)
    gap = 0.25
    width = min((WIDTH - 2 * MARGIN - (n_columns - 1) * gap) / n_columns, 3.0)
    captions = [
        textwrap.wrap(panel.caption, int(14 * width), max_lines=2, placeholder=" …")
        for panel in panels
    ]
    ratios = [min(panel.image.shape[0] / panel.image.shape[1], 1.5) for panel in panels]
    caption_height = 0.16 * max(map(len, captions)) + 0.26
    row_height = caption_height + width * max(ratios) + 1.0
    n_rows = math.ceil(len(panels) / n_columns)
    figure = blank(height=n_rows * row_height + 0.75)
    top = header(figure, title, None)
    for number, panel in enumerate(panels):
        row, column = divmod(number, n_columns)
        left, y = MARGIN + column * (width + gap), top - row * row_height
        _caption(figure, left, y, captions[number], panel)
        y -= caption_height + width * ratios[number]
        _image(axes_at(figure, left, y, width, width * ratios[number]), panel)
        _histogram(axes_at(figure, left, y - 0.52, width, 0.45), panel)
    return figure


def _caption(figure: Figure, left: float, top: float, lines: Sequence[str], panel: Panel) -> None:
    """What was done, and the size of the image that came out."""
    y = top - 0.12
    for line in lines:
        write(figure, left, y, line)
        y -= 0.16
    rows, columns = panel.image.shape
    write(figure, left, y, f"{columns} × {rows} pixels", fontsize=7.5, color=GRAY)


def _image(axes: Axes, panel: Panel) -> None:
    black, white = _black_and_white(panel)
    axes.imshow(panel.image, cmap="gray", vmin=black, vmax=white, interpolation="antialiased")
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)


def _histogram(axes: Axes, panel: Panel) -> None:
    black, white = _black_and_white(panel)
    counts, edges = np.histogram(panel.image, bins=64, range=(black, white))
    axes.stairs(np.log1p(counts), edges, fill=True, color=GRAY)
    axes.set_xlim(black, white)
    axes.set_xticks([black, white], [f"{value:.5g}".replace("-", "−") for value in (black, white)])
    axes.tick_params(left=False, labelleft=False, labelsize=7.5)
    axes.spines[["left", "right", "top"]].set_visible(False)
    first, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


def _black_and_white(panel: Panel) -> tuple[float, float]:
    """The panel's value range, widened where the image is of one value."""
    low, high = panel.value_range or (float(panel.image.min()), float(panel.image.max()))
    return (low, high) if high > low else (low - 0.5, low + 0.5)
