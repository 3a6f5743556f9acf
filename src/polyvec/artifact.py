"""Folders on disk that are whole or absent.

An artefact is written into a hidden staging folder beside its final place; every file is flushed to disk
and hashed into ``manifest.json``; then one rename makes it visible. Whatever interrupts the writer, a whole
folder stands there or none, never a part. A folder that is replaced changes places with the new one in one
step where the file system can (most of Linux's and macOS's own). Elsewhere it takes two renames; a crash
exactly between them leaves the previous folder whole under the name ``.NAME.replaced``. A reader that opens
files one by one meanwhile may meet both; sizes and hashes in the manifest tell.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from polyvec.errors import ArtifactError
from polyvec.exchange import exchange

MANIFEST = "manifest.json"
REQUEST = "request.json"
FORMAT = 1
MEASURED = "_seconds"  # ends the names of entries that differ from run to run, whatever was asked for
FULL_HASH_LIMIT = 256 * 2**20  # larger files are hashed by verify() only, smaller ones at every opening


@dataclass(frozen=True)
class Manifest:
    """What an artefact folder holds.

    Attributes
    ----------
    kind
        ``dataset``, ``model``, ``embeddings``, ``report`` or ``checkpoint``.
    files
        Size in bytes and SHA-256 of every file, by path relative to the folder.
    parents
        Fingerprint of every artefact this one was made from, by role.
    meta
        Whatever the kind wants to remember (JSON values).
    fingerprint
        SHA-256 over kind, files and meta: the identity of the content. Entries of ``meta``, at any depth,
        whose name ends in ``_seconds`` are measurements and no part of it.
    """

    kind: str
    files: dict[str, dict[str, Any]]
    parents: dict[str, str]
    meta: dict[str, Any]
    fingerprint: str
    created: str
    polyvec: str


def stage_path(path: Path) -> Path:
    """Return the hidden folder in which the artefact ``path`` is made."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def writing(
    path: Path,
    kind: str,
    *,
    meta: dict[str, Any],
    parents: Mapping[str, Manifest] | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Iterator[Path]:
    """Yield a staging folder that becomes the artefact ``path`` if the block ends without an exception.

    ``meta`` is read when the block ends, so the block may fill it. With ``resume`` files left by an
    interrupted writer stay in the staging folder; without it the folder starts empty.

    Raises
    ------
    ArtifactError
        If ``path`` exists and ``overwrite`` is false, or holds something that polyvec did not write.
    """
    path = _followed(path)
    refuse_existing(path, kind, overwrite=overwrite)
    stage = stage_path(path)
    if stage.exists() and not resume:
        shutil.rmtree(stage)
    stage.mkdir(parents=True, exist_ok=True)
    try:
        yield stage
        _seal(stage, kind, meta, {role: parent.fingerprint for role, parent in (parents or {}).items()})
    except BaseException:
        if not resume:
            shutil.rmtree(stage, ignore_errors=True)
        raise
    _publish(stage, path)


def copy_whole(source: Path, path: Path) -> None:
    """Put a copy of an artefact at ``path``, whole or not at all, in the place of one that stands there.

    Files are hard links where the file system has them: no writer changes a file that it has published.

    Raises
    ------
    ArtifactError
        If ``path`` holds something that polyvec did not write.
    """
    path = _followed(path)
    refuse_existing(path, str(kind_of(source)), overwrite=True)
    stage = stage_path(path)
    if stage.exists():
        shutil.rmtree(stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source, stage, copy_function=link_or_copy)
        _flush_folders(stage)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    _publish(stage, path)


