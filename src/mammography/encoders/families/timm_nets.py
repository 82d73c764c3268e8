"""Every network of timm, as ``timm:NAME`` or ``timm:NAME?option=value&…``.

The options go to `timm.create_model`: weights converted from TensorFlow, for example, need
``pad_type=same``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from torch import nn

from mammography.encoders.encoder import Architecture, Family
from mammography.encoders.records import WeightsRecord
from mammography.errors import UsageError, WeightsUnavailableError

if TYPE_CHECKING:
    from timm.models import PretrainedCfg


class TimmNets(Family):
    """Networks of timm: what they return with ``num_classes=0``."""

    names = ("timm:NAME",)

    def architecture(self, name: str) -> Architecture | None:
        """See `Family.architecture`."""
        if not name.startswith("timm:"):
            return None
        import timm
        from timm.models import PretrainedCfg

        model, _, query = name.removeprefix("timm:").partition("?")
        options = dict(parse_qsl(query))
        if not timm.is_model(model.partition(".")[0]):
            near = ", ".join(timm.list_models(f"*{model[:6]}*")[:5])
            raise UsageError(f"timm has no network {model!r}; similar names: {near or 'none'}.")
        build = partial(timm.create_model, model, pretrained=False, **options)
        config = timm.get_pretrained_cfg(model) or PretrainedCfg()
        return Architecture(
            name=name,
            build=build,
            head=f"{config.classifier or 'head'}.",
            headless=_headless,
            fetch=partial(_fetch, model, config),
            mean=config.mean,
            std=config.std,
        )


def _headless(network: nn.Module) -> nn.Module:
    network.reset_classifier(0)  # type: ignore[operator]
    return network


def _fetch(model: str, config: PretrainedCfg) -> tuple[Path, WeightsRecord]:
    """The published file, from the local cache of the model hub or the hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if not config.hf_hub_id:
        raise WeightsUnavailableError(
            f"timm publishes no weights for {model}; give a file with --weights PATH, or run "
            "untrained with --weights random."
        )
    repository = config.hf_hub_id.rstrip("/")
    if repository == "timm":
        repository = f"timm/{config.architecture}.{config.tag}" if config.tag else f"timm/{model}"
    try:
        path = hf_hub_download(repository, "model.safetensors")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsUnavailableError(
            f"The weights of {model} could not be downloaded from the model hub ({repository}, "
            "model.safetensors). Give a copy with --weights PATH, or run untrained with "
            "--weights random."
        ) from error
    record = WeightsRecord(
        name=f"{config.architecture}.{config.tag}",
        source=f"hf:{repository}/model.safetensors",
        sha256="",
        licence=config.license or "unknown",
        trained_on=config.tag or "unknown",
    )
    return Path(path), record


PLUGIN = TimmNets()
