"""Tables of item ids in the systems that have one: hashed, quantised, or of clusters that split and move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from polyvec.data.batches import Batch, BatchShape, assemble
from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.fields import FieldVocabulary
from polyvec.data.split import cut
from polyvec.layers.item_encoder import FieldTensors
from polyvec.layers.tables import clusters_of
from polyvec.systems import guim, sasrec
from polyvec.systems.clusters import cluster_trees
from polyvec.systems.guim.network import GUIMNetwork
from polyvec.systems.guim.objective import Objective
from polyvec.systems.sasrec.clusters import tell
from polyvec.training.cluster_steps import ClusterSteps
from polyvec.training.options import TrainingOptions

CPU = torch.device("cpu")
KINDS, OF_A_KIND = 12, 5
TABLES = [
    {"item_table": "int8"},
    {"item_table": "hash", "item_rows": 6},
    {"item_table": "double_hash", "item_rows": 6},
    {"item_table": "quotient_remainder", "item_rows": 12},
    {"item_table": "clustered", "item_rows": 6},
    {"item_table": "clustered_residual", "item_rows": 12},
]
CLUSTERED = [("clustered", 5), ("clustered_residual", 20)]
Options = Callable[..., TrainingOptions]


def sasrec_with(**changes: Any) -> sasrec.SASRecConfig:
    return sasrec.SASRecConfig(width=16, num_layers=1, num_heads=2, dropout=0.1, max_length=8, **changes)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table["item_table"])
@pytest.mark.parametrize("system", ["guim", "sasrec"])
def test_with_any_table_a_model_comes_back_from_disk_as_it_was(
    shop: Dataset,
    tiny: Callable[..., guim.GUIMConfig],
    short: Options,
    tmp_path: Path,
    system: str,
    table: dict[str, Any],
) -> None:
    if system == "guim":
        model: Any = guim.fit(shop, tmp_path / "m", tiny(**table), short(epochs=2))
        opened: Any = guim.GUIM.open(str(tmp_path / "m"))
    else:
        model = sasrec.fit(shop, tmp_path / "m", sasrec_with(**table), short(epochs=2))
        opened = sasrec.SASRec.open(str(tmp_path / "m"))
    np.testing.assert_array_equal(opened.encode_items(shop.item_table), model.encode_items(shop.item_table))
    windows = cut(shop, 100 * MICROSECONDS_PER_DAY, 60, 0)
    np.testing.assert_array_equal(opened.encode_users(shop, windows), model.encode_users(shop, windows))
    ids = opened.network.f_i.ids if system == "guim" else opened.network.items
    assert opened.manifest.meta["item_table_bytes"] == ids.bytes()
    assert ids.bytes() < 4 * ids.num_rows * ids.width


def test_int8_differs_from_the_full_table_by_rounding_alone(
    shop: Dataset, tiny: Callable[..., guim.GUIMConfig], short: Options, tmp_path: Path
) -> None:
    full, rounded = (
        guim.fit(shop, tmp_path / kind, tiny(item_table=kind), short()).network.f_i.ids.all()
        for kind in ("popular", "int8")
    )
    largest_N1 = full.abs().amax(dim=1, keepdim=True)
    assert ((full - rounded).abs() <= largest_N1 / 253).all()
    assert not torch.equal(full, rounded)


def test_numbers_of_their_own_tell_the_members_of_a_cluster_apart(tmp_path: Path) -> None:
    """Two clusters cannot tell twelve items of a ring apart; with few numbers of their own they are."""
    random = np.random.default_rng(0)
    walks = [(user, int(random.integers(12)), int(random.integers(5, 12))) for user in range(60)]
    rows = [(f"u{u}", f"i{(start + n) % 12}", n) for u, start, length in walks for n in range(length)]
    ring = Dataset.from_rows(rows, time_kind="order")
    options = TrainingOptions(epochs=60, batch_size=16, learning_rate=1e-2, precision="float32", device="cpu")
    found = {}
    for kind, shared in {"clustered": 2, "clustered_residual": 8}.items():
        config = sasrec_with(item_table=kind, item_rows=shared)
        model = sasrec.fit(ring, tmp_path / kind, config, options, held_back=1)
        found[kind] = model.manifest.meta["validation"]  # type: ignore[union-attr]
    clustered = clusters_of(model.network.items)
    assert clustered is not None
    assert clustered.max_clusters == 2
    assert found["clustered"] < 0.6
    assert found["clustered_residual"] > 0.9


# --- what the clusters are told


class Told:
    """Takes the losses of candidates."""

    def __init__(self, steps: ClusterSteps) -> None:
        self.table, self.candidates = steps.table, steps.candidates

    def add_losses(
        self, entities_M: Tensor, losses_MQ: Tensor, _squares_MQ: Tensor, targets_P: Tensor
    ) -> None:
        self.entities, self.losses, self.targets = entities_M, losses_MQ, targets_P


def told_of(table: Any) -> Told:
    clustered = clusters_of(table)
    assert clustered is not None
    torch.nn.init.normal_(clustered.weight)
    return Told(ClusterSteps(clustered, [], 100, seed=0))


@pytest.mark.parametrize(("kind", "rows"), CLUSTERED)
@torch.no_grad()
def test_guim_tells_the_matching_loss_with_the_item_in_another_cluster(
    shop: Dataset, tiny: Callable[..., guim.GUIMConfig], kind: str, rows: int
) -> None:
    config = tiny(negatives="shared", item_table=kind, item_rows=rows)
    torch.manual_seed(0)
    network = GUIMNetwork(config, 9, 3, 100).eval()
    fields = FieldVocabulary.learn(shop.item_table, shop.item_counts(), 9, 100).encode(shop.item_table)
    told = told_of(network.f_i.ids)
    objective = Objective(network, config, fields, np.ones(shop.num_items), CPU, told)  # type: ignore[arg-type]
    windows = cut(shop, 90 * MICROSECONDS_PER_DAY, 60, 20).with_targets()[slice(0, 6)]
    batch = assemble(shop, windows, BatchShape(12, 64, 0.3, 0), np.random.default_rng(1))
    objective(batch)
    slots_M = torch.as_tensor(fields.slots[batch.distinct_M])
    assert told.entities.tolist() == [slot - 1 for slot in slots_M.tolist() if slot]
    assert (slots_M == 0).any()
    changes = guim_changes(objective, batch, told, (slots_M > 0).nonzero()[:, 0])
    torch.testing.assert_close(told.losses - told.losses[:, :1], changes, atol=1e-4, rtol=1e-4)


def guim_changes(objective: Objective, batch: Batch, told: Told, places_M: Tensor) -> Tensor:
    """How the softmax loss over the batch's items changes when one item alone has another cluster's row."""
    items_MD, users_BCD, _ = objective._encode(batch)
    f_i = objective.network.f_i
    fields = FieldTensors.of(objective.fields.take(batch.distinct_M), CPU)
    users_P, items_P = torch.as_tensor(batch.target_users_P), torch.as_tensor(batch.target_items_P)
    weights_P = 1 / torch.bincount(users_P)[users_P] / len(users_P.unique())
    losses = []
    for entity, place in zip(told.entities, places_M, strict=True):
        for candidate in told.candidates(entity[None])[0]:
            ids_MX = f_i.ids(fields.slots_M)
            ids_MX[place] += told.table.weight[candidate] - told.table(entity)
            moved_MD = items_MD.clone()
            moved_MD[place] = f_i.with_ids(fields, ids_MX[:, None])[place, 0]
            cosines = torch.nn.functional.cosine_similarity(users_BCD[:, :, None], moved_MD, dim=-1)
            scores_BM = objective.config.alpha * cosines.amax(dim=1)
            losses.append((weights_P * -scores_BM.log_softmax(dim=1)[users_P, items_P]).sum())
    table = torch.stack(losses).view(len(places_M), -1)
    return table - table[:, :1]


@pytest.mark.parametrize(("kind", "rows"), CLUSTERED)
@torch.no_grad()
def test_sasrec_tells_the_softmax_loss_with_the_item_in_another_cluster(kind: str, rows: int) -> None:
    torch.manual_seed(0)
    network = sasrec.network.SASRecNetwork(sasrec_with(item_table=kind, item_rows=rows), 25)
    told = told_of(network.items)
    queries_PD, targets_P = torch.randn(20, 16), torch.randint(26, (20,))
    items_SD = network.items.all()
    tell(told, queries_PD, items_SD, targets_P)  # type: ignore[arg-type]
    known = targets_P > 0
    assert torch.equal(told.targets, targets_P[known] - 1)
    for entity in range(25):
        losses = []
        for candidate in told.candidates(torch.tensor([entity]))[0]:
            moved_SD = items_SD.clone()
            moved_SD[entity + 1] += told.table.weight[candidate] - told.table(torch.tensor(entity))
            scores = queries_PD[known] @ moved_SD.T
            losses.append(torch.nn.functional.cross_entropy(scores, targets_P[known]))
        expected = torch.stack(losses)
        torch.testing.assert_close(
            told.losses[entity] - told.losses[entity, 0], expected - expected[0], atol=1e-4, rtol=1e-4
        )


def test_with_ids_is_the_items_vector_when_the_ids_are_their_own(
    shop: Dataset, tiny: Callable[..., guim.GUIMConfig]
) -> None:
    network = GUIMNetwork(tiny(), 9, 3, 100)
    fields = FieldVocabulary.learn(shop.item_table, shop.item_counts(), 9, 100).encode(shop.item_table)
    tensors = FieldTensors.of(fields, CPU)
    again_MQD = network.f_i.with_ids(tensors, network.f_i.ids(tensors.slots_M)[:, None])
    torch.testing.assert_close(again_MQD[:, 0], network.f_i(tensors))


# --- learning


def walks(seed: int) -> Dataset:
    """Users who walk along a ring of kinds, and take any item of the kind they have come to."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(300):
        start, steps = int(random.integers(KINDS)), int(random.integers(5, 12))
        rows += [
            (f"u{user}", f"{(start + step) % KINDS}_{random.integers(OF_A_KIND)}", step)
            for step in range(steps)
        ]
    return Dataset.from_rows(rows, time_kind="order")


