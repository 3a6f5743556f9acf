"""Many systems and the simple methods on one shop of two planted tastes."""

import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import bootstrap, ttest_1samp

from polyvec.artifact import read_manifest
from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.embeddings import Embeddings
from polyvec.errors import ArtifactError, DataError, UsageError
from polyvec.evaluation.baselines import PERSONAL_FREQUENCY
from polyvec.evaluation.benchmark import UNTUNED, Benchmark, benchmark, tune
from polyvec.evaluation.benchmark_report import compare_runs, write_benchmark
from polyvec.evaluation.costs import kind_of
from polyvec.evaluation.evaluate import Settings, Truths
from polyvec.evaluation.paired import paired
from polyvec.evaluation.trials import SCHEMA as TRIALS

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
    assert sum("was not asked" in note for note in done.notes) == 4  # too few churn or buy; no prices


def test_item_similarity_is_found_in_vectors_that_know_it(done):
    found = done.similarity.filter(pl.col("part") == "all")
    values = dict(found.select("scorer", "value").iter_rows())
    assert values["planted"] > 0.65  # half of the pairs drawn apart are of one taste, too: 0.75 is the best
    assert abs(values["noise"] - 0.5) < 0.12
    assert values["item-to-item cosine"] > 0.6


def costs(systems, dataset):
    found = benchmark(systems, dataset, CUTOFF, SETTINGS)
    return {row["system"]: row for row in found.costs.iter_rows(named=True)}


def test_costs_are_the_bytes_of_the_vectors_and_unknown_where_not_told(done):
    rows = {row["system"]: row for row in done.costs.iter_rows(named=True)}
    assert rows["planted"]["bytes_per_user"] == 2 * 8 * 4
    assert rows["noise"]["seeds"] == 2
    for key in ("parameters", "training_seconds", "encode_seconds", "users_per_second"):
        assert rows["planted"][key] is None


def test_costs_are_means_over_the_runs_that_tell(taste_shop):
    dataset, _, made = taste_shop
    told = {"parameters": 70, "training_seconds": 4.0, "encode_seconds": 3.0, "encode_users_seconds": 2.0}
    slow = {"parameters": 70, "training_seconds": 8.0, "encode_seconds": None, "encode_users_seconds": None}
    runs = [replace(made, provenance={**made.provenance, **one}) for one in (told, slow)]
    row = costs({"mine": runs}, dataset)["mine"]
    assert (row["kind"], row["parameters"], row["training_seconds"]) == ("planted", 70, 6.0)
    assert (row["encode_seconds"], row["users_per_second"]) == (3.0, 80 / 2)


def test_the_kind_is_what_made_the_vectors_or_the_name_where_it_is_not_told(taste_shop):
    made = taste_shop[2]
    for provenance, kind in [
        ({"system": "guim", "variant": "GUIM-MH"}, "GUIM-MH"),
        ({"system": "als"}, "als"),
        ({"system": "foreign"}, "mine"),
        ({}, "mine"),
    ]:
        assert kind_of("mine-4", replace(made, provenance=provenance)) == kind


def test_every_run_counts_in_every_task(taste_shop, monkeypatch):
    monkeypatch.setattr("polyvec.evaluation.benchmark.standard_features", lambda *_, **__: {})
    dataset, tastes, made = taste_shop
    labels = pl.DataFrame({"user_id": dataset.users.series, "taste": np.array(["tea", "coffee"])[tastes]})
    runs = [noise(made, 1), noise(made, 2)]
    done, *alone = (
        benchmark({"noise": one}, dataset, CUTOFF, SETTINGS, Truths(labels, ("taste",)))
        for one in (runs, runs[:1], runs[1:])
    )
    for table, name in [("trials", "features"), ("similarity", "scorer")]:
        both, *each = (
            getattr(one, table).filter(pl.col(name) == "noise").drop_nulls("value") for one in (done, *alone)
        )
        assert len(both) > 0
        for row, first, second in zip(*(one.iter_rows(named=True) for one in (both, *each)), strict=True):
            turns = [(first, second)[place % 2]["per_seed"][place] for place in range(5)]
            assert row["per_seed"] == pytest.approx(turns)
            assert row["value"] == pytest.approx(np.mean(turns))
            assert row["per_run"] == pytest.approx([np.mean(turns[::2]), np.mean(turns[1::2])])
    assert "fewer than 5 seeds: noise (2)" in done.notes


def test_more_runs_than_splits_are_all_asked(taste_shop):
    dataset, _, made = taste_shop
    found = benchmark({"mine": [made] * 6, "other": [made]}, dataset, CUTOFF, SETTINGS)
    lengths = found.similarity.select(pl.col("per_seed").list.len(), pl.col("per_run").list.len())
    assert lengths.row(0) == (6, 6)
    assert not any(note.startswith("fewer than 5 seeds: mine") for note in found.notes)


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


