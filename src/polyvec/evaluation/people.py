"""Some users and items to look at: numbers alone do not show whether vectors make sense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polyvec.data.dataset import format_time
from polyvec.data.item_sets import ItemSets
from polyvec.embeddings import STATES
from polyvec.evaluation.mixture import wins
from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.found import Filter
from polyvec.retrieval.ranking import query_vectors

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows
    from polyvec.embeddings import Embeddings

SHOWN_USERS = 6
SHOWN_ITEMS = 6
LATEST = 8
NEAREST = 6
LEAST_EVENTS = 5  # an item with fewer events is not shown among the items


def some_users(embeddings: Embeddings, dataset: Dataset, windows: Windows, seed: int) -> list[dict[str, Any]]:
    """Describe users spread over history lengths: latest purchases, and the nearest items of each vector.

    Parameters
    ----------
    embeddings
        Vectors.
    dataset
        Purchases, titles and dates.
    windows
        One per user of the Dataset, in row order; only history is shown.
    seed
        Of the choice.
    """
    lengths = windows.history_end - windows.history_start
    known = embeddings.users.ids.rows(dataset.users.series)
    candidates = np.flatnonzero((lengths > 0) & (known >= 0))
    chosen = _spread(candidates, lengths[candidates], SHOWN_USERS, seed)
    history = ItemSets.of_events(dataset, windows.history_start, windows.history_end)
    wins_UC = wins(embeddings, dataset, history)
    index = ExactIndex(embeddings.unit_items())
    cards = []
    for user in chosen:
        events = np.arange(windows.history_start[user], windows.history_end[user])
        bought = set(history.select(np.array([user])).items.tolist())
        cards.append(
            {
                "user_id": dataset.users.ids([user])[0],
                "state": STATES[embeddings.users.state[known[user]]],
                "events": len(events),
                "latest": [_purchase(dataset, int(event)) for event in events[::-1][:LATEST]],
                "vectors": _vectors(embeddings, dataset, index, int(known[user]), wins_UC[user], bought),
            }
        )
    return cards


def some_items(
    embeddings: Embeddings, dataset: Dataset, until: int | None, seed: int
) -> list[dict[str, Any]]:
    """Describe items spread over popularity before ``until`` (None: all time), each with its nearest."""
    counts = dataset.item_counts(until)
    known = embeddings.items.ids.rows(dataset.items.series)
    candidates = np.flatnonzero((counts >= LEAST_EVENTS) & (known >= 0))
    chosen = _spread(candidates, counts[candidates], SHOWN_ITEMS, seed)
    items_ND = embeddings.unit_items()
    rows = known[chosen]
    itself = ItemSets.from_pairs(np.arange(len(rows)), rows, len(rows), len(items_ND))
    found = ExactIndex(items_ND).search(items_ND[rows][:, None, :], NEAREST, Filter(excluded=itself))
    return [
        _named(dataset, dataset.items.ids([item])[0])
        | {"events": int(counts[item]), "nearest": _nearest(embeddings, dataset, near, scores, set())}
        for item, near, scores in zip(chosen, found.rows, found.scores, strict=True)
    ]


def _spread(
    candidates: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], number: int, seed: int
) -> npt.NDArray[np.int64]:
    """Draw one candidate from each of as many equal bands of size, smallest first."""
    generator = np.random.default_rng(seed)
    bands = np.array_split(candidates[np.argsort(sizes, kind="stable")], number)
    return np.array([generator.choice(band) for band in bands if len(band)], dtype=np.int64)


def _vectors(
    embeddings: Embeddings,
    dataset: Dataset,
    index: ExactIndex,
    row: int,
    wins_C: npt.NDArray[np.int64],
    bought: set[int],
) -> list[dict[str, Any]]:
    """Each vector's share of the user's own items, and its nearest items."""
    vectors_C1D = query_vectors(embeddings, np.array([row]))[0][:, None, :]
    found = index.search(vectors_C1D, NEAREST)
    return [
        {
            "vector": vector,
            "share": float(won / max(wins_C.sum(), 1)),
            "nearest": _nearest(embeddings, dataset, rows, scores, bought),
        }
        for vector, (won, rows, scores) in enumerate(zip(wins_C, found.rows, found.scores, strict=True))
    ]


def _nearest(
    embeddings: Embeddings,
    dataset: Dataset,
    rows: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    bought: set[int],
) -> list[dict[str, Any]]:
    """Name the items found, with their scores and whether they are among these rows of the Dataset."""
    ids = embeddings.items.ids.take(rows[rows >= 0])
    return [
        _named(dataset, item_id) | {"score": float(score), "bought": row in bought}
        for item_id, row, score in zip(ids, dataset.items.rows(ids).tolist(), scores, strict=False)
    ]


def _purchase(dataset: Dataset, event: int) -> dict[str, Any]:
    when = format_time(int(dataset.times[event]), dataset.time_kind)
    return _named(dataset, dataset.items.ids([dataset.item_rows[event]])[0]) | {"when": when[:10]}


def _named(dataset: Dataset, item_id: Any) -> dict[str, Any]:
    """Id and title of an item; the title is None where there is none."""
    row = int(dataset.items.rows([item_id])[0])
    titled = row >= 0 and "title" in dataset.item_table.columns
    return {"item_id": item_id, "title": dataset.item_table["title"][row] if titled else None}
