from __future__ import annotations

import torch

from polyvec.layers.tables import INITIAL_STD, PopularTable


def test_popular_ids_have_their_own_row_and_all_others_share_one() -> None:
    table = PopularTable(num_popular=3, width=2)
    assert table.num_rows == 4
    rows = table(torch.tensor([0, 3, 0, 1]))
    assert torch.equal(rows, table.weight[[0, 3, 0, 1]])
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[1], rows[3])


def test_a_table_without_popular_ids_is_one_row() -> None:
    assert PopularTable(0, 5)(torch.tensor([0, 0])).shape == (2, 5)


def test_a_step_touches_only_the_rows_that_were_read() -> None:
    table = PopularTable(num_popular=9, width=2)
    table(torch.tensor([7, 0, 7])).sum().backward()
    gradient = table.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    gradient = gradient.coalesce()
    assert gradient.indices().tolist() == [[0, 7]]
    assert gradient.values().tolist() == [[1, 1], [2, 2]]


def test_initial_weights_are_berts() -> None:
    torch.manual_seed(0)
    assert abs(float(PopularTable(2000, 50).weight.detach().std()) / INITIAL_STD - 1) < 0.02
