"""Training speed, memory and quality: GUIM's masked-item mode beside RecTools' BERT4Rec, on the CPU.

    pip install 'polyvec[peers]'
    python benchmarks/train_speed.py --data DIR    the full comparison; DIR as below
    python benchmarks/train_speed.py               the same on a made-up stand-in: speed and memory only mean
                                                   something, quality does not
    python benchmarks/train_speed.py --quick       a few hundred users, two epochs: under a minute, for a look

DIR holds ``movielens_1m/events.parquet`` (user_id, item_id, position; MovieLens 1M, GroupLens; histories of
up to 200 events) and ``amazon_beauty/events.parquet`` (the same columns; Amazon reviews 2014, 5-core, Beauty,
McAuley et al.; up to 50). ``position`` is the rank in time within a user; rows without one are left out.

What is equal: histories (all but each user's last two events), width 128, 3 layers, 4 heads, feed-forward
width 512, dropout, share of masked events, batch size, epochs, learning rate (constant; polyvec's rises to it
over the first 2 % of the steps), full softmax over the catalogue, threads, environment, memory allocator.
What is each system's own: the rest of its recipe, precision (RecTools as it comes: float32; polyvec: bfloat16
where the processor multiplies in it, and float32 as ``ratio_*_float32``), its batches, its trainer.

Every measurement is a process of its own; the systems take turns. tokens/s = events of the training
histories (padding and special tokens not counted) per second of training epochs, the first epoch left out as
warm-up; waiting for data counts, validation and checkpoints between epochs do not (``ratio_*_whole_fit``
counts all from the call of fit to its return). Memory = peak resident set of the process until fit returns.
NDCG@10: next item, all items ranked but those of the user's history; trained on all but the last two events,
asked for the last (``ndcg10``) and, before, for the last but one (``ndcg10_validation``).
The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import ctypes.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

WIDTH, LAYERS, HEADS, BATCH, MASKING, LEARNING_RATE = 128, 3, 4, 128, 0.15, 1e-3
HELD_OUT = 2  # last events of every user: one for validation, one for the test
TOP = 10
PACKAGES = ("polyvec", "rectools", "torch", "pytorch-lightning", "numpy")
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """One data set, and the shape of its stand-in."""

    folder: str
    max_length: int
    users: int
    items: int
    shortest: int
    median_length: int
    spread: float
    quick_users: int


DATA = {
    "ml1m": Data("movielens_1m", 200, 6_040, 3_416, 20, 96, 1.0, 256),
    "beauty": Data("amazon_beauty", 50, 22_363, 12_101, 5, 6, 0.65, 768),
}
SYSTEMS: dict[str, dict[str, str]] = {
    "polyvec": {"negatives": "catalogue", "precision": "auto"},
    "rectools": {"precision": "32-true"},
    "polyvec_float32": {"negatives": "catalogue", "precision": "float32"},
    "polyvec_shared": {"negatives": "shared", "precision": "auto"},
    "rectools_bf16": {"precision": "bf16-mixed"},
}
MAIN = ("polyvec", "rectools")


@dataclass(frozen=True)
class Task:
    """One measurement, as it is handed to a process of its own."""

    system: str
    folder: str
    max_length: int
    epochs: int
    seed: int
    dropout: float


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(_measure(Task(**json.loads(arguments.child)))))
        return
    rounds, epochs = (1, 2) if arguments.quick else (arguments.rounds, arguments.epochs)
    also = [] if arguments.quick else arguments.also
    environment = _environment(arguments.threads, arguments.allocator)
    load = os.getloadavg()[0]
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory(prefix="train_speed_") as scratch:
        for name, data in [(name, DATA[name]) for name in arguments.sets]:
            folder = Path(scratch) / name
            _prepare(folder, _events(data, arguments.data, quick=arguments.quick))
            results[name] = {system: [] for system in (*MAIN, *also)}
            for number, system in _order(rounds, also):
                task = Task(system, str(folder), data.max_length, epochs, number, arguments.dropout)
                print(f"{name}, round {number + 1} of {rounds}: {system} …", file=sys.stderr, flush=True)
                results[name][system].append(_in_own_process(task, environment))
                print(f"  {json.dumps(results[name][system][-1])}", file=sys.stderr, flush=True)
    setting = {"data": "stand-in" if arguments.data is None else "real", "epochs": epochs, "rounds": rounds}
    _report(results, setting | {"dropout": arguments.dropout, "threads": arguments.threads, "load": load})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, help="folder with movielens_1m/ and amazon_beauty/")
    parser.add_argument("--quick", action="store_true", help="few users, one round of two epochs")
    parser.add_argument("--sets", nargs="+", choices=list(DATA), default=list(DATA), help="data sets (all)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each system (3)")
    parser.add_argument("--epochs", type=_at_least_two, default=5, help="epochs of every training run (5)")
    parser.add_argument("--dropout", type=float, default=0.2, help="of both systems (0.2, RecTools' default)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every process (all cores)")
    parser.add_argument(
        "--allocator",
        default="auto",
        help="preloaded for all systems: a library's path or name, 'system' for none, 'auto' for tcmalloc if "
        "it is installed (auto)",
    )
    parser.add_argument(
        "--also",
        nargs="*",
        choices=[name for name in SYSTEMS if name not in MAIN],
        default=["polyvec_float32", "polyvec_shared"],
        help="variants that are measured once, in the first round",
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _at_least_two(text: str) -> int:
    if int(text) < 2:
        raise argparse.ArgumentTypeError("the first epoch is left out: at least 2 are needed")
    return int(text)


def _order(rounds: int, also: list[str]) -> list[tuple[int, str]]:
    """Who is measured when: the two systems take turns at going first."""
    turns = [(number, MAIN[(number + turn) % 2]) for number in range(rounds) for turn in range(2)]
    return [*turns[:2], *((0, system) for system in also), *turns[2:]]


def _environment(threads: int, allocator: str) -> dict[str, str]:
    """Environment of every measured process."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if allocator == "auto":
        found = (ctypes.util.find_library(name) for name in ("tcmalloc_minimal", "tcmalloc"))
        allocator = next(filter(None, found), "system")
    if allocator != "system":
        environment["LD_PRELOAD"] = allocator
    return environment


