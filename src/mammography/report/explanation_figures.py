"""Figures of explanations: images beside their attribution maps, by class."""

from __future__ import annotations

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
    GRAY,
    INK,
    MARGIN,
    NOMINAL,
    PRINT_DPI,
    WIDTH,
    axes_at,
    blank,
    header,
    header_height,
    own_style,
    save,
    write,
)

#: The examples of one line of the page; None where there is nothing to show.
_Row = list[CamExample | None]

_PAGE_HEIGHT = 10.6  # with 8 inches of width, it fits A4 and Letter
_FOOT = 0.3
_WORDS = 0.45  # below each picture
_LEAST_ROW = 1.6
_LEFT = MARGIN + 0.3  # right of the class names
_GAP = 0.2
_SIDE = (WIDTH - MARGIN - _LEFT - _GAP) / 2  # correct ones, and wrong ones
_WRONG = NOMINAL[5][0]
_MAP = colormaps["inferno"]


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
    """Draw each image beside itself under its map: a block per class, correct beside wrong.

    The page is at most 10.6 inches high. Examples for which there is no room are left out, the
    last of each class first, and the subtitle says how many are shown.

    Args:
        examples: At least one; classes come in the order of their first example. The maps of
            those with a true class are of the predicted one. Examples without a true class are
            drawn in reading order; which class their maps are of is the title's to say.
        title: What was explained; long ones wrap.
        warning: What a reader must know before believing the maps, such as an untrained encoder.

    Raises:
        ValueError: There is no example.
    """
    if not examples:
        raise ValueError("there is no example to draw")
    blocks = _blocks(examples)
    rows = [row for block in blocks.values() for row in block]
    pitch = (2 * _SIDE + 2 * _GAP) / len(rows[0])
    highest = max(example.image.shape[0] / example.image.shape[1] for example in examples)
    row_height = (pitch - _GAP) / 2 * highest + _WORDS
    shown = sum(example is not None for row in rows for example in row)
    share = "" if shown == len(examples) else f"; {shown} of {len(examples)} examples"
    labelled = set(blocks) != {None}
    what = "Grad-CAM of the predicted class," if labelled else "Grad-CAM; the predicted class is"
    subtitle = f"{what} named below; each map has its own scale{share}"
    head = header_height(title, subtitle, warning) + 0.22
    row_height = min(row_height, (_PAGE_HEIGHT - head - _FOOT) / len(rows))
    figure = blank(head + row_height * len(rows) + _FOOT)
    y = header(figure, title, subtitle, warning) - 0.1
    _headings(figure, y, labelled=labelled)
    y -= 0.12
    for name, block in blocks.items():
        _class_name(figure, y, row_height * len(block) - 0.1, name)
        for row in block:
            for number, example in enumerate(row):
                if example is not None:
                    box = (_LEFT + number * pitch, y, pitch - _GAP, row_height - _WORDS)
                    _example(figure, box, example)
            if name is not None and row is block[0]:
                _absent(figure, y - 0.2, row)
            y -= row_height
    return figure


def _blocks(examples: Sequence[CamExample]) -> dict[str | None, list[_Row]]:
    """The lines of each class that there is room for: correct ones first, then wrong ones."""
    by_class: dict[str | None, tuple[list[CamExample], list[CamExample]]] = {}
    for example in examples:
        correct, wrong = by_class.setdefault(example.true, ([], []))
        (correct if example.correct or example.true is None else wrong).append(example)
    most = max(len(side) for sides in by_class.values() for side in sides)
    abreast = min(most, 2)
    room = max(int((_PAGE_HEIGHT - 1.5) / _LEAST_ROW / len(by_class)), 1)
    blocks: dict[str | None, list[_Row]] = {}
    for name, (correct, wrong) in by_class.items():
        if name is None:
            rows = _lines(correct, 1 if len(examples) == 1 else 2 * abreast)
        else:
            sides = zip_longest(_lines(correct, abreast), _lines(wrong, abreast))
            nothing: _Row = [None] * abreast
            rows = [(left or nothing) + (right or nothing) for left, right in sides]
        blocks[name] = rows[:room]
    return blocks


