"""PGTL from a log to vectors, on two planted markets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

import polyvec
from polyvec.data.dataset import MICROSECONDS_PER_DAY
from polyvec.data.split import cut
from polyvec.embeddings import COLD, EMPTY, WARM
from polyvec.errors import DataError, UsageError
from polyvec.ids import Vocabulary
from polyvec.systems import pgtl
from polyvec.systems.open import open_model
from polyvec.systems.pgtl.config import Method
from polyvec.systems.pgtl.explain import explain, gates_by_category
from polyvec.systems.pgtl.objective import Objective

METHODS = get_args(Method)
CATEGORIES, ITEMS_EACH = 8, 10


@pytest.fixture(scope="module")
def folder(dataset, setting, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fit") / "model"
    pgtl.fit(dataset, folder, setting.config, setting.options)
    return folder


@pytest.fixture(scope="module")
def model(folder) -> pgtl.PGTL:
    return pgtl.PGTL.open(folder)


def category_cosines(vectors: np.ndarray) -> np.ndarray:
    """Mean cosine of the items of every two categories, ``[G, G]``."""
    means = vectors.reshape(CATEGORIES, ITEMS_EACH, -1)
    cosines = np.einsum("aid,bjd->aibj", means, means)
    return cosines.mean(axis=(1, 3))


def test_what_is_bought_together_in_the_target_is_close(model, dataset):
    vectors = model.at(dataset).encode_items(dataset.item_table)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    cosines = category_cosines(vectors)
    assert cosines[0, 1] > cosines[0, 2] + 0.2
    assert cosines[4, 6] > cosines[4, 5]  # the large market says otherwise
    assert model.manifest.meta["validation"] > 0.6


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_from_the_log_to_embeddings(dataset, setting, tmp_path, method):
    config = replace(setting.config, method=method, steps_per_epoch=5)
    options = replace(setting.options, epochs=2)
    model = pgtl.fit(dataset, tmp_path / "model", config, options)
    assert isinstance(open_model(tmp_path / "model"), pgtl.PGTL)
    embeddings = polyvec.embed(model, dataset, tmp_path / "emb")
    width = 16 if method == "sshare" else 8
    assert embeddings.items.vectors.shape == (dataset.num_items, width)
    assert embeddings.users.vectors.shape == (dataset.num_users, 1, width)
    assert embeddings.score == "max_cosine"
    assert embeddings.provenance["variant"] == method
    of_source = polyvec.embed(model, dataset, tmp_path / "source", market="source")
    assert np.isfinite(of_source.items.vectors).all()


def test_a_killed_run_goes_on_to_the_same_bits(dataset, setting, tmp_path, killed_at):
    options = replace(setting.options, epochs=2, checkpoint_every=3)
    config = replace(setting.config, steps_per_epoch=5, method="fine_tune")
    pgtl.fit(dataset, tmp_path / "whole", config, options)
    with killed_at(Objective, "__call__", 14):  # in the second run: the source's has ten steps
        pgtl.fit(dataset, tmp_path / "model", config, options)
    assert not (tmp_path / "model").exists()
    pgtl.fit(dataset, tmp_path / "model", config, options, resume=True)
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "model"))
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_states_tell_what_an_item_was_encoded_from(model, dataset):
    events = model.training_events(dataset.item_table, "target")
    bound = model.at(dataset)
    states, counts = bound.item_states(dataset.item_table)
    assert (counts == events).all()
    assert ((states == WARM) == (events > 0)).all()
    assert (states[events == 0] == COLD).all()
    assert (events == 0).any()


def test_new_items_are_encoded_from_profile_and_relations(model, dataset):
    """An item of category 0 that nobody has bought is closer to category 1 than to category 2."""
    new = pl.DataFrame({
        "item_id": ["new", "bare"],
        "category": ["c0", None],
        "brand": ["b1", None],
        "price": [3.0, None],
        "title": ["thing of 3", None],
    })  # fmt: skip
    table = pl.concat([dataset.item_table, new])
    wider = replace(dataset, item_table=table, items=Vocabulary(table["item_id"], "item_id"))
    bound = model.at(wider)
    vectors = bound.encode_items(table)
    known = vectors[:-2].reshape(CATEGORIES, ITEMS_EACH, -1)
    cosines = (known @ vectors[-2]).mean(axis=1)
    assert cosines[[0, 1]].min() > cosines[2:].max()
    assert bound.item_states(new)[0].tolist() == [COLD, EMPTY]


def test_nothing_after_the_moment_changes_a_vector(model, dataset):
    until = 40 * MICROSECONDS_PER_DAY + 12345
    early = dataset.keep(np.asarray(dataset.times < until))
    np.testing.assert_array_equal(
        model.at(dataset, until).encode_items(dataset.item_table),
        model.at(early, until).encode_items(dataset.item_table),
    )


def test_users_are_the_mean_of_their_items_and_those_without_get_a_prior(model, dataset, tmp_path):
    embeddings = polyvec.embed(model, dataset, tmp_path / "emb")
    vectors = embeddings.items.vectors
    start, stop = dataset.user_offsets[:2]
    mean = vectors[dataset.item_rows[start:stop]].sum(axis=0)
    np.testing.assert_allclose(
        embeddings.users.vectors[0, 0], mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-6
    )
    bound = model.at(dataset)
    windows = cut(dataset, 0, 30, 0)
    nobody = bound.encode_users(dataset, windows)
    assert np.linalg.norm(nobody[0]) == pytest.approx(1, rel=1e-5)
    assert (nobody == nobody[:1]).all()


def test_an_item_is_explained_by_what_it_is_related_to(model, dataset):
    bound = model.at(dataset)
    weak = next(
        item for item in dataset.item_table["item_id"]
        if explain(bound, dataset, item).relation == "items of its category"
    )  # fmt: skip
    found = explain(bound, dataset, weak)
    assert found.related["category"].unique().to_list() == [found.item["category"]]
    assert found.related["source_events"].is_sorted(descending=True)
    assert 0 < found.gate < 1
    strong = explain(bound, dataset, dataset.item_table["item_id"][0])
    assert strong.related["item_id"].to_list() == ["i000"]
    gates = gates_by_category(bound, dataset)
    assert gates["category"].sort().to_list() == [f"c{n}" for n in range(CATEGORIES)]
    with pytest.raises(UsageError, match="'none'"):
        explain(bound, dataset, "none")
    with pytest.raises(UsageError, match="no log"):
        explain(model, dataset, "i000")


def test_what_is_not_related_is_not_explained_as_if_it_were(dataset, setting, tmp_path):
    config, options = replace(setting.config, steps_per_epoch=5), replace(setting.options, epochs=1)
    own = pgtl.fit(dataset, tmp_path / "own", replace(config, method="pgtl_no_prior"), options).at(dataset)
    with pytest.raises(UsageError, match="takes an item's own features"):
        explain(own, dataset, "i000")
    assert len(gates_by_category(own, dataset)) == CATEGORIES
    shuffled = pgtl.fit(dataset, tmp_path / "mixed", replace(config, relations="shuffled"), options)
    assert explain(shuffled.at(dataset), dataset, "i000").relation.endswith("relations are shuffled")


def test_the_guard_says_whether_transfer_pays_and_falls_back(dataset, setting, tmp_path):
    """Without a prior that tells anything and hardly any steps, the target alone is not beaten by so much."""
    config = replace(
        setting.config, steps_per_epoch=10, relations="shuffled", guard="fall_back", alignment="none"
    )
    options = replace(setting.options, epochs=1)
    monkey = pytest.MonkeyPatch()
    monkey.setitem(pgtl.fit.__globals__, "LEAST_GAIN", 1.0)  # no gain is enough
    try:
        model = pgtl.fit(dataset, tmp_path / "model", config, options)
    finally:
        monkey.undo()
    guard = model.manifest.meta["guard"]
    assert guard["pays"] is False
    assert model.config.method == "target"
    assert model.manifest.meta["validation"] == guard["target_alone"]
    assert "transfer does not pay" in (tmp_path / "model" / "card.md").read_text("utf-8")
    warned = pgtl.fit(dataset, tmp_path / "warned", replace(config, guard="warn"), options)
    assert warned.config.method == "pgtl"
    assert set(warned.manifest.meta["guard"]) == {"validation", "target_alone", "least_gain", "pairs", "pays"}


def test_what_is_covered_is_told(model):
    coverage = model.manifest.meta["coverage"]
    assert coverage["items"] == coverage["strong"] + coverage["weak"] + coverage["unrelated"]
    assert coverage["strong"] > coverage["weak"] > 0
    assert coverage["negatives"] == {"source": "drawn", "target": "drawn"}
    assert coverage["pairs"]["source"] > coverage["pairs"]["target"]


def test_refit_trains_on_everything_for_the_best_epochs(dataset, setting, tmp_path):
    config = replace(setting.config, steps_per_epoch=5)
    model = pgtl.fit(dataset, tmp_path / "m", config, replace(setting.options, epochs=2), refit=True)
    told = model.manifest.meta
    assert told["steps"] == 5 * (told["best_epoch"] + 1)
    assert (tmp_path / "m" / "refit" / "training.jsonl").exists()
    assert told["trained_until"] == dataset.time_span[1] + 1


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"source": ""}, UsageError, "source market is not named"),
        ({"target": "smal"}, UsageError, "'smal'"),
        ({"action": "click"}, UsageError, "'click'"),
        ({"history_days": 0.001}, DataError, "no pairs"),
        ({"target_days": 0.001}, DataError, "validate on"),
    ],
)
def test_what_cannot_be_learned_is_refused(dataset, setting, tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        pgtl.fit(dataset, tmp_path / "m", replace(setting.config, **changes), setting.options)
    assert not list(tmp_path.iterdir())


def test_the_same_market_twice_is_refused():
    with pytest.raises(ValueError, match="same market"):
        pgtl.PGTLConfig(source="a", target="a")


def test_other_numbers_than_those_trained_on_are_named(model, dataset):
    other = replace(dataset, item_table=dataset.item_table.drop("price"))
    with pytest.raises(UsageError, match="trained on: price"):
        model.at(other)


def test_a_plan_tells_what_a_run_takes(dataset, setting):
    found = pgtl.plan(dataset, setting.config, setting.options)
    assert found.steps_per_epoch == 40
    assert found.model.total == sum(4 * n for n in [found.parameters])


def test_alignment_makes_the_markets_hard_to_tell_apart(folder):
    journal = [json.loads(line) for line in (folder / "training.jsonl").read_text("utf-8").splitlines()]
    told = [one["told_apart"] for one in journal if one["event"] == "epoch"]
    assert 0.4 < told[-1] < 0.9


def test_agreeing_categories_take_more_prior_than_those_that_differ(tmp_path, setting, plant):
    dataset = plant({"big": 300, "small": 60}, seed=3)
    config = replace(setting.config, gate="number")
    model = pgtl.fit(dataset, tmp_path / "m", config, replace(setting.options, epochs=5))
    gates = gates_by_category(model.at(dataset), dataset).sort("category")["gate"].to_numpy()
    alike = np.arange(CATEGORIES) < 4
    assert gates[alike].mean() > gates[~alike].mean()


@pytest.mark.parametrize("method", ["target", "source", "fine_tune", "pgtl"])
def test_all_methods_go_through_the_larger_markets_pairs(dataset, setting, method):
    """Else the target alone would have a few steps where others have many, and any transfer would pay."""
    config = replace(setting.config, steps_per_epoch=0, method=method)
    found = pgtl.plan(dataset, config, setting.options)
    whole = pgtl.plan(dataset, replace(config, method="pgtl"), setting.options)
    assert found.steps_per_epoch == whole.steps_per_epoch > 20


def test_fine_tuning_counts_both_of_its_runs_and_repeats_both_as_long_as_was_best(
    dataset, setting, tmp_path, monkeypatch
):
    config = replace(setting.config, steps_per_epoch=5, method="fine_tune")
    options = replace(setting.options, epochs=3)
    told = pgtl.fit(dataset, tmp_path / "once", config, options).manifest.meta
    assert told["steps"] == 2 * 3 * 5
    scores = iter([0.6, 0.5, 0.5, 0.5, 0.6, 0.5])  # the source is best after its first epoch, then the second
    monkeypatch.setattr(pgtl.fit.__globals__["Validator"], "__call__", lambda self: next(scores))
    told = pgtl.fit(dataset, tmp_path / "again", config, options, refit=True).manifest.meta
    assert told["steps"] == 5 * (1 + 2)


def test_the_journal_is_of_the_run_that_is_kept(dataset, setting, tmp_path, monkeypatch):
    monkeypatch.setitem(pgtl.fit.__globals__, "LEAST_GAIN", 1.0)
    config = replace(setting.config, steps_per_epoch=5, guard="fall_back")
    for guard, has_gate in (("fall_back", False), ("warn", True)):
        pgtl.fit(dataset, tmp_path / guard, replace(config, guard=guard), replace(setting.options, epochs=1))
        journal = (tmp_path / guard / "training.jsonl").read_text("utf-8").splitlines()
        epochs = [told for told in map(json.loads, journal) if told["event"] == "epoch"]
        assert ("told_apart" in epochs[-1]) is has_gate


def test_a_guard_without_validation_is_refused(dataset, setting, tmp_path):
    config = replace(setting.config, guard="fall_back")
    with pytest.raises(UsageError, match="no validation to go by"):
        pgtl.fit(dataset, tmp_path / "m", config, setting.options, validation="none")


def test_numbers_in_another_order_and_further_ones_change_no_vector(model, dataset):
    table = dataset.item_table.with_columns(weight=pl.lit(2.0))
    other = replace(dataset, item_table=table.select("item_id", "weight", *reversed(table.columns[1:-1])))
    np.testing.assert_array_equal(
        model.at(other).encode_items(other.item_table), model.at(dataset).encode_items(dataset.item_table)
    )


def test_a_source_that_ends_before_the_validation_is_learned_from(dataset, setting, tmp_path):
    is_big = np.asarray(dataset.columns["scenario"]) == 0
    ended = dataset.keep(~is_big | (np.asarray(dataset.times) < 45 * MICROSECONDS_PER_DAY))
    config = replace(setting.config, steps_per_epoch=5)
    pgtl.fit(ended, tmp_path / "m", config, replace(setting.options, epochs=1))
    with pytest.raises(DataError, match="'big' has no pairs of items to validate on"):
        pgtl.fit(ended, tmp_path / "s", replace(config, method="source"), setting.options)


def test_clicks_are_learned_and_users_encoded_from_clicks(dataset, setting, tmp_path):
    actions = {"columns": np.zeros(dataset.num_events, np.int32), "codes": ["click"]}
    clicked = replace(
        dataset,
        columns=dataset.columns | {"action": actions["columns"]},
        codes=dataset.codes | {"action": actions["codes"]},
    )
    config = replace(setting.config, action="click", steps_per_epoch=5)
    model = pgtl.fit(clicked, tmp_path / "m", config, replace(setting.options, epochs=1))
    embeddings = polyvec.embed(model, clicked, tmp_path / "e")
    assert (embeddings.users.events > 0).all()


def test_an_item_first_sold_in_the_source_after_training_is_related_to_itself(model, dataset):
    events = model.training_events(dataset.item_table, "source")
    new = int(np.flatnonzero(events == 0)[0])
    places = np.flatnonzero(np.asarray(dataset.columns["scenario"]) == 0)[-3:]
    rows = np.array(dataset.item_rows)
    rows[places] = new
    later = replace(dataset, item_rows=rows)
    item = dataset.item_table["item_id"][new]
    assert explain(model.at(dataset), dataset, item).relation == "items of its category"
    assert explain(model.at(later), later, item).relation == "the same item"


def test_an_item_with_events_and_nothing_else_is_not_empty(dataset, setting, tmp_path):
    bare = replace(dataset, item_table=dataset.item_table.select("item_id"))
    config = replace(setting.config, steps_per_epoch=5, max_ids=10)
    early = bare.keep(np.asarray(dataset.times) < 50 * MICROSECONDS_PER_DAY)
    model = pgtl.fit(early, tmp_path / "m", config, replace(setting.options, epochs=1)).at(bare)
    state, events = model.item_states(bare.item_table)
    sold = np.bincount(dataset.item_rows, minlength=dataset.num_items) > 0
    assert ((state == COLD) == (sold & (events == 0))).all()
    assert ((state == EMPTY) == ~sold).all()
