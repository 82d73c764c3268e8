"""Research toolkit for archives of mammograms. Not for diagnosis.

What the commands do, from a notebook or a script, with the options of the command line::

    from mammography import embed, load_embeddings

    result = embed(csv="classificacao.csv", dicom_root="archive", outdir="embeddings", pca=True)
    result.embeddings.features  # numpy: (N, width) float32
    result.embeddings.index     # polars: row i belongs to features[i]
    again = load_embeddings("embeddings")

``embed(...)`` is ``Embed(...).run()``: each command is a dataclass. ``logging.basicConfig(
level=logging.INFO)`` shows what they tell. Names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mammography.api import embed as embed
    from mammography.api import phantom as phantom
    from mammography.api import preview as preview
    from mammography.api import scan as scan
    from mammography.commands.embed import Embed as Embed
    from mammography.commands.embed import EmbedResult as EmbedResult
    from mammography.commands.phantom import Phantom as Phantom
    from mammography.commands.phantom import PhantomResult as PhantomResult
    from mammography.commands.preview import Preview as Preview
    from mammography.commands.preview import PreviewResult as PreviewResult
    from mammography.commands.scan import Scan as Scan
    from mammography.commands.scan import ScanResult as ScanResult
    from mammography.embeddings.embedding_set import EmbeddingSet as EmbeddingSet
    from mammography.embeddings.embedding_set import load_embeddings as load_embeddings
    from mammography.errors import MammographyError as MammographyError

__version__ = "0.1.0"

_HOMES = {
    "embed": "api",
    "phantom": "api",
    "preview": "api",
    "scan": "api",
    "Embed": "commands.embed",
    "EmbedResult": "commands.embed",
    "Phantom": "commands.phantom",
    "PhantomResult": "commands.phantom",
    "Preview": "commands.preview",
    "PreviewResult": "commands.preview",
    "Scan": "commands.scan",
    "ScanResult": "commands.scan",
    "EmbeddingSet": "embeddings.embedding_set",
    "load_embeddings": "embeddings.embedding_set",
    "MammographyError": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _HOMES.keys())
