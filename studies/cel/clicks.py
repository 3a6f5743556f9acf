"""Which film is next? A deep interest network over clustered, hashed and full tables; ratings are clicks."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from sklearn.metrics import roc_auc_score

from polyvec.data.dataset import Dataset
from polyvec.data.split import leave_last_out
from polyvec.systems.cel.config import CELConfig, deep
from polyvec.systems.cel.fit import records_of
from polyvec.systems.cel.records import Records
from polyvec.systems.cel.train import make_trainer, mean_error

HELD_BACK = 10  # last films of a user for the test, and as many before them for validation
COLD = 20  # training events of an item that is not cold

BOTH = ("clustered", "hash", "full")
CLICKS: dict[str, dict[str, Any]] = {
    **{f"DIN, {kind}": {"user_table": kind, "item_table": kind} for kind in BOTH},
    "DIN, full users, clustered items": {"user_table": "full"},
    "DIN, random split": {"cut": "random"},
    "DIN, no reassignment": {"reassign_every": 0},
    "no attention, clustered": {"interaction": "dot"},
    "no attention, full": {"interaction": "dot", "user_table": "full", "item_table": "full"},
}


def run_clicks(file: Path, name: str, seed: int, *, quick: bool) -> dict[str, Any]:
    """Train one method; AUC of all users' last films against drawn ones, cold items apart."""
    torch.set_num_threads(1)
    data = read(file, 100 if quick else None)
    config, options = deep()
    config = replace(config, **CLICKS[name])
    options = replace(options, seed=seed, epochs=1 if quick else options.epochs)
    windows = leave_last_out(data, 2 * HELD_BACK, targets=0)
    training = records_of(data, config, windows.user_rows, windows.history_start, windows.history_end, seed)
    asks = replace(config, interaction="din")  # all methods are asked the same
    validation, test = (held_out(data, asks, skip, seed) for skip in (HELD_BACK, 0))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        network, trainer = make_trainer(
            training,
            data.num_users,
            data.num_items,
            config,
            options,
            Path(folder),
            validate=lambda network: -mean_error(network, validation),
        )
        progress = trainer.run()
    events = torch.bincount(training.items[training.labels > 0], minlength=data.num_items)
    is_cold = events[test.items] < COLD
    with torch.no_grad():
        scores = torch.cat([
            network.scores(test.take(rows)) for rows in torch.arange(len(test)).split(4096)
        ])  # fmt: skip
    groups = {"AUC": is_cold | True, "AUC, cold items": is_cold, "AUC, warm items": ~is_cold}
    return {
        **{
            group: auc(test.labels[chosen], scores[chosen])
            for group, chosen in groups.items()
            if chosen.any()
        },
        "epoch": progress.best_epoch + 1,
        **{f"bytes_{side}": size for side, size in network.table_bytes().items()},
        "seconds": round(time.perf_counter() - started, 1),
    }


def held_out(data: Dataset, config: CELConfig, skip: int, seed: int) -> Records:
    """Films of each user, but for the last ``skip``; the same drawn items for all methods."""
    windows = leave_last_out(data, skip, targets=HELD_BACK)
    return records_of(
        data, config, windows.user_rows, windows.target_start, windows.target_end, 1000 + seed + skip
    )


def auc(labels: torch.Tensor, scores: torch.Tensor) -> float:
    """Chance that a film that was seen is before one that was drawn."""
    return float(roc_auc_score(labels.numpy(), scores.numpy()))


def read(file: Path, users: int | None) -> Dataset:
    """The log in order of time; what happened in one second has no order."""
    table = pl.read_parquet(file, columns=["user_id", "item_id", "timestamp"]).drop_nulls()
    if users is not None:
        table = table.filter(pl.col("user_id").is_in(table["user_id"].unique().sort().head(users).implode()))
    moments = table["timestamp"].to_physical()
    rows = zip(table["user_id"].to_list(), table["item_id"].to_list(), moments.to_list(), strict=True)
    return Dataset.from_rows(list(rows), time_kind="order")
