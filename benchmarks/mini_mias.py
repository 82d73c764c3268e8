"""How well do our paths tell the tissue classes of mini-MIAS apart? All on the same folds.

    python benchmarks/mini_mias.py --root mini-mias --work FOLDER \
        [--arch resnet50] [--weights imagenet|FILE] [--mean M M M --std S S S] [--paths NAME …]

258 films (or all 322), three tissue classes, five stratified folds in which a woman's two films are
never parted. Paths:

- ``basic``, ``texture``: logistic regression, SVM and random forest on classical descriptors, as
  `mammography embeddings-baselines` fits them; the best of the three is shown by name;
- ``embedding``: the same on the encoder's features at 448 pixels;
- ``head``, ``last block``, ``full``, ``ordinal`` (last block), ``fused`` (last block and the
  embeddings): `mammography train-density`, at 224 pixels;
- ``texture (shrunk)``: logistic regression on all texture descriptors with C = 0.01;
- ``mean``: mean probabilities of ``texture (shrunk)`` and the SVM on embeddings.

Each is also given with both films of a woman together (mean probabilities), as an exam would be
read. Numbers are of the pooled out-of-fold predictions; the intervals draw women. A network's epoch
is chosen on the fold that it is measured on, as `train-density` does: its numbers flatter it. The
values 448 and 0.01 and the pair in ``mean`` were chosen by looking at results on these same films,
so the last two rows flatter themselves too.

A table is printed and mini_mias.json written beside this file. A path whose predictions lie in the
work folder is not computed again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mammography import embed as embed_archive
from mammography import embeddings_baselines, load_embeddings, train_density
from mammography.analysis.metrics import classification_metrics
from mammography.analysis.statistics import bootstrap_intervals
from mammography.archive.splits import folds, groups_of
from mammography.runs import git_commit, versions

HERE = Path(__file__).parent
CLASSES = ["F", "G", "D"]
METRICS = ("accuracy", "balanced_accuracy", "kappa")

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """What the user chose."""

    root: Path
    work: Path
    encoder: dict[str, Any]
    epochs: int
    seed: int

    @property
    def data(self) -> dict[str, Any]:
        """The archive and its table."""
        return {"csv": self.root / "labels.csv", "dicom_root": self.root}

    @property
    def embeddings(self) -> Path:
        """The embedding set at 448 pixels."""
        return self.work / "embeddings"


def baselines(setting: Setting, descriptors: str) -> pl.DataFrame:
    """Out-of-fold predictions of plain classifiers, on embeddings and on descriptors."""
    folder = setting.work / f"baselines_{descriptors}"
    embeddings_baselines(
        embeddings_dir=setting.embeddings,
        outdir=folder,
        descriptors=descriptors,
        random_seed=setting.seed,
        dicom_root=setting.root,
    )
    return pl.read_csv(folder / "cv_predictions.csv", infer_schema_length=None)


def plain(setting: Setting, descriptors: str, features: str, name: str) -> Probabilities:
    """One classifier's probabilities in the order of the index."""
    table = baselines(setting, descriptors)
    chosen = table.filter((pl.col("features") == features) & (pl.col("classifier") == name))
    return in_order(setting, chosen)


def shrunk_texture(setting: Setting) -> Probabilities:
    """Logistic regression on all texture descriptors, strongly shrunk."""
    baselines(setting, "texture")
    [file] = (setting.work / "baselines_texture" / "descriptors").glob("texture-*/*.parquet")
    table = pl.read_parquet(file)
    index = load_embeddings(setting.embeddings).index
    rows = index.select("image_id").join(table, on="image_id", how="left", maintain_order="left")
    values = rows.drop("image_id").to_numpy().astype(np.float64)
    codes = np.array([CLASSES.index(value) for value in index["tissue"]])
    place = {image: row for row, image in enumerate(index["image_id"])}
    found = np.zeros((len(codes), len(CLASSES)))
    for split in folds(index, "tissue", 5, setting.seed):
        train, validation = (
            [place[image] for image in side] for side in (split.train, split.validation)
        )
        model = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=0.01, max_iter=1000, class_weight="balanced"),
        )
        found[validation] = model.fit(values[train], codes[train]).predict_proba(values[validation])
    return found


def trained(setting: Setting, name: str, **options: Any) -> Probabilities:
    """Out-of-fold probabilities of `train-density`."""
    folder = setting.work / name
    begun = any(folder.glob("fold_*/results*"))
    result = train_density(
        **setting.data,
        **setting.encoder,
        img_size=224,
        epochs=setting.epochs,
        lr=1e-3,
        seed=setting.seed,
        cv_folds=5,
        outdir=folder,
        resume=begun,
        cache_dir=setting.work / "cache",
        **options,
    )
    tables = [
        pl.read_csv(run.folder / "val_predictions.csv", infer_schema_length=None)
        for run in result.runs
    ]
    table = pl.concat(tables, how="vertical_relaxed").rename({"sample_id": "image_id"})
    return in_order(setting, table)


