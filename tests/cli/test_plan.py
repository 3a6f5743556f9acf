"""``polyvec plan`` as a person and a program read it."""

from __future__ import annotations

import json
from pathlib import Path

import click
import polars as pl
import pytest
from click.testing import CliRunner

from polyvec.cli.plan import command
from polyvec.cli.run_options import Bytes
from polyvec.data.options import PrepareOptions
from polyvec.data.prepare import prepare

TINY = ["--set", "width=16", "--set", "num_layers=1", "--set", "device=cpu"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Dataset folder: 30 users, 40 items."""
    rows = [(f"u{n % 30}", f"i{n * n % 40}", 10**9 + n * 3600) for n in range(900)]
    out = tmp_path_factory.mktemp("data") / "shop.dataset"
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    prepare(events, out, options=PrepareOptions())
    return out


def plan(dataset: Path, *more: str) -> dict[str, int]:
    done = CliRunner().invoke(
        command, ["sasrec", str(dataset), *TINY, *more, "--json"], catch_exceptions=False
    )
    return dict(json.loads(done.stdout))


def test_parts_add_up_and_nothing_is_written(dataset: Path) -> None:
    before = sorted(dataset.parent.rglob("*"))
    said = plan(dataset)
    assert sorted(dataset.parent.rglob("*")) == before
    parts = ("item_table", "other_tables", "rest")
    assert said["model_bytes"] == sum(said[f"{part}_bytes"] for part in parts)
    parts = ("network", "optimizer", "clusters", "gradients", "batch", "process")
    assert said["peak_bytes"] == sum(said[f"{part}_bytes"] for part in parts)
    assert said["optimizer_bytes"] == 2 * said["gradients_bytes"] == 2 * 4 * said["parameters"]


def test_a_person_reads_the_same_and_what_a_budget_chose(dataset: Path) -> None:
    said = plan(dataset)
    budget = said["model_bytes"] - 1
    done = CliRunner().invoke(command, ["sasrec", str(dataset), *TINY, "--budget", str(budget)])
    assert f"a budget of {budget:,} bytes: item_table=int8" in done.stderr
    assert f"{said['parameters']:,}" in done.stdout.splitlines()[0]
    assert "bytes in training, at most" in done.stdout


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50_000_000", 50_000_000),
        ("200MB", 200_000_000),
        ("1.5GB", 1_500_000_000),
        ("64 MiB", 64 * 2**20),
        ("7b", 7),
    ],
)
def test_bytes_are_read_with_their_units(text: str, size: int) -> None:
    assert Bytes().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "MB", "-3MB", "0", "1e9", "0.2", "5TBs", "1.2.3GB"])
def test_nonsense_is_not_a_number_of_bytes(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a number of bytes such as 200MB"):
        Bytes().convert(text, None, None)
