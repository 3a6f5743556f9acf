from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from polyvec.layers.mixture_transformer import EncoderLayer, MixtureTransformer

WIDTH, CLS, HEADS, AGES = 8, 2, 2, 30
LENGTHS = [5, 0, 3, 1]


@pytest.fixture(params=["1 layer", "3 layers", "3 layers, competing"])
def transformer(request: pytest.FixtureRequest) -> MixtureTransformer:
    return made(int(request.param[0]), competing="competing" in request.param)


@pytest.fixture(params=["training in bf16", "float32"])
def precision(request: pytest.FixtureRequest) -> Iterator[float]:
    """Run in one of the two precisions; the value is the tolerance that goes with it."""
    is_bf16 = request.param != "float32"
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_bf16):
        yield 5e-2 if is_bf16 else 1e-5


def made(layers: int = 2, num_cls: int = CLS, *, competing: bool = False) -> MixtureTransformer:
    """Large weights, so that every input matters."""
    torch.manual_seed(0)
    transformer = MixtureTransformer(
        WIDTH, num_cls, layers, HEADS, dropout=0.3, competing=competing, num_ages=AGES
    ).eval()
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.normal_(std=0.4)
    return transformer


def histories() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    items_BLD = torch.randn(len(LENGTHS), max(LENGTHS), WIDTH, generator=random)
    ages_BL = torch.randint(0, AGES, (len(LENGTHS), max(LENGTHS)), generator=random)
    return items_BLD, ages_BL, torch.tensor(LENGTHS)


def masks() -> Tensor:
    masked_BL = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.bool)
    masked_BL[0, [1, 4]] = True
    masked_BL[2, 2] = True
    return masked_BL


# --- one layer, transcribed from Devlin et al. 2018


def linear(layer: torch.nn.Linear, x: list[float]) -> list[float]:
    rows, bias = layer.weight.tolist(), layer.bias.tolist()
    return [b + sum(w * v for w, v in zip(row, x, strict=True)) for row, b in zip(rows, bias, strict=True)]


def layer_norm(norm: torch.nn.LayerNorm, x: list[float]) -> list[float]:
    mean = sum(x) / len(x)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + 1e-12)
    scale, shift = norm.weight.tolist(), norm.bias.tolist()
    return [s * (v - mean) / deviation + t for v, s, t in zip(x, scale, shift, strict=True)]


def naive_layer(layer: EncoderLayer, tokens: list[list[float]]) -> list[list[float]]:
    queries = [linear(layer.query, token) for token in tokens]
    both = [linear(layer.key_value, token) for token in tokens]
    keys, values = [kv[:WIDTH] for kv in both], [kv[WIDTH:] for kv in both]
    size = WIDTH // HEADS
    results = []
    for token, query in zip(tokens, queries, strict=True):
        attended: list[float] = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = [
                sum(q * k for q, k in zip(query[part], key[part], strict=True)) / size**0.5 for key in keys
            ]
            total = sum(map(math.exp, scores))
            weights = [math.exp(score) / total for score in scores]
            attended += [
                sum(w * v[part][i] for w, v in zip(weights, values, strict=True)) for i in range(size)
            ]
        hidden = [t + a for t, a in zip(token, linear(layer.output, attended), strict=True)]
        hidden = layer_norm(layer.attention_norm, hidden)
        inner = linear(layer.feed_forward[0], hidden)  # type: ignore[arg-type]
        inner = [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in inner]
        outer = linear(layer.feed_forward[2], inner)  # type: ignore[arg-type]
        results.append(
            layer_norm(layer.feed_forward_norm, [h + o for h, o in zip(hidden, outer, strict=True)])
        )
    return results


def test_the_encoder_is_figure_1_written_out() -> None:
    transformer, (items_BLD, ages_BL, lengths_B) = made(), histories()
    masked_BL = masks()
    with torch.no_grad():
        cls_BCD, masked_PD = transformer(items_BLD, ages_BL, lengths_B, masked_BL)
    time = transformer.time.weight.tolist()
    masked = []
    for b, length in enumerate(LENGTHS):
        tokens = [
            [x + t for x, t in zip(cls, time[AGES], strict=True)] for cls in transformer.cls.weight.tolist()
        ]
        for n in range(length):
            item = transformer.mask.tolist() if masked_BL[b, n] else items_BLD[b, n].tolist()
            tokens.append([x + t for x, t in zip(item, time[int(ages_BL[b, n])], strict=True)])
        tokens = [layer_norm(transformer.norm, token) for token in tokens]
        for layer in transformer.layers:
            tokens = naive_layer(layer, tokens)  # type: ignore[arg-type]
        torch.testing.assert_close(cls_BCD[b], torch.tensor(tokens[:CLS]), atol=1e-4, rtol=1e-4)
        masked += [tokens[CLS + n] for n in range(length) if masked_BL[b, n]]
    torch.testing.assert_close(masked_PD, torch.tensor(masked), atol=1e-4, rtol=1e-4)


