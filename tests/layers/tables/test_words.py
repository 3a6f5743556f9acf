from __future__ import annotations

import pytest
import torch

from polyvec.layers.tables import INITIAL_STD, WordTable


def test_the_words_of_a_title_are_averaged_and_no_words_are_zero() -> None:
    table = WordTable(num_words=5, width=3)
    words, offsets = torch.tensor([4, 0, 2, 2]), torch.tensor([0, 0, 2, 4])
    means = table(words, offsets)
    weight = table.weight
    expected = [torch.zeros(3), (weight[4] + weight[0]) / 2, weight[2], torch.zeros(3)]
    torch.testing.assert_close(means, torch.stack(expected))


@pytest.mark.parametrize("items", [0, 3])
def test_items_without_any_word_have_zeros(items: int) -> None:
    means = WordTable(5, 3)(torch.empty(0, dtype=torch.int64), torch.zeros(items, dtype=torch.int64))
    assert torch.equal(means, torch.zeros(items, 3))


def test_a_repeated_word_counts_as_often_as_it_stands_there() -> None:
    table = WordTable(num_words=4, width=2)
    table(torch.tensor([1, 1, 3]), torch.tensor([0])).sum().backward()
    gradient = table.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    torch.testing.assert_close(gradient.to_dense()[:, 0], torch.tensor([0, 2 / 3, 0, 1 / 3]))


def test_initial_weights_are_berts() -> None:
    torch.manual_seed(0)
    assert abs(float(WordTable(2000, 50).weight.detach().std()) / INITIAL_STD - 1) < 0.02