def _in_own_process(task: Task, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", json.dumps(asdict(task))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


# --- data ------------------------------------------------------------------------------------------------


def _events(data: Data, source: Path | None, *, quick: bool) -> pl.DataFrame:
    users = data.quick_users if quick else data.users
    if source is None:
        return make_events(data, users)
    events = pl.read_parquet(source / data.folder / "events.parquet").drop_nulls("position")
    chosen = events["user_id"].unique(maintain_order=True).head(users)
    return events.filter(pl.col("user_id").is_in(chosen.implode())).select("user_id", "item_id", "position")


def make_events(data: Data, users: int) -> pl.DataFrame:
    """Make histories of log-normal length over Zipf-popular items; most of a user's are of one kind."""
    random = np.random.default_rng(0)
    lengths = data.median_length * np.exp(data.spread * random.standard_normal(users))
    lengths = np.maximum(lengths.astype(np.int64), data.shortest)
    owners = np.repeat(np.arange(users), lengths)
    weights = np.cumsum(1 / np.arange(10, data.items + 10))
    items = np.searchsorted(weights, random.random(len(owners)) * weights[-1])
    kinds = random.integers(0, 50, users)[owners]
    is_own_kind = random.random(len(owners)) < 0.7
    items = np.where(is_own_kind, np.minimum(items // 50 * 50 + kinds, data.items - 1), items)
    positions = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return pl.DataFrame({"user_id": owners, "item_id": items, "position": positions})


def _prepare(folder: Path, events: pl.DataFrame) -> None:
    """Write a polyvec Dataset and, for the peer, the same histories as plain arrays."""
    from polyvec.data.prepare import PrepareOptions, prepare

    dataset = prepare(events, folder / "dataset", options=PrepareOptions(order="position"))
    np.save(folder / "items.npy", np.asarray(dataset.item_rows, dtype=np.int64))
    np.save(folder / "offsets.npy", np.asarray(dataset.user_offsets, dtype=np.int64))


def _histories(folder: str) -> tuple[Rows, Rows]:
    """Item of every event, and where each user's events begin; ``[E], [U + 1]``."""
    return np.load(Path(folder) / "items.npy"), np.load(Path(folder) / "offsets.npy")


def tokens_per_epoch(offsets: Rows, max_length: int) -> int:
    """Events that an epoch trains on: the latest ``max_length`` of every user but those held out."""
    return int(np.clip(np.diff(offsets) - HELD_OUT, 0, max_length).sum())


# --- one measurement -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """What a system hands back: seconds of its epochs, its counted tokens, and a function that ranks."""

    epoch_seconds: list[float]
    tokens: int
    precision: str
    rank: Callable[[int], Rows]


def _measure(task: Task) -> dict[str, Any]:
    """Train one system; every figure but those of its own epochs comes from this code."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    train = _train_polyvec if task.system.startswith("polyvec") else _train_rectools
    contender = train(task, SYSTEMS[task.system])  # imports and set-up
    start = time.perf_counter()
    trained = contender()
    fit_seconds, rss_mb = time.perf_counter() - start, _peak_rss_mb()
    items, offsets = _histories(task.folder)
    expected = tokens_per_epoch(offsets, task.max_length)
    if abs(trained.tokens - expected) > 0.001 * expected:
        sys.exit(f"{task.system} trained on {trained.tokens} events per epoch, not on {expected}")
    measured = trained.epoch_seconds[1:]
    return {
        "tokens_per_s": expected * len(measured) / sum(measured),
        "fit_seconds": fit_seconds,
        "rss_mb": rss_mb,
        "ndcg10": ndcg(trained.rank(0), _targets(items, offsets, 0)),
        "ndcg10_validation": ndcg(trained.rank(1), _targets(items, offsets, 1)),
        "precision": trained.precision,
        "allocator": _allocator(),
    }


def _targets(items: Rows, offsets: Rows, skip: int) -> Rows:
    return items[offsets[1:] - 1 - skip]


def ndcg(ranked_UK: Rows, targets_U: Rows) -> float:
    """NDCG with one relevant item per user: 1 / log2(1 + rank), 0 where it is not ranked; mean over users."""
    hits_UK = ranked_UK == targets_U[:, None]
    return float((hits_UK / np.log2(np.arange(2, ranked_UK.shape[1] + 2))).sum(axis=1).mean())


def _train_polyvec(task: Task, variant: dict[str, str]) -> Callable[[], Trained]:
    import torch

    from polyvec.data.dataset import Dataset
    from polyvec.systems.guim import GUIMConfig, fit
    from polyvec.training.options import TrainingOptions
    from polyvec.training.precision import choose_precision

    dataset = Dataset.open(Path(task.folder) / "dataset")
    model_path = Path(task.folder) / f"{task.system}-{task.seed}.model"
    config = GUIMConfig(
        num_vectors=1,
        width=WIDTH,
        id_width=WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        dropout=task.dropout,
        masking=MASKING,
        matching_weight=0.0,
        masked_weight=1.0,
        weighting="pairs",
        negatives=variant["negatives"],  # type: ignore[arg-type]
        max_length=task.max_length,
    )
    options = TrainingOptions(
        epochs=task.epochs,
        batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        warmup=0.02,
        final_rate=1.0,
        seed=task.seed,
        precision=variant["precision"],  # type: ignore[arg-type]
        device="cpu",
    )
    precision = choose_precision(options.precision, torch.device("cpu"))

    def run() -> Trained:
        model = fit(dataset, model_path, config, options, held_back=HELD_OUT, validation="none")
        lines = (model_path / "training.jsonl").read_text("utf-8").splitlines()
        epochs = [record for record in map(json.loads, lines) if record["event"] == "epoch"]
        return Trained(
            epoch_seconds=[record["seconds"] for record in epochs],
            tokens=round(epochs[-1]["tokens_per_s"] * epochs[-1]["seconds"]),
            precision=precision,
            rank=lambda skip: _rank_polyvec(model, dataset, skip),
        )

    return run


def _rank_polyvec(model: Any, dataset: Any, skip: int) -> Rows:
    """Top items by cosine; whatever the history holds is taken out."""
    import torch
    from torch.nn.functional import normalize

    from polyvec.data.split import leave_last_out

    windows = leave_last_out(dataset, skip)
    items_ND = normalize(torch.from_numpy(model.encode_items(dataset.item_table)), dim=-1)
    users_UD = normalize(torch.from_numpy(model.encode_users(dataset, windows))[:, 0], dim=-1)
    ranked = []
    for block, users_BD in enumerate(users_UD.split(1024)):
        scores_BN = users_BD @ items_ND.T
        for row, scores_N in enumerate(scores_BN, start=block * 1024):
            seen = dataset.item_rows[windows.history_start[row] : windows.history_end[row]]
            scores_N[torch.from_numpy(np.asarray(seen, dtype=np.int64))] = -torch.inf
        ranked.append(scores_BN.topk(min(TOP, len(items_ND))).indices.numpy())
    return np.concatenate(ranked)


def _train_rectools(task: Task, variant: dict[str, str]) -> Callable[[], Trained]:
    import warnings

    import pytorch_lightning
    from rectools.models import BERT4RecModel

    warnings.filterwarnings("ignore")
    pytorch_lightning.seed_everything(task.seed)
    items, offsets = _histories(task.folder)
    dataset = _rectools_dataset(items, offsets, HELD_OUT)
    model = BERT4RecModel(
        n_blocks=LAYERS,
        n_heads=HEADS,
        n_factors=WIDTH,
        dropout_rate=task.dropout,
        mask_prob=MASKING,
        session_max_len=task.max_length,
        loss="softmax",
        lr=LEARNING_RATE,
        batch_size=BATCH,
        recommend_torch_device="cpu",
        get_trainer_func=_lightning_trainer,
        get_trainer_func_kwargs={"epochs": task.epochs, "precision": variant["precision"]},
    )

    def run() -> Trained:
        model.fit(dataset)
        stopwatch = model.fit_trainer.callbacks[0]
        return Trained(
            epoch_seconds=stopwatch.seconds,
            tokens=stopwatch.tokens,
            precision=variant["precision"],
            rank=lambda skip: _rank_rectools(model, items, offsets, skip),
        )

    return run


def _rectools_dataset(items: Rows, offsets: Rows, held_out: int) -> Any:
    """Make the peer's dataset of all events but the last ``held_out`` of every user."""
    import pandas as pd
    from rectools.dataset import Dataset

    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    places = np.arange(len(items))
    is_kept = places < np.repeat(offsets[1:] - held_out, np.diff(offsets))
    table = pd.DataFrame({"user_id": users, "item_id": items, "weight": 1.0})
    table["datetime"] = pd.Timestamp("2000-01-01") + pd.to_timedelta(places - offsets[users], unit="s")
    return Dataset.construct(table[is_kept].reset_index(drop=True))


def _lightning_trainer(epochs: int, precision: str) -> Any:
    """RecTools' default trainer, on the CPU, with a stopwatch."""
    from pytorch_lightning import Callback, Trainer

    class Stopwatch(Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.tokens = 0

        def on_train_epoch_start(self, *_: Any) -> None:
            self.tokens, self.start = 0, time.perf_counter()

        def on_train_batch_start(self, _trainer: Any, _module: Any, batch: Any, _index: int) -> None:
            self.tokens += int((batch["x"] != 0).sum())  # 0 is padding

        def on_train_epoch_end(self, *_: Any) -> None:
            self.seconds.append(time.perf_counter() - self.start)

    return Trainer(
        max_epochs=epochs,
        min_epochs=epochs,
        accelerator="cpu",
        devices=1,
        precision=precision,
        callbacks=[Stopwatch()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _rank_rectools(model: Any, items: Rows, offsets: Rows, skip: int) -> Rows:
    """Top items by RecTools' own ``recommend``; −1 where it has no answer."""
    users = np.arange(len(offsets) - 1)
    answers = model.recommend(
        users=users,
        dataset=_rectools_dataset(items, offsets, 1 + skip),
        k=TOP,
        filter_viewed=True,
        on_unsupported_targets="ignore",
    )
    ranked_UK = np.full((len(users), TOP), -1, dtype=np.int64)
    ranked_UK[answers["user_id"], answers["rank"] - 1] = answers["item_id"]
    return ranked_UK


def _peak_rss_mb() -> int:
    """Largest resident memory of this process: on Linux without that of the process it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) // 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 1024)


def _allocator() -> str:
    """Which allocator is really in this process."""
    maps = Path("/proc/self/maps")
    loaded = maps.read_text() if maps.exists() else ""
    names = [name for name in ("tcmalloc", "jemalloc", "mimalloc") if name in loaded]
    return "+".join(names) or "system"


# --- report ----------------------------------------------------------------------------------------------


def ratios(ours: list[dict[str, Any]], peer: list[dict[str, Any]], figure: str) -> list[float]:
    """Ours over the peer's, round by round."""
    return [one[figure] / other[figure] for one, other in zip(ours, peer, strict=False)]


def summarise(results: dict[str, dict[str, list[dict[str, Any]]]], setting: dict[str, Any]) -> dict[str, Any]:
    """All figures of the last line."""
    summary: dict[str, Any] = {}
    for name, runs in results.items():
        peer = runs["rectools"]
        summary[f"ratio_{name}"] = round(median(ratios(runs["polyvec"], peer, "tokens_per_s")), 2)
        summary[f"ratio_{name}_whole_fit"] = round(median(ratios(peer, runs["polyvec"], "fit_seconds")), 2)
        summary[f"rss_ratio_{name}"] = round(median(ratios(runs["polyvec"], peer, "rss_mb")), 2)
        for system in runs.keys() - set(MAIN):
            key = f"ratio_{name}_{system.removeprefix('polyvec_')}"
            summary[key] = round(median(ratios(runs[system], peer, "tokens_per_s")), 2)
    summary |= {
        figure: _table(results, figure, across, digits)
        for figure, across, digits in [
            ("tokens_per_s", median, None),
            ("rss_mb", median, None),
            ("ndcg10", mean, 4),
            ("ndcg10_validation", mean, 4),
        ]
    }
    main = {system: runs[0] for system, runs in next(iter(results.values())).items()}
    summary["precision"] = {system: run["precision"] for system, run in main.items()}
    summary["allocator"] = main["polyvec"]["allocator"]
    return summary | setting | {"versions": {name: version(name) for name in PACKAGES}}


def _table(
    results: dict[str, dict[str, list[dict[str, Any]]]],
    figure: str,
    across: Callable[[list[float]], float],
    digits: int | None,
) -> dict[str, dict[str, float]]:
    return {
        name: {
            system: round(across([run[figure] for run in measured]), digits)
            for system, measured in runs.items()
        }
        for name, runs in results.items()
    }


def _report(results: dict[str, dict[str, list[dict[str, Any]]]], setting: dict[str, Any]) -> None:
    summary = summarise(results, setting)
    print(
        f"{setting['data']} data, {setting['epochs']} epochs, {setting['threads']} threads, allocator "
        f"{summary['allocator']}, load average at the start {setting['load']:.2f}"
    )
    print(f"{'':28}{'tokens/s':>10}{'(from – to)':>18}{'ratio':>7}{'RSS MiB':>9}{'NDCG@10':>9}")
    for name, runs in results.items():
        for system, measured in runs.items():
            speeds = [run["tokens_per_s"] for run in measured]
            ratio = median(ratios(measured, runs["rectools"], "tokens_per_s"))
            spread = f"({min(speeds):,.0f} – {max(speeds):,.0f})"
            print(
                f"{name + ' ' + system:28}{median(speeds):>10,.0f}{spread:>18}{ratio:>7.2f}"
                f"{summary['rss_mb'][name][system]:>9,.0f}{summary['ndcg10'][name][system]:>9.4f}"
            )
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
