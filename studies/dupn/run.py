"""Whether one representation of users serves many tasks, and which of its parts do it.

    python studies/dupn/run.py DATA --out studies/dupn [--sets …] [--methods …] [--seeds 3] [--workers 2]
    python studies/dupn/page.py studies/dupn

DATA holds ``taobao_behaviour`` (Alibaba Tianchi), ``uci_online_retail`` (UCI Online Retail II, D. Chen, CC BY
4.0) and ``movielens_1m`` (GroupLens; events, users, items), as Parquet. The planted set is made by
planted.py. Every run becomes a line of OUT/runs.jsonl: the study can be stopped and started again, and run in
parts; results.json is made anew of all lines. Without ``--out`` nothing is kept.

Protocol: every method has the same samples, features and widths, and as many steps. Learning rate and dropout
are chosen by seed 0 on validation, out of the same settings; with these every seed is trained, and asked the
test once. (Settings that are not chosen are asked, too, and what they say is used for nothing.) What is
planted is planted anew for every seed. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import planted
import torch
from methods import ALL, SETTINGS, Variant, alone, methods_of, tasks_of, transferred
from sets import SETS, DataSet

import polyvec
from polyvec.data.item_sets import expand_ranges
from polyvec.evaluation.runs import over_runs, side_by_side
from polyvec.evaluation.tuned_runs import Job, TunedRuns
from polyvec.systems import dupn
from polyvec.systems.dupn import DUPN, DUPNConfig
from polyvec.systems.dupn.features import Encoder, Fields, gap_of
from polyvec.systems.dupn.fit import VALIDATION_SEED, Lessons, begun, train
from polyvec.systems.dupn.objective import MOST_VALIDATED, Validator, attention
from polyvec.systems.dupn.samples import Samples
from polyvec.systems.dupn.task_plan import TaskPlan
from polyvec.systems.dupn.tasks import samples_of
from polyvec.systems.dupn.transfer import begin, drawn
from polyvec.training.checkpoint import Progress
from polyvec.training.journal import JOURNAL
from polyvec.training.options import TrainingOptions

TEST_SEED = 2 * VALIDATION_SEED
ASKED = {"validation": 5_000, "test": MOST_VALIDATED}
"""Samples of a task, at most, that choose and that are the test."""
VALIDATIONS = 20  # of a model of all tasks, in the steps there are
PATIENCE = 0.25  # of the steps, without improvement
TENTHS = {"training": range(3, 10), "validation": range(2, 3), "test": range(2)}
"""Of the users, by what they are for where the answer is of the user."""
AGES = ("< 5 min", "15 min", "30 min", "1 h", "4 h", "9 h", "24 h", "2 d", "7 d", "30 d", "> 30 d")
QUICK = (ALL, alone("price"), transferred("rt", 100))
QUICK_USERS, QUICK_STEPS = 300, 20


@dataclass(frozen=True)
class Experiment:
    """What a set, a setting and a seed make of the data.

    Attributes
    ----------
    one
        The set.
    dataset
        Its log.
    config, options
        Of all methods.
    """

    one: DataSet
    dataset: polyvec.Dataset
    config: DUPNConfig
    options: TrainingOptions

    @classmethod
    def of(cls, scratch: Path, name: str, setting: dict[str, float], seed: int, *, quick: bool) -> Experiment:
        """Of a Dataset in the scratch folder."""
        config, options = dupn.default()
        one = SETS[name]
        config = replace(config, **one.changes, dropout=setting["dropout"])
        options = replace(options, **one.training, seed=seed, learning_rate=setting["learning_rate"])
        if quick:
            one = replace(one, steps=QUICK_STEPS)
        return cls(one, polyvec.Dataset.open(place_of(scratch, name, seed)), config, options)

    def lessons(
        self, tasks: dict[str, dupn.Task], config: DUPNConfig, known: Fields | None = None
    ) -> Lessons:
        """Samples of some tasks, not more than the set wants."""
        found = Lessons.of(
            self.dataset,
            replace(config, tasks=tasks),
            self.options,
            self.one.test[0],
            validates=True,
            fields=known,
        )
        held_out = found.held_out or {}
        return replace(
            found,
            training={name: self._some(name, one, "training") for name, one in found.training.items()},
            held_out={name: self._some(name, one, "validation") for name, one in held_out.items()},
        )

    def test(self, lessons: Lessons) -> dict[str, Samples]:
        """What is asked once."""
        found = {}
        for name, (task, known) in lessons.tasks.items():
            samples = samples_of(self.dataset, task, known, *self.one.test, TEST_SEED, self.config.max_length)
            found[name] = self._some(name, samples, "test")
        return found

    def _some(self, name: str, samples: Samples, part: str) -> Samples:
        """At most so many; where the answer is of the user, of the users of that part alone."""
        if name in self.one.of_users:
            samples = samples.take(np.flatnonzero(np.isin(samples.users % 10, TENTHS[part])))
        most = ASKED.get(part, self.one.most)
        rows = np.random.default_rng(self.options.seed).permutation(len(samples))[:most]
        return samples.take(np.sort(rows))

    def paced(self, lessons: Lessons) -> TrainingOptions:
        """Passes, validations and patience that are as many steps for every method.

        A model of one task is validated more often: after about as many of its samples as one of all tasks.
        """
        samples, tasks = sum(map(len, lessons.training.values())), len(lessons.training)
        epoch = math.ceil(samples / self.options.batch_size)
        between = self.one.steps * tasks / len(self.one.tasks) / VALIDATIONS
        every = max(round(between / epoch), 1)
        return replace(
            self.options,
            epochs=max(round(self.one.steps / epoch), every),
            validate_every=every,
            patience=max(round(PATIENCE * self.one.steps / (every * epoch)), 1),
        )


def place_of(scratch: Path, name: str, seed: int) -> Path:
    """The Dataset of a set; what is planted is another one for every seed."""
    return scratch / f"{name}, {seed}" if SETS[name].is_planted else scratch / name


def run_once(
    scratch: Path, name: str, method: str, number: int, seed: int, base: int | None, *, quick: bool
) -> dict[str, Any]:
    """Train one method with one setting and ask the test, on one thread.

    ``base`` is the setting of the model that is transferred.
    """
    torch.set_num_threads(1)
    variant = methods_of(name)[method]
    experiment = Experiment.of(scratch, name, variant.settings[number], seed, quick=quick)
    if variant.how and base is not None:
        model = fitted(scratch, name, base, seed, quick=quick, blank=variant.blank)
        return transfer(experiment, variant, model)
    config = replace(experiment.config, **variant.changes)
    lessons = experiment.lessons(tasks_of(name, variant), config)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        start = begun(experiment.dataset, lessons, experiment.paced(lessons))
        return learned(experiment, lessons, start, Path(folder) / "run")


def fitted(scratch: Path, name: str, number: int, seed: int, *, quick: bool, blank: bool = False) -> DUPN:
    """The model that is transferred, trained if it is not in the scratch folder; ``blank``: never."""
    torch.set_num_threads(1)
    experiment = Experiment.of(scratch, name, SETTINGS[number], seed, quick=quick)
    lessons = experiment.lessons(SETS[name].tasks, experiment.config)
    model = lessons.untrained(experiment.paced(lessons))
    if not blank:
        train(experiment.dataset, lessons, model, scratch / f"model of {name}, {number}, {seed}")
    return model


def fit_base(scratch: Path, name: str, number: int, seed: int, *, quick: bool) -> None:
    """Leave the model that is transferred in the scratch folder."""
    fitted(scratch, name, number, seed, quick=quick)


def transfer(experiment: Experiment, variant: Variant, model: DUPN) -> dict[str, Any]:
    """Learn the task that is held out from a share of its labels."""
    (name, task), *_ = experiment.one.held_out.items()
    how = variant.how or "rs"
    lessons = experiment.lessons({name: task}, experiment.config, None if how == "rs" else model.fields)
    lessons = replace(lessons, training={name: drawn(lessons.training[name], variant.share / 100)})
    options = experiment.paced(lessons)
    model = replace(model, config=replace(model.config, dropout=experiment.config.dropout))
    dataset, rate = experiment.dataset, variant.encoder_rate
    start, optimizers = begin(dataset, model, lessons, name, how, options, rate)
    with tempfile.TemporaryDirectory() as folder:
        return learned(experiment, lessons, start, Path(folder) / "run", optimizers)


def learned(
    experiment: Experiment, lessons: Lessons, model: DUPN, workspace: Path, optimizers: Any = None
) -> dict[str, Any]:
    """Train a model, and say what it says of validation and test."""
    model, progress = train(experiment.dataset, lessons, model, workspace, optimizers=optimizers)
    encoder, tests = Encoder.of(experiment.dataset, lessons.fields), experiment.test(lessons)
    asked = Validator(model.network, lessons.config.tasks or {}, tests, encoder).measures()
    plan = TaskPlan(
        lessons.training, encoder, model.options.batch_size, model.options.seed, torch.device("cpu")
    )
    curves = curves_of(workspace / JOURNAL, plan.shares)
    return {
        "validation": progress.best,
        "tasks": {
            name: {
                "test": asked[name],
                "validation": validated(workspace / JOURNAL, progress).get(name),
                "majority": majority(lessons.training[name], tests[name], lessons.tasks[name][0].kind),
                "samples": len(lessons.training[name]),
                "asked": len(tests[name]),
                "curve": curves.get(name, []),
            }
            for name in lessons.tasks
        },
        "attention": attended(experiment, model, tests, encoder),
        "parameters": sum(weights.numel() for weights in model.network.parameters()),
        "epoch": progress.best_epoch,
        "seconds": progress.seconds,
    }


def curves_of(journal: Path, shares: dict[str, int]) -> dict[str, list[list[float]]]:
    """By task: samples seen, and what validation said then, epoch by epoch."""
    found: dict[str, list[list[float]]] = {}
    for record in _validations(journal):
        for name, value in record["validated"].items():
            found.setdefault(name, []).append([record["step"] * shares[name], value])
    return found


def validated(journal: Path, progress: Progress) -> dict[str, float]:
    """What validation said of every task after the epoch that was chosen."""
    chosen = [record for record in _validations(journal) if record["epoch"] == progress.best_epoch]
    return chosen[0]["validated"] if chosen else {}


def _validations(journal: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    return [record for record in records if "validated" in record]


def majority(training: Samples, test: Samples, kind: str) -> float | None:
    """Share of the test that has the class most frequent in training; None where there are no classes."""
    if kind not in ("class", "window"):
        return None
    return float((test.answers == np.bincount(training.answers).argmax()).mean())


def attended(
    experiment: Experiment, model: DUPN, tests: dict[str, Samples], encoder: Encoder
) -> dict[str, dict[str, list[float]]]:
    """By action and age: mean weight of an event, and how many events there are.

    In parts of what it had if all events of its history had the same; histories of one event are left out.
    """
    task = experiment.one.looked_at
    if task not in tests or (model.config.model, model.config.pooling) != ("dupn", "attention"):
        return {}
    samples, dataset = tests[task], experiment.dataset
    weights, lengths = attention(model.network, samples, encoder), samples.stop - samples.start
    owners, events = expand_ranges(samples.start, samples.stop)
    parts, some = weights * lengths[owners], lengths[owners] > 1
    actions = np.asarray(dataset.columns["action"])[events]
    ages = gap_of(samples.times[owners] - np.asarray(dataset.times)[events])
    found: dict[str, dict[str, list[float]]] = {}
    for (place, action), (number, age) in product(enumerate(dataset.codes["action"]), enumerate(AGES)):
        chosen = some & (actions == place) & (ages == number)
        if chosen.any():
            found.setdefault(action, {})[age] = [float(parts[chosen].mean()), int(chosen.sum())]
    return found


def settings_of(name: str, method: str) -> tuple[int, str]:
    """How many settings there are, and the method that is tried with them."""
    variant = methods_of(name)[method]
    return len(variant.settings), variant.tuned_as or method


def collect(runs: TunedRuns) -> dict[str, Any]:
    """By set and method: the chosen setting, and figures over seeds."""
    found: dict[str, Any] = {}
    for name in SETS:
        for method, variant in methods_of(name).items():
            number, by_seed = runs.by_seed(name, method)
            if number is not None and by_seed:
                told = {"setting": variant.settings[number], "seeds": list(by_seed)}
                found.setdefault(name, {})[method] = told | _summary(list(by_seed.values()))
    return found


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of one method over its seeds; curves of the first."""
    tasks = {}
    for name, first in runs[0]["tasks"].items():
        mine = [run["tasks"][name] for run in runs]
        tasks[name] = {
            "test": {key: over_runs([one["test"][key] for one in mine]) for key in first["test"]},
            **{
                key: over_runs([one[key] for one in mine])
                for key in ("validation", "majority")
                if None not in [one[key] for one in mine]
            },
            "samples": first["samples"],
            "asked": first["asked"],
            "curve": first["curve"],
        }
    return {
        "tasks": tasks,
        "attention": _mean_attention([run["attention"] for run in runs]),
        **{key: over_runs([run[key] for run in runs]) for key in ("validation", "seconds", "epoch")},
        "parameters": runs[0]["parameters"],
    }


