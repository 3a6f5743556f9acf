"""Item similarity: items that a user takes together should be nearer to each other than to other items.

The item similarity AUC of PGTL: the chance that a pair of items taken together scores higher than a pair that
was not. The pairs come from the target window: items of one basket (same user, same time), or neighbouring
events of a user where hardly any event shares its time. Each item of a basket stands first once and its
partner is drawn from the rest of the basket, so that a basket counts by its items and not by their square.
Baskets of more than 50 items are left out.

The other pairs have the same first and the same second items, each as often, joined at random within each
range of training events of the second: whatever says how popular one of the items is, and no more, scores
0.5, also among cold items alone. (PGTL takes items that were shown and not clicked, which most logs do not
have.) To keep it so, a pair that was taken together after all is not thrown away, which would cost popular
items most, but exchanges partners with another pair.

Intervals draw items, with all pairs that they stand in on either side: drawing first items alone is too sure,
for partners are shared as well (95 % intervals of random vectors held 0.5 in 76 of 100 cases, and in 98 so).

Runs of a system take turns, as in :mod:`polyvec.evaluation.trials`: the draw of place s is scored by run
s mod R. Intervals are about the items; what differs from run to run stands beside them, in ``per_run``.

Shapes: **N** items, **P** pairs, **B** items that stand in a pair, **M** rows of the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from polyvec.data.dataset import format_time
from polyvec.data.item_sets import expand_ranges
from polyvec.data.split import cut
from polyvec.errors import DataError
from polyvec.evaluation.classification import auc
from polyvec.evaluation.metrics import estimate, resampled_means
from polyvec.evaluation.runs import means_of_runs, runs_of
from polyvec.evaluation.tasks.comparison import Key, differences
from polyvec.evaluation.trials import SEEDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings

    Rows = npt.NDArray[np.int64]

BASKETS, NEIGHBOURS = "same basket", "neighbouring events"
LEAST_BASKET_SHARE = 0.1  # of events; with fewer in baskets, neighbouring events are taken
MOST_PAIRS = 200_000  # more are drawn from at random, for each seed
EXCHANGES = 20  # rounds in which pairs that were taken together look for other partners
PAIRS_AT_ONCE = 65_536
USERS_AT_ONCE = 2**22  # of both items of pairs that are counted together
MOST_IN_BASKET = 50  # a wholesaler's order of hundreds of items says little about any two of them
PARTS = {
    "all": (0, 2**62),
    "cold: 0 events": (0, 0),
    "1–5 events": (1, 5),
    "6–20 events": (6, 20),
    "over 20 events": (21, 2**62),
}
SCHEMA = pl.Schema(
    {
        "task": pl.String(),
        "scorer": pl.String(),
        "part": pl.String(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "items": pl.Int64(),
        "pairs": pl.Int64(),
        "unscored": pl.Int64(),
        "taken_together": pl.Int64(),
        "difference": pl.Float64(),
        "difference_low": pl.Float64(),
        "difference_high": pl.Float64(),
        "per_seed": pl.List(pl.Float64()),
        "per_run": pl.List(pl.Float64()),
    }
)


class PairScorer(Protocol):
    """Says how similar items of a Dataset are."""

    def score(self, first_rows: Rows, second_rows: Rows) -> npt.NDArray[np.floating]:
        """Similarity of every pair of item rows, ``[P]``; NaN where it is not known."""
        ...


class VectorPairs:
    """Cosine, or dot product if that is the embeddings' score, of two items' vectors.

    Parameters
    ----------
    embeddings
        Of any origin; users are not looked at.
    dataset
        Whose item rows are asked for; ids join the two.
    """

    def __init__(self, embeddings: Embeddings, dataset: Dataset) -> None:
        self._items_ND = embeddings.unit_items()
        self._rows = embeddings.items.ids.rows(dataset.items.series)

    def score(self, first_rows: Rows, second_rows: Rows) -> npt.NDArray[np.floating]:
        """Similarity of every pair, ``[P]``; NaN for items without vectors."""
        first, second = self._rows[first_rows], self._rows[second_rows]
        scores = np.full(len(first), np.nan, dtype=np.float32)
        known = np.flatnonzero((first >= 0) & (second >= 0))
        for start in range(0, len(known), PAIRS_AT_ONCE):
            part = known[start : start + PAIRS_AT_ONCE]
            scores[part] = np.einsum("pd,pd->p", self._items_ND[first[part]], self._items_ND[second[part]])
        return scores


class CountedPairs:
    """Cosine of the sets of users that had two items in their history: nothing is learned.

    An item that nobody had is as like to one as to another: 0.

    Parameters
    ----------
    histories_UN
        :func:`polyvec.evaluation.baselines.item_to_item.history_matrix`.
    """

    def __init__(self, histories_UN: csr_array) -> None:
        self._users_NU = histories_UN.T.tocsr()
        self._counts_N = np.diff(self._users_NU.indptr)

    def score(self, first_rows: Rows, second_rows: Rows) -> npt.NDArray[np.floating]:
        """Similarity of every pair, ``[P]``."""
        pairs_2P, places_P = np.unique(np.stack([first_rows, second_rows]), axis=1, return_inverse=True)
        first, second = pairs_2P
        counts_2P = self._counts_N[pairs_2P].astype(np.float64)
        users_P = np.cumsum(counts_2P.sum(axis=0))
        ends = np.searchsorted(users_P, np.arange(USERS_AT_ONCE, users_P[-1:].sum(), USERS_AT_ONCE))
        both = [
            self._users_NU[first[part]].multiply(self._users_NU[second[part]]).sum(axis=1)
            for part in np.split(np.arange(len(first)), ends)
        ]
        scores = (np.concatenate(both) / np.maximum(np.sqrt(counts_2P.prod(axis=0)), 1)).astype(np.float32)
        return scores[places_P.reshape(-1)]


class Pairs(NamedTuple):
    """Pairs of one seed, item rows of the Dataset, ``[P]`` each.

    ``(first[p], together[p])`` was taken together and ``(first[p], apart[p])`` was not, but where
    ``taken_together[p]`` says that it was and no other partner was found.
    """

    first: Rows
    together: Rows
    apart: Rows
    taken_together: npt.NDArray[np.bool_]

    def sides(self) -> Rows:
        """First and second item of all pairs, those taken together before the others, ``[2, 2 P]``."""
        firsts = np.concatenate([self.first, self.first])
        return np.stack([firsts, np.concatenate([self.together, self.apart])])


class Asked(NamedTuple):
    """The pairs of every seed, how they were found, and how often each item was trained on, ``[N]``."""

    kind: str
    pairs: list[Pairs]
    item_events: npt.NDArray[np.int64]


def similarity(
    scorers: Mapping[str, PairScorer | Sequence[PairScorer]], asked: Asked, reference: str | None = None
) -> pl.DataFrame:
    """Ask which of two pairs of items was taken together.

    Parameters
    ----------
    scorers
        By name, a sequence for several runs; :class:`VectorPairs` for embeddings. They must know nothing at
        or after the cut-off.
    asked
        What :func:`questions` made.
    reference
        Scorer that the others' differences are taken from, paired by item.

    Returns
    -------
    polars.DataFrame
        One row per ``scorer`` and ``part``: ``value`` is the AUC, mean over seeds, ``low`` to ``high`` its
        95 % bootstrap interval over items. ``part`` is ``all`` or a range of the second item's events.
        ``pairs`` that were taken together were counted in a seed on average, and as many that were not, of
        ``items`` in all seeds; ``unscored`` pairs were left out because the scorer does not know an item, and
        ``taken_together`` of those that should not have been were taken together all the same.
        ``difference`` from the reference with its paired interval, where both know the same pairs;
        ``per_seed`` holds the value of every seed, in order, and ``per_run`` the mean over the seeds that
        each run was asked (nothing where a seed has no pairs). Unknown values are null.
    """
    items = np.unique(np.concatenate([pairs.sides() for pairs in asked.pairs], axis=1))
    measured = [
        _measure(Key(name, part, "auc"), scores, asked, _second_item(asked, *events), items)
        for name, scores in ((name, _score_all(runs_of(one), asked)) for name, one in scorers.items())
        for part, events in PARTS.items()
    ]
    values_BM = np.stack([one.values_B for one in measured], axis=1)
    means_RM = resampled_means(values_BM)
    keys, estimates = [one.key for one in measured], estimate(values_BM, means_RM)
    compared = list(differences(keys, estimates, means_RM, reference))
    unscored = {(one.key.ranker, one.key.part): one.counts["unscored"] for one in measured}
    for place, one in enumerate(measured):
        if unscored.get((reference or "", one.key.part)) != one.counts["unscored"]:
            compared[place] = {}  # of other pairs, without the hard ones, say: no difference of the two
    rows = [
        {"task": f"item similarity, {asked.kind}", "scorer": one.key.ranker, "part": one.key.part}
        | {"metric": one.key.metric, "value": about.value, "low": about.low, "high": about.high}
        | one.counts
        | {"per_run": _per_run(one, asked, len(runs_of(scorers[one.key.ranker])))}
        | difference
        for one, about, difference in zip(measured, estimates, compared, strict=True)
    ]
    return pl.DataFrame(rows, schema=SCHEMA).fill_nan(None)


def questions(
    dataset: Dataset,
    cutoff: int,
    target_days: float = 30,
    seeds: Sequence[int] = SEEDS,
    item_events: npt.NDArray[np.int64] | None = None,
) -> Asked:
    """Draw pairs of items that were, and were not, taken together after the cut-off.

    Parameters
    ----------
    dataset
        Events with timestamps; of one action (``dataset.only_action("click")``) for pairs of that action.
    cutoff
        T in microseconds since 1970 UTC.
    target_days
        Days after the cut-off that are looked at.
    seeds
        One draw of pairs for each.
    item_events
        Events of every item of the Dataset that vectors were trained on, int64 ``[N]``. Without it, its
        events before the cut-off.

    Raises
    ------
    DataError
        If the data has no timestamps, or no user takes two items after the cut-off.
    """
    windows = cut(dataset, cutoff, 0, target_days)
    owners, events = expand_ranges(windows.target_start, windows.target_end)
    rows = dataset.item_rows[events].astype(np.int64)
    kind, groups = _taken_together(owners, dataset.times[events], rows)
    if not len(groups.items):
        raise DataError(
            f"no user takes two items in the {target_days:g} days after "
            f"{format_time(cutoff, dataset.time_kind)}",
            expected="users with two different items there",
            mend="choose another cut-off (--cutoff) or a longer target window (--target-days)",
        )
    if item_events is None:
        item_events = dataset.item_counts(cutoff)
    return Asked(kind, [_draw(groups, item_events, seed) for seed in seeds], item_events)


class _Groups(NamedTuple):
    """Items taken together: distinct items of groups of two or more, group by group."""

    groups: Rows
    items: Rows
    all_are_firsts: bool  # every item stands first once; otherwise only the first of a group does


def _taken_together(owners: Rows, times: npt.NDArray[np.int64], rows: Rows) -> tuple[str, _Groups]:
    """Baskets if a tenth of the events are in one, otherwise neighbouring events as groups of two."""
    starts = np.ones(len(rows), dtype=np.bool_)
    starts[1:] = (owners[1:] != owners[:-1]) | (times[1:] != times[:-1])
    width = int(rows.max(initial=0)) + 1
    baskets, items = np.divmod(np.unique((np.cumsum(starts) - 1) * width + rows), width)
    sizes = np.bincount(baskets, minlength=1)[baskets]
    shared = (sizes > 1) & (sizes <= MOST_IN_BASKET)
    if shared.sum() >= max(1, LEAST_BASKET_SHARE * len(items)):
        groups = np.unique(baskets[shared], return_inverse=True)[1]
        return BASKETS, _Groups(groups, items[shared], all_are_firsts=True)
    before = np.flatnonzero((owners[1:] == owners[:-1]) & (rows[1:] != rows[:-1]))
    both = np.stack([rows[before], rows[before + 1]], axis=1).reshape(-1)
    return NEIGHBOURS, _Groups(np.repeat(np.arange(len(before)), 2), both, all_are_firsts=False)


def _draw(groups: _Groups, item_events: npt.NDArray[np.int64], seed: int) -> Pairs:
    """Draw a partner of each first item's own, and exchange partners until none was taken together."""
    generator = np.random.default_rng(seed)
    places = np.arange(len(groups.items)) if groups.all_are_firsts else np.arange(0, len(groups.items), 2)
    if len(places) > MOST_PAIRS:
        places = generator.choice(places, MOST_PAIRS, replace=False)
    sizes = np.bincount(groups.groups)
    begin = (np.cumsum(sizes) - sizes)[groups.groups[places]]
    size = sizes[groups.groups[places]]
    steps = generator.integers(1, size)  # at least one place on, and never round to itself
    first, together = groups.items[places], groups.items[begin + (places - begin + steps) % size]
    relation = csr_array(
        (np.ones(len(groups.items), np.int32), (groups.items, groups.groups)), (len(item_events), len(sizes))
    )
    apart, taken_together = together.copy(), np.zeros(len(first), np.bool_)
    for fewest, most in list(PARTS.values())[1:]:  # within parts, so that first items match in each
        part = np.flatnonzero((item_events[together] >= fewest) & (item_events[together] <= most))
        apart[part], taken_together[part] = _apart(first[part], together[part], relation, generator)
    return Pairs(first, together, apart, taken_together)


