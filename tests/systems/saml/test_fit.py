"""SAML from a log to scores, on three planted scenarios."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file

from polyvec.data.dataset import MICROSECONDS_PER_DAY
from polyvec.data.offers import Offers
from polyvec.embeddings import WARM
from polyvec.errors import DataError, UsageError
from polyvec.systems import saml
from polyvec.systems.embed import embed
from polyvec.systems.saml import SAML
from polyvec.systems.saml.config import Method
from polyvec.systems.saml.features import Encoder
from polyvec.systems.saml.objective import calibrate
from polyvec.systems.saml.score import score_log, score_pairs

DAY = MICROSECONDS_PER_DAY


@pytest.fixture(scope="module")
def folder(dataset, config, options, last_week, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit") / "model"
    saml.fit(dataset, folder, config, options, until=last_week)
    return folder


@pytest.fixture(scope="module")
def model(folder) -> SAML:
    return SAML.open(folder)


def test_it_knows_what_is_liked_where(model, dataset):
    scored = score_log(model, dataset)
    assert scored.table["time"].min() >= datetime(1970, 1, 24, tzinfo=UTC)  # neither trained nor validated on
    assert [found["auc"] > 0.75 for found in scored.by_scenario.values()] == [True] * 3  # at best 0.85
    for name, others in scored.shares.items():
        assert others[name] == 0
        assert sum(others.values()) == pytest.approx(1)


def test_the_network_for_all_without_scenario_does_not(dataset, config, options, last_week, tmp_path):
    blind = replace(dataset, columns=dataset.columns | {"scenario": np.zeros(dataset.num_events, np.int32)})
    model = saml.fit(
        blind,
        tmp_path / "model",
        replace(config, max_length=0, scenarios=("east",)),
        options,
        until=last_week,
    )
    assert score_log(model, blind).by_scenario["east"]["auc"] < 0.7


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_goes_from_the_log_to_scores(dataset, config, options, last_week, tmp_path, method):
    short = replace(options, epochs=3)
    model = saml.fit(dataset, tmp_path / "model", replace(config, method=method), short, until=last_week)
    scored = score_log(model, dataset)
    assert scored.table["score"].is_between(0, 1).all()
    assert set(scored.by_scenario) == {"east", "north", "south"}
    assert bool(scored.shares) == (method == "saml")


def test_a_second_run_ends_with_the_same_bits_as_one_that_was_resumed(
    dataset, config, options, folder, last_week, tmp_path, monkeypatch
):
    from polyvec.training import loop

    def interrupted(*arguments, **others):
        save(*arguments, **others)
        if arguments[3].step > 20:
            raise KeyboardInterrupt

    save = loop.save_checkpoint
    monkeypatch.setattr(loop, "save_checkpoint", interrupted)
    out = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        saml.fit(dataset, out, config, options, until=last_week)
    monkeypatch.undo()
    assert not out.exists()
    saml.fit(dataset, out, config, options, until=last_week, resume=True)
    first, second = (load_file(one / "weights.safetensors") for one in (folder, out))
    assert all((first[name] == second[name]).all() for name in first)


def test_the_manifest_tells_of_samples_and_validation(model, dataset, last_week):
    meta = model.manifest.meta
    assert meta["scenarios"] == ["east", "north", "south"]
    assert meta["labels"] == "label"
    assert meta["fields"] == ["item_id", "category", "gender"]
    assert meta["validation"] > 0.75
    assert meta["read_until"] == last_week
    assert (
        sum(found["all"] for found in meta["samples"].values()) == (dataset.times < last_week - 6 * DAY).sum()
    )
    assert meta["parameters"] == sum(one.numel() for one in model.network.parameters())
    fields = meta["parameters"] - sum(
        one.numel() for name, one in model.network.named_parameters() if ".tables." not in name
    )
    assert fields == (41 + 5 + 3) * 8 + 3 * (41 + 5) * 4  # Σ V (k_g + N k_l), specific ones of the item's


def test_refit_learns_from_everything(dataset, config, options, last_week, tmp_path):
    short = replace(options, epochs=2)
    model = saml.fit(dataset, tmp_path / "model", config, short, until=last_week, refit=True)
    everything = (dataset.times < last_week).sum()
    assert sum(found["all"] for found in model.manifest.meta["samples"].values()) == everything


def test_pairs_are_scored_after_the_log_and_whoever_is_not_known_gets_an_answer(model, dataset, tmp_path):
    pairs = pl.DataFrame({
        "user_id": ["east000", "east000", "nobody", "east000"],
        "item_id": ["i00", "i02", "i00", "new"],
        "scenario": ["east", "east", "south", "north"],
        "remark": ["", "", "", ""],
    })  # fmt: skip
    file = tmp_path / "pairs.csv"
    pairs.write_csv(file)
    scored = score_pairs(model, dataset, file)
    assert scored.table.columns == ["user_id", "item_id", "scenario", "score"]
    likes, dislikes, *_ = scored.table["score"]
    assert likes > dislikes  # gender f, in the east: categories 0 and 1
    assert scored.table["score"].is_not_nan().all()
    assert not scored.by_scenario


def test_what_the_model_has_not_learned_is_said_with_its_row(model, dataset, tmp_path):
    pairs = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["i00"] * 2, "scenario": ["east", "west"]})
    with pytest.raises(DataError, match="'west'") as raised:
        score_pairs(model, dataset, pairs)
    assert (raised.value.row, raised.value.column) == (2, "scenario")
    file = tmp_path / "pairs.csv"
    pairs.drop("item_id").write_csv(file)
    with pytest.raises(DataError, match="item_id") as raised:
        score_pairs(model, dataset, file)
    assert raised.value.file == str(file)
    with pytest.raises(UsageError, match="nothing to score"):
        score_log(model, dataset, since=1000 * DAY, until=1001 * DAY)


def test_scores_that_are_too_sure_are_calibrated_and_ranked_as_before():
    random = np.random.default_rng(0)
    truth = random.normal(size=4000)
    labels = random.random(4000) < 1 / (1 + np.exp(-truth))
    scale, shift = calibrate(5 * truth + 2, labels)
    assert scale == pytest.approx(1 / 5, rel=0.15)
    assert shift == pytest.approx(-2 / 5, abs=0.15)
    assert calibrate(-truth, labels)[0] > 0  # worse than chance: ranked as it was, all the same
    assert calibrate(truth, np.ones(4000, bool)) == (1.0, 0.0)


def test_few_samples_never_make_a_chance_certain():
    scale, shift = calibrate(np.array([1.0, 2.0, -1.0]), np.array([True, True, False]))
    chances = 1 / (1 + np.exp(-(scale * np.array([1.0, 2.0, -1.0]) + shift)))
    assert chances.max() < 0.9
    assert chances.min() > 0.1


def test_a_models_scores_are_calibrated_on_what_it_was_validated_on(model, folder, dataset):
    scale, shift = json.loads((folder / "config.json").read_text())["calibration"]
    assert (scale, shift) == model.calibration != (1.0, 0.0)
    raw = replace(model, calibration=(1.0, 0.0))
    said, before = (
        np.log(chance / (1 - chance))
        for chance in (score_log(one, dataset).table["score"].to_numpy() for one in (model, raw))
    )
    np.testing.assert_allclose(said, scale * before + shift, atol=1e-6)


def test_labels_that_are_all_alike_are_refused(dataset, config, options, tmp_path):
    liked = replace(dataset, columns=dataset.columns | {"label": np.ones(dataset.num_events, np.float32)})
    with pytest.raises(DataError, match="were taken"):
        saml.fit(liked, tmp_path / "model", config, options)
    assert not (tmp_path / "model").exists()


def test_ordered_data_is_validated_on_last_events(dataset, config, options, tmp_path):
    ordered = replace(dataset, time_kind="order")
    short = replace(options, epochs=1)
    model = saml.fit(ordered, tmp_path / "model", replace(config, validation_days=2), short, held_back=3)
    assert model.read_until == -3
    scored = score_log(model, ordered)
    assert len(scored.table) == 3 * dataset.num_users
    assert model.time_kind == "order"
    found = embed(model, ordered, tmp_path / "vectors", held_back=3, scenario="east")
    assert (found.users.state == WARM).all()
    with pytest.raises(UsageError, match="trained on data with an order"):
        score_log(model, dataset)
    with pytest.raises(UsageError, match="trained on data with an order"):
        score_pairs(model, dataset, pl.DataFrame({"user_id": ["a"], "item_id": ["b"], "scenario": ["east"]}))


def test_a_plan_tells_the_parameters_of_the_fitted_model(model, dataset, config, options, last_week):
    plan = saml.plan(dataset, config, options, until=last_week)
    assert plan.parameters == model.manifest.meta["parameters"]
    assert plan.model.total == model.manifest.meta["bytes"]
    assert plan.steps_per_epoch == -(-sum(
        found["all"] for found in model.manifest.meta["samples"].values()
    ) // 128)  # fmt: skip


def test_configuration_is_saved_resolved(folder, config):
    saved = json.loads((folder / "config.json").read_text("utf-8"))
    assert saved["saml"]["hidden"] == list(config.hidden)
    assert saved["scenarios"] == ["east", "north", "south"]


def test_a_model_over_budget_is_refused_before_it_is_trained(
    model, dataset, config, options, last_week, tmp_path
):
    size = model.manifest.meta["bytes"]
    with pytest.raises(UsageError, match="too little") as raised:
        saml.fit(dataset, tmp_path / "model", replace(config, budget=size - 1), options, until=last_week)
    assert f"{size:,}" in raised.value.expected
    assert f"{3 * (41 + 5) * 4 * 4:,} of the scenarios" in raised.value.expected
    assert not list(tmp_path.iterdir())
    saml.plan(dataset, replace(config, budget=size), options, until=last_week)


def test_a_second_run_may_not_pass_the_budget_either(dataset, config, options, last_week, tmp_path):
    late = dataset.times >= last_week - 6 * DAY  # an item that is seen in validation alone
    some = dataset.keep((dataset.item_rows > 0) | late)
    size = saml.plan(some, config, options, until=last_week).model.total
    limited, short = replace(config, budget=size), replace(options, epochs=1)
    with pytest.raises(UsageError, match="too little"):
        saml.fit(some, tmp_path / "model", limited, short, until=last_week, refit=True)
    assert not (tmp_path / "model").exists()


def test_what_is_called_without_a_configuration_is_the_default_preset(dataset, last_week):
    expected = saml.plan(dataset, *saml.default(), until=last_week)
    assert saml.plan(dataset, until=last_week).parameters == expected.parameters
    assert saml.plan(dataset, saml.paper()[0], until=last_week).parameters != expected.parameters


def test_scenarios_that_begin_after_the_training_are_none_and_named_ones_are_refused(
    dataset, config, options, last_week
):
    early = (dataset.columns["scenario"] != 2) | (dataset.times >= last_week - DAY)
    some = dataset.keep(early)
    whole = saml.plan(dataset, config, options, until=last_week)
    assert saml.plan(some, config, options, until=last_week).parameters < whole.parameters
    with pytest.raises(DataError, match="scenario 'south' has no samples to learn from"):
        saml.plan(some, replace(config, scenarios=("east", "south")), options, until=last_week)


def test_what_is_counted_of_a_scenario_is_its_own_where_another_begins_late(
    dataset, config, options, last_week, tmp_path
):
    late = (dataset.columns["scenario"] != 0) | (dataset.times >= last_week - DAY)
    counting, short = replace(config, windows=(0,)), replace(options, epochs=1)
    model = saml.fit(dataset.keep(late), tmp_path / "model", counting, short, until=last_week)
    assert model.scenarios == ["north", "south"]
    assert model.fields.counted.scenarios == ("north", "south")


def test_the_same_scenario_twice_is_refused(config):
    with pytest.raises(ValidationError, match="scenarios names the same one twice"):
        replace(config, scenarios=("east", "east"))


def test_a_validation_that_tells_nothing_apart_is_refused(dataset, config, options, last_week, tmp_path):
    labels = np.array(dataset.columns["label"])
    late = (dataset.times >= last_week - 6 * DAY) & (dataset.times < last_week)
    labels[late] = np.asarray(dataset.columns["scenario"])[late] == 0  # everything in the east, nothing else
    same = replace(dataset, columns=dataset.columns | {"label": labels})
    with pytest.raises(DataError, match="none of the scenarios has samples to validate on"):
        saml.fit(same, tmp_path / "model", config, options, until=last_week)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"balanced": True},
        {"max_ids": 5},
        {"user_ids": True, "max_users": 20},
        {"method": "mmoe", "experts": 2},
        {"independence": 0.5},
        {"auxiliary_weight": 0.3},
        {"detach_others": False},
    ],
)
def test_options_change_what_is_learned(dataset, config, options, last_week, tmp_path, changes):
    short = replace(options, epochs=1)
    base = {"method": "mmoe"} if "method" in changes else {"user_ids": True} if "user_ids" in changes else {}
    small = replace(config, scenarios=("east", "south"))
    scores = []
    for name, one in (("one", base), ("other", changes)):
        model = saml.fit(dataset, tmp_path / name, replace(small, **one), short, until=last_week)
        scores.append(score_log(model, dataset).table["score"])
    assert not scores[0].equals(scores[1])


def test_later_data_are_labelled_as_those_that_were_learned(model, dataset):
    assert model.config.labels == "label"
    blind = replace(dataset, columns={name: dataset.columns[name] for name in ("scenario", "gender")})
    with pytest.raises(DataError, match="labels=label"):
        score_log(model, blind)


def test_a_log_without_one_of_the_scenarios_is_scored(model, dataset):
    south = np.asarray(dataset.columns["scenario"]) == 2
    kept = dataset.keep(~south)
    kept = replace(kept, codes=kept.codes | {"scenario": ["east", "north"]})
    assert set(score_log(model, kept).by_scenario) == {"east", "north"}


def test_columns_may_be_called_as_they_like(dataset, config, options, last_week, tmp_path):
    renamed = dataset.item_table.rename({"category": "type", "price": "history"})
    renamed = renamed.with_columns(
        pl.col("type").alias("a/b"), pl.lit("x").alias("c.d"), pl.lit("y").alias("c d")
    )
    other = replace(dataset, item_table=renamed)
    fields = {"item_fields": ("type", "a/b", "c.d", "c d"), "item_numbers": ("history",)}
    short = replace(options, epochs=1)
    model = saml.fit(other, tmp_path / "model", replace(config, **fields), short, until=last_week)
    assert model.network.shape.dense == 2  # the number called so, and how long the history is
    np.testing.assert_array_equal(
        *(
            one.table["score"].to_numpy()
            for one in (score_log(model, other), score_log(SAML.open(tmp_path / "model"), other))
        )
    )


def test_counted_features_go_through_a_saved_model_and_a_log_without_a_scenario(
    dataset, config, options, last_week, tmp_path
):
    short = replace(options, epochs=1)
    counting = replace(config, windows=(7, 0))
    model = saml.fit(dataset, tmp_path / "model", counting, short, until=last_week)
    assert model.network.shape.dense > 2
    scores = score_log(model, dataset).table["score"]
    assert SAML.open(tmp_path / "model").fields.counted == model.fields.counted
    assert score_log(SAML.open(tmp_path / "model"), dataset).table["score"].equals(scores)
    east = dataset.keep(dataset.columns["scenario"] == 0)
    alone = replace(east, codes=dataset.codes | {"scenario": ["east"]})
    assert set(score_log(model, alone).by_scenario) == {"east"}
    told = {name: dataset.columns[name] for name in ("label", "gender")}
    nobody = replace(dataset, columns=told, codes={"gender": dataset.codes["gender"]})
    pairs = pl.DataFrame({"user_id": ["east000"], "item_id": ["i00"], "scenario": ["east"]})
    assert len(score_pairs(model, nobody, pairs).table) == 1


def test_what_is_counted_is_told_by_name_when_a_log_has_other_actions(
    dataset, config, options, last_week, tmp_path
):
    def acting(names: list[str]):
        codes = (np.arange(dataset.num_events) % len(names)).astype(np.int32)
        return replace(
            dataset, columns=dataset.columns | {"action": codes}, codes=dataset.codes | {"action": names}
        )

    short = replace(options, epochs=1)
    model = saml.fit(
        acting(["purchase", "view"]),
        tmp_path / "model",
        replace(config, windows=(7,)),
        short,
        until=last_week,
    )
    more = acting(["purchase", "click", "view", "return"])
    assert len(score_log(model, more).table)
    encoder = Encoder.of(more, model.fields)
    scenario, views = encoder.statistics[0], list(encoder.counted).index("view 7d")
    offers = Offers.of(*(np.array([one]) for one in (0, 3, 0, 20 * DAY)), np.array([True]))
    expected = scenario.at(np.array([3]), np.array([20]))[0, scenario.names.index("view 7d")]
    mean, deviation = encoder.counted["view 7d"]
    assert encoder.counts(offers)[0, views] == pytest.approx(
        (np.log1p(expected) - mean) / deviation, rel=1e-5
    )
