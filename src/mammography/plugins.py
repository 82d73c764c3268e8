"""Finding dialects, recipes, encoders and objectives by name: our own, and those of entry points.

A plugin is a module-level object. Ours are the modules of one package, each holding an object
called ``PLUGIN``; an outsider's distribution names its object in the entry-point group
``mammography.<kind>``. A plugin that fails to load is named and ends the command: carrying on
without it would silently change what a name means.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib import metadata
from typing import Any

from mammography.errors import PluginError

#: Where our own plugins of each kind live.
PACKAGES = {
    "dialects": "mammography.archive.labels",
    "recipes": "mammography.preprocess.recipes",
    "encoders": "mammography.encoders.families",
    "objectives": "mammography.training.objectives",
}


@cache
def load(kind: str) -> dict[str, Any]:
    """All plugins of one kind, by name, ours first.

    Args:
        kind: A key of `PACKAGES`.

    Returns:
        Name (module or entry-point name, ``_`` written as ``-``) to plugin object.

    Raises:
        PluginError: A plugin cannot be imported, or takes a name that is already taken.
    """
    package = importlib.import_module(PACKAGES[kind])
    found: dict[str, Any] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            found[info.name.replace("_", "-")] = module.PLUGIN
    for entry in sorted(metadata.entry_points(group=f"mammography.{kind}"), key=lambda e: e.name):
        owner = entry.dist.name if entry.dist else "an unknown distribution"
        name = entry.name.replace("_", "-")
        if name in found:
            raise PluginError(
                f"The plugin {entry.name!r} of {owner} takes a name that is already in use among "
                f"the {kind}; rename it in the entry-point group mammography.{kind}."
            )
        try:
            found[name] = entry.load()
        except Exception as error:
            raise PluginError(
                f"The plugin {entry.name!r} of {owner} ({entry.value}) failed to load: {error!r}. "
                f"Fix or uninstall {owner}."
            ) from error
    return found


def get(kind: str, name: str) -> Any:
    """One plugin by name; an unknown name is an error that lists the known ones."""
    found = load(kind)
    if name.replace("_", "-") not in found:
        raise PluginError(
            f"There is no {name!r} among the {kind}; known are {', '.join(sorted(found))}."
        )
    return found[name.replace("_", "-")]
