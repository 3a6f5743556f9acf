"""Vectors of users and items out of a branch of SAML."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from polyvec.data.offers import Offers
from polyvec.errors import DataError, UsageError
from polyvec.systems import saml
from polyvec.systems.embed import embed
from polyvec.systems.open import open_model

CATEGORIES = np.arange(40) % 4


@pytest.fixture(scope="module")
def folder(dataset, config, options, last_week, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors") / "model"
    saml.fit(dataset, folder, config, options, until=last_week)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return open_model(folder)


def test_products_of_vectors_follow_what_the_ranker_says(model, dataset, last_week, tmp_path):
    found = embed(model, dataset, tmp_path / "emb", scenario="north", until=last_week)
    assert found.score == "max_dot"
    assert found.provenance["scenario"] == "north"
    assert found.provenance["agreement"] > 0.7
    users = np.flatnonzero(dataset.users.series.str.starts_with("north").to_numpy())
    said = found.users.vectors[users, 0] @ found.items.vectors.T
    pairs = np.repeat(users, 40), np.tile(np.arange(40), len(users))
    count = len(pairs[0])
    place, moment = np.full(count, model.scenarios.index("north")), np.full(count, last_week)
    offers = Offers.of(*pairs, place, moment, np.zeros(count, bool))
    truth = model.score(dataset, offers)[0].reshape(len(users), 40)
    centred = [values - values.mean(axis=1, keepdims=True) for values in (said, truth)]
    assert np.corrcoef(*(values.ravel() for values in centred))[0, 1] > 0.9


def test_the_vectors_of_a_scenario_know_its_tastes(model, dataset, last_week, tmp_path):
    gender = dataset.columns["gender"][dataset.user_offsets[:-1]]
    for scenario, is_turned in (("north", False), ("south", True)):
        found = embed(model, dataset, tmp_path / scenario, scenario=scenario, until=last_week)
        users = np.flatnonzero(dataset.users.series.str.starts_with(scenario).to_numpy())
        best = (found.users.vectors[users, 0] @ found.items.vectors.T).argsort(axis=1)[:, -10:]
        likes = (CATEGORIES[best] // 2 == gender[users, None]) != is_turned
        assert likes.mean() > 0.9


def test_nothing_after_the_moment_changes_a_vector(model, dataset, last_week, tmp_path):
    before = dataset.keep(np.asarray(dataset.times) < last_week)
    one = embed(model, dataset, tmp_path / "one", scenario="east", until=last_week)
    other = embed(model, before, tmp_path / "other", scenario="east", until=last_week)
    np.testing.assert_allclose(one.users.vectors, other.users.vectors, atol=1e-5)
    np.testing.assert_allclose(one.items.vectors, other.items.vectors, atol=1e-4)


def test_vectors_are_of_a_scenario_that_was_learned(model, dataset, tmp_path):
    for scenario in (None, "west"):
        with pytest.raises(UsageError) as raised:
            embed(model, dataset, tmp_path / "emb", scenario=scenario)
        assert "east, north, south" in str(raised.value)
    few = dataset.keep(np.arange(dataset.num_events) < 40)
    with pytest.raises(DataError, match="scenario 'north' has 0 users"):
        embed(model, few, tmp_path / "emb", scenario="north")
    assert not (tmp_path / "emb").exists()


def test_rivals_have_no_branches_that_write_vectors(dataset, config, options, last_week, tmp_path):
    short = replace(options, epochs=1)
    model = saml.fit(dataset, tmp_path / "model", replace(config, method="mixed"), short, until=last_week)
    with pytest.raises(UsageError, match="method=mixed"):
        embed(model, dataset, tmp_path / "emb", scenario="east")
