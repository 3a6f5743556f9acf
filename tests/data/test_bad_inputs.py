"""Bad inputs: each is refused or set aside with the exact words a person reads, and nothing is lost."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from polyvec.artifact import verify
from polyvec.data.dataset import read_profile
from polyvec.data.prepare import PrepareOptions, prepare
from polyvec.errors import ArtifactError, DataError, PolyvecError, UsageError

HEADER = "user_id,item_id,timestamp\n"
GOOD = HEADER + "ann,pen,2024-01-01\nbob,ink,2024-01-02\n"
TIMES = [1_700_000_000, 1_700_000_100]


@dataclass(frozen=True)
class Stop:
    """An input that stops, how it is given, and what is said; FOLDER stands for the test's folder."""

    says: str
    events: str | bytes | Callable[[Path], Any] = GOOD
    name: str = "events.csv"
    items: str | bytes | None = None
    options: dict[str, Any] = field(default_factory=dict)
    error: type[PolyvecError] = DataError


def pandas_frame(**columns: Any) -> Callable[[Path], Any]:
    return lambda folder: pd.DataFrame(columns)


def polars_frame(schema: dict[str, Any] | None = None, **columns: Any) -> Callable[[Path], Any]:
    return lambda folder: pl.DataFrame(columns, schema_overrides=schema)


