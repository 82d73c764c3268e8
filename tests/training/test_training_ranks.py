"""Several processes train together as one does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from density_runs import command, json_of, predictions

from mammography.training import ranks

#: No batch normalisation and no chance, which each process has for itself; batches of unequal
#: weight, the last one smaller than the others.
ALIKE = {
    "arch": "timm:test_convnext",
    "dropout": 0.0,
    "class_weights": "1,2,3,4",
    "batch_size": 10,
    "backbone_lr": 1e-3,
    "device": "cpu",
}


def test_without_others_a_process_is_the_first_and_only_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (ranks.rank(), ranks.world()) == (0, 1)
    assert ranks.placement() == {"devices": 1, "num_nodes": 1, "strategy": "auto"}
    assert ranks.agreed("own") == "own"


def test_torchrun_says_who_is_who(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert (ranks.rank(), ranks.world()) == (5, 8)
    assert ranks.placement() == {"devices": 4, "num_nodes": 2, "strategy": "ddp"}


def test_two_processes_give_the_metrics_of_one(phantoms: Path, tmp_path: Path) -> None:
    alone = command(phantoms, tmp_path / "one", **ALIKE).run()
    [run] = command(phantoms, tmp_path / "two", **ALIKE, devices=2).run().runs
    [expected] = alone.runs
    assert run.folder == tmp_path / "two" / "results"
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["results"]
    one, two = (json_of(each.folder / "train_history.json") for each in (expected, run))
    assert one.keys() == two.keys()
    for name, values in one.items():
        assert two[name] == pytest.approx(values, rel=1e-4), name
    for name in ("accuracy", "kappa", "auc_ovr"):
        assert run.metrics[name] == pytest.approx(expected.metrics[name])
    one_table, two_table = predictions(expected.folder), predictions(run.folder)
    numbers = pl.selectors.starts_with("prob_")
    assert one_table["sample_id"].equals(two_table["sample_id"])
    np.testing.assert_allclose(
        one_table.select(numbers).to_numpy(), two_table.select(numbers).to_numpy(), atol=1e-4
    )
    assert np.ptp(one["val_loss"]) > 1e-3  # something was learned
