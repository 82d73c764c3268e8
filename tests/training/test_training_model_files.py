"""A trained model on disk: what comes back, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from trained_models import write_model

from mammography.encoders.registry import load_encoder
from mammography.errors import StoreError, UsageError, WeightsError
from mammography.preprocess.recipes.density import Density
from mammography.training.classifier import Classifier
from mammography.training.model_files import load_model, probabilities_of, save_model
from mammography.training.objective import find_objective

FUSED = {"width": 7, "fingerprint": "f" * 64}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "results", fused=FUSED)


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(saved, tmp_path / "results")


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_was_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    write_model(tmp_path / "one", fused=FUSED)
    model = load_model(tmp_path / "one")
    save_model(tmp_path / "two", model.classifier, model.record)
    again = load_model(tmp_path / "two")
    one, two = model.classifier.state_dict(), again.classifier.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    for name in ("best_model.safetensors", "model.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert not model.classifier.training
    assert not any(weight.requires_grad for weight in model.classifier.parameters())
    assert model.label.classes == (1, 2, 3, 4)
    assert model.recipe == Density(size=(64, 64))
    assert (model.temperature, model.run) == (1.5, tmp_path / "one")


def test_the_pth_is_a_plain_state_dict_and_equal_to_its_twin(saved: Path) -> None:
    plain = torch.load(saved / "best_model.pth", weights_only=True)
    twin = load_file(saved / "best_model.safetensors")
    assert type(plain) in (dict, type(torch.nn.Linear(1, 1).state_dict()))
    assert plain.keys() == twin.keys()
    assert all(torch.equal(plain[name], twin[name]) for name in plain)
    assert {"linear.weight", "embedding_mean", "encoder.layer4.0.conv1.weight"} <= plain.keys()


def test_weights_in_channels_last_are_saved_as_well(tmp_path: Path, saved: Path) -> None:
    model = load_model(saved)
    model.classifier.encoder.to(memory_format=torch.channels_last)
    save_model(tmp_path, model.classifier, model.record)
    expected = load_file(saved / "best_model.safetensors")
    for name, value in load_file(tmp_path / "best_model.safetensors").items():
        assert torch.equal(value, expected[name])


def test_logits_and_probabilities_are_the_heads(saved: Path) -> None:
    model = load_model(saved)
    random = np.random.default_rng(0)
    features = random.normal(size=(5, 512)).astype(np.float32)
    embeddings = random.normal(size=(5, 7)).astype(np.float32)
    state = {name: value.numpy() for name, value in model.classifier.state_dict().items()}
    beside = (embeddings - state["embedding_mean"]) / state["embedding_std"]
    seen = np.concatenate([features, beside], 1).astype(np.float64)
    expected = seen @ state["linear.weight"].T + state["linear.bias"]
    logits = model.logits(features, embeddings)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    for temperature in (1.0, 2.5):
        powers = np.exp(logits / temperature)
        np.testing.assert_allclose(
            model.probabilities(logits, temperature), powers / powers.sum(1, keepdims=True)
        )


def test_ordinal_probabilities_of_a_temperature() -> None:
    logits = np.array([[2.0, -1.0, 0.5]])
    passed = np.cumprod(1 / (1 + np.exp(-logits / 2)))
    expected = [[1 - passed[0], passed[0] - passed[1], passed[1] - passed[2], passed[2]]]
    np.testing.assert_allclose(
        probabilities_of(find_objective("ordinal"), logits, 2.0), expected, rtol=1e-12
    )


# Refusals.


def test_no_run_is_said_to_be_none(tmp_path: Path, run: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no finished run \(model.json is missing\)"):
        load_model(tmp_path)
    (run / "model.json").write_text("{")
    with pytest.raises(StoreError, match=r"model.json cannot be read"):
        load_model(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"arch": "resnet50"},
        {"temperature": 1.0},
        {"objective": "ordinal"},
        {"fused": None},
        {"label": {"name": "density", "classes": [4, 3, 2, 1], "names": ["A", "B", "C", "D"]}},
        {"more": 1},
    ],
)
def test_a_record_that_was_tampered_with_is_refused(changes: dict[str, Any], run: Path) -> None:
    change(run / "model.json", **changes)
    with pytest.raises(WeightsError, match="are of different runs"):
        load_model(run)


def test_the_weights_of_another_run_are_refused(run: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", seed=9)
    shutil.copy(other / "best_model.safetensors", run)
    with pytest.raises(WeightsError, match="are of different runs"):
        load_model(run)


def test_missing_and_damaged_weights_are_refused(run: Path) -> None:
    whole = (run / "best_model.safetensors").read_bytes()
    (run / "best_model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="is missing or damaged"):
        load_model(run)
    (run / "best_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="is missing or damaged"):
        load_model(run)


@pytest.mark.parametrize("spoil", ["missing", "left over", "shape"])
def test_weights_that_do_not_fit_are_refused_by_name(spoil: str, run: Path) -> None:
    """Rewritten with the very same record: nothing is loaded in part."""
    path = run / "best_model.safetensors"
    state = load_file(path)
    if spoil == "missing":
        del state["linear.bias"]
    elif spoil == "left over":
        state["linear.scale"] = torch.zeros(1)
    else:
        state["linear.weight"] = state["linear.weight"][:, :-1].contiguous()
    record = json.loads((run / "model.json").read_text())
    words = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    save_file(state, path, {"mammography": words})
    with pytest.raises(WeightsError, match=r"does not fit model.json.*linear\."):
        load_model(run)


def test_a_recipe_that_has_changed_since_is_refused(saved: Path, tmp_path: Path) -> None:
    model = load_model(saved)
    record = model.record | {"recipe": model.record["recipe"] | {"hash": "0" * 64}}
    save_model(tmp_path, model.classifier, record)
    with pytest.raises(UsageError, match="The recipe density has changed since"):
        load_model(tmp_path)


def test_a_models_files_hold_no_code(saved: Path) -> None:
    """Opened by the restricted unpickler, the .pth gives tensors and nothing else."""
    plain = torch.load(saved / "best_model.pth", weights_only=True)
    assert all(type(value) is torch.Tensor for value in plain.values())


def test_the_loaded_encoder_is_the_saved_one(tmp_path: Path) -> None:
    encoder = load_encoder("timm:resnet10t", "random", seed=3, size=(64, 64))
    classifier = Classifier(encoder.network, 512, 4, 0.2).eval()
    write_model(tmp_path / "run")
    record = load_model(tmp_path / "run").record
    save_model(tmp_path / "own", classifier, record)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        loaded = load_model(tmp_path / "own").classifier
        assert torch.equal(loaded(images), classifier(images))
