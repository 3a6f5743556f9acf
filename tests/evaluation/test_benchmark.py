"""Many systems and the simple methods on one shop of two planted tastes."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import bootstrap, ttest_1samp

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.embeddings import Embeddings
from polyvec.errors import ArtifactError, DataError, UsageError
from polyvec.evaluation.baselines import PERSONAL_FREQUENCY
from polyvec.evaluation.benchmark import Benchmark, benchmark, paired
from polyvec.evaluation.benchmark_report import compare_runs, write_benchmark
from polyvec.evaluation.evaluate import Settings, Truths

CUTOFF = 100 * DAY
SETTINGS = Settings(history_days=100, target_days=30)


def noise(made: Embeddings, seed: int) -> Embeddings:
    """Vectors that know nothing, of the same users and items."""
    generator = np.random.default_rng(seed)
    shapes = made.users.vectors.shape, made.items.vectors.shape
    vectors = [generator.normal(size=shape) for shape in shapes]
    ids = made.users.ids.series, made.items.ids.series
    return Embeddings.from_arrays(
        ids[0], vectors[0], ids[1], vectors[1], provenance={**made.provenance, "system": "noise"}
    )


@pytest.fixture(scope="module")
def done(taste_shop) -> Benchmark:
    dataset, tastes, made = taste_shop
    labels = pl.DataFrame({"user_id": dataset.users.series, "taste": np.array(["tea", "coffee"])[tastes]})
    systems = {"planted": [made], "noise": [noise(made, 1), noise(made, 2)]}
    return benchmark(systems, dataset, CUTOFF, SETTINGS, Truths(labels, ("taste",)))


def figures(done: Benchmark, task: str = "CMP-L", metric: str = "recall@10") -> dict[str, dict]:
    rows = done.matching.filter(pl.col("task") == task, pl.col("metric") == metric, pl.col("part") == "all")
    return {row["ranker"]: row for row in rows.iter_rows(named=True)}


def test_systems_are_ordered_as_planted(done):
    found = figures(done)
    assert found["planted"]["value"] > found["popularity"]["value"] > found["noise"]["value"] - 0.1
    assert found["planted"]["value"] > 1.2 * found["noise"]["value"]
    assert {"item-to-item cosine", "EASE", PERSONAL_FREQUENCY} < set(found)


def test_runs_of_one_system_are_averaged_user_by_user(done, taste_shop):
    dataset, _, made = taste_shop
    alone = [
        figures(benchmark({"noise": [noise(made, seed)]}, dataset, CUTOFF, SETTINGS))["noise"]["value"]
        for seed in (1, 2)
    ]
    both = figures(done)["noise"]
    assert both["per_seed"] == pytest.approx(alone)
    assert both["value"] == pytest.approx(np.mean(alone))


def test_labels_are_told_from_vectors_that_know_them_and_what_is_not_asked_is_noted(done):
    taste = done.trials.filter(
        pl.col("label") == "taste", pl.col("metric") == "auc", pl.col("probe") == "linear"
    )
    found = dict(taste.select("features", "value").iter_rows())
    assert found["planted"] > 0.95
    assert found["noise"] < 0.75
    assert "TF-IDF + SVD of bought items" in found
    assert sum("was not asked" in note for note in done.notes) == 3  # behaviour: too few churn or buy


def test_item_similarity_is_found_in_vectors_that_know_it(done):
    found = done.similarity.filter(pl.col("part") == "all")
    values = dict(found.select("scorer", "value").iter_rows())
    assert values["planted"] > 0.65  # half of the pairs drawn apart are of one taste, too: 0.75 is the best
    assert abs(values["noise"] - 0.5) < 0.12


def test_costs_are_the_bytes_of_the_vectors(done):
    rows = {row["system"]: row for row in done.costs.iter_rows(named=True)}
    assert rows["planted"]["bytes_per_user"] == 2 * 8 * 4
    assert rows["noise"]["seeds"] == 2


def test_differences_are_paired_by_user(done):
    both = done.per_user.filter(
        pl.col("metric") == "ndcg@10", pl.col("task") == "CMP-L", pl.col("part") == "all"
    )
    wide = both.pivot("ranker", index="user_id", values="value")
    expected = (wide["planted"] - wide["noise"]).mean()
    row = paired(both, both, "planted", "noise").row(0, named=True)
    assert row["difference"] == pytest.approx(expected)
    other = bootstrap(
        ((wide["planted"] - wide["noise"]).cast(pl.Float64).to_numpy(),),
        np.mean,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (row["low"], row["high"]) == pytest.approx(tuple(other), abs=0.1 * (other.high - other.low))
    assert row["users"] == len(wide)
    with pytest.raises(DataError, match="planted and nobody have no user of the same task in common"):
        paired(both, both, "planted", "nobody")


@pytest.mark.parametrize("key", ["events_until", "trained_until"])
def test_a_system_that_knows_the_future_is_refused(taste_shop, key):
    dataset, _, made = taste_shop
    told = replace(made, provenance={**made.provenance, key: CUTOFF + 1})
    with pytest.raises(DataError, match="nothing at or after the cut-off"):
        benchmark({"planted": [made], "told": [told]}, dataset, CUTOFF, SETTINGS)


def test_what_cannot_be_checked_is_noted_by_name(taste_shop):
    dataset, _, made = taste_shop
    found = benchmark({"mine": [replace(made, provenance={})]}, dataset, CUTOFF, SETTINGS)
    assert any(note.startswith("mine: cannot be checked") for note in found.notes)


def test_a_canary_that_is_only_sold_after_the_cut_off_is_found_by_no_simple_method(taste_shop):
    dataset, _, made = taste_shop
    ids = dataset.users.series.to_list()
    rows = [
        (dataset.users.ids([user])[0], dataset.items.ids([item])[0], int(time))
        for user in range(dataset.num_users)
        for item, time in zip(
            dataset.item_rows[dataset.user_offsets[user] : dataset.user_offsets[user + 1]],
            dataset.times[dataset.user_offsets[user] : dataset.user_offsets[user + 1]],
            strict=True,
        )
    ]
    canary = Dataset.from_rows(
        [*rows, *[(user, "canary", CUTOFF + DAY) for user in ids]],
        pl.DataFrame({"item_id": [*dataset.items.series.to_list(), "canary"]}),
    )
    found = benchmark({"planted": [made]}, canary, CUTOFF, SETTINGS)
    plain = benchmark({"planted": [made]}, dataset, CUTOFF, SETTINGS)
    for ranker, row in figures(found).items():
        assert row["value"] < figures(plain)[ranker]["value"] + 0.05, ranker


def test_where_nobody_takes_two_items_the_other_tasks_are_asked_all_the_same():
    rows = [(user, item, day * DAY) for user in range(30) for item, day in ((user % 7, 90), (user % 5, 105))]
    dataset = Dataset.from_rows(rows)
    made = Embeddings.from_arrays(
        dataset.users.series, np.ones((30, 2)), dataset.items.series, np.ones((7, 2))
    )
    found = benchmark({"mine": [made]}, dataset, CUTOFF, SETTINGS)
    assert len(found.similarity) == 0
    assert "mine" in found.matching["ranker"].to_list()
    assert any(
        note == "item similarity was not asked: no user takes two items in the 30 days after 1970-04-11"
        for note in found.notes
    )


def test_data_with_an_order_is_asked_for_the_next_item(taste_shop):
    dataset, _, made = taste_shop
    ordered = replace(dataset, time_kind="order")
    held = replace(made, provenance={"held_back": 1})
    found = benchmark({"planted": [held]}, ordered, None, replace(SETTINGS, remove_seen=True))
    assert found.matching["task"].unique().to_list() == ["next item, leave-one-out"]
    assert len(found.similarity) == 0
    with pytest.raises(UsageError, match="a cut-off needs timestamps"):
        benchmark({"planted": [held]}, ordered, CUTOFF)
    with pytest.raises(UsageError, match="no cut-off is given"):
        benchmark({"planted": [made]}, dataset)


# --- on disk


def test_a_run_is_written_whole_and_compared_by_user(done, tmp_path):
    content = write_benchmark(tmp_path / "a", done, {"cutoff": "1970-04-11"}, {})
    write_benchmark(tmp_path / "b", done, {"cutoff": "1970-04-11"}, {})
    assert json.loads((tmp_path / "a" / "benchmark.json").read_text()) == content
    page = (tmp_path / "a" / "benchmark.html").read_text()
    assert "item-to-item cosine" in page
    assert not any(loading in page for loading in ("<script", "<link", "src=", "@import", "url(http"))
    spread = ttest_1samp(figures(done, metric="recall@100")["noise"]["per_seed"], 0).confidence_interval(0.95)
    assert f"; seeds ± {(spread.high - spread.low) / 2:.3f}" in page
    assert any("planted is better than noise" in verdict["text"] for verdict in content["verdicts"])
    same = compare_runs(tmp_path / "a", tmp_path / "b")
    assert set(same["ranker"]) == set(done.per_user["ranker"])
    assert same["difference"].abs().max() == 0
    with pytest.raises(ArtifactError):
        compare_runs(tmp_path / "a", tmp_path / "nothing")


def test_systems_that_stand_alone_in_two_runs_are_paired_with_each_other(done, tmp_path):
    for name in ("planted", "noise"):
        only = replace(done, per_user=done.per_user.filter(pl.col("ranker") == name))
        write_benchmark(tmp_path / name, only, {}, {})
    rows = compare_runs(tmp_path / "planted", tmp_path / "noise")
    expected = done.pairs.filter(pl.col("ranker") == "planted", pl.col("against") == "noise")
    ours = rows.filter(pl.col("metric") == "recall@100", pl.col("part") == "all")
    assert ours["difference"].to_list() == pytest.approx(expected["difference"].to_list())
