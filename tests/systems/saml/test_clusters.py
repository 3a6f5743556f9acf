"""CEL's clusters as SAML's global table of item ids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import adjusted_rand_score

from polyvec.layers.tables import clusters_of
from polyvec.systems import saml
from polyvec.systems.saml import SAML, SAMLConfig
from polyvec.systems.saml import clusters as told_by
from polyvec.systems.saml.clusters import taken
from polyvec.systems.saml.features import Encoder
from polyvec.systems.saml.fit import Lessons
from polyvec.systems.saml.objective import Objective
from polyvec.training.cluster_steps import ClusterSteps

CPU = torch.device("cpu")


class Told(ClusterSteps):
    """Remembers what it was told last."""

    def add_losses(self, entities_M, losses_MQ, squares_MQ, targets_P):
        self.entities, self.losses, self.targets = entities_M, losses_MQ, targets_P


def clustered(config: SAMLConfig, rows: int = 12) -> SAMLConfig:
    return replace(config, item_fields=(), item_numbers=(), item_table="clustered", item_rows=rows)


@pytest.fixture
def asked(dataset, config, options):
    config = clustered(config)
    lessons = Lessons.of(dataset, config, options, dataset.time_span[1] + 1, validates=False)
    network = lessons.untrained(config, options).network.eval()
    table = clusters_of(network.view.everyone.table("item_id"))
    torch.nn.init.normal_(table.weight)
    samples = lessons.training.take(np.arange(0, 600, 10))
    return network, Encoder.of(dataset, lessons.fields).batch(samples, CPU), Told(table, [], 100, seed=0)


@torch.no_grad()
@pytest.mark.parametrize("balanced", [False, True])
def test_the_loss_with_an_item_in_another_cluster_is_what_it_is_told(asked, monkeypatch, balanced):
    network, batch, told = asked
    monkeypatch.setattr(told_by, "ASKED", 1.0)
    config = SAMLConfig(balanced=balanced, auxiliary_weight=0.5)
    objective = Objective(network, config, told)
    objective(batch)
    objective = replace(objective, clusters=None)
    table = told.table
    for number, entity in enumerate(told.entities.tolist()[:5]):
        mine, losses = (batch.item[:, 0] == entity + 1).nonzero()[:, 0], []
        for candidate in told.candidates(torch.tensor([entity]))[0].tolist():
            moved = batch.item[:, 0].clone()
            moved[mine] = table.num_rows + candidate + 1  # in histories the item stays where it is
            losses.append(objective(replace(batch, stand_ins=moved))[0])
        expected = torch.stack(losses)
        torch.testing.assert_close(
            told.losses[number] - told.losses[number, 0], expected - expected[0], atol=1e-5, rtol=1e-3
        )
    assert sorted(told.targets.tolist()) == sorted((batch.item[:, 0] - 1).tolist())


@torch.no_grad()
def test_whoever_stands_for_a_cluster_scores_as_its_members(asked):
    network, batch, told = asked
    same = told.table.num_rows + told.table.clusters_of(batch.item[:, 0] - 1) + 1
    torch.testing.assert_close(network(replace(batch, stand_ins=same)).logits, network(batch).logits)


@torch.no_grad()
def test_samples_that_are_taken_score_as_they_did(asked):
    network, batch, _ = asked
    places = torch.tensor([3, 0, 3, 50])
    torch.testing.assert_close(network(taken(batch, places)).logits, network(batch).logits[places])


def test_clusters_find_what_is_liked_alike_and_beat_a_hash(
    dataset, config, options, last_week, tmp_path, monkeypatch
):
    monkeypatch.setattr(told_by, "ASKED", 1.0)  # a tenth of so few samples is too little in so few steps
    found = {}
    for kind in ("clustered", "hash"):
        one = replace(clustered(config, 4), item_table=kind)
        model = saml.fit(dataset, tmp_path / kind, one, replace(options, epochs=15), until=last_week)
        found[kind] = model.manifest.meta["validation"]
    table = clusters_of(SAML.open(tmp_path / "clustered").network.view.everyone.table("item_id"))
    ids = model.fields.items["item_id"].series
    liked_by = [int(item[1:]) % 4 // 2 for item in ids]
    groups = table.clusters_of(torch.arange(len(ids)))
    alike = sum(max(np.bincount(np.array(liked_by)[groups.numpy() == one])) for one in groups.unique())
    assert alike / len(ids) > 0.9
    assert adjusted_rand_score(liked_by, groups) > 0.3
    assert found["clustered"] > found["hash"] + 0.05


def test_a_table_of_clusters_with_residuals_is_refused():
    with pytest.raises(ValidationError, match="no item_table=clustered_residual"):
        SAMLConfig(item_table="clustered_residual", item_rows=10)
