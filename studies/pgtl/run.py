"""Whether a large market helps a small one, and whether PGTL helps it best.

    python studies/pgtl/run.py DATA --out studies/pgtl [--sets …] [--methods …] [--seeds 5] [--workers 2]
    python studies/pgtl/page.py studies/pgtl

DATA holds ``uci_online_retail`` (UCI Online Retail II, D. Chen, CC BY 4.0) and ``xmarket_electronics``
(XMarket, Bonab et al. 2021), each with events.parquet. The set ``planted`` is made by sets.py, another log
for every seed; those from ``--first-seed 100`` on are to choose settings by, and no part of the results.
Every run becomes a line of OUT/runs.jsonl: the study can be stopped and started again, and run in parts;
results.json is made anew of all of them. Without ``--out`` nothing is kept.

Protocol: pairs before the cut-off are learned from, those of the last days before it choose the epoch, those
after it are the test. A pair is an event's item and an earlier item of the same user; dissimilar ones are
drawn by popularity on the same day in the same market. All methods have the same pairs, features, widths,
learning rate and steps, those of ``--preset default``, and of ``--preset paper`` where named so. The last
line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from sets import AGREEING, SETS
from sklearn.metrics import roc_auc_score

import polyvec
from polyvec.data.dataset import days, parse_date
from polyvec.data.market import Market, is_of_market
from polyvec.errors import DataError
from polyvec.evaluation.runs import add_run, over_runs, read_runs, run_study, side_by_side
from polyvec.systems import pgtl
from polyvec.systems.pgtl.explain import gates_by_category
from polyvec.systems.pgtl.fit import score
from polyvec.systems.pgtl.network import TARGET
from polyvec.systems.pgtl.pairs import Pairs, draw_pairs
from polyvec.systems.pgtl.view import Samples

TEST_SEED = 2_000_000
TEST_PAIRS = 100_000
NEAREST = 50  # of item-to-item recall
PARTS = {"0": (0, 0), "1–5": (1, 5), "over 5": (6, 2**31)}
SHARES = (0.05, 0.1, 0.25, 0.5)
QUICK = ("target alone", "PGTL")
RUNS = "runs.jsonl"
REFUSED = "refused"
"""Of a run that could not be: why."""
TO_CHOOSE = 100
"""Seeds from here on are of runs by which settings were chosen."""
COMMAND = "python studies/pgtl/run.py DATA --out studies/pgtl"


@dataclass(frozen=True)
class Variant:
    """One method.

    Attributes
    ----------
    changes
        To a preset.
    preset
        Its name.
    share
        Of the target's users that are learned from.
    counted
        Nothing is learned: markets (``source``, ``target``) whose users are counted that took both items.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    preset: str = "default"
    share: float = 1.0
    counted: tuple[str, ...] = ()


METHODS = {
    "target alone": Variant({"method": "target"}),
    "PGTL": Variant(),
    "source alone": Variant({"method": "source"}),
    "fine-tune": Variant({"method": "fine_tune"}),
    "FShare, adversarial": Variant({"method": "fshare"}),
    "FShare, MMD": Variant({"method": "fshare", "alignment": "mmd"}),
    "SShare": Variant({"method": "sshare"}),
    "items taken together, target": Variant(counted=("target",)),
    "items taken together, both markets": Variant(counted=("source", "target")),
    "PGTL, no specific embedding": Variant({"method": "pgtl_no_specific"}),
    "PGTL, no prior feature": Variant({"method": "pgtl_no_prior"}),
    "PGTL, relations shuffled": Variant({"relations": "shuffled"}),
    "PGTL, gate of a vector": Variant({"gate": "vector"}),
    "PGTL, gate open": Variant({"gate": "open"}),
    "PGTL, no alignment": Variant({"alignment": "none"}),
    "PGTL, generator of the prior's own": Variant({"prior_generator": "own"}),
    "PGTL, no lead": Variant({"lead": 0.0}),
    "PGTL, no dropout": Variant({"input_dropout": 0.0}),
    "target alone, paper's constants": Variant({"method": "target"}, "paper"),
    "PGTL, paper's constants": Variant({}, "paper"),
    **{
        f"{name}, {share:.0%} of the target": Variant(changes, share=share)
        for share in SHARES
        for name, changes in (
            ("target alone", {"method": "target"}),
            ("PGTL", {}),
            ("fine-tune", {"method": "fine_tune"}),
        )
    },
}


