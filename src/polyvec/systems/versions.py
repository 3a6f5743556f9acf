"""Versions of a Model that is updated: what it was before, and the way back.

Beside ``shop.model`` lies ``shop.model.versions/``, with a whole Model folder of every version that was
replaced or gone back from, the latest seven. Files are shared with the Model where the file system lets them
be (hard links): a version takes no further room until the Model goes on.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from polyvec.artifact import Manifest, copy_whole, read_manifest, verify
from polyvec.errors import ArtifactError
from polyvec.systems.folder import write_model

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from polyvec.data.dataset import Dataset
    from polyvec.systems.folder import Saved

KEPT = 7


def version_of(manifest: Manifest | None) -> int:
    """Number of a Model's version; one that was just fitted is the first."""
    return int(manifest.meta.get("version", 1)) if manifest else 1


def versions(path: Path) -> dict[int, Path]:
    """Folders of the versions that are kept of the Model at ``path``, by number, ascending."""
    folder = _folder(path)
    found = [one for one in folder.iterdir() if one.name.isdigit()] if folder.is_dir() else []
    return {int(one.name): one for one in sorted(found)}


def next_version(path: Path) -> int:
    """Number of the version that follows: one above all that there are."""
    return max([version_of(read_manifest(path, "model")), *versions(path)]) + 1


def keep(path: Path) -> None:
    """Keep the Model at ``path`` among its versions, where it is not kept yet.

    Raises
    ------
    ArtifactError
        If there is no whole Model.
    """
    manifest = read_manifest(path, "model")
    place = _folder(path) / f"{version_of(manifest):04d}"
    if not (place.exists() and read_manifest(place, "model").fingerprint == manifest.fingerprint):
        copy_whole(path, place)


def forget_old(path: Path) -> None:
    """Remove all versions but the latest seven."""
    for old in [*versions(path).values()][:-KEPT]:
        shutil.rmtree(old)


def publish(
    path: Path, model: Saved, dataset: Dataset, workspace: Path, meta: dict[str, Any], card: str
) -> None:
    """Put an updated Model in the place of the one that it was updated from, which is kept.

    Parameters are those of :func:`polyvec.systems.folder.write_model`.
    """
    before = read_manifest(path, "model")
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
        Number of the version; None stands for the one before.

    Returns
    -------
    Manifest
        Of the version that is in place now.

    Raises
    ------
    ArtifactError
        If there is no such version, or it is damaged.
    """
    current, kept = version_of(read_manifest(path, "model")), versions(path)
    earlier = [number for number in kept if number < current]
    number = to if to is not None else max(earlier, default=None)
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
    return path.with_name(f"{path.name}.versions")
