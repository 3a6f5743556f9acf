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
    objective = Objective(network, config, {"item_id": told})
    objective(batch)
    objective = Objective(network, config)
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


def of_users(config: SAMLConfig, rows: int = 6) -> SAMLConfig:
    """Users' ids are all that tells what they like."""
    alone = replace(config, context_fields=(), max_length=0, user_ids=True)
    return replace(alone, user_table="clustered", user_rows=rows)


@torch.no_grad()
def test_the_loss_with_a_user_in_another_cluster_is_what_it_is_told(dataset, config, options, monkeypatch):
    monkeypatch.setattr(told_by, "ASKED", 1.0)
    config = replace(of_users(config), context_fields=("gender",))  # the user's id is the last field
    lessons = Lessons.of(dataset, config, options, dataset.time_span[1] + 1, validates=False)
    network = lessons.untrained(config, options).network.eval()
    table = clusters_of(network.view.everyone.table("user_id"))
    torch.nn.init.normal_(table.weight)
    told = Told(table, [], 100, seed=0)
    batch = Encoder.of(dataset, lessons.fields).batch(lessons.training.take(np.arange(0, 600, 10)), CPU)
    Objective(network, config, {"user_id": told})(batch)
    objective, users = Objective(network, config), batch.context[:, -1]
    for number, entity in enumerate(told.entities.tolist()[:5]):
        mine, losses = users == entity + 1, []
        for candidate in told.candidates(torch.tensor([entity]))[0].tolist():
            moved = torch.where(mine, table.num_rows + candidate + 1, users)
            losses.append(objective(replace(batch, user_stand_ins=moved))[0])
        expected = torch.stack(losses)
        torch.testing.assert_close(
            told.losses[number] - told.losses[number, 0], expected - expected[0], atol=1e-5, rtol=1e-3
        )
    assert sorted(told.targets.tolist()) == sorted((users - 1).tolist())


def test_clusters_find_users_of_like_taste_and_beat_a_hash(
    dataset, config, options, last_week, tmp_path, monkeypatch
):
    monkeypatch.setattr(told_by, "ASKED", 1.0)
    found, longer = {}, replace(options, epochs=25, learning_rate=2e-2)
    for kind in ("clustered", "hash"):
        one = replace(of_users(config), user_table=kind, method="mixed")
        model = saml.fit(dataset, tmp_path / kind, one, longer, until=last_week)
        found[kind] = model.manifest.meta["validation"]
    model = SAML.open(tmp_path / "clustered")
    table, ids = (
        clusters_of(model.network.view.everyone.table("user_id")),
        model.fields.context["user_id"].series,
    )
    likes = [(int(user[-3:]) % 2) ^ user.startswith("south") for user in ids]
    groups = table.clusters_of(torch.arange(len(ids))).numpy()
    assert sum(max(np.bincount(np.array(likes)[groups == one])) for one in set(groups)) / len(ids) > 0.9
    assert found["clustered"] > found["hash"] + 0.05


def test_a_killed_run_with_clusters_of_both_goes_on_to_the_same_bits(
    dataset, config, options, last_week, tmp_path, killed_at
):
    config = replace(of_users(config), item_table="clustered", item_rows=8, hidden=(8,))
    options = replace(options, epochs=2, checkpoint_every=5)
    moment = {"until": last_week, "validation": "none"}
    whole = saml.fit(dataset, tmp_path / "whole", config, options, **moment)
    with killed_at(Objective, "__call__", 28):
        saml.fit(dataset, tmp_path / "model", config, options, **moment)
    resumed = saml.fit(dataset, tmp_path / "model", config, options, **moment, resume=True)
    for name, values in whole.network.state_dict().items():
        assert torch.equal(values, resumed.network.state_dict()[name]), name
    for name in ("item_id", "user_id"):
        assert clusters_of(resumed.network.view.everyone.table(name)).num_clusters > 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"item_table": "clustered_residual", "item_rows": 10}, "no item_table=clustered_residual"),
        ({"user_table": "int8", "user_ids": True}, "no user_table=int8"),
        ({"user_table": "hash", "user_ids": True}, "user_table=hash needs user_rows"),
        ({"user_table": "hash", "user_rows": 9}, "needs user_ids=true"),
    ],
)
def test_tables_that_saml_does_not_have_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        SAMLConfig(**changes)
