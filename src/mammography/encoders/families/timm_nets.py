"""Every network of timm, as ``timm:NAME`` or ``timm:NAME?option=value&…``.

The options go to the network's constructor: weights converted from TensorFlow, for example, need
``pad_type=same``.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
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
        if not timm.is_model(model.partition(".")[0]):
            near = ", ".join(get_close_matches(model, timm.list_models(), 5)) or "none"
            raise UsageError(f"timm has no network {model!r}; similar names: {near}.")
        try:
            config = timm.get_pretrained_cfg(model) or PretrainedCfg()
        except RuntimeError as error:  # unknown weights behind the dot
            raise UsageError(f"timm has no network {model!r}: {error}") from error
        return Architecture(
            name=name,
            build=partial(_build, model, _options(model, query)),
            headless=_headless,
            fetch=partial(_fetch, model, config),
            mean=_of_rgb(config.mean),
            std=_of_rgb(config.std),
            last_block=_last_block,
        )


def _of_rgb(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def _options(model: str, query: str) -> dict[str, Any]:
    """The network's own options; weights come by --weights alone."""
    import timm

    options = {option: _value(text) for option, text in parse_qsl(query)}
    not_ours = {"num_classes", "in_chans", *inspect.signature(timm.create_model).parameters}
    if taken := sorted(options.keys() & not_ours):
        raise UsageError(f"{', '.join(taken)} cannot be set in timm:{model}?{query}.")
    return options


def _value(text: str) -> Any:
    """A number, a truth value or a tuple as Python writes it; any other text as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _build(model: str, options: dict[str, Any]) -> nn.Module:
    import timm

    try:
        return timm.create_model(model, pretrained=False, **options)
    except Exception as error:  # whatever a constructor says to options that it does not take
        raise UsageError(f"timm cannot make {model} with {options}: {error}.") from error


def _headless(network: nn.Module) -> nn.Module:
    network.reset_classifier(0)  # type: ignore[operator]
    return network


def _last_block(network: nn.Module) -> tuple[str, ...]:
    """The last of timm's own groups of layers that is more than one layer, to the end."""
    from timm.models import group_parameters

    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        raise UsageError(f"timm does not say what the last block of {type(network).__name__} is.")
    groups = list(group_parameters(network, matcher(coarse=True)).values())
    parameters = dict(network.named_parameters())
    last: set[str] = set()
    for group in reversed(groups):
        last.update(group)
        if sum(parameters[name].ndim > 1 for name in group) > 1:
            break
    return tuple(_modules_of(network, last))


def _modules_of(network: nn.Module, names: set[str], prefix: str = "") -> Iterator[str]:
    """The outermost modules that have parameters and none but the named ones."""
    for child, module in network.named_children():
        path = f"{prefix}{child}"
        own = {f"{path}.{name}" for name, _ in module.named_parameters()}
        if own and own <= names:
            yield path
        elif own & names:
            yield from _modules_of(module, names, f"{path}.")


def _fetch(model: str, config: PretrainedCfg) -> tuple[Path, WeightsRecord]:
    """The published file, from the local cache of the model hub or the hub."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if not config.hf_hub_id:
        raise WeightsUnavailableError(
            f"timm publishes no weights for {model} on the model hub; give a file with --weights "
            "PATH, or run untrained with --weights random."
        )
    file = config.hf_hub_filename or "model.safetensors"
    url = f"{constants.ENDPOINT}/{config.hf_hub_id}/resolve/main/{file}"
    try:
        path = hf_hub_download(config.hf_hub_id, file)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsUnavailableError(
            f"The weights of {model} are not in the model hub's cache ({constants.HF_HUB_CACHE}) "
            f"and could not be downloaded. Give a copy of {url} with --weights PATH, or run "
            "untrained with --weights random."
        ) from error
    record = WeightsRecord(
        name=f"{config.architecture}.{config.tag}",
        source=url,
        sha256="",
        licence=config.license or "unknown",
        trained_on=config.tag or "unknown",
    )
    return Path(path), record


PLUGIN = TimmNets()
