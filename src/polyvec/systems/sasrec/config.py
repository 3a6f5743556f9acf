"""What a SASRec model is, and the preset that was best on validation."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from polyvec.layers.tables import TableKind
from polyvec.layers.tables.choice import check_rows
from polyvec.training.options import TrainingOptions

Width = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SASRecConfig:
    """SASRec (Kang and McAuley 2018).

    Attributes
    ----------
    width
        D, width of every vector.
    num_layers, num_heads
        Causal transformer layers, and their heads.
    dropout
        Share of activations dropped while training.
    max_length
        L, latest events of a history that are used.
    max_popular
        Items with vectors of their own, those of most events; nothing is foretold of the others.
    item_table, item_rows, budget
        As in :class:`polyvec.systems.guim.GUIMConfig`.
    negatives
        ``catalogue``: cross-entropy over all items. ``sampled``: over the target and ``num_negatives`` items
        drawn evenly from the catalogue for the whole batch.
    num_negatives
        K of ``sampled``.
    history_days, target_days
        Data with timestamps: days of history of a user, and of the window that is validated on.
    remove_seen
        Whether validation takes the items of a history out of the answers.
    """

    width: Width = 256
    num_layers: Width = 2
    num_heads: Width = 2
    dropout: Share = 0.5
    max_length: Width = 50
    max_popular: Annotated[int, Field(gt=0)] = 1_000_000
    item_table: TableKind = "popular"
    item_rows: Annotated[int, Field(ge=0)] = 0
    budget: Annotated[int, Field(ge=0)] = 0
    negatives: Literal["catalogue", "sampled"] = "catalogue"
    num_negatives: Width = 256
    history_days: Annotated[float, Field(gt=0)] = 365
    target_days: Annotated[float, Field(gt=0)] = 30
    remove_seen: bool = False

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        check_rows(self.item_table, self.item_rows)
        if self.item_table.startswith("clustered") and self.negatives != "catalogue":
            raise ValueError(f"item_table={self.item_table} needs negatives=catalogue")
        return self


def default() -> tuple[SASRecConfig, TrainingOptions]:
    """Our best on validation on Amazon Beauty: wide, and with much dropout."""
    options = TrainingOptions(epochs=16, batch_size=256, warmup=0.05, weight_decay=0.0, patience=8)
    return SASRecConfig(), options


PRESETS = {"default": default}