def test_clusters_find_the_kinds_of_items_and_foretell_far_better_than_a_hash(tmp_path: Path) -> None:
    options = TrainingOptions(
        epochs=30, batch_size=32, learning_rate=1e-2, precision="float32", device="cpu", patience=0
    )
    agreement, found = [], {"clustered": [], "hash": []}
    for seed in range(2):
        data = walks(seed)
        for kind, validations in found.items():
            config = sasrec_with(item_table=kind, item_rows=KINDS)
            model = sasrec.fit(data, tmp_path / f"{kind}{seed}", config, options)
            assert model.manifest is not None
            validations.append(model.manifest.meta["validation"])
            table = clusters_of(model.network.items)
            if table is not None:
                kinds = [int(item.split("_")[0]) for item in model.trained_items["item_id"]]
                agreement.append(adjusted_rand_score(kinds, table.assign.tolist()))
    assert np.mean(agreement) > 0.8
    assert np.mean(found["clustered"]) > 2.5 * np.mean(found["hash"])


def test_a_run_with_clusters_that_was_interrupted_ends_with_the_same_bytes(
    shop: Dataset, tiny: Callable[..., guim.GUIMConfig], short: Options, tmp_path: Path
) -> None:
    config = tiny(item_table="clustered", item_rows=6)
    guim.fit(shop, tmp_path / "whole", config, short(epochs=3))
    interrupted = pytest.MonkeyPatch()
    begin, seen = ClusterSteps.begin, []

    def stop(self: ClusterSteps, step: int) -> None:
        seen.append(step)
        if len(seen) == 9:
            raise KeyboardInterrupt
        begin(self, step)

    with interrupted.context() as patch:
        patch.setattr(ClusterSteps, "begin", stop)
        with pytest.raises(KeyboardInterrupt):
            guim.fit(shop, tmp_path / "again", config, short(epochs=3, checkpoint_every=4))
    guim.fit(shop, tmp_path / "again", config, short(epochs=3, checkpoint_every=4), resume=True)
    whole, again = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "again"))
    assert whole == again


