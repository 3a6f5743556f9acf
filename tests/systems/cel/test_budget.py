from __future__ import annotations

from dataclasses import replace

import pytest

from polyvec.errors import UsageError
from polyvec.systems.cel import CELConfig, deep
from polyvec.systems.cel.budget import within_budget
from polyvec.systems.cel.din import make_network
from polyvec.systems.sizes import Sizes

USERS, ITEMS = 900, 600
CONFIG = CELConfig(width=8, item_clusters=40)


def bytes_of(config: CELConfig) -> int:
    network = make_network(config, USERS, ITEMS)
    return Sizes.of(network, network.items).total


def test_what_fits_stays_as_it_is() -> None:
    config = replace(CONFIG, budget=bytes_of(CONFIG))
    assert within_budget(config, USERS, ITEMS) == config
    assert within_budget(CONFIG, USERS, ITEMS) == CONFIG


@pytest.mark.parametrize("config", [CONFIG, deep()[0]], ids=["NMF", "DIN"])
def test_else_both_sides_have_as_many_clusters_as_fit(config: CELConfig) -> None:
    least = bytes_of(replace(config, user_table="clustered", user_clusters=1, item_clusters=1))
    budget = least + 2 * 4 * config.width * 20  # twenty rows more of each side, or a few less
    chosen = within_budget(replace(config, budget=budget), USERS, ITEMS)
    assert (chosen.user_table, chosen.item_table) == ("clustered", "clustered")
    assert 15 <= chosen.item_clusters == chosen.user_clusters <= 21
    more = replace(chosen, user_clusters=chosen.user_clusters + 1, item_clusters=chosen.item_clusters + 1)
    assert bytes_of(chosen) <= budget < bytes_of(more)
    assert within_budget(chosen, USERS, ITEMS) == chosen


def test_more_clusters_than_are_configured_are_never_taken() -> None:
    both = replace(CONFIG, user_table="clustered", user_clusters=30, item_table="full")
    chosen = within_budget(replace(both, budget=bytes_of(both) - 1), USERS, ITEMS)
    assert (chosen.user_clusters, chosen.item_clusters) == (30, 40)


def test_too_little_is_refused_with_what_would_do() -> None:
    with pytest.raises(UsageError, match="a budget of 1,000 bytes is too little") as caught:
        within_budget(replace(CONFIG, budget=1000), USERS, ITEMS)
    least = bytes_of(replace(CONFIG, user_table="clustered", user_clusters=1, item_clusters=1))
    assert f"at least {least:,} bytes" in str(caught.value)
