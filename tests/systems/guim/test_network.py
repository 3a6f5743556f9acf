from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from polyvec.data.batches import BatchShape, assemble
from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.fields import FieldVocabulary
from polyvec.data.split import cut
from polyvec.layers.item_encoder import FieldTensors
from polyvec.systems.guim.config import GUIMConfig, paper
from polyvec.systems.guim.network import GUIMNetwork, Histories, tensors

CPU = torch.device("cpu")
ROWS = [
    "Final projection matrix in f_j()",
    "Embedding table in f_t()",
    "Embedding table in f_cls()",
    "3-layer Transformer",
    "Projection matrix in f_u()",
    "Projection matrix in f_o()",
    "Summation of the above",
]
# GUIM (Yang et al. 2022), Table 3, column by column.
GUI_EDI = {
    1: [36_864, 46_848, 128, 589_824, 16_384, 16_384, 706_432],
    2: [73_728, 93_696, 256, 2_359_296, 65_536, 65_536, 2_658_048],
    3: [110_592, 140_544, 384, 5_308_416, 147_456, 147_456, 5_854_848],
    4: [147_456, 187_392, 512, 9_437_184, 262_144, 262_144, 10_296_832],
}
GUIM = {
    1: [36_864, 46_848, 128, 589_824, 16_384, 16_384, 706_432],
    2: [36_864, 46_848, 256, 589_824, 16_384, 16_384, 706_560],
    3: [36_864, 46_848, 384, 589_824, 16_384, 16_384, 706_688],
    4: [36_864, 46_848, 512, 589_824, 16_384, 16_384, 706_816],
}


def edi(vectors: int) -> GUIMConfig:
    """GUI-EDI: one vector per user, C·d wide (section 4.3.1)."""
    return GUIMConfig(num_vectors=1, width=128 * vectors, gelu=True)


def network(config: GUIMConfig, *, popular: int = 1, categories: int = 1, words: int = 1) -> GUIMNetwork:
    return GUIMNetwork(config, popular, categories, words)


@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
def test_gui_edi_has_the_weights_of_table_3(vectors: int) -> None:
    counts = network(edi(vectors)).count_parameters()
    assert counts == dict(zip(ROWS, GUI_EDI[vectors], strict=True))


@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
def test_guim_has_the_weights_of_table_3(vectors: int) -> None:
    counts = network(paper(vectors)[0]).count_parameters()
    assert counts == dict(zip(ROWS, GUIM[vectors], strict=True))


def test_the_three_tables_have_the_weights_of_footnote_7() -> None:
    """25.60M, 1.28M and 16.96M; ours have one more row for all rare ids and for no category."""
    config = paper()[0]
    f_i = network(config, popular=config.max_popular, categories=10_000, words=config.max_words).f_i
    assert f_i.categories is not None
    assert f_i.words is not None
    assert f_i.ids.weight.numel() - 128 == 25_600_000
    assert f_i.categories.weight.numel() - 128 == 1_280_000
    assert f_i.words.weight.numel() == 16_960_000


def test_what_table_3_leaves_out_is_norms_biases_and_the_mask() -> None:
    it = network(paper()[0])
    tables = sum(p.numel() for name, p in it.f_i.named_parameters() if "projection" not in name)
    ignored = {name for name, p in it.named_parameters() if p.ndim == 1 and name != "transformer.mask"}
    assert all("norm" in name or name.endswith("bias") for name in ignored)
    sizes = dict(it.named_parameters())
    counted = sum(p.numel() for p in sizes.values()) - tables - sum(sizes[name].numel() for name in ignored)
    assert counted - sizes["transformer.mask"].numel() == it.count_parameters()["Summation of the above"]


# --- what comes out


@pytest.fixture
def histories(shop: Dataset) -> tuple[FieldTensors, Histories]:
    windows = cut(shop, 60 * MICROSECONDS_PER_DAY, 60, 20)[slice(0, 5)]
    batch = assemble(shop, windows, BatchShape(max_length=12))
    fields = FieldVocabulary.learn(shop.item_table, shop.item_counts(), 9, 100).encode(shop.item_table)
    masked_BL = torch.zeros(batch.items_BL.shape, dtype=torch.bool)
    masked_BL[0, 0] = True
    masked_BL[3, :2] = True
    parts = [tensors(array, CPU) for array in (batch.items_BL, batch.ages_BL, batch.lengths_B)]
    return FieldTensors.of(fields.take(batch.distinct_M), CPU), Histories(*parts, masked_BL)


