"""Options of the verbs that read vectors made elsewhere: the files, and how users and items are compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


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
