"""A model in two parts, and users' states: the spec's checks B 14 and 16."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from polyvec.data.dataset import MICROSECONDS_PER_DAY
from polyvec.data.split import cut
from polyvec.errors import ArtifactError, UsageError
from polyvec.systems import dupn
from polyvec.systems.dupn import DUPN, Task
from polyvec.systems.dupn.features import Encoder
from polyvec.systems.dupn.samples import samples_at
from polyvec.systems.dupn.serving import ItemHead, UserState, UserTower

DAY = MICROSECONDS_PER_DAY
MOMENT = 20 * DAY


@pytest.fixture(scope="module")
def folder(dataset, config, options, last_week, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "model"
    tasks = config.tasks | {"churn": Task("window", days=3)}
    asking = replace(config, tasks=tasks, query_words=20, profile_fields=("gender",))
    dupn.fit(dataset, folder, asking, replace(options, epochs=1), until=last_week)
    return folder


@pytest.fixture(scope="module")
def model(folder) -> DUPN:
    return DUPN.open(folder)


@pytest.fixture(scope="module")
def head(model, dataset, folder) -> ItemHead:
    path = folder.with_name("head")
    ItemHead.of(model, dataset.item_table).save(path, model.manifest)
    return ItemHead.open(path)


def whole(model: DUPN, dataset, task: str, user: int, count: int, *, entities: bool = False):
    """Logits of the undivided network, candidate by candidate."""
    windows = cut(dataset, MOMENT, None, 0)[np.full(count, user)]
    samples, each = samples_at(windows, model.config.max_length), np.arange(count)
    samples = replace(samples, **{"entities" if entities else "items": each})
    numbers = np.random.default_rng(0).normal(size=(count, len(model.tasks[task][1].spreads)))
    samples = replace(samples, numbers=numbers.astype(np.float32))
    batch = Encoder.of(dataset, model.fields).batch({task: samples}, torch.device("cpu"))
    with torch.no_grad():
        return model.network(batch).logits[task], torch.from_numpy(samples.numbers)


def test_both_parts_say_what_the_whole_says(model, head, dataset):
    users = np.array([3, 70])
    part = UserTower(model).read(dataset, users, MOMENT)
    for place, user in enumerate(users):
        for task in ("click", "sort"):
            expected, numbers = whole(model, dataset, task, user, dataset.num_items)
            found = head.score(part, task, numbers=numbers)[place]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        expected, _ = whole(model, dataset, "brand", user, 4, entities=True)
        torch.testing.assert_close(head.score(part, "brand")[place], expected, rtol=0, atol=1e-5)
        expected, _ = whole(model, dataset, "price", user, 1)
        torch.testing.assert_close(part.logits["price"][place], expected[0], rtol=0, atol=1e-5)
        assert part.logits["churn"].shape == (2, 2)
        expected, _ = whole(model, dataset, "next", user, dataset.num_items)
        torch.testing.assert_close(head.score(part, "next")[place], expected[0], rtol=0, atol=1e-4)


def test_what_a_user_searches_for_is_served_as_it_was_learned(model, dataset):
    """Each search of the log, asked again at its moment: the network's answer to the event that has it."""
    searched = np.flatnonzero(np.asarray(dataset.columns["query"]) >= 0)[::40][:12]
    rows = [np.searchsorted(dataset.user_offsets, event, side="right") - 1 for event in searched]
    tower = UserTower(model)
    differences = []
    for event, user in zip(searched, rows, strict=True):
        moment = int(dataset.times[event])
        text = dataset.codes["query"][dataset.columns["query"][event]]
        windows = cut(dataset, moment, None, 0)[np.array([user])]
        samples = replace(samples_at(windows, model.config.max_length), events=np.array([event]))
        batch = Encoder.of(dataset, model.fields).batch({"price": samples}, torch.device("cpu"))
        with torch.no_grad():
            expected = model.network(batch).logits["price"]
        found = tower.read(dataset, np.array([user]), moment, [text])
        torch.testing.assert_close(found.logits["price"], expected, rtol=0, atol=1e-5)
        silent = tower.read(dataset, np.array([user]), moment)
        differences.append(float((found.rep - silent.rep).abs().max()))
        state = UserState.of(model, dataset, user, moment)
        torch.testing.assert_close(state.read(model, moment, text)[0], found.rep, rtol=0, atol=1e-5)
        torch.testing.assert_close(state.read(model, moment)[0], silent.rep, rtol=0, atol=1e-5)
    assert min(differences) > 5e-5


def test_a_state_of_another_version_is_refused(model, dataset):
    state = UserState.of(model, dataset, 4, MOMENT)
    updated = replace(model, manifest=replace(model.manifest, fingerprint="0" * 64))
    with pytest.raises(ArtifactError, match="another version"):
        state.read(updated, MOMENT)
    with pytest.raises(ArtifactError, match="another version"):
        state.after(UserState.of(updated, dataset, 4, MOMENT), 10)


