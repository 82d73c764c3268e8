"""Research toolkit for archives of mammograms. Not for diagnosis.

What the commands do, from a notebook or a script, with the options of the command line::

    from mammography import embed, load_embeddings

    result = embed(csv="classificacao.csv", dicom_root="archive", outdir="embeddings", pca=True)
    result.embeddings.features  # numpy: (N, width) float32
    result.embeddings.index     # polars: row i belongs to features[i]
    again = load_embeddings("embeddings")

``embed(...)`` is ``Embed(...).run()``: each command is a dataclass. (``explain`` has no function,
for that is a subpackage's name: it is ``Explain(...).run()``.) ``logging.basicConfig(
level=logging.INFO)`` shows what they tell. Names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mammography.api import cache as cache
    from mammography.api import embed as embed
    from mammography.api import embeddings_baselines as embeddings_baselines
    from mammography.api import eval_export as eval_export
    from mammography.api import phantom as phantom
    from mammography.api import predict as predict
    from mammography.api import preview as preview
    from mammography.api import report_pack as report_pack
    from mammography.api import scan as scan
    from mammography.api import train_density as train_density
    from mammography.api import tune_density as tune_density
    from mammography.commands.cache import Cache as Cache
    from mammography.commands.cache import CacheResult as CacheResult
    from mammography.commands.embed import Embed as Embed
    from mammography.commands.embed import EmbedResult as EmbedResult
    from mammography.commands.embeddings_baselines import BaselinesResult as BaselinesResult
    from mammography.commands.embeddings_baselines import EmbeddingsBaselines as EmbeddingsBaselines
    from mammography.commands.eval_export import EvalExport as EvalExport
    from mammography.commands.eval_export import EvalExportResult as EvalExportResult
    from mammography.commands.explain import Explain as Explain
    from mammography.commands.explain import ExplainResult as ExplainResult
    from mammography.commands.phantom import Phantom as Phantom
    from mammography.commands.phantom import PhantomResult as PhantomResult
    from mammography.commands.predict import Predict as Predict
    from mammography.commands.predict import PredictResult as PredictResult
    from mammography.commands.preview import Preview as Preview
    from mammography.commands.preview import PreviewResult as PreviewResult
    from mammography.commands.report_pack import ReportPack as ReportPack
    from mammography.commands.report_pack import ReportPackResult as ReportPackResult
    from mammography.commands.scan import Scan as Scan
    from mammography.commands.scan import ScanResult as ScanResult
    from mammography.commands.train_density import TrainDensity as TrainDensity
    from mammography.commands.train_density import TrainDensityResult as TrainDensityResult
    from mammography.commands.tune_density import TuneDensity as TuneDensity
    from mammography.commands.tune_density import TuneDensityResult as TuneDensityResult
    from mammography.embeddings.embedding_set import EmbeddingSet as EmbeddingSet
    from mammography.embeddings.embedding_set import load_embeddings as load_embeddings
    from mammography.errors import MammographyError as MammographyError

__version__ = "0.1.0"

_HOMES = {
    "cache": "api",
    "embed": "api",
    "embeddings_baselines": "api",
    "eval_export": "api",
    "phantom": "api",
    "predict": "api",
    "preview": "api",
    "report_pack": "api",
    "scan": "api",
    "train_density": "api",
    "tune_density": "api",
    "Cache": "commands.cache",
    "CacheResult": "commands.cache",
    "Embed": "commands.embed",
    "EmbedResult": "commands.embed",
    "EmbeddingsBaselines": "commands.embeddings_baselines",
    "BaselinesResult": "commands.embeddings_baselines",
    "EvalExport": "commands.eval_export",
    "EvalExportResult": "commands.eval_export",
    "Explain": "commands.explain",
    "ExplainResult": "commands.explain",
    "Phantom": "commands.phantom",
    "PhantomResult": "commands.phantom",
    "Predict": "commands.predict",
    "PredictResult": "commands.predict",
    "Preview": "commands.preview",
    "PreviewResult": "commands.preview",
    "ReportPack": "commands.report_pack",
    "ReportPackResult": "commands.report_pack",
    "Scan": "commands.scan",
    "ScanResult": "commands.scan",
    "TrainDensity": "commands.train_density",
    "TrainDensityResult": "commands.train_density",
    "TuneDensity": "commands.tune_density",
    "TuneDensityResult": "commands.tune_density",
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