def test_what_is_clicked_together_is_asked_where_the_log_tells_clicks(taste_shop):
    dataset, _, made = taste_shop
    times, actions = np.asarray(dataset.times), np.zeros(dataset.num_events, np.uint8)
    actions[::2] = 1
    told = replace(dataset, columns={"action": actions}, codes={"action": ["purchase", "click"]}, times=times)
    found = benchmark({"planted": [made]}, told, CUTOFF, SETTINGS).similarity
    tasks = found["task"].unique(maintain_order=True).to_list()
    assert [task.partition(",")[0] for task in tasks] == ["item similarity", "item similarity of clicks"]
    assert found.filter(pl.col("task") == tasks[1])["scorer"].unique().sort().to_list() == [
        "item-to-item cosine",
        "planted",
    ]


def test_data_with_an_order_is_asked_for_the_next_item(taste_shop, tmp_path):
    dataset, _, made = taste_shop
    ordered = replace(dataset, time_kind="order")
    held = replace(made, provenance={"held_back": 1})
    found = benchmark({"planted": [held]}, ordered, None, replace(SETTINGS, remove_seen=True))
    assert found.matching["task"].unique().to_list() == ["next item, leave-one-out"]
    assert len(found.similarity) == 0
    content = write_benchmark(tmp_path / "run", found, {}, {})
    assert [row["task"] for row in content["verdicts"]] != []
    assert "Item similarity" not in (tmp_path / "run" / "benchmark.html").read_text()
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
    assert "Cold and warm" in page
    assert "<th>item 6–20<small>" in page
    assert 'id="transfer"' not in page  # this shop has no prices
    assert not any(loading in page for loading in ("<script", "<link", "src=", "@import", "url(http"))
    spread = ttest_1samp(figures(done, metric="recall@100")["noise"]["per_seed"], 0).confidence_interval(0.95)
    assert f"; seeds ± {(spread.high - spread.low) / 2:.3f}" in page
    assert any("planted is better than noise" in verdict["text"] for verdict in content["verdicts"])
    same = compare_runs(tmp_path / "a", tmp_path / "b")
    assert set(same["ranker"]) == set(done.per_user["ranker"])
    assert same["difference"].abs().max() == 0
    with pytest.raises(ArtifactError):
        compare_runs(tmp_path / "a", tmp_path / "nothing")


def test_the_page_shows_a_learning_curve_where_there_are_prices(done, tmp_path):
    about = {"task": "transfer", "label": "price level", "probe": "linear", "metric": "auc", "users": 280}
    rows = [
        about | {"features": name, "train_users": users, "classes": 7, "value": value}
        for name in ("planted", "hand-made aggregates")
        for users, value in ((7, 0.555), (196, 0.777))
    ]
    told = pl.concat([done.trials, pl.DataFrame(rows, schema=TRIALS)])
    write_benchmark(tmp_path / "a", replace(done, trials=told), {}, {})
    page = (tmp_path / "a" / "benchmark.html").read_text()
    section = page[page.index('<section id="transfer">') :]
    for text in ("price level", "280 users, 7 levels", "7 labels", "196 labels", "0.555", "0.777"):
        assert text in section
    assert "transfer: price level" not in page  # not among profiles and behaviour


def cells(page: str, row: str) -> list[list[str]]:
    """Text of the cells of every table row that begins with this one."""
    rows = re.findall(rf"<tr[^>]*><td>{re.escape(row)}</td>(.*?)</tr>", page)
    return [re.findall(r"<td[^>]*>(.*?)(?:<small>|</td>)", one) for one in rows]


def test_the_page_says_how_many_seeds_a_number_has_and_how_far_they_spread(done, tmp_path):
    write_benchmark(tmp_path / "run", done, {}, {})
    page = (tmp_path / "run" / "benchmark.html").read_text()
    *tasks, costs = cells(page, "noise")
    assert len(tasks) > 10  # matching, probes of the taste, parts of item similarity
    assert {one[0] for one in tasks} == {"2", "–"}
    assert {one[0] for one in cells(page, "EASE")} == {"1"}
    assert {one[0] for one in cells(page, "hand-made aggregates")} == {"1"}
    assert costs[0] == "noise"
    assert costs[-4:] == ["–"] * 4
    for section in ("matching", "labels", "similarity"):
        assert "; seeds ± " in page.split(f'<section id="{section}">')[1].split("</section>")[0]


def test_vectors_that_tell_nothing_of_themselves_make_a_whole_page(taste_shop, tmp_path):
    dataset, _, made = taste_shop
    found = benchmark({"mine": [replace(made, provenance={})]}, dataset, CUTOFF, SETTINGS)
    content = write_benchmark(tmp_path / "run", found, {}, {})
    assert content["curves"] == []
    page = (tmp_path / "run" / "benchmark.html").read_text()
    assert "over C" not in page
    assert "; seeds ±" not in page
    assert page.rstrip().endswith("</html>")


