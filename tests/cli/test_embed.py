from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from polyvec.cli.embed import command
from polyvec.cli.main import main
from polyvec.data.dataset import Dataset
from polyvec.data.options import PrepareOptions
from polyvec.data.prepare import prepare
from polyvec.embeddings import Embeddings
from polyvec.systems.guim import GUIMConfig, fit
from polyvec.training.options import TrainingOptions

Folders = tuple[Path, Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a Model and the Dataset folder it was fitted on: thirty users, twenty items, 2011."""
    draw = random.Random(0)
    events = [
        {
            "user_id": user,
            "item_id": f"i{draw.randrange(20)}",
            "timestamp": f"2011-{draw.randrange(1, 13):02}-15",
        }
        for user in range(30)
        for _ in range(10)
    ]
    folder = tmp_path_factory.mktemp("embed")
    data = prepare(pl.DataFrame(events), folder / "shop.dataset", options=PrepareOptions())
    config = GUIMConfig(num_vectors=2, width=8, num_layers=1, num_heads=2, id_width=4)
    fit(data, folder / "shop.model", config, TrainingOptions(epochs=1, device="cpu"))
    return folder / "shop.model", folder / "shop.dataset"


def embed(folders: Folders, out: Path, *more: str) -> Result:
    return CliRunner().invoke(command, [*map(str, folders), "--out", str(out), *more], catch_exceptions=False)


def test_json_tells_what_was_made(folders: Folders, tmp_path: Path) -> None:
    done = embed(folders, tmp_path / "e", "--json")
    assert json.loads(done.stdout) == {
        "path": str(tmp_path / "e"),
        "users": 30,
        "items": Dataset.open(folders[1]).num_items,
        "C": 2,
        "D": 8,
    }
    assert "encoding" in done.stderr


def test_a_person_reads_one_line(folders: Folders, tmp_path: Path) -> None:
    done = embed(folders, tmp_path / "e")
    items = Dataset.open(folders[1]).num_items
    assert done.stdout == f"{tmp_path / 'e'}: 30 users of 2 vectors and {items} items, 8 wide\n"


def test_a_date_and_a_number_type_are_passed_on(folders: Folders, tmp_path: Path) -> None:
    assert embed(folders, tmp_path / "e", "--until", "2011-06-01", "--dtype", "float16").exit_code == 0
    embeddings = Embeddings.open(tmp_path / "e")
    assert embeddings.users.vectors.dtype == np.float16
    data = Dataset.open(folders[1])
    moment = 1_306_886_400_000_000  # 2011-06-01
    assert embeddings.provenance["events_until"] == moment
    assert embeddings.users.events.sum() == (data.times < moment).sum()


def test_existing_embeddings_are_replaced_on_request(folders: Folders, tmp_path: Path) -> None:
    embed(folders, tmp_path / "e")
    with pytest.raises(SystemExit) as caught:
        main(["embed", *map(str, folders), "--out", str(tmp_path / "e")])
    assert caught.value.code == 4
    assert embed(folders, tmp_path / "e", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("swap", "more", "code", "text"),
    [
        (True, [], 4, "is a folder of kind 'model'"),
        (False, ["--until", "yesterday"], 2, "'yesterday' is not a date"),
        (False, ["--held-back", "2"], 2, "held_back is for data with an order column"),
        (False, ["--dtype", "int8"], 2, "'int8' is not one of"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    folders: Folders,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    text: str,
    *,
    swap: bool,
) -> None:
    given = folders[::-1] if swap else folders
    with pytest.raises(SystemExit) as caught:
        main(["embed", *map(str, given), "--out", str(tmp_path / "e"), *more])
    assert caught.value.code == code
    said = capsys.readouterr().err
    assert text in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
