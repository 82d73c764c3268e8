"""Embeddings and images are matched by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammography.embeddings.embedding_set import EmbeddingSet
from mammography.embeddings.matching import open_features, rows_for
from mammography.errors import StoreError


def embeddings(ids: list[str]) -> EmbeddingSet:
    """Row i holds i and -i."""
    numbers = np.arange(len(ids), dtype=np.float32)
    index = pl.DataFrame({"image_id": pl.Series(ids, dtype=pl.String)})
    return EmbeddingSet(np.stack([numbers, -numbers], 1), index, {}, Path("some/set"))


names = st.lists(st.text("ab/0", min_size=1, max_size=4), unique=True, min_size=1)


@given(names, st.randoms())
def test_every_image_gets_its_own_row(ids: list[str], random: st.DrawFn) -> None:
    wanted = random.sample(ids, random.randint(0, len(ids)))  # type: ignore[attr-defined]
    rows = rows_for(wanted, embeddings(ids), known=ids)
    assert rows.dtype == np.float32
    assert rows.shape == (len(wanted), 2)
    assert rows[:, 0].tolist() == [ids.index(name) for name in wanted]


def test_a_missing_row_is_named() -> None:
    with pytest.raises(StoreError, match=r"some/set has no embedding of 1 images \(c\)"):
        rows_for(["a", "c"], embeddings(["a", "b"]))


def test_of_many_missing_rows_the_first_five_are_named() -> None:
    with pytest.raises(StoreError, match=r"of 7 images \(b, c, d, e, f, …\)"):
        rows_for(list("abcdefgh"), embeddings(["a"]))


def test_a_foreign_row_is_named() -> None:
    both = embeddings(["a", "b", "x"])
    assert len(rows_for(["a"], both)) == 1  # where the archive is not known, any may be there
    assert len(rows_for(["a"], both, known={"a", "b", "x"})) == 1
    with pytest.raises(StoreError, match=r"archive does not have: 2 images \(b, x\)"):
        rows_for(["a"], both, known={"a"})


def test_names_are_text_and_keep_their_zeros() -> None:
    with pytest.raises(StoreError, match=r"no embedding of 1 images \(7\)"):
        rows_for(["7"], embeddings(["007"]))


def test_a_features_file_without_its_index_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.float32))
    with pytest.raises(StoreError, match=r"x.npy has no index beside it: give the features.npy"):
        open_features(tmp_path / "x.npy")
    np.save(tmp_path / "features.npy", np.zeros((2, 3), np.float32))
    with pytest.raises(StoreError, match="no finished embedding set"):
        open_features(tmp_path / "features.npy")
