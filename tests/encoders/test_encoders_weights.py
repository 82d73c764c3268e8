"""Weight files, right and wrong ones: every tensor finds its place, and nothing is executed."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import random
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from mammography.encoders.families.torchvision_nets import fetch
from mammography.encoders.registry import find_architecture, load_encoder
from mammography.encoders.weights import read_state_dict
from mammography.errors import WeightsError, WeightsUnavailableError

TINY = "timm:mobilenetv3_small_050"
SIZE = (32, 32)


@pytest.fixture(scope="module")
def trained() -> dict[str, Tensor]:
    """A whole tiny network's tensors, as a training script leaves them."""
    torch.manual_seed(7)
    return find_architecture(TINY).build().state_dict()


@pytest.fixture(scope="module")
def expected(trained: dict[str, Tensor]) -> Tensor:
    network = find_architecture(TINY).build()
    network.load_state_dict(trained)
    network.reset_classifier(0)
    with torch.inference_mode():
        return network.eval()(_images())


def _images() -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def _without_classifier(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith("classifier")}


def _with_other_classes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return _without_classifier(state) | {
        "classifier.weight": torch.zeros(4, 1024),
        "classifier.bias": torch.zeros(4),
    }


LAYOUTS = {
    "alone": lambda state: state,
    "without classifier": _without_classifier,
    "with a classifier for four classes": _with_other_classes,
    "without counters": lambda state: {
        key: value for key, value in state.items() if not key.endswith("num_batches_tracked")
    },
    "state_dict": lambda state: {"state_dict": state, "epoch": 12, "best": 0.5},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": 1e-3}},
    "model": lambda state: {"model": state},
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "module. in state_dict": lambda state: {
        "state_dict": {f"module.{key}": value for key, value in state.items()}
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_usual_layout_of_the_right_file_is_read(
    layout: str, trained: dict[str, Tensor], expected: Tensor, tmp_path: Path
) -> None:
    content = LAYOUTS[layout](trained)
    files = [tmp_path / "new.pth", tmp_path / "old.pth"]
    torch.save(content, files[0])
    torch.save(content, files[1], _use_new_zipfile_serialization=False)
    if all(isinstance(value, Tensor) for value in content.values()):
        files.append(tmp_path / "any.name")
        save_file(content, files[-1])
    for file in files:
        encoder = load_encoder(TINY, str(file), seed=1, size=SIZE)
        with torch.inference_mode():
            assert torch.equal(encoder.network(_images()), expected)
        record = encoder.info.weights
        assert record.trained
        assert record.name == file.name
        assert record.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def _changed(key: str, value: Any) -> Any:
    return lambda state: state | {key: value}


WRONG = {
    "missing": (
        lambda state: {key: state[key] for key in state if key != "conv_stem.weight"},
        "1 missing: conv_stem.weight",
    ),
    "left over": (_changed("conv_stem.bias", torch.zeros(16)), "1 left over: conv_stem.bias"),
    "of the wrong shape": (
        _changed("conv_stem.weight", torch.zeros(16, 1, 3, 3)),
        r"1 of the wrong shape: conv_stem.weight \(16, 1, 3, 3\) instead of \(16, 3, 3, 3\)",
    ),
    "of the wrong type": (
        _changed("conv_stem.weight", torch.zeros(16, 3, 3, 3, dtype=torch.int8)),
        "1 of the wrong type: conv_stem.weight torch.int8",
    ),
    "with NaN": (
        _changed("conv_stem.weight", torch.full((16, 3, 3, 3), torch.nan)),
        "1 with NaN or infinity: conv_stem.weight",
    ),
    "of a wrong prefix": (
        lambda state: {f"backbone.{key}": value for key, value in state.items()},
        r"missing: .*left over: backbone\.",
    ),
    "of another network": (
        lambda _: models.resnet18().state_dict(),
        r"missing: blocks.*left over: conv1\.",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_tensors_that_do_not_fit_are_named(
    fault: str, trained: dict[str, Tensor], tmp_path: Path
) -> None:
    change, message = WRONG[fault]
    torch.save(change(dict(trained)), tmp_path / "wrong.pth")
    with pytest.raises(WeightsError, match=message) as caught:
        load_encoder(TINY, str(tmp_path / "wrong.pth"), seed=1, size=SIZE)
    assert "wrong.pth does not fit MobileNetV3" in str(caught.value)
    assert "\n" not in str(caught.value)


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_pickles_that_would_run_code_are_refused_and_not_run(tmp_path: Path) -> None:
    bomb = Malicious(tmp_path / "executed")
    torch.save({"state_dict": {"weight": bomb}}, tmp_path / "new.pth")
    torch.save(bomb, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(bomb))
    (tmp_path / "protocol2.pkl").write_bytes(pickle.dumps(bomb, protocol=2))
    torch.save({"state_dict": {}, "args": argparse.Namespace()}, tmp_path / "args.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(WeightsError, match=r"refused: .* nothing .* is executed") as caught:
            read_state_dict(path)
        assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
    with pytest.raises(WeightsError, match=r"run argparse\.Namespace"):
        read_state_dict(tmp_path / "args.pth")


def test_other_things_than_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("hello, this is no network\n" * 20)
    (tmp_path / "json.safetensors").write_text('        {"hello": 1}')
    (tmp_path / "noise.pth").write_bytes(random.Random(0).randbytes(5000))
    torch.save({"epoch": 3}, tmp_path / "empty-checkpoint.pth")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    torch.save({}, tmp_path / "nothing.pth")
    for path in [*sorted(tmp_path.iterdir()), tmp_path, tmp_path / "absent.pth"]:
        with pytest.raises(WeightsError, match=re.escape(str(path))) as caught:
            read_state_dict(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", ["new.pth", "old.pth", "weights.safetensors"])
def test_damaged_files_give_weights_errors_and_nothing_else(layout: str, tmp_path: Path) -> None:
    state = {f"layer.{number}": torch.randn(8, 8) for number in range(4)}
    path = tmp_path / layout
    if layout == "weights.safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=layout == "new.pth")
    whole = path.read_bytes()
    dice = random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole[: dice.randrange(len(whole))] if dice.random() < 0.5 else whole)
        for _ in range(dice.randrange(1, 6)):
            if damaged:
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            read_state_dict(path)
        except WeightsError:
            refused += 1
    assert refused > 50


def test_names_of_2017_in_densenet_files_are_understood(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = models.densenet121(weights=None)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))([12])\.", r"\1.\2.", key): value
        for key, value in network.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet121-a639ec97.pth")
    encoder = load_encoder(
        "densenet121", str(tmp_path / "densenet121-a639ec97.pth"), seed=1, size=SIZE
    )
    network.classifier = nn.Identity()
    with torch.inference_mode():
        assert torch.equal(encoder.network(_images()), network.eval()(_images()))


# Published weights.


def test_published_weights_that_cannot_be_had_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = "http://127.0.0.1:9/models/tiny-0123abcd.pth"  # nothing listens there
    with pytest.raises(WeightsUnavailableError) as caught:
        fetch(url, "IMAGENET1K_V2")
    message = str(caught.value)
    for part in ("tiny-0123abcd.pth", url, str(tmp_path / "hub" / "checkpoints"), "--weights PATH",
                 "--weights random"):  # fmt: skip
        assert part in message


def test_published_weights_need_a_folder_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub").write_text("a file where the folder should be")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsUnavailableError):
        fetch("http://127.0.0.1:9/models/tiny-0123abcd.pth", "IMAGENET1K_V2")


def test_published_weights_in_the_cache_are_used_only_when_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"weight": torch.ones(3)}, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    name = f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    path, record = fetch(f"http://127.0.0.1:9/models/{name}", "IMAGENET1K_V2")
    assert path == folder / name
    assert record.name == "IMAGENET1K_V2"
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=r"only half of it.*Remove it"):
        fetch(f"http://127.0.0.1:9/models/{name}", "IMAGENET1K_V2")


def test_published_weights_are_downloaded_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    torch.save({"weight": torch.ones(3)}, tmp_path / "file")
    digest = hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()[:8]
    for name in (f"right-{digest}.pth", "wrong-00000000.pth"):
        (tmp_path / "file").rename(tmp_path / name)
        if name.startswith("right"):
            path, _ = fetch((tmp_path / name).as_uri(), "V1")
            assert path.read_bytes() == (tmp_path / name).read_bytes()
        else:
            with pytest.raises(WeightsUnavailableError, match="invalid hash"):
                fetch((tmp_path / name).as_uri(), "V1")
        (tmp_path / name).rename(tmp_path / "file")
    assert [path.name for path in (tmp_path / "home/hub/checkpoints").iterdir()] == [
        f"right-{digest}.pth"
    ]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet50", "resnet50-11ad3fa6.pth"),
        ("densenet121", "densenet121-a639ec97.pth"),
        ("efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc.pth"),
    ],
)
def test_the_published_files_are_those_of_the_documents(name: str, file: str) -> None:
    url = find_architecture(name).fetch.args[0]  # type: ignore[attr-defined]
    assert Path(urlparse(url).path).name == file
