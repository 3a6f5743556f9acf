from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from polyvec.errors import UsageError
from polyvec.evaluation.runs import add_run
from polyvec.layers.tables import id_table, kept

STUDY = Path(__file__).parents[2] / "studies" / "item_tables"
ITEMS, WIDTH = 12_101, 128


@pytest.fixture(scope="module")
def modules() -> Iterator[tuple[ModuleType, ModuleType]]:
    sys.path.insert(0, str(STUDY))
    yield importlib.import_module("run"), importlib.import_module("page")
    sys.path.remove(str(STUDY))
    for name in ("run", "page"):
        del sys.modules[name]


def keep(run: ModuleType, out: Path, name: str, table: str, seed: int, **figures: Any) -> None:
    add_run(out / run.RUNS, {"set": name, "table": table, "seed": seed, "figures": figures})


def test_a_table_has_the_most_rows_that_its_bytes_allow(modules):
    run, _ = modules
    for table in run.tables_of()[1:]:
        kind, share = table.split()
        budget = 4 * WIDTH * (ITEMS + 1) // run.SHARES[share]
        if table == "quotient_remainder 1/200":
            with pytest.raises(UsageError, match="too few to tell 12,101 ids apart"):
                run.settings(table, ITEMS, WIDTH)
            continue
        found = run.settings(table, ITEMS, WIDTH)
        if kind == "popular":
            assert 4 * WIDTH * (found["max_popular"] + 1) <= budget < 4 * WIDTH * (found["max_popular"] + 2)
            continue
        assert found["item_table"] == kind
        tables = [id_table(kind, ITEMS, found["item_rows"] + more, WIDTH) for more in (0, 1)]
        sizes = [kept(made, kind).bytes() for made in tables]
        assert sizes[0] <= budget < sizes[1]


def test_what_was_run_is_collected_and_judged(modules, tmp_path):
    run, page = modules
    values = {"full": 0.4, "clustered 1/50": 0.39, "hash 1/50": 0.3, "clustered 1/200": 0.395}
    for table, recall in values.items():
        for seed in (0, 1):
            measures = {"recall@100 all": recall + 0.001 * seed, "ndcg@10 all": 0.1}
            measures["recall@100 item 1–5"] = 0.2 + 0.001 * seed if table == "clustered 1/50" else 0.1
            keep(run, tmp_path, "GUIM, Online Retail", table, seed, measures=measures, bytes=100, rows=5)
    results = run.collect(tmp_path)
    assert results["sets"]["GUIM, Online Retail"]["full"]["seeds"] == [0, 1]
    lines = page.verdicts("GUIM, Online Retail", results["sets"]["GUIM, Online Retail"])
    assert "1/50 of the bytes, no significant loss**: no. clustered -2.5% ± 0.0% (seeds: 2); best" in lines[0]
    assert "; best of the others: hash -25.0% ± 0.0%." in lines[0]
    assert "1/200 of the bytes, at most 2% lost**: yes. clustered -1.2% ± 0.0% (seeds: 2)." in lines[1]
    assert (
        "better than the full table**: yes. better: clustered 1/50; undecided: clustered 1/200." in lines[2]
    )
    assert "| clustered 1/50 | 100 | 1 | 2 | 0.3905 ± 0.0063 | 0.1000 ± 0.0000 | 0.2005" in page.page(results)


def table_of(*values: float) -> dict:
    measures = {"recall@100 all": {"mean": sum(values) / len(values), "values": values}}
    return {"measures": measures, "seeds": list(range(len(values)))}


@pytest.mark.parametrize(
    ("reached", "told"),
    [
        ([0.399, 0.4, 0.401], "yes"),  # as much, surely
        ([0.35, 0.4, 0.45], "undecided"),  # as much on average, but who knows
        ([0.389, 0.39, 0.391], "no"),  # surely less
    ],
)
def test_no_significant_loss_needs_seeds_that_agree(modules, reached, told):
    _, page = modules
    tables = {"full": table_of(0.4, 0.4, 0.4), "clustered 1/50": table_of(*reached)}
    assert f"no significant loss**: {told}. " in page.verdicts("a", tables)[0]


def test_one_seed_tells_nothing_of_a_small_loss(modules):
    _, page = modules
    tables = {"full": table_of(0.4), "clustered 1/50": table_of(0.39)}
    assert "**: undecided. clustered -2.5% (seeds: 1)" in page.verdicts("a", tables)[0]


def test_rare_items_are_told_table_by_table(modules):
    _, page = modules

    def one(*rare: float) -> dict:
        tables = table_of(0.4, 0.4)
        tables["measures"][page.RARE] = {"mean": sum(rare) / 2, "values": rare}
        return tables

    tables = {
        "full": one(0.1, 0.1), "clustered 1/10": one(0.2, 0.201), "clustered 1/50": one(0.05, 0.051),
        "clustered_residual 1/50": one(0.0, 0.3),
    }  # fmt: skip
    line = page.verdicts("a", tables)[-1]
    assert (
        "**: yes. better: clustered 1/10; worse: clustered 1/50; undecided: clustered_residual 1/50." in line
    )


def test_a_table_that_cannot_be_made_is_told(modules, tmp_path):
    run, page = modules
    keep(run, tmp_path, "SASRec, Beauty", "quotient_remainder 1/200", 0, refused="59 rows are too few")
    results = run.collect(tmp_path)
    assert results["sets"]["SASRec, Beauty"]["quotient_remainder 1/200"]["refused"] == "59 rows are too few"
    assert "| quotient_remainder 1/200 | – | – |" in page.page(results)


def test_a_model_that_is_made_again_replaces_the_earlier_one(modules, tmp_path):
    run, _ = modules
    for recall in (0.1, 0.2):
        keep(run, tmp_path, "SASRec, Beauty", "full", 0, measures={"recall@100 all": recall}, bytes=9, rows=0)
    (tables,) = run.collect(tmp_path)["sets"].values()
    assert tables["full"]["measures"]["recall@100 all"] == {"mean": 0.2, "values": [0.2]}


def test_curves_are_by_the_bytes_that_were_asked_for(modules):
    _, page = modules

    def one(size: int, recall: float) -> dict:
        return {"bytes": size, "measures": {"recall@100 all": {"mean": recall, "half_width": 0.01}}}

    tables = {
        "full": one(1000, 0.4), "int8": one(255, 0.39), "hash 1/200": one(7, 0.1), "hash 1/50": one(27, 0.2),
        "quotient_remainder 1/50": {"refused": "too few rows"},
    }  # fmt: skip
    curves = page.by_bytes(tables)
    assert list(curves) == ["full", "int8", "hash"]
    assert curves["int8"][0][:2] == (4, 0.39)
    assert curves["hash"] == [
        (50, 0.2, pytest.approx(0.19), pytest.approx(0.21)),
        (200, 0.1, pytest.approx(0.09), pytest.approx(0.11)),
    ]
