"""Whether one ranker of many scenarios beats one of each, one of all, and other ways to share.

    python studies/saml/run.py DATA --out studies/saml [--sets …] [--methods …] [--seeds 5] [--workers 2]
    python studies/saml/page.py studies/saml

DATA holds ``movielens_1m`` (GroupLens; events, users, items), ``xmarket_electronics`` (XMarket, Bonab et al.
2021) and ``uci_online_retail`` (UCI Online Retail II, D. Chen, CC BY 4.0), as Parquet. Planted sets are made
by sets.py. Every run becomes a line of OUT/runs.jsonl: the study can be stopped and started again, and run in
parts; results.json is made anew of all lines. Without ``--out`` nothing is kept.

Protocol: every method has the same samples, features and widths. Learning rate and dropout are chosen by seed
0 on validation, out of the same settings, by variants of SAML or the mixed network those of it; with these
every seed is trained, and asked the test once. Planted logs are planted anew for every seed. The last line
printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from methods import METHODS, PRESETS, SETTINGS, Variant
from sets import SETS, DataSet

import polyvec
from polyvec.data.dataset import days, parse_date
from polyvec.data.offers import EVER, draw_offers, labels_of
from polyvec.evaluation.runs import over_runs, side_by_side
from polyvec.evaluation.scenarios import area_under_curve, measures
from polyvec.evaluation.tuned_runs import Job, TunedRuns
from polyvec.systems import saml
from polyvec.systems.saml.features import Encoder, Fields
from polyvec.systems.saml.fit import VALIDATION_SEED, Lessons, train
from polyvec.systems.saml.objective import predict
from polyvec.systems.saml.samples import Samples, scenarios_of, taken_before
from polyvec.systems.saml.score import TEST_SEED, mean_shares

HISTORY = {"0": (0, 0), "1–5": (1, 5), "over 5": (6, 2**31)}
HELD_OUT = 10  # last events of every user that are the test of ordered data, and as many before that choose
QUICK = ("mixed", "SAML")


@dataclass(frozen=True)
class Parts:
    """Samples to learn from, to choose by, and the test."""

    training: Samples
    validation: Samples
    test: Samples

    def of(self, names: list[str], chosen: tuple[str, ...]) -> Parts:
        """The same samples of one scenario alone, which is then the first."""
        place = names.index(chosen[0])
        return self.map(lambda samples: samples.of_scenario(place).said_to_be_of(0))

    def map(self, change: Callable[[Samples], Samples]) -> Parts:
        """Parts that were changed."""
        return Parts(*(change(part) for part in (self.training, self.validation, self.test)))


def run_once(scratch: Path, name: str, method: str, number: int, seed: int, *, quick: bool) -> dict[str, Any]:
    """Train one method with one setting and ask the test. On one thread."""
    torch.set_num_threads(1)
    one, variant = SETS[name], METHODS[method]
    dataset = polyvec.Dataset.open(place_of(scratch, name, seed))
    config, options = PRESETS[variant.preset]()
    setting = SETTINGS[number]
    config = replace(config, **(one.changes | variant.changes), dropout=setting["dropout"])
    options = replace(options, **one.training, seed=seed, learning_rate=setting["learning_rate"])
    if quick:
        options = replace(options, epochs=1)
    names = scenarios_of(dataset, config)
    if variant.widened:
        config = replace(config, global_width=config.global_width + len(names) * config.specific_width)
    alone = [replace(config, scenarios=(scenario,)) for scenario in names] if variant.separate else [config]
    parts = split(dataset, one, config, names, seed)
    found = [
        trained(
            dataset, parts.of(names, each.scenarios) if variant.separate else parts, each, options, variant
        )
        for each in alone
    ]
    return joined(names, found)


def place_of(scratch: Path, name: str, seed: int) -> Path:
    """The Dataset of a set; what is planted is another one for every seed."""
    return scratch / f"{name}, {seed}" if SETS[name].is_planted else scratch / name


def trained(
    dataset: polyvec.Dataset, parts: Parts, config: saml.SAMLConfig, options: Any, variant: Variant
) -> dict[str, Any]:
    """What a model says of validation and test."""
    names, truth = scenarios_of(dataset, config), parts.test.offers.scenarios
    if variant.shuffled:
        parts = shuffled(parts, dataset.num_users, options.seed)
    fields = Fields.learn(dataset, parts.training, config)
    lessons = Lessons(
        names, fields, parts.training, parts.validation, labels_of(dataset, config), 0, dataset.time_kind, 0
    )
    with tempfile.TemporaryDirectory() as folder:
        model = lessons.untrained(config, options)
        model, progress = train(dataset, lessons, model, Path(folder) / "run")
    encoder, offers = Encoder.of(dataset, fields), parts.test.offers
    logits, shares = predict(model.network, parts.test, encoder)
    logits = model.calibrated(logits)
    lengths = parts.test.stop - parts.test.start
    by_scenario: dict[str, dict[str, float]] = {}
    for place, scenario in enumerate(names):
        mine = truth == place
        by_scenario[scenario] = measures(offers.labels[mine], logits[mine], offers.users[mine])
        for part, (least, most) in HISTORY.items():
            among = mine & (lengths >= least) & (lengths <= most)
            if len(np.unique(offers.labels[among])) == 2:
                area = area_under_curve(offers.labels[among], logits[among])
                by_scenario[scenario][f"auc, history {part}"] = area
    return {
        "validation": progress.best,
        "by_scenario": by_scenario,
        "together": area_under_curve(offers.labels, logits),
        "shares": mean_shares(names, truth, shares),
        "parameters": model.meta["parameters"],
        "epoch": progress.best_epoch,
        "seconds": progress.seconds,
    }


def joined(names: list[str], found: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of one model, or of one for each scenario; and their means over scenarios."""
    by_scenario = {
        name: one["by_scenario"][name] for one in found for name in names if name in one["by_scenario"]
    }
    weights = [figures["samples"] for figures in by_scenario.values()]
    areas = [figures["auc"] for figures in by_scenario.values()]
    return {
        "validation": float(np.mean([one["validation"] for one in found])),
        "auc": float(np.nanmean(areas)),
        "auc by samples": float(np.average(areas, weights=weights)),
        "gauc": float(np.nanmean([figures["gauc"] for figures in by_scenario.values()])),
        "log_loss": float(np.mean([figures["log_loss"] for figures in by_scenario.values()])),
        "by_scenario": by_scenario,
        "together": found[0]["together"] if len(found) == 1 else None,
        "shares": found[0]["shares"] if len(found) == 1 else {},
        "parameters": sum(one["parameters"] for one in found),
        "epoch": max(one["epoch"] for one in found),
        "seconds": sum(one["seconds"] for one in found),
    }