def claim(folder: Path, request: dict[str, Any], *, resume: bool) -> None:
    """Take a working folder for a request: empty it, or keep what the same request has left in it.

    Parameters
    ----------
    folder
        Made if it is missing.
    request
        What is asked for (JSON values); remembered in the folder.
    resume
        Keep the folder as it is, if a request was remembered there.

    Raises
    ------
    ArtifactError
        If the request to resume was another one.
    """
    record, asked = folder / REQUEST, json.dumps(request, indent=1) + "\n"
    if resume and record.is_file():
        if record.read_text("utf-8") != asked:
            raise ArtifactError(
                "the interrupted call was another one",
                file=record,
                expected="the same data, configuration and options",
                mend="repeat the first command with --resume, or start afresh without it",
            )
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    write_whole(record, lambda unfinished: unfinished.write_text(asked, "utf-8"))


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` write ``file`` under another name, and name it when it is whole."""
    unfinished = file.with_name(f"{file.name}.writing")
    write(unfinished)
    unfinished.rename(file)


def refuse_existing(path: Path, kind: str, *, overwrite: bool) -> None:
    """Raise :class:`ArtifactError` if ``path`` is in the way of an artefact of that kind.

    With ``overwrite`` one of its kind may be replaced, or one whose manifest cannot be read; nothing else.
    """
    if not path.exists():
        return
    if not (path / MANIFEST).is_file():
        raise ArtifactError(
            f"{path} exists and was not written by polyvec",
            file=path,
            expected="a new path",
            mend="choose another output path",
        )
    if not overwrite:
        raise ArtifactError(
            f"{path} exists already",
            file=path,
            expected="a new path",
            mend="choose another output path or pass --overwrite",
        )
    if kind_of(path) not in (None, kind):
        raise ArtifactError(
            f"{path} is a folder of kind '{kind_of(path)}', which one of kind '{kind}' does not replace",
            file=path,
            expected="a new path",
            mend="choose another output path, or remove it first",
        )


def refuse_file(file: Path, *, overwrite: bool) -> None:
    """Raise :class:`ArtifactError` if a file is in the way and may not be replaced."""
    if file.exists() and not overwrite:
        raise ArtifactError(
            f"{file} exists already",
            file=file,
            expected="a new file",
            mend="choose another, or pass --overwrite",
        )


def read_manifest(path: Path, kind: str) -> Manifest:
    """Open the artefact at ``path``: check kind, version, the presence and size of every file, and hashes.

    Files over 256 MiB are checked by size only; :func:`verify` hashes everything.

    Raises
    ------
    ArtifactError
        If the folder is missing, incomplete, damaged, of another kind or of a newer format.
    """
    manifest = _parse_manifest(path, kind)
    _check_files(path, manifest, hash_limit=FULL_HASH_LIMIT)
    return manifest


def verify(path: Path, kind: str | None = None) -> Manifest:
    """As :func:`read_manifest`, for any kind if none is given, and hash every file whatever its size."""
    manifest = _parse_manifest(path, kind)
    _check_files(path, manifest, hash_limit=None)
    return manifest


def unlisted_files(path: Path, manifest: Manifest) -> list[str]:
    """Files in the folder that the manifest does not know, relative to it: no reader looks at them."""
    present = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    return sorted(present - set(manifest.files) - {MANIFEST})


def kind_of(path: Path) -> str | None:
    """Kind of the artefact at ``path``, or None if there is none."""
    file = path / MANIFEST
    if not file.is_file():
        return None
    try:
        return str(json.loads(file.read_text("utf-8"))["kind"])
    except (ValueError, KeyError, TypeError):
        return None


def _parse_manifest(path: Path, kind: str | None) -> Manifest:
    file = path / MANIFEST
    if not file.is_file():
        raise _not_an_artifact(path, kind)
    try:
        raw = json.loads(file.read_text("utf-8"))
        _check_format(path, raw["format"])
        _check_checksum(raw)
        manifest = Manifest(**{key: value for key, value in raw.items() if key not in ("format", "checksum")})
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{MANIFEST} is damaged: {error}", file=file, mend="restore the folder or make it again"
        ) from error
    if kind not in (None, manifest.kind):
        raise ArtifactError(
            f"{path} is a folder of kind '{manifest.kind}'",
            file=path,
            expected=f"kind '{kind}'",
            mend=_how_to_make(kind),
        )
    return manifest


def _not_an_artifact(path: Path, kind: str | None) -> ArtifactError:
    aside = _aside_path(path)
    return ArtifactError(
        f"{path} is not a polyvec folder" if path.exists() else f"{path} does not exist",
        file=path / MANIFEST,
        expected=f"a folder of kind '{kind}' with a {MANIFEST}" if kind else f"a folder with a {MANIFEST}",
        mend=f"it was being replaced when something stopped: rename {aside} to {path}"
        if aside.exists() and not path.exists()
        else _how_to_make(kind),
    )


def _check_format(path: Path, stored: int) -> None:
    if stored > FORMAT:
        raise ArtifactError(
            f"{path} was written in format {stored}",
            file=path / MANIFEST,
            expected=f"format {FORMAT} or older",
            mend="upgrade polyvec",
        )


def _check_checksum(raw: dict[str, Any]) -> None:
    if raw["checksum"] != _checksum(raw):
        raise ValueError("its entries do not match its checksum")


def _checksum(manifest: dict[str, Any]) -> str:
    """SHA-256 over every entry but the checksum itself."""
    entries = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _how_to_make(kind: str | None) -> str:
    verbs = {"dataset": "prepare", "model": "fit", "embeddings": "embed", "report": "evaluate"}
    return f"make one with: polyvec {verbs[kind]}" if kind and kind in verbs else "check the path"


def _check_files(path: Path, manifest: Manifest, hash_limit: int | None) -> None:
    for name, entry in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise ArtifactError(f"{name} is missing", file=file, mend="restore the folder or make it again")
        size = file.stat().st_size
        if size != entry["bytes"]:
            raise ArtifactError(
                f"{name} has {size} bytes",
                file=file,
                expected=f"{entry['bytes']} bytes",
                mend="restore the folder or make it again",
            )
        if (hash_limit is None or size <= hash_limit) and _sha256(file) != entry["sha256"]:
            raise ArtifactError(
                f"{name} has changed since it was written",
                file=file,
                expected=f"SHA-256 {entry['sha256'][:12]}…",
                mend="restore the folder or make it again",
            )


def _seal(stage: Path, kind: str, meta: dict[str, Any], parents: dict[str, str]) -> None:
    """Flush and hash every file of the staging folder and write its manifest."""
    (stage / MANIFEST).unlink(missing_ok=True)
    files = {}
    for file in sorted(stage.rglob("*")):
        if file.is_file():
            _flush(file)
            files[file.relative_to(stage).as_posix()] = {
                "bytes": file.stat().st_size,
                "sha256": _sha256(file),
            }
    identity = json.dumps([kind, files, _unmeasured(meta)], sort_keys=True).encode()
    manifest = {
        "format": FORMAT,
        "kind": kind,
        "fingerprint": hashlib.sha256(identity).hexdigest(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "polyvec": _own_version(),
        "parents": parents,
        "meta": meta,
        "files": files,
    }
    manifest["checksum"] = _checksum(json.loads(json.dumps(manifest)))  # as a reader will see the entries
    (stage / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", "utf-8")
    _flush(stage / MANIFEST)
    _flush_folders(stage)


def _unmeasured(meta: dict[Any, Any]) -> dict[Any, Any]:
    """Entries that say what was made, without how long it took."""
    return {
        key: _unmeasured(value) if isinstance(value, dict) else value
        for key, value in meta.items()
        if not str(key).endswith(MEASURED)
    }


def _followed(path: Path) -> Path:
    """Where a link leads: what it names is replaced, and it goes on leading there."""
    return path.resolve() if path.is_symlink() else path


def _publish(stage: Path, path: Path) -> None:
    """Make the staging folder visible at ``path``, in one step if the system can, and remove the old one."""
    aside = _aside_path(path)
    if not path.exists():
        stage.rename(path)
    else:
        if aside.exists():
            shutil.rmtree(aside)
        if not _exchanged(stage, aside, path):
            _renamed(stage, aside, path)
    _flush(path.parent)
    if aside.exists():
        shutil.rmtree(aside)


def _exchanged(stage: Path, aside: Path, path: Path) -> bool:
    """Whether the staging folder and the old one have changed places; the old one then lies aside.

    The new one is moved aside first: whatever stops this, what is left where it was is no work to go on with.
    """
    stage.rename(aside)
    done = exchange(aside, path)
    if not done:
        aside.rename(stage)
    return done


def _renamed(stage: Path, aside: Path, path: Path) -> None:
    """Move the old folder aside and the staging folder into its place; back, if that fails."""
    try:
        path.rename(aside)
        stage.rename(path)
    except BaseException:
        if aside.exists() and not path.exists():
            aside.rename(path)
        raise


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Give a file another name, which shares its content until either is replaced; or copy it."""
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
        _flush(Path(target))


def _aside_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def _flush_folders(path: Path) -> None:
    for folder in [path, *(entry for entry in path.rglob("*") if entry.is_dir())]:
        _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _own_version() -> str:
    try:
        return version("polyvec")
    except PackageNotFoundError:
        return "unknown"
