"""A whole training: what it leaves, and that an interruption changes nothing of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from small_training import NAMES, Fitted, images, make_task, moved, state, train

from mammography.errors import MammographyError
from mammography.training.callbacks import collapse_signs, rank_of
from mammography.training.density import HISTORY, DensityTask
from mammography.training.evaluate import features_and_logits
from mammography.training.objective import find_objective, losses
from mammography.training.settings import FitSettings

TRAIN = np.flatnonzero(np.arange(40) % 20 < 16)
VALIDATION = np.flatnonzero(np.arange(40) % 20 >= 16)

FROZEN: dict[str, Any] = {"lr": 0.0, "backbone_lr": 0.0, "augment": False}


def settings(**changes: Any) -> FitSettings:
    chosen = {"epochs": 4, "batch_size": 8, "lr": 3e-2, "backbone_lr": 3e-2}
    return FitSettings(**(chosen | changes))


def fitted(task: DensityTask, folder: Path, **how: Any) -> Fitted:
    result = train(task, folder, **how)
    assert result is not None
    return result


# Interruption.

RUNS = {
    "the defaults": settings(),
    "plateau": settings(
        epochs=8, lr=1.0, backbone_lr=1.0, warmup_epochs=1, scheduler="plateau"
    ),
    "early stopping": settings(epochs=9, **FROZEN, patience=2),
    "everything else": settings(
        epochs=3, optimizer="sgd", weight_decay=0.01, scheduler="step", accumulate=3, clip=0.1,
        label_smoothing=0.1, mixup=0.4, sampler=True, amp=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_ended_after_any_epoch_and_taken_up_it_is_the_same_to_the_bit(
    name: str, tmp_path: Path
) -> None:
    data, whole = images(embeddings=True), make_task(RUNS[name], embedding_width=5)
    expected = fitted(whole, tmp_path / "whole", data=data)
    epochs = len(expected.history["epoch"])
    if name == "plateau":
        assert min(expected.history["learning_rate"]) < 1  # there was a plateau
    if name == "early stopping":
        assert epochs < 9
    for epoch in range(1, epochs + 1):
        folder = tmp_path / str(epoch)
        broken = make_task(RUNS[name], embedding_width=5)
        assert train(broken, folder, data, stop_after=epoch) is None
        torch.manual_seed(epoch)
        again = make_task(RUNS[name], embedding_width=5)
        result = fitted(again, folder, data=data)
        assert (result.history, result.best_epoch) == (expected.history, expected.best_epoch)
        assert moved(state(whole), state(again)) == set()


def test_broken_off_after_every_epoch_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    whole, again = make_task(settings()), make_task(settings())
    expected = fitted(whole, tmp_path / "whole")
    for epoch in (1, 2, 3, 4):
        assert train(make_task(settings()), tmp_path / "broken", stop_after=epoch) is None
    assert fitted(again, tmp_path / "broken").history == expected.history
    assert moved(state(whole), state(again)) == set()


# What is left.


def test_the_classifier_left_is_the_best_epochs(tmp_path: Path) -> None:
    task = make_task(settings(epochs=12), weights=[1, 2, 3, 4])
    result = fitted(task, tmp_path)
    history, best = result.history, result.best_epoch
    lines = [{name: values[i] for name, values in history.items()} for i in range(12)]
    assert best == 1 + max(range(12), key=lambda i: (rank_of(lines[i]), -i))
    assert 1 < best < 12  # neither the first nor the last, or this test tells nothing
    data = images()
    _, logits = features_and_logits(task, data, VALIDATION)
    torchs = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 3, 4], dtype=torch.float64))
    loss = torchs(torch.from_numpy(logits), torch.from_numpy(data.codes[VALIDATION])).item()
    assert loss == pytest.approx(history["val_loss"][best - 1], rel=1e-5)
    predicted = logits.argmax(1)
    assert (predicted == data.codes[VALIDATION]).mean() == history["val_acc"][best - 1]


def test_ties_go_to_kappa_then_to_auc_and_then_to_the_earlier_epoch() -> None:
    def line(*values: float | None) -> dict[str, float | None]:
        return dict(zip(("val_bal_acc_adj", "val_kappa", "val_auc"), values, strict=True))

    better = [line(0.5, 0.2, 0.1), line(0.4, 0.3, 0.1), line(0.4, 0.2, 0.6), line(0.4, 0.2, None),
              line(0.4, None, 0.9), line(None, 0.9, 0.9)]  # fmt: skip
    ranks = [rank_of(each) for each in better]
    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) == len(ranks)


def test_among_equal_epochs_the_first_is_kept(tmp_path: Path) -> None:
    assert fitted(make_task(settings(**FROZEN), trained=()), tmp_path).best_epoch == 1


def test_the_history_is_that_of_the_images(tmp_path: Path) -> None:
    """Where nothing is learned, every number of an epoch can be computed again."""
    weights = [1.0, 2.0, 3.0, 4.0]
    task = make_task(settings(**FROZEN, epochs=2), trained=(), weights=weights)
    task.classifier.dropout.p = 0.0
    history = fitted(task, tmp_path).history
    assert tuple(history) == HISTORY
    data = images()
    torchs = torch.nn.CrossEntropyLoss(weight=torch.tensor(weights, dtype=torch.float64))
    for side, rows in (("train", TRAIN), ("val", VALIDATION)):
        _, logits = features_and_logits(task, data, rows)
        loss = torchs(torch.from_numpy(logits), torch.from_numpy(data.codes[rows])).item()
        assert history[f"{side}_loss"] == pytest.approx([loss, loss], rel=1e-5)
        accuracy = (logits.argmax(1) == data.codes[rows]).mean()
        assert history[f"{side}_acc"] == [accuracy, accuracy]
    true, predicted = data.codes[VALIDATION], logits.argmax(1)
    balanced = sklearn.metrics.balanced_accuracy_score(true, predicted)
    probabilities = torch.from_numpy(logits).softmax(1).numpy()
    expected = {
        "val_balanced_accuracy": balanced,
        "val_bal_acc_adj": (balanced - 1 / 4) / (1 - 1 / 4),
        "val_kappa": sklearn.metrics.cohen_kappa_score(true, predicted, weights="quadratic"),
        "val_macro_f1": sklearn.metrics.f1_score(true, predicted, average="macro"),
        "val_auc": sklearn.metrics.roc_auc_score(true, probabilities, multi_class="ovr"),
    }
    for name, value in expected.items():
        assert history[name] == pytest.approx([value, value])
    assert history["learning_rate_backbone"] == [None, None]


def test_validation_images_are_never_augmented(tmp_path: Path) -> None:
    frozen = {"lr": 0.0, "backbone_lr": 0.0, "epochs": 3}
    seen = {}
    for augment in (True, False):
        task = make_task(settings(**frozen, augment=augment), trained=())
        task.classifier.dropout.p = 0.0
        seen[augment] = fitted(task, tmp_path / str(augment)).history
    assert len(set(seen[True]["val_loss"])) == 1
    assert seen[True]["val_loss"] == seen[False]["val_loss"]
    assert len(set(seen[True]["train_loss"])) == 3
    spread = np.ptp(seen[False]["train_loss"])
    assert spread < 1e-6 < np.ptp(seen[True]["train_loss"])


@pytest.mark.parametrize("objective", ["cross-entropy", "ordinal"])
def test_what_can_be_learned_is_learned(objective: str, tmp_path: Path) -> None:
    task = make_task(settings(epochs=25, augment=False), objective=objective)
    assert fitted(task, tmp_path).history["val_bal_acc_adj"][-1] == 1


def test_the_learning_rates_told_are_those_that_held(tmp_path: Path) -> None:
    task = make_task(settings(lr=0.4, backbone_lr=0.04))
    history = fitted(task, tmp_path).history
    assert history["learning_rate"] == pytest.approx([0.2, 0.4, 0.4, 0.2])
    assert history["learning_rate_backbone"] == pytest.approx([0.02, 0.04, 0.04, 0.02])


# Settings that change how steps are made.


def after_one_epoch(folder: Path, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The head before and after an epoch of plain SGD on a frozen encoder."""
    chosen = settings(epochs=1, warmup_epochs=0, optimizer="sgd", lr=1.0, augment=False, **changes)
    task = make_task(chosen, trained=())
    task.classifier.dropout.p = 0.0
    before = state(task)
    fitted(task, folder)
    return before, state(task)


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    _, large = after_one_epoch(tmp_path / "1", batch_size=16)
    _, small = after_one_epoch(tmp_path / "2", batch_size=4, accumulate=4)
    _, other = after_one_epoch(tmp_path / "3", batch_size=4)
    torch.testing.assert_close(small, large, rtol=0, atol=1e-6)
    assert not torch.allclose(other["linear.weight"], large["linear.weight"], atol=1e-3)


