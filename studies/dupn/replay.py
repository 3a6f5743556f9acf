"""Days go by: a model that is updated every day, beside one that is frozen and one that is trained anew.

    python studies/dupn/replay.py DATA --out studies/dupn [--sets …] [--seeds 3]
    python studies/dupn/replay.py --quick

DATA holds ``taobao_behaviour`` (buy, cart and favourite of nine days, from Taobao's UserBehavior data) and
``uci_online_retail`` (UCI Online Retail II, D. Chen, CC BY 4.0), as Parquet. Every run becomes a line of
OUT/replay.jsonl, and so does every try and every period of what is not updated; what stands there is not made
again, and a run that was stopped goes on with the period it was stopped in; replay.json is made anew of all
lines, and is what page.py reads. Without ``--out`` nothing is kept.

Protocol: a model is fitted on what came before the first moment, for the epochs that its last period found
best, and then foretells every period before it learns it (the first is learned, but not counted: until then
all three are one). *Frozen* never learns again; *updated* is what ``polyvec update`` makes, without a gate
and with nobody held out; *anew* is fitted on everything so far, for as many epochs. All are asked the same
questions. How to update (the learning rate, in parts of that of the fit, the passes, and how many earlier
samples are rehearsed with each new one) was chosen by seed 0 on periods before the first moment, among ways
of at most eight times the steps of one pass. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from sets import taobao

import polyvec
from polyvec.artifact import copy_whole
from polyvec.data.dataset import days, parse_date
from polyvec.data.split import has_events
from polyvec.evaluation.runs import add_run, over_runs, read_runs
from polyvec.systems import dupn
from polyvec.systems.dupn import DUPN, DUPNConfig, Task
from polyvec.systems.dupn.features import Encoder
from polyvec.systems.dupn.objective import Validator
from polyvec.systems.dupn.tasks import samples_of
from polyvec.systems.updating import UpdateOptions, one_pass
from polyvec.training.options import TrainingOptions

COMMAND = "python studies/dupn/replay.py DATA --out studies/dupn"
TRIED = [
    *((rate, passes, 0.0) for rate in (0.3, 1.0) for passes in (1, 2, 4, 8)),
    *((1.0, passes, 1.0) for passes in (1, 2, 4)),
    *((1.0, passes, 3.0) for passes in (1, 2)),
]
"""Rate, passes and samples that are rehearsed with each new one."""
WAYS = ("frozen", "updated", "anew")
QUESTIONS = 5_000_000  # seed of what is drawn


@dataclass(frozen=True)
class Replay:
    """A log, and how it is played.

    Attributes
    ----------
    source
        Public name.
    prepare
        Makes the Dataset in a folder of what lies in DATA.
    tasks, changes, training
        Of the model.
    begin
        First moment, a date: what came before is fitted.
    period
        Days between moments.
    periods
        That are learned and foretold.
    anew_every
        Periods between models that are trained anew.
    earlier
        Periods before ``begin`` on which updating is chosen: the model is fitted before them, updated with
        the first half of them, and judged by the others.
    """

    source: str
    prepare: Callable[[Path, Path], object]
    tasks: dict[str, Task]
    begin: str
    period: int
    periods: int
    changes: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    anew_every: int = 1
    earlier: int = 2

    def moment(self, number: int) -> int:
        """Begin of a period, the first is 0."""
        return parse_date(self.begin) + number * days(self.period)

    def settings(self, seed: int) -> tuple[DUPNConfig, TrainingOptions]:
        """Of the model."""
        config, options = dupn.default()
        config = replace(config, tasks=self.tasks, validation_days=self.period, **self.changes)
        return config, replace(options, seed=seed, **self.training)


def _retail(data: Path, out: Path) -> object:
    """One user in five."""
    folder = data / "uci_online_retail"
    items = pl.read_parquet(folder / "items.parquet").select("item_id", "title")
    events = pl.read_parquet(folder / "events.parquet").filter(pl.col("user_id") % 5 == 0)
    return polyvec.prepare(events, out, items=items)


def _synthetic(_: Path, out: Path) -> object:
    from polyvec.cli.main import main

    shop = out.with_suffix(".shop")
    sizes = ["--users", "200", "--items", "300", "--events", "10000", "--days", "60"]
    try:
        main(["synth", "--out", str(shop), *sizes])
    except SystemExit as stopped:
        if stopped.code:
            raise
    return polyvec.prepare(shop / "events.parquet", out, items=shop / "items.parquet")


SMALL = {"width": 64, "head_width": 64, "item_width": 64}
SETS = {
    "taobao": Replay(
        "Taobao UserBehavior (buy, cart, favourite)", taobao,
        {
            "next": Task("next", action="buy"), "click": Task("item", action="buy"),
            "action": Task("class", action="", column="action"),
        },
        "2017-11-29", 1, 5, {"max_length": 50} | SMALL,
        {"epochs": 6, "patience": 1, "learning_rate": 1e-3},
    ),
    "online_retail": Replay(
        "UCI Online Retail II (D. Chen, CC BY 4.0)", _retail,
        {"next": Task("next"), "click": Task("item")},  # levels of prices learned anew would be others
        "2010-12-13", 7, 49, {"max_length": 50, "item_fields": ()} | SMALL,
        {"epochs": 6, "patience": 1, "batch_size": 1024},
        anew_every=12, earlier=8,
    ),
    "synthetic": Replay(
        "polyvec synth", _synthetic,
        {"next": Task("next"), "action": Task("class", action="", column="action")},
        "2024-02-12", 5, 2, {"max_length": 20} | SMALL, {"epochs": 1}, earlier=2,
    ),
}  # fmt: skip


def worth_of(model: DUPN, dataset: polyvec.Dataset, start: int, stop: int) -> dict[str, float]:
    """What a model's answers of a period are worth, task by task."""
    length = model.config.max_length
    samples = {
        name: samples_of(dataset, task, known, start, stop, QUESTIONS, length)
        for name, (task, known) in model.tasks.items()
    }
    samples = {name: some for name, some in samples.items() if len(some)}
    tasks = {name: task for name, (task, _) in model.tasks.items()}
    values = Validator(model.network, tasks, samples, Encoder.of(dataset, model.fields))()
    return {name: round(value, 5) for name, value in values.items()}


