"""A join of Embeddings and a Dataset is never empty unseen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from polyvec.data.dataset import Dataset
from polyvec.data.overlap import NO_ITEMS, check_overlap
from polyvec.embeddings import Embeddings
from polyvec.errors import DataError


def vectors_of(users: list[Any], items: list[Any]) -> Embeddings:
    return Embeddings.from_arrays(users, np.ones((len(users), 2)), items, np.ones((len(items), 2)))


def shop(users: list[Any], items: list[Any]) -> Dataset:
    return Dataset.from_rows([(user, item, 1) for user in users for item in items])


def test_full_overlap_needs_no_note() -> None:
    overlap = check_overlap(vectors_of(["b", "a"], [3, 1, 2]), shop(["a", "b"], [1, 2]))
    assert (overlap.users, overlap.items) == (2, 2)
    assert (overlap.user_share, overlap.item_share) == (1, 1)
    assert overlap.notes == ()


def test_what_is_missing_is_counted() -> None:
    overlap = check_overlap(vectors_of(["a"], [1, 2, 9]), shop(["a", "b", "c", "d"], [1, 2]))
    assert (overlap.user_share, overlap.item_share) == (0.25, 1)
    assert overlap.notes == ("3 of the 4 users of the Dataset (75.0%) have no vectors",)


def test_integers_and_text_meet_where_they_are_written_alike() -> None:
    overlap = check_overlap(vectors_of([7, 12], ["1", "02"]), shop(["007", "12"], [1, 2]))
    assert (overlap.users, overlap.items) == (1, 1)
    assert overlap.notes[0].startswith("user_ids are integers in the embeddings and text in the Dataset")
    assert overlap.notes[2].startswith("item_ids are text in the embeddings and integers in the Dataset")


@pytest.mark.parametrize(
    ("users", "items", "what", "shown"),
    [
        (
            ["u1 "],
            [1],
            "none of the 2 ids of user_id",
            "text such as 'u1', 'u2'; the embeddings have text such as 'u1 '",
        ),
        ([1, 2], [1], "none of the 2 ids of user_id", "the embeddings have integers such as 1, 2"),
        ([], [1], "none of the 2 ids of user_id", "the embeddings have none"),
        (
            ["u1"],
            [10],
            "none of the 2 ids of item_id",
            "integers such as 1, 2; the embeddings have integers such as 10",
        ),
    ],
)
def test_no_overlap_is_refused_and_ids_of_both_are_shown(
    users: list[Any], items: list[Any], what: str, shown: str
) -> None:
    with pytest.raises(DataError, match=what) as caught:
        check_overlap(vectors_of(users, items), shop(["u1", "u2"], [1, 2]))
    assert shown in caught.value.expected


def test_users_alone_are_let_through_with_a_note() -> None:
    overlap = check_overlap(vectors_of(["a"], []), shop(["a"], [1]))
    assert (overlap.items, overlap.item_share) == (0, 0)
    assert overlap.notes == (NO_ITEMS,)