def test_some_candidates_are_scored_as_among_all_and_the_encoder_runs_once(model, head, dataset):
    calls = []
    hook = model.network.encoder.lstm.register_forward_hook(lambda *_: calls.append(1))
    part = UserTower(model).read(dataset, np.array([5]), MOMENT)
    rows = head.items.rows(dataset.items.take(np.array([9, 2, 9])))
    some = head.score(part, "click", rows)
    torch.testing.assert_close(some, head.score(part, "click")[:, rows])
    hook.remove()
    assert len(calls) == 1


def test_parts_of_two_models_are_refused(folder, model, head, dataset, tmp_path):
    part = UserTower(model).read(dataset, np.array([5]), MOMENT)
    with pytest.raises(ArtifactError, match="different models"):
        head.score(replace(part, version="0" * 64), "click")
    with pytest.raises(UsageError, match="task 'price' has no candidates"):
        head.score(part, "price")
    with pytest.raises(UsageError, match="ranks by numbers"):
        head.score(part, "sort")
    with pytest.raises(UsageError, match="never saved"):
        UserTower(replace(model, manifest=None))
    with pytest.raises(ArtifactError):
        ItemHead.open(folder)
    with pytest.raises(ArtifactError, match="exists"):
        head.save(folder)


def test_a_state_that_takes_event_by_event_says_what_a_full_pass_says(model, dataset):
    """Also as ages change, and as the window slides."""
    user, length = 11, model.config.max_length
    begin, end = dataset.user_offsets[user : user + 2]
    silent = replace(dataset, columns=dataset.columns | {"query": np.full(dataset.num_events, -1, np.int32)})
    state, steps, full = UserState.empty(model), [], []
    random = np.random.default_rng(0)
    for event in range(begin, end):
        alone = dataset.keep(np.arange(dataset.num_events) == event)
        state = state.after(UserState.of(model, alone, user, int(dataset.times[event]) + 1), length)
        following = dataset.times[event + 1] if event + 1 < end else dataset.times[event] + 3 * DAY
        pause = int(random.integers(1, max(int(following - dataset.times[event]), 2)))
        moment = int(dataset.times[event]) + pause
        known = len(state.ages)
        rep, state = state.read(model, moment)
        past = silent.keep((silent.times < moment) & (np.arange(silent.num_events) <= event))
        windows = cut(past, moment, None, 0)[np.array([user])]
        expected = torch.from_numpy(model.encode_users(past, windows)[:, 0])
        torch.testing.assert_close(rep, expected, rtol=0, atol=1e-5)
        steps.append(known)
        full.append(len(state))
    assert max(full) == length
    assert any(steps)  # some states were kept


def test_a_state_that_is_read_again_while_ages_stay_works_nothing_out(model, dataset, monkeypatch):
    state = UserState.of(model, dataset, 4, MOMENT)
    rep, state = state.read(model, MOMENT)
    monkeypatch.setattr(type(model.network.encoder.lstm), "step", None)
    again, _ = state.read(model, MOMENT)
    assert again.equal(rep)
    assert len(UserState.empty(model)) == 0


def test_who_did_nothing_has_a_state(model, dataset):
    rep, _ = UserState.empty(model).read(model, MOMENT)
    windows = cut(dataset, 0, None, 0)[np.array([0])]
    torch.testing.assert_close(rep, torch.from_numpy(model.encode_users(dataset, windows)[:, 0]))


def test_as_typed(tmp_path, capsys, run):
    size = ["--users", 100, "--items", 400, "--events", 4000, "--days", 90, "--countries", 1]
    assert run("synth", "--out", tmp_path / "shop", *size) == 0
    events, items = (tmp_path / "shop" / f"{name}.parquet" for name in ("events", "items"))
    data, model = tmp_path / "shop.dataset", tmp_path / "shop.dupn"
    assert run("prepare", events, "--items", items, "--out", data) == 0
    (tmp_path / "run.toml").write_text('[dupn]\nwidth = 8\n[dupn.tasks.click]\nkind = "item"\n', "utf-8")
    typed = ["--set", "epochs=1", "--config", tmp_path / "run.toml"]
    assert run("fit", "dupn", data, "--out", model, *typed) == 0
    capsys.readouterr()
    out = tmp_path / "shop.head"
    assert run("split", model, data, "--out", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tasks"] == {"click": "item"}
    assert told["version"] == DUPN.open(model).manifest.fingerprint
    assert run("split", model, data, "--out", out) == 4
    assert run("split", model, data, "--out", out, "--overwrite") == 0
    assert run("verify", out) == 0
