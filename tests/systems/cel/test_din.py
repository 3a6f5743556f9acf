"""DIN over clustered tables: exact cluster steps, and a shop whose next item depends on the last ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.data.split import cut
from polyvec.layers.tables import ClusteredTable
from polyvec.systems.cel import din, fit
from polyvec.systems.cel.config import CELConfig, deep
from polyvec.systems.cel.din import DeepClustering, DINNetwork, candidates, make_network
from polyvec.systems.cel.fit import Split
from polyvec.systems.cel.objective import record_losses
from polyvec.systems.cel.past import Past
from polyvec.systems.cel.records import Index, Records
from polyvec.systems.cel.steps import Steps
from polyvec.systems.cel.train import make_trainer, spread_splits
from polyvec.systems.embed import embed
from polyvec.systems.open import open_model

USERS, ITEMS, RECORDS = 9, 14, 120
CONFIG = replace(deep()[0], width=4, user_clusters=3, item_clusters=5, start=3)


class Made:
    """A DIN in double precision with clusters in use, and records with a past."""

    def __init__(self, config: CELConfig = CONFIG, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.network = make_network(config, USERS, ITEMS).double()
        self.records = self._records(random)
        for table in (self.network.users, self.network.items):
            table.assign[:] = torch.from_numpy(random.permutation(table.num_rows) % 3)
            with torch.no_grad():
                table.weight[:3].normal_()
        records = self.records
        self.clustering = DeepClustering(
            self.network, records, (Index(records.users, USERS), Index(records.items, ITEMS)), config
        )
        self.target = config.target

    def _records(self, random: np.random.Generator) -> Records:
        users, items = random.integers(0, USERS, RECORDS), random.integers(0, ITEMS, RECORDS)
        labels = random.integers(0, 2, RECORDS).astype(np.float64)
        start = random.integers(0, 50, RECORDS)
        past = Past(*map(torch.from_numpy, (random.integers(0, ITEMS, 60), start, start + start % 7)))
        return Records(*map(torch.from_numpy, (users, items, labels)), past)

    def losses(self, network: DINNetwork, records: Records) -> torch.Tensor:
        return record_losses(network.scores(records), records.labels, self.target)

    def like(self, users: ClusteredTable, items: ClusteredTable) -> DINNetwork:
        """The same network over other tables."""
        other = make_network(CONFIG, USERS, ITEMS).double()
        other.interaction, other.users, other.items = self.network.interaction, users, items
        return other


def unshared(table: ClusteredTable, more: int = 0) -> ClusteredTable:
    """A row for each entity, holding what its cluster's row holds; and some more."""
    own = ClusteredTable(
        table.num_rows + more, table.num_rows + more, table.width, start=table.num_rows + more
    )
    own = own.double()
    with torch.no_grad():
        own.weight[: table.num_rows] = table(torch.arange(table.num_rows))
    return own


RATINGS = replace(CONFIG, target="rating")


@pytest.mark.parametrize("config", [CONFIG, RATINGS], ids=["clicks", "ratings"])
def test_own_gradients_are_those_of_a_table_with_a_row_for_each(config):
    made = Made(config)
    tables = unshared(made.network.users), unshared(made.network.items)
    made.losses(made.like(*tables), made.records).sum().backward()
    for side, table in zip(made.clustering.sides, tables, strict=True):
        for cluster in range(3):
            members = side.table.members(cluster)
            found = made.clustering.own_gradients(side, members, torch.Generator())
            torch.testing.assert_close(found, table.weight.grad[members], rtol=1e-9, atol=1e-11)


def test_own_gradients_sum_to_the_rows_gradient_over_targets_and_histories():
    made = Made()
    made.losses(made.network, made.records).sum().backward()
    for side in made.clustering.sides:
        for cluster in range(3):
            own = made.clustering.own_gradients(side, side.table.members(cluster))
            torch.testing.assert_close(own.sum(dim=0), side.table.weight.grad[cluster], rtol=1e-9, atol=1e-11)


