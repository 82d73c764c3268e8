"""The embedding set on disk: features, their index, and where they come from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammography.errors import StoreError
from mammography.tables import REJECT_COLUMNS

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
        StoreError: The folder holds no finished set, or its files disagree or are damaged.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record is None:
        raise StoreError(
            f"{folder} holds no finished embedding set ({RECORD} is missing); run "
            f"mammography embed with --outdir {folder}."
        )
    try:
        features = np.load(folder / FEATURES, mmap_mode="r", allow_pickle=False)
        index = pl.read_parquet(folder / INDEX)
        width = int(record["encoder"]["width"])
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise _spoilt(folder, f"a file is missing or damaged ({error})") from error
    if features.shape != (index.height, width) or features.dtype != np.float32:
        raise _spoilt(
            folder,
            f"{FEATURES} holds {features.dtype} of shape {features.shape}, and {index.height} "
            f"float32 rows of width {width} belong there",
        )
    return EmbeddingSet(features, index, record, folder)


def read_record(folder: Path) -> dict[str, Any] | None:
    """`embedding.json` of a finished set, or None where there is none.

    Raises:
        StoreError: There is something else of that name.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _spoilt(folder, f"{RECORD} cannot be read ({error})") from error
    if not isinstance(record, dict):
        raise _spoilt(folder, f"{RECORD} is not a record of embeddings")
    return record


def _spoilt(folder: Path, what: str) -> StoreError:
    return StoreError(f"{folder} holds no sound embedding set: {what}. Embed into a new folder.")