def half_a_parquet(folder: Path) -> Path:
    path = folder / "half.parquet"
    pl.DataFrame({"user_id": range(9999), "item_id": 1, "timestamp": 1_700_000_000}).write_parquet(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def half_a_gzip(folder: Path) -> Path:
    path = folder / "half.csv.gz"
    rows = "".join(f"u{n},i{n * 7919 % 1000},{1_700_000_000 + n}\n" for n in range(9999))
    packed = gzip.compress((HEADER + rows).encode())
    path.write_bytes(packed[: len(packed) // 2])
    return path


STOPS = {
    "a file that is not there": Stop(
        events=lambda folder: folder / "nope.csv",
        says="FOLDER/nope.csv does not exist\n"
        "  where: FOLDER/nope.csv\n"
        "  expected: an existing file\n"
        "  mend: check the path",
    ),
    "a glob that matches nothing": Stop(
        events=lambda folder: f"{folder}/2024-*.parquet",
        says="no file matches FOLDER/2024-*.parquet\n"
        "  where: FOLDER/2024-*.parquet\n"
        "  expected: an existing file\n"
        "  mend: check the path",
    ),
    "a folder": Stop(
        events=lambda folder: folder,
        says="FOLDER is a folder\n"
        "  where: FOLDER\n"
        "  expected: files\n"
        "  mend: name the files in it, for example 'FOLDER/*.parquet'",
    ),
    "an unknown extension": Stop(
        name="events.xlsx",
        says="FOLDER/events.xlsx is of an unknown kind\n"
        "  where: FOLDER/events.xlsx\n"
        "  expected: a name that ends in .csv, .csv.gz, .tsv, .tsv.gz, .parquet, .pq, .arrow, .feather, "
        ".ipc\n"
        "  mend: rename the file or convert it to Parquet",
    ),
    "no source at all": Stop(
        events=lambda folder: [],
        error=UsageError,
        says="no source was given\n  expected: at least one file or frame",
    ),
    "an object that is no table": Stop(
        events=lambda folder: {"user_id": [1]},
        error=UsageError,
        says="a dict is no source of rows\n"
        "  expected: a path, a glob, a pandas, Polars or Arrow frame, or a list of these",
    ),
    "an empty file": Stop(
        events="",
        says="FOLDER/events.csv is empty\n"
        "  where: FOLDER/events.csv\n"
        "  expected: a header and at least one row\n"
        "  mend: remove the file from the list or export it again",
    ),
    "a header without rows": Stop(
        events=HEADER,
        says="the events have no rows\n"
        "  where: FOLDER/events.csv\n"
        "  expected: at least one row\n"
        "  mend: check the export",
    ),
    "text that claims to be Parquet": Stop(
        events=GOOD,
        name="events.parquet",
        says="FOLDER/events.parquet cannot be read as Parquet: Parquet magic bytes not found in footer. "
        "Either the file is corrupted or this is not a parquet file.\n"
        "  where: FOLDER/events.parquet\n"
        "  expected: a whole, undamaged Parquet file\n"
        "  mend: copy or export the file again",
    ),
    "a Parquet file cut short": Stop(
        events=half_a_parquet,
        says="FOLDER/half.parquet cannot be read as Parquet: Parquet magic bytes not found in footer. "
        "Either the file is corrupted or this is not a parquet file.\n"
        "  where: FOLDER/half.parquet\n"
        "  expected: a whole, undamaged Parquet file\n"
        "  mend: copy or export the file again",
    ),
    "text that claims to be Arrow": Stop(
        events="junk",
        name="events.feather",
        says="FOLDER/events.feather cannot be read as Arrow: Expected to read 1802401130 metadata bytes, "
        "but only read 0\n"
        "  where: FOLDER/events.feather\n"
        "  expected: a whole, undamaged Arrow file\n"
        "  mend: copy or export the file again",
    ),
    "a gzip file cut short": Stop(
        events=half_a_gzip,
        says="FOLDER/half.csv.gz cannot be read as gzip: Truncated compressed stream\n"
        "  where: FOLDER/half.csv.gz\n"
        "  expected: a whole, undamaged gzip file\n"
        "  mend: copy or export the file again",
    ),
    "text that claims to be gzip": Stop(
        name="events.csv.gz",
        says="FOLDER/events.csv.gz cannot be read as gzip: Not a gzipped file (b'us')\n"
        "  where: FOLDER/events.csv.gz\n"
        "  expected: a whole, undamaged gzip file\n"
        "  mend: copy or export the file again",
    ),
    "text that is not UTF-8": Stop(
        events=(GOOD + "zoë,pen,2024-01-01\n").encode("latin-1"),
        says="FOLDER/events.csv is not UTF-8 text\n"
        "  where: FOLDER/events.csv, row 3\n"
        "  expected: text in utf-8\n"
        "  mend: name the file's encoding, for example --encoding latin-1",
    ),
    "a quote that is never closed": Stop(
        events=GOOD + 'cid,"pen,2024-01-03\ndan,pen,2024-01-03\n',
        says="a quote is opened and never closed\n"
        "  where: FOLDER/events.csv, row 3\n"
        '  expected: quotes in pairs, a quote inside a text doubled: "5"" screen"\n'
        "  mend: close the quote, or choose the right --delimiter",
    ),
    "a header whose quote is never closed": Stop(
        events='"user_id,item_id,timestamp\n1,2,2024-01-01\n',
        says="the header of FOLDER/events.csv cannot be cut into names: unexpected end of data\n"
        "  where: FOLDER/events.csv\n"
        "  expected: names with a delimiter between them, quotes in pairs\n"
        "  mend: mend the first line of the file",
    ),
    "a pattern that is none": Stop(
        options={"time_format": "%H"},
        says="--time-format '%H' cannot be used: Invalid format string: Please either specify both hour and "
        "minute, or neither.\n"
        "  expected: a strftime pattern such as %d/%m/%Y %H:%M",
    ),
    "two columns of one name": Stop(
        events="user_id,item_id,timestamp,item_id\n1,2,2024-01-01,3\n",
        says="two columns are called 'item_id'\n"
        "  where: FOLDER/events.csv, column item_id\n"
        "  expected: distinct column names\n"
        "  mend: rename or remove one of them",
    ),
    "no column for users": Stop(
        events="who,item_id,timestamp\n1,2,2024-01-01\n",
        says="no column for user_id\n"
        "  where: FOLDER/events.csv, column user_id\n"
        "  expected: one of the columns who, item_id, timestamp\n"
        "  mend: name it: --column user_id=COLUMN",
    ),
    "no column for times": Stop(
        events="user_id,item_id,position\n1,2,1\n",
        says="no column for timestamp\n"
        "  where: FOLDER/events.csv, column timestamp\n"
        "  expected: one of the columns user_id, item_id, position\n"
        "  mend: name it: --column timestamp=COLUMN or, without times, --order COLUMN",
    ),
    "two candidates for a role": Stop(
        events="customer,visitor,item_id,timestamp\n1,2,3,2024-01-01\n",
        says="'customer' and 'visitor' could each be the user_id\n"
        "  where: FOLDER/events.csv, column user_id\n"
        "  expected: one candidate\n"
        "  mend: say which: --column user_id=customer",
    ),
    "two candidates for an optional role": Stop(
        events="user_id,item_id,timestamp,country,market\n1,2,2024-01-01,FR,EU\n",
        says="'country' and 'market' could each be the scenario\n"
        "  where: FOLDER/events.csv, column scenario\n"
        "  expected: one candidate\n"
        "  mend: say which: --column scenario=country, or --column scenario= for none",
    ),
    "a mapped column that is not there": Stop(
        events="CustomerID,item_id,timestamp\n1,2,2024-01-01\n",
        options={"columns": {"user_id": "CustomerId"}},
        says="there is no column 'CustomerId', which --column user_id=CustomerId names\n"
        "  where: FOLDER/events.csv\n"
        "  expected: did you mean 'CustomerID'?",
    ),
    "an order column that is not there": Stop(
        options={"order": "position"},
        says="there is no column 'position', which --order names\n"
        "  where: FOLDER/events.csv\n"
        "  expected: known: user_id, item_id, timestamp",
    ),
    "a kept column that is not there": Stop(
        options={"keep": ("stor",)},
        events="user_id,item_id,timestamp,store\n1,2,2024-01-01,3\n",
        says="there is no column 'stor', which --keep names\n"
        "  where: FOLDER/events.csv\n"
        "  expected: did you mean 'store'?",
    ),
    "a kept column of lists": Stop(
        events=polars_frame(user_id=[1], item_id=[2], timestamp=TIMES[:1], tags=[["a"]]),
        options={"keep": ("tags",)},
        says="tags is of type List(String)\n"
        "  where: <Polars frame>, column tags\n"
        "  expected: numbers or text\n"
        "  mend: convert the column, or leave it out",
    ),
    "users that pandas made floating point": Stop(
        events=pandas_frame(user_id=[13085.0, None], item_id=["a", "b"], timestamp=TIMES),
        says="user_id is of type Float64\n"
        "  where: <pandas frame>, column user_id\n"
        "  expected: text or integers: floating point cannot hold every id exactly\n"
        "  mend: store the column as text or as a 64-bit integer (in pandas: df[c].astype('Int64'))",
    ),
    "items that are lists": Stop(
        events=polars_frame(user_id=[1], item_id=[[1]], timestamp=TIMES[:1]),
        says="item_id is of type List(Int64)\n"
        "  where: <Polars frame>, column item_id\n"
        "  expected: text or integers: floating point cannot hold every id exactly\n"
        "  mend: store the column as text or as a 64-bit integer (in pandas: df[c].astype('Int64'))",
    ),
    "a pandas column of several types": Stop(
        events=pandas_frame(user_id=[1, "x"], item_id=["a", "b"], timestamp=TIMES),
        says="<pandas frame> cannot be read as a table: Could not convert 'x' with type str: tried to "
        "convert to int64\n"
        "  where: <pandas frame>\n"
        "  expected: columns that each have one type\n"
        "  mend: convert mixed columns to text (in pandas: df[c].astype('string'))",
    ),
    "integers that are no times": Stop(
        events=polars_frame(user_id=[1, 2], item_id=[1, 2], timestamp=[20231114, 20231115]),
        says="timestamp holds 20231114, 20231115: no time between 1990 and 2100 in seconds, milliseconds, "
        "microseconds or nanoseconds\n"
        "  where: <Polars frame>, column timestamp\n"
        "  expected: seconds (10 digits), milliseconds (13), microseconds (16) or nanoseconds (19)\n"
        "  mend: name the unit with --time-unit, a pattern with --time-format (for 20111231: %Y%m%d), or use "
        "the column as a mere order: --order timestamp",
    ),
    "day and month that cannot be told apart": Stop(
        events=HEADER + "1,2,01/02/2024\n1,3,03/04/2024 10:00\n",
        says="timestamp holds '01/02/2024', '03/04/2024 10:00': day and month cannot be told apart\n"
        "  where: FOLDER/events.csv, column timestamp\n"
        "  expected: dates such as 2011-12-31, or a pattern\n"
        "  mend: name the pattern: --time-format '%d/%m/%Y %H:%M' or '%m/%d/%Y %H:%M'",
    ),
    "times in no known form": Stop(
        events=HEADER + "1,2,yesterday\n",
        says="timestamp holds 'yesterday', in no known form\n"
        "  where: FOLDER/events.csv, column timestamp\n"
        "  expected: dates and times: a datetime column, ISO 8601 text, or integers since 1970\n"
        "  mend: name the pattern with --time-format, or use the column as a mere order: --order timestamp",
    ),
    "times that do not fit the pattern": Stop(
        options={"time_format": "%d.%m.%Y"},
        says="timestamp holds '2024-01-01', '2024-01-02', not in the format '%d.%m.%Y'\n"
        "  where: FOLDER/events.csv, column timestamp\n"
        "  expected: dates and times: a datetime column, ISO 8601 text, or integers since 1970\n"
        "  mend: name the pattern with --time-format, or use the column as a mere order: --order timestamp",
    ),
    "times that are Boolean": Stop(
        events=polars_frame(user_id=[1], item_id=[1], timestamp=[True]),
        says="timestamp holds True, of type Boolean\n"
        "  where: <Polars frame>, column timestamp\n"
        "  expected: dates and times: a datetime column, ISO 8601 text, or integers since 1970\n"
        "  mend: name the pattern with --time-format, or use the column as a mere order: --order timestamp",
    ),
    "not one good row": Stop(
        events=HEADER + ",pen,2024-01-01\nann,,2024-01-01\nbob,,2024-01-01\n",
        says="none of the 3 rows is good: item_id is empty (2), user_id is empty (1)\n"
        "  where: FOLDER/events.csv\n"
        "  expected: at least one good row\n"
        "  mend: check which column is what: --column ROLE=COLUMN",
    ),
    "a catalogue without items": Stop(
        items="name,price\npen,3\n",
        says="no column for item_id\n"
        "  where: FOLDER/items.csv, column item_id\n"
        "  expected: one of the columns name, price\n"
        "  mend: name it: --item-column item_id=COLUMN",
    ),
    "a catalogue column that would get the name of another": Stop(
        items="item_id,title,description\npen,Pen,A pen\n",
        options={"item_columns": {"title": "description"}},
        says="'description' is to become title, and there is a column 'title' already\n"
        "  where: FOLDER/items.csv, column title\n"
        "  expected: distinct column names\n"
        "  mend: drop or rename one of them, or leave out --item-column title=description",
    ),
    "a catalogue column of two roles": Stop(
        items="item_id,words\npen,Pen\n",
        options={"item_columns": {"title": "words", "category": "words"}},
        says="one column of the catalogue has two roles\n"
        "  where: FOLDER/items.csv\n"
        "  expected: one role for each column\n"
        "  mend: name each column once in --item-column",
    ),
    "an output that stands there already": Stop(
        options={"out": "taken"},
        error=ArtifactError,
        says="FOLDER/taken exists and was not written by polyvec\n"
        "  where: FOLDER/taken\n"
        "  expected: a new path\n"
        "  mend: choose another output path",
    ),
    "an output below a file": Stop(
        options={"out": "events.csv/shop.dataset"},
        error=ArtifactError,
        says="FOLDER/events.csv/shop.dataset cannot be written: Not a directory\n"
        "  where: FOLDER/events.csv/shop.dataset\n"
        "  expected: a writable folder with enough space\n"
        "  mend: choose another output path or free some space",
    ),
}

WRONG_OPTIONS = {
    "a role that does not exist": (
        {"columns": {"userid": "a"}},
        "--column userid=a: 'userid' is no role of a column\n"
        "  expected: did you mean 'user_id'?\n"
        "  mend: write ROLE=COLUMN; further columns of events are kept with --keep",
    ),
    "a kept column that is a role": (
        {"keep": ("price",)},
        "--keep 'price' cannot be used\n"
        "  expected: a column whose name is no role, does not begin with a dot and has no slash\n"
        "  mend: columns with a role are kept anyway; rename the others",
    ),
    "a kept column that would leave the folder": (
        {"keep": ("../x",)},
        "--keep '../x' cannot be used\n"
        "  expected: a column whose name is no role, does not begin with a dot and has no slash\n"
        "  mend: columns with a role are kept anyway; rename the others",
    ),
    "an unknown rule for returns": (
        {"returns": "ignore"},
        "--returns 'ignore' is unknown\n  expected: one of mark, drop, keep",
    ),
    "an unknown unit": (
        {"time_unit": "seconds"},
        "--time-unit 'seconds' is unknown\n  expected: one of s, ms, us, ns",
    ),
    "a history of nothing": (
        {"max_history": 0},
        "--max-history is 0\n  expected: a number of events of at least 1",
    ),
    "an order and a timestamp": (
        {"order": "position", "time_unit": "s"},
        "--order and a timestamp are both given\n"
        "  expected: either an order column or a timestamp\n"
        "  mend: drop --order, or drop --time-unit, --time-format, --time-zone and --column timestamp=…",
    ),
    "a time zone that there is not": (
        {"time_zone": "Asia/Peking"},
        "--time-zone 'Asia/Peking' is unknown\n  expected: a name such as Europe/Berlin or Asia/Shanghai",
    ),
    "a delimiter of two characters": (
        {"delimiter": "::"},
        "--delimiter '::' cannot be used\n  expected: one ASCII character that is neither quote nor line end",
    ),
    "a delimiter that is a quote": (
        {"delimiter": '"'},
        "--delimiter '\"' cannot be used\n  expected: one ASCII character that is neither quote nor line end",
    ),
    "an encoding that is none of text": (
        {"encoding": "base64"},
        "--encoding 'base64' is unknown\n  expected: an encoding such as utf-8 or latin-1",
    ),
    "an unknown encoding": (
        {"encoding": "klingon"},
        "--encoding 'klingon' is unknown\n  expected: an encoding such as utf-8 or latin-1",
    ),
}

# rows that are set aside: what follows the good rows, and (row, reason, raw) of what is set aside
SET_ASIDE = {
    "no user": (",pen,2024-01-03", "user_id is empty"),
    "no item": ("cid,,2024-01-03", "item_id is empty"),
    "no time": ("cid,pen,", "timestamp is empty"),
    "a time that is none": ("cid,pen,soon", "timestamp cannot be read"),
    "a day that does not exist": ("cid,pen,2023-02-29", "timestamp cannot be read"),
    "a time to come": ("cid,pen,2999-01-01", "timestamp is in the future"),
    "the header again": ("user_id,item_id,timestamp", "repeated header"),
}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("case", STOPS.values(), ids=STOPS.keys())
def test_what_cannot_be_used_stops_and_leaves_everything_as_it_was(tmp_path: Path, case: Stop) -> None:
    write(tmp_path, case.name, GOOD if callable(case.events) else case.events)
    events = case.events(tmp_path) if callable(case.events) else tmp_path / case.name
    items = None if case.items is None else write(tmp_path, "items.csv", case.items)
    options = dict(case.options)
    out = tmp_path / options.pop("out", "shop.dataset")
    (tmp_path / "taken").mkdir()
    before = digests(tmp_path)
    with pytest.raises(case.error) as caught:
        prepare(events, out, items=items, options=PrepareOptions(**options))
    assert str(caught.value) == case.says.replace("FOLDER", str(tmp_path))
    assert digests(tmp_path) == before
    assert not (tmp_path / "shop.dataset").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("options", "says"), WRONG_OPTIONS.values(), ids=WRONG_OPTIONS.keys())
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        PrepareOptions(**options)
    assert str(caught.value) == says


def test_a_dataset_is_not_replaced_unless_told(tmp_path: Path) -> None:
    events = write(tmp_path, "events.csv", GOOD)
    first = prepare(events, tmp_path / "shop.dataset")
    with pytest.raises(ArtifactError) as caught:
        prepare(events, tmp_path / "shop.dataset")
    assert str(caught.value) == (
        f"{tmp_path}/shop.dataset exists already\n"
        f"  where: {tmp_path}/shop.dataset\n"
        "  expected: a new path\n"
        "  mend: choose another output path or pass --overwrite"
    )
    assert verify(tmp_path / "shop.dataset", "dataset") == first.manifest
    write(tmp_path, "events.csv", GOOD + "cid,pen,2024-01-03\n")
    assert prepare(events, tmp_path / "shop.dataset", options=PrepareOptions(overwrite=True)).num_users == 3


@pytest.mark.parametrize(("line", "reason"), SET_ASIDE.values(), ids=SET_ASIDE.keys())
def test_a_bad_row_is_set_aside_with_its_place_reason_and_values(
    tmp_path: Path, line: str, reason: str
) -> None:
    events = write(tmp_path, "events.csv", GOOD + line + "\ndan,pen,2024-01-04\n")
    dataset = prepare(events, tmp_path / "shop.dataset")
    assert dataset.users.series.to_list() == ["ann", "bob", "dan"]
    user, item, time = (f'"{value}"' if value else "null" for value in line.split(","))
    raw = f'{{"user_id":{user},"item_id":{item},"timestamp":{time}}}'
    quarantine = pl.read_parquet(tmp_path / "shop.dataset" / "quarantine.parquet")
    assert quarantine.rows() == [(str(events), 3, reason, raw)]
    profile = read_profile(tmp_path / "shop.dataset")
    assert profile["rows"] == {"read": 4, "kept": 3, "duplicates": 0, "quarantined": 1, "cut": 0}
    assert profile["quarantined_by_reason"] == {reason: 1}


@pytest.mark.parametrize("line", ["cid,pen", "cid,pen,2024-01-03,9", "x"])
def test_a_row_with_the_wrong_number_of_fields_is_set_aside_as_it_stands(tmp_path: Path, line: str) -> None:
    events = write(tmp_path, "events.csv", GOOD + line + "\ndan,,2024-01-04\n")
    assert prepare(events, tmp_path / "shop.dataset").num_events == 2
    quarantine = pl.read_parquet(tmp_path / "shop.dataset" / "quarantine.parquet")
    assert quarantine.select("row", "reason", "raw").rows()[0] == (3, "wrong number of fields", line)
    assert quarantine["row"].to_list() == [3, 4]  # rows after it keep their numbers
    assert read_profile(tmp_path / "shop.dataset")["rows"]["read"] == 4


def test_numbers_that_are_none_are_set_aside(tmp_path: Path) -> None:
    events = write(
        tmp_path,
        "events.csv",
        'user_id,item_id,timestamp,price,quantity\na,b,2024-01-01,"12,95",1\na,c,2024-01-01,,two\n'
        "a,d,2024-01-01, 3.5 ,\n",
    )
    dataset = prepare(events, tmp_path / "shop.dataset")
    quarantine = pl.read_parquet(tmp_path / "shop.dataset" / "quarantine.parquet")
    assert quarantine.select("row", "reason").rows() == [
        (1, "price is not a number"),
        (2, "quantity is not a number"),
    ]
    assert dataset.columns["price"].tolist() == [3.5]


def test_an_integer_time_before_1990_among_good_ones_is_set_aside(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1, 2, 3], "item_id": 1, "timestamp": [0, *TIMES]})
    assert prepare(events, tmp_path / "shop.dataset").num_events == 2
    quarantine = pl.read_parquet(tmp_path / "shop.dataset" / "quarantine.parquet")
    assert quarantine.rows() == [
        ("<Polars frame>", 1, "timestamp is too early", '{"user_id":1,"item_id":1,"timestamp":0}')
    ]


