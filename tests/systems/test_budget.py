"""The item table that fits into a budget."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyvec.errors import UsageError
from polyvec.layers.tables import kept
from polyvec.systems.budget import within_budget
from polyvec.systems.sasrec import SASRecConfig
from polyvec.systems.sasrec.network import SASRecNetwork
from polyvec.systems.sizes import Sizes

NUM_IDS = 500
SMALL = SASRecConfig(width=16, num_layers=1, num_heads=2, max_length=4)


def sizes_of(config: SASRecConfig) -> Sizes:
    """Sizes of what is kept."""
    with torch.device("meta"):
        network = SASRecNetwork(config, NUM_IDS)
        network.items = kept(network.items, config.item_table)
    return Sizes.of(network, network.items)


def chosen(budget: int, **changes: object) -> SASRecConfig:
    config = replace(SMALL, budget=budget, **changes)  # type: ignore[arg-type]
    return within_budget(config, NUM_IDS, sizes_of)


FULL = sizes_of(SMALL).total
INT8 = sizes_of(replace(SMALL, item_table="int8")).total
LEAST_RESIDUAL = sizes_of(replace(SMALL, item_table="clustered_residual", item_rows=64)).total


def test_without_a_budget_nothing_changes() -> None:
    assert chosen(0) == SMALL


@pytest.mark.parametrize(
    ("budget", "table"),
    [
        (FULL, "popular"),
        (FULL - 1, "int8"),
        (INT8, "int8"),
        (INT8 - 1, "clustered_residual"),
        (LEAST_RESIDUAL, "clustered_residual"),
        (LEAST_RESIDUAL - 1, "clustered"),
    ],
)
def test_the_first_that_fits_is_taken(budget: int, table: str) -> None:
    """Of a row for each, int8, clusters with numbers of each item's own, and clusters alone."""
    assert chosen(budget).item_table == table


@pytest.mark.parametrize("saved", [1, 1000, 5000])
def test_clusters_fill_the_budget_and_do_not_exceed_it(saved: int) -> None:
    config = chosen(INT8 - saved)
    assert config.item_table == "clustered_residual"
    more = replace(config, item_rows=config.item_rows + 1)
    assert sizes_of(config).total <= config.budget < sizes_of(more).total


def test_the_chosen_configuration_is_kept_when_it_is_asked_again() -> None:
    config = chosen(INT8 - 1000)
    assert within_budget(config, NUM_IDS, sizes_of) == config


def test_too_little_names_the_least_that_does_and_what_takes_it() -> None:
    with pytest.raises(UsageError, match="a budget of 3,000 bytes is too little") as caught:
        chosen(3000)
    said = str(caught.value)
    least = sizes_of(replace(SMALL, item_table="clustered", item_rows=16))
    assert f"at least {least.total:,} bytes" in said
    assert f"{least.item_table:,} of the item table" in said
    assert chosen(least.total).item_rows == 16
    with pytest.raises(UsageError):
        chosen(least.total - 1)


def test_where_int8_is_the_least_its_bytes_are_named() -> None:
    few = 18

    def sizes(config: SASRecConfig) -> Sizes:
        known = sizes_of(config)
        rows = {"popular": 64 * (few + 1), "int8": 20 * (few + 1), "clustered": 64 * 17 + few + 8}
        rows["clustered_residual"] = rows["clustered"]
        return replace(known, item_table=rows[config.item_table])

    least = sizes(replace(SMALL, item_table="int8")).total
    with pytest.raises(UsageError, match="too little") as caught:
        within_budget(replace(SMALL, budget=least - 1), few, sizes)
    assert f"at least {least:,} bytes with item_table=int8" in str(caught.value)


def test_a_table_that_was_chosen_before_must_fit() -> None:
    hashed = {"item_table": "hash", "item_rows": 50}
    assert chosen(INT8, **hashed).item_table == "hash"
    with pytest.raises(UsageError, match="too little"):
        chosen(5000, **hashed)


def test_settings_that_clusters_do_not_go_with_are_named() -> None:
    assert chosen(INT8, negatives="sampled").item_table == "int8"
    with pytest.raises(UsageError) as caught:
        chosen(INT8 - 1, negatives="sampled")
    assert "item_table=clustered_residual needs negatives=catalogue" in str(caught.value)


def test_parts_add_up_to_the_weights_and_tables_are_told_apart() -> None:
    network = SASRecNetwork(SMALL, NUM_IDS)
    sizes = Sizes.of(network, network.items)
    state = network.state_dict().values()
    assert sizes.total == sum(tensor.numel() * tensor.element_size() for tensor in state)
    assert sizes.item_table == (NUM_IDS + 1) * 16 * 4
    assert sizes.other_tables == 4 * 16 * 4  # places
