"""What people read of the baselines: report.md, made of the very numbers that the JSON files hold.

A document (`embeddings_cv_results.json`, `classical_cv_results.json`) says what the features are,
how the folds were made, and what each classifier reached; see
`mammography.analysis.fold_results.classifier_results`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mammography.report.evaluation_figures import confusion_figure
from mammography.runs import RESEARCH_ONLY, write_text

Document = dict[str, Any]

#: Classifiers, numbers and features as people call them.
_WORDS = {
    "logistic_regression": "logistic regression",
    "svm_rbf": "SVM (RBF)",
    "random_forest": "random forest",
    "balanced_accuracy": "balanced accuracy",
    "kappa": "kappa, quadratic",
    "kappa_unweighted": "Cohen's kappa",
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "auc_ovr": "AUC",
    "classical": "classical descriptors",
}
_TOLD = ("balanced_accuracy", "kappa_unweighted", "kappa", "macro_f1", "accuracy", "auc_ovr")
_TESTED = ("balanced_accuracy", "kappa_unweighted", "kappa", "macro_f1", "accuracy")


def write_confusion(path: Path, document: Document, caution: str | None) -> None:
    """Draw the pooled confusion matrix of the best classifier."""
    best = document["best"]
    matrix = document["classifiers"][best]["pooled"]["confusion_matrix"]
    title = f"{_words(best)} on {_words(document['features'])}, cross-validated"
    confusion_figure(
        path, np.array(matrix), document["label"]["names"], title, warning=caution
    )  # fmt: skip


def write_report(
    path: Path,
    documents: Sequence[Document],
    comparison: dict[str, Any],
    caution: str | None,
    left_out: int,
) -> None:
    """Write report.md.

    Args:
        path: Of the report.
        documents: Of the embeddings and of the descriptors.
        comparison: What `mammography.analysis.comparison.compare` gave.
        caution: What must be said wherever the embeddings' numbers are shown, or None.
        left_out: Images of the set that could not be read again.
    """
    sections = [
        _opening(documents, caution, left_out),
        ["## Which is better", "", verdict_words(documents, comparison)],
        _over_folds(documents),
        _pooled(documents),
        _recalls(documents),
        _matrices(),
        _differences(comparison),
        _method(documents),
    ]
    write_text(path, "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n")


def verdict_words(documents: Sequence[Document], comparison: dict[str, Any]) -> str:
    """The verdict as sentences; a winner is named only where the interval leaves out 0."""
    verdict = comparison["verdict"]
    best = " against ".join(
        f"{_words(document['features'])} + {_words(document['best'])}" for document in documents
    )
    if verdict["low"] is None:
        why = f" ({verdict['undefined']})" if verdict["undefined"] else ""
        return f"No winner: the difference of {best} cannot be tested{why}."
    interval = (
        f"{best}: difference in {_words(verdict['metric'])} {verdict['difference']:+.3f}, 95 % "
        f"interval {verdict['low']:+.3f} to {verdict['high']:+.3f} by {verdict['interval_by']}."
    )
    if verdict["winner"] is None:
        return f"No winner: the interval contains 0. {interval}"
    others = {"embeddings": "classical", "classical": "embeddings"}
    return (
        f"**The {_words(verdict['winner'])} are better than the "
        f"{_words(others[verdict['winner']])}** on these images. {interval}"
    )


def _words(name: str) -> str:
    return _WORDS.get(name, name)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; a pipe in a cell stays a pipe."""
    lines = [head, ["---"] * len(head), *rows]
    return [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines
    ]  # fmt: skip


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


def _opening(documents: Sequence[Document], caution: str | None, left_out: int) -> list[str]:
    first = documents[0]
    per_fold = [fold["validation_classes"].values() for fold in first["folds"]]
    counts = [sum(of_class) for of_class in zip(*per_fold, strict=True)]
    names = first["label"]["names"]
    classes = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    lines = [
        "# Embeddings against classical descriptors",
        "",
        f"{RESEARCH_ONLY} {first['images']} images of {first['groups']} patients or exams; "
        f"{first['label']['name']}: {classes}. {first['scheme']}.",
        "",
        *(f"- {_words(document['features'])}: {document['what']}" for document in documents),
    ]
    if left_out:
        lines += [
            "",
            f"**{left_out} images of the set could not be read again** and count in neither; "
            "rejects.csv says why.",
        ]
    return [*lines, "", f"**{caution}**"] if caution else lines


def _each(documents: Sequence[Document]) -> Iterable[tuple[str, dict[str, Any]]]:
    """What a table calls every classifier on every set of features, and its results."""
    for document in documents:
        for name, results in document["classifiers"].items():
            words = f"{_words(document['features'])} + {_words(name)}"
            yield (f"**{words}**" if name == document["best"] else words), results