def fitted(
    dataset: polyvec.Dataset, out: Path, replay: Replay, seed: int, until: int, epochs: int = 0
) -> DUPN:
    """Fit on what came before a moment; for ``epochs`` epochs, or those that the last period finds best.

    The learning rate runs out at the end of these epochs in either case.
    """
    config, options = replay.settings(seed)
    if not epochs:
        first = out.with_name(f"{out.name} first")
        found = dupn.fit(dataset, first, config, options, until=until, overwrite=True)
        epochs = told(found)["best_epoch"] + 1
    options = replace(options, epochs=epochs)
    return dupn.fit(dataset, out, config, options, until=until, validation="none", overwrite=True)


def told(model: DUPN) -> dict[str, Any]:
    """Entries of the manifest."""
    return model.manifest.meta if model.manifest else {}


def way_of(model: DUPN, rate: float, passes: int, rehearsal: float) -> tuple[TrainingOptions, UpdateOptions]:
    """How to update; everybody is learned from."""
    options = model.options
    training = replace(one_pass(options), learning_rate=options.learning_rate * rate, epochs=passes)
    return training, UpdateOptions(share=0.0, rehearsal=rehearsal)


def choose(dataset: polyvec.Dataset, scratch: Path, name: str, file: Path) -> dict[str, Any]:
    """The way of updating whose model foretells best what came before the first moment."""
    replay = SETS[name]
    learned = replay.earlier // 2
    done = {
        line["tried"]: line["values"] for line in read_runs(file) if line["set"] == name and "tried" in line
    }
    begin = fitted(dataset, scratch / "begin", replay, 0, replay.moment(-replay.earlier))
    for rate, passes, rehearsal in TRIED:
        told = f"{rate:g}, {passes}, {rehearsal:g}"
        if told in done:
            continue
        path = shutil.copytree(scratch / "begin", scratch / "tried", dirs_exist_ok=False)
        model, (training, how) = begin, way_of(begin, rate, passes, rehearsal)
        for number in range(-replay.earlier, -learned):
            model = dupn.update(path, dataset, training, how, until=replay.moment(number + 1), gate=False)
        shutil.rmtree(path)
        shutil.rmtree(path.with_name("tried.versions"))
        done[told] = worth_of(model, dataset, replay.moment(-learned), replay.moment(0))
        add_run(file, {"set": name, "tried": told, "values": done[told]})
    frozen = worth_of(begin, dataset, replay.moment(-learned), replay.moment(0))
    best = max(done, key=lambda told: float(np.mean(list(done[told].values()))))
    rate, passes, rehearsal = map(float, best.split(", "))
    way = {"rate": rate, "passes": int(passes), "rehearsal": rehearsal}
    return way | {"tried": done, "frozen": frozen, "epochs": begin.options.epochs}


