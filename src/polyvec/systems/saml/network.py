"""SAML: features seen globally and by a scenario, shared knowledge, and branches that consult each other.

Letters: B samples, T events of all their histories, S scenarios, F fields, V rows of a field's table.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from polyvec.layers.branches import BranchLinear, MutualUnit
from polyvec.layers.dropout import Dropout
from polyvec.layers.tables import PopularTable, Table, id_table
from polyvec.layers.target_attention import TargetAttention

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polyvec.systems.saml.config import SAMLConfig

ITEM_ID, USER_ID = "item_id", "user_id"
ID_OF = {ITEM_ID: "item", USER_ID: "user"}


@dataclass(frozen=True)
class Shape:
    """What the data has.

    Attributes
    ----------
    context, item
        Rows of every field of the moment, and of the item, by name; row 0 stands for what is not known. The
        item's begin with its id; the moment's end with the user's, if that is a field.
    dense
        Numbers.
    scenarios
        S.
    """

    context: dict[str, int]
    item: dict[str, int]
    dense: int
    scenarios: int


@dataclass(frozen=True)
class Batch:
    """Samples as tensors.

    Attributes
    ----------
    scenarios
        int64 ``[B]``.
    context, item
        Rows of the fields, int64 ``[B, F]`` each.
    history, owners
        Rows of the item's fields of all events of all histories, ``[T, F]``; the sample that each is of.
    dense
        Numbers, normalised, ``[B, …]``.
    labels
        0 or 1, float ``[B]``.
    stand_ins, user_stand_ins
        Rows of the global tables of item ids and of user ids that stand for the items' and the users', int64
        ``[B]``; None where each stands for itself.
    """

    scenarios: Tensor
    context: Tensor
    item: Tensor
    history: Tensor
    owners: Tensor
    dense: Tensor
    labels: Tensor
    stand_ins: Tensor | None = None
    user_stand_ins: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def global_item(self) -> Tensor:
        """Rows of the item's fields in the global tables, ``[B, F]``."""
        if self.stand_ins is None:
            return self.item
        return torch.cat([self.stand_ins[:, None], self.item[:, 1:]], dim=1)

    @property
    def global_context(self) -> Tensor:
        """Rows of the moment's fields in the global tables, ``[B, F]``."""
        if self.user_stand_ins is None:
            return self.context
        return torch.cat([self.context[:, :-1], self.user_stand_ins[:, None]], dim=1)

    @property
    def num_tokens(self) -> int:
        """Items that are looked at."""
        return len(self.item) + len(self.history)


@dataclass(frozen=True)
class Scores:
    """What a network says of B samples.

    Attributes
    ----------
    logits
        z, of the sample's own branch, ``[B]``.
    auxiliary
        Logits of the auxiliary network, ``[B]``; None without.
    shares
        α of the first mutual unit, of the sample's own branch, ``[B, S]``; None without.
    hidden
        T, the last hidden layer of the sample's own branch, ``[B, H]``; None of rivals.
    """

    logits: Tensor
    auxiliary: Tensor | None = None
    shares: Tensor | None = None
    hidden: Tensor | None = None


@dataclass(frozen=True)
class Order:
    """Samples sorted by scenario.

    Attributes
    ----------
    rows
        The samples in that order, int64 ``[B]``.
    scenarios
        Theirs, ascending, int64 ``[B]``.
    sizes
        Samples of each scenario.
    """

    rows: Tensor
    scenarios: Tensor
    sizes: list[int]

    @classmethod
    def of(cls, scenarios: Tensor, num_scenarios: int) -> Order:
        """Sort."""
        ordered, rows = scenarios.sort(stable=True)
        return cls(rows, ordered, torch.bincount(scenarios, minlength=num_scenarios).tolist())

    def undo(self, values: Tensor) -> Tensor:
        """Put what is in this order back into that of the samples."""
        back = torch.empty_like(values)
        back[self.rows] = values
        return back


