from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from polyvec.cli.main import main
from polyvec.cli.prepare import command
from polyvec.data.dataset import Dataset, read_profile

EVENTS = (
    "CustomerID,StockCode,InvoiceDate,Quantity,shelf\n"
    "007,pen,2024-01-01,1,a\n007,pen,2024-01-01,1,a\n7,[red],2024-01-02,-1,b\n7,ink,2024-01-03,2,b\n,ink,2024-01-03,1,c\n"
)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    (tmp_path / "events.csv").write_text(EVENTS)
    return tmp_path / "events.csv"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_profile_is_printed_for_people(tmp_path: Path, events: Path) -> None:
    (tmp_path / "items.csv").write_text("sku,name\npen,[bold]Pen\n")
    result = invoke(events, "--items", tmp_path / "items.csv", "--out", tmp_path / "shop.dataset")
    assert result.exit_code == 0
    for text in (
        "rows read",
        "│ 5 ",
        "+ duplicates",
        "user_id is empty",
        "purchase 2, return 1",
        "[red]",
        "[bold]Pen",
    ):
        assert text in result.stdout
    assert "note: user_id = CustomerID" in result.stderr
    assert "note: catalogue: title = name" in result.stderr


def test_json_is_the_saved_profile(tmp_path: Path, events: Path) -> None:
    result = invoke(events, "--out", tmp_path / "shop.dataset", "--json")
    printed = json.loads(result.stdout)
    assert printed.pop("path") == str(tmp_path / "shop.dataset")
    assert printed == read_profile(tmp_path / "shop.dataset")
    assert printed["rows"] == {"read": 5, "kept": 3, "duplicates": 1, "quarantined": 1, "cut": 0}


def test_every_option_reaches_the_dataset(tmp_path: Path, events: Path) -> None:
    (tmp_path / "items.csv").write_text("code,words\npen,Pen\n")
    arguments = [
        events,
        "--out",
        tmp_path / "d",
        "--items",
        tmp_path / "items.csv",
        "--json",
        "--keep",
        "shelf",
    ]
    arguments += ["--column", "user_id=StockCode", "--column", "item_id=CustomerID", "--returns", "drop"]
    arguments += ["--item-column", "item_id=code", "--item-column", "title=words", "--keep-duplicates"]
    arguments += ["--max-history", 1, "--time-format", "%Y-%m-%d", "--delimiter", ",", "--encoding", "ascii"]
    profile = json.loads(invoke(*arguments).stdout)
    dataset = Dataset.open(tmp_path / "d")
    assert dataset.users.series.to_list() == ["ink", "pen"]
    assert dataset.item_table.columns == ["item_id", "title"]
    assert dataset.codes["shelf"] == ["a", "b"]
    assert profile["rows"] == {"read": 5, "kept": 2, "duplicates": 0, "quarantined": 2, "cut": 1}


def test_an_order_column_and_a_unit_can_be_told(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("user_id,item_id,n\n1,2,3\n")
    assert (
        json.loads(invoke(tmp_path / "e.csv", "--out", tmp_path / "o", "--order", "n", "--json").stdout)[
            "last"
        ]
        == "3"
    )
    arguments = [
        tmp_path / "e.csv",
        "--out",
        tmp_path / "u",
        "--column",
        "timestamp=n",
        "--time-unit",
        "s",
        "--json",
    ]
    assert json.loads(invoke(*arguments).stdout)["last"] == "1970-01-01T00:00"


def test_overwriting_has_to_be_asked_for(
    tmp_path: Path, events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "shop.dataset")
    invoke(events, "--out", out)
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", str(events), "--out", out])
    assert stopped.value.code == 4
    assert "error: " + out + " exists already" in capsys.readouterr().err
    assert invoke(events, "--out", out, "--overwrite").exit_code == 0


def test_the_cut_is_told_to_people(tmp_path: Path, events: Path) -> None:
    result = invoke(events, "--out", tmp_path / "shop.dataset", "--max-history", 1)
    assert "+ cut by --max-history" in result.stdout
    assert "1 of 1 users" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--column", "user_id"], 2, "error: --column 'user_id' cannot be used\n  expected: ROLE=COLUMN"),
        (["--column", "user_id=a", "--column", "user_id=b"], 2, "error: --column user_id=… is given twice"),
        (["--item-column", "x=a"], 2, "error: --item-column x=a: 'x' is no role of a column"),
        (["--max-history", "0"], 2, "error: --max-history is 0"),
        (["--order", "nope"], 3, "error: there is no column 'nope', which --order names"),
    ],
)
def test_wrong_use_has_an_exit_code_and_no_traceback(
    tmp_path: Path,
    events: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", str(events), "--out", str(tmp_path / "d"), *arguments])
    assert stopped.value.code == code
    assert says in capsys.readouterr().err
    assert not (tmp_path / "d").exists()
