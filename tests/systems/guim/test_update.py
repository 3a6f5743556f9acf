"""The daily update of GUIM: the window slides on, new items join, and the way back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from polyvec.artifact import read_manifest
from polyvec.cli.main import main
from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.prepare import prepare
from polyvec.data.split import cut
from polyvec.errors import DataError, TrainingError, UsageError
from polyvec.systems.guim import GUIM, GUIMConfig, fit, update
from polyvec.systems.guim.update import News
from polyvec.systems.updating import UpdateOptions, one_pass
from polyvec.systems.versions import rollback, versions
from polyvec.training.options import TrainingOptions

DAY = MICROSECONDS_PER_DAY
UNTIL, DAYS, BLOCK, NEW = 100, 120, 8, 4
ANY = UpdateOptions(share=0.2, tolerance=1.0)


def log(users: int, changes: bool) -> pl.DataFrame:
    """Purchases of one block of items per user; with ``changes`` of another one from day 100 on."""
    random, rows = np.random.default_rng(0), []
    for user in range(users):
        for time in sorted(random.integers(0, DAYS * DAY, 16).tolist()):
            is_late = time >= UNTIL * DAY
            block = (user + (changes and is_late)) % 3
            item = f"i{block * BLOCK + random.integers(0, BLOCK)}"
            if is_late and random.random() < 0.2:
                item = f"new{block}{random.integers(0, NEW)}"
            rows.append((f"u{user:03}", item, time))
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def catalogue(*, with_new: bool) -> pl.DataFrame:
    names = ("toys", "books", "food")
    rows = [
        (f"i{block * BLOCK + n}", names[block], f"{names[block]} {n}")
        for block in range(3)
        for n in range(BLOCK)
    ]
    if with_new:
        rows += [(f"new{block}{n}", names[block], "brand new") for block in range(3) for n in range(NEW)]
    return pl.DataFrame(rows, schema=["item_id", "category", "title"], orient="row")


@pytest.fixture(scope="module")
def changed() -> Dataset:
    events = log(90, changes=True)
    return Dataset.from_rows(events.rows(), catalogue(with_new=True))


@pytest.fixture(scope="module")
def fitted(
    tiny: Callable[..., GUIMConfig], short: Callable[..., TrainingOptions], tmp_path_factory: Any
) -> Path:
    before = log(90, changes=True).filter(pl.col("timestamp") < UNTIL * DAY)
    data = Dataset.from_rows(before.rows(), catalogue(with_new=False))
    out = tmp_path_factory.mktemp("guim") / "shop.model"
    options = short(epochs=12, batch_size=16, learning_rate=5e-3, final_rate=1.0)
    fit(data, out, tiny(num_cutoffs=5, stride_days=8), options, validation="none")
    return out


@pytest.fixture
def folder(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "shop.model"))


def vectors(folder: Path, dataset: Dataset) -> np.ndarray[Any, Any]:
    return GUIM.open(folder).encode_users(dataset, cut(dataset, UNTIL * DAY, 60, 20))


def test_an_update_learns_what_has_changed(folder: Path, changed: Dataset) -> None:
    options = one_pass(GUIM.open(folder).options)
    told = update(folder, changed, TrainingOptions(**(vars(options) | {"epochs": 8})), ANY).manifest
    assert told is not None
    latest = told.meta["updates"][-1]
    assert latest["gate"]["recall"]["after"] > latest["gate"]["recall"]["before"] + 0.1
    assert latest["new_items"] == 3 * NEW
    assert latest["foretold"]["recall"] < latest["gate"]["recall"]["after"]
    assert told.meta["trained_until"] >= (DAYS - 1) * DAY
    assert told.meta["habits"] == read_manifest(versions(folder)[1], "model").meta["habits"]
    assert "version 2" in (folder / "card.md").read_text("utf-8")


def test_growing_alone_changes_no_answer_and_new_items_begin_at_their_category(
    fitted: Path, changed: Dataset
) -> None:
    model = GUIM.open(fitted)
    larger = News.of(model, changed, UNTIL * DAY, DAYS * DAY, 0).grown(model, changed)
    windows = cut(changed, UNTIL * DAY, 60, 20)
    np.testing.assert_array_equal(model.encode_users(changed, windows), larger.encode_users(changed, windows))
    table, slots = larger.network.f_i.ids.all().detach(), larger.fields.popular
    old = changed.item_table.filter(pl.col("category") == "food", ~pl.col("item_id").str.starts_with("new"))
    mean = table[slots.rows(old["item_id"]) + 1].mean(dim=0)
    torch.testing.assert_close(table[slots.rows(["new21"])[0] + 1], mean)


def test_only_who_bought_is_learned_from_and_nothing_after_the_end(fitted: Path, changed: Dataset) -> None:
    model, stop = GUIM.open(fitted), (UNTIL + 5) * DAY
    news = News.of(model, changed, UNTIL * DAY, stop, 0.3)
    times = np.asarray(changed.times)
    assert (times[news.training.target_end - 1] >= UNTIL * DAY).all()
    assert (times[news.training.target_end - 1] < stop).all()
    assert not set(news.training.user_rows) & set(news.held_out.user_rows)
    assert (times[news.foretold.history_end - 1] < UNTIL * DAY).all()
    assert (times[news.foretold.target_start] >= UNTIL * DAY).all()
    assert news.counts.sum() == ((times >= UNTIL * DAY) & (times < stop)).sum()


def test_days_follow_each_other_and_the_way_back_restores_every_answer(
    folder: Path, changed: Dataset
) -> None:
    before = vectors(folder, changed)
    for end in (105, 110):
        update(folder, changed, how=ANY, until=end * DAY)
    assert not np.array_equal(vectors(folder, changed), before)
    assert list(versions(folder)) == [1, 2]
    rollback(folder, 1)
    np.testing.assert_array_equal(vectors(folder, changed), before)


def test_a_model_that_is_spoiled_is_refused_and_the_old_one_stays(folder: Path, changed: Dataset) -> None:
    before = vectors(folder, changed)
    wild = TrainingOptions(
        **(vars(one_pass(GUIM.open(folder).options)) | {"learning_rate": 3.0, "epochs": 2})
    )
    steady = Dataset.from_rows(log(90, changes=False).rows(), catalogue(with_new=True))
    with pytest.raises(TrainingError, match="worse than the one that serves") as caught:
        update(folder, steady, wild, UpdateOptions(share=0.5))
    assert "recall" in str(caught.value.expected)
    np.testing.assert_array_equal(vectors(folder, changed), before)
    assert not versions(folder)
    update(folder, steady, wild, UpdateOptions(share=0.5), gate=False, resume=True)
    assert list(versions(folder)) == [1]


def test_nothing_new_and_tables_that_do_not_grow_are_said_plainly(
    folder: Path, tiny: Callable[..., GUIMConfig], short: Callable[..., TrainingOptions], tmp_path: Path
) -> None:
    old = Dataset.from_rows(
        log(90, changes=True).filter(pl.col("timestamp") < UNTIL * DAY).rows(), catalogue(with_new=False)
    )
    with pytest.raises(DataError, match="which the model has learned until"):
        update(folder, old)
    fit(old, tmp_path / "int8", tiny(item_table="int8"), short(), validation="none")
    with pytest.raises(UsageError, match="'int8' takes no new items"):
        update(tmp_path / "int8", old)


def test_the_command_tells_both_models_apart(folder: Path, tmp_path: Path, capsys: Any) -> None:
    events = log(90, changes=True).with_columns(pl.from_epoch("timestamp", time_unit="us"))
    prepare(events, tmp_path / "shop.dataset", items=catalogue(with_new=True))
    arguments = ["update", str(folder), str(tmp_path / "shop.dataset"), "--set", "share=0.2"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--set", "tolerance=1", "--until", "1970-04-20"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "guim, version 2, learned 1970-04-10" in said
    assert "to 1970-04-20" in said
    assert "recall" in said
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--skip-earlier"])
    assert stopped.value.code == 2
    assert "an update of guim has no --skip-earlier" in capsys.readouterr().err
