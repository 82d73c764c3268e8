"""The command line: what it takes, what it says, how it ends."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mammography import __version__, cli
from mammography.commands import COMMANDS
from mammography.commands.embed import Embed
from mammography.errors import ImageRejected, UsageError

#: What needs more than a moment to import.
HEAVY = {
    "numpy", "polars", "torch", "torchvision", "timm", "pydicom", "imagecodecs", "cv2", "PIL",
    "numba", "sklearn", "scipy", "umap", "matplotlib", "openvino", "safetensors", "rich",
}  # fmt: skip

#: The field's documents print these three, as one line each.
DOCUMENTED = [
    r"mammography embed \  --csv classificacao.csv \  --dicom-root archive \  --outdir outputs/embeddings_resnet50",  # noqa: E501
    r"mammography embed \  --csv classificacao.csv \  --dicom-root archive \  --outdir outputs/embeddings_resnet50 \  --save-csv \  --pca \  --tsne \  --umap \  --seed 42",  # noqa: E501
    r"mammography embed \  --csv classificacao.csv \  --dicom-root archive \  --outdir outputs/embeddings_resnet50_seed42 \  --save-csv \  --pca \  --tsne \  --seed 42",  # noqa: E501
]


def ran(name: str, options: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """The dataclass that a command line runs."""
    seen = []
    monkeypatch.setattr(Embed, "run", lambda command: seen.append(command))
    assert cli.main([name, *options]) == 0
    return seen[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    list(zip(
        DOCUMENTED,
        [
            Embed(Path("classificacao.csv"), Path("archive"), Path("outputs/embeddings_resnet50")),
            Embed(
                Path("classificacao.csv"), Path("archive"), Path("outputs/embeddings_resnet50"),
                save_csv=True, pca=True, tsne=True, umap=True, seed=42,
            ),
            Embed(
                Path("classificacao.csv"), Path("archive"),
                Path("outputs/embeddings_resnet50_seed42"),
                save_csv=True, pca=True, tsne=True, seed=42,
            ),
        ],
        strict=True,
    )),
)  # fmt: skip
@pytest.mark.parametrize("lone", [False, True])
def test_the_documents_commands_mean_what_they_say(
    line: str, expected: Embed, lone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(line.replace("embed", "embed --", 1) if lone else line)
    assert words[0] == "mammography"
    assert " " in words  # the pages' continuations are blank arguments
    assert ran(words[1], words[2:], monkeypatch) == expected


def test_options_become_the_dataclass(monkeypatch: pytest.MonkeyPatch) -> None:
    line = (
        "--csv l.csv --dicom-root a --outdir o --weights w.safetensors --img-size 512 "
        "--resize crop --voi window --voi-index 1 --frame 3 --reduced-decode half "
        "--mean 0.5 0.5 0.5 --std 1 1 1 --class5 drop --limit 7 --batch-size 4 --num-workers auto "
        "--no-deterministic --amp --device cpu --backend torch --label-column Birads"
    )
    assert ran("embed", line.split(), monkeypatch) == Embed(
        Path("l.csv"), Path("a"), Path("o"),
        weights=Path("w.safetensors"), img_size=512, resize="crop", voi="window", voi_index=1,
        frame=3, reduced_decode="half", mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0), class5="drop",
        limit=7, batch_size=4, deterministic=False, amp=True, device="cpu", backend="torch",
        label_column="Birads",
    )  # fmt: skip
    named = "--csv l.csv --dicom-root a --outdir o --weights random --frame max --batch-size auto"
    command = ran("embed", named.split(), monkeypatch)
    assert isinstance(command, Embed)
    assert (command.weights, command.frame, command.batch_size) == ("random", "max", "auto")


@pytest.mark.parametrize(
    "wrong",
    [["--resize", "fit"], ["--resize", "None"], ["--img-size", "big"], ["--colour"], ["--csv"]],
)
def test_options_that_it_does_not_take_end_with_2(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["embed", "--csv", "l.csv", "--dicom-root", "a", "--outdir", "o", *wrong])
    assert ended.value.code == 2
    assert wrong[0] in "".join(capsys.readouterr())


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert "not for diagnosis" in shown
    assert cli.main([]) == 2
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.endswith(f"mammography {__version__}\n")


@pytest.mark.parametrize("name", ["embed", "preview"])
def test_help_says_whose_an_unset_option_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "{letterbox,stretch,crop}" in shown
    assert "(default: the recipe's: letterbox)" in shown
    assert "None" not in shown


def test_an_unknown_command_lists_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["embedd"]) == 2
    assert "There is no command 'embedd'; the commands are scan, embed" in capsys.readouterr().err


@dataclass(frozen=True)
class Result:
    exit_code: int


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        (Result(0), 0, ""),
        (Result(1), 1, ""),
        (None, 0, ""),
        (UsageError("Wrong [option]."), 2, "error: Wrong [option].\n"),
        (ImageRejected("truncated", "half a file"), 2, "error: half a file\n"),
        (PermissionError(13, "Permission denied", "a.csv"), 2, "error: Permission denied: a.csv\n"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device\n"),
        (KeyError("x"), 2, "error: KeyError: 'x'. This is a defect of mammography"),
        (KeyboardInterrupt(), 130, "error: interrupted; the same command goes on where it"),
    ],
)
def test_every_end_has_its_exit_code_and_one_message(
    outcome: object,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(command: Embed) -> object:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(Embed, "run", run)
    options = ["--csv", "l.csv", "--dicom-root", "a", "--outdir", "o"]
    assert cli.main(["embed", *options]) == code
    told = capsys.readouterr().err
    assert told.startswith(said)
    assert told.count("\n") == bool(said)
    if isinstance(outcome, Exception):
        with pytest.raises(type(outcome)):
            cli.main(["embed", *options, "--debug"])


def test_what_is_logged_goes_to_standard_error_once_and_unbroken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = f"a/{'very/' * 40}long/path"

    def run(command: Embed) -> None:
        logging.getLogger("mammography.x").info("%s", long)
        logging.getLogger("mammography.x").warning("beware")
        logging.getLogger("mammography.progress").info("3 of 4 images")
        logging.getLogger("mammography.x").debug("silence")

    monkeypatch.setattr(Embed, "run", run)
    handlers = list(logging.getLogger("mammography").handlers)
    for _ in range(2):
        cli.main(["embed", "--csv", "l.csv", "--dicom-root", "a", "--outdir", "o"])
        shown = capsys.readouterr()
        assert shown.err == f"{long}\nwarning: beware\n3 of 4 images\n"
        assert shown.out == ""
    assert logging.getLogger("mammography").handlers == handlers


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom mammography import cli\n"
        "try:\n    cli.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.splitlines()[-1].split())
    assert "mammography" in imported
    assert not imported & HEAVY


def test_the_documents_longest_command_runs_as_printed(tmp_path: Path) -> None:
    """In a shell, on a small network because the published weights are not to be had in a test."""
    import numpy as np

    from mammography.dicom.phantom.files import write_dicom

    for exam in range(8):
        pixels = np.random.default_rng(exam).integers(0, 4096, (20, 16), np.uint16)
        write_dicom(tmp_path / f"archive/{exam}/a.dcm", pixels, BitsStored=12)
    rows = "".join(f"{exam},{'ABCD'[exam % 4]}\n" for exam in range(8))
    (tmp_path / "classificacao.csv").write_text("AccessionNumber,Classification\n" + rows)
    small = " --weights random --encoder timm:resnet10t --img-size 32 --backend torch"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["sh", "-c", DOCUMENTED[1] + small],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "embeddings_resnet50"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == {
        "features.npy", "index.parquet", "embedding.json", "clustering_metrics.json", "joined.csv",
        "rejects.csv", "run.log", "summary.json", "preview/pca_projection.png",
        "preview/pca_projection.csv", "preview/tsne_projection.png", "preview/tsne_projection.csv",
        "preview/umap_projection.png", "preview/umap_projection.csv",
    }  # fmt: skip


REQUIRED = ["embed", "--csv", "labels.csv", "--dicom-root", "archive", "--outdir", "out"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["embed", "--resize", "bla"], "invalid choice 'bla' for argument '--resize'"),
        ([*REQUIRED, "--limit", "abc"], "--limit"),
        ([*REQUIRED, "--mean", "1", "2"], "--mean"),
        (["embed"], "--csv PATH"),
        (["scan", "--nonsense"], "--nonsense"),
    ],
)
def test_wrong_options_are_one_line_without_a_box(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert told in line
    assert not set("│╭╰─") & set(line)
    assert "[bold]" not in line
