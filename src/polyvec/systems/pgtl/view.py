"""Items of two markets as the network sees them on a day: one definition for training and for serving."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from polyvec.data.market import Market
from polyvec.systems.pgtl.features import Bags, Buckets, Relations, Sight, Texts
from polyvec.systems.pgtl.network import SOURCE, Features

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.systems.pgtl.config import PGTLConfig
    from polyvec.systems.pgtl.pairs import Pairs

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

AT_ONCE = 4096  # items whose numbers are computed together


@dataclass(frozen=True)
class Instances:
    """Features of M items on days.

    Attributes
    ----------
    numbers_MF
        Buckets, rows of the table of numbers, ``[M, F_n]``.
    items_M, days_M
        Items, rows of the catalogue, and days.
    bags_N
        Texts of all items of the catalogue, by field.
    """

    numbers_MF: npt.NDArray[np.int32]
    items_M: Ints
    days_M: Ints
    bags_N: list[Bags]

    def __len__(self) -> int:
        return len(self.items_M)

    def take(self, rows: Ints, device: torch.device) -> Features:
        """Features of some of them as tensors."""
        bags = [bag.take(self.items_M[rows]) for bag in self.bags_N]
        return Features(
            torch.from_numpy(self.numbers_MF[rows].astype(np.int64)).to(device),
            [
                (torch.from_numpy(bag.codes).to(device), torch.from_numpy(bag.offsets[:-1]).to(device))
                for bag in bags
            ],
        )


@dataclass(frozen=True)
class View:
    """What is known of the items of a Dataset in both markets.

    Attributes
    ----------
    sights
        Numbers by market, ``source`` and ``target``.
    bags_N
        Texts of the catalogue's items, by field.
    relations
        Related source items of every item.
    buckets
        By market; empty before they are learned.
    """

    sights: dict[str, Sight]
    bags_N: list[Bags]
    relations: Relations
    buckets: dict[str, Buckets] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        markets: dict[str, Market],
        config: PGTLConfig,
        texts: Texts,
        relations: Relations,
        buckets: dict[str, Buckets] | None = None,
        names: list[str] | None = None,
    ) -> View:
        """View of a Dataset's catalogue with the logs of both markets; ``names`` as of :class:`Sight`."""
        sights = {name: Sight(market, dataset.item_table, config, names) for name, market in markets.items()}
        return cls(sights, texts.encode(dataset.item_table), relations, buckets or {})

    def learn(self, market: str, pairs: Pairs, most: int) -> Samples:
        """Learn the buckets of a market from the items of training pairs; these as samples, without prior."""
        items, days, rows_2P = distinct(pairs)
        values = self._values(market, items, days)
        self.buckets[market] = Buckets.learn(values[rows_2P.reshape(-1)], most)
        instances = Instances(self.buckets[market].codes(values), items, days, self.bags_N)
        return Samples(instances, None, rows_2P, pairs.labels_P)

    def instances(self, market: str, items_M: Ints, days_M: Ints) -> Instances:
        """Features of items in a market on days."""
        codes = self.buckets[market].codes(self._values(market, items_M, days_M))
        return Instances(codes, items_M, days_M, self.bags_N)

    def prior_for(self, config: PGTLConfig, instances: Instances) -> Instances | None:
        """Prior features that a method has: the related items', the target's own, or none."""
        if config.method in {"pgtl", "pgtl_no_specific"}:
            return self.prior(instances.items_M, instances.days_M)
        return instances if config.method == "pgtl_no_prior" else None

    def prior(self, items_M: Ints, days_M: Ints) -> Instances:
        """Prior features x^p of items on days: of their related source items, in the source's buckets."""
        parts = [
            self.relations.values(self.sights[SOURCE], items_M[part], days_M[part])
            for part in _parts(len(items_M))
        ]
        bags = [bag.joined(self.relations.items) for bag in self.bags_N]
        return Instances(self.buckets[SOURCE].codes(_stack(parts, self)), items_M, days_M, bags)

    def _values(self, market: str, items_M: Ints, days_M: Ints) -> Floats:
        sight = self.sights[market]
        parts = [sight.values(items_M[part], days_M[part]) for part in _parts(len(items_M))]
        return _stack(parts, self)


def _parts(count: int) -> list[slice]:
    return [slice(start, start + AT_ONCE) for start in range(0, count, AT_ONCE)]


def _stack(parts: list[Floats], view: View) -> Floats:
    return np.concatenate([np.empty((0, len(view.sights[SOURCE].names))), *parts])


@dataclass(frozen=True)
class Samples:
    """Pairs of one market with the features of their items.

    Attributes
    ----------
    instances
        Distinct (item, day) of the pairs.
    prior
        Their prior features, in the same order; None in the source, and of methods without.
    rows_2P
        Instances of every pair, int64 ``[2, P]``.
    labels_P
        Whether the items are similar.
    """

    instances: Instances
    prior: Instances | None
    rows_2P: Ints
    labels_P: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels_P)

    @classmethod
    def of(cls, pairs: Pairs, view: View, market: str) -> Samples:
        """Look up the features of pairs, without prior."""
        items, days, rows_2P = distinct(pairs)
        return cls(view.instances(market, items, days), None, rows_2P, pairs.labels_P)

    def with_prior(self, view: View, config: PGTLConfig) -> Samples:
        """The same pairs, of the target, with what a method knows beforehand."""
        return replace(self, prior=view.prior_for(config, self.instances))


def distinct(pairs: Pairs) -> tuple[Ints, Ints, Ints]:
    """Items and days of the distinct instances of pairs, and which of them each pair has, ``[2, P]``."""
    size = int(pairs.items_2P.max(initial=0)) + 1
    keys, rows = np.unique(pairs.days_P * size + pairs.items_2P, return_inverse=True)
    return keys % size, keys // size, rows.reshape(pairs.items_2P.shape).astype(np.int64)
