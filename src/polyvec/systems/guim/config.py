"""What a GUIM model is, and two presets: ``paper`` as published, ``default`` our best on validation."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from polyvec.layers.tables import TableKind
from polyvec.layers.tables.choice import check_rows
from polyvec.objectives.full_softmax import SMALL_CATALOGUE
from polyvec.objectives.matching import Mixture
from polyvec.training.options import TrainingOptions

Width = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class GUIMConfig:
    """GUIM (Yang et al. 2022), section and equation in brackets.

    Attributes
    ----------
    num_vectors
        C, vectors per user (3.1).
    width
        D, width of every vector (d in the paper).
    num_layers, num_heads, dropout
        L transformer layers as in BERT (3.2); the paper gives no number of heads.
    id_width, category_width, word_width
        d_i, d_c, d_w: widths of the item's three tables (4.1).
    max_popular, max_words
        X most popular item ids, and title words, with a row of their own (3.2).
    item_table, item_rows
        What holds the vectors of the ids: a row for each (``popular``), kept in a quarter of the bytes once
        trained (``int8``); or ``item_rows`` rows that they share, by chance (``hash``, ``double_hash``,
        ``quotient_remainder``) or because they are alike (``clustered``: CEL's; ``clustered_residual``: in
        the bytes of as many rows, with numbers of their own that tell those of a cluster apart).
    budget
        Bytes that the model may be kept in; the item table is then chosen to fit: see
        :func:`polyvec.systems.budget.within_budget`. 0 sets no limit.
    gelu
        Whether GELU follows the linear layers of f_i, f_o and f_u (3.2).
    start
        ``bert``: all weights start small and random. ``pooling``: the attention's projections, f_o and f_u
        start near the identity and items enter the transformer with one length, so that training starts from
        vectors that each resemble a part of the user's items. (Masked items alone: from their mean; queries
        and keys start small, or a masked event would attend to itself, and time embeddings as waves.)
    competing
        Whether the CLS tokens compete: the attention of every event is shared out among them before it is
        normalised over events, so that they describe different parts of the history. Not in the paper.
    user_heads
        0 is GUIM. H > 0 with ``num_vectors=1`` is GUIM-MH: the user's vectors are the H heads of one more
        self-attention layer (4.3.2).
    alpha
        α, scale of the cosine (eq. 2, 3); 20 in the paper.
    mixture, sharpness
        How C cosines become a score while training: see :func:`polyvec.objectives.matching.mix`.
    balance
        How far the targets of a batch are shared out evenly among the vectors, so that none dies: 0 … 1 of
        the way from what each is nearest to, to equal parts, by ``sharpness``. See
        :func:`polyvec.objectives.matching.balanced_shares`. 0 is the paper's.
    masking
        Share of history items behind the MASK embedding (3.2).
    masked_weight, matching_weight
        Weights of the two pre-training tasks; 0 switches a task off. Without matching the user's vector is o
        at a MASK appended to the history, as in BERT4Rec.
    weighting
        ``pairs``: every masked item and every target counts the same, as in the paper. ``users``: every user
        counts the same.
    negatives
        ``sampled``: K drawn from the other users' events in the batch, for every positive, as in the paper.
        ``shared``: all distinct items of the batch. ``catalogue``: all items. ``auto``: ``catalogue`` up to
        20,000 items, else ``shared``; a fitted model tells which it was.
    num_negatives
        K of ``sampled``.
    log_q
        Exponent of the sampled-softmax correction: 0 leaves it out, 1 corrects in full.
    history_days, target_days
        D_1 and D_2 (3.1).
    num_cutoffs, stride_days
        Training cut-offs: the latest and those every ``stride_days`` before it.
    target_events
        Events in the target window where the data has an order instead of timestamps.
    habits
        Weights of a user's own items and of what sells now in rankings: see :mod:`polyvec.retrieval.habits`.
        None chooses them on validation: repeats on any, the trend on a later window only. In a file alone:
        ``habits = [w, b]``.
    max_length, max_targets
        Latest events of a history and first events of a target window that are used.
    """

    num_vectors: Width = 4
    width: Width = 128
    num_layers: Width = 3
    num_heads: Width = 4
    dropout: Share = 0.1
    id_width: Width = 128
    category_width: Width = 128
    word_width: Width = 32
    max_popular: Annotated[int, Field(ge=0)] = 200_000
    max_words: Annotated[int, Field(ge=0)] = 530_000
    item_table: TableKind = "popular"
    item_rows: Annotated[int, Field(ge=0)] = 0
    budget: Annotated[int, Field(ge=0)] = 0
    gelu: bool = False
    start: Literal["bert", "pooling"] = "pooling"
    competing: bool = True
    user_heads: Annotated[int, Field(ge=0)] = 0
    alpha: Annotated[float, Field(gt=0)] = 10.0
    mixture: Mixture = "max"
    sharpness: Annotated[float, Field(gt=0)] = 20.0
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    masking: Share = 0.15
    masked_weight: Annotated[float, Field(ge=0)] = 2.0
    matching_weight: Annotated[float, Field(ge=0)] = 1.0
    weighting: Literal["pairs", "users"] = "users"
    negatives: Literal["auto", "sampled", "shared", "catalogue"] = "auto"
    num_negatives: Width = 31
    log_q: Annotated[float, Field(ge=0, le=1)] = 0.0
    history_days: Annotated[float, Field(gt=0)] = 365
    target_days: Annotated[float, Field(gt=0)] = 30
    num_cutoffs: Width = 16
    stride_days: Annotated[float, Field(gt=0)] = 3
    target_events: Width = 10
    habits: tuple[Weight, Weight] | None = None
    max_length: Width = 128
    max_targets: Width = 64

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        if self.user_heads and self.num_vectors != 1:
            raise ValueError("user_heads needs num_vectors=1: GUIM-MH has one CLS token")
        if not self.masked_weight * self.masking and not self.matching_weight:
            raise ValueError(
                "masked_weight (or masking) and matching_weight are both 0: nothing would be learned"
            )
        check_rows(self.item_table, self.item_rows)
        if self.item_rows and not self.max_popular:
            raise ValueError(f"item_table={self.item_table} needs ids: max_popular must not be 0")
        if self.item_table.startswith("clustered") and not self.matching_weight:
            raise ValueError(f"item_table={self.item_table} needs matching: matching_weight is 0")
        return self

    def for_catalogue(self, num_items: int) -> GUIMConfig:
        """The configuration with ``auto`` resolved for so many items."""
        if self.negatives != "auto":
            return self
        return replace(self, negatives="catalogue" if num_items <= SMALL_CATALOGUE else "shared")

    @property
    def variant(self) -> str:
        """Which of the paper's models this is: ``GUIM``, or ``GUIM-MH`` (4.3.2)."""
        return "GUIM-MH" if self.user_heads else "GUIM"

    @property
    def vectors_per_user(self) -> int:
        """Vectors that every user gets."""
        return (self.user_heads or self.num_vectors) if self.matching_weight else 1


def paper(num_vectors: int = 4) -> tuple[GUIMConfig, TrainingOptions]:
    """GUIM as published: batch 32, K = 31 drawn negatives, the max of eq. 3, one cut-off."""
    config = GUIMConfig(
        num_vectors=num_vectors,
        gelu=True,
        start="bert",
        competing=False,
        alpha=20.0,
        masked_weight=1.0,
        weighting="pairs",
        negatives="sampled",
        num_cutoffs=1,
        max_length=512,
    )
    return config, TrainingOptions(batch_size=32)


def default() -> tuple[GUIMConfig, TrainingOptions]:
    """Our best on validation: a start that pools, many negatives, cut-offs that slide."""
    return GUIMConfig(), TrainingOptions(epochs=3, batch_size=64)


PRESETS = {"default": default, "paper": paper}