def test_a_split_looks_at_no_more_records_than_told_and_at_each_that_has_a_member_alike(monkeypatch):
    made = Made()
    user_side, item_side = made.clustering.sides
    members = item_side.table.members(1)
    items, owners = made.records.past_items()
    has_member = torch.isin(made.records.items, members)
    has_member[owners[torch.isin(items, members)]] = True
    everything = made.clustering._with_members(item_side, members, torch.Generator())
    assert sorted(everything.tolist()) == has_member.nonzero()[:, 0].tolist()
    monkeypatch.setattr(din, "SAMPLE", 10)
    generator = torch.Generator().manual_seed(0)
    drawn = [made.clustering._with_members(item_side, members, generator).tolist() for _ in range(300)]
    assert all(len(set(rows)) == 10 for rows in drawn)
    times = np.bincount(np.concatenate(drawn), minlength=RECORDS)
    assert (times[~has_member.numpy()] == 0).all()
    share = times[has_member.numpy()] / 300
    expected = 10 / int(has_member.sum())
    assert np.abs(share - expected).max() < 5 * (expected / 300) ** 0.5
    users = user_side.table.members(0)
    assert torch.isin(
        made.records.users[made.clustering._with_members(user_side, users, generator)], users
    ).all()


def test_losses_of_candidates_are_those_of_putting_the_entity_there():
    """An item moves as a target alone: here a stand-in does, which no history holds."""
    made = Made()
    vectors, every = made.clustering._vectors(), torch.arange(3)
    user_side, item_side = made.clustering.sides
    users = torch.arange(USERS)
    found = made.clustering.candidate_losses(
        user_side, users, every.expand(USERS, 3), torch.Generator(), vectors
    )
    for user, cluster in ((user, cluster) for user in range(USERS) for cluster in range(3)):
        own = made.records.take((made.records.users == user).nonzero()[:, 0])
        tables = unshared(made.network.users), unshared(made.network.items)
        with torch.no_grad():
            tables[0].weight[user] = made.network.users.weight[cluster]
            expected = made.losses(made.like(*tables), own).sum()
        torch.testing.assert_close(found[user, cluster], expected, rtol=1e-9, atol=1e-10)
    items = torch.tensor([11, 2, 5])
    found = made.clustering.candidate_losses(
        item_side, items, torch.tensor([[2, 0], [1, 1], [0, 2]]), torch.Generator(), vectors
    )
    for place, item, column, cluster in ((0, 11, 0, 2), (0, 11, 1, 0), (1, 2, 0, 1), (2, 5, 1, 2)):
        own = made.records.take((made.records.items == item).nonzero()[:, 0])
        stand_in = replace(own, items=torch.full_like(own.items, ITEMS))
        tables = unshared(made.network.users), unshared(made.network.items, more=1)
        with torch.no_grad():
            tables[1].weight[ITEMS] = made.network.items.weight[cluster]
            expected = made.losses(made.like(*tables), stand_in).sum()
        torch.testing.assert_close(found[place, column], expected, rtol=1e-9, atol=1e-10)


def test_of_many_records_some_stand_for_all_and_clicks_are_not_lost():
    items = torch.cat([torch.zeros(500, dtype=torch.int64), torch.ones(7, dtype=torch.int64)])
    labels = torch.zeros(507, dtype=torch.float64)
    labels[[3, 90]] = 1
    index = Index(items, 3)
    rows, places, weights = index.some_of(torch.tensor([1, 0]), labels, 20, torch.Generator().manual_seed(0))
    assert len(set(rows.tolist())) == len(rows) == 7 + 2 + 20
    assert {3, 90} <= set(rows.tolist())
    assert (items[rows] == torch.tensor([1, 0])[places]).all()
    for label in (0, 1):
        for place, item in enumerate((1, 0)):
            chosen = (places == place) & (labels[rows] == label)
            assert float(weights[chosen].sum()) == pytest.approx(
                float(((items == item) & (labels == label)).sum())
            )


