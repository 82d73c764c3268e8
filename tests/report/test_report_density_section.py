"""The TeX text says what the runs say, and nothing that they do not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from finished_runs import DENSITY, TISSUE, write_run

from mammography.report.density_section import Pictures, density_section
from mammography.report.run_summaries import FinishedRun, read_run


def section(runs: list[FinishedRun], *, gradcam: bool = True) -> str:
    pictures = [
        Pictures(
            f"assets/density_train_seed{run.seed}.png",
            f"assets/density_confusion_seed{run.seed}.png",
            f"assets/density_gradcam_seed{run.seed}.png" if gradcam else None,
        )
        for run in runs
    ]
    return density_section(runs, pictures)


def make(tmp_path: Path, **options: Any) -> FinishedRun:
    return read_run(write_run(tmp_path / f"results_{options.get('seed', 42)}", **options))


def row(text: str, metric: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(metric)]
    return [cell.strip(" $\\") for cell in line.split("&")[1:]]


def test_one_run_gives_its_numbers_with_their_intervals(tmp_path: Path) -> None:
    run = make(tmp_path)
    text = section([run])
    kappa = run.metrics["intervals"]["kappa"]
    assert row(text, "Cohen") == [
        f"{run.metrics['kappa']:.3f}", f"{kappa['low']:.3f}$ to ${kappa['high']:.3f}",
    ]  # fmt: skip
    assert "One run of \\texttt{efficientnet\\_b0}.\nSeed 42: " in text
    assert "trained on 180 images and validated on 60;" in text
    assert "the weights of epoch 3 of 5" in text
    assert "density (A, B, C, D)" in text


def test_nothing_is_said_of_several_runs_where_there_is_one(tmp_path: Path) -> None:
    text = section([make(tmp_path)])
    for words in ("mean", "SD", "\\pm", "runs", "43", "44", "fused", "three"):
        assert not re.search(rf"(?<![a-z]){re.escape(words)}", text), words


def test_several_seeds_give_mean_and_deviation(tmp_path: Path) -> None:
    runs = [make(tmp_path, seed=seed) for seed in (42, 43, 7)]
    text = section(runs)
    values = [run.metrics["accuracy"] for run in runs]
    mean = sum(values) / 3
    deviation = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    assert row(text, "Accuracy") == [
        *(f"{value:.3f}" for value in values), f"{mean:.3f}$ $\\pm$ ${deviation:.3f}",
    ]  # fmt: skip
    assert "3 runs of \\texttt{efficientnet\\_b0} with the seeds 42, 43 and 7." in text
    assert "also differ" not in text
    assert "interval" not in text
    pictures = re.findall(r"\\includegraphics\[width=\\linewidth\]\{(.*)\}", text)
    assert pictures == [
        f"assets/density_{kind}_seed{seed}.png"
        for seed in (42, 43, 7)
        for kind in ("train", "confusion", "gradcam")
    ]


def test_settings_that_differ_are_said(tmp_path: Path) -> None:
    runs = [make(tmp_path, seed=1), make(tmp_path, seed=2, config={"lr": 1, "img_size": 384})]
    assert "They also differ in \\texttt{lr} and \\texttt{img\\_size}." in section(runs)


def test_fusion_is_said_of_runs_that_have_it(tmp_path: Path) -> None:
    runs = [make(tmp_path, seed=1, fused={"width": 2048}), make(tmp_path, seed=2)]
    first, second = [line for line in section(runs).splitlines() if line.startswith("Seed ")]
    assert "fused with embeddings of width 2048" in first
    assert "images alone" in second


def test_untrained_weights_are_said(tmp_path: Path) -> None:
    assert "random (seed 42)" in section([make(tmp_path, trained=False)])
    assert "random" not in section([make(tmp_path, seed=1)])


def test_a_picture_that_could_not_be_made_is_not_mentioned(tmp_path: Path) -> None:
    text = section([make(tmp_path)], gradcam=False)
    assert "gradcam" not in text.lower()
    assert "Grad-CAM" not in text


@pytest.mark.parametrize("label", [DENSITY, TISSUE])
def test_undefined_numbers_are_dashes(label: dict[str, Any], tmp_path: Path) -> None:
    lost = str(label["classes"][0])
    runs = [
        make(tmp_path, seed=1, label=label, without=(lost,)),
        make(tmp_path, seed=2, label=label),
    ]
    assert row(section(runs[:1]), "AUC")[0] == "--"
    cells = row(section(runs), "AUC")
    assert (cells[0], cells[2]) == ("--", "--")


def test_class_names_are_escaped(tmp_path: Path) -> None:
    label = {"name": "my_label", "classes": ["a_1", "b%"], "names": ["a_1", "b%"]}
    assert "my\\_label (a\\_1, b\\%)" in section([make(tmp_path, label=label)])


def test_braces_and_environments_are_balanced(tmp_path: Path) -> None:
    text = section([make(tmp_path, seed=seed) for seed in (1, 2)])
    assert text.count("{") == text.count("}")
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    assert text.endswith("\n")