@pytest.mark.parametrize("system", ["guim", "sasrec"])
def test_the_clusters_of_items_can_be_looked_at(
    shop: Dataset, tiny: Callable[..., guim.GUIMConfig], short: Options, tmp_path: Path, system: str
) -> None:
    if system == "guim":
        changes = {"item_table": "clustered", "item_rows": 6, "max_popular": 20}
        model: Any = guim.fit(shop, tmp_path / "m", tiny(**changes), short(epochs=3))
        slots = torch.as_tensor(model.fields.encode(shop.item_table).slots)
        expected = model.network.f_i.ids.known
    else:
        config = sasrec_with(item_table="clustered", item_rows=6)
        model = sasrec.fit(shop, tmp_path / "m", config, short(epochs=20, patience=0))
        slots = torch.as_tensor(model.slots(shop.item_table))
        expected = model.network.items.known
    (tree,) = cluster_trees(model, shop, typical=30).values()
    assert len(tree.clusters) == expected.num_clusters > 2
    cluster_of = {name: one.cluster for one in tree.clusters for name in one.names}
    titles = zip(shop.item_table["title"], slots.tolist(), strict=True)
    assert cluster_of == {title: int(expected.assign[slot - 1]) for title, slot in titles if slot}


def test_settings_that_do_not_go_together_are_refused(tiny: Callable[..., guim.GUIMConfig]) -> None:
    with pytest.raises(ValueError, match="item_table=clustered needs item_rows"):
        tiny(item_table="clustered")
    with pytest.raises(ValueError, match="needs matching"):
        tiny(item_table="clustered", item_rows=4, matching_weight=0.0)
    with pytest.raises(ValueError, match="needs negatives=catalogue"):
        sasrec_with(item_table="clustered", item_rows=4, negatives="sampled")
