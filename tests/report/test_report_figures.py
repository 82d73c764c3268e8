"""What the figures say, that their files are what they should be, and that bytes repeat."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image

from mammography.analysis.projection import Projection
from mammography.report.figures import (
    Panel,
    draw_projection,
    draw_steps,
    projection_figure,
    steps_figure,
)
from mammography.report.page import NOMINAL

DENSITIES = ["A  almost entirely fatty", "B  scattered", "C  heterogeneous", "D  extremely dense"]
WARNING = (
    "Untrained encoder (random weights, seed 42): the map shows preprocessing, nothing learned"
)


def pca(n: int) -> Projection:
    coordinates = np.random.default_rng(n).normal(size=(n, 2))
    return Projection("pca", coordinates, (0.3412, 0.1), 42, {})


def labels_of(n: int) -> list[str | None]:
    return [[*DENSITIES, None][i % 5] for i in range(n)]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def drawn(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """The points of the map by their colour."""
    points: dict[str, list[tuple[float, float]]] = {}
    for collection in figure.axes[0].collections:
        colour = to_hex(collection.get_facecolor()[0])
        points.setdefault(colour, []).extend(map(tuple, collection.get_offsets().tolist()))
    return points


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[1].texts]


def test_the_legend_names_and_counts_every_class_in_order() -> None:
    figure = draw_projection(pca(1234), [*["x"] * 1230, None, "y", "y", "y"], ["y", "x", "z"], "T")
    assert legend(figure) == ["y", "n = 3", "x", "n = 1,230", "z", "n = 0", "no label", "n = 1"]


def test_every_point_is_drawn_once_in_the_colour_of_its_class() -> None:
    projection, labels = pca(203), labels_of(203)
    points = drawn(draw_projection(projection, labels, DENSITIES, "T"))
    for name, (colour, _, _) in zip(DENSITIES, NOMINAL, strict=False):
        rows = [i for i, label in enumerate(labels) if label == name]
        assert sorted(points.pop(colour.lower())) == sorted(
            map(tuple, projection.coordinates[rows].tolist())
        )
    (unlabelled,) = points.values()
    assert len(unlabelled) == labels.count(None)


def test_classes_differ_by_marker_as_well() -> None:
    assert len({marker for _, marker, _ in NOMINAL}) == len(NOMINAL)
    figure = draw_projection(pca(40), labels_of(40), DENSITIES, "T")
    outlines = {
        scatter.get_paths()[0].vertices.tobytes() for scatter in figure.axes[1].collections[:4]
    }
    assert len(outlines) == 4


def test_ordered_classes_grow_lighter() -> None:
    figure = draw_projection(pca(40), labels_of(40), DENSITIES, "T", ordered=True)
    colours = [scatter.get_facecolor()[0, :3] for scatter in figure.axes[1].collections[:4]]
    lightness = [float(colour @ [0.2126, 0.7152, 0.0722]) for colour in colours]
    assert lightness == sorted(lightness)
    assert np.diff(lightness).min() > 0.1


def test_pca_axes_carry_the_explained_variance() -> None:
    axes = draw_projection(pca(9), [None] * 9, [], "T").axes[0]
    assert axes.get_xlabel() == "PC 1 (34.1 %)"
    assert axes.get_ylabel() == "PC 2 (10.0 %)"


@pytest.mark.parametrize(
    ("method", "settings", "line"),
    [
        ("tsne", {"perplexity": 4 / 3}, "t-SNE, perplexity 1.33, seed 7  ·  5 images"),
        ("umap", {"n_neighbors": 15}, "UMAP, 15 neighbours, seed 7  ·  5 images"),
    ],
)
def test_maps_without_units_say_how_they_were_made(
    method: str, settings: dict[str, object], line: str
) -> None:
    projection = Projection(method, np.random.default_rng(0).normal(size=(5, 2)), None, 7, settings)
    figure = draw_projection(projection, ["a"] * 5, ["a"], "T")
    assert line in words(figure)
    figure.canvas.draw()
    axes = figure.axes[0]
    assert not any(tick.label1.get_visible() for tick in axes.xaxis.get_major_ticks())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("", "")
    box = axes.transData.transform([[0, 0], [1, 1]])
    assert np.ptp(box[:, 0]) == pytest.approx(np.ptp(box[:, 1]))


def test_title_warning_and_notice_are_on_the_page() -> None:
    figure = draw_projection(pca(5), [None] * 5, [], "Maps of an archive", WARNING)
    said = words(figure)
    assert "Maps of an archive" in said
    assert WARNING in said
    assert "Research only: not for diagnosis." in said
    assert WARNING not in words(draw_projection(pca(5), [None] * 5, [], "T"))


def test_no_words_leave_the_page_or_touch_each_other() -> None:
    names = [f"{word} with a rather long name of class" for word in "abcdefgh"]
    figure = draw_projection(
        pca(90), [[*names, None][i % 9] for i in range(90)], names, "long title " * 12, WARNING * 2
    )
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in figure.findobj(Text) if t.get_text().strip()]
    page = figure.bbox
    boxes = [box for box in boxes if box.width and box.height]
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)
    assert all(box.x1 <= page.x1 and box.y1 <= page.y1 for box in boxes)
    column = sorted((t.get_window_extent() for t in figure.axes[1].texts), key=lambda box: box.y0)
    assert all(above.y0 >= below.y1 - 3 for below, above in itertools.pairwise(column))


def test_surplus_classes_are_pooled_and_counted() -> None:
    names = [f"class {i}" for i in range(30)]
    figure = draw_projection(pca(60), names * 2, names, "T")
    assert legend(figure)[-2:] == ["further classes: 22", "n = 44"]
    assert sum(map(len, drawn(figure).values())) == 60


@pytest.mark.parametrize("name", ["$x_1$", "_hidden", "50 % {a} \\frac", "-", "", "µ"])
def test_any_class_name_can_be_drawn_as_it_is(name: str, tmp_path: Path) -> None:
    figure = draw_projection(pca(3), [name] * 3, [name], name)
    assert "".join(legend(figure)) == f"{name}n = 3"
    projection_figure(tmp_path / "map.png", pca(3), [name] * 3, [name], name)


def test_a_label_without_a_place_in_the_order_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"not in class_order: \['b'\]"):
        draw_projection(pca(3), ["a", "b", None], ["a"], "T")
    with pytest.raises(ValueError, match="2 labels for 3 points"):
        draw_projection(pca(3), ["a", "a"], ["a"], "T")


@pytest.mark.parametrize("n", [2, 4, 200, 54_000])
def test_maps_of_every_size_are_files_of_1600_pixels(n: int, tmp_path: Path) -> None:
    path = tmp_path / "new" / "map.png"
    projection_figure(path, pca(n), labels_of(n), DENSITIES, "T", WARNING, ordered=True)
    with Image.open(path) as picture:
        assert (picture.format, picture.width) == ("PNG", 1600)
        assert set(picture.info) <= {"dpi"}
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10
    assert list(path.parent.iterdir()) == [path]


def test_points_on_a_line_can_be_drawn(tmp_path: Path) -> None:
    line = np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    for shares, method in (((1.0, 0.0), "pca"), (None, "tsne")):
        projection = Projection(method, line, shares, 1, {"perplexity": 1.0})
        projection_figure(tmp_path / "map.png", projection, ["a"] * 3, ["a"], "T")


def write_both(folder: Path) -> list[str]:
    projection_figure(folder / "map.png", pca(200), labels_of(200), DENSITIES, "T", WARNING)
    image = np.random.default_rng(0).normal(size=(60, 40))
    steps_figure(folder / "steps.png", [Panel(image, "One"), Panel(image, "Two", (0, 1))], "Steps")
    names = ("map.png", "steps.png")
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


def test_equal_input_gives_equal_bytes_whatever_the_users_style(tmp_path: Path) -> None:
    first = write_both(tmp_path)
    with matplotlib.rc_context({"font.size": 20, "savefig.bbox": "tight", "axes.grid": True}):
        assert write_both(tmp_path) == first
        assert matplotlib.rcParams["font.size"] == 20
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [*first, "pyplot-free"]


def test_steps_show_images_captions_and_sizes() -> None:
    images = [np.arange(12.0).reshape(3, 4) + step for step in range(6)]
    figure = draw_steps([Panel(image, f"Step {i}") for i, image in enumerate(images)], "Chain")
    shown = [image for axes in figure.axes for image in axes.findobj(AxesImage)]
    for image, expected in zip(shown, images, strict=True):
        assert np.array_equal(image.get_array(), expected)
        assert image.get_clim() == (expected.min(), expected.max())
    said = words(figure)
    assert [word for word in said if word.startswith("Step")] == [f"Step {i}" for i in range(6)]
    assert said.count("4 × 3 pixels") == 6
    assert {"Chain", "Research only: not for diagnosis."} <= set(said)
    tops = {round(axes.get_position().y1, 6) for axes in figure.axes if axes.images}
    assert len(tops) == 2


def test_histograms_count_the_values_in_range_on_a_logarithmic_scale() -> None:
    image = np.array([[0, 0, 0, 5], [10, 10, 64, 900]], dtype=np.uint16)
    figure = draw_steps([Panel(image, "x", (0, 64))], "T")
    heights = figure.axes[1].patches[0].get_data().values
    counts = np.rint(np.expm1(heights)).astype(int)
    assert len(counts) == 64
    assert dict(zip(np.flatnonzero(counts).tolist(), counts[counts > 0].tolist(), strict=True)) == {
        0: 3,
        5: 1,
        10: 2,
        63: 1,
    }
    assert [tick.get_text() for tick in figure.axes[1].get_xticklabels()] == ["0", "64"]


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.eye(3, dtype=np.int16), np.ones((2, 900), np.uint16)]
)
def test_flat_small_and_wide_images_can_be_drawn(image: np.ndarray, tmp_path: Path) -> None:
    steps_figure(tmp_path / "steps.png", [Panel(image, "x")], "T")
    with Image.open(tmp_path / "steps.png") as picture:
        assert picture.width == 1600


if __name__ == "__main__":
    print(*write_both(Path(sys.argv[1])))  # noqa: T201
    print("pyplot" if "matplotlib.pyplot" in sys.modules else "pyplot-free")  # noqa: T201