def test_systems_of_one_kind_are_drawn_over_their_numbers_of_vectors(taste_shop, tmp_path):
    dataset, _, made = taste_shop
    one = replace(made, users=replace(made.users, vectors=made.users.vectors[:, :1]))
    found = benchmark({"two": [made, made], "one": [one]}, dataset, CUTOFF, SETTINGS)
    content = write_benchmark(tmp_path / "run", found, {}, {})
    points = [row for row in content["curves"] if row["task"] == "CMP-L"]
    assert [(row["line"], row["C"], row["system"]) for row in points] == [
        ("planted, D = 8", 1, "one"),
        ("planted, D = 8", 2, "two"),
    ]
    (measured,) = (
        row
        for row in content["matching"]
        if (row["task"], row["ranker"], row["metric"], row["part"]) == ("CMP-L", "two", "recall@100", "all")
    )
    for key in ("value", "low", "high", "per_seed"):
        assert points[1][key] == measured[key]
    page = (tmp_path / "run" / "benchmark.html").read_text()
    assert page.count("recall@100 over C") == len(found.matching["task"].unique())


@pytest.mark.parametrize(
    ("key", "value"), [("cutoff", "1970-05-01"), ("history_days", 30), ("seen_removed", True)]
)
def test_runs_that_were_asked_in_another_way_are_not_paired(done, tmp_path, key, value):
    protocol = {"cutoff": "1970-04-11", "history_days": 100, "target_days": 30, "seen_removed": False}
    write_benchmark(tmp_path / "a", done, protocol, {})
    write_benchmark(tmp_path / "b", done, protocol | {key: value}, {})
    with pytest.raises(DataError, match=f"different {key.replace('_', ' ')}: .* and {value}"):
        compare_runs(tmp_path / "a", tmp_path / "b")


def test_runs_of_other_data_are_not_paired(done, taste_shop, tmp_path):
    taste_shop[2].save(tmp_path / "e")
    parent = read_manifest(tmp_path / "e", "embeddings")
    write_benchmark(tmp_path / "a", done, {}, {"dataset": parent})
    write_benchmark(tmp_path / "b", done, {}, {})
    with pytest.raises(DataError, match="different data"):
        compare_runs(tmp_path / "a", tmp_path / "b")


def test_a_label_that_cannot_be_told_costs_no_other_task(taste_shop):
    dataset, tastes, made = taste_shop
    people = pl.DataFrame({
        "user_id": dataset.users.series,
        "taste": np.array(["tea", "coffee"])[tastes],
        "number": np.arange(dataset.num_users).astype(str),
    })  # fmt: skip
    found = benchmark({"planted": [made]}, dataset, CUTOFF, SETTINGS, Truths(people, ("number", "taste")))
    assert any(note.startswith("profile number was not asked: 0 classes") for note in found.notes)
    assert "taste" in found.trials["label"].to_list()
    twice = Truths(pl.concat([people, people]), ("taste",))
    with pytest.raises(DataError, match="a user has two profiles"):
        benchmark({"planted": [made]}, dataset, CUTOFF, SETTINGS, twice)


def test_runs_of_one_name_must_be_of_one_system(taste_shop):
    dataset, _, made = taste_shop
    narrow = replace(made, users=replace(made.users, vectors=made.users.vectors[:, :1]))
    for other in (narrow, noise(made, 1)):
        with pytest.raises(UsageError, match="different systems are given under the name both"):
            benchmark({"both": [made, other]}, dataset, CUTOFF, SETTINGS)


def test_simple_methods_are_tuned_on_days_before_the_cut_off(taste_shop):
    dataset, _, made = taste_shop
    tuning = tune(dataset, CUTOFF, SETTINGS)
    early = dataset.keep(np.asarray(dataset.times) < CUTOFF)
    assert tune(early, CUTOFF, SETTINGS) == tuning
    assert UNTUNED in benchmark({"planted": [made]}, dataset, CUTOFF, SETTINGS).notes
    assert UNTUNED not in benchmark({"planted": [made]}, dataset, CUTOFF, SETTINGS, tuning=tuning).notes


def test_systems_that_stand_alone_in_two_runs_are_paired_with_each_other(done, tmp_path):
    for name in ("planted", "noise"):
        only = replace(done, per_user=done.per_user.filter(pl.col("ranker") == name))
        write_benchmark(tmp_path / name, only, {}, {})
    rows = compare_runs(tmp_path / "planted", tmp_path / "noise")
    expected = done.pairs.filter(pl.col("ranker") == "planted", pl.col("against") == "noise")
    ours = rows.filter(pl.col("metric") == "recall@100", pl.col("part") == "all")
    assert ours["difference"].to_list() == pytest.approx(expected["difference"].to_list())