def test_clipping_limits_the_norm_of_the_gradient(tmp_path: Path) -> None:
    norms = {}
    for clip in (None, 0.01):
        before, after = after_one_epoch(tmp_path / str(clip), batch_size=32, clip=clip)
        steps = [after[name] - before[name] for name in ("linear.weight", "linear.bias")]
        norms[clip] = torch.cat([step.flatten() for step in steps]).norm().item()
    assert norms[0.01] == pytest.approx(0.01, rel=1e-3)
    assert norms[None] > 0.02  # type: ignore[index]


def test_the_loss_of_a_step_is_weighted_and_smoothed(tmp_path: Path) -> None:
    """One step of SGD on all images is the gradient of the formula."""
    chosen = settings(epochs=1, warmup_epochs=0, optimizer="sgd", lr=1.0, augment=False,
                      batch_size=32, label_smoothing=0.2)  # fmt: skip
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    task = make_task(chosen, trained=(), weights=weights.tolist())
    task.classifier.dropout.p = 0.0
    before, data = state(task), images()
    features, _ = features_and_logits(task, data, TRAIN)
    fitted(task, tmp_path)
    head = before["linear.weight"].clone().requires_grad_()
    logits = torch.from_numpy(features) @ head.T + before["linear.bias"]
    codes = torch.from_numpy(data.codes[TRAIN])
    targets = 0.8 * torch.eye(4)[codes] + 0.05
    of_each = losses(find_objective("cross-entropy").log_probabilities(logits), targets)
    ((of_each * weights[codes]).sum() / weights[codes].sum()).backward()
    step = before["linear.weight"] - state(task)["linear.weight"]
    torch.testing.assert_close(step, head.grad, rtol=1e-4, atol=1e-6)


