"""polyvec: general user and item embeddings for e-commerce, learned once from an event log.

The straight path, one function per arrow; everything is imported when it is first used::

    import polyvec

    dataset = polyvec.prepare("events.parquet", "shop.dataset", items="items.parquet")
    model = polyvec.fit(dataset, "shop.model")
    embeddings = polyvec.embed(model, dataset, "shop.emb")
    print(polyvec.recommend(embeddings, [17850], k=10).table())
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyvec.artifact import verify
    from polyvec.data.dataset import Dataset, parse_time
    from polyvec.data.options import PrepareOptions
    from polyvec.data.prepare import prepare
    from polyvec.embeddings import Embeddings
    from polyvec.errors import ArtifactError, DataError, PolyvecError, TrainingError, UsageError
    from polyvec.evaluation.evaluate import evaluate
    from polyvec.foreign import import_vectors
    from polyvec.ids import Vocabulary
    from polyvec.retrieval.ranking import recommend, search
    from polyvec.systems.embed import embed
    from polyvec.systems.guim import GUIM, GUIMConfig, fit
    from polyvec.training.options import TrainingOptions

_HOMES = {
    "ArtifactError": "polyvec.errors",
    "DataError": "polyvec.errors",
    "Dataset": "polyvec.data.dataset",
    "Embeddings": "polyvec.embeddings",
    "GUIM": "polyvec.systems.guim",
    "GUIMConfig": "polyvec.systems.guim",
    "PolyvecError": "polyvec.errors",
    "PrepareOptions": "polyvec.data.options",
    "TrainingError": "polyvec.errors",
    "TrainingOptions": "polyvec.training.options",
    "UsageError": "polyvec.errors",
    "Vocabulary": "polyvec.ids",
    "embed": "polyvec.systems.embed",
    "evaluate": "polyvec.evaluation.evaluate",
    "fit": "polyvec.systems.guim",
    "import_vectors": "polyvec.foreign",
    "parse_time": "polyvec.data.dataset",
    "prepare": "polyvec.data.prepare",
    "recommend": "polyvec.retrieval.ranking",
    "search": "polyvec.retrieval.ranking",
    "verify": "polyvec.artifact",
}

__all__ = [
    "GUIM",
    "ArtifactError",
    "DataError",
    "Dataset",
    "Embeddings",
    "GUIMConfig",
    "PolyvecError",
    "PrepareOptions",
    "TrainingError",
    "TrainingOptions",
    "UsageError",
    "Vocabulary",
    "embed",
    "evaluate",
    "fit",
    "import_vectors",
    "parse_time",
    "prepare",
    "recommend",
    "search",
    "verify",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'polyvec' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Public names."""
    return __all__
