"""Tables of item ids: slot 0 is the shared row of whatever is not known."""

from __future__ import annotations

import pytest
import torch

from polyvec.errors import UsageError
from polyvec.layers.tables import KnownTable, TableKind, clusters_of, id_table, kept
from polyvec.layers.tables.choice import check_rows, rank_of, remainders

IDS, ROWS, WIDTH = 100, 30, 8
SHARING: list[TableKind] = ["hash", "double_hash", "quotient_remainder", "clustered", "clustered_residual"]


@pytest.mark.parametrize("kind", SHARING)
def test_ids_share_rows_and_the_unknown_have_one_of_their_own(kind: TableKind) -> None:
    torch.manual_seed(0)
    table = id_table(kind, IDS, ROWS, WIDTH)
    assert table.num_rows == IDS + 1
    table.all()[0].sum().backward()
    touched = {
        name for name, weight in table.named_parameters() if weight.grad is not None and weight.grad.any()
    }
    assert touched == {"rest"}
    table = kept(table, kind)
    numbers = sum(weight.numel() for weight in table.parameters())
    assignments = IDS + 8 if clusters_of(table) else 0  # and how many clusters are in use
    own = next((part.numel() for name, part in table.named_buffers() if name.endswith("codes")), 0)
    assert table.bytes() == 4 * numbers + assignments + own
    assert 4 * numbers + own <= 4 * (ROWS + 1) * WIDTH


def test_a_table_with_a_row_for_each_gives_its_rows() -> None:
    table = id_table("popular", IDS, 0, WIDTH)
    assert torch.equal(table.all(), table(torch.arange(IDS + 1)))


def test_only_a_clustered_table_has_clusters() -> None:
    clustered = clusters_of(id_table("clustered", IDS, ROWS, WIDTH))
    assert clustered is not None
    assert (clustered.num_rows, clustered.num_clusters, clustered.max_clusters) == (IDS, 5, ROWS)
    assert clusters_of(id_table("hash", IDS, ROWS, WIDTH)) is None
    beside_residuals = clusters_of(id_table("clustered_residual", IDS, ROWS, WIDTH))
    assert beside_residuals is not None
    assert beside_residuals.max_clusters == ROWS // 4


@pytest.mark.parametrize("ids", [1, 2, 99, 100, 101, 12_101])
def test_quotients_and_remainders_use_no_more_rows_than_there_are(ids: int) -> None:
    fewest = next(rows for rows in range(1, ids + 3) if _fits(ids, rows))
    assert fewest <= 2 * ids**0.5 + 2
    for rows in (fewest, fewest + 1, fewest + 7):
        found = remainders(ids, rows)
        assert found + -(-ids // found) <= rows
        assert found == rows - 1 or (found + 1) + -(-ids // (found + 1)) > rows


def _fits(ids: int, rows: int) -> bool:
    return any(m + -(-ids // m) <= rows for m in range(1, rows + 1))


def test_too_few_rows_to_tell_ids_apart_are_refused_with_the_number_that_is_enough() -> None:
    with pytest.raises(UsageError, match="19 rows are too few to tell 100 ids apart") as caught:
        remainders(100, 19)
    assert caught.value.expected == "at least 22 rows"
    assert remainders(100, 22)


@pytest.mark.parametrize(("ids", "width"), [(100, 8), (100, 64), (12_101, 128)])
def test_too_few_rows_for_a_number_of_each_are_refused_with_the_number_that_is_enough(
    ids: int, width: int
) -> None:
    with pytest.raises(UsageError, match="rows are too few for a number of each") as caught:
        rank_of(ids, 1, width)
    least = int(str(caught.value.expected).split()[2])
    assert rank_of(ids, least, width) == 1
    with pytest.raises(UsageError):
        rank_of(ids, least - 1, width)


@pytest.mark.parametrize("ids", [0, 1, 2])
def test_few_ids_have_numbers_of_their_own_too(ids: int) -> None:
    assert id_table("clustered_residual", ids, 10, WIDTH).all().shape == (ids + 1, WIDTH)


@torch.no_grad()
def test_numbers_of_ones_own_are_rounded_when_they_are_kept() -> None:
    torch.manual_seed(0)
    table = id_table("clustered_residual", IDS, ROWS, WIDTH)
    assert isinstance(table, KnownTable)
    residuals = table.known.residuals
    assert not residuals.all().any()  # members of a cluster begin alike
    residuals.own.normal_()
    before = table.all()
    after = kept(table, "clustered_residual").all()
    rounding = residuals.own.abs().amax(dim=0) / 254 @ residuals.basis.abs()
    assert ((before - after)[1:].abs() <= rounding + 1e-6).all()
    assert not torch.equal(before, after)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(table.all(), after)


def test_shared_rows_must_be_counted_and_rows_of_their_own_must_not() -> None:
    with pytest.raises(ValueError, match="item_table=hash needs item_rows"):
        check_rows("hash", 0)
    with pytest.raises(ValueError, match="item_table=int8 has a row for each id"):
        check_rows("int8", 5)
    check_rows("popular", 0)
    check_rows("clustered", 5)
