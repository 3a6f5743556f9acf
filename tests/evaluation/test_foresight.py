"""What vectors know of items first sold after the cut-off."""

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.embeddings import Embeddings
from polyvec.evaluation.foresight import foresight, foresight_note

T = 100 * DAY
USERS, OLD, NEW = 60, 20, 12


@pytest.fixture(scope="module")
def shop():
    """Users of two tastes, who take two new items of their taste after the cut-off; and the tastes."""
    generator = np.random.default_rng(0)
    tastes = generator.integers(0, 2, USERS)
    rows = []
    for user, taste in enumerate(tastes):
        rows += [(user, int(item), int(item) * DAY) for item in generator.choice(OLD, 5, replace=False)]
        new = OLD + 2 * generator.choice(NEW // 2, 2, replace=False) + taste
        rows += [(user, int(item), T + DAY) for item in new]
    return Dataset.from_rows(rows, pl.DataFrame({"item_id": np.arange(OLD + NEW)})), tastes


def embeddings(users, items, item_ids=None, score="max_dot", **provenance):
    ids = list(range(len(items))) if item_ids is None else item_ids
    told = {"system": "mine", **provenance}
    return Embeddings.from_arrays(list(range(len(users))), users, ids, items, score, told)


def of_tastes(tastes, noise, seed=0):
    generator = np.random.default_rng(seed)
    directions = np.eye(2)
    users = directions[tastes] + noise * generator.normal(size=(USERS, 2))
    return users, directions[np.arange(OLD + NEW) % 2] + noise * generator.normal(size=(OLD + NEW, 2))


def exhaustively(made, dataset):
    """Every couple, by the letter: the share in which both are given their own item."""
    scores = np.einsum("ucd,nd->unc", made.unit_users(), made.unit_items()).max(axis=2)
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    late = dataset.times >= T
    pairs = set(zip(owners[late].tolist(), dataset.item_rows[late].tolist(), strict=True))
    gains = [
        scores[u, i] + scores[v, j] - scores[u, j] - scores[v, i]
        for u, i in pairs
        for v, j in pairs
        if (u, j) not in pairs and (v, i) not in pairs
    ]
    return ((np.sign(gains) + 1) / 2).mean()


@pytest.mark.parametrize("score", ["max_dot", "max_cosine"])
@pytest.mark.parametrize("noise", [0.4, 1.0])
def test_it_is_what_all_couples_say(shop, noise, score):
    dataset, tastes = shop
    users, items = of_tastes(tastes, noise)
    two = np.stack([users, np.random.default_rng(5).normal(size=users.shape) * 0.3], axis=1)
    made = embeddings(two, items, score=score)
    found = foresight(made, dataset, T)
    assert found.share.value == pytest.approx(exhaustively(made, dataset), abs=0.02)
    assert found.items == NEW
    assert found.share.users == USERS


def test_vectors_that_know_the_future_are_told_from_those_that_do_not(shop):
    dataset, tastes = shop
    assert (
        foresight(embeddings(*of_tastes(tastes, 0.1)), dataset, T).share.low > 0.75
    )  # half are of one taste


def test_the_interval_of_vectors_that_know_nothing_holds_one_half(shop):
    dataset, _ = shop
    held = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        made = embeddings(generator.normal(size=(USERS, 8)), generator.normal(size=(OLD + NEW, 8)))
        share = foresight(made, dataset, T).share
        held += share.low <= 0.5 <= share.high
    assert held >= 54


def test_activity_and_popularity_are_no_knowledge_of_the_future(shop):
    dataset, _ = shop
    generator = np.random.default_rng(1)
    activity, popularity = generator.random(USERS), generator.random(OLD + NEW)
    users = np.stack([activity, np.ones(USERS)], axis=1)
    items = np.stack([np.ones(OLD + NEW), popularity], axis=1)  # the score is activity + popularity
    assert foresight(embeddings(users, items), dataset, T).share.value == pytest.approx(0.5, abs=0.1)
    alike = np.ones((OLD + NEW, 2))
    assert foresight(embeddings(users, alike), dataset, T).share.value == 0.5


def test_vectors_of_no_new_item_or_of_few_users_are_not_asked(shop):
    dataset, tastes = shop
    users, items = of_tastes(tastes, 0.1)
    assert foresight(embeddings(users, items[:OLD]), dataset, T) is None
    assert foresight(embeddings(users[:19], items), dataset, T) is None
    assert foresight(embeddings(users, items), dataset, T + 40 * DAY) is None


def test_an_item_that_was_sold_before_is_not_new(shop):
    dataset, tastes = shop
    made = embeddings(*of_tastes(tastes, 0.1))
    assert foresight(made, dataset, T, target_days=1) is None  # the first day has no sales yet
    assert foresight(made, dataset, T + DAY + 1, 30) is None  # all were sold by then


def test_the_note_is_for_vectors_made_elsewhere(shop):
    dataset, tastes = shop
    users, items = of_tastes(tastes, 0.1)
    (note,) = foresight_note(embeddings(users, items), dataset, T, 30)
    assert note.startswith(
        "it knows who will take which of 12 items first sold after the cut-off (right in 0.8"
    )
    assert note.endswith("from a description of these items, or from the future")
    assert foresight_note(embeddings(users, items, model="fingerprint"), dataset, T, 30) == []