def run_once(scratch: Path, name: str, small: str, method: str, seed: int, *, quick: bool) -> dict[str, Any]:
    """Train one method and ask the test: its figures. On one thread."""
    torch.set_num_threads(1)
    one, variant = SETS[name], METHODS[method]
    dataset = polyvec.Dataset.open(log_of(scratch, name, seed))
    config, options = pgtl.PRESETS[variant.preset]()
    changes = {**one.changes, **variant.changes, "source": one.big, "target": small, "guard": "off"}
    if variant.preset == "paper":
        changes.pop("windows", None)
    config = replace(config, **changes)
    options = replace(options, seed=seed, epochs=1 if quick else options.epochs)
    if quick:
        config = replace(config, steps_per_epoch=20, max_pairs=4000)
    cutoff, end = parse_date(one.cutoff), parse_date(one.end)
    if variant.counted:
        return count(dataset, config, variant.counted, cutoff, end)
    is_learned = kept(dataset, small, variant.share, seed)
    learned = dataset.keep(is_learned)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        try:
            model = pgtl.fit(learned, Path(folder) / "model", config, options, until=cutoff)
        except DataError as error:
            if variant.share == 1:
                raise
            # so few users are left that there is nothing to learn, or to validate on
            return {REFUSED: error.what}
        meta = model.manifest.meta if model.manifest else {}
        journal = (Path(folder) / "model" / "training.jsonl").read_text("utf-8").splitlines()
    epochs = [found for found in map(json.loads, journal) if found["event"] == "epoch"]
    figures = {
        **ask(model, dataset, is_learned, cutoff, end),
        **{key: meta[key] for key in ("validation", "best_epoch", "steps", "parameters", "training_seconds")},
        "coverage": meta["coverage"],
        **{key: epochs[meta["best_epoch"]].get(key) for key in ("told_apart", "gate")},
    }
    if one.is_planted and method.startswith("PGTL"):
        gates = gates_by_category(model.at(dataset, cutoff), dataset).sort("category")["gate"].to_numpy()
        figures["gate_agreeing"] = float(gates[:AGREEING].mean())
        figures["gate_opposed"] = float(gates[AGREEING:].mean())
    return figures


def ask(
    model: pgtl.PGTL,
    dataset: polyvec.Dataset,
    is_learned: npt.NDArray[np.bool_],
    cutoff: int,
    end: int,
) -> dict[str, Any]:
    """AUC of the target's test pairs, in all and by training events of the current item; item-to-item recall.

    Features of a pair are those of its day: what happened before it, in the test's time, too; up to the
    cut-off what was learned from, of fewer users on the curve. Relations and neighbours are the cut-off's.
    """
    config = model.config
    pairs = test_pairs(dataset, config, cutoff, end)
    before = model.at(dataset.keep(is_learned), cutoff).to_log()
    seen = dataset.keep(is_learned | np.asarray(dataset.times >= cutoff))
    view = replace(model.at(seen, end).to_log().view, relations=before.view.relations)
    scores = score(model.network, Samples.of(pairs, view, TARGET).with_prior(view, config), TARGET)
    events = model.training_events(dataset.item_table, TARGET)[pairs.items_2P[0]]
    return areas(pairs, scores, events) | {
        f"recall@{NEAREST}": recall(before.vectors, pairs.items_2P[:, pairs.labels_P])
    }


