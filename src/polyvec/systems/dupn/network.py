"""DUPN: behaviour with its properties → one vector of the user, and a shallow head for every task.

Letters: B samples, T events of all their histories, M distinct items, F fields, H width of the hidden state,
R width of the representation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from polyvec.layers.dropout import Dropout
from polyvec.layers.property_gated_lstm import PropertyGatedLSTM
from polyvec.layers.tables import PopularTable, Table, WordTable, id_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from polyvec.systems.dupn.batch import Batch, Items, Shape
    from polyvec.systems.dupn.config import DUPNConfig, Kind, Task
    from polyvec.systems.dupn.samples import Known

ITEM_ID = "item_id"
GAPS, PARTS = 11, 12
ATTENTION_WIDTHS = (128, 64)


class ItemTables(nn.Module):
    """e: vectors of an item's fields side by side (equation 1), and what tasks see of an item.

    Vectors that word2vec has made are not trained; what tasks see of them is.

    Parameters
    ----------
    config
        Widths, kind of the id table.
    shape
        Which fields there are.
    """

    def __init__(self, config: DUPNConfig, shape: Shape) -> None:
        super().__init__()
        known = {"shop": config.shop_width, "brand": config.brand_width, "category": config.category_width}
        self.tables = nn.ModuleDict()
        for name, rows in shape.items.items():
            if name == ITEM_ID:
                table = id_table(config.item_table, rows - 1, config.item_rows, config.id_width)
            else:
                table = PopularTable(rows - 1, known.get(name, config.field_width))
            self.tables[f"of {name}"] = table
        self.words = WordTable(shape.words, config.word_width) if shape.words else None
        self.tags = nn.ModuleDict(
            {
                f"of {name}": WordTable(rows, known.get(name, config.field_width))
                for name, rows in shape.tags.items()
            }
        )
        self.width = sum(table.width for table in self.all_tables)
        self.width += sum(table.width for table in self.list_tables)
        if config.item_vectors == "word2vec":
            self.requires_grad_(requires_grad=False)
        self.encoding = nn.Linear(self.width, config.item_width)

    @property
    def all_tables(self) -> list[Table]:
        """One for each field."""
        return [cast("Table", table) for table in self.tables.values()]

    @property
    def list_tables(self) -> list[WordTable]:
        """Of title words, where there are any, and one for each field that holds lists."""
        words = [] if self.words is None else [self.words]
        return words + [cast("WordTable", table) for table in self.tags.values()]

    @property
    def ids(self) -> Table:
        """The table of item ids."""
        return self.all_tables[0]

    def forward(self, items: Items) -> Tensor:
        """Vector e of every item, ``[M, E]``."""
        parts: list[Tensor] = [
            table(column) for table, column in zip(self.all_tables, items.codes.unbind(1), strict=True)
        ]
        lists = [] if self.words is None else [(items.words, items.offsets)]
        parts += [table(*one) for table, one in zip(self.list_tables, (*lists, *items.tags), strict=True)]
        return torch.cat(parts, dim=1)


class Properties(nn.Module):
    """p: vectors of an event's action, scenario and time side by side.

    The time is multi-hot, how long ago and which part of the week: the sum of two vectors.
    """

    def __init__(self, config: DUPNConfig, shape: Shape) -> None:
        super().__init__()
        width = config.property_width
        self.events = nn.ModuleList(
            PopularTable(rows - 1, width, sparse=False) for rows in shape.events.values()
        )
        self.times = nn.ModuleList()
        if shape.has_times:
            self.times.extend(PopularTable(rows - 1, width, sparse=False) for rows in (GAPS, PARTS))
        self.width = width * (len(self.events) + bool(self.times))

    def forward(self, properties_TF: Tensor) -> Tensor:
        """Vector p of every event, ``[T, P]``."""
        columns = properties_TF.unbind(1)
        parts = [table(column) for table, column in zip(self.events, columns, strict=False)]
        if self.times:
            gap, part = (table(column) for table, column in zip(self.times, columns[-2:], strict=True))
            parts.append(gap + part)
        return torch.cat(parts, dim=1) if parts else properties_TF.new_zeros(len(properties_TF), 0).float()


class Profile(nn.Module):
    """u: fields of the user side by side, through a layer; nothing where there are none."""

    def __init__(self, config: DUPNConfig, shape: Shape) -> None:
        super().__init__()
        self.tables = nn.ModuleList(
            PopularTable(rows - 1, config.field_width) for rows in shape.users.values()
        )
        self.width = config.profile_width * bool(shape.users)
        self.layer = nn.Linear(len(shape.users) * config.field_width, self.width) if self.width else None
        self.dropout = Dropout(config.dropout)

    def forward(self, users_BF: Tensor) -> Tensor:
        """Vector u of every sample, ``[B, U]``."""
        if self.layer is None:
            return users_BF.new_zeros(len(users_BF), 0).float()
        parts = [table(column) for table, column in zip(self.tables, users_BF.unbind(1), strict=True)]
        profile: Tensor = self.dropout(torch.relu(self.layer(torch.cat(parts, dim=1))))
        return profile


class Query(nn.Module):
    """q: mean of the words' vectors, or a vector of its own for no query; nothing where nobody searches."""

    def __init__(self, config: DUPNConfig, shape: Shape) -> None:
        super().__init__()
        self.width = config.query_width * bool(shape.query)
        self.words = WordTable(shape.query, self.width) if self.width else None
        self.none = nn.Parameter(torch.zeros(self.width))
        self.silent = config.query_dropout

    def forward(self, words_W: Tensor, offsets_B: Tensor) -> Tensor:
        """Vector q of every sample, ``[B, Q]``."""
        if self.words is None:
            return self.none.expand(len(offsets_B), -1)
        ends = torch.cat([offsets_B[1:], offsets_B.new_tensor([len(words_W)])])
        asks = ends > offsets_B
        if self.training and self.silent:
            asks = asks & (torch.rand(asks.shape, device=asks.device) >= self.silent)
        return torch.where(asks[:, None], self.words(words_W, offsets_B), self.none)


