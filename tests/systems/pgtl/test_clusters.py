"""CEL's clusters, and other tables whose ids share rows, as PGTL's table of item ids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file
from sklearn.metrics import adjusted_rand_score

import polyvec
from polyvec.systems import pgtl
from polyvec.systems.clusters import cluster_trees
from polyvec.systems.pgtl import PGTLConfig
from polyvec.systems.pgtl import clusters as told_by
from polyvec.systems.pgtl.clusters import compared, own_ids
from polyvec.systems.pgtl.network import Features, PGTLNetwork
from polyvec.systems.pgtl.objective import Objective, PairBatch, Part
from polyvec.training.cluster_steps import ClusterSteps

IDS = 12
ITEMS_EACH = 10


class Told(ClusterSteps):
    """Remembers what it was told, market by market."""

    def add_losses(self, entities_M, losses_MQ, squares_MQ, targets_P):
        self.told = [*getattr(self, "told", []), (entities_M, losses_MQ, targets_P)]


def features(ids: list[list[int]], seed: int) -> Features:
    """Items with these ids, another text each, and a number."""
    random = np.random.default_rng(seed)
    offsets = torch.from_numpy(np.cumsum([0, *map(len, ids)])[:-1])
    codes = torch.tensor([one for some in ids for one in some], dtype=torch.int64)
    texts = torch.from_numpy(IDS + random.integers(0, 4, len(ids))), torch.arange(len(ids))
    return Features(torch.from_numpy(random.integers(0, 5, (len(ids), 1))), [(codes, offsets), texts])


def made(kind: str = "clustered") -> PGTLNetwork:
    torch.manual_seed(0)
    config = PGTLConfig(
        source="a", target="b", field_width=3, attention=(2,), hidden=(5,), width=4, dropout=0, trade_off=0,
        decay=0, item_table=kind, item_rows=8,
    )  # fmt: skip
    network = PGTLNetwork(config, num_features=3, num_buckets=5, num_texts=IDS + 4, num_ids=IDS)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim:
                parameter.normal_(std=0.5)
    return network.eval()


def batch() -> PairBatch:
    labels = torch.tensor([1.0, 0.0, 1.0, 0.0])
    own = [[3], [0], [], [7], [5], [3], [1], [3]]  # the third pair's first item has no id
    prior = [[3, 4], [0], [1, 5, 6], [], [5], [3], [1], [3]]
    source = Part(features(own[::-1], 1), None, labels)
    return PairBatch(source, Part(features(own, 2), features(prior, 3), labels), progress=0.5)


@torch.no_grad()
def test_the_loss_with_an_item_in_another_cluster_is_what_it_is_told(monkeypatch):
    monkeypatch.setattr(told_by, "ASKED", 1.0)
    network, both = made(), batch()
    table = network.embedding.ids
    told = Told(table, [], 100, seed=0)
    Objective(network, told)(both)
    plain = Objective(network)
    markets = [
        (both.source, lambda part: PairBatch(part, None, 0.5)),
        (both.target, lambda part: PairBatch(None, part, 0.5)),
    ]
    for (part, alone), (entities, losses_MQ, targets) in zip(markets, told.told, strict=True):
        assert sorted(targets.tolist()) == [0, 1, 3, 3, 3, 5, 7]
        assert entities.tolist() == [0, 1, 3, 5, 7]
        for entity, losses in zip(entities, losses_MQ, strict=True):
            found = []
            for candidate in told.candidates(entity[None])[0]:
                total = 0
                for place in (own_ids(part.features) == entity).nonzero()[:, 0]:  # one after the other
                    codes, offsets = part.features.bags[0]
                    moved = codes.clone()
                    moved[offsets[place]] = table.num_rows + candidate
                    changed = replace(part.features, bags=[(moved, offsets), *part.features.bags[1:]])
                    total += plain(alone(replace(part, features=changed)))[0] - plain(alone(part))[0]
                found.append(total)
            torch.testing.assert_close(
                losses - losses[0], torch.stack(found) - found[0], atol=1e-6, rtol=1e-3
            )


@torch.no_grad()
def test_pairs_with_a_member_of_the_same_cluster_are_as_they_were():
    network, part = made(), batch().target
    table = network.embedding.ids
    items = torch.tensor([0, 5, 5, 7, 1])
    own = own_ids(part.features)
    same = compared(part, items, table.num_rows + table.clusters_of(own[items]))
    pairs = items % 4
    expected = network.target(part.features, part.prior).blocks[0]
    found = network.target(same.features, same.prior).blocks[0]
    torch.testing.assert_close(found, expected[torch.cat([pairs, pairs + 4])])
    assert same.labels.tolist() == part.labels[pairs].tolist()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["clustered", "hash", "double_hash", "quotient_remainder"])
def test_several_ids_are_their_mean_and_none_is_zero(kind):
    embedding = made(kind).embedding
    bags = features([[3, 4], [], [7]], 0)
    found = embedding(bags)[:, 1]
    rows = embedding.ids(torch.tensor([3, 4, 7]))
    torch.testing.assert_close(found, torch.stack([(rows[0] + rows[1]) / 2, torch.zeros(3), rows[2]]))
    torch.testing.assert_close(embedding(bags)[:, 2], embedding.texts.weight[bags.bags[1][0] - IDS])


@pytest.mark.parametrize("kind", ["clustered", "hash", "double_hash", "quotient_remainder"])
def test_ids_begin_as_far_apart_in_every_table(kind):
    torch.manual_seed(0)
    config = PGTLConfig(field_width=16, item_table=kind, item_rows=200)
    table = PGTLNetwork(config, num_features=3, num_buckets=5, num_texts=1000, num_ids=1000).embedding.ids
    assert 0.15 < float(table.all().detach().std()) < 0.25


def test_ids_beyond_the_most_frequent_have_no_vector(dataset, setting, tmp_path):
    config = replace(setting.config, steps_per_epoch=5, item_table="clustered", item_rows=10, max_ids=30)
    model = pgtl.fit(dataset, tmp_path / "model", config, replace(setting.options, epochs=2))
    table, items = model.clustered["items"]
    assert (table.num_rows, len(items)) == (30, 30)
    assert np.isfinite(polyvec.embed(model, dataset, tmp_path / "emb").items.vectors).all()


@pytest.mark.parametrize("method", ["pgtl", "fine_tune"])
def test_clusters_find_what_is_bought_together_and_beat_a_hash(plant, setting, tmp_path, monkeypatch, method):
    """Ids are all that tells items apart; the large market buys four groups of twenty."""
    monkeypatch.setattr(told_by, "ASKED", 1.0)  # a tenth of so few pairs is too little in so few steps
    dataset = plant({"big": 300, "small": 40}, sold=1.0)
    dataset = replace(dataset, item_table=dataset.item_table.select("item_id"))
    found = {}
    for kind in ("clustered", "hash"):
        config = replace(setting.config, item_table=kind, item_rows=8, windows=(0,), method=method)
        model = pgtl.fit(dataset, tmp_path / kind, config, replace(setting.options, epochs=8))
        found[kind] = model.manifest.meta["validation"]
    model = pgtl.PGTL.open(tmp_path / "clustered")
    table, items = model.clustered["items"]
    rows = torch.tensor(items["row"].to_list())
    groups = items["item_id"].str.slice(1).cast(pl.Int64) // (2 * ITEMS_EACH)
    assert adjusted_rand_score(groups, table.clusters_of(rows).numpy()) > 0.4
    assert found["clustered"] > found["hash"] + 0.05
    assert model.meta["item_table_bytes"] < 1_000
    assert cluster_trees(model, dataset)["items"]
    embeddings = polyvec.embed(model, dataset, tmp_path / "emb")
    assert np.isfinite(embeddings.items.vectors).all()


def test_a_killed_run_with_clusters_goes_on_to_the_same_bits(dataset, setting, tmp_path, killed_at):
    options = replace(setting.options, epochs=2, checkpoint_every=3)
    config = replace(setting.config, steps_per_epoch=8, item_table="clustered", item_rows=10)
    pgtl.fit(dataset, tmp_path / "whole", config, options)
    with killed_at(Objective, "__call__", 12):
        pgtl.fit(dataset, tmp_path / "model", config, options)
    pgtl.fit(dataset, tmp_path / "model", config, options, resume=True)
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "model"))
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"item_table": "clustered_residual", "item_rows": 10}, "no item_table=clustered_residual"),
        ({"item_table": "int8"}, "no item_table=int8"),
        ({"item_table": "clustered"}, "needs item_rows"),
        ({"item_table": "hash", "item_rows": 9, "max_ids": 0}, "max_ids must not be 0"),
    ],
)
def test_tables_that_pgtl_does_not_have_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        PGTLConfig(**changes)