def test_order_values_that_are_missing_or_broken_are_set_aside(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1, 1, 1], "item_id": [1, 2, 3], "position": [0.0, None, 1.5]})
    dataset = prepare(events, tmp_path / "shop.dataset", options=PrepareOptions(order="position"))
    assert dataset.num_events == 1
    reasons = pl.read_parquet(tmp_path / "shop.dataset" / "quarantine.parquet").select("row", "reason").rows()
    assert reasons == [(2, "position is empty"), (3, "position is not an integer")]


def test_catalogue_rows_without_an_item_are_set_aside_and_counted_apart(tmp_path: Path) -> None:
    events = write(tmp_path, "events.csv", GOOD)
    items = write(tmp_path, "items.csv", "item_id,title\npen,Pen\n,Ghost\npen,Second\nink\n")
    prepare(events, tmp_path / "shop.dataset", items=items)
    profile = read_profile(tmp_path / "shop.dataset")
    assert profile["rows"] == {"read": 2, "kept": 2, "duplicates": 0, "quarantined": 0, "cut": 0}
    assert profile["catalogue"] == {"read": 4, "kept": 1, "duplicates": 1, "quarantined": 2}
    quarantine = pl.read_parquet(tmp_path / "shop.dataset" / "quarantine.parquet").sort("row")
    assert quarantine.rows() == [
        (str(items), 2, "catalogue: item_id is empty", '{"item_id":null,"title":"Ghost"}'),
        (str(items), 4, "catalogue: wrong number of fields", "ink"),
    ]
    assert profile["notes"] == [
        "catalogue: 1 rows repeat an item_id; the first was kept",
        "catalogue: 2 of 4 rows were set aside",
    ]