def test_candidates_are_the_own_cluster_the_nearest_and_some_drawn():
    table = ClusteredTable(100, 60, 3, start=50)
    with torch.no_grad():
        table.weight[7] = table.weight[30]  # twins
    entities = torch.tensor([7, 57, 31])
    found = candidates(table, entities, torch.Generator().manual_seed(0))
    assert found.shape == (3, 1 + 8 + 8)
    assert found[:, 0].tolist() == [7, 7, 31]
    assert int(found.max()) < 50
    assert 30 in found[0, 1:9].tolist()
    distances = (table.weight[:50] - table.weight[31]).square().sum(dim=1).detach()
    assert sorted(found[2, :9].tolist()) == sorted(distances.argsort()[:9].tolist())
    assert found[0, 9:].tolist() != found[1, 9:].tolist()
    few = ClusteredTable(10, 5, 3, start=4)
    assert candidates(few, entities % 10, torch.Generator()).tolist() == [[0, 1, 2, 3]] * 3


def test_a_split_changes_no_score_and_users_move_only_to_less_loss():
    made = Made(replace(CONFIG, user_clusters=6))
    generator = torch.Generator().manual_seed(0)
    before = made.network.scores(made.records)
    made.clustering.split([], generator)
    assert [side.table.num_clusters for side in made.clustering.sides] == [4, 4]
    torch.testing.assert_close(made.network.scores(made.records), before, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        for table in (made.network.users, made.network.items):
            table.weight += 0.1 * torch.randn(table.weight.shape)
    loss = made.losses(made.network, made.records).sum()
    user_side = made.clustering.sides[0]
    assert made.clustering._reassign(user_side, generator) > 0
    assert made.losses(made.network, made.records).sum() < loss
    assert made.clustering._reassign(user_side, generator) == 0


@pytest.mark.parametrize("criterion", ["interactions", "entities", "loss", "mean_loss", "gradient"])
def test_the_cluster_that_splits_is_the_largest_by_the_criterion(criterion):
    made = Made(replace(CONFIG, criterion=criterion))
    items, records = made.network.items, made.records
    losses = made.losses(made.network, records)
    losses.sum().backward()
    clusters = items.clusters_of(records.items)
    sizes = items.sizes()
    sums = torch.zeros(3, dtype=torch.float64).index_add(0, clusters, losses.detach())
    values = {
        "interactions": torch.bincount(clusters, minlength=3),
        "entities": sizes,
        "loss": sums,
        "mean_loss": sums / sizes,
        "gradient": items.weight.grad[:3].square().sum(dim=1),
    }[criterion]
    expected = values.argsort(descending=True, stable=True).tolist()
    assert made.clustering.ranked(made.clustering.sides[1]) == expected


def test_gradients_are_averaged_over_occurrences_in_histories_too():
    made = Made()
    steps = Steps(made.network, CONFIG, made.clustering, [], torch.zeros(ITEMS), 0)
    made.losses(made.network, made.records).sum().backward()
    summed = made.network.items.weight.grad.clone()
    steps.before_update(made.records)
    occurrences = torch.cat([made.records.items, made.records.past_items()[0]])
    counts = torch.bincount(made.network.items.clusters_of(occurrences), minlength=5).clamp(min=1)
    torch.testing.assert_close(made.network.items.weight.grad, summed / counts[:, None])


def test_without_a_past_scores_are_those_of_an_empty_one():
    made = Made()
    nothing = torch.zeros(RECORDS, dtype=torch.int64)
    bare = replace(made.records, past=Past(made.records.past.items, nothing, nothing))
    expected = made.network.scores(bare)
    assert torch.equal(made.network(made.records.users, made.records.items), expected)
    assert not torch.allclose(made.network.scores(made.records), expected)


# --- what fits together


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"full_batch": True}, "din learns from batches: full_batch=false"),
        ({"personal_from": 10, "cluster_steps": 5}, "din has no vectors of items' own: personal_from=0"),
    ],
)
def test_what_din_cannot_do_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(CONFIG, **changes)


