"""The pages are true: what they show is run, what they name exists."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tyro

import mammography
from mammography.commands import COMMANDS, command_class
from mammography.preprocess.recipes.imagenet import PLUGIN as IMAGENET
from mammography.runs import canonical_json
from mammography.vocabulary import UNREADABLE, RejectCode

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES += sorted(DOCS.rglob("*.md"))

#: An encoder that is quick to make; the pages show the default one.
QUICK = {"encoder": "timm:mobilenetv2_100", "img_size": 64, "backend": "torch", "tsne": False}
QUICK |= {"umap": False, "weights": "random"}


def script(path: Path) -> ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


generate = script(DOCS / "generate.py")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def words(text: str) -> list[str]:
    """A text without spaces and the boxes that help texts are drawn in."""
    return re.sub(r"[─│╭╮╰╯┄]", " ", text).split()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^ *```{language}\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.S | re.M
    )


def command_lines(page: Path) -> Iterator[list[str]]:
    """The arguments of every `mammography` command in the page's bash blocks."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line, comments=True) or [""]
            if program == "mammography":
                yield arguments


def parsed(arguments: list[str]) -> Any:
    """The command's dataclass; fails where the command line does not take the options."""
    name, *options = arguments
    return tyro.cli(command_class(name), args=options, config=(tyro.conf.DisallowNone,))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the pages' commands run in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMMOGRAPHY_SALT", "tests")
        yield tmp_path_factory.mktemp("docs")


@pytest.fixture(scope="module")
def printed(scratch: Path) -> dict[str, list[tuple[Any, str]]]:
    """By page: its examples that do not vary, each with what it prints now."""
    printed = {}
    for page in generate.PAGES:
        text = (DOCS / page).read_text(encoding="utf-8")
        examples = [e for e in generate.examples(text, scratch) if not e.varies]
        printed[page] = [(e, generate.output_of(e.command, scratch)) for e in examples]
    return printed


