"""Networks on their backends: an image's features are the network's, whatever surrounds it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision import models

from mammography.encoders.backends import Backend, EncoderRequest, open_backend
from mammography.encoders.registry import load_encoder
from mammography.encoders.torch_backend import choose_device
from mammography.encoders.torch_backend import run as run_in_torch
from mammography.errors import UsageError

#: Name, side of the images, width.
NETS = [
    ("resnet50", 64, 2048),
    ("densenet121", 64, 1024),
    ("efficientnet_b0", 64, 1280),
    ("timm:resnet10t", 64, 512),
    ("timm:mobilenetv3_small_050", 64, 1024),
    ("timm:test_vit", 160, 64),
]


def images(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, side, side), np.float32)


def eager(name: str) -> nn.Module:
    """The same random network as its library makes it, its classifier taken off by hand."""
    torch.manual_seed(5)
    if name.startswith("timm:"):
        network = timm.create_model(name[len("timm:") :])
        network.reset_classifier(0)
    else:
        network = models.get_model(name, weights=None)
        setattr(network, "fc" if name == "resnet50" else "classifier", nn.Identity())
    return network.eval()


def relative(features: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(features - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(("name", "side", "width"), NETS)
def test_torch_gives_the_network_itself(name: str, side: int, width: int) -> None:
    info, backend = open_backend(
        EncoderRequest(name, "random", 5, (side, side), batch_size=1, backend="torch")
    )
    batch, network = images(1, side), eager(name)
    with closing(backend), torch.inference_mode():
        features = backend.infer(batch)
        plain = network(torch.from_numpy(batch)).numpy()
        network.to(memory_format=torch.channels_last)
        same = network(torch.from_numpy(batch).to(memory_format=torch.channels_last)).numpy()
    assert features.shape == (1, width) == (1, info.width)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, same)
    assert relative(features, plain) < 2e-6


@pytest.mark.parametrize(("name", "side", "width"), [NETS[0], NETS[5]])
def test_openvino_is_eager_pytorch_within_1e_5(name: str, side: int, width: int) -> None:
    pytest.importorskip("openvino")
    request = EncoderRequest(name, "random", 5, (side, side), backend="openvino")
    info, backend = open_backend(request)
    batch = images(8, side)
    with torch.inference_mode():
        expected = eager(name)(torch.from_numpy(batch)).numpy()
    features = backend.infer(batch)
    assert (backend.name, backend.precision, backend.batch_size) == ("openvino", "float32", 8)
    assert features.shape == (8, width) == (8, info.width)
    assert relative(features, expected) <= 1e-5
    neighbours_do_not_matter(backend, side)


@pytest.mark.parametrize(("name", "side", "width"), NETS)
def test_neighbours_do_not_matter_in_torch(name: str, side: int, width: int) -> None:
    encoder = load_encoder(name, "random", seed=5, size=(side, side))
    with closing(
        run_in_torch(encoder, "cpu", EncoderRequest(name, "random", 5, (side, side)))
    ) as b:
        neighbours_do_not_matter(b, side)


def neighbours_do_not_matter(backend: Backend, side: int) -> None:
    """An image's features are the same bytes at every place of the batch, with any company."""
    batch = images(backend.batch_size, side)
    together = backend.infer(batch)
    np.testing.assert_array_equal(backend.infer(batch), together)
    for row, place in ((0, 0), (0, 7), (3, 4), (7, 0), (7, 6)):
        alone = np.zeros_like(batch)
        alone[place] = batch[row]
        np.testing.assert_array_equal(backend.infer(alone)[place], together[row])


def test_mixed_precision_is_recorded_and_near() -> None:
    size = (64, 64)
    batch = images(8, 64)
    for backend_name in ("torch", "openvino"):
        if backend_name == "openvino":
            pytest.importorskip("openvino")
        request = EncoderRequest("timm:resnet10t", "random", 5, size, backend=backend_name)
        exact, mixed = open_backend(request)[1], open_backend(replace(request, amp=True))[1]
        difference = relative(mixed.infer(batch), exact.infer(batch))
        assert mixed.record()["precision"] in ("bfloat16", "float32")
        assert (difference > 0) == (mixed.precision == "bfloat16")
        assert difference < 0.05
        for backend in (mixed, exact):
            backend.close()


