"""The property-gated LSTM: the spec of DUPN, checks A 1 to 4."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polyvec.layers.property_gated_lstm import PropertyGatedLSTM, State, blocks_of_like_length

LENGTHS = torch.tensor([3, 0, 7, 1, 12, 5, 5])


def made(lengths: torch.Tensor = LENGTHS, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Items and properties of events of so many."""
    random = torch.Generator().manual_seed(seed)
    total = int(lengths.sum())
    return torch.randn(total, 6, generator=random), torch.randn(total, 3, generator=random)


def looped(
    layer: PropertyGatedLSTM, items: torch.Tensor, properties: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """Sequence by sequence, event by event."""
    hidden, at = [], 0
    for length in lengths.tolist():
        state = layer.start(1)
        for event in range(at, at + length):
            state = layer.step(items[event : event + 1], properties[event : event + 1], state)
            hidden.append(state.hidden)
        at += length
    return torch.cat(hidden)


def test_at_the_papers_sizes_it_has_147_968_weights():
    layer = PropertyGatedLSTM(124, 48, 128)
    assert sum(weight.numel() for weight in layer.parameters()) == 147_968


def test_the_kernel_says_what_the_loop_over_the_equations_says():
    layer = PropertyGatedLSTM(6, 3, 5)
    items, properties = made()
    torch.testing.assert_close(
        layer(items, properties, LENGTHS), looped(layer, items, properties, LENGTHS), rtol=0, atol=1e-6
    )


def test_both_still_agree_after_ten_steps_of_training_and_the_cell_input_never_sees_a_property():
    layer = PropertyGatedLSTM(6, 3, 5)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for seed in range(10):
        items, properties = made(seed=seed)
        optimizer.zero_grad()
        layer(items, properties, LENGTHS).square().sum().backward()
        optimizer.step()
    items, properties = made(seed=99)
    torch.testing.assert_close(
        layer(items, properties, LENGTHS), looped(layer, items, properties, LENGTHS), rtol=0, atol=1e-5
    )
    assert (layer.input_weight()[2 * 5 : 3 * 5, 6:] == 0).all()
    assert (layer.input_weight()[: 2 * 5, 6:] != 0).all()


def test_gradients_of_kernel_and_loop_are_the_same():
    layer = PropertyGatedLSTM(6, 3, 5)
    items, properties = made()
    found = []
    for run in (layer, lambda *inputs: looped(layer, *inputs)):
        layer.zero_grad()
        run(items, properties, LENGTHS).square().sum().backward()
        found.append([weight.grad.clone() for weight in layer.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_without_property_weights_it_is_torchs_lstm():
    layer, known = PropertyGatedLSTM(6, 3, 5), torch.nn.LSTM(6, 5, batch_first=True)
    with torch.no_grad():
        layer.property_weight.zero_()
        known.weight_ih_l0.copy_(layer.item_weight)
        known.weight_hh_l0.copy_(layer.hidden_weight)
        known.bias_ih_l0.copy_(layer.bias)
        known.bias_hh_l0.zero_()
    items, properties = made(torch.tensor([9]))
    expected = known(items[None])[0][0]
    torch.testing.assert_close(layer(items, properties, torch.tensor([9])), expected, rtol=0, atol=1e-6)
    plain = PropertyGatedLSTM(6, 0, 5)
    assert plain(items, properties[:, :0], torch.tensor([9])).shape == (9, 5)


def test_a_property_changes_the_gates_and_not_what_the_cell_is_offered():
    layer = PropertyGatedLSTM(6, 3, 5)
    items, _ = made()
    state = State(torch.randn(1, 5), torch.randn(1, 5))
    with torch.no_grad():
        first = layer.property_weight.split(5)  # input gate, forget gate, output gate
        for gate in first[1:]:
            gate.zero_()
        first[0].fill_(100)  # an open or a shut input gate, and nothing else
    opened = layer.step(items[:1], torch.ones(1, 3), state)
    shut = layer.step(items[:1], -torch.ones(1, 3), state)
    gates = (items[:1] @ layer.item_weight.T + layer.bias + state.hidden @ layer.hidden_weight.T).chunk(4, 1)
    torch.testing.assert_close(shut.cell, torch.sigmoid(gates[1]) * state.cell)
    torch.testing.assert_close(opened.cell - shut.cell, torch.tanh(gates[2]))


def test_a_sequence_does_not_depend_on_those_beside_it():
    layer = PropertyGatedLSTM(6, 3, 5)
    items, properties = made()
    together = layer(items, properties, LENGTHS)
    mine = slice(10, 11)  # the fourth sequence
    alone = layer(items[mine], properties[mine], torch.tensor([1]))
    torch.testing.assert_close(together[mine], alone, rtol=0, atol=1e-6)
    changed = items.clone()
    changed[11:] = 7.0
    torch.testing.assert_close(layer(changed, properties, LENGTHS)[:11], together[:11], rtol=0, atol=1e-6)


def test_what_comes_later_says_nothing_of_what_came_before_and_order_matters():
    layer = PropertyGatedLSTM(6, 3, 5)
    items, properties = made(torch.tensor([6]))
    whole = layer(items, properties, torch.tensor([6]))
    torch.testing.assert_close(layer(items[:4], properties[:4], torch.tensor([4])), whole[:4])
    turned = layer(items.flip(0), properties.flip(0), torch.tensor([6]))
    assert (turned[-1] - whole[-1]).abs().max() > 1e-3


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [1], [0, 1, 0]])
def test_few_and_empty_sequences_are_finite(lengths: list[int]):
    layer, lengths_B = PropertyGatedLSTM(6, 3, 5), torch.tensor(lengths, dtype=torch.long)
    items, properties = made(lengths_B)
    hidden = layer(items, properties, lengths_B)
    assert hidden.shape == (sum(lengths), 5)
    assert hidden.isfinite().all()


def test_blocks_hold_every_event_once_and_little_padding():
    lengths = np.random.default_rng(0).integers(0, 101, size=300)
    rows, sizes = [], []
    for rows_LB, there_LB in blocks_of_like_length(lengths):
        rows += rows_LB[there_LB].tolist()
        sizes.append(rows_LB.numel())
        assert (np.diff(rows_LB.T[there_LB.T].numpy()) > 0).any() or rows_LB.numel() == 1
    assert sorted(rows) == list(range(lengths.sum()))
    assert sum(sizes) <= 1.25 * lengths.sum()
