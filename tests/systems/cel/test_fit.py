"""From a Dataset to a Model, Embeddings and back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from polyvec.artifact import verify
from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.embeddings import EMPTY, WARM
from polyvec.errors import ArtifactError, DataError, UsageError
from polyvec.systems.cel import CEL, CELConfig, fit, paper
from polyvec.systems.cel.fit import Split
from polyvec.systems.cel.records import Index, RecordPlan, Records
from polyvec.systems.embed import embed
from polyvec.systems.open import open_model

USERS, ITEMS = 30, 24
CONFIG = CELConfig(
    width=4, item_clusters=4, decay=0.01, shrinkage=0, split_every=5, cluster_steps=0, steps_per_epoch=20
)


def options(**changes):
    return replace(paper()[1], **({"epochs": 6, "learning_rate": 3e-3} | changes))


def rated(time_kind: str = "timestamp") -> Dataset:
    """Two kinds of users, two of items; everyone likes their own kind. The last item is never rated."""
    random = np.random.default_rng(0)
    rows, ratings = [], []
    for user in range(USERS):
        for place, item in enumerate(random.permutation(ITEMS - 1)[:15]):
            rows.append(
                (f"u{user:02}", f"i{item:02}", place * 10 * DAY if time_kind == "timestamp" else place)
            )
            ratings.append(5.0 if user % 2 == item % 2 else 1.0)
    table = pl.DataFrame({"item_id": [f"i{item:02}" for item in range(ITEMS)]})
    dataset = Dataset.from_rows(rows, table, time_kind)  # type: ignore[arg-type]
    return replace(dataset, columns={"rating": np.array(ratings, np.float32)})


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return rated()


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory) -> CEL:
    return fit(dataset, tmp_path_factory.mktemp("cel") / "m", CONFIG, options())


def test_a_model_is_whole_says_what_it_is_and_opens_again(model, dataset):
    meta = model.manifest.meta
    assert (meta["system"], meta["C"], meta["D"]) == ("cel", 1, 4)
    assert meta["clusters"] == {"users": USERS, "items": 4}
    assert meta["validation"] > -2.0  # the mean of all ratings errs by 4
    assert meta["parameters"] == (USERS + 4) * 4


def test_ratings_foretell_who_likes_what(model, dataset, tmp_path):
    made = embed(model, dataset, tmp_path / "e")
    scores = made.users.vectors[:, 0] @ made.items.vectors.T
    likes = np.arange(USERS)[:, None] % 2 == np.arange(ITEMS - 1) % 2
    assert scores[:, :-1][likes].mean() > scores[:, :-1][~likes].mean() + 2
    assert made.score == "max_dot"
    assert made.items.state[:-1].tolist() == [WARM] * (ITEMS - 1)
    assert made.items.state[-1] == EMPTY


@pytest.mark.parametrize("kind", ["clustered", "full", "hash"])
def test_who_was_not_trained_on_has_the_mean_vector_of_those_who_were(dataset, tmp_path, kind):
    model = fit(dataset, tmp_path / "m", replace(CONFIG, item_table=kind), options(), validation="none")
    catalogue = pl.DataFrame({"item_id": ["i23", "never seen"]})
    trained = model.encode_items(dataset.item_table.filter(pl.col("item_id") != "i23"))
    for vector in model.encode_items(catalogue):
        np.testing.assert_allclose(vector, trained.mean(axis=0), rtol=1e-5)
    states, events = model.item_states(catalogue)
    assert states.tolist() == [EMPTY, EMPTY]
    assert events.tolist() == [0, 0]


def test_who_has_few_events_is_served_nearer_to_the_mean(dataset, tmp_path):
    near = fit(
        dataset, tmp_path / "near", replace(CONFIG, prior_events=2), options(epochs=1), validation="none"
    )
    own = fit(dataset, tmp_path / "own", CONFIG, options(epochs=1), validation="none")
    items = dataset.item_table
    events = own.trained_items["events"].to_numpy()[:, None]
    vectors, mean = own.encode_items(items), own.encode_items(items)[events[:, 0] > 0].mean(axis=0)
    np.testing.assert_allclose(
        near.encode_items(items), (events * vectors + 2 * mean) / (events + 2), rtol=1e-5, atol=1e-6
    )


def test_validation_asks_what_is_served(dataset, tmp_path):
    made = fit(dataset, tmp_path / "m", replace(CONFIG, prior_events=5), options(epochs=2))
    split = Split.before(dataset, made.config, dataset.time_span[1] + 1, 0, 0)
    held_out = split.without_the_last(dataset, made.config, 0).validation
    users, items = made.network.served(*(
        torch.from_numpy(one["events"].to_numpy().copy()) for one in (made.trained_users, made.trained_items)
    ))  # fmt: skip
    errors = ((users[held_out.users] * items[held_out.items]).sum(dim=1) - held_out.labels).square()
    assert made.manifest.meta["validation"] == pytest.approx(-float(errors.mean()), rel=1e-4)


def test_a_model_folder_is_read_as_it_was_written(dataset, tmp_path):
    made = fit(dataset, tmp_path / "m", CONFIG, options(epochs=2), validation="none")
    verify(tmp_path / "m")
    again = open_model(tmp_path / "m")
    assert isinstance(again, CEL)
    table = dataset.item_table
    np.testing.assert_array_equal(again.encode_items(table), made.encode_items(table))
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["cel"]["item_clusters"] == 4
    assert "24 items in 4 rows" in (tmp_path / "m" / "card.md").read_text()
    with pytest.raises(ArtifactError, match="exists already"):
        fit(dataset, tmp_path / "m", CONFIG, options(epochs=2))


def test_an_interrupted_run_goes_on_to_the_same_bits(dataset, tmp_path, monkeypatch):
    whole = fit(dataset, tmp_path / "whole", CONFIG, options(), validation="none")
    from polyvec.systems.cel.steps import Steps

    real, calls = Steps.begin, []

    def begin(self, step):
        calls.append(step)
        if step == 70 and calls.count(70) == 1:
            raise KeyboardInterrupt
        real(self, step)

    monkeypatch.setattr(Steps, "begin", begin)
    with pytest.raises(KeyboardInterrupt):
        fit(dataset, tmp_path / "cut", CONFIG, options(), validation="none")
    resumed = fit(dataset, tmp_path / "cut", CONFIG, options(), validation="none", resume=True)
    assert calls.count(30) == 1
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_nothing_at_or_after_the_moment_is_read(dataset, tmp_path):
    until = 70 * DAY
    future = dataset.times >= until
    changed = dataset.columns["rating"].copy()
    changed[future] = 6 - changed[future]
    other = replace(dataset, columns={"rating": changed})
    made = [
        fit(data, tmp_path / name, CONFIG, options(epochs=2), until=until, refit=True)
        for name, data in (("a", dataset), ("b", other))
    ]
    weights = [one.network.state_dict() for one in made]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert made[0].trained_items["events"].sum() == int((~future).sum())


def test_ordered_data_holds_back_the_last_events_of_every_user(tmp_path):
    made = fit(rated("order"), tmp_path / "m", CONFIG, options(epochs=2), held_back=2)
    assert made.trained_users["events"].to_list() == [12] * USERS  # 15, two held back, one validated on
    again = fit(rated("order"), tmp_path / "n", CONFIG, options(epochs=2), held_back=2, refit=True)
    assert again.trained_users["events"].to_list() == [13] * USERS


def test_validation_asks_nothing_of_users_that_are_new(tmp_path):
    known = rated()
    latest = int(known.times.max())
    rows = [(user, item, time) for user, item, time in zip(
        known.users.take(np.repeat(np.arange(USERS), 15)), known.items.take(known.item_rows), known.times,
        strict=True,
    )]  # fmt: skip
    grown = Dataset.from_rows([*rows, ("z", "i00", latest)], known.item_table)
    ratings = np.append(known.columns["rating"], np.float32(1000))
    made = fit(replace(grown, columns={"rating": ratings}), tmp_path / "m", CONFIG, options(epochs=2))
    assert made.manifest.meta["validation"] > -10  # an error of a million otherwise


def test_clicks_are_learned_against_drawn_items(tmp_path):
    liked = rated()
    kept = liked.columns["rating"] > 3
    clicks = replace(liked.keep(kept), columns={})
    config = replace(CONFIG, target="click", nonnegative=False, user_table="clustered", user_clusters=4)
    made = fit(clicks, tmp_path / "m", config, options(epochs=30, learning_rate=0.02), validation="none")
    table = made.encode_items(clicks.item_table)[:-1]
    users = made.network.user_features()[made.network.users.assign.long()].detach().numpy()
    likes = np.arange(USERS)[:, None] % 2 == np.arange(ITEMS - 1) % 2
    scores = users @ table.T
    assert scores[likes].mean() > scores[~likes].mean() + 1
    assert made.trained_items["events"].sum() == int(kept.sum())


def pairs_of(records: Records) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of users and items that are ones, and zeros."""
    pairs = records.users * ITEMS + records.items
    return pairs[records.labels > 0], pairs[records.labels == 0]


