"""Do vectors know what nobody could know at the cut-off? A look at the items first sold after it.

What vectors were made from, their provenance tells; of vectors made elsewhere nobody can tell whether that is
true. But before the cut-off nothing has happened to an item that was first sold after it. Vectors that were
learned from events alone cannot know which of two users will take which of two such items.

They can if they were made from a description of the items. So what is measured here is a reason to ask and no
proof: it becomes a note, and no refusal.

Shapes: **P** pairs of a user and a new item that the user took, **Q** couples of such pairs, **B** users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from polyvec.data.item_sets import ItemSets, expand_ranges
from polyvec.data.split import cut
from polyvec.embeddings import unit
from polyvec.evaluation.metrics import Estimate, estimate, resampled_means
from polyvec.evaluation.trials import LEAST_USERS
from polyvec.retrieval.ranking import query_vectors

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings

    Rows = npt.NDArray[np.int64]

COUPLES = 20_000
CHANCE = 0.5


class Foresight(NamedTuple):
    """How often each of two users is given the new item that is theirs, and how many items are new."""

    share: Estimate
    items: int


def foresight(
    embeddings: Embeddings, dataset: Dataset, cutoff: int, target_days: float = 30, seed: int = 0
) -> Foresight | None:
    """Ask which of two users will take which of two items that nobody took before the cut-off.

    For a user u who took i and a user v who took j, and neither the other's item, the vectors are right if
    s(u, i) + s(v, j) is above s(u, j) + s(v, i), and half right if it equals it. Whatever the scores say of a
    user or of an item by itself (activity, popularity) cancels, so that 0.5 is what can be known without a
    description of the items.

    Parameters
    ----------
    embeddings
        Of any origin.
    dataset
        Purchases with timestamps; "before" is all of it, not a window.
    cutoff
        T in microseconds since 1970 UTC.
    target_days
        Days after the cut-off that are looked at.
    seed
        Of the couples and of the bootstrap.

    Returns
    -------
    Foresight or None
        Share of the couples in which the vectors are right, with its 95 % bootstrap interval over users; None
        if fewer than 20 users can be asked about: few take a new item, or it has no vector, as befits vectors
        that were learned from events alone.
    """
    taken = _new_items_taken(embeddings, dataset, cutoff, target_days)
    own_Q, other_Q = _couples(taken, seed)
    sides_2Q = taken.owners[np.stack([own_Q, other_Q])]
    if len(np.unique(sides_2Q)) < LEAST_USERS:
        return None
    values_B1 = _by_user(_right(embeddings, taken, own_Q, other_Q), sides_2Q)[:, None]
    share = estimate(values_B1, resampled_means(values_B1, seed))[0]
    return Foresight(share, len(np.unique(taken.items[own_Q])))


def foresight_note(embeddings: Embeddings, dataset: Dataset, cutoff: int, target_days: float) -> list[str]:
    """Say so if vectors made elsewhere know who will take what is new.

    Of vectors that polyvec made it is known what they were made from, and nothing is said here:
    :func:`polyvec.evaluation.tasks.matching.check_no_leak` has refused those that know the future.
    """
    if embeddings.provenance.get("model") is not None:
        return []
    found = foresight(embeddings, dataset, cutoff, target_days)
    if found is None or found.share.low <= CHANCE:
        return []
    share = found.share
    return [
        f"it knows who will take which of {found.items} items first sold after the cut-off (right in "
        f"{share.value:.2f} of cases, 95 % interval {share.low:.2f} to {share.high:.2f}, chance {CHANCE}): "
        "from a description of these items, or from the future"
    ]


def _new_items_taken(embeddings: Embeddings, dataset: Dataset, cutoff: int, target_days: float) -> ItemSets:
    """Rows of the new items that each user took, sets and members being rows of the embeddings.

    New is what nobody took before the cut-off; users without a history, and whoever has no vector, are left
    out.
    """
    windows = cut(dataset, cutoff, None, target_days)
    owners, events = expand_ranges(windows.target_start, windows.target_end)
    is_new_N = dataset.item_counts(cutoff) == 0
    has_history_U = windows.history_end > windows.history_start
    kept = is_new_N[dataset.item_rows[events]] & has_history_U[owners]
    users = embeddings.users.ids.rows(dataset.users.series)[owners[kept]]
    items = embeddings.items.ids.rows(dataset.items.series)[dataset.item_rows[events[kept]]]
    both = (users >= 0) & (items >= 0)
    return ItemSets.from_pairs(users[both], items[both], len(embeddings.users), len(embeddings.items))


def _couples(taken: ItemSets, seed: int) -> tuple[Rows, Rows]:
    """Pairs joined at random, both users strangers to the other's item: places of the pairs, ``[Q]`` each."""
    generator = np.random.default_rng(seed)
    num_pairs = len(taken.items)
    own, other = generator.integers(0, max(num_pairs, 1), (2, COUPLES if num_pairs else 0))
    strangers = ~taken.contains_pairs(taken.owners[own], taken.items[other])
    strangers &= ~taken.contains_pairs(taken.owners[other], taken.items[own])
    return own[strangers], other[strangers]


def _right(embeddings: Embeddings, taken: ItemSets, own_Q: Rows, other_Q: Rows) -> npt.NDArray[np.float64]:
    """1 where the vectors give both users their own items, 0 where the other's, 0.5 where they cannot say."""
    users, items = taken.owners, taken.items
    gain_Q = np.zeros(len(own_Q))
    for mine, others in ((own_Q, other_Q), (other_Q, own_Q)):
        gain_Q += _scores(embeddings, users[mine], items[mine])
        gain_Q -= _scores(embeddings, users[mine], items[others])
    return (1 + np.sign(gain_Q)) / 2


def _by_user(right_Q: npt.NDArray[np.float64], sides_2Q: Rows) -> npt.NDArray[np.float64]:
    """Share of right couples as one number per user, whose mean it is, ``[B]``.

    A user's influence is that of all couples that the user stands in, on either side: an interval that drew
    first users alone would be half as wide, for the second ones are shared as well.
    """
    users, places = np.unique(sides_2Q, return_inverse=True)
    share = right_Q.mean()
    influence_B = np.bincount(places.reshape(-1), np.tile(right_Q - share, 2), len(users))
    return np.asarray(share + influence_B * len(users) / len(right_Q))


def _scores(embeddings: Embeddings, user_rows: Rows, item_rows: Rows) -> npt.NDArray[np.float64]:
    """Score of every user with the item beside it, ``[Q]``."""
    users_QCD = query_vectors(embeddings, user_rows)
    items_QD = embeddings.items.vectors[item_rows]
    items_QD = unit(items_QD) if embeddings.score == "max_cosine" else items_QD
    return np.einsum("qcd,qd->qc", users_QCD, items_QD).max(axis=1).astype(np.float64)
