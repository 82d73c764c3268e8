"""The TeX text of trained classifiers: what the runs say of themselves, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mammography.report.run_summaries import FinishedRun, differing_settings
from mammography.report.run_tables import spread
from mammography.report.tex import escaped
from mammography.runs import RESEARCH_ONLY

#: What stands above the block in a file that is made new.
HEADING = (
    "% Needs \\usepackage{graphicx}. mammography report-pack rewrites what is between its two\n"
    "% marker lines and leaves all other lines as they are.\n"
    "\\section{Density classification}\n"
    "\\label{sec:density-model}\n"
    "\n"
)

_METRICS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "bal_acc_adj": "Balanced accuracy, adjusted for chance",
    "kappa": "Cohen's $\\kappa$, quadratic weights",
    "macro_f1": "Macro F1",
    "auc_ovr": "AUC, one versus rest",
}


@dataclass(frozen=True)
class Pictures:
    """The pictures of one run, as TeX shall name them; None for one that could not be made."""

    training: str
    confusion: str
    gradcam: str | None


def density_section(runs: Sequence[FinishedRun], pictures: Sequence[Pictures]) -> str:
    """The block of the section: what was run, a table of the metrics, the figures.

    Args:
        runs: Finished runs of different seeds.
        pictures: Those of each run.

    Returns:
        Whole lines.
    """
    parts = [_what_was_run(runs), _table(runs)]
    for run, names in zip(runs, pictures, strict=True):
        parts += _figures(run, names)
    return "\n".join(parts)


def _what_was_run(runs: Sequence[FinishedRun]) -> str:
    archs = _listing(dict.fromkeys(f"\\texttt{{{escaped(run.arch)}}}" for run in runs))
    seeds = _listing(str(run.seed) for run in runs)
    if len(runs) == 1:
        lines = [f"One run of {archs}."]
    else:
        lines = [f"{len(runs)} runs of {archs} with the seeds {seeds}."]
        others = [name for name in differing_settings(runs) if name != "seed"]
        if others:
            named = _listing(f"\\texttt{{{escaped(name)}}}" for name in others)
            lines.append(f"They also differ in {named}.")
    for run in runs:
        lines.append(
            f"Seed {run.seed}: trained on {run.training_images} images and validated on "
            f"{run.metrics['images']}; initial weights {escaped(run.model['weights']['name'])}; "
            f"{_fusion(run)}; the weights of epoch {run.best_epoch} of "
            f"{len(run.history['epoch'])} were kept, which had the highest adjusted balanced "
            "accuracy on the validation images."
        )
        if run.caution:
            lines.append(f"\\textbf{{{escaped(run.caution)}}}")
    return "\n".join(lines) + "\n"


def _fusion(run: FinishedRun) -> str:
    fused = run.model["fused"]
    return f"fused with embeddings of width {fused['width']}" if fused else "images alone"


def _table(runs: Sequence[FinishedRun]) -> str:
    """A row per metric; a column per seed, then the interval of one run or the mean of several."""
    if len(runs) == 1:
        last = "95\\,\\% interval"
        explanation = "The interval is a percentile bootstrap over patients."
    else:
        last = "mean $\\pm$ SD"
        explanation = f"SD: sample standard deviation over the {len(runs)} runs."
    columns = [*(f"seed {run.seed}" for run in runs), last]
    lines = [
        "\\begin{table}[ht]",
        "  \\centering",
        f"  \\caption{{Validation metrics, {escaped(runs[0].label)} ({_classes(runs[0])}). "
        f"{explanation} The epoch was chosen on the same images, which makes the numbers "
        f"optimistic. {RESEARCH_ONLY}}}",
        "  \\label{tab:density-metrics}",
        "  \\smallskip",
        f"  \\begin{{tabular}}{{l{'c' * len(columns)}}}",
        "    \\hline",
        f"    Metric & {' & '.join(columns)} \\\\",
        "    \\hline",
    ]
    for name, words in _METRICS.items():
        cells = [_number(run.metrics[name]) for run in runs]
        lines.append(f"    {' & '.join([words, *cells, _last_cell(runs, name)])} \\\\")
    return "\n".join([*lines, "    \\hline", "  \\end{tabular}", "\\end{table}", ""])


def _last_cell(runs: Sequence[FinishedRun], name: str) -> str:
    if len(runs) == 1:
        interval = runs[0].metrics["intervals"][name]
        return f"{_number(interval['low'])} to {_number(interval['high'])}"
    numbers = spread([run.metrics[name] for run in runs])
    if numbers["n"] < len(runs):
        return "--"
    return f"{_number(numbers['mean'])} $\\pm$ {_number(numbers['std'])}"


def _number(value: float | None) -> str:
    return "--" if value is None else f"${value:.3f}$"


def _classes(run: FinishedRun) -> str:
    return escaped(", ".join(run.names))


def _figures(run: FinishedRun, names: Pictures) -> list[str]:
    seed, images = run.seed, run.metrics["images"]
    figures = [
        _figure(
            names.training,
            f"Training with the seed {seed}: loss, scores and learning rates by epoch. The dotted "
            f"line marks epoch {run.best_epoch}, whose weights were kept.",
            f"fig:density-train-seed{seed}",
        ),
        _figure(
            names.confusion,
            f"Confusion matrix of the {images} validation images (seed {seed}): share of the true "
            "class and number of images.",
            f"fig:density-confusion-seed{seed}",
        ),
    ]
    if names.gradcam:
        figures.append(
            _figure(
                names.gradcam,
                f"Grad-CAM for the predicted class (seed {seed}): correctly and wrongly "
                "classified validation images, by true class.",
                f"fig:density-gradcam-seed{seed}",
            )
        )
    return figures


def _figure(picture: str, caption: str, label: str) -> str:
    lines = [
        "\\begin{figure}[ht]",
        "  \\centering",
        f"  \\includegraphics[width=\\linewidth]{{{picture}}}",
        f"  \\caption{{{caption} {RESEARCH_ONLY}}}",
        f"  \\label{{{label}}}",
        "\\end{figure}",
        "",
    ]
    return "\n".join(lines)


def _listing(words: Iterable[str]) -> str:
    """Words with commas and a last "and"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