def _mean_attention(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Over seeds; the events are the same."""
    return {
        action: {
            age: [round(float(np.mean([run[action][age][0] for run in runs])), 4), count]
            for age, (_, count) in ages.items()
        }
        for action, ages in runs[0].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--methods", nargs="+", help="all that a set has without it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="models trained side by side, a thread each")
    parser.add_argument("--out", type=Path, help="folder of runs.jsonl and results.json")
    parser.add_argument("--quick", action="store_true", help="what is planted, three methods: under a minute")
    arguments = parser.parse_args()
    if arguments.out is None and not arguments.quick:
        parser.error("--out is missing: the folder in which finished runs are kept between calls")
    if arguments.quick:
        arguments.sets, arguments.methods, arguments.seeds = ["planted"], list(QUICK), 1
        SETS["planted"] = replace(SETS["planted"], prepare=_few)
        del SETTINGS[1:]
    known = {method for name in arguments.sets for method in methods_of(name)}
    for method in arguments.methods or ():
        if method not in known:
            parser.error(f"there is no method '{method}': choose from {', '.join(sorted(known))}")
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        runs = TunedRuns(out / "runs.jsonl", settings_of)
        train_missing(arguments, runs, Path(scratch))
        sets = collect(runs)
    results = {"command": "python studies/dupn/run.py DATA --out studies/dupn", "sets": sets}
    if arguments.out is not None:
        (out / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps(results))


def _few(_: Path, out: Path, seed: int) -> object:
    events, items = planted.plant(seed, QUICK_USERS)
    return polyvec.prepare(events, out, items=items)


def train_missing(arguments: argparse.Namespace, runs: TunedRuns, scratch: Path) -> None:
    """Try all settings by seed 0; then train the chosen ones, seed by seed; transfer when that is done."""
    for name in arguments.sets:
        log = arguments.data / SETS[name].folder / "events.parquet"
        if not SETS[name].is_planted and not log.is_file():
            sys.exit(f"{log} does not exist: DATA holds {SETS[name].folder}/events.parquet")
        for seed in range(arguments.seeds) if SETS[name].is_planted else [0]:
            SETS[name].prepare(arguments.data, place_of(scratch, name, seed), seed)
    both = [
        (name, method)
        for name in arguments.sets
        for method in methods_of(name)
        if arguments.methods is None or method in arguments.methods
    ]
    transfers = [(name, method) for name, method in both if methods_of(name)[method].how]
    bases = [(name, ALL) for name, _ in transfers]
    run = partial(run_all, arguments, runs, scratch)
    runs.train([*bases, *(one for one in both if one not in transfers)], arguments.seeds, run)
    runs.train(transfers, arguments.seeds, run)


def run_all(arguments: argparse.Namespace, runs: TunedRuns, scratch: Path, jobs: list[Job]) -> None:
    """Run some jobs; models that are transferred first."""
    bases = {(job[0], job[3]): runs.best(job[0], ALL) for job in jobs if methods_of(job[0])[job[1]].how}
    ready = [(name, number, seed) for (name, seed), number in bases.items()]
    for _ in side_by_side(partial(fit_base, scratch, quick=arguments.quick), ready, arguments.workers):
        pass
    asked = [(*job, bases.get((job[0], job[3]))) for job in jobs]
    work = partial(run_once, scratch, quick=arguments.quick)
    for (*job, _), figures in side_by_side(work, asked, arguments.workers):
        runs.add(tuple(job), figures)


if __name__ == "__main__":
    main()
