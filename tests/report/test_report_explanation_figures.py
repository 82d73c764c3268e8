"""Where examples and maps stand on the page, and that nothing is left out unsaid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from mammography.explain.examples import CamExample
from mammography.report.explanation_figures import draw_gradcam, gradcam_figure, overlay


def example(
    true: str | None, predicted: str, shape: tuple[int, int] = (60, 40), caption: str = "e1, L CC"
) -> CamExample:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = rows / shape[0] * 0.5
    return CamExample(image, columns / columns.max(), true, predicted, 0.625, caption)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def places(figure: Figure) -> list[tuple[float, float]]:
    """Left end and top, in inches, of every pair of pictures, in the order of drawing."""
    width, height = figure.get_size_inches()
    boxes = [axes.get_position() for axes in figure.axes if axes.images]
    pairs = boxes[1::2]  # the first is the colour bar
    return [(round(box.x0 * width, 3), round(box.y1 * height, 3)) for box in pairs]


def test_correct_ones_stand_left_of_wrong_ones_and_classes_below_each_other() -> None:
    figure = draw_gradcam(
        [example("A", "B"), example("A", "A"), example("B", "B"), example("B", "A")], "T"
    )
    (left, first), (right, beside), (under, second), (last, end) = places(figure)
    assert left == under < right == last
    assert first == beside > second == end
    said = [line for line in words(figure) if line.endswith("%")]
    assert said == [f"{name}, 62 %" for name in ("A", "B", "B", "A")]
    headings = {t.get_text(): t.get_position()[0] for t in figure.texts}
    assert headings["correct"] == pytest.approx(left, abs=1e-3)
    assert headings["wrong"] == pytest.approx(right, abs=1e-3)
    assert {"A", "B"} <= set(headings)


def test_both_pictures_keep_the_aspect_of_the_image() -> None:
    for shape in ((60, 40), (40, 60), (300, 20)):
        figure = draw_gradcam([example("A", "A", shape)], "T")
        width, height = figure.get_size_inches()
        for axes in figure.axes[1:]:
            box = axes.get_position()
            ratio = box.height * height / (box.width * width)
            assert ratio == pytest.approx(shape[0] / shape[1])


def test_the_image_is_shown_as_it_is_beside_its_overlay() -> None:
    one = example("A", "A")
    _, image, overlaid = draw_gradcam([one], "T").axes
    gray = np.asarray(image.images[0].get_array())
    assert gray == pytest.approx(np.repeat(one.image[..., None], 3, axis=2), abs=1e-6)
    assert np.asarray(overlaid.images[0].get_array()) == pytest.approx(
        overlay(one.image, one.heat), abs=1e-6
    )


def test_heat_covers_in_proportion() -> None:
    gray = np.array([[0.25, 0.25, 0.25]])
    colours = overlay(gray, np.array([[0.0, 0.5, 1.0]]))[0]
    assert colours[0] == pytest.approx([0.25] * 3)  # nothing where there is no heat
    brightest = np.array([0.988362, 0.998364, 0.644924])  # the last colour of inferno
    assert colours[2] == pytest.approx(0.3 * 0.25 + 0.7 * brightest)
    assert (overlay(np.ones((4, 5)), np.random.default_rng(0).random((4, 5))) <= 1).all()


def test_a_class_without_wrong_examples_says_so() -> None:
    said = words(draw_gradcam([example("A", "A"), example("B", "A"), example("B", "B")], "T"))
    assert said.count("no example") == 1
    assert "no example" not in words(draw_gradcam([example("A", "A"), example("A", "B")], "T"))


def test_what_does_not_fit_is_counted() -> None:
    many = [example(name, predicted) for name in "ABCDE" for predicted in "AABBCCDDEE"]
    figure = draw_gradcam(many, "T")
    shown = len(places(figure))
    assert shown < len(many)
    assert any(f"; {shown} of {len(many)} examples" in said for said in words(figure))
    few = draw_gradcam(many[:4], "T")
    assert len(places(few)) == 4
    assert not any("of 4 examples" in said for said in words(few))


@pytest.mark.parametrize(
    ("n_classes", "each"), [(1, 1), (1, 9), (2, 7), (3, 2), (4, 1), (4, 2), (12, 2)]
)
@pytest.mark.parametrize("shape", [(60, 40), (90, 20), (20, 60)])
def test_the_figure_fits_a_page(n_classes: int, each: int, shape: tuple[int, int]) -> None:
    names = [f"a heterogeneously dense class {number}" for number in range(n_classes)]
    given = [
        example(name, predicted, shape, "a very long caption of an image " * 5)
        for name in names
        for predicted in (name, "x")
        for _ in range(each)
    ]
    figure = draw_gradcam(given, "long title " * 12, "a warning " * 20)
    assert figure.get_figheight() <= 10.6 + 1e-9
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in figure.findobj(Text) if t.get_text().strip()]
    boxes += [axes.get_window_extent() for axes in figure.axes]
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)
    assert all(box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    (notice,) = [t.get_window_extent() for t in figure.texts if "not for diagnosis" in t.get_text()]
    assert all(axes.get_window_extent().y0 > notice.y1 for axes in figure.axes)


def test_images_without_a_label_are_drawn_in_reading_order() -> None:
    figure = draw_gradcam([example(None, name) for name in "ABCDE"], "T")
    assert "wrong" not in words(figure)
    assert "no example" not in words(figure)
    assert not any("of the predicted class" in said for said in words(figure))
    (x1, y1), (x2, y2), (x3, y3), (x4, y4), (x5, y5) = places(figure)
    assert x5 == x1 < x2 < x3 < x4
    assert y1 == y2 == y3 == y4 > y5


def test_one_image_without_a_label_has_the_page_for_itself() -> None:
    one, two = (draw_gradcam([example(None, "A")] * number, "T") for number in (1, 2))
    widths = [figure.axes[1].get_position().width for figure in (one, two)]
    assert widths[0] > 2 * widths[1]


def test_without_an_example_there_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no example"):
        draw_gradcam([], "T")


def test_title_warning_and_notice_are_on_the_page() -> None:
    said = words(draw_gradcam([example("A", "A")], "Title", "Caution!"))
    assert {"Title", "Caution!", "Research only: not for diagnosis."} <= set(said)


def test_equal_input_gives_equal_bytes_of_the_asked_resolution(tmp_path: Path) -> None:
    given = [example("A", "A", (900, 700)), example("A", "B", (3, 2))]
    contents = []
    for name in ("a.png", "b.png"):
        gradcam_figure(tmp_path / name, given, "T", dpi=300)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == 2400