def test_the_same_seed_is_the_same_training_and_another_one_another(tmp_path: Path) -> None:
    states = []
    for number, seed in enumerate((1, 1, 2)):
        task = make_task(settings(seed=seed))
        torch.manual_seed(number)  # the world around it does not matter
        fitted(task, tmp_path / str(number))
        states.append(state(task))
    assert moved(states[0], states[1]) == set()
    assert moved(states[0], states[2])


def test_early_stopping_counts_epochs_without_a_better_model(tmp_path: Path) -> None:
    result = fitted(make_task(settings(**FROZEN, epochs=9, patience=3), trained=()), tmp_path)
    assert (result.best_epoch, result.history["epoch"]) == (1, [1, 2, 3, 4])


def test_classes_of_no_weight_do_no_harm(tmp_path: Path) -> None:
    task = make_task(settings(batch_size=1), weights=[0, 0, 0, 1], trained=())
    history = fitted(task, tmp_path).history
    assert np.isfinite(history["val_loss"] + history["train_loss"]).all()
    assert history["val_acc"][-1] == 0.25


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    task = make_task(settings(lr=1e30, backbone_lr=1e30))
    with pytest.raises(MammographyError, match=r"diverged in epoch \d.*Lower --lr"):
        train(task, tmp_path)


# Signs of collapse.


def signs(predicted: list[int], true: list[int], kappa: float | None, adjusted: float | None,
          warm: bool = True) -> list[str]:  # fmt: skip
    line = {"val_kappa": kappa, "val_bal_acc_adj": adjusted}
    return collapse_signs(line, np.array(predicted), np.array(true), list(NAMES), warm)


def test_signs_of_collapse() -> None:
    assert signs([0, 1, 2, 3], [0, 1, 2, 3], 1.0, 1.0) == []
    assert signs([2, 2, 2], [0, 2, 3], 0.0, 0.0, warm=False) == [
        "every image is taken for C", "no image of A, D is recognised",
    ]  # fmt: skip
    assert signs([0, 1, 2, 1], [0, 1, 2, 3], 0.29, 0.5) == [
        "no image of D is recognised", "quadratic kappa is 0.29, below 0.3",
    ]  # fmt: skip
    assert signs([0, 1], [0, 1], None, 0.1) == [
        "quadratic kappa is undefined", "bal_acc_adj is 0.10, below 0.3",
    ]  # fmt: skip
    assert signs([0, 1], [0, 1], 0.3, 0.3) == []


def test_a_collapsed_training_warns_after_the_warm_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mammography"):
        task = make_task(settings(**FROZEN, epochs=3, warmup_epochs=2), trained=())
        with torch.no_grad():
            task.classifier.linear.weight.zero_()
            task.classifier.linear.bias.copy_(torch.tensor([0.0, 1, 0, 0]))
        fitted(task, tmp_path)
    assert "epoch 1: every image is taken for B" in caplog.text
    assert "epoch 2: quadratic kappa" not in caplog.text
    assert "epoch 3: quadratic kappa is 0.00, below 0.3" in caplog.text
    assert "epoch 3: bal_acc_adj is 0.00, below 0.3" in caplog.text
