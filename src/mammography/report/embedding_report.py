"""What people read of an embedding set: joined table, cluster metrics, maps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from mammography.archive.dialects import Label
from mammography.archive.label_table import LabelTable
from mammography.embeddings.embedding_set import EmbeddingSet
from mammography.runs import RESEARCH_ONLY, write_json, written_whole

log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 1024
_NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
_DENSITY_WORDS = {
    "A": "A  almost entirely fatty",
    "B": "B  scattered",
    "C": "C  heterogeneously dense",
    "D": "D  extremely dense",
}


def caution(embeddings: EmbeddingSet) -> str | None:
    """What must be said wherever the set's numbers are shown, or None."""
    weights = embeddings.record["encoder"]["weights"]
    if weights["trained"]:
        return None
    return (
        f"Untrained encoder: weights are {weights['name']}. What is seen here comes from the "
        "preprocessing and the architecture, not from learned features."
    )


def class_names(embeddings: EmbeddingSet, label: Label | None) -> list[str | None]:
    """The display name of every image's class; None where there is no label."""
    if label is None:
        return [None] * len(embeddings)
    names: dict[object, str] = dict(zip(label.classes, label.names, strict=True))
    return [names.get(value) for value in embeddings.index[label.name]]


def write_joined(path: Path, embeddings: EmbeddingSet, table: LabelTable | None) -> None:
    """Write `joined.csv`: the image, every column of the user's table as given, the features.

    Features are float32 and written with as many digits as bring the same float32 back. Our
    columns take the prefix ``embed_`` where the user's table has one of their names.
    """
    width = embeddings.features.shape[1]
    given = table.rows_of(embeddings.index["table_row"]) if table is not None else pl.DataFrame()
    image = embeddings.index.select("image_id", "path")
    image.columns = _beside(given.columns, image.columns)
    left = pl.concat([image, given], how="horizontal")
    names = _beside(left.columns, [f"f{number:04d}" for number in range(width)])
    with written_whole(path) as temporary, temporary.open("wb") as stream:
        for start in range(0, len(embeddings), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            right = pl.from_numpy(embeddings.features[rows], schema=names, orient="row")
            joined = pl.concat([left[rows], right], how="horizontal")
            joined.write_csv(stream, include_header=start == 0)


def _beside(taken: Sequence[str], ours: list[str]) -> list[str]:
    """Our column names, all of them with a prefix where one is taken."""
    while not set(ours).isdisjoint(taken):
        ours = [f"embed_{name}" for name in ours]
    return ours


def write_metrics(path: Path, embeddings: EmbeddingSet, label: Label | None, seed: int) -> None:
    """Write `clustering_metrics.json`."""
    from mammography.analysis.clusters import clustering_metrics

    metrics = clustering_metrics(embeddings.features, class_names(embeddings, label), seed)
    write_json(
        path,
        {
            **metrics,
            "label": label.name if label else None,
            "seed": seed,
            "fingerprint": embeddings.fingerprint,
            "caution": caution(embeddings),
            "notice": RESEARCH_ONLY,
        },
    )


def write_maps(
    folder: Path, embeddings: EmbeddingSet, label: Label | None, methods: Sequence[str], seed: int
) -> list[Path]:
    """Write a picture and its coordinates for each map that exists.

    Args:
        folder: `preview` of the set.
        embeddings: The set.
        label: Colours the points.
        methods: Keys of `mammography.analysis.projection.METHODS`.
        seed: Of t-SNE and UMAP.

    Returns:
        The pictures.
    """
    from mammography.analysis.projection import METHODS, NoProjection
    from mammography.report.figures import projection_figure

    words = _DENSITY_WORDS if label is not None and label.name == "density" else {}
    names = [words.get(name, name) if name else None for name in class_names(embeddings, label)]
    order = [words.get(name, name) for name in label.names] if label else []
    pictures = []
    for method in methods:
        projection = METHODS[method](embeddings.features, seed)
        if isinstance(projection, NoProjection):
            log.warning("No %s map: %s", _NAMES[method], projection.reason)
            continue
        path = folder / f"{method}_projection.png"
        projection_figure(
            path,
            projection,
            names,
            order,
            f"{embeddings.record['encoder']['name']} embeddings of {len(embeddings):,} mammograms",
            caution(embeddings),
            ordered=label is not None and label.name == "density",
        )
        x, y = projection.coordinates.T
        columns = ["image_id", label.name] if label else ["image_id"]
        table = embeddings.index.select(columns).with_columns(x=pl.Series(x), y=pl.Series(y))
        with written_whole(path.with_suffix(".csv")) as temporary:
            table.write_csv(temporary)
        log.info("%s map: %s", _NAMES[method], path)
        pictures.append(path)
    return pictures
