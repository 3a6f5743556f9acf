"""The daily update of DUPN: what is new is foretold, learned, judged and published; and the way back."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch

from polyvec.artifact import Manifest, read_manifest
from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset, parse_date
from polyvec.data.split import cut
from polyvec.errors import DataError, TrainingError, UsageError
from polyvec.systems import dupn
from polyvec.systems.dupn import DUPN, Task
from polyvec.systems.dupn import update as update_model
from polyvec.systems.dupn.features import ITEM_ID
from polyvec.systems.dupn.fit import make_optimizers_of
from polyvec.systems.dupn.objective import worth_of_each
from polyvec.systems.dupn.tasks import samples_of
from polyvec.systems.dupn.update import News
from polyvec.systems.updating import UpdateOptions, one_pass
from polyvec.systems.versions import rollback, versions
from polyvec.training.checkpoint import read_optimizers
from polyvec.training.growth import go_on

DAY = MICROSECONDS_PER_DAY
NEW_ITEMS = 8
ANY = UpdateOptions(share=0.3, tolerance=1.0)  # publishes whatever it sees


@pytest.fixture(scope="module")
def turned(dataset, last_week) -> Dataset:
    """The shop whose prices turn around in the last week, in which there are new items of a new brand too."""
    times, rows = np.asarray(dataset.times), np.asarray(dataset.item_rows).copy()
    is_new = (times >= last_week) & (rows < NEW_ITEMS)
    rows[is_new] += dataset.num_items  # the same categories: places go on in the same turn
    more = dataset.item_table[:NEW_ITEMS].with_columns(
        item_id=pl.Series([f"n{number}" for number in range(NEW_ITEMS)]), brand=pl.lit("b new")
    )
    table = pl.concat([dataset.item_table, more])
    prices = np.asarray(dataset.columns["price"]).copy()
    prices[times >= last_week] = 5 - prices[times >= last_week]
    users = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    events = [
        (dataset.users.ids([user])[0], table[ITEM_ID][int(row)], int(time))
        for user, row, time in zip(users, rows, times, strict=True)
    ]
    made = Dataset.from_rows(events, table)
    return replace(made, columns=dataset.columns | {"price": prices}, codes=dataset.codes)


@pytest.fixture(scope="module")
def fitted(dataset, config, options, last_week, tmp_path_factory):
    folder = tmp_path_factory.mktemp("update") / "shop.dupn"
    dupn.fit(dataset, folder, config, replace(options, epochs=5), until=last_week, validation="none")
    return folder


@pytest.fixture
def folder(fitted, tmp_path):
    return shutil.copytree(fitted, tmp_path / "shop.dupn")


@pytest.fixture(scope="module")
def quick(options):
    return replace(one_pass(options), learning_rate=options.learning_rate, epochs=6)


@pytest.fixture(scope="module")
def updated(fitted, turned, quick, tmp_path_factory):
    folder = shutil.copytree(fitted, tmp_path_factory.mktemp("updated") / "shop.dupn")
    update_model(folder, turned, quick, ANY)
    return folder


def vectors(folder, dataset: Dataset) -> np.ndarray:
    model = DUPN.open(folder)
    return model.encode_users(dataset, cut(dataset, model.trained_until, 1000, 1))


def test_an_update_learns_what_has_changed(updated, fitted):
    told = read_manifest(updated, "model").meta["updates"][0]
    price = told["gate"]["price"]
    assert price["before"] < 0.7  # what was cheap is dear now
    assert price["after"] > price["before"] + 0.2
    assert told["foretold"]["price"] < 0.7
    assert told["gate"]["click"]["after"] > 0.7  # what has not changed is still known


def test_new_items_and_entities_get_rows_and_old_ones_keep_theirs(updated, fitted, turned):
    before, after = DUPN.open(fitted), DUPN.open(updated)
    old, new = (model.fields.items[ITEM_ID].series for model in (before, after))
    assert new[: len(old)].equals(old)
    assert set(new[len(old) :]) == {f"n{number}" for number in range(NEW_ITEMS)}
    _, known = after.tasks["brand"]
    assert known.names is not None
    assert known.names.series.to_list()[-1] == "b new"
    states, events = after.item_states(turned.item_table)
    assert (events[-NEW_ITEMS:] > 0).all()
    assert (states == 0).sum() == (events > 0).sum()


def test_a_new_item_begins_at_the_mean_of_its_category(fitted, turned, last_week):
    model = DUPN.open(fitted)
    news = News.of(model, turned, last_week, 1000 * DAY, UpdateOptions(share=0))
    larger = news.grown(model, turned)
    rows = larger.fields.items[ITEM_ID].rows(["n1"]) + 1
    table = larger.network.encoder.items.ids.all().detach()
    alike = turned.item_table.filter(pl.col("category") == "c1", ~pl.col(ITEM_ID).str.starts_with("n"))
    expected = table[model.fields.items[ITEM_ID].rows(alike[ITEM_ID]) + 1].mean(dim=0)
    torch.testing.assert_close(table[rows[0]], expected)


def test_growing_alone_changes_no_answer(fitted, turned, last_week):
    model = DUPN.open(fitted)
    larger = News.of(model, turned, last_week, 1000 * DAY, UpdateOptions(share=0)).grown(model, turned)
    windows = cut(turned, last_week, 1000, 1)  # before there was anything new
    np.testing.assert_array_equal(model.encode_users(turned, windows), larger.encode_users(turned, windows))


def test_rows_that_nothing_touches_stay_bit_for_bit(folder, turned, quick, last_week):
    before = DUPN.open(folder).network.encoder.items.ids.all().detach()
    is_new, rows = np.asarray(turned.times) >= last_week, np.asarray(turned.item_rows)
    users = np.repeat(np.arange(turned.num_users), np.diff(turned.user_offsets))
    # Some items have events of users alone who did nothing new.
    some = turned.keep(np.where(is_new, (users % 2 == 0) & (rows % 3 > 0), users % 2 == 1))
    after = update_model(folder, some, quick, gate=False)
    new = np.unique(np.asarray(some.item_rows)[np.asarray(some.times) >= last_week])
    seen = after.fields.items[ITEM_ID].rows(some.items.take(new)) + 1
    table = after.network.encoder.items.ids.all().detach()
    untouched = np.setdiff1d(np.arange(1, len(before)), seen)
    assert len(untouched) > 10
    assert not torch.equal(table[seen[seen < len(before)]], before[seen[seen < len(before)]])
    torch.testing.assert_close(table[untouched], before[untouched], rtol=0, atol=0)


def test_only_what_is_new_is_learned_and_nothing_after_the_end(fitted, turned, last_week):
    model, stop = DUPN.open(fitted), last_week + 3 * DAY
    news = News.of(model, turned, last_week, stop, UpdateOptions(share=0.2))
    for name, samples in news.training.items():
        assert last_week <= samples.times.min() <= samples.times.max() < stop, name
        assert not set(samples.users) & set(news.held_out[name].users), name
    assert news.counts.sum() == ((turned.times >= last_week) & (turned.times < stop)).sum()


def test_some_of_the_days_before_are_learned_again(fitted, turned, last_week):
    model, how = DUPN.open(fitted), UpdateOptions(share=0, rehearsal=0.5, rehearsal_days=5)
    news = News.of(model, turned, last_week, last_week + 3 * DAY, how)
    alone = News.of(model, turned, last_week, last_week + 3 * DAY, UpdateOptions(share=0))
    assert news.training.keys() == alone.training.keys()
    assert news.rehearsed.keys() == news.training.keys()
    for name, samples in news.rehearsed.items():
        task = model.tasks[name][0]
        if task.kind == "window":  # whose moments are as long ago as the answers are to come
            over = last_week - task.days * DAY
            assert over - 6 * DAY < samples.times.min() <= samples.times.max() <= over, name
        else:
            assert last_week - 5 * DAY <= samples.times.min() <= samples.times.max() < last_week, name
        assert 0 < len(samples) <= round(0.5 * len(news.training[name])), name
        learned = news.lessons[name]
        np.testing.assert_array_equal(learned.times[: len(alone.training[name])], alone.training[name].times)
        np.testing.assert_array_equal(learned.answers[len(alone.training[name]) :], samples.answers)
    assert not alone.rehearsed
    judged = News.of(model, turned, last_week, last_week + 3 * DAY, replace(how, share=0.3))
    for name, samples in judged.rehearsed.items():
        assert not set(samples.users) & set(judged.held_out[name].users), name
    everything = News.of(model, turned, last_week, last_week + 3 * DAY, replace(how, rehearsal=1000))
    assert len(everything.rehearsed["click"]) < 1000 * len(news.training["click"])  # all that there are, once


def test_what_is_rehearsed_is_not_forgotten(fitted, turned, quick, last_week, tmp_path):
    """Prices turn around: who learns the new ones alone no longer knows the old."""
    found = {}
    for rehearsal in (0.0, 2.0):
        folder = shutil.copytree(fitted, tmp_path / f"{rehearsal}")
        model = update_model(folder, turned, quick, replace(ANY, rehearsal=rehearsal))
        task, known = model.tasks["price"]
        before = samples_of(turned, task, known, last_week - 5 * DAY, last_week, 0, model.config.max_length)
        _, each = next(
            iter(worth_of_each(model.network, "price", task, before, model.encoder_of(turned)).items())
        )
        found[rehearsal] = float(each.mean())
    told = model.manifest.meta["updates"][0]
    assert told["rehearsed"]["price"] == 2 * told["samples"]["price"]
    assert found[2.0] > found[0.0] + 0.1


def test_an_answer_of_days_to_come_is_learned_once_when_they_are_over(
    turned, config, options, last_week, tmp_path
):
    folder = tmp_path / "shop.dupn"
    churn = Task("window", days=5, every_days=1)
    config = replace(config, tasks={"churn": churn})
    dupn.fit(turned, folder, config, replace(options, epochs=1), until=last_week, validation="none")
    model = DUPN.open(folder)
    known = samples_of(turned, churn, model.tasks["churn"][1], -(2**60), last_week, 0, 12)
    first, second = (
        News.of(
            replace(model, trained_until=start), turned, start, start + 2 * DAY, UpdateOptions(share=0)
        ).training["churn"]
        for start in (last_week, last_week + 2 * DAY)
    )
    moments = [set((samples.times // DAY).tolist()) for samples in (known, first, second)]
    end = last_week // DAY - 5  # the last moment whose answer was known before
    assert max(moments[0]) == end
    assert moments[1:] == [{end + 1, end + 2}, {end + 3, end + 4}]


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_moments_are_as_many_however_often_a_model_is_updated(fitted, turned, last_week, steps):
    churn, model = Task("window", days=2, every_days=3), DUPN.open(fitted)
    tasks = {"churn": (churn, model.tasks["click"][1])}
    model = replace(model, tasks=tasks)
    bounds = [last_week + number * 6 * DAY // steps for number in range(steps + 1)]
    asked = []
    for start, stop in pairwise(bounds):
        with suppress(DataError):  # nothing is answered by that day
            asked += (
                News.of(model, turned, start, stop, UpdateOptions(share=0)).training["churn"].times.tolist()
            )
    assert len(set(asked)) == 2
    assert not np.any(np.array(asked) % (3 * DAY))


def test_what_is_shown_today_is_asked_about_when_the_day_is_over(fitted, last_week, turned):
    """Shown at 10:58, bought at 11:02; the update at 11:00 does not learn that it was not."""
    model = DUPN.open(fitted)
    minute = DAY // 1440
    log = [("u1", "i01", last_week + number * DAY // 10 - 3 * DAY, "purchase") for number in range(10)]
    log += [
        ("u1", "i02", last_week + 658 * minute, "impression"),
        ("u1", "i02", last_week + 662 * minute, "purchase"),
    ]
    log += [
        ("u1", "i03", last_week + 600 * minute, "impression"),
        ("u1", "i04", last_week + 3 * DAY, "purchase"),
    ]
    frame = pl.DataFrame(log, schema=["user", "item", "time", "action"], orient="row").sort("user", "time")
    made = Dataset.from_rows(list(frame.select("user", "item", "time").iter_rows()), turned.item_table)
    codes = np.array([["impression", "purchase"].index(one) for one in frame["action"]])
    made = replace(
        made, columns=made.columns | {"action": codes}, codes={"action": ["impression", "purchase"]}
    )
    model = replace(model, tasks={"click": (Task("item", labels="exposed"), model.tasks["click"][1])})
    noon = last_week + 660 * minute
    with pytest.raises(DataError, match="no task is answered"):
        News.of(model, made, last_week, noon, UpdateOptions(share=0))
    learned = News.of(model, made, noon, last_week + 2 * DAY, UpdateOptions(share=0)).training["click"]
    answers = dict(zip(made.item_table[ITEM_ID].gather(learned.items), learned.answers.tolist(), strict=True))
    assert answers == {"i02": 1, "i03": 0}


def test_the_log_of_the_new_day_alone_is_refused(folder, turned, last_week):
    new = turned.keep(np.asarray(turned.times) >= last_week)
    with pytest.raises(DataError, match="no event lies before"):
        update_model(folder, new)


def test_what_comes_later_than_the_log_is_news_another_time(folder, turned, quick):
    model = update_model(folder, turned, quick, ANY, until=turned.time_span[1] + 5 * DAY)
    assert model.trained_until == turned.time_span[1] + 1


def test_the_way_back_restores_every_answer(folder, turned, quick):
    before = vectors(folder, turned)
    update_model(folder, turned, quick)
    assert not np.array_equal(vectors(folder, turned), before)
    assert read_manifest(folder, "model").meta["version"] == 2
    manifest = rollback(folder)
    assert manifest.meta.get("version", 1) == 1
    np.testing.assert_array_equal(vectors(folder, turned), before)
    assert list(versions(folder)) == [1, 2]
    rollback(folder, 2)
    assert read_manifest(folder, "model").meta["version"] == 2


def test_a_model_that_learned_false_answers_is_refused(folder, turned, quick, monkeypatch):
    model, before = DUPN.open(folder), vectors(folder, turned)
    news = News.of(model, turned, model.trained_until, 1000 * DAY, UpdateOptions(share=0.3))
    click = news.training["click"]
    false = replace(news, training={"click": replace(click, answers=1 - click.answers)})
    monkeypatch.setattr(News, "of", lambda *_: false)
    with pytest.raises(TrainingError, match="worse than the one that serves") as caught:
        update_model(folder, turned, replace(quick, epochs=8), UpdateOptions(share=0.3))
    assert "click: auc" in str(caught.value)
    np.testing.assert_array_equal(vectors(folder, turned), before)
    assert not versions(folder)
    update_model(folder, turned, quick, gate=False)  # asked for unseen, it is published
    assert list(versions(folder)) == [1]


def test_an_update_that_was_killed_goes_on_to_the_same_bits(folder, turned, quick, updated, monkeypatch):
    options, seen = replace(quick, checkpoint_every=2), []

    def stop(self, batch, real=dupn.objective.Objective.__call__):
        seen.append(1)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return real(self, batch)

    before = vectors(folder, turned)
    with monkeypatch.context() as patch:
        patch.setattr(dupn.objective.Objective, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            update_model(folder, turned, options, ANY)
    np.testing.assert_array_equal(vectors(folder, turned), before)
    after = update_model(folder, turned, options, ANY, resume=True)
    whole = DUPN.open(updated)
    for name, weight in whole.network.state_dict().items():
        torch.testing.assert_close(after.network.state_dict()[name], weight, rtol=0, atol=0, msg=name)


def test_days_are_learned_one_after_the_other(folder, turned, options, last_week):
    for day in (1, 2, 3):
        update_model(folder, turned, until=last_week + day * DAY, gate=False)
    meta = read_manifest(folder, "model").meta
    assert [told["version"] for told in meta["updates"]] == [2, 3, 4]
    assert meta["trained_until"] == last_week + 3 * DAY
    assert list(versions(folder)) == [1, 2, 3]
    assert "version 4" in (folder / "card.md").read_text("utf-8")


def test_adagrads_sums_decay_and_new_rows_begin_afresh(dataset, turned, config, options, last_week, tmp_path):
    folder = tmp_path / "shop.dupn"
    config = replace(config, optimizer="adagrad", tasks={"click": config.tasks["click"]})
    dupn.fit(dataset, folder, config, replace(options, epochs=1), until=last_week, validation="none")
    model = DUPN.open(folder)
    larger = News.of(model, turned, last_week, 1000 * DAY, UpdateOptions(share=0)).grown(model, turned)
    optimizers = make_optimizers_of(larger.config, larger.network, options)
    file = folder / "optimizers.safetensors"
    assert go_on(file, optimizers, begin=0.1, decay=0.5)
    number = [name for name, _ in larger.network.named_parameters()].index(
        "encoder.items.tables.of item_id.weight"
    )
    old = read_optimizers(file)[0][number]["sum"]
    new = optimizers[0].state[list(larger.network.parameters())[number]]["sum"]
    torch.testing.assert_close(new[: len(old)], old * 0.5)
    assert len(new) > len(old)
    assert (new[len(old) :] == 0.1).all()


def test_nothing_new_is_said_plainly(folder, turned, last_week):
    with pytest.raises(DataError, match="which the model has learned until"):
        update_model(folder, turned.keep(np.asarray(turned.times) < last_week))


def test_a_log_by_another_clock_is_refused(folder, turned):
    meta = {"options": {"time_zone": "Asia/Shanghai"}}
    other = replace(turned, manifest=Manifest("dataset", {}, {}, meta, "", "", ""))
    with pytest.raises(UsageError, match="by the clock of UTC, this Dataset is by that of Asia/Shanghai"):
        update_model(folder, other)


def test_ordered_data_cannot_be_updated(folder, plant):
    ordered = replace(plant(users=5, visits=2), time_kind="order")
    with pytest.raises(UsageError, match="data with a timestamp"):
        update_model(folder, ordered)


@pytest.mark.parametrize("model", ["wide", "dssm"])
def test_a_baseline_is_fitted_again_instead(dataset, turned, config, options, last_week, tmp_path, model):
    config = replace(config, model=model, tasks={"click": config.tasks["click"]})
    dupn.fit(dataset, tmp_path / "m", config, replace(options, epochs=1), until=last_week, validation="none")
    with pytest.raises(UsageError, match=f"a Model of {model}"):
        update_model(tmp_path / "m", turned)


def test_as_typed(tmp_path, capsys, run):
    size = ["--users", 120, "--items", 300, "--events", 6000, "--days", 90, "--countries", 1]
    assert run("synth", "--out", tmp_path / "shop", *size) == 0
    log, out = tmp_path / "shop" / "events.parquet", tmp_path / "shop.dupn"
    assert run("prepare", log, "--items", tmp_path / "shop" / "items.parquet", "--out", tmp_path / "d") == 0
    small = ["--set", "epochs=1", "--set", "max_length=10", "--set", "width=8", "--validation", "none"]
    capsys.readouterr()
    assert run("fit", "dupn", tmp_path / "d", "--out", out, "--until", "2024-02-20", *small) == 0
    capsys.readouterr()
    assert run("update", out, tmp_path / "d", "--until", "2024-03-01", "--no-gate", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["system"], told["version"]) == ("dupn", 2)
    assert told["from"] == "2024-02-20"
    assert sum(told["samples"].values()) > 0
    assert run("update", out, tmp_path / "d", "--until", "2024-03-01") == 3  # nothing new
    assert "2024-03-01" in capsys.readouterr().err
    again = ["--until", "2024-03-05", "--no-gate", "--set", "rehearsal=0.5"]
    assert run("update", out, tmp_path / "d", *again) == 0
    assert " of earlier days again, " in capsys.readouterr().out
    assert run("rollback", out) == 0
    assert DUPN.open(out).trained_until == parse_date("2024-03-01")
    assert run("rollback", out) == 0
    assert DUPN.open(out).trained_until == parse_date("2024-02-20")