def _apart(
    first: Rows, together: Rows, relation: csr_array, generator: np.random.Generator
) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """Join the same partners to other first items, hardly any taken together; and tell which were."""
    apart = generator.permutation(together)
    is_wrong = _related(first, apart, relation)
    for _ in range(EXCHANGES):
        right = np.flatnonzero(~is_wrong)
        wrong = generator.permutation(np.flatnonzero(is_wrong))[: len(right)]
        if not len(wrong):
            break
        other = generator.choice(right, len(wrong), replace=False)
        fit = ~_related(first[wrong], apart[other], relation) & ~_related(
            first[other], apart[wrong], relation
        )
        wrong, other = wrong[fit], other[fit]
        apart[wrong], apart[other] = apart[other], apart[wrong]
        is_wrong[wrong] = False
    return apart, is_wrong


def _related(first: Rows, second: Rows, relation: csr_array) -> npt.NDArray[np.bool_]:
    """Whether two items are the same, or share a group of the relation (items × groups), ``[P]``."""
    related = first == second
    for start in range(0, len(first), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        shared = relation[first[part]].multiply(relation[second[part]])
        related[part] |= np.asarray(shared.sum(axis=1)).reshape(-1) > 0
    return related


def _score_all(runs: Sequence[PairScorer], asked: Asked) -> list[npt.NDArray[np.floating]]:
    """Scores of the pairs of every seed: those taken together, then the others, ``[2 P]``."""
    return [runs[place % len(runs)].score(*pairs.sides()) for place, pairs in enumerate(asked.pairs)]


def _second_item(asked: Asked, fewest: int, most: int) -> list[npt.NDArray[np.bool_]]:
    """Whether the second item of every pair has so many training events, for every seed, ``[2 P]``."""
    chosen_N = (asked.item_events >= fewest) & (asked.item_events <= most)
    return [chosen_N[pairs.sides()[1]] for pairs in asked.pairs]


class _Measured(NamedTuple):
    """AUC of one scorer on one part as one number per item, ``[B]``, and what was counted."""

    key: Key
    values_B: npt.NDArray[np.float64]
    counts: dict[str, Any]


def _measure(
    key: Key,
    scores: list[npt.NDArray[np.floating]],
    asked: Asked,
    chosen: list[npt.NDArray[np.bool_]],
    items: Rows,
) -> _Measured:
    values, counted, pairs, unscored, wrong = [], [], [], [], []
    for score, chosen_P, drawn in zip(scores, chosen, asked.pairs, strict=True):
        known = np.isfinite(score) & chosen_P
        truth = np.arange(len(score)) < len(drawn.first)
        sides_2P = np.searchsorted(items, drawn.sides())[:, known]
        values.append(_by_item(truth[known], score[known], sides_2P, len(items)))
        counted.append(sides_2P.reshape(-1))
        pairs.append(int(truth[known].sum()))
        unscored.append(int((truth & chosen_P & ~known).sum()))
        wrong.append(int(drawn.taken_together[known[len(drawn.first) :]].sum()))
    counts = {
        "items": len(np.unique(np.concatenate(counted))),
        "pairs": round(float(np.mean(pairs))),
        "unscored": round(float(np.mean(unscored))),
        "taken_together": round(float(np.mean(wrong))),
        "per_seed": [float(value.mean()) for value in values if np.isfinite(value).all()],
    }
    return _Measured(key, np.mean(values, axis=0), counts)


def _per_run(measured: _Measured, asked: Asked, runs: int) -> list[float]:
    """Mean of every run; nothing where a seed has no value, for then the turns cannot be told."""
    per_seed = measured.counts["per_seed"]
    return means_of_runs(per_seed, runs) if len(per_seed) == len(asked.pairs) else []


def _by_item(
    truth_P: npt.NDArray[np.bool_], scores_P: npt.NDArray[np.floating], sides_2P: Rows, num_items: int
) -> npt.NDArray[np.float64]:
    """AUC as one number per item, ``[B]``: its mean is the AUC; NaN where there is nothing to tell apart.

    An item's influence is that of all pairs it stands in, on either side: to first order what happens to the
    AUC if items are drawn, and each pair counts as often as both its items together.
    """
    if truth_P.all() or not truth_P.any():
        return np.full(num_items, np.nan)
    values_P = auc(truth_P[:, None], scores_P[:, None])
    area = values_P.mean()
    influence_B = sum(np.bincount(side, values_P - area, num_items) for side in sides_2P)
    return area + influence_B * num_items / len(values_P)