@pytest.mark.parametrize("page", generate.PAGES)
def test_output_is_what_the_command_prints(
    page: str, printed: dict[str, list[tuple[Any, str]]]
) -> None:
    assert printed[page]
    for example, output in printed[page]:
        stale = f"{example.command}: run python docs/generate.py"
        assert words(example.shown) == words(output), stale


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page_with_its_help(command: str) -> None:
    page = DOCS / "commands" / f"{command}.md"
    assert ["--help"] in [arguments[1:] for arguments in command_lines(page)]
    assert f"commands/{command}.md" in (DOCS / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(command: str, scratch: Path) -> None:
    entries: list[str] = []
    for line in generate.output_of(f"mammography {command} --help", scratch).splitlines():
        if re.match(r"│ \S", line):
            entries.append("")
        if line.startswith("│"):
            entries[-1] += line
    assert len(entries) > len(dataclasses.fields(command_class(command)))
    for entry in entries:
        syntax = r"--[a-z0-9-]+|\{.*?\}|\b(?:STR|INT|FLOAT|PATH)\b|\(default.*|\(required\)"
        assert len(re.findall(r"[A-Za-z]{3,}", re.sub(syntax, "", entry))) >= 3, entry


def test_every_reject_code_is_explained() -> None:
    page = (DOCS / "commands/scan.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| .{10,} \| (yes|no) \|$", page, re.M)
    counted = {code.value: "yes" if code in UNREADABLE else "no" for code in RejectCode}
    assert dict(rows) == counted


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_images_resolve(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if not re.match(r"[a-z]+:", link):
            target = page.parent / path if path else page
            assert target.is_file(), f"{name_of(page)} links to {link}"
            assert not anchor or anchor in anchors(target), f"{name_of(page)} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_command_lines_are_accepted(page: Path) -> None:
    for arguments in command_lines(page):
        assert arguments[0] in COMMANDS, arguments
        if arguments[1:] != ["--help"]:
            assert parsed([argument for argument in arguments if argument != "--"])


def test_options_in_the_text_exist(printed: dict[str, list[tuple[Any, str]]]) -> None:
    helps = [out for each in printed.values() for e, out in each if "--help" in e.command]
    known = {"--help", "--debug", "--version"} | set(re.findall(r"--[a-z0-9-]+", " ".join(helps)))
    for page in PAGES:
        for span in re.findall(r"(?<!`)`((?:mammography |--)[^`\n]+)`", page.read_text("utf-8")):
            unknown = set(re.findall(r"(?<!\S)--[a-z0-9-]+", span)) - known
            assert not unknown, f"{name_of(page)}: `{span}`"


@pytest.mark.parametrize("page", sorted({*DOCS.rglob("*.md")} - {DOCS / "speed.md"}), ids=name_of)
def test_every_page_says_research_only(page: Path) -> None:
    assert "research only: not for diagnosis" in " ".join(page.read_text("utf-8").lower().split())


@pytest.mark.usefixtures("printed")
def test_the_tutorial_runs(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its `embed` and `preview`, then its Python, as one notebook."""
    page = DOCS / "your-own-archive.md"
    monkeypatch.chdir(scratch)
    for arguments in command_lines(page):
        if arguments[0] == "preview":
            assert parsed(arguments).run().picture.is_file()
        if arguments[0] == "embed":
            result = dataclasses.replace(parsed(arguments), **QUICK).run()
            assert result.exit_code == 0
            assert (result.embeddings.folder / "preview" / "pca_projection.png").is_file()
    capsys.readouterr()
    notebook = "\n".join(blocks(page, "python"))
    exec(compile(notebook, str(page), "exec"), {"__name__": "notebook"})
    shown = capsys.readouterr().out
    assert shown.startswith("(48, 1280) ['image_id', 'path', ")
    assert "(12, 1280)" in shown  # six exams of density 3 or 4, two MLO each
    assert shown.splitlines()[-1] == "1.0 0 0"


@pytest.mark.usefixtures("printed")
def test_the_plugins_of_extending_are_installed_and_run(scratch: Path, tmp_path: Path) -> None:
    page = DOCS / "extending.md"
    assert not list(generate.examples(page.read_text(encoding="utf-8"), tmp_path))
    (tmp_path / "practice").symlink_to(scratch / "practice")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run(
        [*install, "--no-build-isolation", "--target", "site", "."], cwd=tmp_path, check=True
    )
    for source in tmp_path.glob("lab_*.py"):
        source.unlink()  # what runs is what was installed
    printed = ""
    for arguments in command_lines(page):
        quickly = ["--backend", "torch", "--img-size", "64"] if arguments[0] == "embed" else []
        done = subprocess.run(
            [sys.executable, "-m", "mammography", *arguments, *quickly],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed += done.stdout + done.stderr
    assert "is read as 'volumetric'" in printed
    assert re.search(r"grade 1 +4 .*\n.*grade 2 +0 .*\n.*grade 3 +12 .*\n.*grade 4 +4 ", printed)
    assert "recipe lab-window" in printed
    assert "encoder lab_shufflenet, 1024 features" in printed


def test_the_hash_on_the_recipe_page_is_taken_of_what_it_shows() -> None:
    [record] = blocks(DOCS / "recipes/imagenet.md", "json")
    assert record.strip() == canonical_json(IMAGENET.record())


def test_the_script_of_the_recipe_page_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mammography.phantom(outdir=tmp_path / "p", exams=4, rows=416, columns=320, syntax=["jpeg2000"])
    capsys.readouterr()
    script(DOCS / "recipes/reduced_decode.py").main(tmp_path / "p" / "archive")
    rows = re.findall(
        r"^\| without \| (\w+) \| \d+ \| (.+) \| (.+) \|$", capsys.readouterr().out, re.M
    )
    assert [row[0] for row in rows] == ["half", "quarter", "eighth"]
    differences = [float(row[1]) for row in rows]
    assert 0 < differences[0] < differences[1] < differences[2]
    assert float(rows[0][2]) > 0.98


def test_the_citation_agrees_with_the_package() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [licence] = re.findall(r'^license = "(.+)"$', project, re.M)
    assert re.search(rf"^version: {re.escape(mammography.__version__)}$", citation, re.M)
    assert re.search(rf"^license: {re.escape(licence)}$", citation, re.M)
