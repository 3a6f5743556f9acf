"""``polyvec import``: vectors made elsewhere become Embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from polyvec.cli.tables import told_vectors
from polyvec.cli.vector_files import VectorFiles, read_vectors, vector_files

if TYPE_CHECKING:
    from typing import Unpack

    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings


class Options(VectorFiles):
    """Options of the verb, as click hands them over."""

    name: str | None
    events_until: str | None
    trained_until: str | None
    held_back: int | None
    trained_held_back: int | None
    dataset: Path | None
    overwrite: bool
    as_json: bool


@click.command("import")
@vector_files(required=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Embeddings folder to write.")
@click.option("--name", help="Name of the system in reports.")
@click.option("--events-until", help="Date: users were encoded from events before it alone.")
@click.option("--trained-until", help="Date: the system was trained, and chosen, on events before it alone.")
@click.option(
    "--held-back",
    type=click.IntRange(min=0),
    help="Ordered data: events at the end of each history that users were not encoded from.",
)
@click.option(
    "--trained-held-back",
    type=click.IntRange(min=0),
    help="Ordered data: events at the end of each history that the system was not trained on.",
)
@click.option("--dataset", type=click.Path(path_type=Path), help="Tell how many of its ids have vectors.")
@click.option("--overwrite", is_flag=True, help="Replace existing Embeddings.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(users: Path, out: Path, **options: Unpack[Options]) -> None:
    """Take vectors made elsewhere and write Embeddings, which every other verb reads.

    Ids are kept as they are: 007 is not 7. What is told of the making (--events-until, --trained-until,
    --held-back, --trained-held-back) is what evaluate checks for leaks; what is not told it notes as unknown.

    \b
    polyvec import --users users.npy --user-ids users.txt --items items.npy --item-ids items.txt \\
        --name ALS --score max_dot --events-until 2011-11-01 --trained-until 2011-11-01 \\
        --dataset shop.dataset --out als.emb
    polyvec import --users users.parquet --items items.parquet --score max_dot --out other.emb
    polyvec import --users shop.npy --out shop.emb
    polyvec import --users submission --out submission.emb
    """  # noqa: D301
    from polyvec.artifact import refuse_existing
    from polyvec.data.dataset import Dataset

    refuse_existing(out, "embeddings", overwrite=options["overwrite"])
    data = None if options["dataset"] is None else Dataset.open(options["dataset"])
    provenance = _provenance(options, data)
    embeddings = read_vectors(users, out, options, provenance, data, overwrite=options["overwrite"])
    _say(out, embeddings, data, as_json=options["as_json"])


def _provenance(options: Options, dataset: Dataset | None) -> dict[str, Any]:
    """What was told, in the unit of the Dataset: without one, of data with timestamps."""
    from polyvec.data.dataset import parse_date, parse_time
    from polyvec.data.split import check_moment

    told: dict[str, Any] = {"system": options["name"], "held_back": options["held_back"]}
    told["trained_held_back"] = options["trained_held_back"]
    for key, text in [("events_until", options["events_until"]), ("trained_until", options["trained_until"])]:
        if text is not None:
            told[key] = parse_date(text) if dataset is None else parse_time(text, dataset)
    if dataset is not None:
        until = told.get("events_until", told.get("trained_until"))
        check_moment(dataset, until, options["held_back"] or 0, needs_past=False)
    return {key: value for key, value in told.items() if value is not None}


def _say(out: Path, embeddings: Embeddings, dataset: Dataset | None, *, as_json: bool) -> None:
    overlap = None if dataset is None else _overlap(embeddings, dataset)
    summary = {
        "path": str(out),
        "users": len(embeddings.users),
        "items": len(embeddings.items),
        "C": embeddings.num_vectors,
        "D": embeddings.width,
        "score": embeddings.score,
        "provenance": embeddings.provenance,
        "dataset": overlap,
    }
    if as_json:
        click.echo(json.dumps(summary))
    else:
        click.echo(told_vectors(out, embeddings))
        if overlap is not None:
            click.echo("of the Dataset {users:,} users and {items:,} items have vectors".format(**overlap))


def _overlap(embeddings: Embeddings, dataset: Dataset) -> dict[str, Any]:
    """Tell how many of the Dataset's ids have vectors; what is missing goes to stderr."""
    from dataclasses import asdict

    from polyvec.data.overlap import check_overlap

    overlap = check_overlap(embeddings, dataset)
    for note in overlap.notes:
        click.echo(f"note: {note}", err=True)
    return asdict(overlap)