@pytest.mark.parametrize(
    ("changes", "vectors"), [({"num_vectors": 3}, 3), ({"num_vectors": 1, "user_heads": 4}, 4)]
)
@pytest.mark.parametrize("start", ["bert", "pooling"])
def test_every_user_gets_so_many_vectors_and_every_masked_event_one(
    tiny: Callable[..., GUIMConfig],
    histories: tuple[FieldTensors, Histories],
    changes: dict[str, int],
    vectors: int,
    start: str,
) -> None:
    torch.manual_seed(0)
    config = tiny(start=start, **changes)
    it = GUIMNetwork(config, 9, 3, 100).eval()
    items_MD = it.encode_items(histories[0])
    users_BCD, masked_PD = it.encode_histories(items_MD, histories[1])
    assert users_BCD.shape == (5, vectors, 16)
    assert config.vectors_per_user == vectors
    assert masked_PD.shape == (3, 16)
    one, other = users_BCD[:, 0], users_BCD[:, 1]
    assert not torch.allclose(one, other, atol=1e-4)


def test_masked_items_alone_start_from_the_mean_of_the_history_and_not_from_the_mask_itself() -> None:
    """With queries and keys near the identity a masked event would attend to itself and the other masks."""
    moved = {}
    for matching_weight in (0.0, 1.0):
        torch.manual_seed(0)
        config = GUIMConfig(num_vectors=1, matching_weight=matching_weight)
        it = GUIMNetwork(config, 40, 0, 0).eval()
        items_MD = torch.randn(40, config.width)
        masked_BL = torch.zeros(2, 20, dtype=torch.bool)
        masked_BL[:, 8:11] = True
        two_users = torch.arange(40).reshape(2, 20)
        ages_BL = torch.arange(19, -1, -1).expand(2, 20)
        histories = Histories(two_users, ages_BL, torch.tensor([20, 20]), masked_BL)
        one_PD, other_PD = it.encode_histories(items_MD, histories)[1].chunk(2)
        moved[matching_weight] = (one_PD - other_PD).norm() / one_PD.norm()
    assert moved[0.0] > 2 * moved[1.0]


def test_guim_mh_masks_as_guim_does(
    tiny: Callable[..., GUIMConfig], histories: tuple[FieldTensors, Histories]
) -> None:
    """The heads come after the transformer: with the same weights, the masked events are the same."""
    torch.manual_seed(0)
    heads = GUIMNetwork(tiny(num_vectors=1, user_heads=4), 9, 3, 100).eval()
    plain = GUIMNetwork(tiny(num_vectors=1), 9, 3, 100).eval()
    own = plain.state_dict().keys()
    plain.load_state_dict({name: value for name, value in heads.state_dict().items() if name in own})
    items_MD = heads.encode_items(histories[0])
    masked = [it.encode_histories(items_MD, histories[1])[1] for it in (heads, plain)]
    torch.testing.assert_close(*masked)


def test_each_head_has_projections_of_its_own_and_the_full_width(tiny: Callable[..., GUIMConfig]) -> None:
    """Section 4.3.2: query, key and value matrices are d × d per head, not d × d/H."""
    it = GUIMNetwork(tiny(num_vectors=1, user_heads=4), 9, 3, 100)
    assert it.heads is not None
    assert sum(p.numel() for p in it.heads.parameters() if p.ndim > 1) == 3 * 4 * 16 * 16


@pytest.mark.parametrize("gelu", [True, False])
def test_gelu_follows_f_i_f_o_and_f_u_or_none(tiny: Callable[..., GUIMConfig], *, gelu: bool) -> None:
    it = GUIMNetwork(tiny(gelu=gelu), 9, 3, 100)
    layers = [module for module in it.modules() if isinstance(module, torch.nn.GELU)]
    assert len(layers) == 1 + 3 * gelu  # one is the transformer layer's
