from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import Dataset, days
from polyvec.data.item_sets import ItemSets
from polyvec.data.split import cut
from polyvec.data.synthetic.events import Sampler, draw
from polyvec.data.synthetic.oracle import Oracle, shop_dataset
from polyvec.data.synthetic.shop import START, write_shop
from polyvec.data.synthetic.truth import Truth
from polyvec.data.synthetic.world import REGULAR, ShopPlan, stream
from polyvec.errors import ArtifactError, DataError, UsageError
from polyvec.evaluation.baselines import PersonalFrequency, Popularity
from polyvec.evaluation.metrics import recall

PLAN = ShopPlan(users=2_500, items=2_500, events=220_000, days=300, seed=11, interests=16)
TINY = ShopPlan(users=40, items=90, events=4_000, days=120, seed=5, interests=6)
FIRST = START * 1_000_000
CUTOFF = FIRST + days(270)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("oracle") / "shop"
    write_shop(PLAN, path)
    return path


@pytest.fixture(scope="module")
def dataset(shop: Path) -> Dataset:
    return shop_dataset(shop)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "shop"
    write_shop(TINY, path)
    return path


def test_probabilities_agree_with_simulated_frequencies(tiny: Path) -> None:
    """Half a million simulated purchases of each of four users against the closed form, chi-squared."""
    truth, dataset = Truth.open(tiny), shop_dataset(tiny)
    planted = truth.planted
    users = np.flatnonzero((planted.kind_U == REGULAR) & (planted.join_day_U == 0))[:4]
    counts = np.zeros(len(planted), dtype=np.int64)
    counts[users] = 500_000
    draws = draw(truth.world, Sampler(truth.world), planted, counts, stream(99))
    window = (draws.seconds_E >= 300) & (draws.seconds_E < 60 * 86_400)
    probabilities = Oracle(tiny, dataset, FIRST, target_days=60).probabilities(users)
    for user, expected in zip(users, probabilities, strict=True):
        items = draws.items_E[window & (draws.users_E == user)]
        seen = np.bincount(items, minlength=TINY.items)
        assert seen[expected == 0].sum() == 0
        likely = expected * len(items) > 5
        deviation = (seen - expected * len(items))[likely] / np.sqrt(expected[likely] * len(items))
        assert np.mean(deviation**2) == pytest.approx(1, abs=0.6)
        assert np.abs(deviation).max() < 6


def test_probabilities_sum_to_one_with_and_without_history(shop: Path, dataset: Dataset) -> None:
    rows = np.arange(300)
    np.testing.assert_allclose(Oracle(shop, dataset, CUTOFF).probabilities(rows).sum(axis=1), 1)
    np.testing.assert_allclose(Oracle(shop, dataset, FIRST).probabilities(rows).sum(axis=1), 1)


def test_the_next_purchases_come_as_often_as_foretold(shop: Path, dataset: Dataset) -> None:
    """Calibration: among (user, item) pairs of like probability that share is the user's next purchase."""
    windows = cut(dataset, CUTOFF, None, 10).with_targets()
    probability = Oracle(shop, dataset, CUTOFF, target_days=10).probabilities(windows.user_rows)
    bought = np.zeros_like(probability)
    bought[np.arange(len(windows)), dataset.item_rows[windows.target_start]] = 1
    for low, high in [(1e-6, 1e-3), (1e-3, 4e-3), (4e-3, 8e-3), (8e-3, 0.02), (0.02, 0.2)]:
        chosen = (probability >= low) & (probability < high)
        expected = probability[chosen].sum()
        assert expected > 30
        assert abs(bought[chosen].sum() - expected) < 4 * np.sqrt(expected)


def test_repeats_are_foretold_as_often_as_they_come(shop: Path, dataset: Dataset) -> None:
    windows = cut(dataset, CUTOFF, None, 10).with_targets().with_history()
    probability = Oracle(shop, dataset, CUTOFF, target_days=10).probabilities(windows.user_rows)
    before = ItemSets.of_events(dataset, windows.history_start, windows.history_end)
    expected = sum(probability[owner, item] for owner, item in zip(before.owners, before.items, strict=True))
    observed = before.contains(dataset.item_rows[windows.target_start][:, None]).sum()
    assert observed == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_no_simple_ranking_beats_the_oracle(shop: Path, dataset: Dataset) -> None:
    windows = cut(dataset, CUTOFF, None, 30)
    scored = windows.with_history().with_targets()
    targets = ItemSets.of_events(dataset, scored.target_start, scored.target_end)
    popularity = Popularity(dataset, windows)
    frequency = PersonalFrequency(dataset, windows, popularity)
    oracle, frequent, popular = (
        float(np.mean(recall(ranker.rank(scored.user_rows, 100), targets, 100)))
        for ranker in (Oracle(shop, dataset, CUTOFF), frequency, popularity)
    )
    assert oracle > 1.3 * frequent > 1.3 * popular


