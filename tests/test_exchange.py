from __future__ import annotations

import sys
from pathlib import Path

import pytest

from polyvec import exchange as module
from polyvec.exchange import exchange

can = pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="this system has no such call")


@can
def test_folders_change_places(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text(name)
    assert exchange(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one" / "text").read_text() == "other"
    assert (tmp_path / "other" / "text").read_text() == "one"


@can
def test_a_relative_path_begins_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one").mkdir()
    Path("Ω").mkdir()
    (tmp_path / "one" / "text").touch()
    assert exchange(Path("one"), Path("Ω"))
    assert (tmp_path / "Ω" / "text").exists()


def test_nothing_changes_where_one_of_them_is_missing(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    assert not exchange(tmp_path / "one", tmp_path / "other")
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]


def test_a_system_without_the_call_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module._swap.cache_clear()
    monkeypatch.setattr(sys, "platform", "win32")
    assert not exchange(tmp_path, tmp_path)
    module._swap.cache_clear()