def test_no_item_of_a_users_own_is_drawn_against_him():
    data = replace(rated(), columns={})
    config = replace(CONFIG, target="click", nonnegative=False, num_negatives=8)
    whole = Split.before(data, config, data.time_span[1] + 1, 0, seed=0)
    parted = whole.without_the_last(data, config, seed=0)
    own, drawn = pairs_of(whole.training)
    before, last = pairs_of(parted.training), pairs_of(parted.validation)
    assert len(last[1]) > 50
    assert not torch.isin(last[1], torch.cat([before[0], last[0]])).any()
    assert len(own) == USERS * 15
    assert 0.2 * 8 * len(own) < len(drawn) < 0.6 * 8 * len(own)  # a user has 15 of 24 items
    assert not torch.isin(drawn, own).any()


def test_another_device_is_refused_rather_than_not_used(dataset, tmp_path):
    with pytest.raises(UsageError, match="cel does not train on cuda"):
        fit(dataset, tmp_path / "m", CONFIG, options(device="cuda"))
    assert not list(tmp_path.iterdir())


def test_data_without_ratings_is_refused_with_a_way_out(tmp_path):
    bare = replace(rated(), columns={})
    with pytest.raises(DataError, match="no column rating") as caught:
        fit(bare, tmp_path / "m", CONFIG, options())
    assert "target=click" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_where_nothing_has_a_rating_it_is_said(tmp_path):
    empty = replace(rated(), columns={"rating": np.full(USERS * 15, np.nan, np.float32)})
    with pytest.raises(DataError, match="to learn from"):
        fit(empty, tmp_path / "m", CONFIG, options())


