"""Do GUIM's claims hold on public data? Trains and asks every model of the study that is still missing.

    python studies/guim/run.py DATA --out studies/guim [--sets …] [--parts …] [--seeds 3] [--workers 2]
    python studies/guim/run.py DATA --choose-epochs
    python studies/guim/times.py DATA --out studies/guim
    python studies/guim/page.py studies/guim

DATA holds the folders that sets.py names, each with events.parquet (and items.parquet, users.parquet); the
sources are named there. Every run becomes a line of OUT/runs.jsonl, and rows of OUT/users/SET.parquet: the
study can be stopped and started again at any time, and run in parts; results.json is made anew of all of
them, page.py makes the page of it. Without ``--out`` nothing is kept. ``--choose-epochs`` trains GUIM with
C = 1 and C = 4, or ``--models``, without the window before the test's and prints recall@100 on it after every
epoch: how the number of epochs in sets.py was chosen, before any test was asked, and the preset's α.
``times.py`` measures what an epoch costs.

Protocol: sets with timestamps are cut in time (a year of history, the 30 days after the cut-off foretold);
sets with an order only hold back the last events of every user, items of the history are taken out of the
answers, and other users' future is known to the model: compare models, not values with those of other sets.
All models of a set see the same windows for the same number of epochs. The test is asked by the vectors
alone, among all items. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from collect import LIST, MODEL, add, collect, epochs_of, has_histories, keep_histories, seeds_by_model
from recipes import Recipe, recipes
from sets import SETS, DataSet

import polyvec
from polyvec.evaluation.paired import per_user
from polyvec.evaluation.probes import NETWORK, Features, FeedForward
from polyvec.evaluation.rankers import EmbeddingsRanker
from polyvec.evaluation.runs import run_study, side_by_side
from polyvec.evaluation.tasks.comparison import answer
from polyvec.evaluation.tasks.next_item import without_seen
from polyvec.evaluation.tasks.profile import label_column, profile
from polyvec.systems import guim, sasrec

COMMAND = "python studies/guim/run.py DATA --out studies/guim"
WATCHED = ("wins", "cosine", "effective_rank")
MOST_EPOCHS = 12
QUICK_SETS = ("online_retail", "ml100k")
QUICK_MODELS = ("GUIM C=1", "GUIM C=4")


def main() -> None:
    arguments = _arguments()
    _check_data(arguments.data, _sets(arguments))
    if arguments.choose_epochs:
        print(json.dumps(choose_epochs(arguments)))
        return
    results = run_study(COMMAND, arguments.out, partial(train, arguments), collect)
    for name, models in results["sets"].items():
        for model, figures in models.items():
            found = figures["measures"][LIST]
            print(f"{name:16}{model:36}{found['mean']:.4f}  seeds {figures['seeds']}")
    print(json.dumps(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--parts", nargs="+", choices=sorted({one.part for one in recipes().values()}))
    parser.add_argument("--models", nargs="+", help="names of models instead of parts")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="models trained side by side, a thread each")
    parser.add_argument("--choose-epochs", action="store_true", help="validation curves, and no test")
    parser.add_argument("--epochs", type=int, default=MOST_EPOCHS, help="at most, of --choose-epochs")
    parser.add_argument("--out", type=Path, help="folder of runs.jsonl, users/ and results.json")
    parser.add_argument(
        "--quick", action="store_true", help="two sets, two models, few users: under a minute"
    )
    arguments = parser.parse_args()
    if arguments.out is None and not (arguments.quick or arguments.choose_epochs):
        parser.error("--out is missing: the folder in which finished runs are kept between calls")
    if arguments.out is not None and arguments.quick:
        parser.error("--quick trains small models for a moment: they are not kept, leave out --out")
    return arguments


def _sets(arguments: argparse.Namespace) -> list[str]:
    return list(QUICK_SETS) if arguments.quick and not arguments.choose_epochs else arguments.sets


def _check_data(data: Path, sets: list[str]) -> None:
    """Stop before anything is trained if a file of any set is missing."""
    for chosen in (SETS[name] for name in sets):
        files = chosen.files(data)
        missing = [file for file in files if not file.is_file()]
        if missing:
            expected = f"{chosen.folder}/ with {', '.join(file.name for file in files)} ({chosen.source})"
            sys.exit(f"{missing[0]} does not exist: DATA holds {expected}")


def train(arguments: argparse.Namespace, out: Path, scratch: Path) -> None:
    """Train what is missing: seed by seed, so that a stopped study has whole comparisons."""
    chosen, sets = _chosen(arguments), _sets(arguments)
    done = {name: seeds_by_model(out, name) for name in sets}
    missing = [
        (name, model, seed)
        for seed in range(1 if arguments.quick else arguments.seeds)
        for name in sets
        for model in chosen
        if seed not in done[name].get(model, ())
    ]
    unknown = [name for name in sets if done[name] and not has_histories(out, name)]
    for name in dict.fromkeys([*(name for name, _, _ in missing), *unknown]):
        dataset = SETS[name].prepare(arguments.data, scratch / name, quick=arguments.quick)
        keep_histories(out, name, *_known(dataset, SETS[name]))
    work = partial(run_once, arguments.data, scratch, quick=arguments.quick)
    for (name, model, seed), (table, figures) in side_by_side(work, missing, arguments.workers):
        add(out, name, model, seed, table, figures)


def _known(dataset: polyvec.Dataset, chosen: DataSet) -> tuple[pl.Series, npt.NDArray[np.int64]]:
    """Users asked about, and how many distinct items are known of each."""
    dataset = dataset.only_action()
    asked = chosen.questions(dataset)[0]
    return dataset.users.take(asked.windows.user_rows), np.diff(asked.history.offsets)


def choose_epochs(arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Recall@100 on the window before the test's, after every epoch, by set and model."""
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[float]]] = {}
    for name in arguments.sets:
        with tempfile.TemporaryDirectory() as scratch:
            folder, chosen = Path(scratch), SETS[name]
            dataset = chosen.prepare(arguments.data, folder / "dataset", quick=arguments.quick)
            for model in _chosen(arguments) if arguments.models else QUICK_MODELS:
                recipe = recipes()[model]
                config = replace(recipe.config, **chosen.guim)
                options = replace(
                    recipe.options, epochs=2 if arguments.quick else arguments.epochs, patience=2
                )
                moment = chosen.moment(dataset)
                guim.fit(dataset, folder / model, config, options, **moment, validation="window")
                epochs = epochs_of(folder / model)
                found.setdefault(name, {})[model] = [round(one["validation"], 5) for one in epochs]
                print(name, model, found[name][model], file=sys.stderr, flush=True)
    return found


