"""The networks of PGTL and of the methods that it is compared with.

All map features of items of two markets to blocks of numbers; two items are as similar as the cosines of
their blocks, summed. Letters: M items of a batch, F features, D width of a representation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, cast

import torch
from torch import Tensor, nn

from polyvec.layers.dropout import Dropout
from polyvec.layers.gradient_reversal import reverse_gradient
from polyvec.layers.ranges import expand_ranges
from polyvec.layers.tables import INITIAL_STD, Table, id_table

if TYPE_CHECKING:
    from polyvec.layers.tables import KnownTable
    from polyvec.systems.pgtl.config import PGTLConfig

SOURCE: Final = "source"
TARGET: Final = "target"
SINGLE = ("source", "target", "fine_tune")
INITIAL_STDS = 10  # of first vectors, in the usual ones


@dataclass(frozen=True)
class Features:
    """Features of M items as tensors.

    Attributes
    ----------
    numbers
        Bucket of every number, rows of the table of numbers; int64 ``[M, F_n]``.
    bags
        Codes and offsets ``[M]`` of every text, the ids first.
    """

    numbers: Tensor
    bags: list[tuple[Tensor, Tensor]]

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: Tensor) -> Features:
        """Features of some of the items, each as often as it is named; int64 ``[R]``."""
        bags = []
        for codes, offsets_M in self.bags:
            sizes_R = sizes_of(codes, offsets_M)[rows]
            _, places = expand_ranges(offsets_M[rows], sizes_R)
            bags.append((codes[places], sizes_R.cumsum(0) - sizes_R))
        return Features(self.numbers[rows], bags)


def sizes_of(codes: Tensor, offsets_M: Tensor) -> Tensor:
    """Codes of each bag, int64 ``[M]``."""
    return torch.diff(offsets_M, append=offsets_M.new_tensor([len(codes)]))


@dataclass(frozen=True)
class Encoded:
    """What a network makes of M items of one market.

    Attributes
    ----------
    blocks
        Representations ``[M, D]`` whose cosines are summed.
    aligned
        Features ``[M, D]`` that are to be alike in both markets; None where nothing is.
    gate
        g of equation 7, ``[M, D]`` or ``[M, 1]``; None without prior.
    """

    blocks: tuple[Tensor, ...]
    aligned: Tensor | None = None
    gate: Tensor | None = None


class SharedEmbedding(nn.Module):
    """E: a vector for every bucket and text; of several texts the mean, of none the zero vector.

    Item ids are the first texts, and have rows among them or, where they share rows, a table of their own.
    """

    def __init__(self, config: PGTLConfig, num_buckets: int, num_texts: int, num_ids: int) -> None:
        super().__init__()
        width, self.num_apart = config.field_width, 0
        self.ids: Table | None = None
        if config.item_table != "popular":
            self.num_apart = num_ids
            known = cast("KnownTable", id_table(config.item_table, num_ids, config.item_rows, width)).known
            for name, weight in known.named_parameters():
                weight.data *= 1 if name == "quotient" else INITIAL_STDS  # of a product one is enough
            self.ids = known  # the others are in no bag
        self.numbers = nn.Embedding(max(num_buckets, 1), width)
        self.texts = nn.Embedding(max(num_texts - self.num_apart, 1), width)
        for table in (self.numbers, self.texts):
            nn.init.normal_(table.weight, std=INITIAL_STDS * INITIAL_STD)

    def forward(self, features: Features, view: Perspective | None = None) -> Tensor:
        """Vectors of all features, as a market sees them. ``→ [M, F, width]``.

        What it sees of a bucket is the same in every sample: it is worked out once for each bucket.
        """
        buckets = self.numbers.weight if view is None else view(self.numbers.weight)
        parts = [nn.functional.embedding(features.numbers, buckets)]
        texts, bags = [], features.bags
        if self.ids is not None:
            (codes, offsets), bags = bags[0], bags[1:]
            places = torch.arange(len(codes), device=codes.device)
            texts = [nn.functional.embedding_bag(places, self.ids(codes), offsets, mode="mean")]
        texts += [
            nn.functional.embedding_bag(codes - self.num_apart, self.texts.weight, offsets, mode="mean")
            for codes, offsets in bags
        ]
        if texts:
            vectors = torch.stack(texts, dim=1)
            parts.append(vectors if view is None else view(vectors))
        return torch.cat(parts, dim=1)


class Perspective(nn.Module):
    """A market's view of the shared vectors: m = a ⊙ e with a = G_a(e), the same network for all features.

    The last layer is 2σ(·), so that a begins near 1 (the paper names layers and tanh, not what ends them).
    """

    def __init__(self, width: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.attention = _layers((width, *hidden, width), dropout=0)

    def forward(self, vectors: Tensor) -> Tensor:
        """``[…, X] → […, X]``."""
        weighted: Tensor = 2 * torch.sigmoid(self.attention(vectors)) * vectors
        return weighted


def _layers(widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Linear layers with tanh and dropout between them."""
    parts: list[nn.Module] = []
    for number, (one, other) in enumerate(pairwise(widths)):
        parts.append(nn.Linear(one, other))
        if number < len(widths) - 2:
            parts.append(nn.Tanh())
            parts += [Dropout(dropout)] * (dropout > 0)
    return nn.Sequential(*parts)


