"""The price level of a user's next purchases, on a shop whose users' preferences are planted."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.errors import DataError
from polyvec.evaluation.probes import Features, linear
from polyvec.evaluation.tasks import transfer as module
from polyvec.evaluation.tasks.transfer import questions, transfer

T = 100 * DAY
USERS, LEVELS, PER_LEVEL = 280, 7, 10
SCALES = {"pens": 1.0, "pearls": 100.0}


def prices_of(categories):
    """Item i of a category costs its scale times 1 + i."""
    return np.array(
        [SCALES[name] * (1 + place % (LEVELS * PER_LEVEL)) for place, name in enumerate(categories)]
    )


def shop(seed=0):
    """Users who buy at a level of their own, in either category, before and after T: (Dataset, levels)."""
    generator = np.random.default_rng(seed)
    levels = np.arange(USERS) % LEVELS
    rows = [
        (f"u{user:03d}", f"i{item:03d}", int(day) * DAY)
        for user in range(USERS)
        for item, day in zip(
            generator.integers(0, 2, 9) * LEVELS * PER_LEVEL
            + levels[user] * PER_LEVEL
            + generator.integers(0, PER_LEVEL, 9),
            [*generator.integers(40, 100, 6), *generator.integers(100, 130, 3)],
            strict=True,
        )
    ]
    categories = [name for name in SCALES for _ in range(LEVELS * PER_LEVEL)]
    items = pl.DataFrame(
        {"item_id": [f"i{item:03d}" for item in range(len(categories))], "category": categories}
    )
    return Dataset.from_rows(rows, items.with_columns(price=pl.Series(prices_of(categories)))), levels


@pytest.fixture(scope="module")
def planted():
    return shop()


def with_prices(dataset, prices_E):
    return replace(dataset, columns={"price": np.asarray(prices_E, np.float32)})


def own_prices(dataset):
    return dataset.item_table["price"].to_numpy()[dataset.item_rows]


def answers(dataset, **options):
    """Level, from 0, of every user asked."""
    problem = questions(dataset, T, **options).problems[0]
    return dict(zip(dataset.users.ids(problem.rows), problem.answers.tolist(), strict=True))


def test_answers_by_plain_python(planted):
    dataset, _ = planted
    before, after = {}, {}
    owners = np.repeat(np.arange(USERS), np.diff(dataset.user_offsets))
    table = dataset.item_table.select("category", "price").rows()
    for user, item, time in zip(owners, dataset.item_rows, dataset.times, strict=True):
        category, price = table[item]
        if time < T:
            before.setdefault(category, []).append(price)
        else:
            after.setdefault(user, []).append((category, price))
    ends = {category: np.quantile(paid, np.arange(1, 7) / 7) for category, paid in before.items()}
    expected = {
        f"u{user:03d}": sorted(sum(price > end for end in ends[category]) for category, price in bought)[
            (len(bought) - 1) // 2
        ]
        for user, bought in after.items()
    }
    assert answers(dataset) == expected


def test_levels_are_told_within_the_category(planted):
    dataset, levels = planted
    told = answers(dataset)
    close = [abs(told[f"u{user:03d}"] - levels[user]) <= 1 for user in range(USERS)]
    assert np.mean(close) == 1
    overall = replace(dataset, item_table=dataset.item_table.drop("category"))
    assert np.mean([answers(overall)[user] == level for user, level in told.items()]) < 0.7


def test_more_labels_tell_more_and_noise_tells_nothing(planted):
    dataset, levels = planted
    generator = np.random.default_rng(1)
    knows = np.eye(LEVELS)[levels] + generator.normal(size=(USERS, LEVELS)) * 0.7
    noise = generator.normal(size=(USERS, LEVELS))
    probes = {"linear": linear}
    features = {
        name: Features(x.astype(np.float32), probes) for name, x in (("knows", knows), ("noise", noise))
    }
    table = transfer(features, questions(dataset, T), (0, 1), "noise")
    assert table["task"].unique().to_list() == ["transfer"]
    found = {
        (row["features"], row["train_users"]): row
        for row in table.filter(pl.col("metric") == "auc").to_dicts()
    }
    sizes = sorted({users for _, users in found})
    assert len(sizes) == 3
    assert sizes[0] == LEVELS  # 1 % is less than one user of each level
    assert sizes[-1] == 196
    curve = [found["knows", users]["value"] for users in sizes]
    assert curve[0] < curve[1] < curve[2]
    assert curve[2] > 0.8
    assert found["knows", 196]["difference"] > 0.25
    for users in sizes:
        assert found["noise", users]["value"] == pytest.approx(0.5, abs=0.1)


def test_prices_after_the_cut_off_move_no_level_of_others(planted, monkeypatch):
    dataset, _ = planted
    monkeypatch.setattr(module, "LEAST_USERS", 1)
    plain = with_prices(dataset, own_prices(dataset))
    dearer = own_prices(dataset)
    owners = np.repeat(np.arange(USERS), np.diff(dataset.user_offsets))
    dearer[(dataset.times >= T) & (owners >= 40)] *= 1000
    before, after = answers(plain), answers(with_prices(dataset, dearer))
    assert {user: after[user] for user in before if user < "u040"} == {
        user: level for user, level in before.items() if user < "u040"
    }
    assert {level for user, level in after.items() if user >= "u040"} == {6}


def test_prices_of_purchases_go_before_the_catalogue_s(planted):
    dataset, _ = planted
    cheap_first = with_prices(dataset, 1e5 - own_prices(dataset))
    told, turned = answers(dataset), answers(cheap_first)
    assert np.corrcoef(list(told.values()), [turned[user] for user in told])[0, 1] < -0.8
    unknown = with_prices(dataset, np.full(dataset.num_events, np.nan))
    assert answers(unknown) == told


def test_free_and_unknown_prices_are_not_looked_at(planted):
    dataset, _ = planted
    prices = own_prices(dataset)
    owners = np.repeat(np.arange(USERS), np.diff(dataset.user_offsets))
    first_target = np.searchsorted(owners * 1000 + dataset.times // DAY, np.arange(USERS) * 1000 + 100)
    prices[first_target[:60]] = 0
    prices[first_target[60:120]] = np.nan
    asked = answers(with_prices(dataset, prices))
    dropped = np.ones(dataset.num_events, np.bool_)
    dropped[first_target[:120]] = False
    rest = with_prices(dataset, own_prices(dataset)).keep(dropped)
    assert asked == answers(rest)
    prices[dataset.times >= T] = 0
    assert questions(with_prices(dataset, prices), T).problems == []


def test_users_without_history_are_left_out_and_clicks_are_history(planted):
    dataset, _ = planted
    owners = np.repeat(np.arange(USERS), np.diff(dataset.user_offsets))
    newcomer = owners < 30
    clicks = (newcomer & (dataset.times < T)).astype(np.int32)
    clicked = replace(dataset, columns={"action": clicks}, codes={"action": ["purchase", "click"]})
    purchases = clicked.only_action()
    assert set(answers(purchases)) == {f"u{user:03d}" for user in range(30, USERS)}
    assert len(answers(clicked)) == USERS


def test_items_of_no_category_are_a_group_of_their_own(planted):
    dataset, _ = planted
    names = [None if name == "pens" else name for name in dataset.item_table["category"]]
    nameless = replace(dataset, item_table=dataset.item_table.with_columns(category=pl.Series(names)))
    assert answers(nameless) == answers(dataset)


def test_small_categories_are_left_out(planted):
    dataset, _ = planted
    names = ["rare" if place == 0 else name for place, name in enumerate(dataset.item_table["category"])]
    some = replace(dataset, item_table=dataset.item_table.with_columns(category=pl.Series(names)))
    rows = some.item_rows == 0
    bought = {
        f"u{user:03d}"
        for user in np.flatnonzero(np.add.reduceat(rows & (some.times >= T), some.user_offsets[:-1]))
    }
    told, without = answers(some), answers(some.keep(~rows))
    assert bought
    assert told == without


@pytest.mark.parametrize(
    ("prices", "text"),
    [
        (None, "neither the purchases nor the catalogue have prices"),
        ("text", "neither the purchases nor the catalogue have prices"),
        (5.0, "no category has 140 purchases at prices different enough for 7 levels before the cut-off"),
    ],
)
def test_what_cannot_be_asked_is_noted(planted, prices, text):
    dataset, _ = planted
    items = (
        dataset.item_table.drop("price")
        if prices is None
        else dataset.item_table.with_columns(price=pl.lit(prices))
    )
    asked = questions(replace(dataset, item_table=items), T)
    assert asked.problems == []
    assert asked.notes == [f"transfer was not asked: {text}"]
    assert transfer({}, asked).is_empty()


def test_levels_of_too_few_users_are_left_out(planted, monkeypatch):
    dataset, _ = planted
    told = questions(dataset, T).problems[0]
    sizes = np.bincount(told.answers)
    monkeypatch.setattr(module, "LEAST_USERS", int(sizes.min()) + 1)
    fewer = questions(dataset, T).problems[0]
    left = np.flatnonzero(sizes > sizes.min())
    assert len(fewer.rows) == sizes[left].sum()
    np.testing.assert_array_equal(np.bincount(fewer.answers), sizes[left])
    monkeypatch.setattr(module, "LEAST_USERS", USERS)
    assert questions(dataset, T).notes == [
        f"transfer was not asked: fewer than two price levels have {USERS} users with history"
    ]


def test_more_users_than_wanted_are_drawn_from(planted, monkeypatch):
    monkeypatch.setattr(module, "MOST_USERS", 50)
    assert len(questions(planted[0], T).problems[0].rows) == 7 * 20  # and so many of each level
    monkeypatch.setattr(module, "MOST_USERS", 200)
    assert 200 <= len(questions(planted[0], T).problems[0].rows) <= 210


def test_data_without_timestamps_is_refused(planted):
    with pytest.raises(DataError, match="needs timestamps"):
        questions(replace(planted[0], time_kind="order"), T)
