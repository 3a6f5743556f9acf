"""GUIM's and DUPN's embeddings in one table with the simple methods: ``polyvec bench`` on public logs.

    python studies/systems/run.py DATA --keep FOLDER [--sets online_retail taobao] [--seeds 3]
    python studies/systems/run.py --quick

DATA holds ``uci_online_retail`` (UCI *Online Retail II*, D. Chen, CC BY 4.0,
https://doi.org/10.24432/C5CG6D) and ``taobao_behaviour`` (buy, cart and favourite of nine days, from Taobao's
UserBehavior data), as Parquet; ``--quick`` makes a synthetic shop instead.

All is done by the command line: ``prepare``; for each system and seed ``fit`` on what came before the
cut-off, with the last period before it as validation and trained again with it, and ``embed``; ``bench``. A
folder that stands in FOLDER is not made again. How a run comes to docs/leaderboard.md, stderr says at its
end. The last line of the output is one JSON object: recall@100 of every matching task, by method.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

DUPN = """
[dupn]
width = 64
item_width = 64
head_width = 64
{dupn}

[training]
epochs = {epochs}
batch_size = 1024
patience = 1
"""


@dataclass(frozen=True)
class Log:
    """A log, and how it is asked.

    Attributes
    ----------
    title, source
        For the leaderboard.
    folder
        Under DATA; empty for what is made up.
    read
        Writes events.parquet, and items.parquet where there is a catalogue, in a folder.
    cutoff
        The moment to ask at.
    bench
        Options of ``bench``.
    dupn
        Table [dupn] of its configuration, TOML.
    guim
        Options of ``fit guim``.
    epochs
        Of DUPN, at most.
    """

    title: str
    source: str
    folder: str
    read: Callable[[Path, Path], None]
    cutoff: str
    bench: tuple[str, ...]
    dupn: str
    guim: tuple[str, ...] = ()
    epochs: int = 1


def _retail(data: Path, out: Path) -> None:
    for name in ("events", "items"):
        pl.read_parquet(data / f"{name}.parquet").write_parquet(out / f"{name}.parquet")


def _taobao(data: Path, out: Path) -> None:
    """What has a time, by the days of Beijing."""
    events = pl.read_parquet(data / "events.parquet").drop_nulls("timestamp").drop("held_out_last_buy")
    events = events.with_columns(
        pl.col("timestamp").dt.offset_by("8h"), pl.col("action").replace("buy", "purchase")
    )
    events.write_parquet(out / "events.parquet")


def _synthetic(_: Path, out: Path) -> None:
    polyvec("synth", "--out", out / "shop", "--users", 200, "--items", 300, "--events", 8_000, "--days", 120)
    for name in ("events", "items"):
        (out / "shop" / f"{name}.parquet").rename(out / f"{name}.parquet")


SETS = {
    "online_retail": Log(
        "Online Retail II: systems",
        "Two years of a gift wholesaler: UCI Online Retail II (D. Chen, CC BY 4.0, "
        "<https://doi.org/10.24432/C5CG6D>).",
        "uci_online_retail", _retail, "2011-11-01", (),
        """
max_length = 30
item_fields = []
validation_days = 30
tasks.next = { kind = "next" }
tasks.price = { kind = "class", column = "price" }
tasks.churn = { kind = "window", days = 28 }
""",
    ),
    "taobao": Log(
        "Taobao user behaviour, nine days: systems",
        "Purchases, carts and favourites of nine days of 2017: Taobao's UserBehavior data (Alibaba Tianchi). "
        "GUIM reads purchases alone, DUPN all.",
        "taobao_behaviour", _taobao, "2017-12-02", ("--target-days", "1", "--history-days", "7"),
        """
max_length = 30
validation_days = 1
tasks.next = { kind = "next" }
tasks.action = { kind = "class", action = "", column = "action" }
""",
        ("--set", "history_days=7", "--set", "target_days=1"), epochs=2,
    ),
    "synthetic": Log(
        "Synthetic", "polyvec synth", "", _synthetic, "2024-03-31", (),
        'max_length = 20\nvalidation_days = 30\ntasks.next = { kind = "next" }',
        ("--set", "epochs=1"),
    ),
}  # fmt: skip


def polyvec(*words: object) -> dict[str, Any]:
    """Run the command line and return the JSON object that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "polyvec", *map(str, words), "--json"], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(done.returncode)  # the command has said why
    return dict(json.loads(done.stdout))


def measure(log: Log, data: Path, folder: Path, seeds: int) -> dict[str, Any]:
    """Make what is missing, and ask everything."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset, run, config = folder / "dataset", folder / "bench", folder / "dupn.toml"
    if not dataset.exists():
        log.read(data / log.folder, folder)
        items = ("--items", folder / "items.parquet") if (folder / "items.parquet").exists() else ()
        polyvec("prepare", folder / "events.parquet", *items, "--out", dataset)
    config.write_text(DUPN.format(dupn=log.dupn, epochs=log.epochs), "utf-8")
    given: list[object] = []
    for system, options in {"guim": log.guim, "dupn": ("--config", config)}.items():
        for seed in range(seeds):
            model, vectors = folder / f"{system}-{seed}", folder / f"{system}-{seed}.emb"
            if not vectors.exists():
                resume = ("--resume",) if model.with_name(f".{model.name}.run").exists() else ()
                until = ("--until", log.cutoff, "--overwrite")
                how = ("--validation", "window", "--refit", "--set", f"seed={seed}", *resume)
                polyvec("fit", system, dataset, "--out", model, *until, *how, *options)
                polyvec("embed", model, dataset, "--out", vectors, *until)
            given += ["--embeddings", f"{system.upper()}={vectors}"]
    return polyvec("bench", dataset, *given, "--cutoff", log.cutoff, *log.bench, "--out", run, "--overwrite")


def recalls(content: dict[str, Any]) -> dict[str, dict[str, float]]:
    """recall@100 by task and method."""
    found: dict[str, dict[str, float]] = {}
    for row in content["matching"]:
        if row["metric"] == "recall@100" and row["part"] == "all":
            found.setdefault(row["task"], {})[row["ranker"]] = round(row["value"], 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="?", help="folder with the data sets")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=["online_retail", "taobao"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder of what is made, by set; it is gone on with")
    parser.add_argument("--quick", action="store_true", help="a synthetic shop, one seed: under a minute")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sets, arguments.seeds, arguments.data = ["synthetic"], 1, Path()
    elif arguments.data is None or arguments.keep is None:
        parser.error("DATA or --keep is missing: the folder with the data sets, and one for what is made")
    results = {}
    with nullcontext(arguments.keep) if arguments.keep else tempfile.TemporaryDirectory() as scratch:
        for name in arguments.sets:
            log, folder = SETS[name], Path(scratch) / name
            results[name] = recalls(measure(log, arguments.data, folder, arguments.seeds))
            command = (
                f"python studies/systems/run.py DATA --keep FOLDER --sets {name} --seeds {arguments.seeds}"
            )
            words = ["--add", str(folder / "bench"), "--name", f"{name}_systems"]
            words += ["--title", log.title, "--source", log.source, "--command", command]
            print(f"python studies/leaderboard/run.py {shlex.join(words)}", file=sys.stderr)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