# --- padding


def test_padding_has_no_effect(transformer: MixtureTransformer, precision: float) -> None:
    items_BLD, ages_BL, lengths_B = histories()
    together, _ = transformer(items_BLD, ages_BL, lengths_B)
    for b, length in enumerate(LENGTHS):
        alone, _ = transformer(
            items_BLD[b : b + 1, :length], ages_BL[b : b + 1, :length], lengths_B[b : b + 1]
        )
        torch.testing.assert_close(together[b], alone[0], atol=precision, rtol=precision)


def test_what_stands_in_the_padding_is_never_read(transformer: MixtureTransformer, precision: float) -> None:
    items_BLD, ages_BL, lengths_B = histories()
    before = transformer(items_BLD, ages_BL, lengths_B, masks())
    padding_BL = torch.arange(max(LENGTHS)) >= lengths_B[:, None]
    items_BLD[padding_BL], ages_BL[padding_BL] = 1e4, AGES - 1
    after = transformer(items_BLD, ages_BL, lengths_B, masks())
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_no_gradient_reaches_the_padding() -> None:
    items_BLD, ages_BL, lengths_B = histories()
    items_BLD.requires_grad_()
    cls_BCD, masked_PD = made()(items_BLD, ages_BL, lengths_B, masks())
    (cls_BCD.square().sum() + masked_PD.square().sum()).backward()
    assert items_BLD.grad is not None
    reached_BL = items_BLD.grad.abs().sum(dim=-1) > 0
    real_BL = torch.arange(max(LENGTHS)) < lengths_B[:, None]
    assert torch.equal(reached_BL, real_BL & ~masks())


def test_a_batch_without_any_event_gives_the_learned_prior() -> None:
    transformer, (items_BLD, ages_BL, lengths_B) = made(), histories()
    prior, _ = transformer(items_BLD, ages_BL, lengths_B)
    empty, masked = transformer(
        torch.zeros(3, 0, WIDTH), torch.zeros(3, 0, dtype=torch.int64), torch.zeros(3)
    )
    torch.testing.assert_close(empty, prior[1:2].expand(3, -1, -1))
    assert masked.shape == (0, WIDTH)


# --- reading out


def test_the_last_layer_computed_for_readers_only_equals_all_tokens(
    transformer: MixtureTransformer, precision: float
) -> None:
    cls_BCD, masked_PD = transformer(*histories(), masks())
    tokens_BTD, visible_BT = transformer.all_tokens(*histories(), masks())
    assert visible_BT is not None
    assert visible_BT.sum(dim=1).tolist() == [CLS + length for length in LENGTHS]
    torch.testing.assert_close(cls_BCD, tokens_BTD[:, :CLS], atol=precision, rtol=precision)
    torch.testing.assert_close(masked_PD, tokens_BTD[:, CLS:][masks()], atol=precision, rtol=precision)


def test_masked_events_come_in_row_major_order() -> None:
    transformer, (items_BLD, ages_BL, lengths_B) = made(), histories()
    _, masked_PD = transformer(items_BLD, ages_BL, lengths_B, masks())
    _, third = transformer(items_BLD[2:3], ages_BL[2:3], lengths_B[2:3], masks()[2:3])
    torch.testing.assert_close(masked_PD[2:], third)
    assert masked_PD.shape == (3, WIDTH)


# --- what is seen