def test_a_moment_that_the_data_does_not_have_is_refused(dataset, tmp_path):
    with pytest.raises(UsageError, match="held_back is for data with an order"):
        fit(dataset, tmp_path / "m", CONFIG, options(), held_back=1)
    with pytest.raises(UsageError, match="refit has no validation"):
        fit(dataset, tmp_path / "m", CONFIG, options(), validation="none", refit=True)


# --- records


def records(count: int) -> Records:
    random = torch.Generator().manual_seed(0)
    users, items = (torch.randint(0, n, (count,), generator=random) for n in (7, 9))
    return Records(users, items, torch.arange(count).float())


def test_records_are_found_by_entity():
    found = records(50)
    index = Index(found.items, 9)
    rows, places = index.of(torch.tensor([8, 0, 3]))
    for place, item in enumerate((8, 0, 3)):
        assert rows[places == place].tolist() == (found.items == item).nonzero()[:, 0].tolist()
    assert index.counts.tolist() == torch.bincount(found.items, minlength=9).tolist()
    assert [part.tolist() for part in index.of(torch.tensor([], dtype=torch.int64))] == [[], []]


def test_batches_hold_every_record_once_an_epoch_in_an_order_of_the_epochs_own():
    plan = RecordPlan(records(50), batch_size=16, steps=3, seed=1)
    epochs = [torch.cat([batch.labels for batch in plan.epoch(number)]).tolist() for number in (0, 1)]
    assert len(plan) == 4
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(50))
    assert epochs[0] != epochs[1]
    later = torch.cat([batch.labels for batch in plan.epoch(0, skip=2)]).tolist()
    assert later == epochs[0][32:]


def test_full_batches_come_as_often_as_told():
    plan = RecordPlan(records(5), batch_size=0, steps=3, seed=1)
    assert [len(batch) for batch in plan.epoch(0)] == [5, 5, 5]
    assert len(list(plan.epoch(4, skip=1))) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "click"}, "target=click needs scores below zero, too: nonnegative=false"),
        ({"interaction": "mlp", "width": 1}, "interaction=mlp halves the width"),
        ({"interaction": "neunmf", "width": 1}, "interaction=neunmf halves the width"),
    ],
)
def test_settings_that_cannot_learn_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(CONFIG, **{"nonnegative": True} | changes)