def play(
    dataset: polyvec.Dataset, scratch: Path, name: str, seed: int, chosen: dict[str, Any], file: Path
) -> dict[str, Any]:
    """All periods, by all three; those that the folder has the figures of are not played again."""
    scratch.mkdir(parents=True, exist_ok=True)
    replay, path, played = SETS[name], scratch / "updated", scratch / "periods.jsonl"
    if (scratch / "frozen").exists():
        frozen = DUPN.open(scratch / "frozen")
    else:
        frozen = fitted(dataset, scratch / "frozen", replay, seed, replay.moment(0))
    if not path.exists():
        copy_whole(scratch / "frozen", path)
    references = {
        line["period"]: line["reference"]
        for line in read_runs(file)
        if line["set"] == name and line.get("seed") == seed and "reference" in line
    }
    training, how = way_of(frozen, chosen["rate"], chosen["passes"], chosen["rehearsal"])
    for number in range(len(read_runs(played)) + 1, replay.periods):
        start, stop = replay.moment(number), replay.moment(number + 1)
        if number not in references:
            references[number] = reference(dataset, scratch / "anew", replay, seed, frozen, number)
            add_run(file, {"set": name, "seed": seed, "period": number, "reference": references[number]})
        updated = DUPN.open(path)
        if updated.trained_until < start and has_events(dataset, updated.trained_until, start):
            updated = dupn.update(path, dataset, training, how, until=start, gate=False)
        is_learned = updated.trained_until >= start  # not after a week of holidays
        cost = told(updated)["updates"][-1] if is_learned else {"steps": 0, "update_seconds": 0.0}
        line: dict[str, Any] = {
            "period": number,
            "updated": worth_of(updated, dataset, start, stop),
            "update steps": cost["steps"],
            "update seconds": cost["update_seconds"],
        }
        line |= references[number]
        add_run(played, line)
        print(json.dumps(line), file=sys.stderr, flush=True)
    return {"epochs": frozen.options.epochs, "periods": read_runs(played)}


