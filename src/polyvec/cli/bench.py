"""``polyvec bench``: every task that the data allows, of many Embeddings and the simple methods at once."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from polyvec.cli.tables import print_recall
from polyvec.cli.truths import DAYS, truths_of
from polyvec.cli.vector_files import VectorFiles, read_vectors, vector_files

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Unpack

    import polars as pl

    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings
    from polyvec.evaluation.evaluate import Settings


SASREC = "SASRec"  # the name that --sasrec trains under


class Options(VectorFiles):
    """Options of the verb, as click hands them over."""

    embeddings: tuple[str, ...]
    users: Path | None
    name: str | None
    out: Path | None
    cutoff: str | None
    history_days: float
    target_days: float
    remove_seen: bool
    profiles: Path | None
    labels: str | None
    shop: Path | None
    sasrec: int
    tune: bool
    compare: tuple[Path, Path] | None
    seed: int
    overwrite: bool
    as_json: bool


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path), required=False)
@click.option(
    "--embeddings",
    multiple=True,
    metavar="[NAME=]FOLDER",
    help="Embeddings of a system; one name for several folders: one per seed. Repeatable.",
)
@vector_files(required=False)
@click.option("--name", help="Name of the vectors of --users in the tables.  [the file's own]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run to write.")
@click.option("--cutoff", help="Data with timestamps: the moment to ask at, e.g. 2011-11-01.")
@click.option(
    "--history-days", type=DAYS, default=365.0, show_default=True, help="Days of history before the cut-off."
)
@click.option(
    "--target-days", type=DAYS, default=30.0, show_default=True, help="Days to foretell after the cut-off."
)
@click.option("--remove-seen", is_flag=True, help="Ordered data: take items of the history out of answers.")
@click.option(
    "--profiles", type=click.Path(path_type=Path), help="Table (Parquet, CSV, Arrow): user_id and labels."
)
@click.option("--labels", help="Columns of --profiles to predict, with commas; all without it.")
@click.option("--shop", type=click.Path(path_type=Path), help="Synthetic shop: adds the oracle.")
@click.option(
    "--sasrec",
    type=click.IntRange(min=0),
    default=0,
    metavar="SEEDS",
    help="Train the strong single-vector baseline, too: so many models, minutes to hours each.",
)
@click.option(
    "--tune",
    is_flag=True,
    help="Choose settings of cosine, EASE and ALS on the days before the cut-off: some twenty fits.",
)
@click.option(
    "--compare",
    nargs=2,
    type=click.Path(path_type=Path),
    help="Two runs: print the differences, paired by user, and stop.",
)
@click.option("--seed", default=0, show_default=True, help="Of bootstrap and of the simple methods.")
@click.option("--overwrite", is_flag=True, help="Replace an existing run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(dataset: Path | None, **options: Unpack[Options]) -> None:
    """Ask every task of every Embeddings, beside the simple methods, and write tables and a page.

    Matching (or, for data with an order, the next item), profiles, behaviour, transfer to price levels and
    item similarity, with intervals and paired differences. Vectors made elsewhere are read as files; import
    is for what is kept, has seeds, or is to be checked for leaks.

    \b
    polyvec bench shop.dataset --embeddings shop.emb --cutoff 2011-11-01 --out run
    polyvec bench shop.dataset --embeddings guim=a.emb --embeddings guim=b.emb --embeddings als=als.emb \\
        --cutoff 2011-11-01 --out run
    polyvec bench shop.dataset --users users.npy --user-ids users.txt --items items.npy \\
        --item-ids items.txt --score max_dot --name ALS --cutoff 2011-11-01 --out run
    polyvec bench --compare run1 run2
    """  # noqa: D301
    from polyvec.errors import UsageError

    if options["compare"] is not None:
        from polyvec.evaluation.benchmark_report import compare_runs

        _show_pairs(compare_runs(*options["compare"], options["seed"]), as_json=options["as_json"])
        return
    _check_files(options)
    if dataset is None or options["out"] is None or not (options["embeddings"] or options["users"]):
        raise UsageError(
            "a benchmark needs a Dataset, --embeddings (or --users) and --out",
            expected="polyvec bench shop.dataset --embeddings shop.emb --out run, or --compare RUN RUN",
        )
    with tempfile.TemporaryDirectory() as scratch:
        _run(dataset, options["out"], options, Path(scratch))


def _run(dataset: Path, out: Path, options: Options, scratch: Path) -> None:
    from polyvec.artifact import read_manifest, refuse_existing
    from polyvec.data.dataset import Dataset, parse_time
    from polyvec.embeddings import Embeddings
    from polyvec.evaluation.benchmark import benchmark, check, tune
    from polyvec.evaluation.benchmark_report import KIND, PAGE, write_benchmark
    from polyvec.evaluation.evaluate import Settings

    refuse_existing(out, KIND, overwrite=options["overwrite"])
    folders, users = _folders(options["embeddings"]), options["users"]
    told = {name: [str(path) for path in paths] for name, paths in folders.items()}
    if users is not None:
        name, place = options["name"] or users.stem, scratch / "vectors.emb"
        _check_new(name, folders)
        folders[name], told[name] = [place], [str(users)]
    _check_sasrec(folders, options["sasrec"])
    data = Dataset.open(dataset)
    if users is not None:
        provenance = {} if options["name"] is None else {"system": options["name"]}
        read_vectors(users, place, options, provenance, data)
    settings = Settings(
        options["history_days"], options["target_days"], options["remove_seen"], options["seed"]
    )
    cutoff = None if options["cutoff"] is None else parse_time(options["cutoff"], data)
    truths = truths_of(data, options["profiles"], options["labels"], options["shop"], options["target_days"])
    systems = {name: [Embeddings.open(path) for path in paths] for name, paths in folders.items()}
    if options["sasrec"] or options["tune"]:  # before minutes are spent on them; else benchmark's own does
        check(systems, data, cutoff, settings, truths)
    systems |= _sasrec(data, cutoff, settings, options["sasrec"])
    tuning = tune(data, cutoff, settings) if options["tune"] else None
    done = benchmark(systems, data, cutoff, settings, truths, tuning)
    protocol = {
        "dataset": str(dataset),
        "cutoff": options["cutoff"] or "last event",
        "history_days": settings.history_days,
        "target_days": settings.target_days,
        "seen_removed": settings.remove_seen,
        "sasrec_seeds": options["sasrec"],
        "tuning": None if tuning is None else asdict(tuning),
        "embeddings": told,
    }
    parents = {"dataset": read_manifest(dataset, "dataset")}
    for name, paths in folders.items():
        parents |= {f"{name} {n}": read_manifest(path, "embeddings") for n, path in enumerate(paths)}
    content = write_benchmark(out, done, protocol, parents, overwrite=options["overwrite"])
    if options["as_json"]:
        click.echo(json.dumps(content | {"page": str(out / PAGE)}))
        return
    print_recall(done.matching, ("task", "ranker"))
    for verdict in content["verdicts"]:
        click.echo(f"{verdict['task']}: {verdict['text']}")
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(str(out / PAGE))


def _check_files(options: Options) -> None:
    """Refuse files that belong to vectors which are not given."""
    from polyvec.errors import UsageError

    for key in ("user_ids", "items", "item_ids", "score", "name"):
        if options["users"] is None and options[key] is not None:
            raise UsageError(
                f"--{key.replace('_', '-')} is given without --users",
                mend="name the vectors of the users: --users FILE",
            )


def _check_new(name: str, others: Collection[str]) -> None:
    """Refuse vectors in files that are called like Embeddings: one would replace the other."""
    from polyvec.errors import UsageError

    if name in others:
        raise UsageError(
            f"the vectors of --users and Embeddings are both called {name}", mend="choose another --name"
        )


def _check_sasrec(names: Collection[str], seeds: int) -> None:
    """Refuse Embeddings under the name of the baseline that is to be trained: one would replace the other."""
    from polyvec.errors import UsageError

    if seeds and SASREC in names:
        raise UsageError(
            f"Embeddings are given under the name {SASREC}, which --sasrec trains under",
            expected="one name for each system",
            mend="choose another name with --embeddings NAME=FOLDER or --name, or leave out --sasrec",
        )


def _sasrec(data: Dataset, cutoff: int | None, settings: Settings, seeds: int) -> dict[str, list[Embeddings]]:
    """Train the baseline as often as asked; nothing of it is kept but its vectors, in memory."""
    if not seeds:
        return {}
    from polyvec.systems.sasrec.baseline import baseline

    runs = []
    for seed in range(seeds):
        click.echo(f"{SASREC}, seed {seed}", err=True)
        with tempfile.TemporaryDirectory() as folder:
            runs.append(baseline(data, Path(folder), seed, cutoff, settings))
    return {SASREC: runs}


def _folders(given: tuple[str, ...]) -> dict[str, list[Path]]:
    """Folders by the system's name, which is the folder's own without one."""
    from polyvec.errors import UsageError

    folders: dict[str, list[Path]] = {}
    for text in given:
        name, _, path = ("", "", text) if Path(text).exists() or "=" not in text else text.partition("=")
        place = Path(path)
        if not name and place.stem in folders:
            raise UsageError(
                f"two Embeddings are called {place.stem}: {folders[place.stem][0]} and {place}",
                expected="one name for the seeds of one system, given with =, and different names else",
                mend=f"name them: --embeddings NAME={place}",
            )
        folders.setdefault(name or place.stem, []).append(place)
    return folders


def _show_pairs(pairs: pl.DataFrame, *, as_json: bool) -> None:
    """Print differences between two runs."""
    if as_json:
        click.echo(json.dumps(pairs.to_dicts()))
        return
    for row in pairs.iter_rows(named=True):
        names = row["ranker"] if row["ranker"] == row["against"] else f"{row['ranker']} − {row['against']}"
        sure = "" if row["low"] > 0 or row["high"] < 0 else "  not significant"
        click.echo(
            f"{row['task']}, {row['metric']}, {row['part']}: {names}: {row['difference']:+.4f} "
            f"[{row['low']:+.4f}, {row['high']:+.4f}], {row['users']:,} users{sure}"
        )
