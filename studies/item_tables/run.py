"""How few bytes may the item table have? Quality against bytes, for every kind of table.

    python studies/item_tables/run.py DATA --out studies/item_tables [--sets …] [--tables …] [--seeds 3]
    python studies/item_tables/page.py studies/item_tables

DATA holds ``uci_online_retail`` (UCI Online Retail II, D. Chen, CC BY 4.0) and ``amazon_beauty`` (Amazon
reviews 2014, 5-core, McAuley et al. 2015), each with events.parquet and items.parquet. Every model becomes a
line of OUT/runs.jsonl: the study can be stopped and started again, and run in parts; results.json is made
anew of all of them. Without ``--out`` nothing is kept.

Each table but ``full`` and ``int8`` is asked at 1/10, 1/50 and 1/200 of the full table's bytes: rows and
assignments together, codes and scales too. All models of a set are alike but for the table of item ids, and
trained for as many epochs. GUIM knows titles besides; SASRec knows nothing but ids. The test is asked by the
vectors alone, among all items: Online Retail in the 30 days from 2011-11-01, Beauty for the last two
(GUIM) or the last (SASRec) events of every user, items of the history left out. The last line printed is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

import polyvec
from polyvec.data.dataset import parse_time
from polyvec.data.options import PrepareOptions
from polyvec.data.split import leave_last_out
from polyvec.errors import UsageError
from polyvec.evaluation.rankers import EmbeddingsRanker
from polyvec.evaluation.runs import add_run, over_runs, read_runs, run_study, side_by_side
from polyvec.evaluation.tasks.comparison import ITEM_EVENTS, Question, answer
from polyvec.evaluation.tasks.matching import ask, questions
from polyvec.evaluation.tasks.next_item import without_seen
from polyvec.layers.tables import id_table, kept
from polyvec.systems import guim, sasrec

COMMAND = "python studies/item_tables/run.py DATA --out studies/item_tables"
RUNS = "runs.jsonl"
MODEL = "model"
ALPHA = 20.0  # of the default preset when the study began
SHARES = {"1/10": 10, "1/50": 50, "1/200": 200}
KINDS = ("clustered", "clustered_residual", "hash", "double_hash", "quotient_remainder", "popular")
MEASURES = [("all", "recall@100"), ("all", "ndcg@10"), *((part, "recall@100") for part in ITEM_EVENTS)]
QUICK_TABLES = ("full", "clustered 1/10")
QUICK_USERS = 250


@dataclass(frozen=True)
class DataSet:
    """A public data set and the system that learns it.

    Attributes
    ----------
    folder
        Under DATA.
    system
        ``guim`` or ``sasrec``.
    cutoff
        Data with timestamps: the 30 days from here on are foretold from the year before.
    targets
        Data with an order: so many last events of every user are foretold.
    changes, options
        To the default preset, for all tables alike.
    """

    folder: str
    system: str
    cutoff: str | None = None
    targets: int = 0
    changes: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def prepare(self, data: Path, out: Path, *, quick: bool) -> None:
        """Write the Dataset."""
        events = pl.read_parquet(data / self.folder / "events.parquet")
        items = pl.read_parquet(data / self.folder / "items.parquet")
        if self.cutoff is None:
            events = events.drop_nulls("position").select("user_id", "item_id", "position")
            items = items.select("item_id", pl.col("generated_text").alias("title"))
        if quick:
            users = events["user_id"].unique().sort().head(QUICK_USERS)
            events = events.filter(pl.col("user_id").is_in(users.implode()))
        order = None if self.cutoff else "position"
        polyvec.prepare(
            events, out, items=items.select("item_id", "title"), options=PrepareOptions(order=order)
        )

    def moment(self, dataset: polyvec.Dataset) -> dict[str, int]:
        """What fit and embed are told, so that they read nothing of the test."""
        if self.cutoff is None:
            return {"held_back": self.targets}
        return {"until": parse_time(self.cutoff, dataset)}

    def question(self, dataset: polyvec.Dataset) -> Question:
        """Everything of the month, or of the last events."""
        if self.cutoff is not None:
            return questions(dataset, parse_time(self.cutoff, dataset), 365, 30)[0]
        return ask("CMP-L", dataset, leave_last_out(dataset, 0, self.targets))


SETS = {
    "GUIM, Online Retail": DataSet(
        "uci_online_retail", "guim", cutoff="2011-11-01", changes={"alpha": ALPHA}, options={"epochs": 3}
    ),
    "GUIM, Beauty": DataSet(
        "amazon_beauty",
        "guim",
        targets=2,
        changes={"alpha": ALPHA, "target_events": 2, "num_cutoffs": 4, "max_length": 50},
        options={"epochs": 3},
    ),
    "SASRec, Beauty": DataSet(
        "amazon_beauty",
        "sasrec",
        targets=1,
        changes={"width": 128, "remove_seen": True},
        options={"epochs": 14},
    ),
}  # fmt: skip


def tables_of() -> list[str]:
    """Names of the tables: ``full``, ``int8``, and every kind at every share of the bytes."""
    return ["full", *(f"{kind} {share}" for share in SHARES for kind in KINDS)]


def settings(table: str, num_ids: int, width: int) -> dict[str, Any]:
    """Configuration of a table; its rows are the most that the bytes allow.

    Raises
    ------
    UsageError
        If no rows fit, or too few for ``quotient_remainder``.
    """
    if table == "full":
        return {}
    kind, share = table.split()
    budget = 4 * width * (num_ids + 1) // SHARES[share]
    if kind == "popular":
        return {"max_popular": budget // (4 * width) - 1}
    rows = range(2, num_ids)

    def size(count: int) -> int:
        try:
            return kept(id_table(kind, num_ids, count, width), kind).bytes()  # type: ignore[arg-type]
        except UsageError:
            return 0  # too few rows: more are needed

    fitting = bisect_right(rows, budget, key=size)
    if not fitting:
        raise UsageError(f"not two rows of {kind} fit into {budget:,} bytes: its assignments take more")
    id_table(kind, num_ids, rows[fitting - 1], width)  # type: ignore[arg-type]  # too few rows are refused
    return {"item_table": kind, "item_rows": rows[fitting - 1]}


def run_once(scratch: Path, name: str, table: str, seed: int, *, quick: bool) -> dict[str, dict[str, Any]]:
    """Train one model and ask it: figures by table; with the full table also those of int8. On one thread."""
    torch.set_num_threads(1)
    one = SETS[name]
    dataset = polyvec.Dataset.open(scratch / name).only_action()
    system = {"guim": guim, "sasrec": sasrec}[one.system]
    config, options = system.default()
    config, options = replace(config, **one.changes), replace(options, **one.options, seed=seed)
    if quick:
        config, options = replace(config, width=32, num_layers=1), replace(options, epochs=1)
    width = config.id_width if one.system == "guim" else config.width
    try:
        config = replace(config, **settings(table, dataset.num_items, width))
    except UsageError as error:
        return {table: {"refused": error.what}}
    moment = one.moment(dataset)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        model = system.fit(dataset, Path(folder) / "model", config, options, validation="none", **moment)
        figures = _ask(model, dataset, one, Path(folder) / "emb")
        if table != "full":
            return {table: figures}
        rounded = replace(model, config=replace(model.config, item_table="int8"))
        rounded.finish()
        return {"int8": _ask(rounded, dataset, one, Path(folder) / "int8"), table: figures}  # itself last


def _ask(model: Any, dataset: polyvec.Dataset, one: DataSet, out: Path) -> dict[str, Any]:
    embeddings = polyvec.embed(model, dataset, out, **one.moment(dataset))
    question = one.question(dataset)
    ranker = {MODEL: EmbeddingsRanker(embeddings, dataset)}
    asked = ranker if one.cutoff else without_seen(ranker, question, dataset)
    answers = answer(asked, question)
    found = {(key.part, key.metric): column for column, key in enumerate(answers.keys)}
    values = {
        f"{metric} {part}": float(np.nanmean(answers.values_BM[:, found[part, metric]]))
        for part, metric in MEASURES
        if (part, metric) in found
    }
    meta = model.meta
    return {
        "measures": values,
        "bytes": meta["item_table_bytes"],
        "rows": model.config.item_rows,
        "parameters": meta["parameters"],
    }


def read(out: Path) -> dict[str, dict[str, dict[int, dict[str, Any]]]]:
    """Figures of all models by set, table and seed; of several lines of one model the last."""
    found: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for line in read_runs(out / RUNS):
        found.setdefault(line["set"], {}).setdefault(line["table"], {})[line["seed"]] = line["figures"]
    return found


def collect(out: Path) -> dict[str, Any]:
    """``sets``, by set and table: measures over seeds, bytes and rows; what was refused, and why."""
    runs, found = read(out), {}
    for name in (one for one in SETS if one in runs):
        tables = ["full", "int8", *tables_of()[1:]]
        seeds = {table: dict(sorted(runs[name][table].items())) for table in tables if table in runs[name]}
        found[name] = {
            table: _summary(list(figures.values())) | {"seeds": list(figures)}
            for table, figures in seeds.items()
        }
    return {"sets": found}


def _summary(figures: list[dict[str, Any]]) -> dict[str, Any]:
    if "refused" in figures[0]:
        return {"refused": figures[0]["refused"]}
    measures = {
        key: over_runs([one["measures"][key] for one in figures])
        for key in figures[0]["measures"]
        if all(one["measures"].get(key) is not None for one in figures)  # null: nobody was asked
    }
    return {"measures": measures, "bytes": figures[0]["bytes"], "rows": figures[0]["rows"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--tables", nargs="+", help="names such as 'full' or 'clustered 1/50'; all without")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="models trained side by side, a thread each")
    parser.add_argument("--out", type=Path, help="folder of runs.jsonl and results.json")
    parser.add_argument("--quick", action="store_true", help="one set, few users, one epoch: under a minute")
    arguments = parser.parse_args()
    if arguments.out is None and not arguments.quick:
        parser.error("--out is missing: the folder in which finished models' figures are kept between calls")
    if arguments.out is not None and arguments.quick:
        parser.error("--quick trains small models for a moment: they are not kept, leave out --out")
    print(json.dumps(run_study(COMMAND, arguments.out, partial(train, arguments), collect)))


def train(arguments: argparse.Namespace, out: Path, scratch: Path) -> None:
    """Train what is missing: seed by seed, so that a stopped study has whole comparisons."""
    names = list(SETS)[:1] if arguments.quick else arguments.sets
    for name in names:
        files = [arguments.data / SETS[name].folder / f"{part}.parquet" for part in ("events", "items")]
        missing = [file for file in files if not file.is_file()]
        if missing:
            sys.exit(f"{missing[0]} does not exist: DATA holds {SETS[name].folder}/ with events and items")
        SETS[name].prepare(arguments.data, scratch / name, quick=arguments.quick)
    done = read(out)
    tasks = [
        (name, table, seed)
        for seed in range(1 if arguments.quick else arguments.seeds)
        for name in names
        for table in (QUICK_TABLES if arguments.quick else arguments.tables or tables_of())
        if seed not in done.get(name, {}).get(table, {})
    ]
    work = partial(run_once, scratch, quick=arguments.quick)
    for (name, _, seed), found in side_by_side(work, tasks, arguments.workers):
        for table, figures in found.items():
            add_run(out / RUNS, {"set": name, "table": table, "seed": seed, "figures": figures})


if __name__ == "__main__":
    main()