def in_order(setting: Setting, table: pl.DataFrame) -> Probabilities:
    """The probabilities of a predictions table in the order of the index."""
    index = load_embeddings(setting.embeddings).index.select("image_id")
    rows = index.join(table, on="image_id", how="left", maintain_order="left")
    return rows.select(f"prob_{name}" for name in CLASSES).to_numpy()


PATHS: dict[str, Callable[[Setting], dict[str, Probabilities]]] = {
    "basic": lambda s: {
        f"basic, {name}": plain(s, "basic", "classical", name)
        for name in ("logistic_regression", "svm_rbf", "random_forest")
    },
    "texture": lambda s: {
        f"texture, {name}": plain(s, "texture", "classical", name)
        for name in ("logistic_regression", "svm_rbf", "random_forest")
    },
    "embedding": lambda s: {
        f"embedding, {name}": plain(s, "texture", "embeddings", name)
        for name in ("logistic_regression", "svm_rbf", "random_forest")
    },
    "head": lambda s: {"head only": trained(s, "head", train_backbone=False)},
    "last block": lambda s: {"last block": trained(s, "last_block", unfreeze_last_block=True)},
    "full": lambda s: {"full": trained(s, "full")},
    "ordinal": lambda s: {
        "last block, ordinal": trained(s, "ordinal", unfreeze_last_block=True, loss="ordinal")
    },
    "fused": lambda s: {
        "last block, fused": trained(
            s, "fused", unfreeze_last_block=True, embeddings_dir=s.embeddings
        )
    },
    "texture (shrunk)": lambda s: {"texture, shrunk": shrunk_texture(s)},
    "mean": lambda s: {
        "mean of texture, shrunk and embedding, svm_rbf": (
            shrunk_texture(s) + plain(s, "texture", "embeddings", "svm_rbf")
        )
        / 2
    },
}


def of_women(probabilities: Probabilities, groups: NDArray[np.int64]) -> Probabilities:
    """Each film with the mean probabilities of all films of its woman."""
    sums = np.zeros((groups.max() + 1, probabilities.shape[1]))
    np.add.at(sums, groups, probabilities)
    return (sums / np.bincount(groups)[:, None])[groups]


def row(probabilities: Probabilities, codes: NDArray, groups: NDArray, seed: int) -> dict[str, Any]:
    """Metrics and intervals of out-of-fold probabilities."""
    metrics = classification_metrics(codes, probabilities, CLASSES)
    intervals = bootstrap_intervals(codes, probabilities, groups, seed=seed)
    return {name: {"value": metrics[name], **intervals[name]} for name in METRICS}


def main() -> None:
    """Compute the paths, print the table, write mini_mias.json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="folder with labels.csv and png")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--mean", type=float, nargs=3)
    parser.add_argument("--std", type=float, nargs=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--paths", nargs="+", default=list(PATHS), choices=list(PATHS))
    parser.add_argument("--out", type=Path, default=HERE / "mini_mias.json")
    options = parser.parse_args()
    logging.lastResort = None  # the commands' own logs lie in the work folder
    encoder = {"arch": options.arch, "weights": options.weights}
    encoder |= {name: tuple(v) for name in ("mean", "std") if (v := getattr(options, name))}
    setting = Setting(options.root, options.work, encoder, options.epochs, options.seed)
    named = {"encoder" if name == "arch" else name: value for name, value in encoder.items()}
    embed_archive(**setting.data, outdir=setting.embeddings, img_size=448, **named)
    index = load_embeddings(setting.embeddings).index
    codes = np.array([CLASSES.index(value) for value in index["tissue"]])
    groups = np.array(groups_of(index))
    rows = {}
    print(
        "| path | films | accuracy | balanced accuracy | quadratic kappa |\n|---|---|---|---|---|"
    )
    for path in options.paths:
        for name, probabilities in PATHS[path](setting).items():
            for films, values in (
                ("one", probabilities),
                ("both of a woman", of_women(probabilities, groups)),
            ):
                found = row(values, codes, groups, options.seed)
                rows[f"{name} ({films})"] = found
                cells = " | ".join(
                    f"{cell['value']:.3f} ({cell['low']:.3f}–{cell['high']:.3f})"
                    for cell in found.values()
                )
                print(f"| {name} | {films} | {cells} |", flush=True)
    result = {
        "command": " ".join(sys.argv[1:]).replace(str(options.root), "ROOT").replace(
            str(options.work), "WORK"
        ),
        "films": len(codes),
        "women": int(groups.max()) + 1,
        "rows": rows,
        "versions": versions(),
        "git_commit": git_commit(),
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
