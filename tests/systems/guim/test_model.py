from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.split import cut, leave_last_out
from polyvec.embeddings import STATES
from polyvec.systems.guim import GUIM, GUIMConfig, fit, model
from polyvec.systems.guim.network import Histories
from polyvec.training.options import TrainingOptions

DAY = MICROSECONDS_PER_DAY
UNTIL = 100 * DAY
Config = Callable[..., GUIMConfig]
Options = Callable[..., TrainingOptions]


def test_users_are_encoded_alike_alone_and_together_and_in_groups_of_any_size(
    fitted: GUIM, shop: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = cut(shop, UNTIL, 30, 0)
    assert (windows.history_end == windows.history_start).any()
    together = fitted.encode_users(shop, windows)
    alone = np.concatenate([fitted.encode_users(shop, windows[slice(n, n + 1)]) for n in range(len(windows))])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    monkeypatch.setattr("polyvec.data.batches.TOKENS_AT_ONCE", 20)
    np.testing.assert_allclose(together, fitted.encode_users(shop, windows), atol=1e-5)
    assert fitted.encode_users(shop, windows[:0]).shape == (0, 2, 16)


def test_items_are_encoded_alike_alone_and_together(
    fitted: GUIM, shop: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = fitted.encode_items(shop.item_table)
    monkeypatch.setattr(model, "ITEMS_AT_ONCE", 4)
    np.testing.assert_allclose(together, fitted.encode_items(shop.item_table), atol=1e-6)
    assert fitted.encode_items(shop.item_table[:0]).shape == (0, 16)


def test_users_of_another_shop_are_encoded_from_the_items_they_share(fitted: GUIM, shop: Dataset) -> None:
    """Never looked up: another numbering of users and items gives the same vectors."""
    windows = cut(shop, UNTIL, 60, 0)
    order = np.arange(shop.num_items)[::-1]
    renumbered = Dataset.from_rows(
        [
            (f"z{59 - user}", shop.items.ids([row])[0], int(time))
            for user in range(60)
            for row, time in zip(
                shop.item_rows[shop.user_offsets[user] : shop.user_offsets[user + 1]],
                shop.times[shop.user_offsets[user] : shop.user_offsets[user + 1]],
                strict=True,
            )
        ],
        shop.item_table[order],
    )
    vectors = fitted.encode_users(renumbered, cut(renumbered, UNTIL, 60, 0))
    rows = renumbered.users.rows([f"z{59 - user}" for user in range(60)])
    np.testing.assert_allclose(vectors[rows], fitted.encode_users(shop, windows), atol=1e-5)


def test_an_item_is_encoded_from_its_category_and_title_alone(fitted: GUIM, shop: Dataset) -> None:
    catalogue = pl.DataFrame(
        {
            "item_id": ["new", "other", "newer", "nothing"],
            "category": ["toys", "toys", "books", "?"],
            "title": ["red train 3", "red train 3", "thick novel", "zzz"],
        }
    )
    vectors = fitted.encode_items(catalogue)
    assert np.array_equal(vectors[0], vectors[1])
    assert not np.allclose(vectors[0], vectors[2], atol=1e-4)
    nothing = fitted.encode_items(catalogue[3:].with_columns(category=None, title=None))
    np.testing.assert_allclose(vectors[3], nothing[0], atol=1e-6)
    assert np.isfinite(vectors).all()


def test_states_of_items_are_warm_cold_or_empty_with_their_training_events(
    fitted: GUIM, shop: Dataset
) -> None:
    catalogue = pl.DataFrame(
        {"item_id": ["i0", "unsold", "new", "nothing"], "category": ["toys", "toys", "books", None]}
    ).with_columns(title=None)
    state, events = fitted.item_states(catalogue)
    assert [STATES[code] for code in state] == ["warm", "cold", "cold", "empty"]
    trained = dict(fitted.trained_items.iter_rows())
    assert events.tolist() == [trained["i0"], 0, 0, 0]
    before = shop.times < UNTIL
    assert trained["i0"] <= int((shop.item_rows[before] == shop.items.rows(["i0"])[0]).sum())


def test_only_the_latest_events_of_a_long_history_count(
    shop: Dataset, tiny: Config, short: Options, tmp_path: Path
) -> None:
    it = fit(shop, tmp_path / "m", tiny(max_length=4, history_days=120), short(), until=UNTIL)
    windows = cut(shop, UNTIL, 120, 0)
    latest = replace(windows, history_start=np.maximum(windows.history_start, windows.history_end - 4))
    assert np.array_equal(it.encode_users(shop, windows), it.encode_users(shop, latest))
    shorter = replace(windows, history_start=np.maximum(windows.history_start, windows.history_end - 3))
    assert not np.allclose(it.encode_users(shop, windows), it.encode_users(shop, shorter), atol=1e-4)


@pytest.mark.parametrize("time_kind", ["timestamp", "order"])
def test_with_masked_items_alone_a_user_is_o_at_a_mask_after_the_history(
    make_shop: Callable[..., Dataset], tiny: Config, short: Options, tmp_path: Path, time_kind: str
) -> None:
    shop = make_shop(30, time_kind=time_kind)
    it = fit(shop, tmp_path / "m", tiny(matching_weight=0, num_vectors=1), short(), validation="none")
    assert it.config.vectors_per_user == 1
    is_order = time_kind == "order"
    windows = leave_last_out(shop, 1, targets=0) if is_order else cut(shop, UNTIL, 60, 0)
    vectors = it.encode_users(shop, windows)
    assert vectors.shape == (30, 1, 16)
    items_ND = torch.from_numpy(it.encode_items(shop.item_table))
    for w in (0, 7, 29):
        events = range(windows.history_start[w], windows.history_end[w])[-12:]
        ages = [
            windows.history_end[w] - event if is_order else (UNTIL - 1 - shop.times[event]) // DAY
            for event in events
        ]
        length = len(events) + 1
        masked = torch.zeros(1, length, dtype=torch.bool)
        masked[0, -1] = True
        histories = Histories(
            torch.tensor([[*shop.item_rows[list(events)].tolist(), 0]]),
            torch.tensor([[*map(int, ages), 0]]),
            torch.tensor([length]),
            masked,
        )
        with torch.no_grad():
            _, expected = it.network.encode_histories(items_ND, histories)
        np.testing.assert_allclose(vectors[w], expected, atol=1e-5)


@pytest.mark.parametrize("changes", [{"num_vectors": 1, "user_heads": 3}, {"num_vectors": 3}])
def test_guim_and_guim_mh_give_as_many_vectors_as_they_say(
    shop: Dataset, tiny: Config, short: Options, tmp_path: Path, changes: dict[str, int]
) -> None:
    it = fit(shop, tmp_path / "m", tiny(**changes), short(), until=UNTIL)
    vectors = it.encode_users(shop, cut(shop, UNTIL, 60, 0))
    assert vectors.shape == (60, 3, 16)
    assert np.linalg.matrix_rank(vectors[0], tol=1e-4) == 3
