"""A fitted PGTL, or one of the methods that it is compared with: encodes items of the small market.

On disk::

    weights.safetensors    the network
    buckets.safetensors    lower edges of the buckets of every number, by market
    items.parquet          item_id and training events in both markets, of every item that has any
    texts/FIELD.parquet    ids, categories, words … with a row in the table
    config.json            PGTLConfig and TrainingOptions, resolved; names of the numbers and of the fields
    training.jsonl, tensorboard/   what the run said

Statistics of items change with the log, so a model is bound to a Dataset and a moment before it encodes:
:meth:`PGTL.at`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from scipy.sparse import csr_array
from torch import nn

from polyvec.data.dataset import MICROSECONDS_PER_DAY
from polyvec.data.item_sets import expand_ranges
from polyvec.data.market import Market
from polyvec.embeddings import COLD, EMPTY, WARM
from polyvec.errors import UsageError
from polyvec.ids import Vocabulary
from polyvec.systems.clusters import clustered_items
from polyvec.systems.folder import load_weights, read_model_manifest, save_weights
from polyvec.systems.pgtl.config import PGTLConfig
from polyvec.systems.pgtl.features import UNRELATED, Buckets, Relations, Texts, relate
from polyvec.systems.pgtl.network import SOURCE, TARGET, Encoded, PGTLNetwork
from polyvec.systems.pgtl.view import Instances, View
from polyvec.systems.sizes import Sizes
from polyvec.training.options import TrainingOptions

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.artifact import Manifest
    from polyvec.data.dataset import Dataset, TimeKind
    from polyvec.data.market import Role
    from polyvec.data.split import Windows
    from polyvec.embeddings import Score
    from polyvec.systems.clusters import Clusters, Side

    Ints = npt.NDArray[np.int64]

SYSTEM = "pgtl"
AT_ONCE = 8192  # items that are encoded together


@dataclass(frozen=True)
class PGTL:
    """A fitted model.

    Attributes
    ----------
    config, options
        What it is and how it was trained.
    network
        The weights.
    texts, buckets
        Which texts have a row, and the buckets of the numbers by market.
    names
        What the numbers are.
    trained_items
        ``item_id``, ``source`` and ``target``: training events in either market, of items with any.
    trained_until
        No event at or after this time was trained on.
    bound
        The log that it was bound to, if it was.
    manifest
        Of the folder it was read from; None before it is saved.
    """

    config: PGTLConfig
    options: TrainingOptions
    network: PGTLNetwork
    texts: Texts
    buckets: dict[str, Buckets]
    names: list[str]
    trained_items: pl.DataFrame
    trained_until: int
    bound: Bound | None = None
    manifest: Manifest | None = None

    @classmethod
    def new(
        cls,
        config: PGTLConfig,
        options: TrainingOptions,
        texts: Texts,
        buckets: dict[str, Buckets],
        names: list[str],
        trained_items: pl.DataFrame,
        trained_until: int,
    ) -> PGTL:
        """An untrained model; its weights follow from ``options.seed``."""
        torch.manual_seed(options.seed)
        size = buckets[SOURCE].size * len(names)
        features = len(names) + len(texts.known)
        network = PGTLNetwork(config, features, size, texts.num_rows, texts.num_ids)
        return cls(config, options, network, texts, buckets, names, trained_items, trained_until)

    @property
    def system(self) -> str:
        """``pgtl``."""
        return SYSTEM

    @property
    def score(self) -> Score:
        """``max_cosine``, as pairs are compared in training."""
        return "max_cosine"

    @property
    def num_vectors(self) -> int:
        """One vector per user: the mean of the items of the history."""
        return 1

    @property
    def width(self) -> int:
        """D of an item's vector: all blocks side by side."""
        return self.network.width * self.network.num_blocks

    @property
    def history_days(self) -> float:
        """Days of history that users are encoded from."""
        return self.config.history_days

    @property
    def read_action(self) -> str:
        """What counts as a click: histories are of it."""
        return self.config.action

    @property
    def time_kind(self) -> TimeKind:
        """``timestamp``: statistics are of days."""
        return "timestamp"

    @property
    def meta(self) -> dict[str, Any]:
        """Manifest entries."""
        return {
            "system": SYSTEM,
            "variant": self.config.method,
            "source": self.config.source,
            "target": self.config.target,
            "trained_until": self.trained_until,
            "time_kind": self.time_kind,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "bytes": self.sizes.total,
            "item_table_bytes": self.sizes.item_table,
            "C": 1,
            "D": self.width,
            "features": len(self.names) + len(self.texts.known),
        }

    @property
    def sizes(self) -> Sizes:
        """Bytes of the weights; of a table of all texts the ids' rows are the item table."""
        found = Sizes.of(self.network, self.network.embedding.ids)
        if self.network.embedding.ids is not None:
            return found
        ids = self.texts.num_ids * self.network.embedding.texts.weight[:1].nbytes
        return Sizes(ids, found.other_tables - ids, found.rest)

    @property
    def clustered(self) -> dict[Side, Clusters]:
        """The table of the item ids, if it is clustered."""
        if self.network.embedding.ids is None:  # perhaps no id has a row
            return {}
        trained = self.trained_items.select("item_id", events=pl.col(SOURCE) + pl.col(TARGET))
        return clustered_items(self.network.embedding.ids, self.texts.known["item_id"], trained)

    def at(self, dataset: Dataset, until: int | None = None, role: Role = TARGET) -> PGTL:
        """Bind the model to the log of a Dataset before a moment; ``role`` says as what items are encoded.

        Raises
        ------
        DataError
            If the data has no markets, or no timestamps.
        UsageError
            If it lacks one of the two markets, or numbers that the model was trained on.
        """
        until = dataset.time_span[1] + 1 if until is None else until
        return replace(self, bound=Bound.to(self, dataset, until, role))

    def save_into(self, stage: Path) -> None:
        """Write the model's files into a staging folder."""
        save_weights(self.network, stage)
        edges = {
            f"{market}.{place}": edges
            for market, buckets in self.buckets.items()
            for place, edges in enumerate(buckets.edges)
        }
        save_arrays(edges, stage / "buckets.safetensors")
        self.trained_items.write_parquet(stage / "items.parquet")
        self.texts.save(stage / "texts")
        config = {
            SYSTEM: asdict(self.config),
            "training": asdict(self.options),
            "numbers": self.names,
            "texts": list(self.texts.known),
        }
        (stage / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")

    @classmethod
    def open(cls, path: Path | str) -> PGTL:
        """Read a Model folder.

        Raises
        ------
        ArtifactError
            If the folder is missing, damaged, or holds a model of another system.
        """
        path = Path(path)
        manifest = read_model_manifest(path, SYSTEM)
        config = json.loads((path / "config.json").read_text("utf-8"))
        known, edges = PGTLConfig(**config[SYSTEM]), load_arrays(path / "buckets.safetensors")
        names = config["numbers"]
        model = cls.new(
            known,
            TrainingOptions(**config["training"]),
            Texts.load(path / "texts", config["texts"]),
            {
                market: Buckets([edges[f"{market}.{place}"] for place in range(len(names))], known.buckets)
                for market in (SOURCE, TARGET)
            },
            names,
            pl.read_parquet(path / "items.parquet"),
            manifest.meta["trained_until"],
        )
        load_weights(model.network, path)
        model.network.eval()
        return replace(model, manifest=manifest)

    def encode_items(self, item_table: pl.DataFrame) -> npt.NDArray[np.float32]:
        """Vectors of items of the catalogue that the model is bound to, of length 1. ``→ [N, D]``."""
        bound = self.to_log()
        return bound.vectors[bound.rows(item_table["item_id"])]

    def item_states(self, item_table: pl.DataFrame) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """State of every item and its training events in the market, ``[N]`` each.

        ``warm`` had any; ``cold`` items are encoded from their profile and their relations alone; of
        ``empty`` ones nothing is known.
        """
        bound = self.to_log()
        rows = bound.rows(item_table["item_id"])
        events = self.training_events(item_table, bound.role)
        state = np.where(events > 0, WARM, np.where(bound.is_known[rows], COLD, EMPTY))
        return state.astype(np.uint8), events

    def encode_users(self, dataset: Dataset, windows: Windows) -> npt.NDArray[np.float32]:
        """Mean of the vectors of each history's items, of length 1. ``→ float32 [W, 1, D]``.

        Users without a history have the mean of all items, by their training events.
        """
        vectors_ND = self.to_log().vectors
        owners, events = expand_ranges(windows.history_start, windows.history_end)
        rows = np.asarray(dataset.item_rows)[events]  # a product holds no vector for every event
        counts_WN = csr_array(
            (np.ones(len(rows), np.float32), (owners, rows)), (len(windows), len(vectors_ND))
        )
        sums = counts_WN @ vectors_ND
        empty = windows.history_end == windows.history_start
        events_N = self.training_events(dataset.item_table, self.to_log().role)
        sums[empty] = (events_N[:, None] * vectors_ND).sum(axis=0)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        return (sums / np.maximum(norms, 1e-12))[:, None].astype(np.float32)

    def training_events(self, item_table: pl.DataFrame, role: Role) -> Ints:
        """Training events of every item of a catalogue in a market, int64 ``[N]``."""
        rows = Vocabulary(self.trained_items["item_id"], "item_id").rows(item_table["item_id"])
        return np.append(self.trained_items[role].to_numpy(), 0)[rows].astype(np.int64)

    def to_log(self) -> Bound:
        """The log that the model is bound to.

        Raises
        ------
        UsageError
            If it is bound to none.
        """
        if self.bound is None:
            raise UsageError(
                "the model has no log to read statistics of items from",
                mend="bind it first: model.at(dataset, until)",
            )
        return self.bound


@dataclass(frozen=True)
class Bound:
    """A model's view of a Dataset before a moment.

    Attributes
    ----------
    network
        The weights.
    view
        What is known of the items.
    items
        The Dataset's vocabulary.
    day
        Of which the statistics are: all that happened before the moment.
    role
        As items of which market they are encoded.
    is_sold_N
        Whether an item has events in either market before the moment.
    """

    network: PGTLNetwork
    view: View
    items: Vocabulary
    day: int
    role: Role
    is_sold_N: npt.NDArray[np.bool_]

    @classmethod
    def to(cls, model: PGTL, dataset: Dataset, until: int, role: Role) -> Bound:
        """Bind: see :meth:`PGTL.at`."""
        config = model.config
        markets = {
            SOURCE: Market.of(dataset, config.source, until),
            TARGET: Market.of(dataset, config.target, until),
        }
        relations = relations_of(dataset.item_table, markets[SOURCE].item_counts(config.action), config)
        view = View.of(dataset, markets, config, model.texts, relations, model.buckets, model.names)
        is_sold_N = np.zeros(dataset.num_items, np.bool_)
        for market in markets.values():
            is_sold_N[market.items] = True
        day = (until - 1) // MICROSECONDS_PER_DAY + 1
        return cls(model.network, view, dataset.items, day, role, is_sold_N)

    def rows(self, ids: pl.Series) -> Ints:
        """Rows of items of the catalogue.

        Raises
        ------
        UsageError
            If one of them is not in it.
        """
        rows = self.items.rows(ids)
        if (rows < 0).any():
            item = ids[int(np.argmax(rows < 0))]
            raise UsageError(
                f"item_id {item!r} is not in the catalogue",
                column="item_id",
                mend="look at item_id in the items that the data was prepared with",
            )
        return rows.astype(np.int64)

    @cached_property
    def vectors(self) -> npt.NDArray[np.float32]:
        """Vectors of all items of the catalogue, of length 1."""
        return encode(self.network, *self._instances(np.arange(len(self.items))), self.role)

    @cached_property
    def is_known(self) -> npt.NDArray[np.bool_]:
        """Whether anything is known of each item: an event, a text, a number, or a related item."""
        known = self.is_sold_N | (self.view.relations.kind_N != UNRELATED)
        known = known | self.view.sights[self.role].has_numbers
        for bag in self.view.bags_N:
            known = known | (np.diff(bag.offsets) > 0)
        return known

    def gates(self, rows: Ints) -> npt.NDArray[np.float32]:
        """Mean of the gate of items: how much prior knowledge each takes, ``[M]``; NaN without a gate."""
        instances, prior = self._instances(rows)
        parts = [
            one.gate.mean(dim=1).cpu().numpy()
            if one.gate is not None
            else np.full(len(one.blocks[0]), np.nan)
            for one in _each_part(self.network, instances, prior, TARGET)
        ]
        return np.concatenate([np.empty(0), *parts]).astype(np.float32)

    def _instances(self, rows: Ints) -> tuple[Instances, Instances | None]:
        days = np.full(len(rows), self.day)
        instances = self.view.instances(self.role, rows, days)
        if self.role == SOURCE:
            return instances, None
        return instances, self.view.prior_for(self.network.config, instances)


def relations_of(item_table: pl.DataFrame, source_events_N: Ints, config: PGTLConfig) -> Relations:
    """Relations that a configuration asks for."""
    relations = relate(item_table, source_events_N, config.max_related)
    return relations.shuffled(0) if config.relations == "shuffled" else relations


def encode(
    network: PGTLNetwork, instances: Instances, prior: Instances | None, role: Role
) -> npt.NDArray[np.float32]:
    """Vectors of length 1, ``[M, D]``: blocks of length 1 side by side, whose dot product is mean cosine."""
    parts = []
    for one in _each_part(network, instances, prior, role):
        blocks = [nn.functional.normalize(block, dim=1) for block in one.blocks]
        parts.append((torch.cat(blocks, dim=1) / len(blocks) ** 0.5).float().cpu().numpy())
    width = network.width * network.num_blocks
    vectors: npt.NDArray[np.float32] = np.concatenate([np.empty((0, width), np.float32), *parts])
    return vectors


@torch.no_grad()
def _each_part(
    network: PGTLNetwork, instances: Instances, prior: Instances | None, role: Role
) -> list[Encoded]:
    network.eval()
    device = next(network.parameters()).device
    found = []
    for start in range(0, len(instances), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(instances)))
        features = instances.take(rows, device)
        if role == SOURCE:
            found.append(network.source(features))
        else:
            found.append(network.target(features, None if prior is None else prior.take(rows, device)))
    return found