def _over_folds(documents: Sequence[Document]) -> list[str]:
    if documents[0]["classifiers"][documents[0]["best"]]["mean"] is None:
        return []
    rows = [
        [words]
        + [
            "–"
            if results["mean"][key] is None
            else f"{results['mean'][key]:.3f} ± {results['std'][key]:.3f}"
            for key in _TOLD
        ]
        for words, results in _each(documents)
    ]
    return [
        "## Over folds",
        "",
        "Mean ± standard deviation; the best of each set of features in bold.",
        "",
        *_table(["", *map(_words, _TOLD)], rows),
    ]


def _pooled(documents: Sequence[Document]) -> list[str]:
    def cell(pooled: dict[str, Any], key: str) -> str:
        interval = pooled["intervals"].get(key, {"low": None})
        if interval["low"] is None:
            return _number(pooled[key])
        return f"{_number(pooled[key])} ({interval['low']:.3f}–{interval['high']:.3f})"

    rows = [
        [words, *(cell(results["pooled"], key) for key in _TOLD)]
        for words, results in _each(documents)
    ]
    return [
        "## All images together",
        "",
        "Every image predicted once, by the classifier that was fitted without its patient. In "
        "parentheses 95 % intervals of the bootstrap over patients.",
        "",
        *_table(["", *map(_words, _TOLD)], rows),
    ]


def _recalls(documents: Sequence[Document]) -> list[str]:
    rows = [
        [words, *(_number(value["recall"]) for value in results["pooled"]["per_class"].values())]
        for words, results in _each(documents)
    ]
    return ["## Recall of each class", "", *_table(["", *documents[0]["label"]["names"]], rows)]


def _matrices() -> list[str]:
    return [
        "## Confusion matrices of the best",
        "",
        "![embeddings](confusion_matrix_embeddings.png)",
        "",
        "![classical descriptors](confusion_matrix_classical.png)",
    ]


def _differences(comparison: dict[str, Any]) -> list[str]:
    """Best against best, then each classifier with itself."""
    pairs = {"best": comparison["best_against_best"], **comparison["same_classifier"]}
    rows = [
        [
            _words(name),
            _words(key),
            *_test_cells(pair["t_tests"][key]),
            _with_interval(pair["bootstrap"].get(key), "difference"),
        ]
        for name, pair in pairs.items()
        for key in _TOLD[:-1]
    ]
    head = ("p, plain", "p, corrected", "95 %, corrected", "Cohen's d", "pooled (95 %)")
    return [
        "## Differences, embeddings − classical descriptors",
        "",
        "Training sets of different folds overlap, so the plain paired t-test is too sure; go by "
        "the corrected one (Nadeau & Bengio 2003). The last column is the difference over all "
        "images together, with the bootstrap over patients.",
        "",
        comparison["best_against_best"]["caution"],
        "",
        *_table(["", "", "mean over folds", *head], rows),
    ]


def _test_cells(tests: dict[str, Any]) -> list[str]:
    """Mean difference, both p, the corrected interval, Cohen's d."""
    if "folds" not in tests:
        return ["–"] * 5
    corrected = tests["corrected"]
    interval = "–"
    if corrected["low"] is not None:
        interval = f"{corrected['low']:+.3f} to {corrected['high']:+.3f}"
    return [
        f"{tests['mean_difference']:+.3f}",
        _number(tests["plain"]["p"]),
        _number(corrected["p"]),
        interval,
        _number(tests["cohens_d"], "+.2f"),
    ]


def _with_interval(numbers: dict[str, Any] | None, key: str) -> str:
    if numbers is None or numbers[key] is None:
        return "–"
    if numbers["low"] is None:
        return f"{numbers[key]:+.3f}"
    return f"{numbers[key]:+.3f} ({numbers['low']:+.3f} to {numbers['high']:+.3f})"


def _method(documents: Sequence[Document]) -> list[str]:
    """What a reader needs to judge the numbers, and what went wrong on the way."""
    lines = [
        "## How",
        "",
        "Features are standardised, the descriptors then reduced by PCA, then classified; all "
        "three steps are fitted on the training images of each fold alone. All classifiers weigh "
        "classes by the inverse of their size. `cv_predictions.csv` has every prediction, so that "
        "each number can be computed again. The saved models are fitted on all images; their "
        "quality is what is written here.",
    ]
    for words, results in _each(documents):
        if folds := results["unconverged_folds"]:
            told = ", ".join(map(str, folds))
            lines += ["", f"- {words}: stopped before it converged in fold {told}."]
    return lines
