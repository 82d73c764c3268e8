"""Batches: which images, in which order, and whose share."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import small_training
import torch
from hypothesis import given
from hypothesis import strategies as st

from mammography.training.data import Batch, BatchOrder, ImageBatches, class_weights
from mammography.training.density import DensityTask
from mammography.training.settings import FitSettings


def batches(order: BatchOrder, epoch: int) -> list[list[int]]:
    order.set_epoch(epoch)
    found = list(order)
    assert len(found) == len(order)
    return found


def flat(parts: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(parts))


# Order.


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    rows = np.arange(100, 132)
    order = BatchOrder(rows, 8, seed=1)
    first, second = batches(order, 0), batches(order, 1)
    assert batches(order, 0) == first  # whatever was asked for before
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    assert batches(BatchOrder(rows, 8, seed=1), 1) == second  # a run taken up at its second epoch
    assert first != second != batches(BatchOrder(rows, 8, seed=2), 1)
    for epoch in (first, second):
        assert sorted(flat(epoch)) == rows.tolist()
        assert [len(batch) for batch in epoch] == [8, 8, 8, 8]


def test_unshuffled_batches_are_the_rows_in_their_order() -> None:
    order = BatchOrder(np.array([5, 3, 9, 1, 7]), 2, shuffle=False)
    assert batches(order, 0) == batches(order, 3) == [[5, 3], [9, 1], [7]]


@given(
    images=st.integers(1, 70),
    batch_size=st.integers(1, 20),
    world=st.integers(1, 4),
    seed=st.integers(0, 3),
)
def test_the_shares_of_several_processes_are_the_batches_of_one(
    images: int, batch_size: int, world: int, seed: int
) -> None:
    world = min(world, batch_size, images)
    rows = np.arange(images)
    alone = batches(BatchOrder(rows, batch_size, seed), 2)
    orders = [BatchOrder(rows, batch_size, seed, rank=rank, world=world) for rank in range(world)]
    shares = [batches(order, 2) for order in orders]
    assert len({len(share) for share in shares}) == 1
    together = [sorted(flat(parts)) for parts in zip(*shares, strict=True)]
    left_over = [sorted(batch) for batch in alone[len(together) :]]
    assert together == [sorted(batch) for batch in alone[: len(together)]]
    assert sum(map(len, left_over)) < world  # at most a last one, too small to be shared
    assert all(batch for share in shares for batch in share)


def test_a_last_batch_of_one_image_is_left_out_of_training_and_never_of_validation() -> None:
    rows = np.arange(17)
    epochs = [batches(BatchOrder(rows, 8, seed=0), epoch) for epoch in range(6)]
    assert {len(epoch) for epoch in epochs} == {2}
    left_out = {(set(rows.tolist()) - set(flat(epoch))).pop() for epoch in epochs}
    assert len(left_out) > 2
    assert batches(BatchOrder(rows, 8, shuffle=False), 0)[-1] == [16]
    assert batches(BatchOrder(rows[:1], 8), 0) == [[0]]
    assert len(BatchOrder(rows, 1)) == 17


# The sampler, and class weights.


def test_the_sampler_draws_every_class_equally_often() -> None:
    codes = np.repeat([0, 1, 2, 3], [2000, 100, 700, 1200])
    weights = class_weights(codes, 4)[codes]
    drawn = flat(batches(BatchOrder(np.arange(4000), 16, 0, weights), 0))
    counts = np.bincount(codes[drawn], minlength=4)
    assert counts.sum() == 4000
    np.testing.assert_allclose(counts, 1000, atol=5 * np.sqrt(4000 * 0.25 * 0.75))
    rare = np.bincount(drawn, minlength=4000)[2000:2100]  # each about ten times
    assert rare.min() > 0
    assert rare.max() < 30


def test_class_weights_are_total_by_classes_and_count() -> None:
    codes = np.repeat([0, 1, 3], [2, 5, 13])
    expected = [20 / (4 * 2), 20 / (4 * 5), 0, 20 / (4 * 13)]
    np.testing.assert_allclose(class_weights(codes, 4), expected)


# Batches.


def test_a_batch_holds_what_belongs_to_its_rows() -> None:
    data = small_training.images(12, embeddings=True)
    batch = ImageBatches(data)[[7, 2, 2]]
    assert batch.rows.tolist() == [7, 2, 2]
    assert batch.grays.dtype == torch.uint16
    for place, row in enumerate((7, 2, 2)):
        np.testing.assert_array_equal(batch.grays[place].numpy(), data.grays[row])
        assert batch.codes[place] == data.codes[row]
        assert data.embeddings is not None
        assert batch.embeddings is not None
        np.testing.assert_array_equal(batch.embeddings[place].numpy(), data.embeddings[row])
    there = batch.to(torch.device("meta"))
    assert {tensor.device.type for tensor in vars(there).values()} == {"meta"}
    assert ImageBatches(small_training.images(12))[[0]].to(torch.device("cpu")).embeddings is None


class Watched(DensityTask):
    """Notes which rows it is trained on and validated on."""

    seen: list[tuple[str, int, list[int]]]

    def training_step(self, batch: Batch, step: int) -> torch.Tensor:
        self.seen.append(("train", self.current_epoch, batch.rows.tolist()))
        return super().training_step(batch, step)

    def validation_step(self, batch: Batch, step: int) -> None:
        self.seen.append(("validate", self.current_epoch, batch.rows.tolist()))
        super().validation_step(batch, step)


@pytest.mark.parametrize("sampler", [False, True])
def test_every_epoch_of_a_training_has_the_order_of_its_number(
    sampler: bool, tmp_path: Path
) -> None:
    settings = FitSettings(epochs=3, batch_size=8, seed=4, sampler=sampler)
    task = small_training.make_task(settings, of=Watched)
    task.seen = []
    small_training.train(task, tmp_path)
    codes = small_training.images().codes
    train = np.flatnonzero(np.arange(40) % 20 < 16)
    weights = class_weights(codes[train], 4)[codes[train]] if sampler else None
    order = BatchOrder(train, 8, 4, weights)
    validation = list(range(16, 20)) + list(range(36, 40))
    for epoch in range(3):
        rows = [rows for what, number, rows in task.seen if (what, number) == ("train", epoch)]
        assert rows == batches(order, epoch)
        rows = [rows for what, number, rows in task.seen if (what, number) == ("validate", epoch)]
        assert rows == [validation]