def count(
    dataset: polyvec.Dataset, config: pgtl.PGTLConfig, markets: tuple[str, ...], cutoff: int, end: int
) -> dict[str, Any]:
    """AUC of the target's test pairs by the cosine of the users that took each item.

    Counted is what the networks learn from: what is before the days that are validated on.
    """
    until = cutoff - days(config.target_days)
    taken = {
        role: Market.of(dataset, getattr(config, role), until).of_action(config.action) for role in markets
    }
    users, items = (
        np.concatenate([getattr(one, name) for one in taken.values()]) for name in ("users", "items")
    )
    both = csr_array((np.ones(len(users)), (items, users)), (dataset.num_items, dataset.num_users))
    both.data[:] = 1
    lengths = np.sqrt(both.sum(axis=1))
    pairs = test_pairs(dataset, config, cutoff, end)
    one, other = pairs.items_2P
    together = both[one].multiply(both[other]).sum(axis=1)
    events = taken[TARGET].item_counts(config.action)[one]
    return areas(pairs, together / np.maximum(lengths[one] * lengths[other], 1), events)


def test_pairs(dataset: polyvec.Dataset, config: pgtl.PGTLConfig, cutoff: int, end: int) -> Pairs:
    """The same pairs for all methods."""
    return draw_pairs(
        Market.of(dataset, config.target, end), cutoff, end, positive=config.action,
        partners=config.partners, history_days=config.history_days, most=TEST_PAIRS, seed=TEST_SEED,
    )  # fmt: skip


def areas(pairs: Pairs, scores: npt.NDArray[Any], events: npt.NDArray[np.int64]) -> dict[str, Any]:
    """AUC of pairs, in all and by training events of the current item."""
    found: dict[str, Any] = {"auc": float(roc_auc_score(pairs.labels_P, scores)), "pairs": len(pairs)}
    found["by_events"] = {}
    for part, (least, most) in PARTS.items():
        chosen = (events >= least) & (events <= most)
        if len(np.unique(pairs.labels_P[chosen])) == 2:
            area = float(roc_auc_score(pairs.labels_P[chosen], scores[chosen]))
            found["by_events"][part] = {"auc": area, "pairs": int(chosen.sum())}
    return found


def recall(vectors_ND: npt.NDArray[np.float32], items_2P: npt.NDArray[np.int64]) -> float:
    """Share of pairs whose current item is among the 50 nearest, of all items, to the earlier one."""
    queries, of_query = np.unique(items_2P[1], return_inverse=True)
    hits = 0
    for row, query in enumerate(queries):
        cosines = vectors_ND @ vectors_ND[query]
        cosines[query] = -np.inf
        current = cosines[items_2P[0][of_query == row]]
        cosines.sort()
        at_least = len(cosines) - np.searchsorted(cosines, current)  # itself among them
        hits += int((at_least <= NEAREST).sum())
    return hits / max(items_2P.shape[1], 1)


