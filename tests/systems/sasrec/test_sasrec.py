from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from polyvec.artifact import verify
from polyvec.data.batches import BatchShape, assemble
from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.split import cut, leave_last_out
from polyvec.embeddings import WARM
from polyvec.errors import ArtifactError, DataError, UsageError
from polyvec.systems.embed import embed
from polyvec.systems.folder import load_weights
from polyvec.systems.guim import GUIM
from polyvec.systems.open import open_model
from polyvec.systems.sasrec import SASRec, SASRecConfig, default, fit
from polyvec.systems.sasrec.network import SASRecNetwork
from polyvec.systems.sasrec.objective import Objective
from polyvec.training.loop import Trainer
from polyvec.training.options import TrainingOptions

DAY = MICROSECONDS_PER_DAY
CHAIN = 12
Options = Callable[..., TrainingOptions]
Killed = Callable[[type, str, int], AbstractContextManager[None]]


def tiny(**changes: Any) -> SASRecConfig:
    sizes = {"width": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.1, "max_length": 8}
    return SASRecConfig(**(sizes | changes))


@pytest.fixture(scope="module")
def chain() -> Dataset:
    """Sixty users who walk along a ring of twelve items, from wherever they start."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(60):
        start, steps = int(random.integers(CHAIN)), int(random.integers(5, 12))
        rows += [(f"u{user}", f"i{(start + step) % CHAIN}", step) for step in range(steps)]
    return Dataset.from_rows(rows, time_kind="order")


@pytest.fixture(scope="module")
def walked(chain: Dataset, tmp_path_factory: pytest.TempPathFactory) -> SASRec:
    options = TrainingOptions(epochs=60, batch_size=16, learning_rate=1e-2, precision="float32", device="cpu")
    return fit(chain, tmp_path_factory.mktemp("sasrec") / "m", tiny(), options, held_back=1)


def next_rows(model: SASRec, dataset: Dataset, held_back: int) -> np.ndarray:
    """The item that every user's vector names, as a row of the Dataset."""
    windows = leave_last_out(dataset, held_back, targets=0)
    users_BD = model.encode_users(dataset, windows)[:, 0]
    return np.asarray((users_BD @ model.encode_items(dataset.item_table).T).argmax(axis=1))


# --- what it learns


def test_it_learns_what_follows_what(walked: SASRec, chain: Dataset) -> None:
    last = chain.item_rows[chain.user_offsets[1:] - 1]
    assert (next_rows(walked, chain, held_back=1) == last).mean() > 0.95
    assert walked.manifest is not None
    assert walked.manifest.meta["validation"] > 0.95


def test_against_items_drawn_it_learns_the_same(chain: Dataset, tmp_path: Path) -> None:
    options = TrainingOptions(epochs=60, batch_size=16, learning_rate=1e-2, precision="float32", device="cpu")
    model = fit(chain, tmp_path / "m", tiny(negatives="sampled", num_negatives=24), options, held_back=1)
    last = chain.item_rows[chain.user_offsets[1:] - 1]
    assert (next_rows(model, chain, held_back=1) == last).mean() > 0.9


def test_an_empty_history_gives_what_users_begin_with(tmp_path: Path, short: Options) -> None:
    rows = [
        (f"u{n}", item, step) for n in range(40) for step, item in enumerate(["first", "second", "third"])
    ]
    data = Dataset.from_rows([*rows, ("new", "third", 0)], time_kind="order")
    model = fit(data, tmp_path / "m", tiny(), short(epochs=40, learning_rate=1e-2), validation="none")
    row = data.users.rows(["new"])[0]
    empty = leave_last_out(data, 1, targets=0)[np.array([row])]
    assert empty.history_end[0] == empty.history_start[0]
    scores = model.encode_users(data, empty)[0, 0] @ model.encode_items(data.item_table).T
    assert data.items.ids([int(scores.argmax())])[0] == "first"


# --- the network and its task


def test_a_position_sees_nothing_of_what_comes_after() -> None:
    torch.manual_seed(0)
    network = SASRecNetwork(tiny(), CHAIN).eval()
    slots_BL = torch.tensor([[1, 2, 3, 4, 5]])
    tokens_BTD = network(slots_BL, torch.tensor([5]))
    assert tokens_BTD.shape == (1, 6, 16)
    changed = network(torch.tensor([[1, 2, 3, 9, 5]]), torch.tensor([5]))
    assert torch.equal(tokens_BTD[:, :4], changed[:, :4])
    assert not torch.allclose(tokens_BTD[:, 4], changed[:, 4])


