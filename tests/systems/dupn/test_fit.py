"""DUPN from a log to a Model, Embeddings and answers, on what is planted."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file

from polyvec.data.dataset import MICROSECONDS_PER_DAY
from polyvec.data.split import cut
from polyvec.embeddings import COLD, EMPTY, WARM
from polyvec.errors import DataError, UsageError
from polyvec.systems import dupn
from polyvec.systems.dupn import DUPN, Task
from polyvec.systems.dupn.features import Encoder
from polyvec.systems.dupn.fit import Lessons
from polyvec.systems.dupn.objective import Validator, attention
from polyvec.systems.dupn.tasks import samples_of
from polyvec.systems.embed import embed
from polyvec.systems.open import open_model

DAY = MICROSECONDS_PER_DAY


@pytest.fixture(scope="module")
def folder(dataset, config, options, last_week, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit") / "model"
    dupn.fit(dataset, folder, config, options, until=last_week)
    return folder


@pytest.fixture(scope="module")
def model(folder) -> DUPN:
    return DUPN.open(folder)


def measured(model: DUPN, dataset, since: int) -> dict[str, dict[str, float]]:
    """What answers of the last days are worth."""
    tasks = {name: task for name, (task, _) in model.tasks.items()}
    samples = {
        name: samples_of(dataset, task, known, since, 1000 * DAY, 1, model.config.max_length)
        for name, (task, known) in model.tasks.items()
    }
    return Validator(model.network, tasks, samples, Encoder.of(dataset, model.fields)).measures()


def test_it_knows_what_is_bought_after_what_was_carted(model, dataset, last_week):
    found = measured(model, dataset, last_week)
    assert found["price"]["accuracy"] > 0.8  # by chance 0.25
    assert found["click"]["auc"] > 0.8  # one of four drawn items is of the same category: at best 0.87
    assert found["brand"]["auc"] > 0.9
    assert found["sort"]["auc"] < 0.8  # no weights of numbers tell which category it is


def test_blind_to_properties_it_does_not(dataset, config, options, last_week, tmp_path):
    blind = replace(config, properties="none", tasks={"price": config.tasks["price"]})
    model = dupn.fit(dataset, tmp_path / "model", blind, options, until=last_week)
    assert measured(model, dataset, last_week)["price"]["accuracy"] < 0.75


def test_users_vectors_and_items_are_compared_as_the_task_of_the_next_item_does(
    folder, model, dataset, last_week, tmp_path
):
    found = embed(open_model(folder), dataset, tmp_path / "vectors", until=last_week)
    assert found.users.vectors.shape == (dataset.num_users, 1, model.width)
    assert (found.users.state == WARM).all()
    windows = cut(dataset, last_week, None, 0)
    events = windows.history_end - windows.history_start
    assert (found.users.events == events).all()  # of all actions
    users = torch.nn.functional.normalize(torch.tensor(found.users.vectors[:, 0]), dim=1)
    items = torch.nn.functional.normalize(torch.tensor(found.items.vectors), dim=1)
    ranks = (users @ items.T).argsort(dim=1, descending=True)[:, :12]
    carts = dataset.columns["action"] == 1
    hits = []
    for user in range(dataset.num_users):
        mine = np.arange(windows.history_start[user], windows.history_end[user])
        carted = mine[carts[mine]]
        if (
            len(carted) and carted[-1] >= mine[-1] - 1
        ):  # a cart that no purchase has followed yet, or just now
            hits.append((dataset.item_rows[carted[-1]] % 4 == ranks[user].numpy() % 4).mean())
    assert len(hits) < 5 or np.mean(hits) > 0.3


def test_an_unseen_user_and_an_empty_one_get_vectors_and_an_unseen_item_too(
    model, dataset, plant, last_week, tmp_path
):
    strangers = plant(users=20, seed=5)
    renamed = [f"new{user}" for user in range(20)]
    strangers = replace(strangers, users=type(strangers.users)(pl.Series("user_id", renamed), "user_id"))
    table = strangers.item_table.with_columns(item_id=pl.concat_str(pl.lit("x"), "item_id"))
    strangers = replace(strangers, item_table=table, items=type(strangers.items)(table["item_id"], "item_id"))
    found = embed(model, strangers, tmp_path / "vectors", until=3 * DAY)
    assert np.isfinite(found.users.vectors).all()
    assert set(found.users.state.tolist()) <= {WARM, COLD, EMPTY}
    assert (found.items.state == COLD).all()
    assert len(np.unique(found.items.vectors.round(5), axis=0)) == 4  # all that is known is of four kinds


def test_nobody_searches_for_a_vector(dataset, config, options, last_week, tmp_path):
    short = replace(options, epochs=1)
    asking = replace(config, query_words=50, tasks={"price": config.tasks["price"]})
    model = dupn.fit(dataset, tmp_path / "model", asking, short, until=last_week)
    assert model.manifest.meta["fields"]["query"] == ["query"]
    windows = cut(dataset, 20 * DAY, None, 0)
    silent = replace(dataset, columns=dataset.columns | {"query": np.full(dataset.num_events, -1, np.int32)})
    np.testing.assert_array_equal(model.encode_users(dataset, windows), model.encode_users(silent, windows))


def test_a_saved_model_answers_as_before_and_is_trained_to_the_same_bits_again(
    folder, model, dataset, config, options, last_week, tmp_path
):
    dupn.fit(dataset, tmp_path / "again", config, options, until=last_week)
    one, other = (load_file(path / "weights.safetensors") for path in (folder, tmp_path / "again"))
    assert all((one[name] == other[name]).all() for name in one)
    assert measured(model, dataset, last_week) == measured(DUPN.open(folder), dataset, last_week)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    folder, dataset, config, options, last_week, tmp_path, monkeypatch
):
    from polyvec.training import loop

    calls = []

    def interrupted(*arguments, **others):
        loop_save(*arguments, **others)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    loop_save = loop.save_checkpoint
    monkeypatch.setattr(loop, "save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dupn.fit(dataset, tmp_path / "model", config, options, until=last_week)
    assert not (tmp_path / "model").exists()
    monkeypatch.setattr(loop, "save_checkpoint", loop_save)
    dupn.fit(dataset, tmp_path / "model", config, options, until=last_week, resume=True)
    one, other = (load_file(path / "weights.safetensors") for path in (folder, tmp_path / "model"))
    assert all((one[name] == other[name]).all() for name in one)


def test_the_manifest_tells_tasks_fields_and_what_validation_found(model):
    meta = model.manifest.meta
    assert meta["tasks"]["price"] == "class"
    assert meta["samples"]["next"] > 500
    assert set(meta["validated"]) == {"next", "click", "price", "brand", "sort"}
    assert meta["fields"]["items"] == ["item_id", "brand", "category", "title"]
    assert meta["fields"]["events"] == ["action", "time"]
    measures = [next(iter(found.values())) for found in meta["validated"].values()]
    assert meta["validation"] == pytest.approx(np.mean(measures), abs=1e-4)


def test_every_epoch_tells_what_each_task_is_worth(folder, model):
    lines = (folder / "training.jsonl").read_text("utf-8").splitlines()
    epochs = [record for record in map(json.loads, lines) if record["event"] == "epoch"]
    assert all(set(record["validated"]) == set(model.tasks) for record in epochs)
    best = max(epochs, key=lambda record: record["validation"])
    told = {task: next(iter(found.values())) for task, found in model.manifest.meta["validated"].items()}
    assert best["validated"] == pytest.approx(told, abs=1e-4)


def test_the_attention_of_every_history_adds_up_to_one(model, dataset, last_week):
    task, known = model.tasks["price"]
    samples = samples_of(dataset, task, known, last_week, 1000 * DAY, 1, model.config.max_length)
    weights = attention(model.network, samples, Encoder.of(dataset, model.fields))
    lengths = samples.stop - samples.start
    owners = np.repeat(np.arange(len(samples)), lengths)
    sums = np.bincount(owners, weights, minlength=len(samples))
    np.testing.assert_allclose(sums, lengths > 0, atol=1e-5)
    events = np.concatenate([np.arange(*ends) for ends in zip(samples.start, samples.stop, strict=True)])
    of_carts = dataset.columns["action"][events] == 1
    assert weights[of_carts].mean() > 2 * weights[~of_carts].mean()  # what is carted is bought


def test_bfloat16_is_possible(dataset, config, options, last_week, tmp_path):
    short = replace(options, epochs=1, precision="bfloat16")
    one = replace(config, tasks={"price": config.tasks["price"]})
    assert dupn.fit(dataset, tmp_path / "model", one, short, until=last_week).manifest


def test_recall_of_users_without_history_is_that_of_chance(dataset, config, options):
    """All items are liked alike then; an item is not found because no other one is liked more."""
    many = pl.DataFrame({"item_id": [f"i{item:04}" for item in range(2000)]})
    users = [(f"u{user:03}", f"i{random:04}", user * DAY // 10) for user, random in
             enumerate(np.random.default_rng(0).integers(2000, size=400).tolist())]  # fmt: skip
    log = type(dataset).from_rows(users, many)
    lessons = Lessons.of(
        log, replace(config, tasks={"next": Task("next")}), options, 40 * DAY, validates=True
    )
    model = lessons.untrained(options)
    measures = lessons.told(model, log)["validated"]["next"]
    assert measures["recall@100"] < 0.2


def test_what_is_not_validated_is_told(dataset, config, options, last_week, tmp_path):
    tasks = {"price": config.tasks["price"], "churn": Task("window", days=10)}
    short = replace(options, epochs=1)
    model = dupn.fit(dataset, tmp_path / "model", replace(config, tasks=tasks), short, until=last_week)
    assert model.manifest.meta["not_validated"] == ["churn"]
    assert "not validated" in (tmp_path / "model" / "card.md").read_text("utf-8")


def test_fields_of_items_that_are_not_there_are_refused(dataset, config, options, last_week, tmp_path):
    with pytest.raises(UsageError, match="'brnd' cannot be an item field") as raised:
        dupn.fit(dataset, tmp_path / "m", replace(config, item_fields=("brnd",)), options, until=last_week)
    assert raised.value.expected == "did you mean 'brand'?"


def test_settings_that_contradict_each_other_are_refused(dataset, config, options, last_week, tmp_path):
    with pytest.raises(ValidationError, match="profile_fields"):
        replace(config, tasks={"sex": Task("class", column="gender")}, profile_fields=("gender",))
    decaying = replace(options, weight_decay=0.1)
    with pytest.raises(UsageError, match="adagrad knows no weight_decay"):
        dupn.fit(dataset, tmp_path / "model", replace(config, optimizer="adagrad"), decaying, until=last_week)


def test_tasks_that_the_data_cannot_answer_are_left_out_and_said_so(dataset, config, options, tmp_path):
    cheap = replace(dataset, columns=dataset.columns | {"price": np.ones(dataset.num_events, np.float32)})
    model = dupn.fit(
        cheap, tmp_path / "model", replace(config, tasks=None), replace(options, epochs=1), until=30 * DAY
    )
    assert set(model.tasks) == {"next", "click", "action", "brand"}
    assert "same answer" in model.manifest.meta["left_out"]["price"]
    assert "left out: price" in (tmp_path / "model" / "card.md").read_text("utf-8")
    named = replace(config, tasks={"cheap": Task("class", column="price")})
    with pytest.raises(DataError, match=r"task 'cheap': .* same answer"):
        dupn.fit(cheap, tmp_path / "other", named, options, until=30 * DAY)
    assert not (tmp_path / "other").exists()


def test_a_task_is_called_by_a_name_that_a_file_can_have(dataset, config, options, tmp_path):
    with pytest.raises(UsageError, match=r"'\.\./x' cannot be a task's name"):
        dupn.fit(dataset, tmp_path / "model", replace(config, tasks={"../x": Task("next")}), options)


def test_ordered_data_and_no_profile_of_times(dataset, config, options, tmp_path):
    ordered = replace(dataset, time_kind="order")
    tasks = {"next": Task("next"), "price": config.tasks["price"]}
    small = replace(config, tasks=tasks, validation_days=5)
    model = dupn.fit(ordered, tmp_path / "model", small, replace(options, epochs=1), held_back=2)
    assert model.manifest.meta["fields"]["events"] == ["action"]
    found = embed(model, ordered, tmp_path / "vectors", held_back=2)
    assert found.users.vectors.shape[0] == ordered.num_users
    assert (found.users.state == WARM).all()


def test_adagrad_learns_too(dataset, config, options, last_week, tmp_path):
    one = replace(config, optimizer="adagrad", tasks={"price": config.tasks["price"]})
    short = replace(options, learning_rate=0.1, epochs=5, batch_size=64)
    dupn.fit(dataset, tmp_path / "model", one, short, until=last_week, validation="none")
    lines = (tmp_path / "model" / "training.jsonl").read_text("utf-8").splitlines()
    losses = [told["loss"] for told in map(json.loads, lines) if told["event"] == "epoch"]
    assert losses[-1] < losses[0]


def test_a_second_run_learns_from_what_was_validated_on(dataset, config, options, last_week, tmp_path):
    one = replace(config, tasks={"price": config.tasks["price"]})
    model = dupn.fit(
        dataset, tmp_path / "model", one, replace(options, epochs=30), until=last_week, refit=True
    )
    assert (tmp_path / "model" / "refit" / "training.jsonl").is_file()
    assert model.trained_until == last_week
    assert measured(model, dataset, last_week)["price"]["accuracy"] > 0.8


def test_a_plan_tells_the_parameters_of_the_fitted_model(model, dataset, config, options, last_week):
    plan = dupn.plan(dataset, config, options, until=last_week)
    assert plan.parameters == model.manifest.meta["parameters"]
    assert plan.model.total == model.manifest.meta["bytes"]


def test_as_typed_with_tasks_in_a_file(tmp_path, capsys, run):
    size = ["--users", 100, "--items", 400, "--events", 4000, "--days", 90, "--countries", 1]
    assert run("synth", "--out", tmp_path / "shop", *size) == 0
    events, items = (tmp_path / "shop" / f"{name}.parquet" for name in ("events", "items"))
    assert run("prepare", events, "--items", items, "--out", tmp_path / "shop.dataset") == 0
    (tmp_path / "run.toml").write_text(
        '[dupn]\nwidth = 8\n\n[dupn.tasks.next]\nkind = "next"\n\n[dupn.tasks.sort]\nkind = "class"\n'
        'column = "category"\n',
        "utf-8",
    )
    typed = ["--set", "epochs=1", "--set", "max_length=10", "--config", tmp_path / "run.toml"]
    capsys.readouterr()
    out = tmp_path / "shop.dupn"
    assert run("fit", "dupn", tmp_path / "shop.dataset", "--out", out, "--json", *typed) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tasks"] == {"next": "next", "sort": "class"}
    assert run("embed", out, tmp_path / "shop.dataset", "--out", tmp_path / "shop.emb") == 0
    (tmp_path / "bad.toml").write_text('[dupn.tasks.next]\nkind = "nxt"\n', "utf-8")
    assert run("fit", "dupn", tmp_path / "shop.dataset", "--out", tmp_path / "no", "--config",
               tmp_path / "bad.toml") == 2  # fmt: skip
    told = capsys.readouterr().err
    assert "tasks.next.kind" in told
    assert run("fit", "dupn", tmp_path / "shop.dataset", "--out", tmp_path / "no", "--set", "tasks=next") == 2
