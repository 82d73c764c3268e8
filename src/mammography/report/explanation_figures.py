"""Figures of explanations: images beside their attribution maps, by class."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.figure import Figure

from mammography.explain.examples import CamExample
from mammography.report.page import (
    DPI,
    FAINT,
    GRAY,
    INK,
    MARGIN,
    NOMINAL,
    PRINT_DPI,
    WIDTH,
    axes_at,
    blank,
    header,
    own_style,
    save,
    write,
)

#: Up to two examples side by side.
_Row = tuple[CamExample | None, CamExample | None]

_PAGE_HEIGHT = 10.6  # with 8 inches of width, it fits A4 and Letter
_HEAD = 1.55  # title, headings and notice
_WORDS = 0.45  # below each picture
_LEAST_ROW = 1.6
_LEFT = MARGIN + 0.3  # right of the class names
_GAP = 0.25  # between the two columns
_PAIR = (WIDTH - MARGIN - _LEFT - _GAP) / 2
_PICTURE = (_PAIR - 0.04) / 2
_COLUMNS = (_LEFT, _LEFT + _PAIR + _GAP)
_WRONG = NOMINAL[5][0]


def gradcam_figure(
    path: Path,
    examples: Sequence[CamExample],
    title: str,
    *,
    warning: str | None = None,
    dpi: int = DPI,
) -> None:
    """Write examples with their maps as a PNG, 8 inches wide. Arguments as in `draw_gradcam`."""
    save(path, draw_gradcam(examples, title, warning), dpi)


@own_style()
def draw_gradcam(examples: Sequence[CamExample], title: str, warning: str | None = None) -> Figure:
    """Draw each image beside itself under its map: a block per class, right beside wrong.

    The page is at most 10.6 inches high. Examples for which there is no room are left out, the
    last of each class first, and the subtitle says how many are shown.

    Args:
        examples: At least one; classes come in the order of their first example. Examples without
            a true class are drawn in reading order.
        title: What was explained; long ones wrap.
        warning: What a reader must know before believing the maps, such as an untrained encoder.

    Raises:
        ValueError: There is no example.
    """
    if not examples:
        raise ValueError("there is no example to draw")
    blocks = _blocks(examples)
    rows = [row for block in blocks.values() for row in block]
    highest = max(example.image.shape[0] / example.image.shape[1] for example in examples)
    row_height = min(_PICTURE * highest + _WORDS, (_PAGE_HEIGHT - _HEAD) / len(rows))
    figure = blank(height=_HEAD + row_height * len(rows))
    shown = sum(example is not None for row in rows for example in row)
    share = "" if shown == len(examples) else f"; {shown} of {len(examples)} examples"
    subtitle = f"Grad-CAM of the predicted class, each map scaled to its own maximum{share}"
    y = header(figure, title, subtitle, warning) - 0.1
    _colour_bar(figure, y)
    if set(blocks) != {None}:
        for left, words in zip(_COLUMNS, ("right", "wrong"), strict=True):
            write(figure, left, y, words, weight="bold", color=INK if words == "right" else _WRONG)
    y -= 0.12
    for name, block in blocks.items():
        middle = y - (row_height * len(block) - _WORDS) / 2
        style = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 10}
        write(figure, MARGIN + 0.08, middle, _short(name or "", 28), weight="bold", **style)
        for row in block:
            for left, example in zip(_COLUMNS, row, strict=True):
                if example is not None:
                    _example(figure, left, y, row_height - _WORDS, example)
                elif name is not None and row is block[0]:
                    write(figure, left, y - 0.2, "no example", color=FAINT)
            y -= row_height
    return figure


def _blocks(examples: Sequence[CamExample]) -> dict[str | None, list[_Row]]:
    """The rows of each class that there is room for."""
    classes = list(dict.fromkeys(example.true for example in examples))
    room = int((_PAGE_HEIGHT - _HEAD) / _LEAST_ROW / len(classes))
    blocks: dict[str | None, list[_Row]] = {}
    for name in classes:
        members = [example for example in examples if example.true == name]
        if name is None:
            left, right = members[0::2], members[1::2]
        else:
            left = [example for example in members if example.correct]
            right = [example for example in members if not example.correct]
        blocks[name] = list(zip_longest(left, right))[: max(room, 1)]
    return blocks


def _example(figure: Figure, left: float, top: float, height: float, example: CamExample) -> None:
    """One image, the same under its map, and what the model said."""
    rows, columns = example.image.shape
    scale = min(_PICTURE / columns, height / rows)
    width, height = scale * columns, scale * rows
    gray = _at_size(example.image, width, height)
    heat = _at_size(example.heat, width, height)
    for number, picture in enumerate((np.repeat(gray[..., None], 3, axis=2), overlay(gray, heat))):
        axes = axes_at(figure, left + number * (width + 0.04), top - height, width, height)
        axes.imshow(picture, interpolation="antialiased", aspect="auto")
        axes.axis("off")
    colour = _WRONG if example.true is not None and not example.correct else INK
    said = f"predicted {_short(example.predicted, 30)}, {100 * example.probability:.0f} %"
    write(figure, left, top - height - 0.15, said, color=colour, fontsize=8.5)
    write(figure, left, top - height - 0.28, _short(example.caption, 62), color=GRAY, fontsize=7)


def overlay(
    gray: npt.NDArray[np.floating], heat: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Gray image under its map: the hotter, the less of the image shows through.

    Args:
        gray: (rows, columns), 0-1.
        heat: The same shape, 0-1.

    Returns:
        (rows, columns, 3), 0-1: where there is no heat, the image itself.
    """
    weight = 0.7 * np.asarray(heat, dtype=np.float64)[..., None]
    mixed = (1 - weight) * gray[..., None] + weight * colormaps["inferno"](heat)[..., :3]
    return np.clip(mixed, 0, 1)


def _at_size(
    values: npt.NDArray[np.floating], width: float, height: float
) -> npt.NDArray[np.float32]:
    """Shrink to the pixels that a print has for this many inches; nothing is enlarged."""
    rows, columns = values.shape
    size = (min(columns, round(width * PRINT_DPI)), min(rows, round(height * PRINT_DPI)))
    plain = np.ascontiguousarray(values, dtype=np.float32)
    return np.clip(cv2.resize(plain, size, interpolation=cv2.INTER_AREA), 0, 1)


def _colour_bar(figure: Figure, y: float) -> None:
    """What the map's colours mean, at the right of the headings."""
    axes = axes_at(figure, WIDTH - MARGIN - 1.45, y, 1.0, 0.09)
    axes.imshow(np.linspace(0, 1, 256)[None], cmap="inferno", aspect="auto")
    axes.axis("off")
    style = {"color": GRAY, "fontsize": 7.5}
    write(figure, WIDTH - MARGIN - 1.5, y, "low", ha="right", **style)
    write(figure, WIDTH - MARGIN, y, "high", ha="right", **style)


def _short(words: str, width: int) -> str:
    return textwrap.shorten(words, width, placeholder=" …")
