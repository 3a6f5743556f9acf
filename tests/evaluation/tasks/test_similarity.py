"""Item similarity on baskets whose kinds are planted."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array
from sklearn.metrics import roc_auc_score

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.embeddings import Embeddings
from polyvec.errors import DataError
from polyvec.evaluation.tasks.similarity import (
    BASKETS,
    NEIGHBOURS,
    Asked,
    CountedPairs,
    Pairs,
    VectorPairs,
    questions,
    similarity,
)

T = 100 * DAY
ITEMS, KINDS = 120, 4
NAMES = [f"i{item:03d}" for item in range(ITEMS)]
WEIGHTS = 1 / np.arange(1, ITEMS // KINDS + 1)  # few items are popular


def shop(seed=0, baskets=True, users=200):
    """Each user takes, before and after T, items of one kind; item i is of kind i mod KINDS."""
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for day in generator.choice(np.arange(60, 130), 4, replace=False):
            kind = int(generator.integers(0, KINDS))
            chosen = generator.choice(ITEMS // KINDS, 4, replace=False, p=WEIGHTS / WEIGHTS.sum())
            for place, item in enumerate(KINDS * chosen + kind):
                rows.append((f"u{user}", NAMES[item], int(day) * DAY + (0 if baskets else place)))
    return Dataset.from_rows(rows, pl.DataFrame({"item_id": NAMES}))


@pytest.fixture(scope="module")
def dataset():
    return shop()


@pytest.fixture(scope="module")
def asked(dataset):
    return questions(dataset, T, seeds=(0, 1))


def embeddings(vectors, ids=NAMES):
    return Embeddings.from_arrays(["u"], np.ones((1, vectors.shape[1])), ids, vectors)


def kinds(noise, seed=0):
    generator = np.random.default_rng(seed)
    return np.eye(KINDS)[np.arange(ITEMS) % KINDS] + generator.normal(size=(ITEMS, KINDS)) * noise


class Scores:
    """Scores a pair by a function of the item rows."""

    def __init__(self, function):
        self.function = function

    def score(self, first_rows, second_rows):
        return np.asarray(self.function(first_rows, second_rows), float)


def rows(table, part="all"):
    return {row["scorer"]: row for row in table.filter(pl.col("part") == part).to_dicts()}


def test_counting_is_the_cosine_of_the_users_who_had_both(monkeypatch):
    monkeypatch.setattr("polyvec.evaluation.tasks.similarity.USERS_AT_ONCE", 4)
    histories_UN = csr_array(np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]], np.float32))
    first, second = np.array([0, 0, 1, 0, 3, 0]), np.array([1, 2, 2, 3, 3, 1])
    scores = CountedPairs(histories_UN).score(first, second)
    expected = [2 / 6**0.5, 1 / 3**0.5, 1 / 2**0.5, 0, 0, 2 / 6**0.5]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert len(CountedPairs(histories_UN).score(first[:0], second[:0])) == 0


def test_planted_kinds_are_found_noise_and_popularity_score_one_half(dataset, asked):
    counts = dataset.item_counts()
    noise = np.random.default_rng(1).normal(size=(ITEMS, 8))
    scorers = {
        "kinds": VectorPairs(embeddings(kinds(0.2)), dataset),
        "noise": VectorPairs(embeddings(noise), dataset),
        "popularity of the second": Scores(lambda _, second: counts[second]),
        "popularity of the first": Scores(lambda first, _: counts[first]),
    }
    table = rows(similarity(scorers, asked, reference="noise"))
    assert asked.kind == BASKETS
    assert table["kinds"]["value"] > 0.9
    assert table["kinds"]["difference_low"] > 0.3
    assert table["noise"]["difference"] is None
    assert table["noise"]["value"] == pytest.approx(0.5, abs=0.06)
    assert table["noise"]["low"] < 0.5 < table["noise"]["high"]
    parts = similarity(scorers, asked).filter(pl.col("scorer").str.starts_with("popularity"))["value"]
    assert parts.drop_nulls().to_numpy() == pytest.approx(0.5, abs=1e-9)
    assert len(parts.drop_nulls()) >= 6


def baskets_of(dataset):
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    baskets = {}
    for owner, item, time in zip(owners, dataset.item_rows.tolist(), dataset.times.tolist(), strict=True):
        if T <= time < T + 30 * DAY:
            baskets.setdefault((owner, time), set()).add(item)
    return list(baskets.values())


def test_pairs_by_plain_python(dataset, asked):
    baskets = baskets_of(dataset)
    together = {(a, b) for basket in baskets for a in basket for b in basket if a != b}
    for pairs in asked.pairs:
        assert sorted(pairs.first) == sorted(item for basket in baskets for item in basket)
        assert set(zip(pairs.first.tolist(), pairs.together.tolist(), strict=True)) <= together
        others = zip(pairs.first.tolist(), pairs.apart.tolist(), strict=True)
        assert not any(pair in together or pair[0] == pair[1] for pair in others)
        assert not pairs.taken_together.any()
        assert sorted(pairs.apart) == sorted(pairs.together)
    assert not np.array_equal(asked.pairs[0].together, asked.pairs[1].together)


def test_the_value_is_the_auc_of_the_cosine(dataset, asked):
    made = embeddings(kinds(0.8))
    row = rows(similarity({"v": VectorPairs(made, dataset)}, asked))["v"]
    unit = made.unit_items()
    expected = [
        roc_auc_score(
            np.repeat([1, 0], len(pairs.first)),
            np.concatenate(
                [(unit[pairs.first] * unit[other]).sum(1) for other in (pairs.together, pairs.apart)]
            ),
        )
        for pairs in asked.pairs
    ]
    assert row["per_seed"] == pytest.approx(expected, abs=1e-4)
    assert row["value"] == pytest.approx(np.mean(row["per_seed"]))
    assert row["low"] < row["value"] < row["high"]
    assert row["pairs"] == len(asked.pairs[0].first)


def test_the_dot_product_is_taken_where_it_is_the_score(dataset):
    made = embeddings(np.arange(2.0 * ITEMS).reshape(ITEMS, 2))
    first, second = np.array([1, 2]), np.array([3, 5])
    dots = (made.items.vectors[first] * made.items.vectors[second]).sum(1)
    np.testing.assert_allclose(
        VectorPairs(replace(made, score="max_dot"), dataset).score(first, second), dots
    )
    np.testing.assert_allclose(
        VectorPairs(made, dataset).score(first, second),
        dots
        / np.linalg.norm(made.items.vectors[first], axis=1)
        / np.linalg.norm(made.items.vectors[second], axis=1),
        rtol=1e-5,
    )


def test_the_interval_is_that_of_drawing_items_with_their_pairs(dataset):
    drawn = questions(dataset, T, seeds=(0,))
    scorer = VectorPairs(embeddings(kinds(0.8)), dataset)
    row = rows(similarity({"v": scorer}, drawn))["v"]
    first, second = drawn.pairs[0].sides()
    truth, scores = np.repeat([1, 0], len(first) // 2), scorer.score(first, second)
    items = np.unique([first, second])
    generator = np.random.default_rng(0)
    values = []
    for _ in range(300):
        times = np.bincount(generator.choice(items, len(items)), minlength=ITEMS)
        values.append(roc_auc_score(truth, scores, sample_weight=times[first] * times[second]))
    width = np.subtract(*np.quantile(values, [0.975, 0.025]))
    assert row["high"] - row["low"] == pytest.approx(width, rel=0.15)


def test_intervals_of_random_vectors_hold_one_half(dataset, asked):
    generator = np.random.default_rng(4)
    scorers = {
        f"random {one}": VectorPairs(embeddings(generator.normal(size=(ITEMS, 4))), dataset)
        for one in range(40)
    }
    held = [row["low"] <= 0.5 <= row["high"] for row in rows(similarity(scorers, asked)).values()]
    assert sum(held) >= 36


def test_neighbouring_events_stand_in_where_there_are_no_baskets():
    dataset = shop(baskets=False)
    drawn = questions(dataset, T, seeds=(0,))
    assert drawn.kind == NEIGHBOURS
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    inside = np.flatnonzero((dataset.times >= T) & (dataset.times < T + 30 * DAY))
    expected = [
        (dataset.item_rows[one], dataset.item_rows[other])
        for one, other in pairwise(inside)
        if owners[one] == owners[other] and dataset.item_rows[one] != dataset.item_rows[other]
    ]
    found = zip(drawn.pairs[0].first, drawn.pairs[0].together, strict=True)
    assert sorted(found) == sorted(expected)
    table = similarity({"kinds": VectorPairs(embeddings(kinds(0.2)), dataset)}, drawn)
    assert rows(table)["kinds"]["value"] > 0.7
    assert table["task"].unique().to_list() == ["item similarity, neighbouring events"]


def test_cold_and_warm_items_apart(dataset):
    events = np.where(np.arange(ITEMS) < 40, 0, np.where(np.arange(ITEMS) < 80, 5, 21))
    vectors = kinds(0.1)
    vectors[:40] = np.random.default_rng(3).normal(size=(40, KINDS))
    table = similarity(
        {"v": VectorPairs(embeddings(vectors), dataset)}, questions(dataset, T, 30, (0, 1), events)
    )
    cold, few, middle, warm = (
        rows(table, part)["v"] for part in ("cold: 0 events", "1–5 events", "6–20 events", "over 20 events")
    )
    assert cold["value"] < 0.58
    assert few["value"] > 0.6
    assert warm["value"] > 0.6
    assert (middle["value"], middle["pairs"], middle["items"]) == (None, 0, 0)
    assert cold["pairs"] + few["pairs"] + warm["pairs"] == pytest.approx(rows(table)["v"]["pairs"], abs=2)


def test_differences_are_of_the_same_pairs(dataset, asked):
    """One without vectors of the hard ones would be measured on the easy ones."""
    all_of_them, half = embeddings(kinds(0.2)), embeddings(kinds(0.2)[:60], NAMES[:60])
    scorers = {"all": VectorPairs(all_of_them, dataset), "again": VectorPairs(all_of_them, dataset)}
    table = rows(similarity(scorers | {"half": VectorPairs(half, dataset)}, asked, reference="all"))
    assert table["again"]["difference"] == 0
    assert table["half"]["difference"] is None


def test_item_events_are_counted_before_the_cutoff(dataset, asked):
    np.testing.assert_array_equal(asked.item_events, dataset.item_counts(T))


def test_runs_of_a_system_take_turns(dataset, asked):
    one, two = (VectorPairs(embeddings(kinds(noise)), dataset) for noise in (0.2, 2.0))
    table = similarity({"one": one, "two": (two,), "both": [one, two]}, asked, reference="two")
    alone = rows(table)
    expected = [alone["one"]["per_seed"][0], alone["two"]["per_seed"][1]]
    assert alone["both"]["per_seed"] == alone["both"]["per_run"] == expected
    assert alone["both"]["value"] == pytest.approx(np.mean(expected))
    assert alone["both"]["difference"] == pytest.approx(np.mean(expected) - alone["two"]["value"])
    assert alone["one"]["per_run"] == pytest.approx([alone["one"]["value"]])
    assert rows(table, "cold: 0 events")["both"]["per_run"] == []


def test_items_without_vectors_are_left_out_and_counted(dataset, asked):
    known = embeddings(kinds(0.2)[:60], NAMES[:60])
    table = rows(
        similarity({"half": VectorPairs(known, dataset), "none": Scores(lambda a, _: a * np.nan)}, asked)
    )
    pairs = asked.pairs[0]
    assert table["half"]["value"] > 0.9
    assert table["half"]["pairs"] + table["half"]["unscored"] == pytest.approx(len(pairs.first), abs=1)
    assert table["half"]["items"] <= 60
    assert table["none"]["value"] is None
    assert table["none"]["pairs"] == 0


def test_history_and_later_events_change_no_pair(dataset, asked):
    """A leak check: pairs come from the target window alone."""
    inside = (dataset.times >= T) & (dataset.times < T + 30 * DAY)
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    alone = [
        (dataset.users.ids([owners[event]])[0], NAMES[dataset.item_rows[event]], int(dataset.times[event]))
        for event in np.flatnonzero(inside)
    ]
    later = [(user, item, time + 40 * DAY) for user, item, time in alone]
    without = Dataset.from_rows(alone + later, dataset.item_table)
    other = questions(without, T, seeds=(0, 1), item_events=asked.item_events)
    for one, two in zip(asked.pairs, other.pairs, strict=True):
        for name in ("first", "together", "apart"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_pairs_that_find_no_other_partner_are_counted():
    dataset = Dataset.from_rows([("ann", item, T) for item in "abc"])
    drawn = questions(dataset, T, seeds=(0,))
    assert drawn.pairs[0].taken_together.all()
    row = rows(similarity({"one": Scores(lambda a, b: a + b)}, drawn))["one"]
    assert row["taken_together"] == 3


def test_baskets_of_more_than_fifty_items_say_nothing():
    large = [("wholesaler", f"x{item:02d}", T) for item in range(51)]
    small = [(f"u{user}", item, T) for user in range(3) for item in ("x00", "y")]
    drawn = questions(Dataset.from_rows(large + small), T, seeds=(0,))
    assert len(drawn.pairs[0].first) == 6
    with pytest.raises(DataError, match="no user takes two items"):
        questions(Dataset.from_rows(large[:1]), T)


def test_more_pairs_than_wanted_are_drawn_from(dataset, monkeypatch):
    monkeypatch.setattr("polyvec.evaluation.tasks.similarity.MOST_PAIRS", 50)
    drawn = questions(dataset, T, seeds=(0, 1))
    assert [len(pairs.first) for pairs in drawn.pairs] == [50, 50]
    table = rows(similarity({"kinds": VectorPairs(embeddings(kinds(0.2)), dataset)}, drawn))
    assert table["kinds"]["value"] > 0.9


def test_a_scorer_that_is_always_right_scores_one():
    pairs = Pairs(np.array([0, 1]), np.array([1, 0]), np.array([2, 3]), np.zeros(2, bool))
    asked = Asked(BASKETS, [pairs], np.zeros(4, np.int64))
    assert rows(similarity({"right": Scores(lambda _, second: second < 2)}, asked))["right"]["value"] == 1.0


def test_a_window_without_pairs_is_refused(dataset):
    with pytest.raises(DataError) as caught:
        questions(dataset, 200 * DAY)
    assert str(caught.value).startswith("no user takes two items in the 30 days after 1970-07-20")
    assert "--target-days" in str(caught.value)


def test_data_without_timestamps_is_refused():
    ordered = Dataset.from_rows([("u", "a", 1), ("u", "b", 2)], time_kind="order")
    with pytest.raises(DataError, match="needs timestamps"):
        questions(ordered, 2)
