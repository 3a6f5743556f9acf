"""Versions of a Model: kept when it is updated, and brought back to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyvec.artifact import Manifest, read_manifest, writing
from polyvec.cli.main import main
from polyvec.errors import ArtifactError
from polyvec.systems.folder import alone
from polyvec.systems.versions import (
    KEPT,
    forget_old,
    keep,
    next_version,
    publish,
    rollback,
    version_of,
    versions,
)

DAY = 86_400_000_000


def written(path: Path, version: int | None, before: Manifest | None = None) -> Path:
    """Return a Model of that version, in the place of the one that was there."""
    meta = {"system": "any", "trained_until": (version or 1) * DAY} | (
        {"version": version} if version else {}
    )
    parents = {"model": before} if before else {}
    with writing(path, "model", meta=meta, parents=parents, overwrite=True) as stage:
        (stage / "weights").write_text(f"weights of {version}", "utf-8")
    return path


def updated(path: Path, to: int) -> Path:
    """Return a Model that was updated until it had that version."""
    if not path.exists():
        written(path, 1)
    while next_version(path) <= to:
        number, before = next_version(path), read_manifest(path, "model")
        keep(path)
        written(path, number, before)
    return path


def weights(path: Path) -> str:
    return (path / "weights").read_text("utf-8")


def test_the_version_before_comes_back_and_the_later_one_is_kept(tmp_path):
    path = updated(tmp_path / "m", 3)
    rollback(path)
    assert version_of(path) == 2
    assert weights(path) == "weights of 2"
    assert weights(versions(path)[3]) == "weights of 3"
    rollback(path)
    assert version_of(path) == 1
    rollback(path, 3)
    assert version_of(path) == 3
    assert weights(path) == "weights of 3"


def test_a_model_is_found_by_a_link_and_from_within(tmp_path, monkeypatch):
    path, link = updated(tmp_path / "m", 2), tmp_path / "current"
    link.symlink_to(path, target_is_directory=True)
    assert list(versions(link)) == [1]
    rollback(link)
    assert link.is_symlink()
    assert weights(link) == weights(path) == "weights of 1"
    monkeypatch.chdir(path)
    rollback(Path(), 2)
    assert weights(path) == "weights of 2"


def test_a_version_after_one_that_was_gone_back_from_has_a_number_of_its_own(tmp_path):
    path = updated(tmp_path / "m", 3)
    rollback(path, 1)
    assert next_version(path) == 4
    updated(path, 4)
    rollback(path)
    assert version_of(path) == 1, "not 3, which was gone back from"


def test_a_model_that_was_fitted_in_the_place_of_an_updated_one_follows_its_versions(tmp_path):
    path = written(updated(tmp_path / "m", 3), None)
    assert version_of(path) == 3, "the third was replaced by the fit, and is not kept"
    updated(path, KEPT + 3)
    forget_old(path)
    assert weights(versions(path)[3]) == "weights of None"
    rollback(path, 4)
    rollback(path)
    assert weights(path) == "weights of None"
    with pytest.raises(ArtifactError, match="no version before 3"):
        rollback(path)


def test_the_latest_seven_are_kept(tmp_path):
    path = updated(tmp_path / "m", KEPT + 3)
    forget_old(path)
    assert list(versions(path)) == list(range(3, KEPT + 3))


@pytest.mark.parametrize(("to", "said"), [(None, "has no version before 1"), (5, "has no version 5")])
def test_a_version_that_is_not_there_is_told_with_those_that_are(tmp_path, to, said):
    path = updated(tmp_path / "m", 2)
    rollback(path)
    with pytest.raises(ArtifactError, match=said) as caught:
        rollback(path, to)
    assert caught.value.expected == "one of 1, 2"


def test_a_model_that_was_never_updated_has_no_way_back(tmp_path):
    with pytest.raises(ArtifactError, match="no version before 1"):
        rollback(written(tmp_path / "m", 1))


def test_the_version_that_a_model_was_updated_from_is_never_forgotten(tmp_path):
    path = updated(tmp_path / "m", KEPT + 1)
    forget_old(path)
    rollback(path, 1)
    updated(path, KEPT + 2)
    forget_old(path)
    assert list(versions(path)) == [1, *range(2, KEPT + 2)][-KEPT - 1 :]
    rollback(path)
    assert weights(path) == "weights of 1"


def test_a_version_that_was_half_deleted_stops_nothing(tmp_path):
    path = updated(tmp_path / "m", 4)
    (versions(path)[1] / "weights").unlink()
    (versions(path)[2] / "manifest.json").unlink()
    assert next_version(path) == 5
    rollback(path)
    assert weights(path) == "weights of 3"


def test_whatever_stops_forgetting_leaves_only_whole_versions(fail_at_operation):
    def many(folder: Path) -> None:
        updated(folder / "m", KEPT + 3)

    for folder, fault in fail_at_operation(lambda folder: forget_old(folder / "m"), many):
        for number, kept in versions(folder / "m").items():
            assert weights(kept) == f"weights of {number}", fault
        forget_old(folder / "m")
        left = [one.name for one in (folder / "m.versions").iterdir()]
        assert sorted(left) == [f"{number:04}" for number in range(3, KEPT + 3)], fault


def test_a_model_that_was_replaced_meanwhile_is_not_overwritten(tmp_path):
    path = updated(tmp_path / "m", 3)
    begun_with = read_manifest(path, "model")
    rollback(path)
    with pytest.raises(ArtifactError, match="was replaced while it was being updated"):
        publish(path, None, None, tmp_path, {}, "", begun_with)
    assert weights(path) == "weights of 2"


def test_while_a_model_is_made_it_is_not_rolled_back(tmp_path):
    path = updated(tmp_path / "m", 2)
    with alone(path), pytest.raises(ArtifactError, match="another process is making"):
        rollback(path)
    assert weights(path) == "weights of 2"
    rollback(path)
    assert weights(path) == "weights of 1"


def test_nothing_is_left_beside_what_is_no_model(tmp_path):
    with pytest.raises(ArtifactError, match="does not exist"):
        rollback(tmp_path / "none" / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_version_is_not_brought_back(tmp_path):
    path = updated(tmp_path / "m", 2)
    (versions(path)[1] / "weights").write_text("weights of X", "utf-8")
    with pytest.raises(ArtifactError, match="has changed since"):
        rollback(path)
    assert weights(path) == "weights of 2"


def test_whatever_stops_a_rollback_leaves_one_version_whole(fail_at_operation):
    for folder, fault in fail_at_operation(
        lambda folder: rollback(folder / "m"), lambda folder: updated(folder / "m", 2)
    ):
        path = folder / "m" if (folder / "m").exists() else folder / ".m.replaced"
        manifest = read_manifest(path, "model")
        assert weights(path) == f"weights of {manifest.meta['version']}", fault
        for number, kept in versions(folder / "m").items():
            assert read_manifest(kept, "model").meta["version"] == number, fault


def test_the_command_says_what_is_kept_and_what_is_in_place(tmp_path, capsys):
    path = updated(tmp_path / "m", 3)
    for arguments in (["--list"], [], ["--to", "3", "--json"]):
        with pytest.raises(SystemExit) as stopped:
            main(["rollback", str(path), *arguments])
        assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert "version 3, trained until 1970-01-04" in lines[0]
    assert len(lines) == 1 + 2 + 1 + 1
    assert "version 2" in lines[3]
    assert '"version": 3, "kept": [1, 2, 3]' in lines[4]
