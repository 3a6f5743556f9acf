"""``polyvec export``: Embeddings as plain files for other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from polyvec.export import Format, Precision


@click.command()
@click.argument("embeddings", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["npy", "parquet", "recsys2025"]),
    default="npy",
    show_default=True,
    help="npy: arrays [users, C, D] and [items, D], ids beside them as Parquet. "
    "parquet: long tables user_id, interest, vector and item_id, vector. "
    "recsys2025: a submission of the RecSys Challenge 2025, users alone.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    help="Precision of the numbers.  [float32; recsys2025: float16]",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    embeddings: Path,
    out: Path,
    file_format: Format,
    dtype: Precision | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the vectors of EMBEDDINGS as plain files into the folder --out, whole or not at all.

    \b
    polyvec export shop.emb --out shop.npy
    polyvec export shop.emb --out shop.parquet --format parquet --dtype float16
    polyvec export shop.emb --out submission --format recsys2025

    \b
    In Python afterwards:
    numpy.load("shop.npy/users.npy")                  # [users, C, D]
    polars.read_parquet("shop.npy/user_ids.parquet")  # in the same order
    """  # noqa: D301
    from polyvec.artifact import read_manifest, refuse_existing
    from polyvec.embeddings import Embeddings
    from polyvec.export import export

    refuse_existing(out, "export", overwrite=overwrite)
    parents = {"embeddings": read_manifest(embeddings, "embeddings")}
    manifest = export(
        Embeddings.open(embeddings),
        out,
        file_format,
        dtype,
        overwrite=overwrite,
        parents=parents,
    )
    if as_json:
        click.echo(json.dumps({"path": str(out), "files": manifest.files, **manifest.meta}))
        return
    for name, entry in manifest.files.items():
        click.echo(f"{out / name}  {entry['bytes']:,} bytes")
