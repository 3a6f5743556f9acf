"""What every table must do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from polyvec.layers.tables import (
    ClusteredTable,
    HashedTable,
    PopularTable,
    QuantisedTable,
    QuotientRemainderTable,
    Table,
)

ROWS, WIDTH = 40, 6
TABLES: dict[str, Callable[[], Table]] = {
    "full": lambda: PopularTable(ROWS - 1, WIDTH),
    "modulo": lambda: HashedTable(ROWS, 7, WIDTH),
    "two hashes": lambda: HashedTable(ROWS, 7, WIDTH, num_hashes=2),
    "quotient and remainder": lambda: QuotientRemainderTable(ROWS, 7, WIDTH),
    "int8": lambda: QuantisedTable.of(torch.randn(ROWS, WIDTH)),
    "clustered": lambda: ClusteredTable(ROWS, 9, WIDTH, start=5),
}


@pytest.fixture(params=list(TABLES))
def table(request: pytest.FixtureRequest) -> Table:
    torch.manual_seed(0)
    return TABLES[request.param]()


def test_every_entity_has_a_vector_in_ids_of_any_shape(table: Table) -> None:
    assert (table.num_rows, table.width) == (ROWS, WIDTH)
    ids = torch.arange(ROWS).view(5, 8)
    vectors = table(ids)
    assert vectors.shape == (5, 8, WIDTH)
    assert vectors.isfinite().all()
    assert torch.equal(table(ids[3, 2]), vectors[3, 2])
    assert table(torch.empty(0, dtype=torch.int64)).shape == (0, WIDTH)


def test_the_state_round_trips(table: Table, request: pytest.FixtureRequest) -> None:
    torch.manual_seed(1)
    other = TABLES[request.node.callspec.params["table"]]()
    ids = torch.arange(ROWS)
    assert not torch.equal(other(ids), table(ids))
    other.load_state_dict(table.state_dict())
    assert torch.equal(other(ids), table(ids))


def test_bytes_are_those_of_the_state_but_for_what_no_answer_needs(table: Table) -> None:
    state = [part for name, part in table.state_dict().items() if not name.startswith("lineage.")]
    assert table.bytes() == sum(part.numel() * part.element_size() for part in state)


@pytest.mark.parametrize("name", [name for name in TABLES if name != "int8"])
def test_gradients_reach_the_rows(name: str) -> None:
    table = TABLES[name]()
    table(torch.arange(ROWS)).square().sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in table.parameters()
    )


def test_modulo_shares_rows_and_two_hashes_tell_apart_what_shares_one() -> None:
    ids = torch.arange(1000)
    modulo, both = HashedTable(1000, 50, WIDTH), HashedTable(1000, 50, WIDTH, num_hashes=2)
    assert torch.equal(modulo(ids), modulo.weight[ids % 50])
    assert len(modulo(ids).unique(dim=0)) == 50
    assert len(both(ids).unique(dim=0)) > 500


def test_two_hashes_spread_ids_beyond_32_bits_and_stay_in_the_table() -> None:
    table = HashedTable(2**40, 1000, 2, num_hashes=2)
    vectors = table(torch.arange(2**40 - 5000, 2**40))
    assert len(vectors.unique(dim=0)) > 4900


def test_quotient_and_remainder_give_every_id_a_vector_of_its_own() -> None:
    table = QuotientRemainderTable(ROWS, 7, WIDTH)
    ids = torch.arange(ROWS)
    assert torch.equal(table(ids), table.remainder[ids % 7] * table.quotient[ids // 7])
    assert len(table.quotient) == 6  # ⌈40 / 7⌉
    assert len(table(ids).unique(dim=0)) == ROWS


def test_int8_is_off_by_half_a_step_at_most_and_takes_a_quarter() -> None:
    vectors = torch.randn(ROWS, 128) * torch.logspace(-3, 3, ROWS)[:, None]
    table = QuantisedTable.of(vectors)
    largest = vectors.abs().amax(dim=1, keepdim=True)
    assert ((table(torch.arange(ROWS)) - vectors).abs() <= largest / 254 * 1.001).all()
    assert table.bytes() == ROWS * (128 + 4)


def test_a_row_of_zeros_stays_zero_in_int8() -> None:
    assert torch.equal(QuantisedTable.of(torch.zeros(2, 3))(torch.tensor([1])), torch.zeros(1, 3))