def test_splits_without_an_interval_end_in_the_first_part_of_training():
    config = replace(CONFIG, user_clusters=11, item_clusters=41, start=1)
    assert spread_splits(config, 10_000).split_every == 100
    assert spread_splits(replace(config, item_table="hash"), 10_000).split_every == 400
    assert spread_splits(replace(config, split_every=7), 10_000).split_every == 7
    assert spread_splits(config, 3).split_every == 1


# --- shops


def shop(
    follows: str = "cycle", users: int = 100, items: int = 60, kinds: int = 6, length: int = 40
) -> Dataset:
    """What comes next is mostly of the kind after the last one's, or of one of the last three's.

    In a cycle all users and all items look alike but for what they follow.
    """
    random = np.random.default_rng(0)
    rows: list[tuple[str, str, int]] = []
    for user in range(users):
        past = list(random.integers(kinds, size=3))
        for day in range(length):
            likely = (past[-1] + 1) % kinds if follows == "cycle" else random.choice(past[-3:])
            past.append(likely if random.random() < 0.9 else random.integers(kinds))
            item = past[-1] * (items // kinds) + random.integers(items // kinds)
            rows.append((f"u{user}", f"{item:03}", day * DAY))
    return Dataset.from_rows(rows, pl.DataFrame({"item_id": [f"{item:03}" for item in range(items)]}))


PLANTED = replace(
    deep()[0],
    width=8,
    user_table="full",
    item_clusters=24,
    interaction_rate=3e-3,
    num_negatives=2,
    target_days=8,
    max_length=2,
    reassign_every=20,
    reassign_at="all",
)
OPTIONS = replace(deep()[1], epochs=10, batch_size=256)


def learned(folder: Path, data: Dataset, config: CELConfig) -> float:
    """AUC on the last days, after training on those before."""
    folder.mkdir()
    asks = replace(config, interaction="din")  # everybody is asked the same
    parted = Split.before(data, asks, data.time_span[1] + 1, 0, 0).without_the_last(data, asks, 0)
    counts = data.num_users, data.num_items
    network, trainer = make_trainer(parted.training, *counts, config, OPTIONS, folder)
    trainer.run()
    with torch.no_grad():
        scores = network.scores(parted.validation)
    return roc_auc_score(parted.validation.labels, scores)


def test_what_the_last_events_alone_tell_is_foretold_by_attention_over_clusters_that_move(tmp_path):
    config, data = replace(PLANTED, start=24), shop()
    clustered = learned(tmp_path / "clustered", data, config)
    hashed = learned(tmp_path / "hash", data, replace(config, item_table="hash"))
    plain = learned(tmp_path / "dot", data, replace(config, interaction="dot"))
    assert clustered > max(hashed, plain) + 0.15, (clustered, hashed, plain)


def test_from_one_cluster_splits_find_what_a_hash_of_as_many_rows_does_not(tmp_path):
    config = replace(PLANTED, user_table="clustered", user_clusters=6, item_clusters=8, max_length=6)
    data = shop("last few")
    clustered = learned(tmp_path / "clustered", data, config)
    hashed = learned(tmp_path / "hash", data, replace(config, user_table="hash", item_table="hash"))
    assert clustered > hashed + 0.1, (clustered, hashed)


SMALL = replace(
    PLANTED,
    width=4,
    user_table="clustered",
    item_clusters=5,
    user_clusters=3,
    max_length=5,
    reassign_every=10,
)
SHORT = replace(OPTIONS, epochs=2, batch_size=64)


def rated() -> Dataset:
    data = shop(users=20, items=24, length=20)
    rows = data.item_rows
    ratings = np.where(np.append(False, rows[1:] // 4 == rows[:-1] // 4), 5.0, 1.0).astype(np.float32)
    return replace(data, columns={"rating": ratings})


@pytest.mark.parametrize("target", ["click", "rating"])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, target):
    config = replace(SMALL, target=target, optimizer="adam" if target == "rating" else "adagrad")
    options = replace(SHORT, epochs=2 if target == "click" else 6)
    whole = fit(rated(), tmp_path / "whole", config, options, validation="none")
    real, calls = Steps.begin, []

    def begin(self, step):
        calls.append(step)
        if step == 23 and calls.count(23) == 1:
            raise KeyboardInterrupt
        real(self, step)

    monkeypatch.setattr(Steps, "begin", begin)
    some = replace(options, checkpoint_every=9)
    with pytest.raises(KeyboardInterrupt):
        fit(rated(), tmp_path / "cut", config, some, validation="none")
    resumed = fit(rated(), tmp_path / "cut", config, some, validation="none", resume=True)
    assert calls.count(2) == 1
    assert whole.network.items.num_clusters == 5
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_nothing_at_or_after_the_moment_is_read(tmp_path):
    data, until = rated(), 12 * DAY
    later = data.times >= until
    other = replace(data, item_rows=np.where(later, 23 - data.item_rows, data.item_rows))
    made = [
        fit(one, tmp_path / name, SMALL, SHORT, until=until, refit=True)
        for name, one in (("a", data), ("b", other))
    ]
    weights = [one.network.state_dict() for one in made]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("din") / "m"
    fit(rated(), path, SMALL, SHORT)
    return path


def test_a_model_folder_is_read_as_it_was_written(folder):
    model = open_model(folder)
    assert model.config == SMALL
    assert isinstance(model.network, DINNetwork)
    config = replace(SMALL, max_length=3)
    data = rated()
    records = Split.before(data, config, data.time_span[1] + 1, 0, 0).training
    again = open_model(folder)
    assert torch.equal(model.network.scores(records), again.network.scores(records))
    assert model.meta["D"] == 4
    assert "joined by a deep interest network" in (folder / "card.md").read_text()


def test_embeddings_say_how_like_the_latest_events_an_item_is(folder, tmp_path):
    model, data = open_model(folder), rated()
    made = embed(model, data, tmp_path / "e")
    assert made.score == "max_cosine"
    assert made.users.vectors.shape == (20, 1, 4)
    np.testing.assert_allclose(made.items.vectors.mean(axis=0), 0, atol=1e-6)
    rows = model.network.items(torch.arange(24)).detach().numpy()
    np.testing.assert_allclose(made.items.vectors, rows - rows.mean(axis=0), atol=1e-6)
    ends = data.user_offsets[1:]
    for user in range(20):
        latest = data.item_rows[ends[user] - 5 : ends[user]]
        expected = made.items.vectors[latest].mean(axis=0)
        np.testing.assert_allclose(made.users.vectors[user, 0], expected, atol=1e-6)


def test_users_that_are_new_have_vectors_of_their_events_and_those_without_any_the_usual_one(folder):
    model = open_model(folder)
    rows = [("new", "003", 0), ("new", "never seen", DAY), ("late", "004", 9 * DAY), ("odd", "never seen", 0)]
    other = Dataset.from_rows(rows)
    windows = cut(other, 5 * DAY, None, 0)
    late, new, odd = model.encode_users(other, windows)[:, 0]
    third = model.encode_items(pl.DataFrame({"item_id": ["003"]}))[0]
    np.testing.assert_allclose(new, third, atol=1e-6)
    every = model.encode_items(pl.DataFrame({"item_id": model.trained_items["item_id"]}))
    usual = np.average(every, axis=0, weights=model.trained_items["events"].to_numpy())
    np.testing.assert_allclose(late, usual, atol=1e-6)
    np.testing.assert_allclose(odd, usual, atol=1e-6)