def reference(
    dataset: polyvec.Dataset, path: Path, replay: Replay, seed: int, frozen: DUPN, number: int
) -> dict[str, Any]:
    """What a period is foretold like without updates: by the frozen model, and by one trained anew."""
    start, stop = replay.moment(number), replay.moment(number + 1)
    line: dict[str, Any] = {"frozen": worth_of(frozen, dataset, start, stop)}
    if (number - 1) % replay.anew_every == 0:
        anew = fitted(dataset, path, replay, seed, start, frozen.options.epochs)
        line["anew"] = worth_of(anew, dataset, start, stop)
        line["anew steps"], line["anew seconds"] = told(anew)["steps"], told(anew)["training_seconds"]
    return line


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over periods, with intervals over seeds; differences paired by period, counted where ahead."""
    found: dict[str, Any] = {}
    for task in runs[0]["periods"][0]["frozen"]:
        parts: dict[str, list[float]] = {}
        ahead: dict[str, list[bool]] = {}
        for run in runs:
            every = [line for line in run["periods"] if task in line["updated"]]
            both = [line for line in every if "anew" in line]
            for name, values in {
                "frozen": [line["frozen"][task] for line in every],
                "updated": [line["updated"][task] for line in every],
                "updated − frozen": [line["updated"][task] - line["frozen"][task] for line in every],
                "updated − anew": [line["updated"][task] - line["anew"][task] for line in both],
            }.items():
                parts.setdefault(name, []).append(float(np.mean(values)))
                ahead.setdefault(name, []).extend(value > 0 for value in values)
        found[task] = {name: over_runs(values) for name, values in parts.items()}
        for name in ("updated − frozen", "updated − anew"):
            found[task][name]["ahead"] = [sum(ahead[name]), len(ahead[name])]
    shares = []
    for run in runs:
        both = [line for line in run["periods"] if "anew" in line]
        shares.append(sum(line["update steps"] for line in both) / sum(line["anew steps"] for line in both))
    return {"tasks": found, "share of steps": over_runs(shares)}


def curves_of(runs: list[dict[str, Any]]) -> dict[str, dict[str, list[list[float]]]]:
    """By task and way: period and mean over seeds."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for same in zip(*[run["periods"] for run in runs], strict=True):
        for way in WAYS:
            for task in same[0].get(way, {}):
                values = [line[way][task] for line in same if task in line[way]]
                line = found.setdefault(task, {}).setdefault(way, [])
                line.append([same[0]["period"], round(float(np.mean(values)), 5)])
    return found


def collect(file: Path) -> dict[str, Any]:
    """Summary of every set in a file of runs."""
    lines, found = read_runs(file), {}
    for name in dict.fromkeys(line["set"] for line in lines):
        mine = [line for line in lines if line["set"] == name]
        chosen = next(line["chosen"] for line in mine if "chosen" in line)
        runs = [line["run"] for line in mine if "run" in line]
        if runs:
            found[name] = {"chosen": chosen, "seeds": len(runs)} | summary(runs) | {"curves": curves_of(runs)}
    return found


def main() -> None:
    """Play the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with the data sets")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=["taobao", "online_retail"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder of replay.jsonl")
    parser.add_argument("--quick", action="store_true", help="a synthetic shop, one seed: under a minute")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sets, arguments.seeds = ["synthetic"], 1
    elif arguments.data is None:
        parser.error("DATA is missing: the folder with the data sets, or --quick")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        file = (arguments.out or Path(scratch)) / "replay.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        for name in arguments.sets:
            play_set(name, arguments.data, Path(scratch), file, arguments.seeds)
        results = {"command": COMMAND, "sets": collect(file)}
        if arguments.out:
            text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
            (arguments.out / "replay.json").write_text(text, "utf-8")
        print(json.dumps(results))


def play_set(name: str, data: Path, scratch: Path, file: Path, seeds: int) -> None:
    """Choose how to update, and play all seeds that are missing."""
    replay = SETS[name]
    place = scratch / f"{name}.dataset"
    replay.prepare(data, place)
    dataset = polyvec.Dataset.open(place)
    done = [line for line in read_runs(file) if line["set"] == name]
    chosen = next((line["chosen"] for line in done if "chosen" in line), None)
    if chosen is None:
        chosen = choose(dataset, scratch, name, file)
        add_run(file, {"set": name, "chosen": chosen})
    for seed in range(seeds):
        if not any(line.get("seed") == seed and "run" in line for line in done):
            unfinished = file.with_name(f"{name}, {seed}, unfinished")
            run = play(dataset, unfinished, name, seed, chosen, file)
            add_run(file, {"set": name, "seed": seed, "run": run})
            shutil.rmtree(unfinished)


if __name__ == "__main__":
    main()
