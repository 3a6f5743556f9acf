from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from polyvec.data.fields import ItemFields
from polyvec.layers.item_encoder import FieldTensors, ItemEncoder

FIELDS = ItemFields(
    slots=np.array([2, 0, 1, 0]),
    categories=np.array([1, 2, 0, 0]),
    words=np.array([3, 0, 3, 1]),
    word_offsets=np.array([0, 3, 4, 4, 4]),
)


def tensors(fields: ItemFields = FIELDS) -> FieldTensors:
    return FieldTensors.of(fields, torch.device("cpu"))


def naive_vector(encoder: ItemEncoder, item: int, *, gelu: bool) -> list[float]:
    """f_j of section 3.2, in plain Python: look up, average, concatenate, project, GELU."""
    parts = encoder.ids.weight[FIELDS.slots[item]].tolist()
    if encoder.categories is not None:
        parts += encoder.categories.weight[FIELDS.categories[item]].tolist()
    if encoder.words is not None:
        words = FIELDS.words[FIELDS.word_offsets[item] : FIELDS.word_offsets[item + 1]]
        rows = [encoder.words.weight[word].tolist() for word in words]
        parts += [sum(column) / len(rows) for column in zip(*rows, strict=True)] if rows else [0.0] * 3
    weight, bias = encoder.projection.weight.tolist(), encoder.projection.bias.tolist()
    sums = [
        b + sum(w * x for w, x in zip(row, parts, strict=True)) for row, b in zip(weight, bias, strict=True)
    ]
    return [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in sums] if gelu else sums


@pytest.mark.parametrize("gelu", [True, False])
@pytest.mark.parametrize("num_categories", [2, 0])
@pytest.mark.parametrize("num_words", [4, 0])
def test_an_item_is_its_parts_concatenated_and_projected(
    num_categories: int, num_words: int, *, gelu: bool
) -> None:
    torch.manual_seed(0)
    encoder = ItemEncoder(2, num_categories, num_words, widths=(5, 4, 3), width=6, gelu=gelu)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_()
        vectors = encoder(tensors())
        expected = [naive_vector(encoder, item, gelu=gelu) for item in range(4)]
    torch.testing.assert_close(vectors, torch.tensor(expected))


def test_a_part_that_the_catalogue_lacks_takes_no_weights() -> None:
    full = ItemEncoder(2, 2, 4, widths=(5, 4, 3), width=6, gelu=True)
    bare = ItemEncoder(2, 0, 0, widths=(5, 4, 3), width=6, gelu=True)
    assert full.projection.in_features == 12
    assert bare.projection.in_features == 5
    assert [name for name, _ in bare.named_parameters()] == [
        "ids.weight",
        "projection.weight",
        "projection.bias",
    ]


def test_no_items_give_no_vectors() -> None:
    encoder = ItemEncoder(2, 2, 4, widths=(5, 4, 3), width=6, gelu=True)
    nothing = FIELDS.take(np.zeros(0, dtype=np.int64))
    assert encoder(tensors(nothing)).shape == (0, 6)


def test_an_items_vector_does_not_depend_on_what_is_encoded_with_it() -> None:
    encoder = ItemEncoder(2, 2, 4, widths=(5, 4, 3), width=6, gelu=True)
    together = encoder(tensors())
    alone = torch.cat([encoder(tensors(FIELDS.take(np.array([item])))) for item in range(4)])
    torch.testing.assert_close(together, alone)
