"""What a DUPN model is, and what it is asked."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from polyvec.data.offers import Labels
from polyvec.layers.tables.choice import TableKind, check_kept, check_rows
from polyvec.training.options import TrainingOptions

Count = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Kind = Literal["next", "item", "rank", "class", "entity", "window"]
Properties = Literal["both", "gates", "attention", "none"]
Pooling = Literal["attention", "mean", "last"]
Model = Literal["dupn", "wide", "wide_deep", "dssm", "cnn_max"]
OF_A_COLUMN: tuple[Kind, ...] = ("class", "entity")
ANSWERS: dict[Model, tuple[Kind, ...]] = {
    "dupn": get_args(Kind),
    "wide": ("item", "rank", "class", "entity", "window"),
    "wide_deep": ("item", "rank", "class", "entity", "window"),
    "dssm": ("next", "item", "entity"),
    "cnn_max": get_args(Kind),
}
"""Kinds of task that a model answers: logistic regression has no vectors for ``next``, and two towers have a
cosine for what has a vector alone."""
HEADED: tuple[Model, ...] = ("dupn", "cnn_max")
"""Models of one representation, and a head for each task."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Task:
    """One question of users, and which events answer it.

    Attributes
    ----------
    kind
        ``next``: which item is taken next, among those that others take (a softmax over the batch).
        ``item``: whether an item that is offered is taken (CTR). ``rank``: the same, by a weighted sum of
        numbers of the item whose weights follow from the user (L2R). ``class``: what ``column`` says of the
        next event: one of some texts, or one of ``levels`` levels of a number (price preference, PPP).
        ``entity``: whether the next item taken is of this brand, shop, … (FIFP, SPP). ``window``: what the
        user does in the ``days`` to come.
    action
        Events that are asked about; "taken" means that.
    labels, like_above, negatives
        Of ``item`` and ``rank``: see :class:`polyvec.data.offers.OfferRule`; of ``entity`` the last one.
    column
        Of ``class``: a column of the events or of the catalogue. Of ``entity``: one of the catalogue.
    levels
        Of a number, with as many training events each.
    new_only
        Of ``entity``: only of what the user has not taken before (following, adopting).
    entity_width
        Of ``entity``: numbers of its vector, and of the head's second layer; the paper has 128 for fashion
        icons and 64 for shops.
    numbers
        Of ``rank``: number columns of the catalogue.
    windows
        Of ``rank``: days over which events, users and revenue of the item are counted, before the day.
    gain
        Of ``rank``: weight of what was taken, n_i of equation 9, beside 1 for what was not.
    days, measure
        Of ``window``: ``churn``, nothing is taken; or ``spend``, the level of what is paid.
    every_days
        Of ``window``: days between the moments that are asked about.
    weight
        λ in the loss.
    """

    kind: Kind
    action: str = "purchase"
    labels: Labels = "auto"
    like_above: float = 3
    negatives: Count = 1
    column: str = ""
    levels: Annotated[int, Field(ge=2)] = 7
    new_only: bool = False
    entity_width: Count = 128
    numbers: tuple[str, ...] = ()
    windows: tuple[Annotated[int, Field(ge=0)], ...] = (1, 7, 30)
    gain: Annotated[float, Field(gt=0)] = 1.0
    days: Annotated[float, Field(gt=0)] = 30
    measure: Literal["churn", "spend"] = "churn"
    every_days: Annotated[float, Field(gt=0)] = 7
    weight: Annotated[float, Field(gt=0)] = 1.0

    @model_validator(mode="after")
    def _of_one_mind(self) -> Self:
        if (self.kind in OF_A_COLUMN) != bool(self.column):
            raise ValueError(f"kind={self.kind} {'needs a' if self.kind in OF_A_COLUMN else 'has no'} column")
        return self


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DUPNConfig:
    """DUPN (Ni et al., KDD 2018): one encoder of behaviour, and a shallow head for each task.

    Or, by ``model``, what the paper compares it with, on the same tasks, samples, fields and widths. What the
    data has not is left out: shop, brand, category or title of items, action or scenario of events, times of
    ordered data, users' profiles.

    Attributes
    ----------
    model
        ``dupn``; or ``wide``: logistic regression on fields and pairs of them, ``wide_deep``: the same and a
        deep network on the mean event, ``dssm``: two towers and a cosine, ``cnn_max``: convolutions over the
        history instead of the LSTM. See :mod:`polyvec.systems.dupn.rivals`, and :data:`ANSWERS` for the kinds
        of task that each answers.
    tasks
        By name, in a file alone. None stands for those that the data, and the model, can answer: see
        :func:`polyvec.systems.dupn.tasks.tasks_of`.
    max_length
        N, latest events of a history.
    id_width, shop_width, brand_width, category_width, word_width, field_width
        Numbers of an item's id, shop, brand, category and mean title word; of any other field.
    item_fields
        Columns of the catalogue that are fields: of texts, or of lists of texts such as tags, whose mean
        vector is taken.
    property_width
        Numbers of an event's action, of its scenario, and of its time; together d_p.
    profile_fields
        Text columns of events (``prepare --keep``) that tell of the user: the latest one does.
    profile_width
        Numbers of u.
    query_words
        Most words of queries with a row of their own; 0 does without queries.
    query_width
        Numbers of q.
    query_dropout
        Share of the queries that are left out in training, so that what stands for no query is learned also
        where everybody searches: vectors of users are read with it.
    max_ids, max_words
        Items and title words with a row of their own; the most frequent are taken.
    item_width
        Numbers that the tasks see of an item.
    width
        d_h, numbers of the hidden state.
    properties
        Where an event's property is seen: in the LSTM's ``gates``, in the ``attention``, in ``both``, or in
        ``none`` of them. Other models have neither: they see it (``both``) or not (``none``).
    pooling
        Of the hidden states: ``attention`` as in the paper, their ``mean``, or the ``last`` one.
    head_width
        Of the first layer of every head.
    deep
        Of ``wide_deep`` and ``dssm``: widths of the layers; the last one of ``dssm`` is that of its vectors.
    cross_rows
        Of ``wide`` and ``wide_deep``: weights that all pairs of fields of a task share by a hash.
    dropout
        Share of the outputs of every fully connected layer that is dropped. The paper's 0.8 is read as the
        share that is kept, as TensorFlow meant it then.
    alpha
        α of ``next``, and of all tasks of ``dssm``: scores are α · cosine.
    log_q
        Share of the sampled-softmax correction of ``next``: see :class:`polyvec.systems.guim.GUIMConfig`.
    loss_weights
        ``fixed``: each task's own. ``uncertainty``: times exp(−s), plus s, with an s learned for each task
        (Kendall et al., CVPR 2018).
    optimizer
        ``adam``, or ``adagrad`` as in the paper.
    item_table, item_rows
        The table of item ids: see :func:`polyvec.layers.tables.id_table`.
    item_vectors
        ``learned`` with the tasks, or made by ``word2vec`` before and kept (the paper's DUPN-w2v): see
        :mod:`polyvec.systems.dupn.word2vec`.
    validation_days
        Days at the end that are validated on; of ordered data as many events of every user.
    """

    model: Model = "dupn"
    tasks: dict[str, Task] | None = None
    max_length: Count = 100
    id_width: Count = 32
    shop_width: Count = 24
    brand_width: Count = 24
    category_width: Count = 16
    word_width: Count = 28
    field_width: Count = 16
    item_fields: tuple[str, ...] = ("shop", "brand", "category", "tags")
    property_width: Count = 16
    profile_fields: tuple[str, ...] = ()
    profile_width: Count = 128
    query_words: Annotated[int, Field(ge=0)] = 20_000
    query_width: Count = 64
    query_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    max_ids: Count = 1_000_000
    max_words: Annotated[int, Field(ge=0)] = 20_000
    item_width: Count = 128
    width: Count = 128
    properties: Properties = "both"
    pooling: Pooling = "attention"
    head_width: Count = 128
    deep: Annotated[tuple[Count, ...], Field(min_length=1)] = (1024, 512, 128)
    cross_rows: Count = 2**18
    dropout: Share = 0.2
    alpha: Annotated[float, Field(gt=0)] = 20.0
    log_q: Annotated[float, Field(ge=0, le=1)] = 1.0
    loss_weights: Literal["fixed", "uncertainty"] = "fixed"
    optimizer: Literal["adam", "adagrad"] = "adam"
    item_table: TableKind = "popular"
    item_rows: Annotated[int, Field(ge=0)] = 0
    item_vectors: Literal["learned", "word2vec"] = "learned"
    validation_days: Count = 7

    @model_validator(mode="after")
    def _of_one_mind(self) -> Self:
        check_rows(self.item_table, self.item_rows)
        check_kept(self.item_table, "dupn")
        if self.item_table == "clustered" and self.optimizer == "adagrad":
            raise ValueError("item_table=clustered needs optimizer=adam")
        if self.item_table == "clustered" and self.model not in HEADED:
            raise ValueError(f"item_table=clustered needs model={' or '.join(HEADED)}")
        self._check_item_vectors()
        self._check_model()
        for name, task in (self.tasks or {}).items():
            if task.column and task.column in self.profile_fields:
                raise ValueError(f"tasks.{name} asks for '{task.column}', which profile_fields tell")
        if self.tasks is not None and not self.tasks:
            raise ValueError("tasks is empty: leave it out for those that the data can answer")
        return self

    @property
    def variant(self) -> str:
        """What kind of model it is, in a few words."""
        told = f"{self.properties}, {self.pooling}"
        if self.model != "dupn":
            told = f"{self.model}, {'with' if self.properties == 'both' else 'without'} properties"
        return told if self.item_vectors == "learned" else f"{told}, {self.item_vectors}"

    def _check_item_vectors(self) -> None:
        if self.item_vectors == "word2vec" and self.item_table != "popular":
            raise ValueError("item_vectors=word2vec needs a row for each id: item_table=popular")
        if self.model == "wide" and (self.item_vectors != "learned" or self.item_table != "popular"):
            raise ValueError(
                "model=wide has weights of items and no vectors: leave out item_vectors and item_table"
            )

    def _check_model(self) -> None:
        if self.model != "dupn" and (
            self.pooling != "attention" or self.properties in ("gates", "attention")
        ):
            raise ValueError(
                f"model={self.model} has no gates and no attention: properties is both or none, "
                "and pooling is left out"
            )
        for name, task in (self.tasks or {}).items():
            if task.kind not in ANSWERS[self.model]:
                raise ValueError(f"tasks.{name} is of kind {task.kind}: {told_kinds(self.model)}")


def told_kinds(model: Model) -> str:
    """Say which kinds of task a model answers."""
    return f"model={model} answers {', '.join(ANSWERS[model])}"


def default() -> tuple[DUPNConfig, TrainingOptions]:
    """The paper's network, trained by Adam, at the rate that was best on validation (studies/dupn)."""
    options = TrainingOptions(
        epochs=10, batch_size=512, learning_rate=5e-3, warmup=0.02, final_rate=0.1, clip=5.0,
        weight_decay=1e-2, patience=2, precision="float32",
    )  # fmt: skip
    return DUPNConfig(), options


def paper() -> tuple[DUPNConfig, TrainingOptions]:
    """The paper's recipe (section 5); the size of its L2 penalty is not published."""
    options = TrainingOptions(
        epochs=20, batch_size=1024, learning_rate=1e-3, warmup=0, final_rate=1, clip=0,
        weight_decay=0, patience=0, precision="float32",
    )  # fmt: skip
    return DUPNConfig(optimizer="adagrad", log_q=0), options


PRESETS = {"default": default, "paper": paper}
