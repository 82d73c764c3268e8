"""The recipe `density`: `imagenet` at 512 × 512, under a name of its own."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from mammography import plugins
from mammography.dicom.pixels import StoredImage
from mammography.preprocess.recipes.density import Density
from mammography.preprocess.recipes.imagenet import Imagenet
from mammography.runs import canonical_json

PAGE = Path(__file__).resolve().parents[2] / "docs/recipes/density.md"


def test_it_is_found_by_name() -> None:
    recipe = plugins.get("recipes", "density")
    assert recipe == Density()
    assert (recipe.NAME, recipe.size) == ("density", (512, 512))


def test_at_the_same_size_it_is_imagenet_to_the_bit() -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (300, 200)).astype(np.uint16)
    image = StoredImage(pixels, inverted=True)
    expected = Imagenet(size=(512, 512))
    np.testing.assert_array_equal(Density().gray(image), expected.gray(image), strict=True)
    assert Density().VERSION == Imagenet.VERSION
    assert Density().hash != expected.hash


def test_only_the_size_is_another_default() -> None:
    assert {
        field.name
        for field in fields(Imagenet)
        if getattr(Density(), field.name) != getattr(Imagenet(), field.name)
    } == {"size"}


def test_the_record_on_its_page_is_the_one_that_is_hashed() -> None:
    assert f"```json\n{canonical_json(Density().record())}\n```" in PAGE.read_text("utf-8")
