"""``polyvec verify``: check every byte of a folder against its manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from polyvec.artifact import Manifest


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(path: Path, *, as_json: bool) -> None:
    """Hash every file of the polyvec folder PATH, of any kind, and compare with its manifest.

    Ends with exit code 4 and names the file if one is missing, cut short or changed.

    \b
    polyvec verify shop.dataset
    polyvec verify shop.emb --json
    """  # noqa: D301
    from polyvec.artifact import unlisted_files, verify

    manifest = verify(path)
    unlisted = unlisted_files(path, manifest)
    if as_json:
        click.echo(json.dumps(_summary(path, manifest) | {"unlisted": unlisted}))
        return
    for label, value in _summary(path, manifest).items():
        click.echo(f"{label:12} {_for_people(value)}")
    for name in unlisted:
        click.echo(f"note: {name} is not in the manifest; nothing reads it", err=True)


def _summary(path: Path, manifest: Manifest) -> dict[str, object]:
    return {
        "path": str(path),
        "kind": manifest.kind,
        "files": len(manifest.files),
        "bytes": sum(entry["bytes"] for entry in manifest.files.values()),
        "fingerprint": manifest.fingerprint,
        "parents": manifest.parents,
        "created": manifest.created,
        "polyvec": manifest.polyvec,
    }


def _for_people(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{role} {fingerprint}" for role, fingerprint in value.items()) or "none"
    return str(value)