class PGTLNetwork(nn.Module):
    """PGTL and its rivals: one class, for they are made of the same parts.

    Parameters
    ----------
    config
        Which method, and how wide.
    num_features, num_buckets, num_texts, num_ids
        F, and rows of the tables of numbers and of texts, of which the first are ids'.
    """

    def __init__(
        self, config: PGTLConfig, num_features: int, num_buckets: int, num_texts: int, num_ids: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        width = config.width or num_features
        self.width = width
        self.embedding = SharedEmbedding(config, num_buckets, num_texts, num_ids)
        inputs = num_features * config.field_width
        self.perspectives = nn.ModuleDict()
        if config.method in {"pgtl", "pgtl_no_prior"}:
            for market in (SOURCE, TARGET):
                self.perspectives[market] = Perspective(config.field_width, config.attention)
        self.generators = nn.ModuleDict({
            name: _layers((inputs, *config.hidden, width), config.dropout)
            for name in _generators(config)
        })  # fmt: skip
        self.dropout = Dropout(config.input_dropout)
        learns = config.learns_scale
        self.scale = nn.Parameter(torch.tensor(config.scale), requires_grad=learns)
        self.bias = nn.Parameter(torch.tensor(0.0), requires_grad=learns)
        self.gate = None
        if config.method.startswith("pgtl") and config.gate != "open":
            self.gate = nn.Linear(2 * width, width if config.gate == "vector" else 1)
        self.discriminator = None
        if self.aligns and config.alignment == "adversarial":
            self.discriminator = _layers((width, *config.discriminator, 1), dropout=0)

    @property
    def aligns(self) -> bool:
        """Whether features of both markets are to be alike."""
        return self.config.method not in SINGLE and self.config.alignment != "none"

    @property
    def num_blocks(self) -> int:
        """Blocks whose cosines are summed."""
        return 2 if self.config.method == "sshare" else 1

    def source(self, features: Features) -> Encoded:
        """Encode items of the source."""
        return self._encode(features, SOURCE)

    def target(self, features: Features, prior: Features | None) -> Encoded:
        """Encode items of the target, of which a prior is known where the method has one."""
        encoded = self._encode(features, TARGET)
        if not self.config.method.startswith("pgtl"):
            return encoded
        if prior is None:
            raise ValueError("a method with prior knowledge needs it")
        own = encoded.blocks[0]
        generator = "source" if self.config.prior_generator == "source" else "prior"
        transferred = self._generate(generator, prior, SOURCE)  # the prior is seen as the source is
        gate = self._gate(transferred, own)
        return Encoded((gate * transferred + own,), transferred, gate)

    def _encode(self, features: Features, market: str) -> Encoded:
        """What is made of a market's own features."""
        method = self.config.method
        if method in SINGLE:
            return Encoded((self._generate("single", features, market),))
        if method == "fshare":
            shared = self._generate("shared", features, market)
            return Encoded((shared,), shared)
        own = self._generate(market, features, market)
        if method == "sshare":
            shared = self._generate("shared", features, market)
            return Encoded((shared, own), shared)
        return Encoded((own,), own)

    def logits(self, one: Encoded, other: Encoded) -> Tensor:
        """Scores of pairs for being similar, before the sigmoid (equation 1), ``[P]``."""
        return self.scale * similarity(one, other) + self.bias

    def tell_apart(self, source: Tensor, target: Tensor, trade_off: float) -> tuple[Tensor, Tensor]:
        """Score of each sample for being of the target, behind the gradient reversal layer; and the truth."""
        if self.discriminator is None:
            raise ValueError("there is no discriminator")
        both = torch.cat([source, target])
        scores: Tensor = self.discriminator(reverse_gradient(both, trade_off))[:, 0]
        truth = torch.cat([torch.zeros(len(source)), torch.ones(len(target))]).to(scores.device)
        return scores, truth

    def _generate(self, name: str, features: Features, market: str) -> Tensor:
        view = cast("Perspective | None", dict(self.perspectives).get(market))
        vectors = self.embedding(features, view)
        generated: Tensor = self.generators[name](self.dropout(vectors.flatten(1)))
        return generated

    def _gate(self, prior: Tensor, own: Tensor) -> Tensor:
        """Equation 7."""
        if self.gate is None:
            return torch.ones(len(own), 1, device=own.device)
        return torch.sigmoid(self.gate(torch.cat([prior, own], dim=1)))


def _generators(config: PGTLConfig) -> tuple[str, ...]:
    if config.method in SINGLE:
        return ("single",)
    if config.method == "fshare":
        return ("shared",)
    if config.method == "sshare":
        return ("shared", "source", "target")
    return ("source", "target") if config.prior_generator == "source" else ("source", "prior", "target")


def similarity(one: Encoded, other: Encoded) -> Tensor:
    """Sum of the cosines of the blocks, ``[P]``."""
    cosines = [
        nn.functional.cosine_similarity(left, right)
        for left, right in zip(one.blocks, other.blocks, strict=True)
    ]
    return torch.stack(cosines).sum(dim=0)