def _chosen(arguments: argparse.Namespace) -> list[str]:
    known = recipes()
    if arguments.quick:
        return list(QUICK_MODELS)
    if arguments.models:
        unknown = sorted(set(arguments.models) - known.keys())
        if unknown:
            sys.exit(f"no such model: {', '.join(unknown)}; there are: {', '.join(known)}")
        return list(arguments.models)
    return [name for name, recipe in known.items() if recipe.part in (arguments.parts or recipe.part)]


def run_once(
    data: Path, scratch: Path, name: str, model: str, seed: int, *, quick: bool
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Train one model and ask the tasks: measures of every user, and figures. On one thread."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    chosen, recipe = SETS[name], recipes()[model]
    dataset = polyvec.Dataset.open(scratch / name)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        embeddings, figures = _fit(dataset, chosen, recipe, seed, Path(folder), quick=quick)
    table = _ask(embeddings, dataset.only_action(), chosen)
    if recipe.profiles and chosen.labels:
        figures["profiles"] = _profiles(embeddings, chosen.profiles(data), list(chosen.labels))
    return table, {"part": recipe.part} | figures | {"seconds": round(time.perf_counter() - started, 1)}


def _fit(
    dataset: polyvec.Dataset, chosen: DataSet, recipe: Recipe, seed: int, folder: Path, *, quick: bool
) -> tuple[polyvec.Embeddings, dict[str, Any]]:
    """Train and embed; vectors, and what they cost."""
    system = guim if isinstance(recipe.config, guim.GUIMConfig) else sasrec
    config, options = recipe.config, replace(recipe.options, seed=seed)
    if system is guim:
        config = replace(config, **chosen.guim)
    else:
        config = replace(config, remove_seen=chosen.cutoff is None)
    if not recipe.by_validation:
        options = replace(options, epochs=chosen.epochs)
    if quick:
        config, options = replace(config, width=32, num_layers=1, max_length=32), replace(options, epochs=1)
    how = {"validation": "window", "refit": True} if recipe.by_validation else {"validation": "none"}
    moment = chosen.moment(dataset)
    started = time.perf_counter()
    model = system.fit(dataset, folder / "model", config, options, **moment, **how)
    seconds = time.perf_counter() - started
    embeddings = polyvec.embed(model, dataset, folder / "emb", **moment)
    epochs = epochs_of(folder / "model" / ("refit" if recipe.by_validation else ""))
    return embeddings, {
        "C": embeddings.num_vectors,
        "D": embeddings.width,
        "parameters": model.manifest.meta["parameters"],
        "precision": model.manifest.meta["precision"],
        "train_seconds": round(seconds, 1),
        "epoch_seconds": round(float(np.median([one["seconds"] for one in epochs])), 1),
        "epochs": len(epochs),
        "diagnostics": {key: epochs[-1][key] for key in WATCHED if key in epochs[-1]},
    }


def _ask(embeddings: polyvec.Embeddings, dataset: polyvec.Dataset, chosen: DataSet) -> pl.DataFrame:
    """Each user's measures: rows of :func:`polyvec.evaluation.paired.per_user`."""
    ranker = {MODEL: EmbeddingsRanker(embeddings, dataset)}
    tables = []
    for question in chosen.questions(dataset):
        asked = ranker if chosen.cutoff else without_seen(ranker, question, dataset)
        tables.append(per_user(answer(asked, question), dataset))
    return pl.concat(tables)


def _profiles(
    embeddings: polyvec.Embeddings, profiles: pl.DataFrame, labels: list[str]
) -> dict[str, dict[str, float]]:
    """Accuracy and AUC of the paper's three-layer network on users held out, mean over five splits."""
    flat = embeddings.unit_users().reshape(len(embeddings.users), -1).astype(np.float32)
    features = {"vectors": Features(flat, {NETWORK: FeedForward})}
    users = embeddings.users.ids.series
    found: dict[str, dict[str, float]] = {}
    for label in labels:
        table = profile(features, label_column(profiles, label, users))
        found[label] = dict(table.select("metric", "value").iter_rows())
    return found


if __name__ == "__main__":
    main()
