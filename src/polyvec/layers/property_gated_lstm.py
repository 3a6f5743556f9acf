"""The property-gated LSTM: what an event was decides how much of it is remembered (DUPN section 4.2.2).

Letters: B sequences, T events of all of them, flat; E numbers of an item, P of a property, H hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

FORGET_START = 1.0
"""First bias of the forget gate: what came early is not lost before anything is learned."""
GRADES = 1.25
"""Sequences are worked on together whose lengths differ by this factor at most."""


class State(NamedTuple):
    """What a sequence is remembered by: hidden h and cell c, ``[B, H]`` each."""

    hidden: Tensor
    cell: Tensor


class PropertyGatedLSTM(nn.Module):
    """An LSTM whose gates see the item and its property, and whose cell input sees the item alone.

    With e_t the item and p_t its property (DUPN equations 2 to 6)::

        i_t, f_t, o_t = σ(W_e e_t + W_p p_t + W_h h_{t-1} + b)      each with weights of its own
        c_t = f_t ⊙ c_{t-1} + i_t ⊙ tanh(W_ec e_t + W_hc h_{t-1} + b_c)
        h_t = o_t ⊙ tanh(c_t)

    That is torch's own LSTM on [e_t; p_t] with zeros where the cell input would see p_t; its kernel is used.

    Parameters
    ----------
    item_width
        E.
    property_width
        P; 0 is a plain LSTM.
    width
        H.
    """

    def __init__(self, item_width: int, property_width: int, width: int) -> None:
        super().__init__()
        self.width, self.property_width = width, property_width
        # rows as torch has them: input gate, forget gate, cell, output gate; gates of properties: i, f, o
        self.item_weight = nn.Parameter(torch.empty(4 * width, item_width))
        self.property_weight = nn.Parameter(torch.empty(3 * width, property_width))
        self.hidden_weight = nn.Parameter(torch.empty(4 * width, width))
        self.bias = nn.Parameter(torch.zeros(4 * width))
        for weight in (self.item_weight, self.property_weight, self.hidden_weight):
            for gate in weight.detach().split(width):
                nn.init.xavier_uniform_(gate)
        nn.init.constant_(self.bias.detach()[width : 2 * width], FORGET_START)

    def forward(self, items_TE: Tensor, properties_TP: Tensor, lengths_B: Tensor) -> Tensor:
        """Hidden state after every event, ``[T, H]``.

        Parameters
        ----------
        items_TE, properties_TP
            Events of one sequence after the other, each from its oldest on.
        lengths_B
            Events of every sequence, int64 ``[B]``, on the CPU; 0 for an empty one.
        """
        with torch.autocast(items_TE.device.type, enabled=False):  # not every kernel has bfloat16
            return self._run(torch.cat([items_TE, properties_TP], dim=1).float(), lengths_B)

    def _run(self, inputs: Tensor, lengths_B: Tensor) -> Tensor:
        """The kernel over blocks of like length."""
        weights = [self.input_weight(), self.hidden_weight, self.bias, torch.zeros_like(self.bias)]
        hidden = inputs.new_zeros(len(inputs), self.width)
        places, values = [], []
        for rows_LB, there_LB in blocks_of_like_length(lengths_B.numpy()):
            rows_LB, there_LB = rows_LB.to(inputs.device), there_LB.to(inputs.device)
            start = [inputs.new_zeros(1, rows_LB.shape[1], self.width)] * 2
            block_LBH = torch.lstm(
                rows_of(inputs, rows_LB), start, weights, True, 1, 0.0, self.training, False, False
            )[0]
            places.append(rows_LB[there_LB])
            values.append(block_LBH[there_LB])
        return hidden.index_copy(0, torch.cat(places), torch.cat(values)) if places else hidden

    def step(self, items_BE: Tensor, properties_BP: Tensor, state: State) -> State:
        """Take in one event of every sequence: the equations as they are printed."""
        e_i, e_f, e_c, e_o = (items_BE @ self.item_weight.T + self.bias).chunk(4, dim=1)
        h_i, h_f, h_c, h_o = (state.hidden @ self.hidden_weight.T).chunk(4, dim=1)
        p_i, p_f, p_o = (properties_BP @ self.property_weight.T).chunk(3, dim=1)
        remembered = torch.sigmoid(e_f + p_f + h_f) * state.cell
        cell = remembered + torch.sigmoid(e_i + p_i + h_i) * torch.tanh(e_c + h_c)
        return State(torch.sigmoid(e_o + p_o + h_o) * torch.tanh(cell), cell)

    def start(self, count: int) -> State:
        """State of so many sequences without an event: zeros."""
        nothing = self.bias.new_zeros(count, self.width)
        return State(nothing, nothing)

    def input_weight(self) -> Tensor:
        """Weights of [e; p] as torch's LSTM takes them, ``[4H, E + P]``."""
        of_input, of_forget, of_output = self.property_weight.chunk(3)
        of_cell = torch.zeros_like(of_input)
        return torch.cat([self.item_weight, torch.cat([of_input, of_forget, of_cell, of_output])], dim=1)


def rows_of(values_TX: Tensor, rows_LB: Tensor) -> Tensor:
    """Values of some rows, ``[L, B, X]``; on several threads, unlike brackets, to the same gradients."""
    return values_TX.index_select(0, rows_LB.flatten()).unflatten(0, rows_LB.shape)


def blocks_of_like_length(lengths_B: npt.NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
    """Sequences that lie one after the other, as padded blocks of similar length, the longest first.

    Yields
    ------
    Row of every event, int64 ``[L, B']``, and which of them are events, bool ``[L, B']``; padding repeats the
    sequence's first row.
    """
    starts = np.cumsum(lengths_B) - lengths_B
    order = np.argsort(-lengths_B, kind="stable")[: np.count_nonzero(lengths_B)]
    while len(order):
        longest = lengths_B[order[0]]
        size = np.searchsorted(-lengths_B[order], -longest / GRADES, side="right")
        block, order = order[:size], order[size:]
        steps_L1 = np.arange(longest)[:, None]
        there = steps_L1 < lengths_B[block]
        rows = np.where(there, starts[block] + steps_L1, starts[block])
        yield torch.from_numpy(rows), torch.from_numpy(there)