class Fields(nn.Module):
    """Vectors of fields: for each one a table for all scenarios, or one with a part for each.

    Parameters
    ----------
    rows
        V of every field, by name.
    width
        k, numbers of a vector.
    scenarios
        S parts of every table, row ``s · V + x`` for x in scenario s; 1 for what is global.
    config
        Of what is global: kinds and rows of the tables of ids.
    """

    def __init__(
        self, rows: dict[str, int], width: int, scenarios: int, config: SAMLConfig | None = None
    ) -> None:
        super().__init__()
        self.rows, self.width = rows, width
        self.tables = nn.ModuleDict()
        for name, count in rows.items():
            table: Table
            if config is not None and name in ID_OF:
                kind, shared = config.id_tables[ID_OF[name]]
                table = id_table(kind, count - 1, shared, width, of=ID_OF[name])
            else:
                table = PopularTable(scenarios * count - 1, width)
                if scenarios > 1:
                    nn.init.zeros_(table.weight)  # what a scenario has not seen says nothing there
            self.tables[key_of(name)] = table

    def table(self, name: str) -> Table:
        """Table of a field."""
        return cast("Table", self.tables[key_of(name)])

    def forward(self, codes: Tensor, names: Sequence[str], scenarios: Tensor | None = None) -> Tensor:
        """Vectors side by side of those names that have tables. ``[X, len(names)] → [X, …· k]``."""
        parts = []
        for name, column in zip(names, codes.unbind(dim=1), strict=True):
            if name in self.rows:
                place = column if scenarios is None else scenarios * self.rows[name] + column
                parts.append(self.table(name)(place))
        return torch.cat(parts, dim=1) if parts else codes.new_zeros(len(codes), 0, dtype=torch.float32)


def key_of(name: str) -> str:
    """What a field's table is called among the weights: ``type`` is a word of torch's own, a dot is none."""
    return f"of {name.replace('%', '%25').replace('.', '%2E')}"


class View(nn.Module):
    """Scenario-aware representation: global and specific embeddings, and attention in both.

    Parameters
    ----------
    config
        Widths; which fields are specific.
    shape
        What the data has.
    """

    def __init__(self, config: SAMLConfig, shape: Shape) -> None:
        super().__init__()
        self.config = config
        self.context, self.item = tuple(shape.context), tuple(shape.item)
        rows = shape.context | shape.item
        specific = config.specific_fields or self.item
        own_rows = {name: count for name, count in rows.items() if name in specific}
        self.everyone = Fields(rows, config.global_width, 1, config)
        self.own = None
        if config.method == "saml" and config.embeddings == "both":
            self.own = Fields(own_rows, config.specific_width, shape.scenarios)
        values = config.heads * config.head_width if config.max_length else 0
        item_width = len(self.item) * config.global_width
        own_item_width = self._own_width(self.item)
        self.attends_alone = bool(self.own and config.attention == "both" and values and own_item_width)
        if values:
            self.values = nn.Linear(item_width, values)
            self.attention = TargetAttention(item_width, config.heads, config.head_width)
        if self.attends_alone:
            self.own_attention = TargetAttention(own_item_width, config.heads, config.head_width)
            if config.values == "specific":
                self.own_values = nn.Linear(own_item_width, values)
        fields = (*self.context, *self.item)
        everything = len(fields) * config.global_width
        self.independent = shape.dense + values + everything
        self.dependent = values + (self._own_width(fields) if self.own else everything)

    def _own_width(self, names: Sequence[str]) -> int:
        if self.own is None:
            return 0
        return sum(name in self.own.rows for name in names) * self.config.specific_width

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """x_ind = [d; Z_g; G] ``[B, independent]`` and x_dep = [Z_l; P] ``[B, dependent]``."""
        context = self.everyone(batch.global_context, self.context)
        item = self.everyone(batch.global_item, self.item)
        embedded = [context, item]
        attended = own_attended = []
        if self.config.max_length:
            history = self.everyone(batch.history, self.item)
            values = self._heads(self.values(history))
            attended = own_attended = [self.attention(item, history, values, batch.owners)]
        own_embedded = embedded
        if self.own is not None:
            own_item = self.own(batch.item, self.item, batch.scenarios)
            own_embedded = [self.own(batch.context, self.context, batch.scenarios), own_item]
            if self.attends_alone:
                own_history = self.own(batch.history, self.item, batch.scenarios[batch.owners])
                if self.config.values == "specific":
                    values = self._heads(self.own_values(own_history))
                own_attended = [self.own_attention(own_item, own_history, values, batch.owners)]
        independent = torch.cat([batch.dense, *attended, *embedded], dim=1)
        return independent, torch.cat([*own_attended, *own_embedded], dim=1)

    def _heads(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.config.heads, -1))