def split(
    dataset: polyvec.Dataset, one: DataSet, config: saml.SAMLConfig, names: list[str], seed: int
) -> Parts:
    """Samples of the three parts; rows that are split at random are so anew with every seed."""
    past = taken_before(dataset, config)

    def samples(start: int, stop: int, drawn: int) -> Samples:
        offers = draw_offers(dataset, config, names, start, stop, drawn)
        return Samples.of(offers, dataset, past, config.max_length)

    if one.split == "random":
        everything = samples(EVER, 0, seed)
        order = np.random.default_rng(seed).permutation(len(everything))
        tenth = len(order) // 10
        return Parts(
            everything.take(order[2 * tenth :]),
            everything.take(order[:tenth]),
            everything.take(order[tenth : 2 * tenth]),
        )
    if one.split == "order":
        bounds = (-2 * HELD_OUT, -HELD_OUT, 0)
    else:
        cutoff = parse_date(one.cutoff)
        bounds = (cutoff - days(config.validation_days), cutoff, parse_date(one.end))
    first, second, third = bounds
    return Parts(
        samples(EVER, first, seed), samples(first, second, VALIDATION_SEED), samples(second, third, TEST_SEED)
    )


def shuffled(parts: Parts, num_users: int, seed: int) -> Parts:
    """The same samples, every user's in the scenario of another user, drawn at random."""
    of_user = np.full(num_users, -1)
    for part in (parts.test, parts.validation, parts.training):
        of_user[part.offers.users] = part.offers.scenarios
    known = np.flatnonzero(of_user >= 0)
    of_user[known] = np.random.default_rng(seed).permutation(of_user[known])
    return parts.map(lambda samples: samples.said_to_be_of(of_user[samples.offers.users]))


