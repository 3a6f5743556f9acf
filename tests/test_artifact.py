from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from polyvec import artifact
from polyvec.artifact import (
    MANIFEST,
    kind_of,
    read_manifest,
    stage_path,
    unlisted_files,
    verify,
    write_whole,
    writing,
)
from polyvec.embeddings import Embeddings
from polyvec.errors import ArtifactError

Faults = Callable[..., Iterator[tuple[Path, str]]]


def write(path: Path, text: str = "new", *, overwrite: bool = False) -> None:
    with writing(path, "dataset", meta={"text": text}, overwrite=overwrite) as stage:
        (stage / "a.txt").write_text(text * 10)
        (stage / "sub").mkdir()
        (stage / "sub" / "b.bin").write_bytes(text.encode())


def write_and_interrupt(path: Path, *, resume: bool) -> None:
    with writing(path, "model", meta={}, resume=resume) as stage:
        (stage / "part-0").write_text("done")
        raise KeyboardInterrupt


def state(path: Path) -> str:
    """Return what a reader sees: absent, or the text of a whole artefact."""
    if not path.exists():
        return "absent"
    text = str(read_manifest(path, "dataset").meta["text"])
    whole = (path / "a.txt").read_text() == text * 10 and (path / "sub/b.bin").read_bytes() == text.encode()
    return text if whole else "broken"


def leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))


# --- whole or absent


def test_a_new_folder_is_absent_or_whole_whatever_fails(fail_at_operation: Faults) -> None:
    seen = set()
    for folder, fault in fail_at_operation(lambda folder: write(folder / "shop")):
        after = state(folder / "shop")
        seen.add(after)
        assert after in ("absent", "new"), fault
        write(folder / "shop", overwrite=True)
        assert state(folder / "shop") == "new", fault
        assert leftovers(folder) == [], fault
    assert seen == {"absent", "new"}


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="needs a system that exchanges folders")
def test_a_replaced_folder_is_old_or_new_whatever_fails(fail_at_operation: Faults) -> None:
    seen = set()
    for folder, fault in fail_at_operation(
        lambda folder: write(folder / "shop", overwrite=True), lambda folder: write(folder / "shop", "old")
    ):
        after = state(folder / "shop")
        seen.add(after)
        assert after in ("old", "new"), fault
        write(folder / "shop", overwrite=True)
        assert state(folder / "shop") == "new", fault
        assert leftovers(folder) == [], fault
    assert seen == {"old", "new"}


def test_without_an_exchange_a_replaced_folder_is_old_or_new_or_whole_beside_its_place_whatever_fails(
    fail_at_operation: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "exchange", lambda one, other: False)
    seen = set()
    for folder, fault in fail_at_operation(
        lambda folder: write(folder / "shop", overwrite=True), lambda folder: write(folder / "shop", "old")
    ):
        after = state(folder / "shop")
        seen.add(after)
        if after == "absent":
            assert "crash" in fault
            assert state(folder / ".shop.replaced") == "old", fault
        else:
            assert after in ("old", "new"), fault
        write(folder / "shop", overwrite=True)
        assert state(folder / "shop") == "new", fault
        assert leftovers(folder) == [], fault
    assert seen == {"absent", "old", "new"}


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_interrupt_after_any_rename_leaves_the_old_folder_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, *, exchanges: bool
) -> None:
    write(tmp_path / "shop", "old")
    rename, done = Path.rename, iter(range(1, 10))

    def interrupted(source: Path, target: Path) -> Path:
        found = rename(source, target)
        if next(done) == number:
            raise KeyboardInterrupt
        return found

    if not exchanges:
        monkeypatch.setattr(artifact, "exchange", lambda one, other: False)
    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(Path, "rename", interrupted)
        write(tmp_path / "shop", overwrite=True)
    assert state(tmp_path / "shop") in ("old", "new")
    write(tmp_path / "shop", overwrite=True)
    assert state(tmp_path / "shop") == "new"
    assert leftovers(tmp_path) == []


def test_a_link_goes_on_leading_to_what_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "v1", "old")
    (tmp_path / "shop").symlink_to(tmp_path / "v1")
    write(tmp_path / "shop", "new", overwrite=True)
    assert (tmp_path / "shop").is_symlink()
    assert state(tmp_path / "v1") == state(tmp_path / "shop") == "new"
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="needs a system that exchanges folders")
def test_a_reader_sees_a_folder_at_every_moment_of_its_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "shop", "old")
    seen = []

    def look(*_: object) -> None:
        seen.append(state(tmp_path / "shop"))

    rename, remove = Path.rename, shutil.rmtree

    def renamed(source: Path, target: Path) -> Path:
        found = rename(source, target)
        look()
        return found

    def removed(*arguments: Any, **options: Any) -> None:
        look()
        remove(*arguments, **options)

    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(shutil, "rmtree", removed)
    write(tmp_path / "shop", "new", overwrite=True)
    assert seen == ["old", "new"]


