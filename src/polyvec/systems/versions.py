"""Versions of a Model that is updated: what it was before, and the way back.

Beside ``shop.model`` lies ``shop.model.versions/``, with a whole Model folder of every version that was
replaced or gone back from, the latest seven. Files are shared with the Model where the file system lets them
be (hard links): a version takes no further room until the Model goes on.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from polyvec.artifact import MANIFEST, Manifest, copy_whole, read_manifest, verify
from polyvec.errors import ArtifactError
from polyvec.systems.folder import alone, write_model

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from polyvec.data.dataset import Dataset
    from polyvec.systems.folder import Saved

KEPT = 7


def versions(path: Path) -> dict[int, Path]:
    """Folders of the versions that are kept of the Model at ``path``, by number, ascending."""
    folder = _folder(path)
    found = [one for one in folder.iterdir() if one.name.isdigit()] if folder.is_dir() else []
    return {int(one.name): one for one in sorted(found, key=lambda one: int(one.name))}


def version_of(path: Path) -> int:
    """Number of the version that is in place; a Model that was just fitted is the first, or follows the last.

    Raises
    ------
    ArtifactError
        If there is no whole Model.
    """
    manifest, kept = read_manifest(path, "model"), versions(path)
    told, last = int(manifest.meta.get("version", 1)), max(versions(path), default=0)
    # A Model that was fitted in the place of an updated one has a number that is taken.
    return _kept_as(manifest.fingerprint, kept) or (told if told > last else last + 1)


def next_version(path: Path) -> int:
    """Number of the version that follows: one above all that there are."""
    return max([version_of(path), *versions(path)]) + 1


def _kept_as(fingerprint: str | None, kept: dict[int, Path]) -> int | None:
    """Number of the version with a fingerprint."""
    return next((number for number, place in kept.items() if _fingerprint(place) == fingerprint), None)


def _fingerprint(place: Path) -> str | None:
    """What a version's manifest says, without a look at its files; None where it cannot be read."""
    try:
        return str(json.loads((place / MANIFEST).read_text("utf-8"))["fingerprint"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def keep(path: Path) -> None:
    """Keep the Model at ``path`` among its versions, where it is not kept yet.

    Raises
    ------
    ArtifactError
        If there is no whole Model.
    """
    number = version_of(path)
    if number not in versions(path):
        copy_whole(path, _folder(path) / f"{number:04d}")


def forget_old(path: Path) -> None:
    """Remove all versions but the latest seven, and the one that the Model was updated from."""
    kept = versions(path)
    before = _kept_as(read_manifest(path, "model").parents.get("model"), kept)
    for number in [*kept][:-KEPT]:
        if number != before:
            half = kept[number].with_name(f".{number}.forgotten")  # no version, whenever this is stopped
            kept[number].rename(half)
    for half in _folder(path).glob(".*.forgotten"):
        shutil.rmtree(half)


def publish(
    path: Path,
    model: Saved,
    dataset: Dataset,
    workspace: Path,
    meta: dict[str, Any],
    card: str,
    before: Manifest | None,
) -> None:
    """Put an updated Model in the place of the one that it was updated from, which is kept.

    Parameters are those of :func:`polyvec.systems.folder.write_model`.

    Raises
    ------
    ArtifactError
        If another Model than ``before`` stands there by now.
    """
    there = read_manifest(path, "model")
    if before is None or there.fingerprint != before.fingerprint:
        raise ArtifactError(
            f"{path} was replaced while it was being updated",
            file=path,
            expected="the Model that the update began with",
            mend="update again: it begins with the Model that is there now",
        )
    keep(path)
    write_model(
        path,
        model,
        dataset,
        workspace,
        meta,
        card=card,
        overwrite=True,
        keeps_optimizers=True,
        before=before,
    )
    forget_old(path)


def rollback(path: Path, to: int | None = None) -> Manifest:
    """Put an earlier version in the place of the Model at ``path``, the same to the bit.

    What stood there is kept among the versions. The next update begins with the version that was gone back
    to, and learns again what came after it.

    Parameters
    ----------
    path
        A Model folder that was updated.
    to
        Number of the version; None stands for the one that the Model was updated from.

    Returns
    -------
    Manifest
        Of the version that is in place now.

    Raises
    ------
    ArtifactError
        If there is no such version, it is damaged, or another process is at work on the Model.
    """
    path = path.resolve()  # a link goes on leading to it
    read_manifest(path, "model")  # no lock beside what is no Model
    with alone(path):
        return _put_back(path, to)


def _put_back(path: Path, to: int | None) -> Manifest:
    current, kept = version_of(path), versions(path)
    before = read_manifest(path, "model").parents.get("model")
    number = to if to is not None else _kept_as(before, kept)
    if number not in kept or number is None:
        raise ArtifactError(
            f"{path} has no version {to}" if to is not None else f"{path} has no version before {current}",
            file=_folder(path),
            expected=f"one of {', '.join(map(str, kept))}" if kept else "a Model that was updated",
            mend="name a version that is kept with --to" if kept else "",
        )
    verify(kept[number], "model")
    keep(path)
    copy_whole(kept[number], path)
    return read_manifest(path, "model")


def _folder(path: Path) -> Path:
    path = path.resolve()
    return path.with_name(f"{path.name}.versions")