class Level(nn.Module):
    """A hidden layer of all branches, after which they may consult each other.

    Parameters
    ----------
    layer
        The map of every branch.
    mutual
        What they make of each other; None where they do not ask.
    detach_others
        Whether those that are asked learn nothing from it.
    passes_on
        Whether the next level asks all branches again.
    """

    def __init__(
        self, layer: BranchLinear, mutual: MutualUnit | None, *, detach_others: bool, passes_on: bool
    ) -> None:
        super().__init__()
        self.layer, self.mutual = layer, mutual
        self.detach_others, self.passes_on = detach_others, passes_on

    def forward(
        self, own: Tensor, everyone: Tensor, beside: Tensor, order: Order
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """One level up.

        Parameters
        ----------
        own
            What each sample's own branch has made of it, ``[B, I]``.
        everyone
            What all branches have made of it, ``[B, S, I]``, or ``[B, I]`` if that is the same; only looked
            at where branches consult each other.
        beside
            What the auxiliary network has made of it on this level, ``[B, H]``; H = 0 without.
        order
            In which the samples are.

        Returns
        -------
        The same of the next level, own and everyone, and α ``[B, S]`` of the own branch; None without.
        """
        hidden = torch.relu(self.layer.own(torch.cat([own, beside], dim=1), order.sizes))
        if self.mutual is None:
            return hidden, everyone, None
        others = self._all(everyone, beside)
        mixed, shares = self.mutual.own(hidden, others, order.scenarios, order.sizes)
        return mixed, self.mutual.all(others)[0] if self.passes_on else everyone, shares

    def _all(self, inputs: Tensor, beside: Tensor) -> Tensor:
        """V of all branches, ``[B, S, H]``."""
        if inputs.ndim == 3:
            beside = beside[:, None].expand(-1, inputs.shape[1], -1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach_others):
            return torch.relu(self.layer.all(torch.cat([inputs, beside], dim=-1)))


class Auxiliary(nn.Module):
    """The network of what all scenarios share.

    Parameters
    ----------
    inputs
        Numbers of x_ind.
    widths
        Of the hidden layers.
    dropout
        Before every layer but the first.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in pairwise((inputs, *widths)))
        self.output = nn.Linear(widths[-1], 1)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor) -> tuple[list[Tensor], Tensor]:
        """V_a of every level, and the logits ``[B, 1]``."""
        levels: list[Tensor] = []
        for layer in self.layers:
            levels.append(torch.relu(layer(hidden)))
            hidden = self.dropout(levels[-1])
        return levels, self.output(hidden)


class SAMLNetwork(nn.Module):
    """The whole of SAML.

    Parameters
    ----------
    config
        What to build.
    shape
        What the data has.
    """

    def __init__(self, config: SAMLConfig, shape: Shape) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.view = View(config, shape)
        widths, inputs = config.hidden, self.view.dependent
        self.auxiliary = None
        if config.auxiliary:
            self.auxiliary = Auxiliary(self.view.independent, widths, config.dropout)
        else:
            inputs += self.view.independent
        consulted = {"first": 1, "all": len(widths), "none": 0}[config.mutual]
        self.levels = nn.ModuleList(
            Level(
                self._branches(before + (width if config.auxiliary else 0), width),
                MutualUnit(shape.scenarios, width, config.gate, config.shares, config.temperature)
                if level < consulted
                else None,
                detach_others=config.detach_others,
                passes_on=level + 1 < consulted,
            )
            for level, (before, width) in enumerate(pairwise((inputs, *widths)))
        )
        self.output = self._branches(widths[-1] + config.auxiliary, 1)
        self.dropout = Dropout(config.dropout)

    def _branches(self, inputs: int, outputs: int) -> BranchLinear:
        return BranchLinear(self.shape.scenarios, inputs, outputs, self.config.independence)

    def forward(self, batch: Batch) -> Scores:
        """Logits of every sample in its own scenario, and what the auxiliary network says."""
        order = Order.of(batch.scenarios, self.shape.scenarios)
        independent, own = (part[order.rows] for part in self.view(batch))
        nothing = own[:, :0]
        besides, auxiliary = [nothing] * len(self.levels), nothing
        if self.auxiliary is None:
            own = torch.cat([independent, own], dim=1)
        else:
            besides, auxiliary = self.auxiliary(independent)
        everyone, shares = own, None
        for level, beside in zip(self.levels, besides, strict=True):
            own, everyone, found = level(own, everyone, beside, order)
            own, shares = self.dropout(own), found if shares is None else shares
        logits = self.output.own(torch.cat([own, auxiliary], dim=1), order.sizes)
        return Scores(
            order.undo(logits[:, 0]),
            None if self.auxiliary is None else order.undo(auxiliary[:, 0]),
            None if shares is None else order.undo(shares),
            order.undo(own),
        )