def _lines(examples: Sequence[CamExample], length: int) -> list[_Row]:
    """Examples in lines of one length, the last of them filled up with None."""
    filled = [*examples, *[None] * (-len(examples) % length)]
    return [filled[start : start + length] for start in range(0, len(filled), length)]


def _headings(figure: Figure, y: float, *, labelled: bool) -> None:
    """What stands left and right, and what the map's colours mean."""
    if labelled:
        write(figure, _LEFT, y, "correct", weight="bold")
        write(figure, _LEFT + _SIDE + _GAP, y, "wrong", weight="bold", color=_WRONG)
    axes = axes_at(figure, WIDTH - MARGIN - 1.32, y, 1.0, 0.09)
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=_MAP, aspect="auto")
    axes.axis("off")
    write(figure, WIDTH - MARGIN - 1.37, y, "low", ha="right", color=GRAY, fontsize=7.5)
    write(figure, WIDTH - MARGIN, y, "high", ha="right", color=GRAY, fontsize=7.5)


def _class_name(figure: Figure, top: float, height: float, name: str | None) -> None:
    per_point = 0.0095  # inches that a bold letter is wide, for each point of its size
    words = _short(name or "", int(height / (7 * per_point)))
    size = min(10.0, height / (per_point * max(len(words), 1)))
    style = {"ha": "center", "va": "center", "fontsize": size, "weight": "bold"}
    write(figure, MARGIN + 0.08, top - height / 2, words, rotation=90, **style)


def _absent(figure: Figure, y: float, row: _Row) -> None:
    """Say it where a class has no correct example, or no wrong one."""
    half = len(row) // 2
    for side, left in ((row[:half], _LEFT), (row[half:], _LEFT + _SIDE + _GAP)):
        if side == [None] * half:
            write(figure, left, y, "no example", color=GRAY)


def _example(figure: Figure, box: tuple[float, float, float, float], example: CamExample) -> None:
    """One image, the same under its map, and what the model said.

    Args:
        figure: The page.
        box: Left and top end, width of both pictures and height of each.
        example: What to draw.
    """
    left, top, room, height = box
    rows, columns = example.image.shape
    scale = min((room - 0.04) / 2 / columns, height / rows)
    width, height = scale * columns, scale * rows
    gray = _at_size(example.image, width, height)
    heat = _at_size(example.heat, width, height)
    for number, picture in enumerate((overlay(gray, 0 * heat), overlay(gray, heat))):
        axes = axes_at(figure, left + number * (width + 0.04), top - height, width, height)
        axes.imshow(picture, interpolation="antialiased", aspect="auto")
        axes.axis("off")
    colour = _WRONG if example.true is not None and not example.correct else INK
    probability = f", {100 * example.probability:.0f} %"
    said = _short(example.predicted, int(room / 0.07) - len(probability))
    write(figure, left, top - height - 0.15, said + probability, color=colour, fontsize=8.5)
    caption = _short(example.caption, int(room / 0.058))
    write(figure, left, top - height - 0.28, caption, color=GRAY, fontsize=7)


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
    mixed = (1 - weight) * gray[..., None] + weight * _MAP(heat)[..., :3]
    return np.clip(mixed, 0, 1)


def _at_size(
    values: npt.NDArray[np.floating], width: float, height: float
) -> npt.NDArray[np.float32]:
    """Shrink to the pixels that a print has for this many inches; nothing is enlarged."""
    rows, columns = values.shape
    size = (min(columns, round(width * PRINT_DPI)), min(rows, round(height * PRINT_DPI)))
    plain = np.ascontiguousarray(values, dtype=np.float32)
    return np.clip(cv2.resize(plain, size, interpolation=cv2.INTER_AREA), 0, 1)


def _short(words: str, width: int) -> str:
    return words if len(words) <= width else f"{words[: width - 1].rstrip()}…"
