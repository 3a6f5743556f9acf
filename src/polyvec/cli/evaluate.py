"""``polyvec evaluate``: ask Embeddings the downstream tasks and write a Report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from polyvec.cli.tables import print_recall
from polyvec.cli.truths import DAYS, truths_of

if TYPE_CHECKING:
    from typing import Any, Unpack

    import polars as pl


class Options(TypedDict):
    """Options of the verb, as click hands them over."""

    cutoffs: tuple[str, ...]
    history_days: float
    target_days: float
    remove_seen: bool
    profiles: Path | None
    labels: str | None
    shop: Path | None
    model: Path | None
    seed: int
    overwrite: bool
    as_json: bool


@click.command()
@click.argument("embeddings", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Report folder to write.")
@click.option("--cutoff", "cutoffs", multiple=True, help="Date, e.g. 2011-11-01; may be repeated.")
@click.option(
    "--history-days", type=DAYS, default=365.0, show_default=True, help="Days of history before a cut-off."
)
@click.option(
    "--target-days", type=DAYS, default=30.0, show_default=True, help="Days to foretell after a cut-off."
)
@click.option("--remove-seen", is_flag=True, help="Ordered data: take items of the history out of answers.")
@click.option(
    "--profiles", type=click.Path(path_type=Path), help="Table (Parquet, CSV, Arrow): user_id and labels."
)
@click.option("--labels", help="Columns of --profiles to predict, with commas; all without it.")
@click.option("--shop", type=click.Path(path_type=Path), help="Synthetic shop: adds oracle and interests.")
@click.option("--model", type=click.Path(path_type=Path), help="Model whose training curves to show.")
@click.option("--seed", default=0, show_default=True, help="Of bootstrap and of the people shown.")
@click.option("--overwrite", is_flag=True, help="Replace an existing Report.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(embeddings: Path, dataset: Path, out: Path, **options: Unpack[Options]) -> None:
    """Ask EMBEDDINGS what the users of DATASET will buy, and write a Report.

    Matching tasks by the protocol of GUIM (CMP-L, CMP-S, CMP-N), beside popularity and personal frequency,
    repeats and new items apart. Data with an order and no timestamps: leave-one-out. Without --cutoff the
    moment that the embeddings were made for.

    \b
    polyvec evaluate shop.emb shop.dataset --cutoff 2011-11-01 --out report
    polyvec evaluate shop.emb shop.dataset --profiles users.parquet --labels has_child --out report
    """  # noqa: D301
    from polyvec.artifact import refuse_existing
    from polyvec.data.dataset import Dataset, parse_time
    from polyvec.embeddings import Embeddings
    from polyvec.evaluation.evaluate import Settings, evaluate
    from polyvec.evaluation.report import PAGE, Sources, write_report

    refuse_existing(out, "report", overwrite=options["overwrite"])
    vectors, data = Embeddings.open(embeddings), Dataset.open(dataset)
    settings = Settings(
        options["history_days"], options["target_days"], options["remove_seen"], options["seed"]
    )
    cutoffs = [parse_time(text, data) for text in options["cutoffs"]]
    truths = truths_of(data, options["profiles"], options["labels"], options["shop"], options["target_days"])
    evaluation = evaluate(vectors, data, cutoffs, settings, truths)
    sources = Sources(embeddings, dataset, options["model"])
    content = write_report(out, evaluation, vectors, data, settings, sources, overwrite=options["overwrite"])
    if options["as_json"]:
        chosen = {key: content[key] for key in ("cutoffs", "notes", "verdicts", "results", "profiles")}
        click.echo(json.dumps(chosen | {"report": str(out / PAGE)}))
    else:
        _show(evaluation.results, content)
        click.echo(str(out / PAGE))


def _show(results: pl.DataFrame, content: dict[str, Any]) -> None:
    """Print recall@100 of every ranker and task, then the verdicts."""
    print_recall(results, ("cutoff", "task", "ranker"))
    for verdict in content["verdicts"]:
        click.echo(f"{verdict['task']}: {verdict['ranker']}: {verdict['text']}")
    for note in content["notes"]:
        click.echo(f"note: {note}", err=True)
