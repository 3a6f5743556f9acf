"""CEL's clusters as DUPN's item table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import adjusted_rand_score

from polyvec.data.dataset import Dataset
from polyvec.layers.tables import clusters_of
from polyvec.systems import dupn
from polyvec.systems.clusters import cluster_trees
from polyvec.systems.dupn import DUPN, DUPNConfig, Task
from polyvec.systems.dupn.clusters import tell
from polyvec.systems.dupn.features import Encoder
from polyvec.systems.dupn.fit import Lessons
from polyvec.training.cluster_steps import ClusterSteps

CPU = torch.device("cpu")
KINDS, OF_A_KIND = 12, 5


class Told(ClusterSteps):
    """Remembers what it was told last."""

    def add_losses(self, entities_M, losses_MQ, squares_MQ, targets_P):
        self.entities, self.losses, self.targets = entities_M, losses_MQ, targets_P


def asked(dataset, config, options, task: str):
    """Return a network, a batch of one task, and who is told."""
    config = replace(config, tasks={task: config.tasks[task]}, item_table="clustered", item_rows=12, log_q=0)
    lessons = Lessons.of(dataset, config, options, dataset.time_span[1] + 1, validates=False)
    network = lessons.untrained(options).network.eval()
    table = clusters_of(network.encoder.items.ids)
    torch.nn.init.normal_(table.weight)
    some = lessons.training[task].take(np.arange(0, 300, 10))
    batch = Encoder.of(dataset, lessons.fields).batch({task: some}, CPU)
    return network, batch, Told(table, [], 100, seed=0)


def moved(network, told, rep, items_ME, place: int, entity: int, candidate: int):
    """Vectors e of all items, of which one alone has another cluster's row."""
    moved_ME, width = items_ME.clone(), told.table.width
    moved_ME[place, :width] = told.table.weight[candidate]
    return network.encoder.items.encoding(moved_ME)


@torch.no_grad()
@pytest.mark.parametrize(("task", "factor"), [("next", 1), ("next", 0.5), ("click", 1), ("click", 0.5)])
def test_the_loss_with_an_item_in_another_cluster_is_what_it_is_told(dataset, config, options, task, factor):
    network, batch, told = asked(dataset, config, options, task)
    answers = network(batch)
    tell(told, network, batch, answers, None, {task: factor})
    items_ME = network.encoder.items(batch.items)
    for number, entity in enumerate(told.entities.tolist()[:6]):
        place = int((batch.items.codes[:, 0] == entity + 1).nonzero())
        losses = []
        for candidate in told.candidates(torch.tensor([entity]))[0]:
            encoded = moved(network, told, answers.rep, items_ME, place, entity, candidate)
            if task == "next":
                logits = 20 * torch.nn.functional.cosine_similarity(
                    answers.rep[:, None], network.head(task).items(encoded)[None], dim=-1
                )
                # rivals stand for all: the first eight
                pulled = logits[torch.arange(len(logits)), batch.candidates]
                normaliser = logits[:8].logsumexp(dim=1).mean()
                losses.append(normaliser - pulled.mean())
            else:
                nothing = batch.entities[:0]
                chosen = encoded[batch.candidates]
                logits = network.head(task)(answers.rep, chosen, nothing, answers.rep[:0])
                losses.append(
                    torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.answers.float())
                )
        expected = factor * torch.stack(losses)
        torch.testing.assert_close(
            told.losses[number] - told.losses[number, 0], expected - expected[0], atol=1e-4, rtol=1e-3
        )
    assert sorted(told.targets.tolist()) == sorted((batch.items.codes[batch.candidates, 0] - 1).tolist())


def walks() -> Dataset:
    """Users who walk along a ring of kinds, and take any item of the kind they have come to."""
    random, rows = np.random.default_rng(0), []
    for user in range(300):
        start, steps = int(random.integers(KINDS)), int(random.integers(5, 12))
        rows += [
            (f"u{user}", f"{(start + step) % KINDS}_{random.integers(OF_A_KIND)}", step)
            for step in range(steps)
        ]
    return Dataset.from_rows(rows, time_kind="order")


def test_clusters_find_the_kinds_of_items(config, options, tmp_path):
    config = replace(
        config, tasks={"next": Task("next")}, item_fields=(), item_table="clustered", item_rows=KINDS,
        id_width=16, max_length=3, validation_days=1,
    )  # fmt: skip
    options = replace(options, epochs=15, batch_size=64)
    data = walks()
    model = dupn.fit(data, tmp_path / "m", config, options, validation="none")
    table, items = model.clustered["items"]
    found = table.clusters_of(torch.as_tensor(items["row"].to_numpy().copy()))
    kinds = [int(item.split("_")[0]) for item in items["item_id"]]
    assert adjusted_rand_score(kinds, found) > 0.8
    assert len(cluster_trees(model, data)["items"].clusters) == KINDS
    again = DUPN.open(tmp_path / "m").encode_items(data.item_table)
    np.testing.assert_array_equal(model.encode_items(data.item_table), again)


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ValidationError, match="needs optimizer=adam"):
        DUPNConfig(item_table="clustered", item_rows=10, optimizer="adagrad")
    with pytest.raises(ValidationError, match="no item_table=int8"):
        DUPNConfig(item_table="int8")
