"""Pairs of items, against the log they are drawn from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.market import Market, Statistics
from polyvec.systems.pgtl.pairs import draw_pairs

DAY = MICROSECONDS_PER_DAY
ASKED = {"positive": "purchase", "partners": 3, "history_days": 20.0, "most": 10_000, "seed": 0}


def market(*, exposures: bool, seed: int = 0) -> Market:
    random = np.random.default_rng(seed)
    rows = [
        (f"u{random.integers(20)}", f"i{random.integers(15):02}", int(random.integers(30 * 24)) * DAY // 24)
        for _ in range(1000)
    ]
    made = Dataset.from_rows(rows)
    columns = {"scenario": np.zeros(1000, np.int32)}
    codes = {"scenario": ["de"]}
    if exposures:
        columns["action"] = random.integers(0, 2, 1000).astype(np.int32)
        codes["action"] = ["purchase", "impression"]
    return Market.of(replace(made, columns=columns, codes=codes), "de")


def clicks(log: Market) -> list[tuple[int, int, int]]:
    bought = log.of_action("purchase")
    return list(zip(bought.users.tolist(), bought.items.tolist(), bought.times.tolist(), strict=True))


def explains(log: Market, first: int, second: int, day: int, current: list[tuple[int, int, int]]) -> bool:
    """Whether a user has the first item on the day, and clicked the second strictly before, not long ago."""
    before = clicks(log)
    for user, item, time in current:
        if item == first and time // DAY == day:
            for other, earlier, when in before:
                if other == user and earlier == second and time - 20 * DAY <= when < time:
                    return True
    return False


def exposed_alone(log: Market) -> list[tuple[int, int, int]]:
    shown = log.of_action("impression")
    done = {(user, item, time // DAY) for user, item, time in clicks(log)}
    found = zip(shown.users.tolist(), shown.items.tolist(), shown.times.tolist(), strict=True)
    return [(user, item, time) for user, item, time in found if (user, item, time // DAY) not in done]


def test_similar_items_are_a_click_and_an_earlier_one_of_the_same_user():
    log = market(exposures=True)
    pairs = draw_pairs(log, 10 * DAY, 25 * DAY, **ASKED)
    assert pairs.labels_P.sum() > 100
    assert (pairs.days_P >= 10).all()
    assert (pairs.days_P < 25).all()
    assert (pairs.items_2P[0] != pairs.items_2P[1]).all()
    for row in np.flatnonzero(pairs.labels_P)[:60]:
        assert explains(log, *pairs.items_2P[:, row].tolist(), pairs.days_P[row], clicks(log))


def test_dissimilar_items_were_exposed_and_not_clicked_that_day():
    log = market(exposures=True)
    pairs = draw_pairs(log, 10 * DAY, 25 * DAY, **ASKED)
    alone = exposed_alone(log)
    assert (~pairs.labels_P).sum() > 100
    for row in np.flatnonzero(~pairs.labels_P)[:60]:
        assert explains(log, *pairs.items_2P[:, row].tolist(), pairs.days_P[row], alone)


def test_without_exposures_dissimilar_items_are_drawn_from_the_same_day():
    log = market(exposures=False)
    pairs = draw_pairs(log, 10 * DAY, 25 * DAY, **ASKED)
    number = int(pairs.labels_P.sum())
    assert (~pairs.labels_P).sum() == pytest.approx(number, rel=0.15)
    sold = {(item, time // DAY) for _, item, time in clicks(log)}
    rows = np.flatnonzero(~pairs.labels_P)
    assert all(
        (item, day) in sold for item, day in zip(pairs.items_2P[0, rows], pairs.days_P[rows], strict=True)
    )


def test_drawn_items_are_as_frequent_as_they_are_popular():
    """Else a pair could be told by the popularity of its current item alone."""
    random = np.random.default_rng(1)
    items = np.minimum(random.geometric(0.2, 4000), 15)
    rows = [
        (f"u{random.integers(200)}", f"i{item:02}", int(random.integers(240)) * DAY // 24) for item in items
    ]
    made = replace(
        Dataset.from_rows(rows), columns={"scenario": np.zeros(4000, np.int32)}, codes={"scenario": ["de"]}
    )
    pairs = draw_pairs(Market.of(made, "de"), 0, 10 * DAY, **ASKED)
    shares = [
        np.bincount(pairs.items_2P[0, pairs.labels_P == label], minlength=15)
        / (pairs.labels_P == label).sum()
        for label in (True, False)
    ]
    assert np.abs(shares[0] - shares[1]).max() < 0.05  # a user's own are not drawn


def test_newcomers_and_the_users_own_events_are_not_drawn():
    """Newcomers take what is popular: drawn from them, an item would be known by its popularity."""
    rows = [(f"n{n}", "hit", n * DAY // 20) for n in range(600)]
    rows += [(f"u{n % 40}", f"i{(n * 7) % 40:02}", n * DAY // 40 + 1) for n in range(1200)]
    rows += [("heavy", f"h{n % 50:02}", n * DAY // 100 + 2) for n in range(3000)]
    made = replace(
        Dataset.from_rows(rows),
        columns={"scenario": np.zeros(len(rows), np.int32)},
        codes={"scenario": ["de"]},
    )
    log = Market.of(made, "de")
    pairs = draw_pairs(log, 10 * DAY, 30 * DAY, **ASKED)
    hit, heavy = (
        made.items.rows(pl.Series(["hit"])),
        made.items.rows(pl.Series([f"h{n:02}" for n in range(50)])),
    )
    current, earlier = pairs.items_2P[:, ~pairs.labels_P]
    assert len(current) > 2000
    assert not np.isin(current, hit).any()
    assert not (np.isin(current, heavy) & np.isin(earlier, heavy)).any()  # theirs alone, so not dissimilar


def sparse() -> Market:
    """Three events a day, of 60 items and 30 users."""
    random = np.random.default_rng(2)
    rows = [(f"u{random.integers(30)}", f"i{random.integers(60):02}", n * DAY // 3) for n in range(1500)]
    made = replace(
        Dataset.from_rows(rows), columns={"scenario": np.zeros(1500, np.int32)}, codes={"scenario": ["de"]}
    )
    return Market.of(made, "de")


def test_days_of_few_events_take_in_those_after_and_nothing_from_the_stop_on():
    log = sparse()
    asked = ASKED | {"history_days": 500.0}
    pairs = draw_pairs(log, 200 * DAY, 400 * DAY, **asked)
    assert (~pairs.labels_P).sum() > 0.9 * pairs.labels_P.sum()
    later = [log.days[log.items == item] for item in range(log.num_items)]
    for item, day in zip(pairs.items_2P[0], pairs.days_P, strict=True):
        assert ((later[item] >= day) & (later[item] < day + 8)).any()
    early = log.take(log.times < 400 * DAY)
    np.testing.assert_array_equal(draw_pairs(early, 200 * DAY, 400 * DAY, **asked).items_2P, pairs.items_2P)


def test_statistics_of_the_day_cannot_tell_what_was_drawn():
    """An item that was drawn because it had just been sold would be known by its recency."""
    log = sparse()
    pairs = draw_pairs(log, 100 * DAY, 490 * DAY, **ASKED | {"history_days": 500.0})
    statistics = Statistics(log, np.arange(log.num_items), "purchase", (7, 30))
    values = statistics.at(pairs.items_2P[0], pairs.days_P)
    for column, name in enumerate(statistics.names):
        known = np.nan_to_num(values[:, column], nan=-1)
        assert roc_auc_score(pairs.labels_P, known) == pytest.approx(0.5, abs=0.06), name


def test_pairs_follow_from_the_seed_and_are_no_more_than_asked_for():
    log = market(exposures=False)
    few = ASKED | {"most": 60}
    first, again = (draw_pairs(log, 0, 30 * DAY, **few) for _ in range(2))
    other = draw_pairs(log, 0, 30 * DAY, **few | {"seed": 1})
    np.testing.assert_array_equal(first.items_2P, again.items_2P)
    assert 0 < len(first) <= 60
    assert first.items_2P.tolist() != other.items_2P.tolist()


def test_later_events_change_no_similar_pair():
    log = market(exposures=False)
    early = log.take(log.times < 25 * DAY)
    for one, two in zip(
        *(draw_pairs(each, 10 * DAY, 25 * DAY, **ASKED).items_2P for each in (log, early)), strict=True
    ):
        np.testing.assert_array_equal(one, two)


def test_a_market_without_earlier_clicks_has_no_pairs():
    log = market(exposures=False)
    assert len(draw_pairs(log, -10 * DAY, 0, **ASKED)) == 0
    once = log.take(np.unique(log.users, return_index=True)[1])
    assert len(draw_pairs(once, 0, 30 * DAY, **ASKED)) == 0