def test_the_mask_hides_the_item_but_not_its_time() -> None:
    transformer, (items_BLD, ages_BL, lengths_B) = made(), histories()
    before = transformer(items_BLD, ages_BL, lengths_B, masks())
    other_items = items_BLD.clone()
    other_items[masks()] = torch.randn(3, WIDTH)
    hidden = transformer(other_items, ages_BL, lengths_B, masks())
    assert torch.equal(before[0], hidden[0])
    assert torch.equal(before[1], hidden[1])
    shown = transformer(other_items, ages_BL, lengths_B)
    assert not torch.allclose(before[0][0], shown[0][0], atol=1e-3)
    later = ages_BL.clone()
    later[0, 1] = (later[0, 1] + 1) % AGES
    moved = transformer(items_BLD, later, lengths_B, masks())
    assert not torch.allclose(before[0][0], moved[0][0], atol=1e-4)


def test_time_decides_and_not_the_place_in_the_history() -> None:
    transformer, (items_BLD, ages_BL, _) = made(), histories()
    lengths_B = torch.full((len(LENGTHS),), max(LENGTHS))
    before, _ = transformer(items_BLD, ages_BL, lengths_B)
    shuffled, _ = transformer(items_BLD.flip(1), ages_BL.flip(1), lengths_B)
    torch.testing.assert_close(before, shuffled)
    same_day, _ = transformer(items_BLD, torch.zeros_like(ages_BL), lengths_B)
    assert not torch.allclose(before, same_day, atol=1e-3)


def test_events_are_read_in_both_directions() -> None:
    transformer, (items_BLD, ages_BL, lengths_B) = made(), histories()
    _, before = transformer(items_BLD, ages_BL, lengths_B, masks())
    items_BLD[0, 0] *= -1  # before both masked events of the first history
    items_BLD[2, 0] *= -1
    _, after = transformer(items_BLD, ages_BL, lengths_B, masks())
    assert ((before - after).abs().max(dim=1).values > 1e-3).all()
    items_BLD[0, 3] *= -1  # after the first, before the second
    _, last = transformer(items_BLD, ages_BL, lengths_B, masks())
    assert ((last - after).abs().max(dim=1).values[:2] > 1e-3).all()


def test_every_cls_token_gives_a_vector_of_its_own() -> None:
    cls_BCD, _ = made()(*histories())
    assert not torch.allclose(cls_BCD[:, 0], cls_BCD[:, 1], atol=1e-2)


def test_cls_tokens_that_compete_change_and_events_of_the_same_layer_do_not() -> None:
    free_BCD, free_PD = made(1)(*histories(), masks())
    competing_BCD, competing_PD = made(1, competing=True)(*histories(), masks())
    torch.testing.assert_close(competing_PD, free_PD)
    has_events = torch.tensor(LENGTHS) > 0
    assert ((competing_BCD - free_BCD).abs().amax(dim=(1, 2))[has_events] > 1e-3).all()


def test_a_single_cls_token_has_nobody_to_compete_with() -> None:
    free_BCD, _ = made(2, num_cls=1)(*histories())
    competing_BCD, _ = made(2, num_cls=1, competing=True)(*histories())
    assert torch.equal(competing_BCD, free_BCD)


def test_dropout_is_drawn_in_training_only() -> None:
    transformer = made().train()
    torch.manual_seed(5)
    first, second = transformer(*histories())[0], transformer(*histories())[0]
    torch.manual_seed(5)
    assert torch.equal(first, transformer(*histories())[0])
    assert not torch.equal(first, second)
    transformer.eval()
    assert torch.equal(transformer(*histories())[0], transformer(*histories())[0])


def test_initial_weights_are_berts() -> None:
    transformer = MixtureTransformer(64, 4, 2, 4, dropout=0.1)
    assert transformer.time.weight.shape == (366, 64)
    for name, parameter in transformer.named_parameters():
        if parameter.ndim > 1:
            assert abs(float(parameter.detach().std()) - 0.02) < 0.004, name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name


def test_time_embeddings_that_start_as_waves_are_the_more_alike_the_nearer_they_are() -> None:
    it = MixtureTransformer(16, 1, num_layers=1, num_heads=2, dropout=0.0, pooling=True, by_likeness=False)
    ages_AD = it.time.weight[:365]
    assert torch.allclose((ages_AD**2).mean(dim=1), torch.full((365,), 0.25))
    likeness_A = (ages_AD[:100] * ages_AD[1:101]).sum(dim=1), (ages_AD[:100] * ages_AD[5:105]).sum(dim=1)
    assert (likeness_A[0] > likeness_A[1]).all()
    assert it.time.weight[-1].norm() < 0.2  # t0 is no age: it starts small
