"""What the verbs share that read vectors made elsewhere: their options, and the reading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings, Score


class VectorFiles(TypedDict):
    """Options of :func:`vector_files` beside ``--users``, as click hands them over."""

    user_ids: Path | None
    items: Path | None
    item_ids: Path | None
    score: Score | None


def vector_files(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--users``, which may be ``required``, ``--user-ids``, ``--items``, ``--item-ids`` and ``--score``."""
    options = [
        click.option(
            "--users",
            required=required,
            type=click.Path(path_type=Path),
            help="npy [users, D] or [users, C, D]; Parquet: user_id and a list, vector or vectors (C·D "
            "numbers); or a folder: of polyvec export (brings its items along), or a submission of the "
            "RecSys Challenge 2025.",
        ),
        click.option(
            "--user-ids", type=click.Path(path_type=Path), help="Ids of users.npy: npy, Parquet, txt or csv."
        ),
        click.option(
            "--items",
            type=click.Path(path_type=Path),
            help="npy [items, D]; Parquet: item_id and a list, vector; without any, only tasks of users can "
            "be asked.",
        ),
        click.option(
            "--item-ids", type=click.Path(path_type=Path), help="Ids of items.npy: npy, Parquet, txt or csv."
        ),
        click.option(
            "--score",
            type=click.Choice(["max_cosine", "max_dot"]),
            help="How users and items are compared.  [the export's own, or max_cosine]",
        ),
    ]

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


def read_vectors(
    users: Path,
    out: Path,
    files: VectorFiles,
    provenance: Mapping[str, Any],
    dataset: Dataset | None,
    *,
    overwrite: bool = False,
) -> Embeddings:
    """Write Embeddings of the files; what is refused is told by :func:`polyvec.foreign.import_vectors`."""
    from polyvec.foreign import import_vectors

    return import_vectors(
        users,
        out,
        items=files["items"],
        user_ids=files["user_ids"],
        item_ids=files["item_ids"],
        score=files["score"],
        provenance=dict(provenance),
        dataset=dataset,
        overwrite=overwrite,
    )
