"""Answers for people: the best items of users, and the items nearest to an item.

Shapes: **B** queries, **C** vectors per user, **D** width, **k** answers per query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from polyvec.data.item_sets import ItemSets
from polyvec.data.split import cut, leave_last_out
from polyvec.embeddings import STATES, unit
from polyvec.errors import DataError, UsageError, nearest_name
from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.filters import allow_list, category_items, seen_items
from polyvec.retrieval.found import Filter, Found, Index
from polyvec.retrieval.habits import HabitualIndex, Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings, Side
    from polyvec.ids import RawId, Vocabulary

LIKE_IT = 1000  # ids looked through for one that was perhaps meant


@dataclass(frozen=True, eq=False)
class Ranking:
    """Answers to B queries, best first. Immutable.

    Attributes
    ----------
    kind
        What the queries are: ``user`` or ``item``.
    ids
        Raw ids of the queries.
    states
        How each query was known when it was encoded: one of :data:`polyvec.embeddings.STATES`.
    found
        Rows of ``items``, scores and the query's vector that matched, ``[B, k]`` each.
    items
        The items that rows refer to, with their states.
    """

    kind: Literal["user", "item"]
    ids: list[RawId]
    states: list[str]
    found: Found
    items: Side

    def table(self) -> pl.DataFrame:
        """One row per answer: the query and its state, rank from 1, item and state, score, vector from 0."""
        queries, places = np.nonzero(self.found.rows >= 0)
        rows = self.found.rows[queries, places]
        query_ids = pl.Series(self.ids, dtype=None if self.ids else pl.String)
        return pl.DataFrame(
            {
                "user_id" if self.kind == "user" else "query_item_id": query_ids.gather(queries),
                "state": pl.Series(self.states, dtype=pl.String).gather(queries),
                "rank": places + 1,
                "item_id": self.items.ids.take(rows),
                "item_state": pl.Series(STATES).gather(self.items.state[rows]),
                "score": self.found.scores[queries, places],
                "vector": self.found.vectors[queries, places],
            }
        )


def recommend(
    embeddings: Embeddings,
    user_ids: Sequence[RawId],
    k: int = 10,
    *,
    index: Index | None = None,
    allow: Sequence[RawId] | None = None,
    not_seen: bool = False,
    category: str | None = None,
    dataset: Dataset | None = None,
    habits: bool = False,
) -> Ranking:
    """Find the k best items of users by the max over each user's vectors.

    Parameters
    ----------
    embeddings
        Users and items.
    user_ids
        Raw ids.
    k
        Items per user; fewer come back where filters leave fewer.
    index
        An index over ``embeddings.unit_items()``; exact search without it.
    allow
        Raw ids of the only items that may be returned; an empty list returns nothing.
    not_seen
        Leave out the items of each user's events in ``dataset``.
    category
        Return only items of this category of ``dataset``.
    dataset
        Needed for ``not_seen``, ``category`` and ``habits``.
    habits
        Raise each user's own items and what sells now in ``dataset``, with the weights that the embeddings
        bring along: see :mod:`polyvec.retrieval.habits`. ``index`` is then not used.

    Returns
    -------
    Ranking

    Raises
    ------
    DataError
        If a user is unknown; the text names an id that was perhaps meant.
    UsageError
        If k is below 1, a filter needs a Dataset, or no item has the category.
    """
    rows = known_rows(embeddings.users.ids, user_ids)
    only = _filter(embeddings.items.ids, user_ids, allow, not_seen, category, dataset)
    users_BCD = query_vectors(embeddings, rows)
    if habits:
        found = _habitual(embeddings, user_ids, users_BCD, k, only, dataset)
    else:
        found = (index or ExactIndex(embeddings.unit_items())).search(users_BCD, k, only)
    return Ranking(
        "user",
        list(user_ids),
        [STATES[code] for code in embeddings.users.state[rows]],
        found,
        embeddings.items,
    )


def _habitual(
    embeddings: Embeddings,
    user_ids: Sequence[RawId],
    users_BCD: npt.NDArray[np.float32],
    k: int,
    only: Filter,
    dataset: Dataset | None,
) -> Found:
    """Search with the weights and at the moment that the embeddings tell."""
    made = embeddings.provenance
    if not made.get("habits") or not {"events_until", "history_days"} <= made.keys():
        raise UsageError(
            "these embeddings tell no weights of habits",
            expected="embeddings of a GUIM, made by polyvec embed",
            mend="leave out --habits",
        )
    if dataset is None:
        raise UsageError(
            "habits are seen in the events",
            expected="the Dataset that holds them",
            mend="give the Dataset: --dataset shop.dataset",
        )
    purchases = dataset.only_action()
    if purchases.time_kind == "order":
        windows = leave_last_out(purchases, made["held_back"], targets=0)
    else:
        windows = cut(purchases, made["events_until"], made["history_days"], target_days=0)
    index = HabitualIndex(embeddings, purchases, windows, Weights(**made["habits"]))
    return index.search(users_BCD, purchases.users.rows(user_ids), k, only)


def search(embeddings: Embeddings, item_id: RawId, k: int = 10, *, index: Index | None = None) -> Ranking:
    """Find the k items nearest to an item (itself left out) by the embeddings' cosine or dot product.

    Parameters
    ----------
    embeddings
        Items; users are not looked at.
    item_id
        Raw id.
    k
        Items wanted.
    index
        An index over ``embeddings.unit_items()``; exact search without it.

    Raises
    ------
    DataError
        If the item is unknown.
    UsageError
        If k is below 1.
    """
    rows = known_rows(embeddings.items.ids, [item_id])
    items_ND = embeddings.unit_items()
    itself = ItemSets.from_pairs(np.zeros(1, np.int64), rows, 1, len(items_ND))
    found = (index or ExactIndex(items_ND)).search(items_ND[rows][:, None, :], k, Filter(excluded=itself))
    states = [STATES[embeddings.items.state[rows[0]]]]
    return Ranking("item", [item_id], states, found, embeddings.items)


def query_vectors(embeddings: Embeddings, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Vectors of some users, ready for dot products, ``[B, C, D]``: only these rows are converted."""
    vectors_BCD = embeddings.users.vectors[rows]
    if embeddings.score == "max_cosine":
        return unit(vectors_BCD)
    return np.asarray(vectors_BCD, dtype=np.float32)


