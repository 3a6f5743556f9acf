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
from polyvec.layers.tables import id_table

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
    for table in run.tables_of(run.SETS["SASRec, Beauty"])[1:]:
        kind, share = table.split()
        budget = 4 * WIDTH * (ITEMS + 1) // run.SHARES[share]
        if table == "quotient_remainder 1/200":
            with pytest.raises(UsageError, match="too few to tell 12,101 ids apart"):
                run.settings(table, ITEMS, WIDTH)
            continue
        found = run.settings(table, ITEMS, WIDTH)
        assert found["item_table"] == kind
        sizes = [id_table(kind, ITEMS, found["item_rows"] + more, WIDTH).bytes() for more in (0, 1)]
        assert sizes[0] <= budget < sizes[1]


def test_only_guim_leaves_rare_items_without_a_row(modules):
    run, _ = modules
    assert "popular 1/10" in run.tables_of(run.SETS["GUIM, Beauty"])
    assert "popular 1/10" not in run.tables_of(run.SETS["SASRec, Beauty"])
    assert run.settings("popular 1/10", ITEMS, WIDTH) == {"max_popular": 1209}


def test_what_was_run_is_collected_and_judged(modules, tmp_path):
    run, page = modules
    values = {"full": 0.4, "clustered 1/50": 0.39, "hash 1/50": 0.3, "clustered 1/200": 0.395}
    for table, recall in values.items():
        for seed in (0, 1):
            measures = {"recall@100 all": recall + 0.001 * seed, "ndcg@10 all": 0.1}
            measures["recall@100 item 1–5"] = 0.2 + 0.001 * seed if table == "clustered 1/50" else 0.1
            keep(run, tmp_path, "GUIM, Online Retail", table, seed, measures=measures, bytes=100, rows=5)
    results = {"sets": run.collect(tmp_path)}
    assert results["sets"]["GUIM, Online Retail"]["full"]["seeds"] == [0, 1]
    lines = page.verdicts("GUIM, Online Retail", results["sets"]["GUIM, Online Retail"])
    assert (
        "1/50 of the bytes, no significant loss**: no (seeds: 2; clustered -2.5%; best of the others: hash"
        in lines[0]
    )
    assert "1/200 of the bytes, at most 2% lost**: yes (seeds: 2; clustered -1.2%)." in lines[1]
    assert "1–5 events better than the full table**: yes (recall@100 0.1000 ± 0.0000" in lines[2]
    assert "| clustered 1/50 | 100 | 1 | 2 | 0.3905 ± 0.0063 | 0.1000 ± 0.0000 | 0.2005" in page.page(results)


def test_a_loss_that_could_be_chance_is_none_that_is_significant(modules):
    _, page = modules

    def one(*values: float) -> dict:
        mean = sum(values) / len(values)
        return {"measures": {"recall@100 all": {"mean": mean, "values": values}}, "seeds": [0, 1]}

    tables = {"full": one(0.4, 0.41), "clustered 1/50": one(0.39, 0.415), "clustered 1/200": one(0.3, 0.41)}
    chance, large = page.verdicts("a", tables)
    assert "no significant loss**: yes (seeds: 2" in chance
    assert "at most 2% lost**: undecided (seeds: 2" in large


def test_one_seed_tells_nothing_of_a_small_loss(modules):
    _, page = modules
    full, clustered = (
        {"measures": {"recall@100 all": {"mean": mean, "values": [mean]}}, "seeds": [0]}
        for mean in (0.4, 0.39)
    )
    assert "**: undecided (seeds: 1" in page.verdicts("a", {"full": full, "clustered 1/50": clustered})[0]


def test_a_table_that_cannot_be_made_is_told(modules, tmp_path):
    run, page = modules
    keep(run, tmp_path, "SASRec, Beauty", "quotient_remainder 1/200", 0, refused="59 rows are too few")
    results = {"sets": run.collect(tmp_path)}
    assert results["sets"]["SASRec, Beauty"]["quotient_remainder 1/200"]["refused"] == "59 rows are too few"
    assert "| quotient_remainder 1/200 | – | – |" in page.page(results)


def test_a_model_that_is_made_again_replaces_the_earlier_one(modules, tmp_path):
    run, _ = modules
    for recall in (0.1, 0.2):
        keep(run, tmp_path, "SASRec, Beauty", "full", 0, measures={"recall@100 all": recall}, bytes=9, rows=0)
    (tables,) = run.collect(tmp_path).values()
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
