"""``polyvec export``: Embeddings as plain files for other tools."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("embeddings", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["npy", "parquet"]),
    default="npy",
    show_default=True,
    help="npy: arrays [users, C, D] and [items, D], ids beside them as Parquet. "
    "parquet: long tables user_id, interest, vector and item_id, vector.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Precision of the numbers.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    embeddings: Path, out: Path, file_format: str, dtype: str, *, overwrite: bool, as_json: bool
) -> None:
    """Write the vectors of EMBEDDINGS as npy or Parquet files into the folder --out, whole or not at all.

    \b
    polyvec export shop.emb --out shop.npy
    polyvec export shop.emb --out shop.parquet --format parquet --dtype float16

    \b
    In Python afterwards:
    numpy.load("shop.npy/users.npy")                  # [users, C, D]
    polars.read_parquet("shop.npy/user_ids.parquet")  # in the same order
    """  # noqa: D301
    from polyvec.artifact import read_manifest, refuse_existing
    from polyvec.embeddings import Embeddings
    from polyvec.export import export

    refuse_existing(out, overwrite=overwrite)
    parents = {"embeddings": read_manifest(embeddings, "embeddings")}
    manifest = export(
        Embeddings.open(embeddings),
        out,
        "npy" if file_format == "npy" else "parquet",
        "float16" if dtype == "float16" else "float32",
        overwrite=overwrite,
        parents=parents,
    )
    if as_json:
        click.echo(json.dumps({"path": str(out), "files": manifest.files, **manifest.meta}))
        return
    for name, entry in manifest.files.items():
        click.echo(f"{out / name}  {entry['bytes']:,} bytes")
