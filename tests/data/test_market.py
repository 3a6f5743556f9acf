"""Statistics of a market, against plain Python."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.market import EVER, Market, Statistics, Sums, entities
from polyvec.errors import DataError, UsageError

WINDOWS = (1, 7, 30, EVER)


def log(seed: int = 0, events: int = 600, items: int = 12) -> Dataset:
    """Two markets, three actions, prices with gaps; several events of a user and item on one day."""
    random = np.random.default_rng(seed)
    rows = [
        (f"u{random.integers(25)}", f"i{random.integers(items):02}", int(random.integers(60 * 24)))
        for _ in range(events)
    ]
    rows = [(user, item, hour * MICROSECONDS_PER_DAY // 24) for user, item, hour in rows]
    made = Dataset.from_rows(rows)
    price = random.integers(1, 500, events) / 100
    price[random.random(events) < 0.1] = np.nan
    return replace(
        made,
        columns={
            "scenario": random.integers(0, 2, events).astype(np.int32),
            "action": random.integers(0, 3, events).astype(np.int32),
            "price": price.astype(np.float32),
            "quantity": random.integers(1, 4, events).astype(np.float32),
        },
        codes={"scenario": ["de", "fr"], "action": ["purchase", "click", "impression"]},
    )


def test_a_market_is_one_value_of_the_scenario_before_a_moment():
    dataset = log()
    until = 30 * MICROSECONDS_PER_DAY
    market = Market.of(dataset, "fr", until)
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    chosen = (dataset.columns["scenario"] == 1) & (dataset.times < until)
    assert 0 < len(market) == chosen.sum()
    np.testing.assert_array_equal(market.users, owners[chosen])
    np.testing.assert_array_equal(market.items, dataset.item_rows[chosen])
    assert market.times.max() < until
    bought = market.of_action("purchase")
    assert len(bought) == (chosen & (dataset.columns["action"] == 0)).sum()
    assert bought.actions["purchase"].all()


def test_what_is_no_market_is_refused():
    dataset = log()
    with pytest.raises(UsageError, match="scenario 'se'"):
        Market.of(dataset, "se")
    with pytest.raises(DataError, match="no scenario"):
        Market.of(replace(dataset, columns={}, codes={}), "fr")
    with pytest.raises(UsageError, match="'buy'"):
        Market.of(dataset, "fr").of_action("buy")


def test_sums_count_what_is_in_force_on_a_day_and_what_never_ends():
    never = np.iinfo(np.int64).max
    sums = Sums(
        np.array([0, 0, 1, 1]), np.array([3, 5, 4, 9]), np.array([6, 7, never, 10]), np.array([2, 3, 5, 7])
    )
    days = np.array([2, 3, 5, 6, 7, 10_000])
    assert sums.at(np.zeros(6, np.int64), days).tolist() == [0, 2, 5, 3, 0, 0]
    assert sums.at(np.ones(6, np.int64), days).tolist() == [0, 0, 5, 5, 5, 5]
    assert sums.at(np.ones(2, np.int64), np.array([9, 10])).tolist() == [12, 5]
    assert sums.at(np.array([2, 0]), np.array([5, -5])).tolist() == [0, 0]


def by_hand(market: Market, item: int, day: int, windows: tuple[int, ...]) -> dict[str, float]:
    """Statistics of one item on one day, event by event."""
    found: dict[str, float] = {}
    mine = [e for e in range(len(market)) if market.items[e] == item and market.days[e] < day]
    bought = [e for e in mine if market.actions["purchase"][e]]

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else np.nan

    for window in windows:
        suffix = f"{window}d" if window else "ever"
        inside = [e for e in mine if not window or market.days[e] >= day - window]
        counts = {name: sum(bool(is_one[e]) for e in inside) for name, is_one in market.actions.items()}
        for name, count in counts.items():
            found[f"{name} {suffix}"] = count
            if name != "purchase":
                rate = counts["purchase"] / count if count else np.nan
                found[f"purchase per {name} {suffix}"] = rate
        paid = [e for e in inside if e in bought]
        found[f"users {suffix}"] = len({int(market.users[e]) for e in paid})
        priced = [e for e in paid if np.isfinite(market.columns["price"][e])]
        revenue = [round(market.columns["price"][e] * market.columns["quantity"][e], 2) for e in priced]
        found[f"revenue {suffix}"] = float(np.sum(revenue))
    prices = [market.columns["price"][e] for e in bought if np.isfinite(market.columns["price"][e])]
    found["price"] = mean(prices)
    days = [int(market.days[e]) for e in bought]
    found["days since the latest"] = day - max(days) if days else np.nan
    found["days since the first"] = day - min(days) if days else np.nan
    return found


def test_statistics_are_those_of_plain_python():
    market = Market.of(log(), "de")
    statistics = Statistics(market, np.arange(12), "purchase", WINDOWS)
    items, days = (grid.reshape(-1) for grid in np.meshgrid(np.arange(12), [0, 1, 17, 40, 59, 60, 75]))
    values = statistics.at(items, days)
    for row, (item, day) in enumerate(zip(items, days, strict=True)):
        expected = by_hand(market, int(item), int(day), WINDOWS)
        for column, name in enumerate(statistics.names):
            assert values[row, column] == pytest.approx(expected[name], nan_ok=True, rel=1e-6, abs=1e-6), (
                name, item, day,
            )  # fmt: skip


def test_statistics_of_sellers_take_their_items_together():
    market = Market.of(log(), "de")
    sellers = np.array([0, 0, 0, 1, 1, 1, -1, -1, -1, 2, 2, 2])
    statistics = Statistics(market, sellers, "purchase", (EVER,))
    values = statistics.at(np.array([0, 1, 2, -1]), np.full(4, 60))
    counts = np.bincount(sellers[market.of_action("purchase").items] + 1, minlength=4)
    assert values[:3, statistics.names.index("purchase ever")].tolist() == counts[1:].tolist()
    assert np.isnan(values[3]).all()


@pytest.mark.parametrize("seed", range(5))
def test_no_statistic_sees_its_own_day_or_the_future(seed):
    """Whatever happens from a day on, the day's statistics are the same."""
    dataset, day = log(seed), 20 + 5 * seed
    now = Statistics(Market.of(dataset, "de"), np.arange(12), "purchase", WINDOWS)
    before = Statistics(
        Market.of(dataset, "de", day * MICROSECONDS_PER_DAY), np.arange(12), "purchase", WINDOWS
    )
    asked = np.arange(12), np.full(12, day)
    np.testing.assert_array_equal(now.at(*asked), before.at(*asked))
    assert now.names == before.names


def test_what_the_data_does_not_have_is_left_out():
    dataset = log()
    bare = replace(dataset, columns={"scenario": dataset.columns["scenario"]})
    names = Statistics(Market.of(bare, "fr"), np.arange(12), "purchase", (7,)).names
    assert names == ["purchase 7d", "users 7d", "days since the latest", "days since the first"]


def test_entities_are_numbered_and_items_of_none_told():
    table = pl.DataFrame({"item_id": [1, 2, 3, 4], "brand": ["b", None, "a", "b"]})
    numbers, names = entities(table, "brand")
    assert numbers.tolist() == [1, -1, 0, 1]
    assert names == ["a", "b"]
