"""Joined table, metrics and maps of an embedding set."""

from __future__ import annotations

import csv
import io
import json
import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mammography.archive.dialects import DENSITY, Label
from mammography.archive.label_table import read_label_table
from mammography.embeddings.embedding_set import EmbeddingSet
from mammography.report.embedding_report import (
    caution,
    class_names,
    write_joined,
    write_maps,
    write_metrics,
)

TISSUE = Label("tissue", ("F", "G", "D"), ("fatty", "glandular", "dense"))


def embedding_set(
    folder: Path, rows: int = 12, width: int = 3, trained: bool = True
) -> EmbeddingSet:
    features = np.random.default_rng(0).standard_normal((rows, width)).astype(np.float32)
    index = pl.DataFrame(
        {
            "image_id": [f"e{row // 4}/{row}" for row in range(rows)],
            "path": [f"e{row // 4}/{row}.dcm" for row in range(rows)],
            "table_row": [1 + row // 4 for row in range(rows)],
            "density": [None if row // 4 == 2 else 1 + row // 4 for row in range(rows)],
        }
    )
    weights = {"name": "random (seed 42)", "trained": trained}
    record = {"fingerprint": "0" * 64, "encoder": {"name": "tiny", "weights": weights}}
    return EmbeddingSet(features, index, record, folder)


def joined(tmp_path: Path, table: str, embeddings: EmbeddingSet) -> list[dict[str, str]]:
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    write_joined(tmp_path / "joined.csv", embeddings, read_label_table(tmp_path / "labels.csv"))
    return list(csv.DictReader(io.StringIO((tmp_path / "joined.csv").read_text(encoding="utf-8"))))


def test_joined_is_the_users_rows_and_the_very_features(tmp_path: Path) -> None:
    embeddings = embedding_set(tmp_path, rows=3000)
    embeddings.features[0] = [1e-40, -0.0, 3.4028235e38]  # subnormal, signed zero, the largest
    table = "AccessionNumber;Classificação;Note\n" + "".join(
        f'{number:05d};{"ABCD"[number % 4]};"a ""quoted"", note\n{number}"\n'
        for number in range(750)
    )
    rows = joined(tmp_path, table, embeddings)
    assert list(rows[0]) == [
        "image_id", "path", "AccessionNumber", "Classificação", "Note", "f0000", "f0001", "f0002",
    ]  # fmt: skip
    assert len(rows) == 3000
    assert [row["AccessionNumber"] for row in rows] == [f"{row // 4:05d}" for row in range(3000)]
    assert rows[2999]["Note"] == 'a "quoted", note\n749'
    assert rows[2999]["path"] == "e749/2999.dcm"
    read = np.array([[row[f"f000{i}"] for i in range(3)] for row in rows]).astype(np.float32)
    assert read.tobytes() == embeddings.features.tobytes()


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("id,label", ["image_id", "path", "id", "label", "f0000"]),
        ("image_id,label", ["embed_image_id", "embed_path", "image_id", "label", "f0000"]),
        ("id,f0000", ["image_id", "path", "id", "f0000", "embed_f0000"]),
        (
            "path,embed_image_id",
            ["embed_embed_image_id", "embed_embed_path", "path", "embed_image_id", "f0000"],
        ),
    ],
)
def test_columns_of_the_user_keep_their_names(
    columns: str, expected: list[str], tmp_path: Path
) -> None:
    rows = joined(tmp_path, f"{columns}\n1,A\n2,B\n3,C\n", embedding_set(tmp_path, width=1))
    assert list(rows[0]) == expected
    assert rows[0][columns.split(",")[0]] == "1"


def test_a_joined_table_can_be_joined_again(tmp_path: Path) -> None:
    joined(tmp_path, "id,label\n1,A\n2,B\n3,C\n", embedding_set(tmp_path))
    again = joined(tmp_path, (tmp_path / "joined.csv").read_text(), embedding_set(tmp_path))
    assert {"image_id", "f0000", "embed_image_id", "embed_f0000"} <= again[0].keys()


def test_without_a_table_joined_holds_images_and_features(tmp_path: Path) -> None:
    write_joined(tmp_path / "joined.csv", embedding_set(tmp_path, width=1), None)
    assert (tmp_path / "joined.csv").read_text().startswith("image_id,path,f0000\ne0/0,e0/0.dcm,")


def test_class_names_are_the_labels_display_names(tmp_path: Path) -> None:
    embeddings = embedding_set(tmp_path)
    assert class_names(embeddings, DENSITY) == ["A"] * 4 + ["B"] * 4 + [None] * 4
    tissue = embeddings.index.with_columns(tissue=pl.Series(["F", "G", "D"] * 4))
    named = EmbeddingSet(embeddings.features, tissue, embeddings.record, tmp_path)
    assert class_names(named, TISSUE)[:3] == ["fatty", "glandular", "dense"]
    assert class_names(embeddings, None) == [None] * 12


@pytest.mark.parametrize("trained", [True, False])
def test_metrics_name_label_set_and_untrained_weights(trained: bool, tmp_path: Path) -> None:
    embeddings = embedding_set(tmp_path, trained=trained)
    write_metrics(tmp_path / "metrics.json", embeddings, DENSITY, seed=7)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["silhouette_score"] is not None
    assert (metrics["label"], metrics["seed"], metrics["fingerprint"]) == ("density", 7, "0" * 64)
    assert metrics["classes"] == {"A": 4, "B": 4}
    assert (metrics["caution"] is None) == trained
    assert "not for diagnosis" in metrics["notice"]


def test_metrics_without_labels_are_null_with_reasons(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.json", embedding_set(tmp_path), None, seed=1)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["silhouette_score"] is None
    assert metrics["reasons"]["silhouette_score"] == "no image has a label"
    assert metrics["label"] is None


def test_maps_come_with_their_coordinates(tmp_path: Path) -> None:
    embeddings = embedding_set(tmp_path)
    pictures = write_maps(tmp_path / "preview", embeddings, DENSITY, ["pca", "tsne"], seed=3)
    assert pictures == [tmp_path / f"preview/{name}_projection.png" for name in ("pca", "tsne")]
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        table = pl.read_csv(picture.with_suffix(".csv"))
        assert table.columns == ["image_id", "density", "x", "y"]
        assert table["image_id"].to_list() == embeddings.index["image_id"].to_list()
        assert table.select("x", "y").to_numpy().std() > 0


def test_a_map_that_cannot_be_is_said_and_not_drawn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        pictures = write_maps(tmp_path, embedding_set(tmp_path, rows=1), None, ["pca"], seed=3)
    assert pictures == []
    assert "No PCA map: " in caplog.text
    assert not list(tmp_path.iterdir())


def test_only_untrained_encoders_are_cautioned_of(tmp_path: Path) -> None:
    assert caution(embedding_set(tmp_path)) is None
    assert "random (seed 42)" in str(caution(embedding_set(tmp_path, trained=False)))
