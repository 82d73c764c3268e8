"""Freezing: exactly what is trained moves, and nothing else, from the first epoch on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import Stop, moved, state
from torch import Tensor, nn

from mammography.encoders.registry import find_architecture, load_encoder
from mammography.errors import UsageError
from mammography.training.classifier import Classifier, trained_modules
from mammography.training.data import Batch, Images
from mammography.training.density import DensityTask
from mammography.training.fit import Loading, fit
from mammography.training.objective import find_objective
from mammography.training.settings import FitSettings

SIDE = 64

#: The modules that --unfreeze-last-block trains.
LAST = {
    "efficientnet_b0": ("features.7", "features.8"),
    "resnet50": ("layer4",),
    "timm:mobilenetv3_small_050": ("blocks.4", "blocks.5", "conv_head"),
}

#: (--train-backbone, --unfreeze-last-block).
FLAGS = {
    "neither": (True, False),
    "no-train-backbone": (False, False),
    "unfreeze-last-block": (True, True),
    "both": (False, True),
}


class Watched(DensityTask):
    """Notes which modules are in training mode at every step."""

    modes: list[dict[str, bool]]

    def training_step(self, batch: Batch, step: int) -> Tensor:
        modules = self.classifier.encoder.named_modules()
        self.modes.append({name: module.training for name, module in modules})
        return super().training_step(batch, step)


def make(name: str, flags: str) -> tuple[Classifier, tuple[str, ...]]:
    """A classifier frozen as the flags say, and the modules of its encoder that are trained."""
    encoder = load_encoder(name, "random", seed=1, size=(SIDE, SIDE))
    torch.manual_seed(0)
    made = Classifier(encoder.network, encoder.info.width, 4, 0.2)
    train_backbone, last_block = FLAGS[flags]
    modules = trained_modules(
        find_architecture(name),
        encoder.network,
        train_backbone=train_backbone,
        last_block=last_block,
    )
    made.freeze_all_but(modules)
    return made, modules


def expected_modules(name: str, flags: str) -> tuple[str, ...]:
    return {"neither": ("",), "no-train-backbone": ()}.get(flags, LAST[name])


def within(name: str, modules: tuple[str, ...]) -> bool:
    return any(module == "" or f"{name}.".startswith(f"{module}.") for module in modules)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("name", LAST)
def test_training_moves_what_the_flags_say_and_nothing_else(
    name: str, flags: str, tmp_path: Path
) -> None:
    """Three steps of the warm-up's first epoch, a validation, and a step of the second epoch."""
    classifier, modules = make(name, flags)
    expected = expected_modules(name, flags)
    assert modules == expected
    random = np.random.default_rng(0)
    codes = np.arange(14) % 4
    grays = random.integers(0, 65535, (14, SIDE, SIDE)).astype(np.uint16)
    settings = FitSettings(epochs=2, batch_size=4, warmup_epochs=2, lr=1e-3, backbone_lr=1e-4)
    mean, std = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
    task = Watched(classifier, find_objective("cross-entropy"), settings, np.ones(4), mean, std)
    task.modes = []
    before = state(task)

    def after_one(_: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        fit(task, Images(grays, codes.astype(np.int64)), np.arange(12), np.arange(12, 14),
            list("ABCD"), tmp_path, Loading(), on_epoch=after_one)  # fmt: skip
    encoder = classifier.encoder
    tensors = dict(encoder.named_parameters()) | dict(encoder.named_buffers())
    should = {f"encoder.{tensor}" for tensor in tensors if within(tensor, expected)}
    assert moved(before, state(task)) == should | {"linear.weight", "linear.bias"}
    leaves = {n for n, module in encoder.named_modules() if not list(module.children())}
    for modes in task.modes:
        assert {leaf for leaf in leaves if modes[leaf]} == {
            leaf for leaf in leaves if within(leaf, expected)
        }
    trained = {n for n, p in encoder.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in encoder.named_parameters() if within(n, expected)}


def test_frozen_layers_stay_frozen_after_validation_and_in_later_epochs(tmp_path: Path) -> None:
    classifier, _ = make("timm:mobilenetv3_small_050", "both")
    grays = np.random.default_rng(0).integers(0, 65535, (8, SIDE, SIDE)).astype(np.uint16)
    settings = FitSettings(epochs=3, batch_size=3)
    task = Watched(
        classifier, find_objective("ordinal"), settings, np.ones(5), (0.5,) * 3, (0.2,) * 3
    )
    task.modes = []
    fit(task, Images(grays, np.arange(8) % 4), np.arange(6), np.arange(6, 8), list("ABCDE"),
        tmp_path, Loading())  # fmt: skip
    assert len(task.modes) == 6
    assert all(modes == task.modes[0] for modes in task.modes)
    assert not task.modes[-1]["blocks.3"]
    assert task.modes[-1]["blocks.4"]


# Dropout and stochastic depth.


@pytest.mark.parametrize("flags", FLAGS)
def test_nothing_is_random_within_what_is_frozen(flags: str) -> None:
    classifier, _ = make("efficientnet_b0", flags)
    images = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    last = classifier.encoder.get_submodule("features.7")
    last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    outputs = []
    for training in (False, True, True):
        classifier.train(training)
        with torch.no_grad():
            outputs.append(classifier.encoder(images))
    frozen_up_to_the_last = flags != "neither"
    assert torch.equal(seen[0], seen[1]) == frozen_up_to_the_last
    assert torch.equal(seen[1], seen[2]) == frozen_up_to_the_last
    assert torch.equal(outputs[0], outputs[1]) == (flags == "no-train-backbone")
    assert torch.equal(outputs[1], outputs[2]) == frozen_up_to_the_last  # it adds no chance itself


def test_the_heads_dropout_acts_in_training_alone() -> None:
    classifier, _ = make("timm:resnet10t", "no-train-backbone")
    features = torch.ones(1000, 512)
    with torch.no_grad():
        classifier.linear.weight.fill_(1.0)
        classifier.linear.bias.zero_()
        classifier.train()
        kept = classifier.head(features)[:, 0] * 0.8 / 512
        assert kept.mean() == pytest.approx(0.8, abs=0.01)
        assert kept.std() > 0.01
        assert torch.equal(classifier.eval().head(features), torch.full((1000, 4), 512.0))


# The head.


def test_embeddings_are_standardised_and_stand_behind_the_features() -> None:
    torch.manual_seed(0)
    classifier = Classifier(nn.Flatten(), 12, 3, 0.5, embedding_width=2).eval()
    assert classifier.linear.in_features == 14
    classifier.embedding_mean = torch.tensor([1.0, -2.0])
    classifier.embedding_std = torch.tensor([2.0, 4.0])
    images, embeddings = torch.randn(5, 3, 2, 2), torch.randn(5, 2)
    with torch.no_grad():
        beside = (embeddings - torch.tensor([1.0, -2.0])) / torch.tensor([2.0, 4.0])
        expected = classifier.linear(torch.cat([images.flatten(1), beside], 1))
        torch.testing.assert_close(classifier(images, embeddings), expected)
        with pytest.raises(ValueError, match="needs embeddings"):
            classifier(images)


def test_dropout_leaves_embeddings_alone() -> None:
    classifier = Classifier(nn.Flatten(), 12, 1, 0.999, embedding_width=2).train()
    with torch.no_grad():
        classifier.linear.weight[:, :12] = 0.0
        outputs = classifier(torch.randn(50, 3, 2, 2), torch.ones(50, 2))
    assert outputs.std() < 1e-6


def test_the_page_s_head_has_about_five_thousand_weights() -> None:
    classifier, _ = make("efficientnet_b0", "no-train-backbone")
    trained = {n: p.numel() for n, p in classifier.named_parameters() if p.requires_grad}
    assert trained == {"linear.weight": 1280 * 4, "linear.bias": 4}


def test_an_encoder_without_a_last_block_says_so() -> None:
    known = find_architecture("timm:resnet10t")
    network = known.headless(known.build())
    nothing = replace(known, last_block=None)
    with pytest.raises(UsageError, match="timm:resnet10t does not say what its last block is"):
        trained_modules(nothing, network, train_backbone=False, last_block=True)
    assert trained_modules(nothing, network, train_backbone=True, last_block=False) == ("",)