def settings_of(_: str, method: str) -> tuple[int, str]:
    """How many settings there are, and the method that is tried with them."""
    return len(SETTINGS), METHODS[method].tuned_as or method


def collect(runs: TunedRuns) -> dict[str, Any]:
    """By set and method: the chosen setting, and figures over seeds."""
    found: dict[str, Any] = {}
    for name, method in product(SETS, METHODS):
        number, by_seed = runs.by_seed(name, method)
        if number is not None and by_seed:
            summary = _summary(list(by_seed.values()), number) | {"seeds": list(by_seed)}
            found.setdefault(name, {})[method] = summary
    return found


def _summary(figures: list[dict[str, Any]], number: int) -> dict[str, Any]:
    scenarios = figures[0]["by_scenario"]
    keys = ("auc", "auc by samples", "gauc", "log_loss", "together", "validation", "seconds")
    return {
        "setting": SETTINGS[number],
        **{key: over_runs([one[key] for one in figures]) for key in keys if figures[0][key] is not None},
        "by_scenario": {
            scenario: {
                key: over_runs([one["by_scenario"][scenario][key] for one in figures])
                for key in scenarios[scenario]
                if all(key in one["by_scenario"][scenario] for one in figures)
            }
            for scenario in scenarios
        },
        "shares": {
            scenario: {
                other: over_runs([one["shares"][scenario][other] for one in figures], digits=4)
                for other in others
            }
            for scenario, others in figures[0]["shares"].items()
        },
        "parameters": figures[0]["parameters"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="models trained side by side, a thread each")
    parser.add_argument("--out", type=Path, help="folder of runs.jsonl and results.json")
    parser.add_argument("--quick", action="store_true", help="what is planted, two methods: under a minute")
    arguments = parser.parse_args()
    if arguments.out is None and not arguments.quick:
        parser.error("--out is missing: the folder in which finished runs are kept between calls")
    if arguments.quick:
        arguments.sets, arguments.methods, arguments.seeds = ["planted"], list(QUICK), 1
        del SETTINGS[1:]
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        runs = TunedRuns(out / "runs.jsonl", settings_of)
        train_missing(arguments, runs, Path(scratch))
        sets = collect(runs)
    results = {"command": "python studies/saml/run.py DATA --out studies/saml", "sets": sets}
    if arguments.out is not None:
        (out / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps(results))


def train_missing(arguments: argparse.Namespace, runs: TunedRuns, scratch: Path) -> None:
    """Try all settings by seed 0; then train the chosen ones, seed by seed."""
    for name in arguments.sets:
        log = arguments.data / SETS[name].folder / "events.parquet"
        if not SETS[name].is_planted and not log.is_file():
            sys.exit(f"{log} does not exist: DATA holds {SETS[name].folder}/events.parquet")
        for seed in range(arguments.seeds) if SETS[name].is_planted else [0]:
            SETS[name].prepare(arguments.data, place_of(scratch, name, seed), seed)

    def run(jobs: list[Job]) -> None:
        work = partial(run_once, scratch, quick=arguments.quick)
        for job, figures in side_by_side(work, jobs, arguments.workers):
            runs.add(job, figures)

    runs.train(product(arguments.sets, arguments.methods), arguments.seeds, run)


if __name__ == "__main__":
    main()
