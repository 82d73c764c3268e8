"""What runs of one command share, and what each is made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from small_training import moved, state

from mammography.archive.dialects import DENSITY, Label
from mammography.archive.splits import Split
from mammography.embeddings.embedding_set import EmbeddingSet
from mammography.errors import StoreError, UsageError
from mammography.preprocess.recipes.density import Density
from mammography.training.labels import BINARY, label_and_codes
from mammography.training.settings import FitSettings
from mammography.training.study import ModelChoice, Study, make_study, prepare, with_subset

IDS = [f"{exam:02d}/L_CC" for exam in range(10)]
SPLIT = Split(tuple(IDS[:7]), tuple(IDS[7:]))
GRAYS = [np.full((32, 32), number, np.uint16) for number in range(10)]
RESNET = ModelChoice("timm:resnet10t", "random")


def frame(densities: list[int]) -> pl.DataFrame:
    return pl.DataFrame({"image_id": IDS, "density": pl.Series(densities, dtype=pl.Int8)})


def embeddings(ids: list[str], width: int = 3) -> EmbeddingSet:
    """The row of image i is i, 10 i, … and, in its last column, the same for all."""
    numbers = np.array([IDS.index(name) if name in IDS else 99 for name in ids], np.float32)
    features = numbers[:, None] * np.array([1.0, 10.0] + [0.0] * (width - 2), np.float32) + 5
    index = pl.DataFrame({"image_id": ids, "path": [f"{name}.dcm" for name in ids]})
    return EmbeddingSet(features.astype(np.float32), index, {"fingerprint": "f"}, Path("emb"))


def study(
    densities: list[int] | None = None,
    *,
    beside: EmbeddingSet | None = None,
    model: ModelChoice = RESNET,
) -> Study:
    images = frame(densities or [1, 2, 3, 4, 1, 2, 1, 2, 3, 4])
    label, codes = label_and_codes(images, DENSITY, None)
    recipe = Density(size=(32, 32))
    return make_study(images, label, codes, GRAYS, recipe, model, beside, IDS)


# Embeddings.


def test_embeddings_are_matched_by_name_whatever_their_order() -> None:
    order = [3, 9, 0, 1, 8, 2, 7, 4, 6, 5]
    straight = study(beside=embeddings(IDS))
    shuffled = study(beside=embeddings([IDS[number] for number in order]))
    assert straight.images.embeddings is not None
    assert shuffled.images.embeddings is not None
    np.testing.assert_array_equal(straight.images.embeddings, shuffled.images.embeddings)
    np.testing.assert_array_equal(straight.images.embeddings[:, 0], np.arange(10) + 5)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (IDS[:4] + IDS[5:], r"no embedding of 1 images \(04/L_CC\)"),
        ([*IDS, "77/R_CC"], r"images that this archive does not have: 1 images \(77/R_CC\)"),
        (["other/" + name for name in IDS], r"10 images \(00/L_CC, 01/L_CC, .*, …\)"),
    ],
)
def test_missing_and_foreign_rows_are_named(ids: list[str], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        study(beside=embeddings(ids))


def test_embeddings_are_standardised_by_the_training_images_alone() -> None:
    made = prepare(study(beside=embeddings(IDS)), SPLIT, FitSettings()).task.classifier
    train = np.arange(7) + 5.0  # images 0 to 6 train; 7 to 9 would change both numbers
    mean = [train.mean(), np.arange(7).mean() * 10 + 5, 5]
    std = [train.std(), train.std() * 10, 1]  # what is constant is not divided by nothing
    np.testing.assert_allclose(made.embedding_mean.numpy(), mean, rtol=1e-6)
    np.testing.assert_allclose(made.embedding_std.numpy(), std, rtol=1e-6)
    assert made.linear.in_features == 512 + 3


def test_fusion_of_the_published_networks_is_1280_and_2048_wide() -> None:
    wide = study(beside=embeddings(IDS, width=2048), model=ModelChoice("efficientnet_b0", "random"))
    made = prepare(wide, SPLIT, FitSettings()).task.classifier
    assert (made.linear.in_features, made.linear.out_features) == (3328, 4)


# Class weights.


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("auto", [7 / (4 * 3), 7 / (4 * 2), 7 / 4, 7 / 4]),  # of the seven that train
        ("none", [1, 1, 1, 1]),
        ((0.5, 1.0, 2.0, 0.0), [0.5, 1, 2, 0]),
    ],
)
def test_class_weights(chosen: Any, expected: list[float]) -> None:
    made = prepare(study(model=replace(RESNET, class_weights=chosen)), SPLIT, FitSettings())
    np.testing.assert_allclose(made.task.get_buffer("_weights").numpy(), expected, rtol=1e-6)


# Seeds.


def test_a_seed_decides_head_and_random_encoder_and_nothing_around_it_does() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = state(prepare(study(), SPLIT, FitSettings(seed=1)).task)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert moved(one, state(prepare(study(), SPLIT, FitSettings(seed=1)).task)) == set()
    other = moved(one, state(prepare(study(), SPLIT, FitSettings(seed=2)).task))
    assert {"linear.weight", "encoder.conv1.0.weight"} <= other


def test_the_ordinal_objective_takes_one_output_less() -> None:
    made = prepare(study(model=replace(RESNET, objective="ordinal")), SPLIT, FitSettings())
    assert made.task.classifier.linear.out_features == 3


def test_what_is_trained_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "mammography"):
        made = prepare(study(model=replace(RESNET, train_backbone=False)), SPLIT, FitSettings())
    assert made.trained == ("linear.weight", "linear.bias")
    tensors = len(list(made.task.classifier.parameters()))
    assert f"2 of {tensors} tensors are trained (the head): 2052 weights" in caplog.text
    assert made.train.tolist() == list(range(7))
    assert made.validation.tolist() == [7, 8, 9]


# A subset, and labels.


def test_a_subset_keeps_images_labels_and_embeddings_together() -> None:
    some = with_subset(
        study(beside=embeddings(IDS)), Split(tuple(IDS[:6]), (IDS[9], IDS[7], IDS[6]))
    )
    assert some.frame["image_id"].to_list() == [IDS[6], IDS[7], IDS[9]]
    assert some.images.codes.tolist() == [0, 1, 3]
    assert [some.images.grays[place][0, 0] for place in range(3)] == [6, 7, 9]
    assert len(some.images.grays) == 3
    assert some.images.embeddings is not None
    assert some.images.embeddings[:, 0].tolist() == [11, 12, 14]
    assert some.rows((IDS[9], IDS[6])).tolist() == [2, 0]


def test_densities_one_to_four_are_four_classes() -> None:
    label, codes = label_and_codes(frame([1, 2, 3, 4, 4, 3, 2, 1, 1, 1]), DENSITY, "density")
    assert label == DENSITY
    assert codes.tolist() == [0, 1, 2, 3, 3, 2, 1, 0, 0, 0]


def test_binary_is_ab_against_cd() -> None:
    label, codes = label_and_codes(frame([1, 2, 3, 4, 4, 3, 2, 1, 1, 1]), DENSITY, "binary")
    assert label == BINARY
    assert codes.tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    made = make_study(
        frame([1, 2, 3, 4, 4, 3, 2, 1, 1, 1]), label, codes, GRAYS, Density(), RESNET, None, IDS
    )
    assert made.frame["density_binary"].to_list()[:3] == ["AB", "AB", "CD"]


def test_labels_of_other_kinds() -> None:
    tissue = Label("tissue", ("F", "G", "D"), ("fatty", "glandular", "dense"))
    images = pl.DataFrame({"image_id": IDS[:3], "tissue": ["D", "F", "G"]})
    assert label_and_codes(images, tissue, None)[1].tolist() == [2, 0, 1]
    for classes in ("density", "binary"):
        with pytest.raises(
            UsageError, match=r"tissue \(fatty, glandular, dense\).*--classes label"
        ):
            label_and_codes(images, tissue, classes)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Every image is of class B: there is nothing to learn"):
        label_and_codes(frame([2] * 10), DENSITY, None)
    with pytest.raises(UsageError, match="Every image is of class A or B"):
        label_and_codes(frame([1, 2] * 5), DENSITY, "binary")
