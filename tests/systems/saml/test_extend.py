"""A new scenario for a fitted SAML."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from polyvec.data.dataset import MICROSECONDS_PER_DAY
from polyvec.errors import DataError, UsageError
from polyvec.systems import saml
from polyvec.systems.saml import SAML
from polyvec.systems.saml.score import score_log

KNOWN = ("east", "north", "south")


@pytest.fixture(scope="module")
def opened(dataset):
    """The log of a shop that opened in the west, where people are as in the south; few of them."""
    users = dataset.users.series
    moved = (users >= "south052").to_numpy()[np.repeat(np.arange(len(users)), np.diff(dataset.user_offsets))]
    scenarios = np.where(moved, 3, dataset.columns["scenario"]).astype(np.int32)
    return replace(
        dataset,
        columns=dataset.columns | {"scenario": scenarios},
        codes=dataset.codes | {"scenario": [*KNOWN, "west"]},
    )


@pytest.fixture(scope="module")
def folder(opened, config, options, last_week, tmp_path_factory):
    folder = tmp_path_factory.mktemp("extend") / "model"
    some = opened.keep(opened.item_rows > 1)  # two items come with the new scenario
    saml.fit(some, folder, replace(config, scenarios=KNOWN), options, until=last_week)
    return folder


@pytest.fixture(scope="module")
def alone(folder, opened, last_week) -> SAML:
    out = folder.with_name("alone")
    return saml.extend(SAML.open(folder), opened, "west", out, until=last_week, branch_only=True)


def test_the_new_branch_begins_as_the_most_similar_and_all_else_stays(folder, alone):
    assert alone.manifest.meta["extended_from"] == "south"
    assert alone.scenarios == [*KNOWN, "west"]
    before, after = (load_file(one / "weights.safetensors") for one in (folder, folder.with_name("alone")))
    changed = set()
    for name, weight in after.items():
        was = before[name]
        if name.startswith("view.own.tables"):
            new, old = weight.view(4, -1, weight.shape[1]), was.view(3, -1, was.shape[1])
            assert new[:3, : old.shape[1]].equal(old)
        elif weight.shape == was.shape:
            assert weight.equal(was), name
        else:
            assert weight[: len(was)].equal(was), name
            changed.add(name.split(".")[0])
    assert changed == {"levels", "output", "view"}
    weight = after["levels.0.layer.weight"]
    assert not weight[3].equal(weight[2])
    assert torch.nn.functional.cosine_similarity(weight[3].ravel(), weight[2].ravel(), dim=0) > 0.8


def test_few_samples_do_for_a_scenario_like_one_that_is_known(alone, opened, config, options, last_week):
    assert score_log(alone, opened).by_scenario["west"]["auc"] > 0.7  # at best 0.85


def test_items_that_came_with_the_scenario_have_rows(folder, alone):
    assert len(SAML.open(folder).fields.items["item_id"]) == 38
    assert len(alone.fields.items["item_id"]) == 40
    assert alone.fields.items["item_id"].ids(range(38)) == SAML.open(folder).fields.items["item_id"].ids(
        range(38)
    )


def test_chances_of_the_other_scenarios_stay_what_they_were(folder, alone, opened):
    before, after = (score_log(one, opened).by_scenario for one in (SAML.open(folder), alone))
    for name in KNOWN:
        assert after[name]["auc"] == pytest.approx(before[name]["auc"], abs=0.02)
        assert after[name]["log_loss"] < before[name]["log_loss"] + 0.05


def test_without_validation_the_calibration_is_kept(folder, opened, last_week, tmp_path):
    model = SAML.open(folder)
    out = tmp_path / "model"
    found = saml.extend(model, opened, "west", out, until=last_week, validation="none", branch_only=True)
    assert model.calibration != (1, 0)
    assert found.calibration == model.calibration


def test_the_log_of_the_new_scenario_is_enough_for_its_branch(folder, opened, last_week, tmp_path):
    alone = opened.keep(opened.columns["scenario"] == 3)
    alone = replace(
        alone,
        columns=alone.columns | {"scenario": np.zeros(alone.num_events, np.int32)},
        codes=alone.codes | {"scenario": ["west"]},
    )
    out = tmp_path / "model"
    found = saml.extend(SAML.open(folder), alone, "west", out, until=last_week, branch_only=True)
    assert found.scenarios == [*KNOWN, "west"]
    assert score_log(found, opened).by_scenario["west"]["auc"] > 0.7


def test_what_is_counted_stays_of_the_scenarios_that_the_log_lacks(
    opened, config, options, last_week, tmp_path
):
    counting, short = replace(config, scenarios=KNOWN, windows=(0,)), replace(options, epochs=1)
    model = saml.fit(opened, tmp_path / "model", counting, short, until=last_week)
    some = opened.keep(np.asarray(opened.columns["scenario"]) != 0)
    some = replace(
        some,
        columns=some.columns | {"scenario": (some.columns["scenario"] - 1).astype(np.int32)},
        codes=some.codes | {"scenario": [*KNOWN[1:], "west"]},
    )
    earlier = last_week - 3 * MICROSECONDS_PER_DAY
    found = saml.extend(
        model, some, "west", tmp_path / "more", until=earlier, branch_only=True, validation="none"
    )
    assert found.fields.counted.scenarios == (*KNOWN, "west")
    assert found.trained_until == model.trained_until  # what the base has learned counts
    assert found.read_until == model.read_until


def test_a_scenario_with_too_little_to_learn_from_or_to_validate_on_is_refused(
    folder, opened, last_week, tmp_path
):
    is_west, out = opened.columns["scenario"] == 3, tmp_path / "model"
    begins = last_week - 6 * MICROSECONDS_PER_DAY  # of validation
    later = opened.keep(~is_west | (opened.times >= begins))
    with pytest.raises(DataError, match="'west' has no samples"):
        saml.extend(SAML.open(folder), later, "west", out, until=last_week)
    before = opened.keep(~is_west | (opened.times < begins))
    with pytest.raises(DataError, match="validate on"):
        saml.extend(SAML.open(folder), before, "west", out, until=last_week)
    assert not list(tmp_path.iterdir())


def test_a_larger_model_than_the_budget_allows_is_refused(folder, opened, last_week, tmp_path):
    model = SAML.open(folder)
    limited = replace(model, config=replace(model.config, budget=model.sizes.total))
    with pytest.raises(UsageError, match="too little"):
        saml.extend(limited, opened, "west", tmp_path / "model", until=last_week)


def test_a_hashed_table_of_items_may_get_a_new_category_but_no_new_rows(
    opened, config, options, last_week, tmp_path
):
    hashed = replace(config, scenarios=KNOWN, item_table="hash", item_rows=20, embeddings="global")
    short = replace(options, epochs=1)
    table = opened.item_table
    other = replace(opened, item_table=table.with_columns(category=pl.lit("c0")))
    model = saml.fit(other, tmp_path / "one", hashed, short, until=last_week)
    saml.extend(model, opened, "west", tmp_path / "two", until=last_week, branch_only=True)
    more_rows = replace(hashed, item_rows=39)  # than items: one for each, at first
    some = opened.keep(opened.item_rows > 1)
    fewer = saml.fit(some, tmp_path / "few", more_rows, short, until=last_week)
    with pytest.raises(UsageError, match="cannot grow"):
        saml.extend(fewer, opened, "west", tmp_path / "three", until=last_week, branch_only=True)
    assert not [path for path in tmp_path.iterdir() if "three" in path.name]


def test_users_of_a_hash_may_become_more(opened, config, options, last_week, tmp_path):
    hashed = replace(config, scenarios=KNOWN, user_ids=True, user_table="hash", user_rows=20)
    model = saml.fit(opened, tmp_path / "one", hashed, replace(options, epochs=1), until=last_week)
    more = saml.extend(model, opened, "west", tmp_path / "two", until=last_week, branch_only=True)
    assert len(more.fields.context["user_id"]) > len(model.fields.context["user_id"])


def test_users_that_share_rows_cannot_become_more(opened, config, options, last_week, tmp_path):
    clustered = replace(config, scenarios=KNOWN, user_ids=True, user_table="clustered", user_rows=5)
    model = saml.fit(opened, tmp_path / "one", clustered, replace(options, epochs=1), until=last_week)
    with pytest.raises(UsageError, match="a table of users of kind 'clustered' cannot grow"):
        saml.extend(model, opened, "west", tmp_path / "two", until=last_week, branch_only=True)


def test_then_all_branches_are_trained_together(folder, opened, last_week, tmp_path):
    model = saml.extend(SAML.open(folder), opened, "west", tmp_path / "model", until=last_week)
    found = score_log(model, opened).by_scenario
    assert all(figures["auc"] > 0.7 for figures in found.values())
    before = load_file(folder / "weights.safetensors")["levels.0.layer.weight"]
    assert not load_file(tmp_path / "model" / "weights.safetensors")["levels.0.layer.weight"][:3].equal(
        before
    )
    assert model.options == SAML.open(folder).options


def test_a_single_scenario_becomes_two(opened, config, options, last_week, tmp_path):
    short = replace(options, epochs=1)
    one = saml.fit(opened, tmp_path / "one", replace(config, scenarios=("east",)), short, until=last_week)
    two = saml.extend(one, opened, "north", tmp_path / "two", until=last_week, validation="none")
    assert two.scenarios == ["east", "north"]
    assert set(score_log(two, opened).by_scenario) == {"east", "north"}


def test_what_cannot_be_extended_is_refused(folder, opened, config, options, last_week, tmp_path):
    model, out = SAML.open(folder), tmp_path / "out"
    with pytest.raises(UsageError, match="has learned scenario 'south' already"):
        saml.extend(model, opened, "south", out)
    with pytest.raises((DataError, UsageError), match="mars"):
        saml.extend(model, opened, "mars", out)
    rival = replace(model, config=replace(model.config, method="mixed"))
    with pytest.raises(UsageError, match="method=mixed"):
        saml.extend(rival, opened, "west", out)
    assert not out.exists()
