"""The embedding set on disk: features, their index, and where they come from.

While it is being filled, a set is a folder of parts; each part is renamed into place when whole and
holds the features of a fixed block of manifest rows. A killed run loses at most the parts it was
working on, and the next one computes exactly those again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammography.errors import ImageRejected, StoreError
from mammography.runs import canonical_json, sha256_of_text, write_json, written_whole
from mammography.tables import REJECT_COLUMNS

PARTS = ".parts"
FEATURES, INDEX, RECORD, REJECTS = "features.npy", "index.parquet", "embedding.json", "rejects.csv"


@dataclass(frozen=True)
class EmbeddingSet:
    """Features and the images they belong to.

    Attributes:
        features: (N, width) float32, mapped from disk.
        index: N rows; the manifest's columns, row i for `features[i]`.
        record: Recipe, encoder, weights, device, precision, versions, fingerprint.
        folder: Where the set lies.
    """

    features: NDArray[np.float32]
    index: pl.DataFrame
    record: dict[str, Any]
    folder: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256 over encoder name, weights hash and recipe hash; equal for comparable sets."""
        return str(self.record["fingerprint"])

    def __len__(self) -> int:
        return self.index.height

    def rejects(self) -> pl.DataFrame:
        """What did not become a row of the index: `mammography.tables.REJECT_COLUMNS`."""
        return pl.read_csv(self.folder / REJECTS, schema=REJECT_COLUMNS)


def load_embeddings(folder: str | Path) -> EmbeddingSet:
    """Open an embedding set.

    Args:
        folder: What `embed` was given as --outdir.

    Raises:
        StoreError: The folder holds no finished set, or its files disagree.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record is None:
        raise StoreError(
            f"{folder} holds no finished embedding set ({RECORD} is missing); run "
            f"mammography embed with --outdir {folder}."
        )
    features = np.load(folder / FEATURES, mmap_mode="r", allow_pickle=False)
    index = pl.read_parquet(folder / INDEX)
    if features.shape != (index.height, record["encoder"]["width"]):
        raise StoreError(
            f"{folder}: {FEATURES} is {features.shape[0]} × {features.shape[1]}, {INDEX} has "
            f"{index.height} rows. Files of two runs are mixed; embed again into a new folder."
        )
    return EmbeddingSet(features, index, record, folder)


def read_record(folder: Path) -> dict[str, Any] | None:
    """`embedding.json` of a finished set, or None where there is none."""
    path = folder / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def fingerprint(encoder_name: str, weights_sha256: str, recipe_hash: str) -> str:
    """What two sets must share to be compared, searched or fused."""
    return sha256_of_text(canonical_json([encoder_name, weights_sha256, recipe_hash]))


@dataclass(frozen=True)
class Part:
    """The outcome of one block of manifest rows.

    Attributes:
        features: (kept, width) float32.
        kept: Positions in the manifest of the rows that have features, ascending.
        rejected: Position in the manifest to the verdict on the image.
    """

    features: NDArray[np.float32]
    kept: NDArray[np.int64]
    rejected: dict[int, ImageRejected]


class PartialSet:
    """An embedding set that is being filled.

    Args:
        folder: The set's folder.
        key: Everything that decides the features' bytes; a folder begun with another key is
            refused.
        rows: Rows of the manifest.
        part_rows: Rows of one part.
    """

    def __init__(self, folder: Path, key: dict[str, Any], rows: int, part_rows: int) -> None:
        self.folder, self.key, self.rows, self.part_rows = folder, key, rows, part_rows
        self._parts = folder / PARTS
        begun = self._parts / "key.json"
        if begun.exists():
            _refuse_other(folder, json.loads(begun.read_text(encoding="utf-8")), key)
        else:
            write_json(begun, key)

    def blocks(self) -> list[range]:
        """The manifest rows of every part, in order."""
        return [
            range(start, min(start + self.part_rows, self.rows))
            for start in range(0, self.rows, self.part_rows)
        ]

    def missing(self) -> list[int]:
        """Numbers of the parts that are not there yet."""
        return [number for number in range(len(self.blocks())) if not self._path(number).exists()]

    def rows_missing(self) -> int:
        """Rows of the manifest that no part covers yet."""
        blocks = self.blocks()
        return sum(len(blocks[number]) for number in self.missing())

    def _path(self, number: int) -> Path:
        return self._parts / f"{number:06d}.npz"

    def write(self, number: int, part: Part) -> None:
        """Put a whole part in its place."""
        verdicts = {str(row): [v.code, v.reason] for row, v in sorted(part.rejected.items())}
        with written_whole(self._path(number)) as path, path.open("wb") as stream:
            np.savez(
                stream,
                features=part.features,
                kept=part.kept,
                rejected=np.array(json.dumps(verdicts)),
            )

    def parts(self) -> Iterator[Part]:
        """All parts in order."""
        for number in range(len(self.blocks())):
            with np.load(self._path(number), allow_pickle=False) as stored:
                verdicts = json.loads(str(stored["rejected"]))
                yield Part(
                    stored["features"],
                    stored["kept"],
                    {int(row): ImageRejected(*verdict) for row, verdict in verdicts.items()},
                )

    def outcome(self) -> tuple[list[int], dict[int, ImageRejected]]:
        """Positions of the manifest rows that have features, and the verdicts on the others."""
        kept: list[int] = []
        rejected: dict[int, ImageRejected] = {}
        for part in self.parts():
            kept += part.kept.tolist()
            rejected |= part.rejected
        return kept, rejected

    def finish(self, index: pl.DataFrame, rejects: pl.DataFrame, record: dict[str, Any]) -> None:
        """Join the parts into the set; the record comes last and says that all is there.

        Memory does not depend on the number of parts.
        """
        shape = (index.height, record["encoder"]["width"])
        with written_whole(self.folder / FEATURES) as path:
            with path.open("wb") as stream:
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
                for part in self.parts():
                    stream.write(np.ascontiguousarray(part.features, "<f4").tobytes())
        with written_whole(self.folder / INDEX) as path:
            index.write_parquet(path)
        with written_whole(self.folder / REJECTS) as path:
            rejects.write_csv(path)
        write_json(self.folder / RECORD, record)
        shutil.rmtree(self._parts)


def is_finished(folder: Path, key: dict[str, Any]) -> bool:
    """Whether the folder holds the finished set of this key.

    Raises:
        StoreError: It holds the finished set of another key.
    """
    record = read_record(folder)
    if record is None:
        return False
    _refuse_other(folder, record["made_from"], key)
    return True


def _refuse_other(folder: Path, begun: dict[str, Any], key: dict[str, Any]) -> None:
    differences = [
        f"{name} was {begun.get(name)!r} and is {key.get(name)!r}"
        for name in sorted(begun.keys() | key.keys())
        if begun.get(name) != key.get(name)
    ]
    if differences:
        raise StoreError(
            f"{folder} holds embeddings made otherwise: {'; '.join(differences)}. Choose another "
            "--outdir, or remove the folder."
        )