def test_every_event_is_foretold_from_those_before_it() -> None:
    """The batch's loss is the mean over events of the loss of each prefix by itself."""
    data = Dataset.from_rows(
        [("ann", item, n) for n, item in enumerate("abcd")] + [("bob", "b", 0), ("bob", "d", 1)],
        time_kind="order",
    )
    torch.manual_seed(0)
    network = SASRecNetwork(tiny(), data.num_items).eval()
    slots = np.arange(data.num_items) + 1
    objective = Objective(network, tiny(), slots, torch.device("cpu"))
    batch = assemble(data, leave_last_out(data, 0, targets=0), BatchShape(max_length=9))
    expected = []
    for user in range(2):
        events = torch.as_tensor(slots[data.item_rows[data.user_offsets[user] : data.user_offsets[user + 1]]])
        for step in range(len(events)):
            # within a history of n events, places are counted back from event n − 1
            prefix = torch.cat([events[:step], torch.zeros(len(events) - 1 - step, dtype=torch.int64)])
            output_D = network(prefix[None], torch.tensor([len(events) - 1]))[0, step]
            expected.append(-torch.log_softmax(network.items.weight @ output_D, dim=0)[events[step]])
    torch.testing.assert_close(objective(batch)[0], torch.stack(expected).mean())


def test_users_are_encoded_alike_alone_and_together(walked: SASRec, chain: Dataset) -> None:
    windows = leave_last_out(chain, 1, targets=0)
    together = walked.encode_users(chain, windows)
    for row in (0, 17, 59):
        alone = walked.encode_users(chain, windows[np.array([row])])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


# --- folders, cuts and moments


def test_a_model_is_opened_by_its_system_and_embeds(walked: SASRec, chain: Dataset, tmp_path: Path) -> None:
    assert walked.manifest is not None
    grown = Dataset.from_rows([("zoe", "i1", 0), ("zoe", "brandnew", 1)], time_kind="order")
    embeddings = embed(walked, grown, tmp_path / "emb")
    assert (embeddings.score, embeddings.num_vectors, embeddings.width) == ("max_dot", 1, 16)
    assert embeddings.provenance["system"] == "sasrec"
    states = dict(zip(embeddings.items.ids.series, embeddings.items.state, strict=True))
    assert states == {"i1": 0, "brandnew": 2}


def test_a_folder_is_opened_by_the_system_that_wrote_it(
    chain: Dataset, fitted: GUIM, short: Options, tmp_path: Path
) -> None:
    model = fit(chain, tmp_path / "m", tiny(), short())
    opened = open_model(tmp_path / "m")
    assert isinstance(opened, SASRec)
    assert opened.manifest == model.manifest == verify(tmp_path / "m", "model")
    with pytest.raises(ArtifactError, match="holds a model of system 'sasrec'"):
        GUIM.open(tmp_path / "m")
    assert "NDCG@10" in (tmp_path / "m" / "card.md").read_text()


def test_what_is_held_out_for_validation_is_not_trained_on_but_by_a_refit(
    chain: Dataset, short: Options, tmp_path: Path
) -> None:
    last = chain.user_offsets[1:] - 1
    rows = chain.item_rows.copy()
    rows[last] = (rows[last] + 5) % CHAIN
    changed = replace(chain, item_rows=rows)

    def weights(data: Dataset, name: str, **arguments: Any) -> bytes:
        fit(data, tmp_path / name, tiny(), short(), **arguments)
        return (tmp_path / name / "weights.safetensors").read_bytes()

    assert weights(chain, "a") == weights(changed, "b")
    assert weights(chain, "c", refit=True) != weights(changed, "d", refit=True)
    assert weights(chain, "e", validation="none") == (tmp_path / "c" / "weights.safetensors").read_bytes()
    assert (
        weights(chain, "f", held_back=1, validation="none")
        == (tmp_path / "a" / "weights.safetensors").read_bytes()
    )