def test_the_injected_faults_do_break_a_naive_writer(fail_at_operation: Faults) -> None:
    def naive(folder: Path) -> None:
        write(folder / "made elsewhere")
        (folder / "shop").mkdir()
        for file in (folder / "made elsewhere").rglob("*.*"):
            (folder / "shop" / file.name).write_bytes(file.read_bytes())

    torn = [
        fault
        for folder, fault in fail_at_operation(naive)
        if (folder / "shop").exists() and kind_of(folder / "shop") is None
    ]
    assert any("write" in fault for fault in torn)


def test_an_interrupted_block_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_and_interrupt(tmp_path / "shop", resume=False)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_is_told_where_the_old_folder_lies_after_a_crash_between_two_renames(tmp_path: Path) -> None:
    write(tmp_path / "shop", "old")
    (tmp_path / "shop").rename(tmp_path / ".shop.replaced")
    with pytest.raises(ArtifactError, match="does not exist") as caught:
        read_manifest(tmp_path / "shop", "dataset")
    assert f"rename {tmp_path / '.shop.replaced'} to {tmp_path / 'shop'}" in str(caught.value.mend)


def test_every_file_and_folder_is_on_disk_before_the_rename_that_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    shown: set[int] = set()
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_ino)
        real_fsync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        shown.update(entry.stat().st_ino for entry in (self, *self.rglob("*")))
        assert shown <= set(flushed)
        flushed.clear()
        return real_rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    write(tmp_path / "shop")
    assert len(shown) == 5  # two files, their manifest and two folders
    assert flushed == [tmp_path.stat().st_ino]


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path, small_embeddings: Embeddings) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 1, 100, 1000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                small_embeddings.save(tmp_path / "emb")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list(tmp_path.iterdir()) == [], size
    small_embeddings.save(tmp_path / "emb")
    verify(tmp_path / "emb", "embeddings")


# --- resume


def test_with_resume_an_interrupted_writer_finds_its_files_again(tmp_path: Path) -> None:
    path = tmp_path / "shop"
    with pytest.raises(KeyboardInterrupt):
        write_and_interrupt(path, resume=True)
    assert not path.exists()
    with writing(path, "model", meta={}, resume=True) as stage:
        assert (stage / "part-0").read_text() == "done"
        (stage / "part-1").write_text("done")
    assert set(read_manifest(path, "model").files) == {"part-0", "part-1"}


def test_a_file_of_a_staging_folder_is_whole_or_absent(tmp_path: Path) -> None:
    file = tmp_path / "part.parquet"

    def torn(unfinished: Path) -> None:
        unfinished.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(file, torn)
    assert not file.exists()
    write_whole(file, lambda unfinished: unfinished.write_text("whole"))
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("part.parquet", "whole")]


def test_without_resume_the_staging_folder_starts_empty(tmp_path: Path) -> None:
    stage_path(tmp_path / "shop").mkdir()
    (stage_path(tmp_path / "shop") / "stale.txt").write_text("stale")
    write(tmp_path / "shop")
    assert set(read_manifest(tmp_path / "shop", "dataset").files) == {"a.txt", "sub/b.bin"}


# --- what is in the way


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_polyvec_did_not_write_is_never_replaced(tmp_path: Path, *, overwrite: bool) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "file").write_text("mine")
    for name in ("photos", "file"):
        with pytest.raises(ArtifactError, match="was not written by polyvec"):
            write(tmp_path / name, overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_artefact_is_replaced_only_on_request(tmp_path: Path) -> None:
    write(tmp_path / "shop", "old")
    with pytest.raises(ArtifactError, match="exists already"):
        write(tmp_path / "shop")
    assert state(tmp_path / "shop") == "old"
    write(tmp_path / "shop", overwrite=True)
    assert state(tmp_path / "shop") == "new"


# --- damage


def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    write(tmp_path / "shop")
    for file in [f for f in (tmp_path / "shop").rglob("*") if f.is_file()]:
        content = file.read_bytes()
        for position in range(len(content)):
            bit = 1 << (position % 8)
            file.write_bytes(content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :])
            with pytest.raises(ArtifactError):
                read_manifest(tmp_path / "shop", "dataset")
        file.write_bytes(content)
    assert state(tmp_path / "shop") == "new"


def test_every_truncation_is_detected(tmp_path: Path) -> None:
    write(tmp_path / "shop")
    for file in [f for f in (tmp_path / "shop").rglob("*") if f.is_file()]:
        content = file.read_bytes()
        for length in {0, 1, len(content) // 2, len(content) - 2}:
            file.write_bytes(content[:length])
            with pytest.raises(ArtifactError):
                read_manifest(tmp_path / "shop", "dataset")
        file.write_bytes(content)


def test_damage_is_named_with_file_and_mend(tmp_path: Path) -> None:
    write(tmp_path / "shop")
    (tmp_path / "shop" / "a.txt").write_text("wen" * 10)
    with pytest.raises(ArtifactError) as changed:
        read_manifest(tmp_path / "shop", "dataset")
    assert changed.value.what == "a.txt has changed since it was written"
    assert changed.value.file == str(tmp_path / "shop" / "a.txt")
    (tmp_path / "shop" / "a.txt").write_text("new")
    with pytest.raises(ArtifactError, match=r"a\.txt has 3 bytes") as short:
        read_manifest(tmp_path / "shop", "dataset")
    assert short.value.expected == "30 bytes"
    (tmp_path / "shop" / "a.txt").unlink()
    with pytest.raises(ArtifactError, match=r"a\.txt is missing") as missing:
        read_manifest(tmp_path / "shop", "dataset")
    assert missing.value.mend == "restore the folder or make it again"


def test_large_files_are_hashed_by_verify_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "shop")
    (tmp_path / "shop" / "a.txt").write_text("wen" * 10)
    monkeypatch.setattr("polyvec.artifact.FULL_HASH_LIMIT", 29)
    read_manifest(tmp_path / "shop", "dataset")
    with pytest.raises(ArtifactError, match="has changed"):
        verify(tmp_path / "shop")


