"""GUIM's user encoder: C CLS tokens ahead of a history, through BERT layers (GUIM section 3.2).

T = C + L tokens: the CLS tokens first, then the events, then padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyvec.layers.attention import attend, compete
from polyvec.layers.dropout import Dropout
from polyvec.layers.tables import INITIAL_STD

WAVE_BASE = 10_000.0
WAVE_HEIGHT = 0.5  # beside items whose numbers have mean square 1


class EncoderLayer(nn.Module):
    """One layer of BERT: self-attention and a 4·D feed-forward network, each with residual and LayerNorm.

    Dropout is on the residuals only: inside the attention kernel it triples its time on a CPU.

    Parameters
    ----------
    width
        D.
    num_heads
        Heads; must divide D.
    dropout
        Share of residual activations that are dropped while training.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.feed_forward_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        tokens_BTD: Tensor,
        visible_BT: Tensor | None,
        readers_BQD: Tensor | None = None,
        *,
        causal: bool = False,
        competitors: int = 0,
    ) -> Tensor:
        """Let every reader attend to all visible tokens. ``→ [B, Q, D]``.

        Parameters
        ----------
        tokens_BTD
            What is attended to.
        visible_BT
            False where a token is padding; None if nothing is.
        readers_BQD
            The tokens whose outputs are wanted; None means all of them (Q = T).
        causal
            Every token sees itself and earlier ones only; ``visible_BT`` and ``readers_BQD`` are None then.
        competitors
            So many of the first readers compete for the tokens: see
            :func:`polyvec.layers.attention.compete`.
        """
        readers_BQD = tokens_BTD if readers_BQD is None else readers_BQD
        queries_BHQE, keys_BHTE, values_BHTE = self._project(readers_BQD, tokens_BTD)
        attended_BHQE = attend(
            queries_BHQE[:, :, competitors:], keys_BHTE, values_BHTE, visible_BT, causal=causal
        )
        if competitors:
            shared_BHCE = compete(queries_BHQE[:, :, :competitors], keys_BHTE, values_BHTE, visible_BT)
            attended_BHQE = torch.cat([shared_BHCE, attended_BHQE], dim=2)
        attended_BQD = self.output(attended_BHQE.transpose(1, 2).flatten(2))
        hidden_BQD: Tensor = self.attention_norm(readers_BQD + self.dropout(attended_BQD))
        result_BQD: Tensor = self.feed_forward_norm(hidden_BQD + self.dropout(self.feed_forward(hidden_BQD)))
        return result_BQD

    def start_as_pooling(self, *, by_likeness: bool) -> None:
        """Bring the projections of values and output near the identity: attention hands items on as they are.

        With ``by_likeness`` those of queries and keys, too. A token then attends to what resembles it: each
        CLS token starts from another part of the history (a step of mean-shift clustering) instead of from
        its mean. A masked event, though, resembles itself and the other masks most.
        """
        keys_DD, values_DD = self.key_value.weight.chunk(2)
        likeness = (self.query.weight, keys_DD) if by_likeness else ()
        for weight_DD in (values_DD, self.output.weight, *likeness):
            add_identity(weight_DD)

    def _project(self, readers_BQD: Tensor, tokens_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``[B, H, Q, E]``, keys and values ``[B, H, T, E]``."""
        keys_BTD, values_BTD = self.key_value(tokens_BTD).chunk(2, dim=-1)
        return self._heads(self.query(readers_BQD)), self._heads(keys_BTD), self._heads(values_BTD)

    def _heads(self, tokens_BTD: Tensor) -> Tensor:
        return tokens_BTD.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class MixtureTransformer(nn.Module):
    """Masking and time fusion, CLS tokens and L encoder layers.

    Parameters
    ----------
    width
        D.
    num_cls
        C, CLS tokens per user.
    num_layers, num_heads, dropout
        As in BERT.
    pooling
        Start as a pooling of the history: items enter with length √D, and the attention starts by handing
        them on as they are. With BERT's start (False) an item's signal drowns in the time embedding, and that
        a user resembles their items must be learned from nothing.
    by_likeness
        Of a start as pooling: see :meth:`EncoderLayer.start_as_pooling`. Without it the time embeddings start
        as waves, so that a masked event can tell its neighbours from the rest.
    competing
        Whether the CLS tokens compete for the tokens they attend to, in every layer: see
        :func:`polyvec.layers.attention.compete`. A single one has nobody to compete with.
    num_ages
        Distinct ages of an event (365 days); one more row stands for t0, the time of the CLS tokens.
    """

    def __init__(
        self,
        width: int,
        num_cls: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        *,
        pooling: bool = False,
        by_likeness: bool = True,
        competing: bool = False,
        num_ages: int = 365,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.competitors = num_cls if competing and num_cls > 1 else 0
        self.cls = nn.Embedding(num_cls, width)
        self.mask = nn.Parameter(torch.empty(width).normal_(std=INITIAL_STD))
        self.time = nn.Embedding(num_ages + 1, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = Dropout(dropout)
        layers = [EncoderLayer(width, num_heads, dropout) for _ in range(num_layers)]
        self.layers = nn.ModuleList(layers)
        self.apply(_initialise)
        for layer in layers if pooling else []:
            layer.start_as_pooling(by_likeness=by_likeness)
        if pooling and not by_likeness:
            with torch.no_grad():
                self.time.weight[:num_ages] = waves(num_ages, width) * WAVE_HEIGHT

    def forward(
        self, items_BLD: Tensor, ages_BL: Tensor, lengths_B: Tensor, masked_BL: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode histories.

        Parameters
        ----------
        items_BLD
            v_j of every event, oldest first, padded at the end.
        ages_BL
            Age of every event in days before the cut-off, 0 … num_ages − 1.
        lengths_B
            Events of every history; 0 is allowed.
        masked_BL
            Events hidden behind the MASK embedding; None means none.

        Returns
        -------
        tuple of Tensor
            h_CLS ``[B, C, D]``, and h_n of the masked events in row-major order ``[P, D]``.
        """
        tokens_BTD = self._embed(items_BLD, ages_BL, masked_BL)
        visible_BT = self._visible(lengths_B, items_BLD.shape[1])
        for layer in list(self.layers)[:-1]:
            tokens_BTD = layer(tokens_BTD, visible_BT, competitors=self.competitors)
        return self._read_out(tokens_BTD, visible_BT, masked_BL)

    def all_tokens(
        self, items_BLD: Tensor, ages_BL: Tensor, lengths_B: Tensor, masked_BL: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Outputs of all tokens ``[B, T, D]`` and which are real ``[B, T]`` (None: all); inputs as above."""
        tokens_BTD = self._embed(items_BLD, ages_BL, masked_BL)
        visible_BT = self._visible(lengths_B, items_BLD.shape[1])
        for layer in self.layers:
            tokens_BTD = layer(tokens_BTD, visible_BT, competitors=self.competitors)
        return tokens_BTD, visible_BT

    def _embed(self, items_BLD: Tensor, ages_BL: Tensor, masked_BL: Tensor | None) -> Tensor:
        if self.pooling:
            items_BLD = nn.functional.normalize(items_BLD, dim=-1) * items_BLD.shape[-1] ** 0.5
        if masked_BL is not None:
            items_BLD = torch.where(masked_BL[:, :, None], self.mask.to(items_BLD.dtype), items_BLD)
        start_CD = self.cls.weight + self.time.weight[-1]
        start_BCD = start_CD.to(items_BLD.dtype).expand(len(items_BLD), -1, -1)
        events_BLD = items_BLD + self.time(ages_BL).to(items_BLD.dtype)
        tokens_BTD: Tensor = self.dropout(self.norm(torch.cat([start_BCD, events_BLD], dim=1)))
        return tokens_BTD

    def _visible(self, lengths_B: Tensor, length: int) -> Tensor | None:
        if bool((lengths_B == length).all()):
            return None
        num_cls = self.cls.num_embeddings
        return torch.arange(num_cls + length, device=lengths_B.device) < (num_cls + lengths_B)[:, None]

    def _read_out(
        self, tokens_BTD: Tensor, visible_BT: Tensor | None, masked_BL: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Last layer, computed only for the tokens that are read: the CLS tokens and the masked events."""
        num_cls = self.cls.num_embeddings
        readers_BQD, is_read_BQ = tokens_BTD[:, :num_cls], None
        if masked_BL is not None:
            positions_BQ, is_read_BQ = _positions(masked_BL)
            index_BQD = (num_cls + positions_BQ)[:, :, None].expand(-1, -1, tokens_BTD.shape[2])
            readers_BQD = torch.cat([readers_BQD, tokens_BTD.gather(1, index_BQD)], dim=1)
        hidden_BQD = self.layers[-1](tokens_BTD, visible_BT, readers_BQD, competitors=self.competitors)
        masked_PD = hidden_BQD[:, num_cls:][is_read_BQ] if is_read_BQ is not None else hidden_BQD[:0, 0]
        return hidden_BQD[:, :num_cls], masked_PD


def waves(num_ages: int, width: int) -> Tensor:
    """Sines and cosines of wavelengths from 2π to 20,000π, mean square 1 (Vaswani et al. 2017, section 3.5).

    Times that are near each other have like vectors. ``→ [num_ages, width]``.
    """
    frequencies = WAVE_BASE ** -(torch.arange(0, width, 2) / width)
    angles = torch.arange(num_ages)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width] * 2**0.5


@torch.no_grad()
def add_identity(matrix_DD: Tensor) -> None:
    """Add the identity to a square matrix of weights, in place."""
    matrix_DD += torch.eye(len(matrix_DD))


def _positions(chosen_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the chosen events of every row, padded: ``[B, Q]`` positions and which of them count."""
    counts_B = chosen_BL.sum(dim=1)
    widest = int(counts_B.max()) if len(counts_B) else 0
    positions_BQ = torch.argsort(chosen_BL.to(torch.uint8), dim=1, descending=True, stable=True)[:, :widest]
    return positions_BQ, torch.arange(widest, device=chosen_BL.device) < counts_B[:, None]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
