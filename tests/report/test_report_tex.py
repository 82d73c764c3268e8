"""Our block of a TeX file, and every byte outside it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammography.errors import UsageError
from mammography.report.tex import BEGIN, END, escaped, open_section

OTHERS = st.binary(max_size=200).filter(lambda content: b"report-pack" not in content)
NEWLINES = st.sampled_from([b"\n", b"\r\n"])


@given(before=OTHERS, inside=OTHERS, after=OTHERS, newline=NEWLINES)
def test_bytes_outside_the_markers_never_change(
    before: bytes, inside: bytes, after: bytes, newline: bytes
) -> None:
    """Whatever the encoding, whatever the line ends."""
    begin, end = BEGIN.encode() + newline, END.encode() + newline
    around = [before + newline + begin, end + after]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "density_model.tex"
        path.write_bytes((inside + newline).join(around))
        open_section(path, "heading").write("new\nlines é\n")
        expected = newline.join([b"new", "lines é".encode(), b""]).join(around)
        assert path.read_bytes() == expected
        open_section(path, "heading").write("new\nlines é\n")
        assert path.read_bytes() == expected
        assert [file.name for file in Path(folder).iterdir()] == [path.name]


def test_a_file_that_does_not_exist_is_made(tmp_path: Path) -> None:
    path = tmp_path / "sections/density_model.tex"
    open_section(path, "\\section{Density}\n").write("a\nb\n")
    expected = "\\section{Density}\n% BEGIN mammography report-pack\na\nb\n"
    assert path.read_text() == f"{expected}% END mammography report-pack\n"


def test_markers_may_be_indented_and_end_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tex"
    path.write_text(f"x\n  {BEGIN}  \nold\n\t{END}")
    open_section(path, "").write("new\n")
    assert path.read_text() == f"x\n  {BEGIN}  \nnew\n\t{END}"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "0 and 0"),
        (f"{BEGIN}\n", "1 and 0"),
        (f"{END}\n", "0 and 1"),
        (f"{END}\n{BEGIN}\n", "1 and 1"),
        (f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n", "2 and 2"),
        (f"{BEGIN}\n{BEGIN}\n{END}\n", "2 and 1"),
        (f"text {BEGIN}\n{END}\n", "0 and 1"),
        (f"{BEGIN} (ours)\n{END}\n", "0 and 1"),
    ],
)
def test_without_its_markers_a_file_is_left_alone_and_the_lines_to_add_are_told(
    content: str, found: str, tmp_path: Path
) -> None:
    path = tmp_path / "paper.tex"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        open_section(path, "")
    message = str(caught.value)
    assert str(path) in message
    assert f"now: {found} times" in message
    assert message.endswith(f":\n{BEGIN}\n{END}")
    assert path.read_text() == content


def test_a_folder_is_no_tex_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        open_section(tmp_path, "")


def test_special_characters_are_escaped() -> None:
    assert escaped("a_b 50% {$x^2~y\\z}#&") == (
        r"a\_b 50\% \{\$x\textasciicircum{}2\textasciitilde{}y\textbackslash{}z\}\#\&"
    )
    assert escaped("Glândula C or D") == "Glândula C or D"