def test_a_file_beside_the_listed_ones_is_not_damage_but_can_be_listed(tmp_path: Path) -> None:
    write(tmp_path / "shop")
    (tmp_path / "shop" / "sub" / "notes.txt").write_text("mine")
    assert unlisted_files(tmp_path / "shop", verify(tmp_path / "shop")) == ["sub/notes.txt"]


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "null", '{"kind": "dataset"}', '{"format": "one"}', "\udcff"]
)
def test_a_manifest_that_is_not_one_is_damage(tmp_path: Path, text: str) -> None:
    write(tmp_path / "shop")
    (tmp_path / "shop" / MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ArtifactError, match=r"manifest.json is damaged"):
        read_manifest(tmp_path / "shop", "dataset")


# --- what it is


def test_a_missing_folder_and_a_strange_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist") as missing:
        read_manifest(tmp_path / "no", "dataset")
    assert missing.value.mend == "make one with: polyvec prepare"
    with pytest.raises(ArtifactError, match="is not a polyvec folder"):
        verify(tmp_path)
    assert kind_of(tmp_path) is None


def test_another_kind_is_refused_with_the_verb_that_makes_the_right_one(tmp_path: Path) -> None:
    write(tmp_path / "shop")
    with pytest.raises(ArtifactError, match="is a folder of kind 'dataset'") as caught:
        read_manifest(tmp_path / "shop", "embeddings")
    assert caught.value.mend == "make one with: polyvec embed"
    assert kind_of(tmp_path / "shop") == "dataset"


def test_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    write(tmp_path / "shop")
    manifest = json.loads((tmp_path / "shop" / MANIFEST).read_text())
    (tmp_path / "shop" / MANIFEST).write_text(json.dumps(manifest | {"format": 2, "new": True}))
    with pytest.raises(ArtifactError, match="was written in format 2") as caught:
        read_manifest(tmp_path / "shop", "dataset")
    assert caught.value.mend == "upgrade polyvec"


def test_the_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    write(tmp_path / "one")
    write(tmp_path / "two")
    write(tmp_path / "three", "other")
    one, two, three = (read_manifest(tmp_path / name, "dataset") for name in ("one", "two", "three"))
    assert one.fingerprint == two.fingerprint != three.fingerprint
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    assert read_manifest(tmp_path / "copy", "dataset") == one


def test_what_making_it_took_is_remembered_and_no_part_of_the_fingerprint(tmp_path: Path) -> None:
    told = [
        {"rows": 1, "made": {"by": "x", "encode_seconds": 1.0}, "training_seconds": 2.0},
        {"rows": 1, "made": {"by": "x", "encode_seconds": 9.0}},
        {"rows": 1, "made": {"by": "y", "encode_seconds": 1.0}, "training_seconds": 2.0},
    ]
    for number, meta in enumerate(told):
        with writing(tmp_path / str(number), "model", meta=meta):
            pass
    one, two, three = (read_manifest(tmp_path / str(number), "model") for number in range(3))
    assert one.fingerprint == two.fingerprint != three.fingerprint
    assert [one.meta, two.meta, three.meta] == told


def test_meta_filled_in_the_block_and_parents_are_remembered(tmp_path: Path) -> None:
    write(tmp_path / "shop")
    parent = read_manifest(tmp_path / "shop", "dataset")
    meta: dict[str, object] = {}
    with writing(tmp_path / "model", "model", meta=meta, parents={"dataset": parent}):
        meta.update({"rows": {10: 1.5, 9: float("nan")}, "name": "Ω"})
    manifest = read_manifest(tmp_path / "model", "model")
    assert manifest.parents == {"dataset": parent.fingerprint}
    assert manifest.meta["name"] == "Ω"
    assert manifest.meta["rows"]["10"] == 1.5


def test_an_artefact_of_another_kind_is_not_replaced(tmp_path: Path) -> None:
    write(tmp_path / "shop")
    with (
        pytest.raises(ArtifactError, match="kind 'dataset', which one of kind 'embeddings' does not replace"),
        writing(tmp_path / "shop", "embeddings", meta={}, overwrite=True),
    ):
        pass
    assert read_manifest(tmp_path / "shop", "dataset").meta == {"text": "new"}