def test_a_row_longer_than_a_block_is_refused_with_the_likely_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyvec.data.csv_file.BLOCK_BYTES", 2**20)
    events = write(tmp_path, "events.csv", GOOD + f'cid,"{"x" * 3 * 2**20}",2024-01-01\n')
    with pytest.raises(DataError) as caught:
        prepare(events, tmp_path / "shop.dataset")
    assert str(caught.value) == (
        f"{events} has a row longer than 1 MiB\n"
        f"  where: {events}\n"
        "  expected: rows that end\n"
        "  mend: look for a quote that is opened and never closed"
    )


def test_much_that_is_set_aside_for_one_reason_is_said_with_a_way_out(tmp_path: Path) -> None:
    rows = "user_id;item_id;timestamp;price\n" + "".join(
        f"u{n};i;{1700000000 + n};2,5{n}\n" for n in range(8)
    )
    events = write(tmp_path, "events.csv", rows + "u;i;1700000000;3\nu;j;1700000000;3\n")
    prepare(events, tmp_path / "shop.dataset")
    note = read_profile(tmp_path / "shop.dataset")["notes"][-1]
    assert note.startswith(
        "8 of 10 rows were set aside: price is not a number; numbers are read with a decimal"
    )


def test_prices_of_the_catalogue_that_are_text_are_told(tmp_path: Path) -> None:
    events = write(tmp_path, "events.csv", GOOD)
    items = write(tmp_path, "items.csv", "item_id;price\npen;2,0\nink;3\n")
    prepare(events, tmp_path / "shop.dataset", items=items)
    (note,) = read_profile(tmp_path / "shop.dataset")["notes"]
    assert note.startswith("catalogue: price is no number in 1 rows, such as '2,0'")


def test_an_action_that_no_event_has_and_a_column_that_one_file_lacks_are_told(tmp_path: Path) -> None:
    head = "user_id,item_id,timestamp,action"
    first = write(tmp_path, "a.csv", f"{head},country\nu,i,1700000000,Buy,de\n")
    second = write(tmp_path, "b.csv", f"{head}\nu,i,1700000001,purchase\n")
    prepare([first, second], tmp_path / "shop.dataset", options=PrepareOptions(purchases=("buy",)))
    notes = read_profile(tmp_path / "shop.dataset")["notes"]
    assert f"{second}: no column for scenario, which is empty there" in notes
    assert "no event has action 'buy' (--purchase): did you mean 'Buy'?" in notes


def test_a_header_in_one_piece_asks_for_the_delimiter(tmp_path: Path) -> None:
    events = write(tmp_path, "events.csv", GOOD)
    with pytest.raises(DataError, match="the header holds one column, 'user_id,") as caught:
        prepare(events, tmp_path / "shop.dataset", options=PrepareOptions(delimiter=";"))
    assert "--delimiter" in str(caught.value.mend)
