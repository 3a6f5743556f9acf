"""Branches: layers of like shape, one for each scenario, and what a sample asks of the others' (SAML).

Letters: B samples, S branches, I numbers in, O numbers out, H width of a hidden layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

Gate = Literal["vector", "scalar", "open"]
Shares = Literal["ratio_softmax", "softmax", "uniform"]

GATE_START = -2.0
"""First bias of a gate: branches begin close to independent."""
EPSILON = 1e-8


class BranchLinear(nn.Module):
    """A linear map for each branch; all begin alike, so that what differs has been learned.

    With ``independence`` r < 1 branch s maps by W + r ΔW_s: W is trained by the samples of all branches, ΔW_s
    by those of its own and r times as slowly (Adam), so that a branch of few samples stays close to the
    others (partial pooling, as in hierarchical models). With r = 1 there is no W, as in SAML.

    Parameters
    ----------
    num_branches
        S.
    inputs, outputs
        I and O.
    independence
        r, in (0, 1].
    """

    def __init__(self, num_branches: int, inputs: int, outputs: int, independence: float = 1.0) -> None:
        super().__init__()
        first = nn.Linear(inputs, outputs)
        weight, bias = first.weight.detach().T, first.bias.detach()
        self.independence, self.common_weight, self.common_bias = independence, None, None
        if independence < 1:
            self.common_weight, self.common_bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
            weight, bias = torch.zeros_like(weight), torch.zeros_like(bias)
        self.weight = nn.Parameter(weight.repeat(num_branches, 1, 1))
        self.bias = nn.Parameter(bias.repeat(num_branches, 1))

    def own(self, inputs_BI: Tensor, sizes_S: Sequence[int]) -> Tensor:
        """Every sample through one branch: the first ``sizes_S[0]`` through the first, … ``→ [B, O]``."""
        weight_SIO, bias_SO = self._maps()
        parts = zip(bias_SO.unbind(), inputs_BI.split(list(sizes_S)), weight_SIO.unbind(), strict=True)
        return torch.cat([torch.addmm(bias, part, weight) for bias, part, weight in parts])

    def all(self, inputs: Tensor) -> Tensor:
        """Every sample through all branches. ``[B, I]``, or ``[B, S, I]`` of their own, ``→ [B, S, O]``."""
        weight_SIO, bias_SO = self._maps()
        equation = "bi,sio->bso" if inputs.ndim == 2 else "bsi,sio->bso"
        return torch.einsum(equation, inputs, weight_SIO) + bias_SO

    def _maps(self) -> tuple[Tensor, Tensor]:
        """Weights ``[S, I, O]`` and biases ``[S, O]`` of the branches."""
        if self.common_weight is None or self.common_bias is None:
            return self.weight, self.bias
        weight_SIO = torch.add(self.common_weight, self.weight, alpha=self.independence)
        return weight_SIO, torch.add(self.common_bias, self.bias, alpha=self.independence)


class MutualUnit(nn.Module):
    """M_i = V_i + g_i ⊙ Σ_{j≠i} α_ij V_j: what branches like one's own make of the same sample.

    g_i = σ(W_i V_i + b_i), and α_i is a softmax over the others of cos(V_i, V_j) / Σ_k cos(V_i, V_k), a
    cosine below 0 taken for 0 (SAML; the equations as a reader of the paper has copied them). The exponents
    add up to 1, so that α is never far from equal: of 2 others in [0.269, 0.731].

    Parameters
    ----------
    num_branches
        S. A single one has nobody to ask: M = V.
    width
        H.
    gate
        g: a ``vector``, one number for all of V (``scalar``), or ``open`` (g = 1).
    shares
        α: ``ratio_softmax`` as in the paper, ``softmax`` of cos / temperature, or ``uniform``.
    temperature
        Of ``softmax``.
    """

    def __init__(
        self, num_branches: int, width: int, gate: Gate, shares: Shares, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.num_branches, self.shares, self.temperature = num_branches, shares, temperature
        self.gate = None
        if gate != "open" and num_branches > 1:
            self.gate = BranchLinear(num_branches, width, width if gate == "vector" else 1)
            nn.init.constant_(self.gate.bias, GATE_START)

    def own(
        self, own_BH: Tensor, all_BSH: Tensor, branches_B: Tensor, sizes_S: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """M of every sample's own branch, ``[B, H]``, and its α, ``[B, S]``, 0 of itself.

        ``own_BH`` is V of the own branch, sorted by branch; ``all_BSH`` is V of all, of which the own is not
        looked at.
        """
        if self.num_branches == 1:
            return own_BH, torch.zeros_like(all_BSH[..., 0])
        itself_BS = nn.functional.one_hot(branches_B, self.num_branches).bool()
        lengths_BS = own_BH.norm(dim=-1, keepdim=True) * all_BSH.norm(dim=-1)
        cosines_BS = torch.einsum("bh,bsh->bs", own_BH, all_BSH) / lengths_BS.clamp(min=EPSILON)
        shares_BS = self.shares_of(cosines_BS, itself_BS)
        mixed_BH = torch.einsum("bs,bsh->bh", shares_BS, all_BSH)
        return own_BH + self._gated(
            mixed_BH, None if self.gate is None else self.gate.own(own_BH, sizes_S)
        ), shares_BS

    def all(self, all_BSH: Tensor) -> tuple[Tensor, Tensor]:
        """M of all branches, ``[B, S, H]``, and their α, ``[B, S, S]``."""
        if self.num_branches == 1:
            return all_BSH, torch.zeros_like(all_BSH[..., None, 0])
        unit_BSH = nn.functional.normalize(all_BSH, dim=-1, eps=EPSILON)
        itself_SS = torch.eye(self.num_branches, dtype=torch.bool, device=all_BSH.device)
        shares_BSS = self.shares_of(unit_BSH @ unit_BSH.transpose(1, 2), itself_SS)
        mixed_BSH = shares_BSS @ all_BSH
        return all_BSH + self._gated(
            mixed_BSH, None if self.gate is None else self.gate.all(all_BSH)
        ), shares_BSS

    def shares_of(self, cosines: Tensor, itself: Tensor) -> Tensor:
        """α of cosines with all branches ``[…, S]``, one of which is ``itself``."""
        cosines = cosines.clamp(min=0).masked_fill(itself, 0)
        if self.shares == "uniform":
            cosines = torch.zeros_like(cosines)
        elif self.shares == "softmax":
            cosines = cosines / self.temperature
        else:
            cosines = cosines / cosines.sum(dim=-1, keepdim=True).clamp(min=EPSILON)
        return torch.softmax(cosines.masked_fill(itself, -torch.inf), dim=-1)

    def _gated(self, mixed: Tensor, opening: Tensor | None) -> Tensor:
        return mixed if opening is None else torch.sigmoid(opening) * mixed
