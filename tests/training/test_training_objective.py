"""Objectives: what outputs mean, and what they cost."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mammography.errors import PluginError
from mammography.training.objective import (
    Objective,
    find_objective,
    losses,
    soft_targets,
    weighted_mean,
)

CROSS_ENTROPY, ORDINAL = find_objective("cross-entropy"), find_objective("ordinal")

LOGITS = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 3
CODES = torch.arange(50) % 4

wild = st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3)


def loss_of(objective: Objective, logits: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    targets = soft_targets(codes, len(weights), 0.0)
    return weighted_mean(losses(objective.log_probabilities(logits), targets), weights[codes])


# Cross-entropy.


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0, 1.0], [0.2, 7.0, 0.0, 1.5]])
def test_cross_entropy_is_torchs_with_class_weights(weights: list[float]) -> None:
    each = torch.tensor(weights)
    logits = LOGITS.clone().requires_grad_()
    same = LOGITS.clone().requires_grad_()
    ours = loss_of(CROSS_ENTROPY, logits, CODES, each)
    torchs = torch.nn.CrossEntropyLoss(weight=each)(same, CODES)
    torch.testing.assert_close(ours, torchs, rtol=1e-6, atol=0)
    ours.backward()
    torchs.backward()
    torch.testing.assert_close(logits.grad, same.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing_is_torchs(smoothing: float) -> None:
    targets = soft_targets(CODES, 4, smoothing)
    ours = losses(CROSS_ENTROPY.log_probabilities(LOGITS), targets).mean()
    torchs = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(LOGITS, CODES)
    torch.testing.assert_close(ours, torchs, rtol=1e-6, atol=0)
    torch.testing.assert_close(targets.sum(1), torch.ones(50))


def test_images_of_no_weight_cost_nothing_and_teach_nothing() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = loss_of(CROSS_ENTROPY, logits, CODES, torch.zeros(4))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_cross_entropy_needs_an_output_for_each_class_and_ordinal_one_less() -> None:
    assert [CROSS_ENTROPY.outputs(k) for k in (2, 4)] == [2, 4]
    assert [ORDINAL.outputs(k) for k in (2, 4)] == [1, 3]


# Ordinal: Shi, Cao and Raschka 2023.


def corn_probabilities(logits: list[float]) -> list[float]:
    """P(y = k) from the conditional P(y > k | y > k - 1), the logistic function of output k."""
    beyond = [1.0]
    for logit in logits:
        beyond.append(beyond[-1] / (1 + math.exp(-logit)))
    return [one - next_ for one, next_ in zip(beyond, [*beyond[1:], 0.0], strict=True)]


def corn_loss(logits: list[float], code: int) -> float:
    """The binary tasks that the image takes part in: task k asks whether y > k of those y >= k."""
    loss = 0.0
    for task, logit in enumerate(logits):
        if code >= task:
            passes = 1 / (1 + math.exp(-logit))
            loss -= math.log(passes if code > task else 1 - passes)
    return loss


def test_ordinal_is_corn_written_out() -> None:
    logits = LOGITS[:, :3]
    logs = ORDINAL.log_probabilities(logits)
    ours = losses(logs, soft_targets(CODES, 4, 0.0))
    expected = [corn_probabilities(row) for row in logits.tolist()]
    np.testing.assert_allclose(logs.exp().numpy(), expected, rtol=1e-5, atol=1e-7)
    rows = zip(logits.tolist(), CODES.tolist(), strict=True)
    np.testing.assert_allclose(ours.numpy(), [corn_loss(*row) for row in rows], rtol=1e-5)


@given(wild)
def test_ordinal_probabilities_are_rank_consistent_whatever_the_outputs(row: list[float]) -> None:
    logs = ORDINAL.log_probabilities(torch.tensor([row], dtype=torch.float64))
    probabilities = logs.exp()[0]
    assert logs.isfinite().all()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-12)
    beyond = 1 - probabilities.cumsum(0)
    assert (beyond[1:] <= beyond[:-1] + 1e-12).all()


@given(wild)
def test_cross_entropy_probabilities_sum_to_one_whatever_the_outputs(row: list[float]) -> None:
    logs = CROSS_ENTROPY.log_probabilities(torch.tensor([row], dtype=torch.float64))
    assert not logs.isnan().any()
    assert logs.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_ordinal_gradient_is_the_logistic_one_of_each_task_taken_part_in() -> None:
    logits = LOGITS[:, :3].clone().requires_grad_()
    losses(ORDINAL.log_probabilities(logits), soft_targets(CODES, 4, 0.0)).sum().backward()
    tasks = torch.arange(3)
    takes_part, passed = CODES[:, None] >= tasks, CODES[:, None] > tasks
    expected = torch.where(takes_part, torch.sigmoid(LOGITS[:, :3]) - passed.float(), 0.0)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", [CROSS_ENTROPY, ORDINAL])
def test_gradients_are_those_of_differences(objective: Objective) -> None:
    logits = LOGITS[:5, : objective.outputs(4)].double().requires_grad_()
    assert torch.autograd.gradcheck(objective.log_probabilities, logits)


def test_an_unknown_objective_names_the_known_ones() -> None:
    with pytest.raises(PluginError, match=r"'hinge'.*known are cross-entropy, ordinal"):
        find_objective("hinge")
