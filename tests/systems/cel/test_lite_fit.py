"""A stream learned in pieces: Datasets in, one Model folder that goes on, Embeddings out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from polyvec.artifact import Manifest, read_manifest, verify
from polyvec.data.dataset import Dataset
from polyvec.embeddings import COLD, EMPTY, WARM
from polyvec.errors import ArtifactError, DataError, UsageError
from polyvec.systems.cel import LiteConfig, LiteModel, fit_stream, plan_stream, update
from polyvec.systems.cel.lite_fit import FIRST
from polyvec.systems.embed import embed
from polyvec.systems.open import open_model

CONFIG = LiteConfig(width=4, user_clusters=4, item_clusters=4, volume=100, ring=1500, batch=20, rate=0.3)
EVENTS = 2400
STOPS = 1600  # a multiple of the batch


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    """Two kinds of users and of items, a rating each second; the last users and items come late."""
    random = np.random.default_rng(0)
    late = np.arange(EVENTS) >= STOPS
    users, items = (random.integers(0, most) for most in (40 + 20 * late, 30 + 10 * late))
    return pl.DataFrame(
        {
            "user": [f"u{user:02}" for user in users],
            "item": [f"i{item:02}" for item in items],
            "time": np.arange(EVENTS),
            "rating": np.array([[5, 2], [1, 3]], np.float32)[users % 2, items % 2],
        }
    )


def dataset_of(log: pl.DataFrame, **columns: np.ndarray) -> Dataset:
    dataset = Dataset.from_rows(list(log.select("user", "item", "time").iter_rows()))
    order = log.sort("user", "time", maintain_order=True)
    return replace(dataset, columns={"rating": order["rating"].to_numpy(), **columns})


def state_of(path: Path) -> bytes:
    return (path / "state.safetensors").read_bytes() + (path / "state.json").read_bytes()


@pytest.fixture(scope="module")
def whole(log, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lite") / "whole"
    fit_stream(dataset_of(log), path, CONFIG)
    return path


@pytest.fixture
def begun(log, tmp_path) -> Path:
    fit_stream(dataset_of(log[:STOPS]), tmp_path / "m", CONFIG)
    return tmp_path / "m"


# --- learning in pieces


def test_a_stream_learned_in_pieces_is_the_stream_learned_at_once(begun, whole, log):
    update(begun, dataset_of(log[STOPS:2000]))
    model = update(begun, dataset_of(log[2000:]))
    assert state_of(begun) == state_of(whole)
    once = LiteModel.open(whole)
    assert (model.users, model.items) == (once.users, once.items)
    assert model.trained_until == once.trained_until == EVENTS
    assert model.learner.items.clusters == 4
    verify(begun)


def test_a_model_of_pieces_tells_each_of_them_and_what_it_was_made_from(begun, log):
    before = read_manifest(begun, "model").fingerprint
    model = update(begun, dataset_of(log[STOPS:]))
    assert [call["interactions"] for call in model.calls] == [STOPS, EVENTS - STOPS]
    assert model.calls[1]["new_users"] == 20
    assert model.manifest.parents["model"] == before
    assert model.manifest.meta["interactions"] == EVENTS
    assert "2,400 interactions in 2 calls" in (begun / "card.md").read_text()


def test_the_kinds_are_foretold_and_what_the_start_was_taken_from_does_not_count(whole):
    errors = LiteModel.open(whole).calls[0]["errors"]
    assert errors["all"]["interactions"] == EVENTS - FIRST
    assert errors["last half"]["CEL-Lite"] < 0.7
    assert errors["last half"]["means"] > 1  # they know no kinds


def test_new_ids_get_rows_at_the_end_in_the_order_of_the_stream(begun, log):
    known = LiteModel.open(begun).users.series.to_list()
    grown = update(begun, dataset_of(log[STOPS:])).users.series.to_list()
    assert grown == log["user"].unique(maintain_order=True).to_list()
    assert grown[: len(known)] == known


def test_events_of_all_users_are_learned_by_their_times(log, whole, tmp_path):
    shuffled = log.sample(fraction=1, shuffle=True, seed=1)
    fit_stream(dataset_of(shuffled), tmp_path / "m", CONFIG)
    assert state_of(tmp_path / "m") == state_of(whole)


def test_events_without_a_label_are_left_out(log, tmp_path):
    gaps = log.with_columns(
        pl.when(pl.col("time") % 3 == 0).then(float("nan")).otherwise("rating").alias("rating")
    )
    model = fit_stream(dataset_of(gaps), tmp_path / "gaps", CONFIG)
    rest = fit_stream(dataset_of(log.filter(pl.col("time") % 3 != 0)), tmp_path / "rest", CONFIG)
    assert model.calls[0]["left_out"] == EVENTS // 3
    assert state_of(tmp_path / "gaps") == state_of(tmp_path / "rest")
    assert rest.calls[0]["left_out"] == 0


# --- time


def test_events_before_what_was_learned_are_refused_and_the_model_stays(begun, log):
    before = state_of(begun)
    with pytest.raises(DataError, match="100 of 900 events, from 1970-01-01T00:00 on, lie before") as error:
        update(begun, dataset_of(log[STOPS - 100 :]))
    assert "--skip-earlier" in str(error.value)
    assert state_of(begun) == before


def test_earlier_events_can_be_left_out(begun, whole, log):
    model = update(begun, dataset_of(log), skip_earlier=True)
    assert model.calls[1]["left_out"] == STOPS
    assert state_of(begun) == state_of(whole)


def test_nothing_at_or_after_the_moment_is_learned(begun, log, tmp_path):
    model = fit_stream(dataset_of(log), tmp_path / "until", CONFIG, until=STOPS)
    assert state_of(tmp_path / "until") == state_of(begun)
    assert model.trained_until == STOPS
    assert "u59" not in model.users.series


def test_an_update_without_later_events_says_so(begun, log):
    with pytest.raises(DataError, match=r"no event at or after .* has a number in rating"):
        update(begun, dataset_of(log[:STOPS]), skip_earlier=True)


def test_data_with_only_an_order_is_no_stream(log, tmp_path):
    ordered = replace(dataset_of(log), time_kind="order")
    with pytest.raises(DataError, match="a stream needs timestamps"):
        fit_stream(ordered, tmp_path / "m", CONFIG)


# --- what cannot be learned


def test_a_missing_column_names_those_that_there_are(log, tmp_path):
    dataset = dataset_of(log, clicked=np.ones(EVENTS, np.float32))
    with pytest.raises(DataError, match="no column of numbers 'click'") as error:
        fit_stream(dataset, tmp_path / "m", replace(CONFIG, column="click"))
    assert "did you mean 'clicked'?" in str(error.value)
    bare = replace(dataset, columns={})
    with pytest.raises(DataError, match="no column of numbers 'rating'"):
        fit_stream(bare, tmp_path / "m", CONFIG)


def test_numbers_around_nought_are_no_start_for_rows_alone(log, tmp_path):
    below = log.with_columns(rating=pl.lit(-1.0, pl.Float32))
    with pytest.raises(DataError, match=r"the first 1,000 numbers in rating have a mean of -1"):
        fit_stream(dataset_of(below), tmp_path / "m", replace(CONFIG, residual=False))
    assert fit_stream(dataset_of(below), tmp_path / "m", CONFIG).learner.means.mean == -1


def test_events_by_another_clock_are_refused(begun, log):
    meta = {"options": {"time_zone": "Europe/Berlin"}}
    later = replace(dataset_of(log[STOPS:]), manifest=Manifest("dataset", {}, {}, meta, "", "", ""))
    with pytest.raises(UsageError, match="by the clock of UTC, this Dataset is by that of Europe/Berlin"):
        update(begun, later)


def test_ids_of_another_type_are_refused(begun, log):
    numbered = log[STOPS:].with_columns(pl.col("user").str.slice(1).cast(pl.Int64))
    with pytest.raises(DataError, match="user_id is of type Int64"):
        update(begun, dataset_of(numbered))


def test_a_models_place_is_not_taken_unasked(begun, log):
    with pytest.raises(ArtifactError, match="exists already"):
        fit_stream(dataset_of(log), begun, CONFIG)


# --- faults


def test_an_interrupted_update_leaves_the_old_model(begun, whole, log):
    before = state_of(begun)

    def interrupt(done: int, total: int) -> None:
        assert total == EVENTS - STOPS
        if done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update(begun, dataset_of(log[STOPS:]), on_batch=interrupt)
    assert state_of(begun) == before
    update(begun, dataset_of(log[STOPS:]))
    assert state_of(begun) == state_of(whole)


def test_a_fault_while_writing_leaves_the_old_model_or_the_new(fail_at_operation, log):
    small = replace(CONFIG, ring=50)

    def set_up(folder: Path) -> None:
        fit_stream(dataset_of(log[:60]), folder / "m", small)

    def write(folder: Path) -> None:
        update(folder / "m", dataset_of(log[60:100]))

    seen = set()
    for folder, fault in fail_at_operation(write, set_up):
        path = folder / "m" if (folder / "m").exists() else folder / ".m.replaced"
        calls = len(LiteModel.open(path).calls)
        assert calls in (1, 2), fault
        seen.add(calls)
    assert seen == {1, 2}


# --- serving


def test_a_model_of_before_that_names_a_setting_which_is_gone_is_opened(begun, tmp_path, monkeypatch):
    old = shutil.copytree(begun, tmp_path / "old")
    told = json.loads((old / "config.json").read_text())
    told["cel-lite"]["refresh"] = 64
    (old / "config.json").write_text(json.dumps(told))
    manifest = read_manifest(begun, "model")
    monkeypatch.setattr("polyvec.systems.cel.lite_model.read_model_manifest", lambda *_: manifest)
    assert LiteModel.open(old).learner.config == LiteModel.open(begun).learner.config


def test_users_and_items_are_served_by_their_clusters_and_new_ones_by_the_largest(begun, log, tmp_path):
    dataset = dataset_of(
        log.vstack(
            log[:1].with_columns(pl.lit("nobody").alias("user"), pl.lit(EVENTS, pl.Int64).alias("time"))
        )
    )
    unsold = pl.DataFrame({"item_id": [*dataset.items.series, "unsold"]})
    dataset = replace(dataset, item_table=unsold, items=type(dataset.items)(unsold["item_id"], "item_id"))
    made, model = embed(open_model(begun), dataset, tmp_path / "e", until=EVENTS), LiteModel.open(begun)
    assert made.score == "max_dot"
    users, items = model.learner.users, model.learner.items
    rows = dict(zip(made.users.ids.series, made.users.vectors[:, 0], strict=True))
    np.testing.assert_array_equal(rows["u00"][:4], users.rows[users.assign[model.users.rows(["u00"])[0]]])
    np.testing.assert_array_equal(rows["u59"][:4], users.rows[users.sizes.argmax()])
    np.testing.assert_array_equal(made.items.vectors[-1, :4], items.rows[items.sizes.argmax()])
    states = dict(zip(made.users.ids.series, made.users.state, strict=True))
    assert (states["u00"], states["u59"], states["nobody"]) == (WARM, COLD, EMPTY)
    assert dict(zip(made.items.ids.series, made.items.state, strict=True))["unsold"] == EMPTY
    assert made.items.events.sum() == STOPS
    assert made.provenance["trained_until"] == STOPS


@pytest.mark.parametrize("residual", [True, False])
def test_the_dot_product_of_embeddings_is_the_prediction(log, tmp_path, residual):
    dataset = dataset_of(log)
    fit_stream(dataset, tmp_path / "m", replace(CONFIG, residual=residual), until=STOPS)
    model = LiteModel.open(tmp_path / "m")
    made = embed(model, dataset, tmp_path / "e", until=EVENTS)
    assert made.items.vectors.shape[1] == model.width == model.meta["D"] == 4 + 2 * residual
    users, items = model.users.rows(made.users.ids.series), model.items.rows(made.items.ids.series)
    assert min(users.min(), items.min()) == -1  # some came later
    expected = model.learner.predict(np.repeat(users, len(items)), np.tile(items, len(users)))
    scores = made.users.vectors[:, 0] @ made.items.vectors.T
    np.testing.assert_allclose(scores.ravel(), expected, rtol=1e-5, atol=1e-5)


def test_a_folder_holds_no_row_for_each_entity(whole):
    model = LiteModel.open(whole)
    assert model.manifest.meta["parameters"] == 8 * 4 + 1 + len(model.users) + len(model.items)
    arrays, _ = model.learner.state()
    assert all(
        4 not in array.shape[1:] for name, array in arrays.items() if name.endswith(("assign", "events"))
    )
    assert json.loads((whole / "config.json").read_text())["cel-lite"]["batch"] == 20


def test_a_plan_tells_the_bytes_of_the_model(log, whole):
    dataset, model = dataset_of(log), LiteModel.open(whole)
    found = plan_stream(dataset, CONFIG)
    assert (found.interactions, found.users, found.items) == (EVENTS, len(model.users), len(model.items))
    assert found.model == model.meta["bytes"]
    assert found.learner > found.model
    assert found.peak == found.learner + found.stream + found.process
    earlier = plan_stream(dataset, CONFIG, until=int(np.sort(dataset.times)[STOPS]))
    assert earlier.interactions == STOPS


def test_a_plan_as_typed_is_the_fit_as_typed(log, tmp_path, capsys, run):
    log.with_columns(pl.col("time") + 10**9).write_csv(tmp_path / "log.csv")
    named = ["--column", "user_id=user", "--column", "item_id=item", "--column", "timestamp=time"]
    assert run("prepare", tmp_path / "log.csv", "--out", tmp_path / "d", *named) == 0
    settings = ("user_clusters=9", "item_clusters=9", "volume=100")
    small = [word for setting in settings for word in ("--set", setting)]
    capsys.readouterr()
    assert run("plan", "cel-lite", tmp_path / "d", *small, "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert run("fit", "cel-lite", tmp_path / "d", "--out", tmp_path / "m", *small, "--json") == 0
    assert planned["model_bytes"] == json.loads(capsys.readouterr().out)["bytes"]
    assert run("plan", "cel-lite", tmp_path / "d", *small) == 0
    assert f"{planned['model_bytes']:>16,}" in capsys.readouterr().out
    assert run("plan", "cel-lite", tmp_path / "d", "--budget", "1MB") == 2
    assert "cel-lite has no --budget" in capsys.readouterr().err
