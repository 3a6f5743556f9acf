"""What DUPN's networks take: samples of several tasks as tensors, and how large the tables must be.

Letters: B samples, T events of all their histories, M distinct items, F fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """What the data has.

    Attributes
    ----------
    items
        Rows of every field of the item, its id first; row 0 stands for what is not known.
    words
        Title words.
    events
        Rows of every property of an event but its time.
    has_times
        Whether events have times.
    users
        Rows of every field of the user.
    query
        Words of queries.
    tags
        Rows of every field of the item that holds lists.
    """

    items: dict[str, int]
    words: int
    events: dict[str, int]
    has_times: bool
    users: dict[str, int]
    query: int
    tags: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Items:
    """Fields of M items.

    Attributes
    ----------
    codes
        Rows of every field, ``[M, F]``.
    words, offsets
        Title words one item after the other, and where each item's begin ``[M]``.
    expected
        How often each is expected in a batch of the plan, float ``[M]``.
    tags
        Words and offsets of every field that holds lists.
    """

    codes: Tensor
    words: Tensor
    offsets: Tensor
    expected: Tensor
    tags: tuple[tuple[Tensor, ...], ...] = ()


@dataclass(frozen=True)
class Batch:
    """Samples as tensors, those of one task after those of another.

    Attributes
    ----------
    items
        The distinct items.
    lengths
        Events of every history, int64 ``[B]``, on the CPU.
    history, owners
        Item and sample of every event, int64 ``[T]``.
    properties
        Rows of every event's properties, ``[T, F]``; of its time the last two.
    users
        Rows of the fields of the user, ``[B, F]``.
    words, word_offsets
        Words of the queries, and where those of each sample begin ``[B]``.
    candidates
        The item that is asked about, ``[B]``; −1 for none.
    entities
        The entity that is asked about, ``[B]``; −1 for none.
    answers
        0 or 1, or a class, or the item's row; int64 ``[B]``.
    weights
        Of the samples, float ``[B]``.
    numbers
        Of the items, by task, ``[samples of the task, n]``.
    sizes
        Samples of every task.
    """

    items: Items
    lengths: Tensor
    history: Tensor
    owners: Tensor
    properties: Tensor
    users: Tensor
    words: Tensor
    word_offsets: Tensor
    candidates: Tensor
    entities: Tensor
    answers: Tensor
    weights: Tensor
    numbers: dict[str, Tensor] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def num_tokens(self) -> int:
        """Events that are looked at."""
        return len(self.history)

    @property
    def slices(self) -> dict[str, slice]:
        """Where the samples of every task lie."""
        found, at = {}, 0
        for name, size in self.sizes.items():
            found[name], at = slice(at, at + size), at + size
        return found
