from __future__ import annotations

import pytest
import torch

from polyvec.systems.cel.interactions import DIN


@pytest.fixture
def din() -> DIN:
    torch.manual_seed(0)
    return DIN(4).double()


def drawn(records: int, rows: int, events: int):
    random = torch.Generator().manual_seed(1)
    vectors = torch.randn(rows, 4, generator=random, dtype=torch.float64)
    users = torch.randn(records, 4, generator=random, dtype=torch.float64)
    targets = torch.randint(rows, (records,), generator=random)
    past = torch.randint(rows, (events,), generator=random)
    owners = torch.randint(records - 1, (events,), generator=random).sort().values  # the last has no past
    return users, vectors, targets, past, owners


@pytest.mark.parametrize("rows", [3, 50], ids=["each pair of rows once", "each event"])
def test_din_sums_a_history_by_what_an_mlp_says_of_event_and_target(din, rows):
    users, vectors, targets, past, owners = drawn(7, rows, 40)
    expected = []
    for record in range(7):
        target, interest = vectors[targets[record]], torch.zeros(4, dtype=torch.float64)
        for event in past[owners == record].tolist():
            seen = vectors[event]
            weight = din.attention(torch.cat([seen, target, seen - target, seen * target]))
            interest = interest + weight * seen
        expected.append(din.head(torch.cat([users[record], interest, target]))[0])
    found = din(users, vectors, targets, past, owners)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-10, atol=1e-12)


def test_a_longer_history_of_one_interest_speaks_louder(din):
    """There is no softmax: the weights of equal events add up."""
    users, vectors, targets, _, _ = drawn(2, 3, 0)
    targets[:] = targets[0]
    once_and_twice = torch.tensor([1, 1, 1]), torch.tensor([0, 1, 1])
    seen = []
    handle = din.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 4:8]))
    din(users, vectors, targets, *once_and_twice)
    handle.remove()
    torch.testing.assert_close(seen[0][1], 2 * seen[0][0])
    assert float(seen[0][0].detach().abs().max()) > 0
