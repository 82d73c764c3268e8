"""The last block of a network: what it is, and that nothing frozen comes after it."""

from __future__ import annotations

import pytest
import torch

from mammography.encoders.encoder import Architecture
from mammography.encoders.registry import find_architecture

#: Name to side of the images and the modules, as a person reads the network.
BLOCKS = {
    "efficientnet_b0": (64, {"features.7", "features.8"}),
    "resnet50": (64, {"layer4"}),
    "densenet121": (64, {"features.denseblock4", "features.norm5"}),
    "timm:resnet10t": (64, {"layer4"}),
    "timm:efficientnet_b0": (64, {"blocks.6", "conv_head", "bn2"}),
    "timm:mobilenetv2_100?pad_type=same": (64, {"blocks.6", "conv_head", "bn2"}),
    "timm:mobilenetv3_small_050": (64, {"blocks.4", "blocks.5", "conv_head"}),
    "timm:convnext_atto": (64, {"stages.3", "head"}),
    "timm:regnetx_002": (64, {"s4"}),
    "timm:test_vit": (160, {"blocks.5", "norm"}),
}


def headless(architecture: Architecture) -> torch.nn.Module:
    torch.manual_seed(0)
    return architecture.headless(architecture.build()).eval()


@pytest.mark.parametrize("name", BLOCKS)
def test_the_last_block_is_what_a_person_would_say(name: str) -> None:
    architecture = find_architecture(name)
    assert architecture.last_block is not None
    names = architecture.last_block(headless(architecture))
    assert set(names) == BLOCKS[name][1]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", BLOCKS)
def test_everything_behind_the_first_trained_module_is_trained(name: str) -> None:
    """Noted in the order in which the modules run, not in the order of their names."""
    architecture = find_architecture(name)
    network = headless(architecture)
    assert architecture.last_block is not None
    trained = architecture.last_block(network)
    ran: list[str] = []
    for path, module in network.named_modules():
        if path and list(module.parameters(recurse=False)):
            module.register_forward_hook(lambda *_, path=path: ran.append(path))
    side = BLOCKS[name][0]
    with torch.inference_mode():
        network(torch.zeros(1, 3, side, side))
    belongs = [any(f"{path}.".startswith(f"{root}.") for root in trained) for path in ran]
    first = belongs.index(True)
    assert all(belongs[first:])
    assert 0 < first < len(ran) - 1
    for root in trained:
        assert any(path.startswith(root) for path in ran)