def kept(dataset: polyvec.Dataset, small: str, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which events are learned from: of so many of the target's users, drawn anew with every seed."""
    if share == 1:
        return np.ones(dataset.num_events, np.bool_)
    kept_U = np.random.default_rng(seed).random(dataset.num_users) < share
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    return ~is_of_market(dataset, small) | kept_U[owners]


def log_of(scratch: Path, name: str, seed: int) -> Path:
    """The prepared Dataset of a run."""
    return scratch / (f"{name}-{seed}" if SETS[name].is_planted else name)


def read(out: Path) -> dict[tuple[str, str, str], dict[int, dict[str, Any]]]:
    """Figures of all runs by set, target and method, and seed; of several lines of one run the last."""
    found: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = {}
    for line in read_runs(out / RUNS):
        found.setdefault((line["set"], line["target"], line["method"]), {})[line["seed"]] = line["figures"]
    return found


def collect(out: Path) -> dict[str, Any]:
    """``sets``, by set, target and method: AUC over seeds, and what training told."""
    runs, found = read(out), {}
    for name, one in SETS.items():
        for small in one.small:
            methods = {
                method: _summary(dict(sorted(seeds.items())))
                for method in METHODS
                if (seeds := _reported(runs.get((name, small, method), {})))
            }
            if methods:
                found.setdefault(name, {})[small] = methods
    return {"sets": found}


def _reported(runs: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Runs with figures, but for those by which settings were chosen."""
    return {seed: figures for seed, figures in runs.items() if seed < TO_CHOOSE and REFUSED not in figures}


def _summary(runs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    figures = list(runs.values())
    summary: dict[str, Any] = {"seeds": list(runs)}
    keys = (
        "auc",
        f"recall@{NEAREST}",
        "validation",
        "gate",
        "told_apart",
        "training_seconds",
        "gate_agreeing",
        "gate_opposed",
    )
    for key in keys:
        values = [one[key] for one in figures if one.get(key) is not None]
        if len(values) == len(figures):  # with others a value would have no seed
            summary[key] = over_runs(values, digits=4)
    summary["by_events"] = {
        part: over_runs([one["by_events"][part]["auc"] for one in figures], digits=4)
        | {"pairs": figures[0]["by_events"][part]["pairs"]}
        for part in PARTS
        if all(part in one["by_events"] for one in figures)
    }
    return summary | {key: figures[0][key] for key in ("pairs", "coverage") if key in figures[0]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--markets", nargs="+", help="targets; all without it")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="models trained side by side, a thread each")
    parser.add_argument("--out", type=Path, help="folder of runs.jsonl and results.json")
    parser.add_argument("--quick", action="store_true", help="what is planted, two methods: under a minute")
    arguments = parser.parse_args()
    if arguments.out is None and not arguments.quick:
        parser.error("--out is missing: the folder in which finished runs are kept between calls")
    if arguments.out is not None and arguments.quick:
        parser.error("--quick trains small models for a moment: they are not kept, leave out --out")
    print(json.dumps(run_study(COMMAND, arguments.out, partial(train, arguments), collect)))


def train(arguments: argparse.Namespace, out: Path, scratch: Path) -> None:
    """Train what is missing: seed by seed, so that a stopped study has whole comparisons."""
    tasks = missing(arguments, out)
    for name in dict.fromkeys(name for name, *_ in tasks):
        file = arguments.data / SETS[name].folder / "events.parquet"
        if not SETS[name].is_planted and not file.is_file():
            sys.exit(f"{file} does not exist: DATA holds {SETS[name].folder}/events.parquet")
    for log, (name, seed) in {log_of(scratch, name, seed): (name, seed) for name, *_, seed in tasks}.items():
        SETS[name].prepare(arguments.data, log, seed, quick=arguments.quick)
    work = partial(run_once, scratch, quick=arguments.quick)
    for (name, small, method, seed), figures in side_by_side(work, tasks, arguments.workers):
        about = {"set": name, "target": small, "method": method, "seed": seed}
        add_run(out / RUNS, about | {"figures": figures})


def missing(arguments: argparse.Namespace, out: Path) -> list[tuple[str, str, str, int]]:
    """Set, target, method and seed of the runs that are asked for and have not been made."""
    if arguments.quick:
        return [("planted", "small", method, 0) for method in QUICK]
    done = read(out)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    tasks = [
        (name, small, method, seed)
        for seed in seeds
        for name in arguments.sets
        for small in SETS[name].small
        if arguments.markets is None or small in arguments.markets
        for method in arguments.methods
        if seed not in done.get((name, small, method), {})
    ]
    tasks = [task for task in tasks if METHODS[task[2]].share == 1 or task[1] == SETS[task[0]].curve]
    return [  # what is counted has no seed but that of the log
        (name, small, method, seed)
        for name, small, method, seed in tasks
        if not METHODS[method].counted or SETS[name].is_planted or seed == 0
    ]


if __name__ == "__main__":
    main()
