"""The embedding set on disk, finished and while it is being filled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mammography.embeddings.embedding_set import load_embeddings
from mammography.embeddings.provenance import fingerprint
from mammography.embeddings.store import PARTS, Part, PartialSet, is_finished
from mammography.errors import ImageRejected, StoreError
from mammography.runs import versions
from mammography.tables import rejects_frame

ROWS, WIDTH = 7, 5
KEY = {"images": "ab" * 32, "recipe": {"name": "imagenet", "resize": "letterbox"}, "batch_size": 8}
RECORD = {"fingerprint": "f" * 64, "encoder": {"name": "tiny", "width": WIDTH}}
FEATURES = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)
TRUNCATED = ImageRejected("truncated", 'lacks "3" bytes, at\nleast')


def part(rows: range, rejected: tuple[int, ...] = ()) -> Part:
    kept = np.array([row for row in rows if row not in rejected], np.int64)
    return Part(FEATURES[kept], kept, {row: TRUNCATED for row in rows if row in rejected})


def filled(folder: Path, rejected: tuple[int, ...] = (4,)) -> PartialSet:
    target = PartialSet(folder, KEY, ROWS, part_rows=3)
    for number in target.missing():
        target.write(number, part(target.blocks()[number], rejected))
    return target


def finish(target: PartialSet, rejected: tuple[int, ...] = (4,)) -> None:
    kept = [row for row in range(ROWS) if row not in rejected]
    index = pl.DataFrame({"image_id": [f"exam/{row}" for row in kept]})
    rejects = rejects_frame(
        [{"path": "exam/4.dcm", "exam": "007", "code": v.code, "reason": v.reason}
         for v in target.rejected().values()]
    )  # fmt: skip
    target.finish(index, rejects, RECORD)


def test_a_set_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    target = filled(tmp_path)
    assert target.rejected().keys() == {4}
    finish(target)
    embeddings = load_embeddings(str(tmp_path))
    np.testing.assert_array_equal(embeddings.features, np.delete(FEATURES, 4, 0), strict=True)
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), embeddings.features)
    assert embeddings.index["image_id"].to_list() == [f"exam/{row}" for row in (0, 1, 2, 3, 5, 6)]
    assert len(embeddings) == 6
    assert embeddings.fingerprint == "f" * 64
    assert embeddings.record["made_from"] == KEY
    assert embeddings.rejects().row(0) == ("exam/4.dcm", None, "007", "truncated", TRUNCATED.reason)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "embedding.json", "features.npy", "index.parquet", "rejects.csv",
    ]  # fmt: skip


def test_parts_are_fixed_blocks_and_only_missing_ones_are_asked_for(tmp_path: Path) -> None:
    target = PartialSet(tmp_path, KEY, ROWS, part_rows=3)
    assert target.blocks() == [range(3), range(3, 6), range(6, 7)]
    assert (target.missing(), target.rows_missing()) == ([0, 1, 2], 7)
    target.write(1, part(range(3, 6)))
    again = PartialSet(tmp_path, KEY, ROWS, part_rows=3)
    assert (again.missing(), again.rows_missing()) == ([0, 2], 4)


def test_a_part_of_rejects_alone_is_no_gap(tmp_path: Path) -> None:
    target = PartialSet(tmp_path, KEY, ROWS, part_rows=3)
    for number, rows in enumerate(target.blocks()):
        if number == 1:
            target.write(1, Part(np.zeros((0, 0), np.float32), np.zeros(0, np.int64),
                                 dict.fromkeys(rows, TRUNCATED)))  # fmt: skip
        else:
            target.write(number, part(rows))
    finish(target, (3, 4, 5))
    features = load_embeddings(tmp_path).features
    np.testing.assert_array_equal(features, np.delete(FEATURES, (3, 4, 5), 0))


OTHER_KEYS: list[tuple[dict[str, Any], str]] = [
    (KEY | {"batch_size": 4}, "batch_size was 8 and is 4"),
    (KEY | {"images": "cd" * 32}, "images differ"),
    (
        KEY | {"recipe": {"name": "imagenet", "resize": "crop"}},
        "recipe.resize was 'letterbox' and is 'crop'",
    ),
    (KEY | {"device": "cuda"}, "device was None and is 'cuda'"),
    ({"images": KEY["images"], "recipe": KEY["recipe"]}, "batch_size was 8 and is None"),
]


@pytest.mark.parametrize(("key", "difference"), OTHER_KEYS)
def test_a_folder_of_another_key_is_refused(
    key: dict[str, Any], difference: str, tmp_path: Path
) -> None:
    target = filled(tmp_path)
    with pytest.raises(StoreError, match=f"made otherwise: {difference}\\. Choose another"):
        PartialSet(tmp_path, key, ROWS, part_rows=3)
    assert not is_finished(tmp_path, key)
    finish(target)
    with pytest.raises(StoreError, match=f"made otherwise: {difference}\\. Choose another"):
        is_finished(tmp_path, key)
    assert is_finished(tmp_path, KEY)


def test_parts_that_a_kill_left_beside_a_finished_set_are_removed(tmp_path: Path) -> None:
    finish(filled(tmp_path))
    (tmp_path / PARTS).mkdir()
    (tmp_path / PARTS / "000000.npz").touch()
    assert is_finished(tmp_path, KEY)
    assert not (tmp_path / PARTS).exists()


def test_finishing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for folder in (tmp_path / "once", tmp_path / "twice"):
        target = filled(folder)
        if folder.name == "twice":  # killed just before the record was there
            for name in ("features.npy", "index.parquet"):
                (folder / name).write_bytes(b"of a killed run")
        finish(target)
        contents.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert contents[0] == contents[1]


def _cut(folder: Path) -> None:
    whole = (folder / "features.npy").read_bytes()
    (folder / "features.npy").write_bytes(whole[:-1])


def _of_another_set(folder: Path) -> None:
    np.save(folder / "features.npy", FEATURES)


def _of_another_type(folder: Path) -> None:
    np.save(folder / "features.npy", np.delete(FEATURES, 4, 0).astype(np.float64))


def _of_objects(folder: Path) -> None:
    np.save(folder / "features.npy", np.array([{}], object), allow_pickle=True)


SPOILT = {
    "no record": lambda folder: (folder / "embedding.json").unlink(),
    "record is no JSON": lambda folder: (folder / "embedding.json").write_text("{"),
    "record is a list": lambda folder: (folder / "embedding.json").write_text("[]"),
    "record is another": lambda folder: (folder / "embedding.json").write_text('{"encoder": 3}'),
    "no features": lambda folder: (folder / "features.npy").unlink(),
    "features are cut": _cut,
    "features are another set's": _of_another_set,
    "features are of another type": _of_another_type,
    "features are pickled": _of_objects,
    "no index": lambda folder: (folder / "index.parquet").unlink(),
    "index is damaged": lambda folder: (folder / "index.parquet").write_bytes(b"PAR1"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_set_is_one_clear_error(fault: str, tmp_path: Path) -> None:
    finish(filled(tmp_path))
    SPOILT[fault](tmp_path)
    with pytest.raises(StoreError, match=str(tmp_path)):
        load_embeddings(tmp_path)


def test_an_empty_folder_holds_no_set(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no finished embedding set .* mammography embed"):
        load_embeddings(tmp_path / "absent")


def test_the_fingerprint_is_of_encoder_weights_and_recipe() -> None:
    base = fingerprint("resnet50", "a" * 64, "b" * 64)
    assert base == fingerprint("resnet50", "a" * 64, "b" * 64)
    others = {
        fingerprint("densenet121", "a" * 64, "b" * 64),
        fingerprint("resnet50", "c" * 64, "b" * 64),
        fingerprint("resnet50", "a" * 64, "c" * 64),
        fingerprint("resnet50", "b" * 64, "a" * 64),
    }
    assert len(others | {base}) == 5


def test_the_key_is_stored_readably(tmp_path: Path) -> None:
    PartialSet(tmp_path, KEY, ROWS, part_rows=3)
    stored = json.loads((tmp_path / PARTS / "key.json").read_text())
    platform = {"platform": versions()["platform"]}  # a new kernel does not change the bytes
    assert stored.pop("versions") | platform == versions()
    assert stored == KEY


def test_parts_made_by_other_versions_are_not_mixed_in(tmp_path: Path) -> None:
    PartialSet(tmp_path, KEY, ROWS, part_rows=3)
    begun = tmp_path / PARTS / "key.json"
    stored = json.loads(begun.read_text())
    stored["versions"]["imagecodecs"] = "1900.1.1"
    begun.write_text(json.dumps(stored))
    with pytest.raises(StoreError, match=r"imagecodecs was '1900\.1\.1'"):
        PartialSet(tmp_path, KEY, ROWS, part_rows=3)
