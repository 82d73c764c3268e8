"""The recipe that a record describes, to the last setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mammography import plugins
from mammography.errors import UsageError
from mammography.preprocess.recipe import Recipe


def recorded_recipe(record: dict[str, Any], origin: Path) -> Recipe:
    """The recipe of an earlier run.

    Args:
        record: `Recipe.record` with its hash, as embedding sets and trained models keep it.
        origin: The folder that keeps it, for people.

    Raises:
        PluginError: There is no such recipe here.
        UsageError: The recipe has changed since.
    """
    settings = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in record.items()
        if name not in ("name", "version", "hash")
    }
    recipe: Recipe = plugins.get("recipes", record["name"]).with_options(**settings)
    if recipe.hash != record["hash"]:
        raise UsageError(
            f"The recipe {record['name']} has changed since {origin} was made (version "
            f"{record['version']} then, {recipe.VERSION} now): make it again, or use the version "
            "of mammography that its records name."
        )
    return recipe