class Pooling(nn.Module):
    """rep_s: the hidden states of a history, weighted (equation 7).

    a_t is a softmax over the history of a two-layer network of [h_t; p_t; q; u]; only h_t is summed.

    Parameters
    ----------
    config
        Which pooling, dropout.
    inputs
        Numbers of [p; q; u].
    """

    def __init__(self, config: DUPNConfig, inputs: int) -> None:
        super().__init__()
        self.kind = config.pooling
        if self.kind == "attention":
            first, second = ATTENTION_WIDTHS
            self.layers = nn.ModuleList(
                [nn.Linear(config.width + inputs, first), nn.Linear(first, second), nn.Linear(second, 1)]
            )
        self.dropout = Dropout(config.dropout)

    def forward(
        self, hidden_TH: Tensor, beside_TX: Tensor, owners_T: Tensor, size: int
    ) -> tuple[Tensor, Tensor]:
        """rep_s ``[B, H]``, zeros of an empty history; and the weights a ``[T]``."""
        weights_T = self._weights(hidden_TH, beside_TX, owners_T, size)
        weighted_TH = weights_T[:, None] * hidden_TH
        return weighted_TH.new_zeros(size, hidden_TH.shape[1]).index_add(0, owners_T, weighted_TH), weights_T

    def _weights(self, hidden_TH: Tensor, beside_TX: Tensor, owners_T: Tensor, size: int) -> Tensor:
        lengths_B = torch.bincount(owners_T, minlength=size)
        if self.kind == "last":
            is_last = torch.ones_like(owners_T, dtype=torch.bool)
            is_last[:-1] = owners_T[1:] != owners_T[:-1]
            return is_last.float()
        if self.kind == "mean":
            return 1 / lengths_B[owners_T].float()
        first, second, third = self.layers
        inner = self.dropout(torch.relu(first(torch.cat([hidden_TH, beside_TX], dim=1))))
        scores_T = third(self.dropout(torch.relu(second(inner))))[:, 0].float()
        highest_B = scores_T.new_full((size,), -torch.inf)
        highest_B = highest_B.scatter_reduce(0, owners_T, scores_T.detach(), "amax")
        powers_T = (scores_T - highest_B[owners_T]).exp()
        sums_B = powers_T.new_zeros(size).index_add(0, owners_T, powers_T)
        return powers_T / sums_B.index_select(0, owners_T)


class Reader(nn.Module, ABC):
    """What makes one vector of a user: tables of items, properties, profiles and queries, and layers on them.

    Parameters
    ----------
    config
        Widths; where properties are seen.
    shape
        What the data has.

    Attributes
    ----------
    width
        R.
    """

    width: int

    def __init__(self, config: DUPNConfig, shape: Shape) -> None:
        super().__init__()
        self.config = config
        self.items = ItemTables(config, shape)
        self.properties = Properties(config, shape)
        self.profile, self.query = Profile(config, shape), Query(config, shape)

    @abstractmethod
    def forward(self, batch: Batch, items_ME: Tensor) -> tuple[Tensor, Tensor]:
        """Vector rep of every sample, ``[B, R]``, and the weight of every event in it, ``[T]``."""


