from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from polyvec.artifact import read_manifest, writing
from polyvec.cli.main import main
from polyvec.cli.verify import command
from polyvec.embeddings import Embeddings


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path: Path, small_embeddings: Embeddings) -> Path:
    with writing(tmp_path / "shop.dataset", "dataset", meta={}):
        pass
    parent = read_manifest(tmp_path / "shop.dataset", "dataset")
    small_embeddings.save(tmp_path / "shop.emb", parents={"dataset": parent})
    return tmp_path / "shop.emb"


def test_a_whole_folder_of_any_kind_is_described(folder: Path) -> None:
    result = invoke(folder)
    manifest = read_manifest(folder, "embeddings")
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["kind"] == "embeddings"
    assert lines["files"] == "2"
    assert lines["fingerprint"] == manifest.fingerprint
    assert lines["parents"] == f"dataset {manifest.parents['dataset']}"
    assert invoke(folder.with_name("shop.dataset")).stdout.splitlines()[5].split() == ["parents", "none"]


def test_json_is_one_object_with_the_same(folder: Path) -> None:
    answer = json.loads(invoke(folder, "--json").stdout)
    files = list(folder.rglob("*.parquet"))
    assert answer["kind"] == "embeddings"
    assert answer["bytes"] == sum(file.stat().st_size for file in files)
    assert answer["parents"].keys() == {"dataset"}
    assert answer["unlisted"] == []


def test_a_file_that_the_manifest_does_not_know_is_noted(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    result = invoke(folder)
    assert result.exit_code == 0
    assert result.stderr == "note: notes.txt is not in the manifest; nothing reads it\n"
    assert json.loads(invoke(folder, "--json").stdout)["unlisted"] == ["notes.txt"]


def test_every_byte_is_checked_even_of_large_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("polyvec.artifact.FULL_HASH_LIMIT", 0)
    part = folder / "items" / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        main(["verify", str(folder)])
    assert caught.value.code == 4
    error = capsys.readouterr().err
    assert error.startswith("error: items/part-00000.parquet has changed since it was written\n")
    assert f"where: {part}" in error


def test_what_is_not_ours_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, message in [(tmp_path, "is not a polyvec folder"), (tmp_path / "no", "does not exist")]:
        with pytest.raises(SystemExit) as caught:
            main(["verify", str(path)])
        assert caught.value.code == 4
        assert message in capsys.readouterr().err