def known_rows(vocabulary: Vocabulary, ids: Sequence[RawId]) -> npt.NDArray[np.int64]:
    """Row of every id.

    Raises
    ------
    DataError
        If an id is unknown, naming one that was perhaps meant and what ids look like here.
    """
    rows = vocabulary.rows(ids)
    if (rows >= 0).all():
        return rows
    unknown = ids[int(np.argmin(rows))]
    raise DataError(
        f"{vocabulary.name} {unknown!r} is not among the {len(vocabulary):,} of these embeddings",
        column=vocabulary.name,
        expected=_looks_like(vocabulary, str(unknown)),
        mend="give an id as the event log has it, or encode the user or item first: polyvec embed",
    )


def _looks_like(vocabulary: Vocabulary, unknown: str) -> str:
    """Say which id was perhaps meant, and show what ids look like."""
    texts = vocabulary.series.cast(pl.String)
    alike = texts.filter(texts.str.starts_with(unknown[:2]) | texts.str.ends_with(unknown)).head(LIKE_IT)
    hint = nearest_name(unknown, alike)
    examples = ", ".join(repr(known) for known in vocabulary.series.head(3).to_list())
    return f"ids such as {examples}" + (f"; {hint}" if hint.startswith("did") else "")


def _filter(
    items: Vocabulary,
    user_ids: Sequence[RawId],
    allow: Sequence[RawId] | None,
    not_seen: bool,
    category: str | None,
    dataset: Dataset | None,
) -> Filter:
    if dataset is None:
        if not_seen or category is not None:
            raise UsageError(
                "leaving out seen items and choosing a category need a Dataset",
                mend="give the Dataset that holds the events and the catalogue: --dataset shop.dataset",
            )
        return Filter(None if allow is None else allow_list(allow, items))
    masks = [] if allow is None else [allow_list(allow, items)]
    if category is not None:
        masks.append(category_items(dataset, category, items))
    return Filter(
        np.logical_and.reduce(masks) if masks else None,
        seen_items(dataset, user_ids, items) if not_seen else None,
    )
