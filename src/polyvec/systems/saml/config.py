"""What a SAML model is."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from polyvec.data.offers import Labels
from polyvec.layers.branches import Gate, Shares
from polyvec.layers.tables.choice import TableKind, check_kept, check_rows
from polyvec.training.options import TrainingOptions

Count = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Method = Literal["saml", "mixed", "shared_bottom", "mmoe", "ple", "star", "pepnet", "hmoe"]
Mutual = Literal["first", "all", "none"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SAMLConfig:
    """SAML (Chen et al., ICDMW 2020) and what it is compared with.

    The paper's full text is not to be had: what is certain of it are the components, their wiring, the
    equations and the widths of the hidden layers; other defaults are ours.

    Attributes
    ----------
    method
        ``saml``; ``mixed``: one network for all, the scenario a feature; ``shared_bottom``: a network for
        all, an output for each; or what others have made of that: see
        :mod:`polyvec.systems.saml.rivals`.
    scenarios
        Which to learn from, values of the column ``scenario``; none stands for all.
    labels
        Which events are samples. ``label``: those with one, 1 or 0. ``rating``: those with one, 1 above
        ``like_above``. ``exposed``: impressions, 1 if the user took the item on that day, or within
        half an hour; and what was taken. ``drawn``: what was taken; and, as often, items drawn by their
        popularity in that scenario on that day. ``auto``: the first of these that the data has columns for.
    action
        What "taken" means.
    like_above
        Ratings above it are likes.
    negatives
        Items drawn for each one taken.
    context_fields
        Text columns of events (``prepare --keep``) that are features: of the user, the place, the moment;
        what the latest event of the user says, the offered one among them.
    item_fields
        Text columns of the catalogue that are features, beside the id; those that are missing are left out.
    specific_fields
        Fields that have tables of their own in every scenario; ``item_id`` is one of the fields. Nothing
        stands for the item's fields.
    user_ids
        Whether the user's id is a field, too: of users who come again.
    item_numbers
        Number columns of the catalogue that are dense features.
    windows
        Days over which events, users and revenue of the item in its scenario are counted, strictly before the
        day of the offer, as dense features (with mean price and rating, and days since the first and the
        latest event); 0 stands for ever, nothing for no such features. Data with timestamps only.
    max_length
        L, latest events of a history; 0 does without histories.
    max_ids, max_users
        Items and users with a row of their own; the most frequent are taken.
    global_width, specific_width
        k_g and k_l, numbers of a field's vector.
    heads, head_width
        Of both attentions.
    embeddings
        ``both`` tables; or the ``global`` ones alone, which branches then read, too.
    attention
        ``both`` of them; or the ``global`` one alone, which branches then read, too.
    values
        V of the scenario's attention: the ``global`` one as in the paper, or one of its own (``specific``).
    auxiliary
        Whether there is the network of shared knowledge; else branches read its features themselves.
    auxiliary_weight
        λ of its own loss.
    hidden
        Widths of the layers of auxiliary network and branches.
    independence
        Of branches: 1 for weights of their own alone, as in the paper; below it they share some and differ
        the less the lower it is, see :class:`polyvec.layers.branches.BranchLinear`.
    mutual
        After which hidden layers branches consult each other: the ``first``, ``all`` or ``none``.
    gate, shares, temperature
        See :class:`polyvec.layers.branches.MutualUnit`.
    detach_others
        Whether a sample trains its own branch alone, not those that this one consults.
    experts
        Of ``mmoe``, and of ``ple``, of which half are shared.
    dropout
        Share of the numbers that are dropped before every layer but the first.
    item_table, item_rows, user_table, user_rows
        The global tables of item ids and, with ``user_ids``, of users': see
        :func:`polyvec.layers.tables.id_table`.
    budget
        Bytes that the model may be kept in; 0 sets no limit. Tables of S scenarios are what takes them:
        Σ V (k_g + S k_l) numbers.
    balanced
        Whether scenarios weigh alike in the loss, rather than samples.
    validation_days
        Days at the end that are validated on; of ordered data as many events of every user.
    """

    method: Method = "saml"
    scenarios: tuple[str, ...] = ()
    labels: Labels = "auto"
    action: str = "purchase"
    like_above: float = 3
    negatives: Count = 1
    context_fields: tuple[str, ...] = ()
    item_fields: tuple[str, ...] = ("category", "brand", "shop")
    specific_fields: tuple[str, ...] = ()
    user_ids: bool = False
    item_numbers: tuple[str, ...] = ()
    windows: tuple[Annotated[int, Field(ge=0)], ...] = ()
    max_length: Annotated[int, Field(ge=0)] = 50
    max_ids: Count = 1_000_000
    max_users: Count = 1_000_000
    global_width: Count = 16
    specific_width: Count = 8
    heads: Count = 4
    head_width: Count = 8
    embeddings: Literal["both", "global"] = "both"
    attention: Literal["both", "global"] = "both"
    values: Literal["global", "specific"] = "global"
    auxiliary: bool = True
    auxiliary_weight: Weight = 1.0
    hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (512, 256, 128)
    independence: Annotated[float, Field(gt=0, le=1)] = 1.0
    mutual: Mutual = "first"
    gate: Gate = "vector"
    shares: Shares = "ratio_softmax"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    detach_others: bool = True
    experts: Count = 4
    dropout: Share = 0.1
    item_table: TableKind = "popular"
    item_rows: Annotated[int, Field(ge=0)] = 0
    user_table: TableKind = "popular"
    user_rows: Annotated[int, Field(ge=0)] = 0
    budget: Annotated[int, Field(ge=0)] = 0
    balanced: bool = False
    validation_days: Count = 7

    @model_validator(mode="after")
    def _of_one_mind(self) -> Self:
        for of, (kind, rows) in self.id_tables.items():
            check_rows(kind, rows, of)
            check_kept(kind, "saml", of)
        if self.user_table != "popular" and not self.user_ids:
            raise ValueError(f"user_table={self.user_table} needs user_ids=true: users have no table without")
        for name in ("windows", "scenarios", "item_fields", "context_fields"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names the same {'days' if name == 'windows' else 'one'} twice")
        return self

    @property
    def id_tables(self) -> dict[str, tuple[TableKind, int]]:
        """Kind and rows of the global tables of ``item`` and ``user`` ids."""
        return {"item": (self.item_table, self.item_rows), "user": (self.user_table, self.user_rows)}


def default() -> tuple[SAMLConfig, TrainingOptions]:
    """The paper's network made fit for small scenarios: see :doc:`saml`, "The default recipe".

    Branches share part of their weights, no scenario has tables of its own (branches read the global ones,
    then), and the auxiliary network's own loss weighs less.
    """
    config, options = paper()
    return replace(config, embeddings="global", auxiliary_weight=0.1, independence=0.3), options


def paper() -> tuple[SAMLConfig, TrainingOptions]:
    """The paper's network; of training nothing is known of the paper, so this is ours."""
    options = TrainingOptions(
        epochs=20, batch_size=512, learning_rate=2e-3, warmup=0.02, final_rate=0.1, clip=5.0,
        weight_decay=1e-2, patience=3, precision="float32",
    )  # fmt: skip
    return SAMLConfig(), options


PRESETS = {"default": default, "paper": paper}