def test_pytorchs_settings_are_given_back() -> None:
    state = torch.get_rng_state()
    threads = torch.get_num_threads()
    _, backend = open_backend(
        EncoderRequest("timm:resnet10t", "random", 5, (32, 32), backend="torch")
    )
    backend.close()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_the_seed_makes_the_random_network() -> None:
    def digest(seed: int) -> str:
        return load_encoder(
            "timm:resnet10t", "random", seed=seed, size=(32, 32)
        ).info.weights.sha256

    assert digest(1) == digest(1) != digest(2)
    weights = load_encoder("timm:resnet10t", "random", seed=1, size=(32, 32)).info.weights
    assert (weights.trained, weights.name, weights.source) == (False, "random (seed 1)", "random")


# timm's names.


def test_options_go_to_the_network() -> None:
    plain = load_encoder("timm:mobilenetv3_small_050", "random", seed=1, size=(32, 32))
    same = load_encoder("timm:mobilenetv3_small_050?pad_type=same", "random", seed=1, size=(32, 32))
    batch = torch.from_numpy(images(1, 32))
    with torch.inference_mode():
        assert not torch.equal(plain.network(batch), same.network(batch))
    small = load_encoder("timm:test_vit?img_size=64&embed_dim=32", "random", seed=1, size=(64, 64))
    assert small.info.width == 32
    assert small.info.mean == (0.5, 0.5, 0.5)
    tagged = load_encoder("timm:resnet10t.c3_in1k", "random", seed=1, size=(32, 32))
    assert (tagged.info.name, tagged.info.width) == ("timm:resnet10t.c3_in1k", 512)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:", "no network ''"),
        ("timm:resnet10", "similar names: .*resnet10t"),
        ("timm:resnet10t.of_1999", "Invalid pretrained tag"),
        ("timm:resnet10t?colour=blue", "cannot make resnet10t with {'colour': 'blue'}"),
        ("timm:resnet10t?checkpoint_path=evil.pth", "checkpoint_path cannot be set"),
        ("timm:resnet10t?pretrained=True&num_classes=3", "num_classes, pretrained cannot be set"),
        ("timm:vit_tiny_patch16_224?depth=1", "cannot take images of 64 × 64.*--img-size"),
        ("resnet51", "no encoder 'resnet51'; known are timm:NAME, resnet50, densenet121"),
    ],
)
def test_names_that_are_no_networks_say_why(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_encoder(name, "random", seed=1, size=(64, 64))
    assert "\n" not in str(caught.value)


def test_images_too_small_for_a_network_say_so() -> None:
    with pytest.raises(UsageError, match=r"cannot take images of 1 × 1.*--img-size"):
        load_encoder("densenet121", "random", seed=1, size=(1, 1))


# Devices.


def test_a_device_that_is_not_here_is_refused() -> None:
    absent = [name for name in ("cuda", "mps") if not getattr(torch, name).is_available()]
    for device in absent:
        with pytest.raises(UsageError, match=f"no {device} device here"):
            choose_device(device)
        with pytest.raises(UsageError, match=f"no {device} device here"):
            open_backend(EncoderRequest("resnet50", "random", 1, (64, 64), device=device))
    if len(absent) == 2:
        assert choose_device("auto") == "cpu"


def test_openvino_is_for_the_cpu() -> None:
    request = EncoderRequest("resnet50", "random", 1, (64, 64), device="cuda", backend="openvino")
    pytest.importorskip("openvino")
    with pytest.raises(UsageError, match="runs on the CPU, not on cuda"):
        open_backend(request)


def test_a_real_imagenet_encoder_loads_strictly(shared: Path) -> None:
    file = shared / "weights" / "mobilenetv2_100_imagenet.safetensors"
    if not file.exists():
        pytest.skip("the real encoder is not here")
    name = "timm:mobilenetv2_100?pad_type=same"
    encoder = load_encoder(name, str(file), seed=1, size=(224, 224))
    assert encoder.info.width == 1280
    assert encoder.info.weights.sha256.startswith("2a82d26a90a51b19")
    network = timm.create_model("mobilenetv2_100", pad_type="same")
    network.load_state_dict(load_file(file), strict=True)
    network.reset_classifier(0)
    batch = torch.from_numpy(images(2, 224))
    with torch.inference_mode():
        assert torch.equal(encoder.network(batch), network.eval()(batch))
