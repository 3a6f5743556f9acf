"""``polyvec recommend``: the best items of users."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    import polars as pl

    from polyvec.embeddings import Embeddings
    from polyvec.ids import RawId
    from polyvec.retrieval.found import Index
    from polyvec.retrieval.ranking import Ranking


class Filters(TypedDict):
    """Options that narrow the answer."""

    not_seen: bool
    habits: bool
    allow: Path | None
    category: str | None
    dataset: Path | None


@click.command()
@click.argument("embeddings", type=click.Path(path_type=Path))
@click.option("--user", "users", multiple=True, help="Raw id of a user; may be repeated.")
@click.option("--users", "users_file", type=click.Path(path_type=Path), help="File of user ids.")
@click.option("-k", default=10, show_default=True, help="Items per user.")
@click.option(
    "--index",
    type=click.Choice(["exact", "faiss"]),
    default="exact",
    show_default=True,
    help="exact: matrix product; faiss: HNSW graph, for large catalogues and many users.",
)
@click.option("--not-seen", is_flag=True, help="Leave out the items of the user's events in --dataset.")
@click.option("--habits", is_flag=True, help="Raise own items and what sells now in --dataset.")
@click.option("--allow", type=click.Path(path_type=Path), help="File of the only item ids to return.")
@click.option("--category", help="Return only items of this category of --dataset.")
@click.option("--dataset", type=click.Path(path_type=Path), help="Dataset for filters and titles.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the answers to this file: Parquet, or .csv."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    embeddings: Path,
    users: tuple[str, ...],
    users_file: Path | None,
    k: int,
    index: str,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    **filters: Unpack[Filters],
) -> None:
    """Find the best items of users of EMBEDDINGS by the max over each user's vectors.

    The answer tells each item's score, which of the user's vectors matched it, and how the user was known:
    warm (seen in training), cold (encoded from events alone), empty (no events) or unknown (vectors made
    elsewhere). Files of ids are Parquet (column user_id or item_id) or text, one id per line.

    \b
    polyvec recommend shop.emb --user 17850 --dataset shop.dataset
    polyvec recommend shop.emb --user 17850 --dataset shop.dataset --habits
    polyvec recommend shop.emb --user 17850 --not-seen --category toys --dataset shop.dataset
    polyvec recommend shop.emb --users users.parquet -k 100 --index faiss --out recommendations.parquet
    """  # noqa: D301
    from polyvec.artifact import refuse_file
    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings
    from polyvec.retrieval.habits import Weights
    from polyvec.retrieval.id_lists import read_ids
    from polyvec.retrieval.ranking import recommend

    if out is not None:
        refuse_file(out, overwrite=overwrite)
    vectors = Embeddings.open(embeddings)
    data = None if filters["dataset"] is None else Dataset.open(filters["dataset"])
    allowed = None if filters["allow"] is None else read_ids(filters["allow"], vectors.items.ids)
    if allowed is not None:
        unknown = int((vectors.items.ids.rows(allowed) < 0).sum())
        if unknown:
            click.echo(f"note: {unknown:,} of {len(allowed):,} allowed ids have no vector", err=True)
    ranking = recommend(
        vectors,
        _asked(vectors, users, users_file),
        k,
        index=_index(vectors, index),
        allow=allowed,
        not_seen=filters["not_seen"],
        habits=filters["habits"],
        category=filters["category"],
        dataset=data,
    )
    if filters["habits"] and not Weights(**vectors.provenance["habits"]):
        click.echo("note: habits weigh nothing here: on validation the vectors alone were best", err=True)
    answers = with_titles(ranking.table(), None if data is None else data.item_table)
    if out is not None:
        _write(out, answers)
    if as_json:
        click.echo(json.dumps({"users": list(_per_user(ranking, answers))}))
    elif out is None:
        _show_all(ranking, answers)


def with_titles(answers: pl.DataFrame, catalogue: pl.DataFrame | None) -> pl.DataFrame:
    """Add the catalogue's titles, where it has them, beside the item ids."""
    if catalogue is None or "title" not in catalogue.columns:
        return answers
    titles = catalogue.select("item_id", "title")
    if titles["item_id"].dtype != answers["item_id"].dtype:
        titles, answers = (frame.cast({"item_id": str}) for frame in (titles, answers))
    return answers.join(titles, on="item_id", how="left", maintain_order="left")


def show(heading: str, answers: pl.DataFrame) -> None:
    """Print answers to one query as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(heading), title_justify="left", box=None)
    for name in answers.columns:
        table.add_column(name, justify="right" if answers[name].dtype.is_numeric() else "left")
    for row in answers.iter_rows():
        table.add_row(*(Text(f"{cell:.4f}" if isinstance(cell, float) else str(cell)) for cell in row))
    Console().print(table)
    if not len(answers):
        click.echo("no item: the filters leave none", err=True)


def _asked(vectors: Embeddings, users: tuple[str, ...], users_file: Path | None) -> list[RawId]:
    """Ids asked for on the command line and in the file, in this order."""
    from polyvec.errors import UsageError
    from polyvec.retrieval.id_lists import read_ids

    asked = [vectors.users.ids.parse(user) for user in users]
    if users_file is not None:
        asked += read_ids(users_file, vectors.users.ids)
    if not asked:
        raise UsageError("no user is asked for", expected="--user ID or --users FILE")
    return list(dict.fromkeys(asked))


def _index(vectors: Embeddings, name: str) -> Index:
    if name == "exact":
        from polyvec.retrieval.exact import ExactIndex

        return ExactIndex(vectors.unit_items())
    from polyvec.retrieval.approximate import FaissIndex

    click.echo(f"building a graph of {len(vectors.items):,} items", err=True)
    return FaissIndex(vectors.unit_items())


def _write(path: Path, answers: pl.DataFrame) -> None:
    from polyvec.artifact import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, answers.write_csv if path.suffix == ".csv" else answers.write_parquet)
    click.echo(f"{len(answers):,} answers in {path}", err=True)


def _per_user(ranking: Ranking, answers: pl.DataFrame) -> Iterator[dict[str, object]]:
    """One entry per user asked for, users without an answer included."""
    groups = {key[0]: group for key, group in answers.group_by("user_id", maintain_order=True)}
    for user_id, state in zip(ranking.ids, ranking.states, strict=True):
        group = groups.get(user_id, answers.clear())
        yield {"user_id": user_id, "state": state, "items": group.drop("user_id", "state").to_dicts()}


def _show_all(ranking: Ranking, answers: pl.DataFrame) -> None:
    groups = {key[0]: group for key, group in answers.group_by("user_id", maintain_order=True)}
    for user_id, state in zip(ranking.ids, ranking.states, strict=True):
        show(f"user {user_id} ({state})", groups.get(user_id, answers.clear()).drop("user_id", "state"))
