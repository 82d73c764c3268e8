"""Learning rates, epoch by epoch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_training import encoder

from mammography.training.classifier import Classifier
from mammography.training.schedule import factor, optimizer_of, set_rates
from mammography.training.settings import FitSettings

FALLING = [1 / (epoch + 1) for epoch in range(20)]


def factors(losses: list[float] = FALLING, **settings: Any) -> list[float]:
    chosen = FitSettings(**settings)
    return [factor(chosen, losses[:epoch]) for epoch in range(chosen.epochs)]


def test_warm_up_is_linear_from_the_first_epoch() -> None:
    expected = [0.25, 0.5, 0.75, 1, 1, 1]
    assert factors(epochs=6, warmup_epochs=4, scheduler="none") == expected
    assert factors(epochs=2, warmup_epochs=0, scheduler="none") == [1, 1]
    assert factors(epochs=2, warmup_epochs=5, scheduler="cosine") == [0.2, 0.4]


def test_cosine_falls_to_nothing_after_the_warm_up() -> None:
    half = math.sqrt(0.5)
    expected = [0.5, 1, 1, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert factors(epochs=6, warmup_epochs=2) == pytest.approx(expected)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=17)
    for ours in factors(epochs=20, warmup_epochs=3)[3:]:
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        torchs.step()


def test_step_is_a_tenth_after_each_third() -> None:
    expected = [1] * 4 + [0.1] * 4 + [0.01] * 4
    assert factors(epochs=12, warmup_epochs=0, scheduler="step") == pytest.approx(expected)
    expected = [0.5, 1] + [1] * 2 + [0.1] * 2 + [0.01] * 2
    assert factors(epochs=8, warmup_epochs=2, scheduler="step") == pytest.approx(expected)


def test_plateau_halves_when_there_is_no_new_minimum_for_three_epochs() -> None:
    losses = [2.0, 1.0, 1.0, 1.5, 1.1, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    expected = [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert factors(losses, epochs=12, warmup_epochs=0, scheduler="plateau") == expected
    expected = [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5]
    assert factors(losses, epochs=12, warmup_epochs=2, scheduler="plateau") == expected


@given(st.lists(st.sampled_from([0.5, 0.7, 0.9, 1.0]), min_size=1, max_size=40))
def test_plateau_is_torchs(losses: list[float]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=2, threshold=0, eps=0
    )
    settings = FitSettings(epochs=50, warmup_epochs=0, scheduler="plateau")
    for epoch, loss in enumerate(losses, start=1):
        torchs.step(loss)
        assert factor(settings, losses[:epoch]) == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("scheduler", ["cosine", "plateau", "step", "none"])
def test_no_schedule_stops_training_within_its_epochs(scheduler: Any) -> None:
    assert min(factors(epochs=20, scheduler=scheduler)) > 0


# Groups.


def classifier(*trained: str) -> Classifier:
    made = Classifier(encoder(), 6, 4, 0.2)
    made.freeze_all_but(trained)
    return made


def test_head_and_backbone_have_rates_of_their_own() -> None:
    settings = FitSettings(lr=3e-3, backbone_lr=2e-4, weight_decay=0.01, warmup_epochs=2)
    made = classifier("4")
    optimizer = optimizer_of(made, settings)
    head, backbone = optimizer.param_groups
    assert (head["name"], head["lr"], head["weight_decay"]) == ("head", 3e-3, 0.01)
    assert (backbone["name"], backbone["lr"], backbone["weight_decay"]) == ("backbone", 2e-4, 0.01)
    assert {id(weight) for weight in head["params"]} == {id(w) for w in made.linear.parameters()}
    last = made.encoder.get_submodule("4")
    assert {id(weight) for weight in backbone["params"]} == {id(w) for w in last.parameters()}
    set_rates(optimizer, settings, [])
    assert [group["lr"] for group in optimizer.param_groups] == [1.5e-3, 1e-4]
    set_rates(optimizer, settings, [1.0, 1.0])
    assert [group["lr"] for group in optimizer.param_groups] == [3e-3, 2e-4]


def test_without_a_trained_encoder_there_is_the_head_alone() -> None:
    optimizer = optimizer_of(classifier(), FitSettings(lr=3e-3))
    assert [group["name"] for group in optimizer.param_groups] == ["head"]


def test_optimizers_by_name() -> None:
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    for name, kind in kinds.items():
        made = optimizer_of(classifier(""), FitSettings(optimizer=name))  # type: ignore[arg-type]
        assert type(made) is kind
    assert made.param_groups[0]["momentum"] == 0.9