class UserEncoder(Reader):
    """DUPN's own: from behaviour, query and profile to rep = [rep_s; u]."""

    def __init__(self, config: DUPNConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        in_gates = self.properties.width * (config.properties in ("both", "gates"))
        in_attention = self.properties.width * (config.properties in ("both", "attention"))
        self.lstm = PropertyGatedLSTM(self.items.width, in_gates, config.width)
        self.pooling = Pooling(config, in_attention + self.query.width + self.profile.width)
        self.width = config.width + self.profile.width

    def forward(self, batch: Batch, items_ME: Tensor) -> tuple[Tensor, Tensor]:
        """Vector rep of every sample, ``[B, R]``, and the attention a of every event, ``[T]``."""
        properties_TP = self.properties(batch.properties)
        hidden_TH = self.lstm(
            items_ME.index_select(0, batch.history), self.in_gates(properties_TP), batch.lengths
        )
        return self.pool(hidden_TH, properties_TP, batch)

    def in_gates(self, properties_TP: Tensor) -> Tensor:
        """What gates see of the properties, ``[T, P]``; P = 0 where they see none."""
        return properties_TP if self.lstm.property_width else properties_TP[:, :0]

    def pool(self, hidden_TH: Tensor, properties_TP: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """From hidden states to rep, ``[B, R]``, and the attention a, ``[T]``."""
        profile_BU = self.profile(batch.users)
        asked_BX = torch.cat([self.query(batch.words, batch.word_offsets), profile_BU], dim=1)
        is_seen = self.config.properties in ("both", "attention")
        seen_TP = properties_TP if is_seen else properties_TP[:, :0]
        beside_TX = torch.cat([seen_TP, asked_BX.index_select(0, batch.owners)], dim=1)
        history_BH, weights_T = self.pooling(hidden_TH, beside_TX, batch.owners, len(batch))
        return torch.cat([history_BH, profile_BU], dim=1), weights_T


class Perceptron(nn.Module):
    """Fully connected layers with ReLU and dropout after all but the last."""

    def __init__(self, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in pairwise(widths))
        self.dropout = Dropout(dropout)

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers in order."""
        return [cast("nn.Linear", layer) for layer in self.layers]

    def forward(self, inputs: Tensor) -> Tensor:
        """What the last layer says."""
        *inner, last = self.layers
        for layer in inner:
            inputs = self.dropout(torch.relu(layer(inputs)))
        outputs: Tensor = last(inputs)
        return outputs


class Head(nn.Module):
    """What one task makes of rep (Figure 5 of the paper).

    ``item``: [rep; item] → 128 → 128 → 1. ``rank``: rep → 128 → weights of n numbers, none below 0; the logit
    is their weighted sum. ``class`` and ``window``: rep → 128 → one logit per class. ``entity``:
    [rep; entity] → 128 → width of the entity → 1. ``next``: the item's vector as wide as rep.

    Parameters
    ----------
    config, task
        Widths.
    known
        How many classes, entities, numbers.
    width
        R.
    hidden
        Widths of the layers but the last; the paper's without it.
    """

    def __init__(
        self, config: DUPNConfig, task: Task, known: Known, width: int, hidden: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.kind = task.kind
        if task.kind == "next":
            self.items = nn.Linear(config.item_width, width)
            return
        if task.kind == "entity":
            self.entities = PopularTable(known.num_classes, task.entity_width)
            self.encoding = nn.Linear(task.entity_width, task.entity_width)
        inputs = width + {"item": config.item_width, "entity": task.entity_width}.get(task.kind, 0)
        second = {"item": (config.head_width,), "entity": (task.entity_width,)}.get(task.kind, ())
        hidden = hidden or (config.head_width, *second)
        self.layers = Perceptron((inputs, *hidden, num_outputs(task, known)), config.dropout)
        if task.kind == "rank":  # a weight that begins below 0 is 0 for all users, and stays so
            nn.init.constant_(self.layers.linears[-1].bias, len(known.spreads) ** -0.5)

    def forward(self, rep_BR: Tensor, items_BI: Tensor, entities_B: Tensor, numbers_BN: Tensor) -> Tensor:
        """Logits, ``[B]``, or of every class ``[B, K]``."""
        return answer(self.kind, self.outputs(rep_BR, items_BI, entities_B), numbers_BN)

    def outputs(self, rep_BR: Tensor, items_BI: Tensor, entities_B: Tensor) -> Tensor:
        """What :func:`answer` makes logits of, ``[B, O]``."""
        parts = [rep_BR]
        if self.kind == "item":
            parts.append(items_BI)
        if self.kind == "entity":
            parts.append(self.encoding(self.entities(entities_B + 1)))
        outputs: Tensor = self.layers(torch.cat(parts, dim=1))
        return outputs


def num_outputs(task: Task, known: Known) -> int:
    """O, numbers that an answer is made of: one logit, a weight of each number, or a logit per class."""
    return {"item": 1, "entity": 1, "rank": len(known.spreads)}.get(task.kind, known.num_classes)


def asked_items(kind: Kind, candidates_B: Tensor, encoded_MI: Tensor) -> Tensor:
    """Encodings of the items that samples ask about, ``[B, I]``; ``[0, I]`` where the task asks of none."""
    return encoded_MI.index_select(0, candidates_B if kind == "item" else candidates_B[:0])


def answer(kind: Kind, outputs_BO: Tensor, numbers_BN: Tensor) -> Tensor:
    """Logits, ``[B]``, or of every class ``[B, K]``; of ``rank`` by weights that are never below 0."""
    if kind == "rank":
        return (torch.relu(outputs_BO) * numbers_BN).sum(dim=1)
    return outputs_BO[:, 0] if kind in ("item", "entity") else outputs_BO


@dataclass(frozen=True)
class Answers:
    """What a network says of a batch.

    Attributes
    ----------
    rep
        ``[B, R]``; R is 0 where nothing is said of users alone.
    weights
        Attention of every event, ``[T]``; none where events are not weighed.
    logits
        By task; of ``next`` α · cos with every item of the batch ``[samples, M]``.
    """

    rep: Tensor
    weights: Tensor
    logits: dict[str, Tensor]


class DUPNNetwork(nn.Module):
    """The encoder and its heads.

    Parameters
    ----------
    config
        Widths.
    shape
        What the data has.
    tasks
        By name, with what each has learned before.
    encoder, make_head
        What stands for DUPN's own encoder, and for :class:`Head`.
    """

    def __init__(
        self,
        config: DUPNConfig,
        shape: Shape,
        tasks: dict[str, tuple[Task, Known]],
        encoder: Reader | None = None,
        make_head: Callable[[DUPNConfig, Task, Known, int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder or UserEncoder(config, shape)
        make_head = make_head or Head
        self.heads = nn.ModuleDict(
            {
                f"of {name}": make_head(config, task, known, self.encoder.width)
                for name, (task, known) in tasks.items()
            }
        )
        self.log_variances = log_variances(config, tasks)

    @property
    def item_table(self) -> Table:
        """The table of item ids."""
        return self.encoder.items.ids

    def head(self, task: str) -> Head:
        """Head of a task, or what stands for it."""
        return cast("Head", self.heads[f"of {task}"])

    def forward(self, batch: Batch) -> Answers:
        """What every task is answered."""
        items_ME = self.encoder.items(batch.items)
        rep_BR, weights_T = self.encoder(batch, items_ME)
        encoded_MI = self.encoder.items.encoding(items_ME)
        logits = {}
        for name, rows in batch.slices.items():
            head, rep = self.head(name), rep_BR[rows]
            if head.kind == "next":
                logits[name] = self.config.alpha * cosines(rep, head.items(encoded_MI))
            else:
                items = asked_items(head.kind, batch.candidates[rows], encoded_MI)
                logits[name] = head(rep, items, batch.entities[rows], batch.numbers[name])
        return Answers(rep_BR, weights_T, logits)


def log_variances(config: DUPNConfig, tasks: Iterable[str]) -> nn.ParameterDict:
    """One s for each task, if weights of losses are learned."""
    found = nn.ParameterDict()
    if config.loss_weights == "uncertainty":
        found.update({f"of {name}": nn.Parameter(torch.zeros(())) for name in tasks})
    return found


def cosines(users_BR: Tensor, items_MR: Tensor) -> Tensor:
    """Cosine of every user with every item, ``[B, M]``."""
    return nn.functional.normalize(users_BR, dim=1) @ nn.functional.normalize(items_MR, dim=1).T
