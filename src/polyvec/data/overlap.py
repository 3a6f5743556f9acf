"""How far Embeddings and a Dataset speak of the same users and items: a join must never be empty unseen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvec.errors import DataError

if TYPE_CHECKING:
    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings
    from polyvec.ids import Vocabulary

NO_ITEMS = "the embeddings have no items"


@dataclass(frozen=True)
class Overlap:
    """Users and items of a Dataset that have vectors.

    Attributes
    ----------
    users, items
        How many.
    user_share, item_share
        Of all users and items of the Dataset, 0 to 1 (1 of none).
    notes
        What a person should know: what has no vectors, and ids of different types.
    """

    users: int
    items: int
    user_share: float
    item_share: float
    notes: tuple[str, ...]


def check_overlap(embeddings: Embeddings, dataset: Dataset) -> Overlap:
    """Count the users and items of a Dataset that have vectors, and refuse none at all.

    Ids are joined exactly. Integers and text meet where they are written alike: ``7`` and ``"7"``, never
    ``7`` and ``"007"``. Embeddings without any item (vectors of users alone) are let through.

    Raises
    ------
    DataError
        If no user has vectors, or no item has although the embeddings have items; shows ids of both.
    """
    users = _count(embeddings.users.ids, dataset.users)
    items = _count(embeddings.items.ids, dataset.items) if len(embeddings.items) else 0
    notes = [*_notes(embeddings.users.ids, dataset.users, users, "users")]
    if len(embeddings.items):
        notes += _notes(embeddings.items.ids, dataset.items, items, "items")
    else:
        notes.append(NO_ITEMS)
    return Overlap(
        users, items, users / max(len(dataset.users), 1), items / max(len(dataset.items), 1), tuple(notes)
    )


def _count(made: Vocabulary, wanted: Vocabulary) -> int:
    found = int((made.rows(wanted.series) >= 0).sum())
    if not found and len(wanted):
        raise DataError(
            f"none of the {len(wanted):,} ids of {wanted.name} in the Dataset has a vector",
            column=wanted.name,
            expected=f"ids as in the Dataset, {_examples(wanted)}; the embeddings have {_examples(made)}",
            mend="give the vectors the ids of the event log, exactly as they stand there: '007' is not 7",
        )
    return found


def _notes(made: Vocabulary, wanted: Vocabulary, found: int, what: str) -> list[str]:
    notes = []
    if made.is_text != wanted.is_text:
        notes.append(
            f"{wanted.name}s are {_kind(made)} in the embeddings and {_kind(wanted)} in the Dataset: "
            "7 is taken as '7', and never as '007'"
        )
    if found < len(wanted):
        missing = len(wanted) - found
        share = missing / len(wanted)
        notes.append(
            f"{missing:,} of the {len(wanted):,} {what} of the Dataset ({share:.1%}) have no vectors"
        )
    return notes


def _examples(ids: Vocabulary) -> str:
    shown = ", ".join(repr(known) for known in ids.series.head(3).to_list())
    return f"{_kind(ids)} such as {shown}" if shown else "none"


def _kind(ids: Vocabulary) -> str:
    return "text" if ids.is_text else "integers"
