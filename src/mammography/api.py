"""The commands as functions that take the options of their dataclasses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

from mammography.commands.cache import Cache
from mammography.commands.construct import construct
from mammography.commands.embed import Embed
from mammography.commands.embeddings_baselines import EmbeddingsBaselines
from mammography.commands.eval_export import EvalExport
from mammography.commands.phantom import Phantom
from mammography.commands.predict import Predict
from mammography.commands.preview import Preview
from mammography.commands.report_pack import ReportPack
from mammography.commands.scan import Scan
from mammography.commands.train_density import TrainDensity
from mammography.commands.tune_density import TuneDensity

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class _Command(Protocol[R_co]):
    NAME: ClassVar[str]

    def run(self) -> R_co: ...


def _function(kind: type[_Command[R]]) -> Callable[..., R]:
    """A function that makes the command and runs it; paths may be text."""
    signature = inspect.signature(kind)

    def run(*values: Any, **options: Any) -> R:
        return construct(kind, signature.bind(*values, **options).arguments).run()

    run.__name__ = run.__qualname__ = kind.NAME.replace("-", "_")
    run.__doc__ = kind.__doc__
    run.__signature__ = signature  # type: ignore[attr-defined]
    return run


cache = _function(Cache)
embed = _function(Embed)
embeddings_baselines = _function(EmbeddingsBaselines)
eval_export = _function(EvalExport)
phantom = _function(Phantom)
predict = _function(Predict)
preview = _function(Preview)
report_pack = _function(ReportPack)
scan = _function(Scan)
train_density = _function(TrainDensity)
tune_density = _function(TuneDensity)