def test_with_timestamps_the_future_changes_nothing(shop: Dataset, short: Options, tmp_path: Path) -> None:
    until = 100 * DAY
    rows = np.where(shop.times >= until, (shop.item_rows + 7) % shop.num_items, shop.item_rows)
    config = tiny(target_days=20, history_days=90)
    models = [
        fit(data, tmp_path / name, config, short(), until=until)
        for name, data in [("real", shop), ("changed", replace(shop, item_rows=rows.astype(np.int32)))]
    ]
    assert models[0].manifest is not None
    assert models[1].manifest is not None
    assert models[0].manifest.files["weights.safetensors"] == models[1].manifest.files["weights.safetensors"]
    assert models[0].trained_until == until - 20 * DAY
    windows = cut(shop, until, 90, 0)
    assert models[0].encode_users(shop, windows).shape == (shop.num_users, 1, 16)


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    chain: Dataset, short: Options, tmp_path: Path, killed_at: Killed
) -> None:
    options = short(epochs=3, checkpoint_every=1, batch_size=16)
    fit(chain, tmp_path / "whole", tiny(), options)
    with killed_at(Trainer, "_step", 6):
        fit(chain, tmp_path / "m", tiny(), options)
    fit(chain, tmp_path / "m", tiny(), options, resume=True)
    for name in ("weights.safetensors", "items.parquet", "config.json"):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_cannot_be_done_is_refused(
    chain: Dataset, shop: Dataset, short: Options, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="refit has no validation to follow"):
        fit(chain, tmp_path / "m", tiny(), short(), validation="none", refit=True)
    with pytest.raises(UsageError, match="held_back is for data with an order column"):
        fit(shop, tmp_path / "m", tiny(), short(), held_back=1)
    years_later = int(shop.times.max()) + 1000 * MICROSECONDS_PER_DAY
    with pytest.raises(DataError, match="no user has a history to learn from"):
        fit(shop, tmp_path / "m", tiny(), short(), until=years_later, validation="none")
    with pytest.raises(UsageError, match="nothing lies before"):
        fit(shop, tmp_path / "m", tiny(), short(), until=int(shop.times.min()), validation="none")
    with pytest.raises(ValueError, match="width 15 is not a multiple of num_heads 2"):
        tiny(width=15)
    assert not (tmp_path / "m").exists()


def test_of_the_less_popular_nothing_is_foretold(chain: Dataset, tmp_path: Path) -> None:
    options = TrainingOptions(epochs=60, batch_size=16, learning_rate=1e-2, precision="float32", device="cpu")
    model = fit(chain, tmp_path / "m", tiny(max_popular=8), options, held_back=1, validation="none")
    own = chain.items.rows(model.trained_items["item_id"].head(8))
    vectors = model.encode_items(chain.item_table)
    assert len(np.unique(vectors, axis=0)) == 9  # the other four share one
    states, events = model.item_states(chain.item_table)
    assert (states == WARM).all()  # they were in the histories that it was trained on
    assert (events > 0).all()
    named, last = next_rows(model, chain, held_back=1), chain.item_rows[chain.user_offsets[1:] - 1]
    assert np.isin(named, own).all()
    assert (named == last)[np.isin(last, own)].mean() > 0.9


def test_a_batch_without_popular_items_changes_nothing() -> None:
    network = SASRecNetwork(tiny(), 4)
    data = Dataset.from_rows([("u", "a", 0), ("u", "b", 1)], time_kind="order")
    objective = Objective(network, tiny(), np.zeros(2, np.int64), torch.device("cpu"))
    batch = assemble(data, leave_last_out(data, 0, targets=0), BatchShape(8))
    loss, _ = objective(batch)
    loss.backward()
    assert loss.item() == 0
    assert all(weight.grad is None or not weight.grad.any() for weight in network.parameters())


def test_what_the_last_run_cannot_have_is_said_before_the_first(
    chain: Dataset, short: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refit knows an item more: too many for so few rows."""
    rows = [(f"u{n}", f"i{(n + step) % 12}", step) for n in range(30) for step in range(4)]
    data = Dataset.from_rows([*rows, ("last", "i0", 0), ("last", "new", 1)], time_kind="order")
    config = tiny(item_table="quotient_remainder", item_rows=7)  # 2 √12 is no longer enough of 3 + 4
    monkeypatch.setattr(Trainer, "run", lambda _: pytest.fail("trained"))
    with pytest.raises(UsageError, match="too few to tell 13 ids apart"):
        fit(data, tmp_path / "m", config, short(), refit=True)


def test_weights_of_another_network_are_told(walked: SASRec, chain: Dataset, tmp_path: Path) -> None:
    weights = walked.network.state_dict()
    wrong = {name: weight for name, weight in weights.items() if name != "start"}
    save_file(wrong, tmp_path / "weights.safetensors")
    with pytest.raises(ArtifactError, match="the weights are of another network") as caught:
        load_weights(walked.network, tmp_path)
    assert "start" in str(caught.value.expected)


def test_the_preset_is_whole() -> None:
    config, options = default()
    assert config.negatives == "catalogue"
    assert options.epochs > 0


def test_items_are_known_by_their_training_events(walked: SASRec, chain: Dataset) -> None:
    assert walked.trained_items["events"].is_sorted(descending=True)
    table = pl.DataFrame({"item_id": ["i3", "unheard of"]})
    state, events = walked.item_states(table)
    assert state.tolist() == [0, 2]
    last = np.zeros(chain.num_events, dtype=bool)
    last[chain.user_offsets[1:] - 1] = True
    last[chain.user_offsets[1:] - 2] = True  # one is held back, one validated on
    row = int(chain.items.rows(["i3"])[0])
    assert events.tolist() == [int(((chain.item_rows == row) & ~last).sum()), 0]
    assert json.loads(json.dumps(walked.meta))["parameters"] > 0