def test_the_ranking_is_by_probability_best_first_without_items_that_cannot_be_bought(
    tiny: Path,
) -> None:
    dataset = shop_dataset(tiny)
    oracle = Oracle(tiny, dataset, FIRST + days(100))
    rows = np.array([3, 0, 3])
    probability, ranked = oracle.probabilities(rows), oracle.rank(rows, TINY.items + 5)
    assert ranked.shape == (3, TINY.items + 5)
    assert ranked.dtype == np.int64
    np.testing.assert_array_equal(ranked[0], ranked[2])
    for row in range(3):
        listed = ranked[row][ranked[row] >= 0]
        assert len(set(listed.tolist())) == len(listed) == (probability[row] > 0).sum() < TINY.items
        assert (np.diff(probability[row, listed]) <= 0).all()
        assert (ranked[row, len(listed) :] == -1).all()


def test_users_and_items_are_joined_by_id_whatever_their_order(tiny: Path) -> None:
    whole = shop_dataset(tiny)
    events = pl.read_parquet(tiny / "events.parquet").filter(pl.col("action") == "purchase")
    rows = events.select("user_id", "item_id", pl.col("timestamp").dt.epoch("us")).rows()
    turned = Dataset.from_rows(rows, whole.item_table.select("item_id").reverse())
    cutoff = FIRST + days(90)
    user = turned.users.ids([0])
    ours = Oracle(tiny, whole, cutoff).rank(whole.users.rows(user), 10)
    theirs = Oracle(tiny, turned, cutoff).rank(np.array([0]), 10)
    assert whole.items.ids(ours[0]) == turned.items.ids(theirs[0])


def test_nothing_after_the_cut_off_changes_the_ranking(tiny: Path) -> None:
    whole = shop_dataset(tiny)
    cutoff = FIRST + days(60)
    known = whole.keep(whole.times < cutoff)
    rows = np.arange(whole.num_users)
    np.testing.assert_array_equal(
        Oracle(tiny, whole, cutoff).rank(rows, 20), Oracle(tiny, known, cutoff).rank(rows, 20)
    )


def test_no_users_give_no_rows(tiny: Path) -> None:
    ranked = Oracle(tiny, shop_dataset(tiny), FIRST).rank(np.empty(0, dtype=np.int64), 5)
    assert ranked.shape == (0, 5)


def test_shop_dataset_has_every_user_and_item_in_time_order(shop: Path, dataset: Dataset) -> None:
    assert (dataset.num_users, dataset.num_items) == (PLAN.users, PLAN.items)
    log = pl.scan_parquet(shop / "events.parquet").filter(pl.col("action") == "purchase")
    assert dataset.num_events == log.select(pl.len()).collect().item()
    user = np.repeat(np.arange(PLAN.users), np.diff(dataset.user_offsets))
    later = np.diff(dataset.times) >= 0
    assert (later | (np.diff(user) > 0)).all()


def test_a_dataset_of_another_shop_is_refused(tiny: Path) -> None:
    other = Dataset.from_rows([("ann", "i0000001", FIRST)])
    with pytest.raises(DataError) as caught:
        Oracle(tiny, other, FIRST)
    assert str(caught.value) == (
        "user_id 'ann' is not of this synthetic shop\n"
        "  where: column user_id\n"
        "  expected: a Dataset prepared from the shop's events"
    )


def test_a_cut_off_outside_the_shops_days_is_refused(tiny: Path) -> None:
    with pytest.raises(UsageError, match="the cut-off is 500 days after") as caught:
        Oracle(tiny, shop_dataset(tiny), FIRST + days(500))
    assert caught.value.expected == "0 to 119, the days that the shop has"


def test_a_folder_that_is_no_shop_is_refused(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        Oracle(tmp_path / "none", shop_dataset(tiny), FIRST)
