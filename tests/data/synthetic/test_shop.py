from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from polyvec.artifact import read_manifest, stage_path
from polyvec.data.synthetic.shop import write_shop
from polyvec.data.synthetic.truth import KINDS_OF_USERS, Truth
from polyvec.data.synthetic.world import MAX_INTERESTS, PERIOD_DAYS, WHIM, ShopPlan, slot_weights
from polyvec.errors import ArtifactError, UsageError

PLAN = ShopPlan(users=3_000, items=1_500, events=400_000, days=380, seed=3, interests=12, countries=2)
SMALL = ShopPlan(users=60, items=300, events=3_000, days=90, seed=1)
Faults = Callable[..., Iterator[tuple[Path, str]]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synthetic") / "shop"
    write_shop(PLAN, path)
    return path


@pytest.fixture(scope="module")
def truth(shop: Path) -> Truth:
    return Truth.open(shop)


@pytest.fixture(scope="module")
def events(shop: Path) -> pl.DataFrame:
    """Events of regular and cold users with the true topic and category of the item and the day."""
    of_items = pl.read_parquet(shop / "truth" / "items.parquet").select("item_id", "category", "rank")
    categories = pl.read_parquet(shop / "truth" / "categories.parquet").with_row_index("code")
    topics = categories.select(pl.col("code").cast(pl.Int64).alias("category"), "topic")
    kinds = pl.read_parquet(shop / "truth" / "users.parquet").select("user_id", "kind")
    log = pl.read_parquet(shop / "events.parquet").join(of_items, on="item_id").join(topics, on="category")
    log = log.join(kinds, on="user_id").filter(pl.col("kind") != KINDS_OF_USERS.index("bot"))
    start = pl.datetime(2024, 1, 1, time_zone="UTC")
    return log.with_columns(day=(pl.col("timestamp") - start).dt.total_days())


@pytest.fixture(scope="module")
def purchases(events: pl.DataFrame) -> pl.DataFrame:
    return events.filter(pl.col("action") == "purchase")


def hashes(shop: Path) -> dict[str, str]:
    files = [file for file in shop.rglob("*") if file.is_file() and file.name != "manifest.json"]
    return {str(file.relative_to(shop)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


# --- the folder


def test_tables_have_the_columns_that_a_user_would_bring(shop: Path) -> None:
    assert pl.read_parquet_schema(shop / "events.parquet") == {
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Datetime("us", "UTC"),
        "action": pl.String,
        "scenario": pl.String,
        "label": pl.Int8,
        "price": pl.Float64,
        "quantity": pl.Int32,
    }
    items, users = pl.read_parquet(shop / "items.parquet"), pl.read_parquet(shop / "users.parquet")
    assert items.columns == ["item_id", "title", "category", "brand", "shop", "price"]
    assert users.columns == ["user_id", "has_child", "child_gender", "child_age_group"]
    assert (items["item_id"].n_unique(), users["user_id"].n_unique()) == (PLAN.items, PLAN.users)


def test_equal_plans_give_equal_bytes_and_another_seed_gives_others(tmp_path: Path) -> None:
    write_shop(SMALL, tmp_path / "a")
    write_shop(SMALL, tmp_path / "b")
    write_shop(ShopPlan(**(vars(SMALL) | {"seed": 2})), tmp_path / "c")
    first, second, third = (hashes(tmp_path / name) for name in "abc")
    assert first == second
    assert all(first[name] != third[name] for name in ("events.parquet", "items.parquet", "users.parquet"))
    assert (
        read_manifest(tmp_path / "a", "shop").fingerprint == read_manifest(tmp_path / "b", "shop").fingerprint
    )


def test_the_number_of_events_is_near_the_one_asked_for(shop: Path) -> None:
    counts = read_manifest(shop, "shop").meta["events"]
    assert sum(counts.values()) == pl.scan_parquet(shop / "events.parquet").select(pl.len()).collect().item()
    assert sum(counts.values()) == pytest.approx(PLAN.events, rel=0.05)


def test_users_are_written_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyvec.data.synthetic.shop.BLOCK_USERS", 25)
    done: list[int] = []
    write_shop(SMALL, tmp_path / "shop", progress=done.append)
    assert done == [25, 50, 60]
    truth = Truth.open(tmp_path / "shop")
    assert truth.user_ids.to_list() == [f"u{number:07d}" for number in range(60)]
    assert pl.read_parquet(tmp_path / "shop" / "users.parquet")["user_id"].equals(truth.user_ids)


def test_memory_does_not_grow_with_the_number_of_events(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from polyvec.data.synthetic.shop import write_shop; "
        "from polyvec.data.synthetic.world import ShopPlan; users, events = map(int, sys.argv[2:]); "
        "write_shop(ShopPlan(users=users, items=1_000, events=events), Path(sys.argv[1])); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def peak(name: str, users: int, events: int) -> int:
        arguments = [sys.executable, "-c", code, str(tmp_path / name), str(users), str(events)]
        return int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)

    assert peak("large", 12_000, 2_400_000) < 1.25 * peak("small", 3_000, 600_000)


def test_an_interrupted_shop_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(users: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shop(SMALL, tmp_path / "shop", progress=interrupt)
    assert not (tmp_path / "shop").exists()
    assert not stage_path(tmp_path / "shop").exists()


def test_a_shop_is_whole_or_absent_whatever_file_operation_fails(fail_at_operation: Faults) -> None:
    plan = ShopPlan(users=10, items=300, events=100, days=30)
    for folder, fault in fail_at_operation(lambda folder: write_shop(plan, folder / "shop")):
        if (folder / "shop").exists():
            assert len(Truth.open(folder / "shop").user_ids) == 10, fault
        else:
            write_shop(plan, folder / "shop")


def test_a_shop_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    write_shop(SMALL, tmp_path / "shop")
    with pytest.raises(ArtifactError, match="exists already"):
        write_shop(SMALL, tmp_path / "shop")
    write_shop(SMALL, tmp_path / "shop", overwrite=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"users": 0}, "--users 0 is out of range\n  expected: 1 to 1,000,000,000"),
        ({"events": -5}, "--events -5 is out of range\n  expected: 1 to 100,000,000,000"),
        ({"interests": 3}, "--interests 3 is out of range\n  expected: 6 to 230"),
        ({"countries": 11}, "--countries 11 is out of range\n  expected: 1 to 10"),
        (
            {"items": 100},
            "--items 100 is too few for --interests 24\n  expected: at least 226 items, two in every "
            "category\n  mend: ask for more items or fewer interests",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        ShopPlan(**wrong)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "plan",
    [
        ShopPlan(users=1, items=226, events=1, days=1, countries=1),
        ShopPlan(users=5, items=300, events=40, days=27, interests=24),
        ShopPlan(users=40, items=2_000, events=400, days=800, interests=230, countries=10),
    ],
)
def test_extreme_plans_work(tmp_path: Path, plan: ShopPlan) -> None:
    counts = write_shop(plan, tmp_path / "shop")
    assert sum(counts.values()) == len(pl.read_parquet(tmp_path / "shop" / "events.parquet"))


# --- what was planted is in the log


def test_users_buy_what_they_are_interested_in(purchases: pl.DataFrame, shop: Path) -> None:
    interests = pl.read_parquet(shop / "truth" / "users.parquet").select(
        "user_id", pl.col("topics").arr.to_list().list.head(MAX_INTERESTS), "short_share"
    )
    steady = purchases.join(interests.filter(pl.col("short_share") == 0), on="user_id")
    inside = steady.select(pl.col("topics").list.contains(pl.col("topic"))).to_series().mean()
    assert 0.9 < inside < 0.96  # 8 % are whims, and some of these hit by chance


def test_every_number_of_interests_from_one_to_five_is_planted(shop: Path) -> None:
    users = pl.read_parquet(shop / "truth" / "users.parquet")
    regular = users.filter(pl.col("kind") == KINDS_OF_USERS.index("regular"))
    share = regular["num_interests"].value_counts(normalize=True).sort("num_interests")
    assert share["num_interests"].to_list() == [1, 2, 3, 4, 5]
    assert share["proportion"].min() > 0.07
    weights = regular["weights_start"].to_numpy()
    np.testing.assert_array_equal((weights > 0).sum(axis=1), regular["num_interests"].to_numpy())


def test_long_term_interests_drift(truth: Truth) -> None:
    users = np.flatnonzero(truth.planted.num_interests > 1)
    first = slot_weights(truth.world, truth.planted, users, np.zeros_like(users))
    last = slot_weights(truth.world, truth.planted, users, np.full_like(users, PLAN.days - 15))
    assert np.abs(first - last)[:, :MAX_INTERESTS].max(axis=1).mean() > 0.1
    np.testing.assert_allclose(first.sum(axis=1), 1)


def test_short_term_interests_come_and_go(purchases: pl.DataFrame, truth: Truth) -> None:
    planted = truth.planted
    user = purchases["user_id"].str.slice(1).cast(pl.Int64).to_numpy()
    chosen = (planted.short_share_U > 0)[user]
    user, day = user[chosen], purchases["day"].to_numpy()[chosen]
    topic = purchases["topic"].to_numpy()[chosen]
    spell = (day + planted.spell_phase_U[user]) // 42
    now = planted.topic_UX[user, MAX_INTERESTS + spell]
    before = planted.topic_UX[user, MAX_INTERESTS + np.maximum(spell - 1, 0)]
    own = (planted.topic_UX[user, :MAX_INTERESTS] == topic[:, None]).any(axis=1)
    changed = now != before
    share_now = (topic == now)[~own & changed].mean()
    share_before = (topic == before)[~own & changed].mean()
    assert share_now > 4 * share_before


def test_popularity_falls_as_zipf_with_a_rounded_head(purchases: pl.DataFrame, truth: Truth) -> None:
    world = truth.world
    always = np.flatnonzero((world.launch_day_N == 0) & (world.appeal_SN > 0).all(axis=0))
    counts = np.bincount(purchases["item_id"].str.slice(1).cast(pl.Int64).to_numpy(), minlength=PLAN.items)
    rank = world.rank_N[always]
    mean = [counts[always][(rank >= low) & (rank < low + 8)].mean() for low in (0, 8, 16, 24)]
    expected = [np.mean(1 / (np.arange(low, low + 8) + 15)) for low in (0, 8, 16, 24)]
    np.testing.assert_allclose(np.array(mean) / mean[0], np.array(expected) / expected[0], atol=0.12)


def test_topics_have_seasons(purchases: pl.DataFrame, truth: Truth) -> None:
    season = truth.world.season_TY
    topic = int(np.argmax(season.max(axis=1) - season.min(axis=1)))
    day = purchases["day"].to_numpy() % 365
    mine = purchases["topic"].to_numpy() == topic
    high, low = season[topic][day] > 1.5, season[topic][day] < 0.5
    assert mine[high].mean() > 1.8 * mine[low].mean()


def test_countries_have_opposite_tastes_in_opposed_topics_only(purchases: pl.DataFrame, truth: Truth) -> None:
    opposed = truth.world.opposed_T[purchases["topic"].to_numpy()] & (purchases["topic"] != 0).to_numpy()
    first_of_topic = np.searchsorted(truth.world.category_topic_G, np.arange(PLAN.interests))
    place = purchases["category"].to_numpy() - first_of_topic[purchases["topic"].to_numpy()]
    country = purchases["scenario"].to_numpy()

    def share_of_first(chosen: np.ndarray, name: str) -> float:
        return float((place[chosen & (country == name)] == 0).mean())

    alike = ~opposed & (purchases["topic"] != 0).to_numpy()
    assert share_of_first(opposed, "de") > 2 * share_of_first(opposed, "fr")
    assert share_of_first(alike, "de") == pytest.approx(share_of_first(alike, "fr"), rel=0.2)


def test_the_catalogue_is_partly_shared_and_nothing_is_sold_where_it_is_not_offered(
    purchases: pl.DataFrame, truth: Truth
) -> None:
    sold_SN = truth.world.appeal_SN > 0
    assert 0.6 < sold_SN.all(axis=0).mean() < 0.95
    country = (purchases["scenario"] == "fr").cast(pl.Int64).to_numpy()
    assert sold_SN[country, purchases["item_id"].str.slice(1).cast(pl.Int64).to_numpy()].all()


def test_parents_and_hardly_anybody_else_buy_for_children(purchases: pl.DataFrame, shop: Path) -> None:
    profiles = pl.read_parquet(shop / "users.parquet")
    share = (
        purchases.join(profiles, on="user_id")
        .group_by("has_child")
        .agg((pl.col("topic") == 0).mean().alias("share"))
    )
    share_of = dict(share.iter_rows())
    assert share_of[True] > 20 * share_of[False]


def test_what_is_bought_follows_the_childs_gender_and_age(purchases: pl.DataFrame, shop: Path) -> None:
    profiles = pl.read_parquet(shop / "users.parquet").drop_nulls()
    names = pl.read_parquet(shop / "truth" / "categories.parquet")["category"]
    bought = purchases.filter((pl.col("topic") == 0) & (pl.col("day") > 300)).join(profiles, on="user_id")
    name = names.gather(bought["category"])
    girl = (bought["child_gender"] == "girl").to_numpy()
    girls = name.str.contains("girls").to_numpy()
    assert girls[girl].mean() > 4 * girls[~girl].mean()
    age = name.str.extract(r"-(\d)$").cast(pl.Int64).to_numpy()
    assert np.corrcoef(age, bought["child_age_group"].to_numpy())[0, 1] > 0.8


def test_purchases_grow_with_the_child(purchases: pl.DataFrame, shop: Path) -> None:
    names = pl.read_parquet(shop / "truth" / "categories.parquet")["category"]
    parents = pl.read_parquet(shop / "users.parquet").filter(pl.col("child_age_group").is_between(2, 5))
    bought = purchases.filter(pl.col("topic") == 0).join(parents, on="user_id")
    age = names.gather(bought["category"]).str.extract(r"-(\d)$").cast(pl.Int64).to_numpy()
    early, late = (bought["day"] < 60).to_numpy(), (bought["day"] > 320).to_numpy()
    assert age[late].mean() - age[early].mean() > 0.4


def test_labels_stand_on_impressions_and_interest_causes_clicks(events: pl.DataFrame, shop: Path) -> None:
    assert events.filter((pl.col("action") == "impression") != pl.col("label").is_not_null()).is_empty()
    assert events.filter((pl.col("action") == "purchase") != pl.col("quantity").is_not_null()).is_empty()
    topics = pl.read_parquet(shop / "truth" / "users.parquet").select(
        "user_id", pl.col("topics").arr.to_list().list.head(MAX_INTERESTS)
    )
    seen = events.filter(pl.col("action") == "impression").join(topics, on="user_id")
    rate = seen.group_by(pl.col("topics").list.contains(pl.col("topic")).alias("own")).agg(
        pl.col("label").mean()
    )
    rate_of = dict(rate.iter_rows())
    assert rate_of[True] > 2 * rate_of[False]


def test_every_click_follows_an_impression_with_label_1(events: pl.DataFrame) -> None:
    clicked = events.filter(pl.col("label") == 1)
    assert len(clicked) == len(events.filter(pl.col("action") == "click"))


def test_some_purchases_repeat_earlier_ones(purchases: pl.DataFrame) -> None:
    repeated = purchases.select(pl.struct("user_id", "item_id").is_first_distinct().not_()).to_series()
    assert 0.05 < float(repeated.mean() or 0) < 0.6


def test_cold_users_have_one_purchase_or_none(shop: Path) -> None:
    kinds = pl.read_parquet(shop / "truth" / "users.parquet").select("user_id", "kind")
    cold = kinds.filter(pl.col("kind") == KINDS_OF_USERS.index("cold"))
    counts = cold.join(pl.read_parquet(shop / "events.parquet"), on="user_id", how="inner")
    purchases = counts.filter(pl.col("action") == "purchase")
    assert 0.03 < len(cold) / PLAN.users < 0.07
    assert purchases["user_id"].n_unique() == len(purchases)
    assert 0 < len(purchases) < len(cold)


def test_bots_have_far_more_events_and_no_interests(shop: Path) -> None:
    users = pl.read_parquet(shop / "truth" / "users.parquet").select("user_id", "kind", "num_interests")
    counts = pl.read_parquet(shop / "events.parquet").group_by("user_id").len().join(users, on="user_id")
    bots = counts.filter(pl.col("kind") == KINDS_OF_USERS.index("bot"))
    assert len(bots) >= 1
    assert bots["num_interests"].max() == 0
    assert float(bots["len"].min() or 0) > 4 * float(counts["len"].median() or 0)


def test_cold_items_are_sold_late_or_never(purchases: pl.DataFrame, truth: Truth) -> None:
    launch = truth.world.launch_day_N
    item = purchases["item_id"].str.slice(1).cast(pl.Int64).to_numpy()
    assert (purchases["day"].to_numpy() >= launch[item]).all()
    assert (launch >= PLAN.days).mean() > 0.015
    late = (launch > PLAN.days - 2 * PERIOD_DAYS) & (launch < PLAN.days)
    assert np.bincount(item, minlength=PLAN.items)[late].sum() > 0


def test_titles_are_made_of_the_words_of_the_category_with_noise(shop: Path, truth: Truth) -> None:
    items = pl.read_parquet(shop / "items.parquet")
    assert 0 < items["title"].null_count() < 0.05 * PLAN.items
    code = truth.world.categories.index("garden/seeds")
    seeds = items.filter(pl.Series(truth.world.item_category_N == code))["title"].drop_nulls()
    words = seeds.str.split(" ").list
    own = ["tomato", "lavender", "basil", "sunflower", "bulbs", "outdoor", "lawn", "patio"]
    count = words.set_intersection(own).list.len()
    assert int(str(count.min())) >= 1
    assert (words.len() > count).all()


def test_truth_reads_back_what_was_planted(shop: Path, truth: Truth) -> None:
    facts = json.loads((shop / "truth" / "world.json").read_text("utf-8"))
    assert facts["plan"] == vars(PLAN)
    assert truth.world.taste_RG.sum(axis=1) == pytest.approx(1)
    assert truth.world.shelf(1, 3).sum() == pytest.approx(len(truth.world.categories))
    assert len(truth.planted) == PLAN.users
    assert WHIM == MAX_INTERESTS + 1
