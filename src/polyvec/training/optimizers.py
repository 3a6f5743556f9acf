"""Optimizers: AdamW for matrices, row-wise lazy Adam for tables; and clipping over both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer, SparseAdam

from polyvec.layers.tables import PopularTable, WordTable, tensors_in_tables

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyvec.training.options import TrainingOptions

BETAS = (0.9, 0.98)


def make_optimizers(network: nn.Module, options: TrainingOptions) -> list[Optimizer]:
    """AdamW for all weights with dense gradients and SparseAdam for tables with sparse ones.

    Only matrices decay: tables, biases and norms do not.
    """
    tables = [m for m in network.modules() if isinstance(m, PopularTable | WordTable)]
    sparse = [table.weight for table in tables if table.sparse]
    not_decaying = {id(tensor) for tensor in tensors_in_tables(network)}
    dense = [p for p in network.parameters() if all(p is not weight for weight in sparse)]
    # biases of several branches are matrices, too
    not_decaying |= {id(p) for name, p in network.named_parameters() if name.rpartition(".")[2] == "bias"}
    decaying = [p for p in dense if p.ndim > 1 and id(p) not in not_decaying]
    others = [p for p in dense if p.ndim <= 1 or id(p) in not_decaying]
    groups = [
        {"params": decaying, "weight_decay": options.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizers: list[Optimizer] = [AdamW(groups, lr=options.learning_rate, betas=BETAS, fused=True)]
    if sparse:
        optimizers.append(SparseAdam(sparse, lr=options.learning_rate, betas=BETAS))
    return optimizers


def state_bytes(optimizers: Iterable[Optimizer]) -> int:
    """Bytes that optimizers will remember of the parameters that have gradients now.

    Adam and its kin: two numbers for each one of a parameter, whether its gradient is sparse or not. Plain
    gradient steps: nothing.
    """
    return sum(
        2 * parameter.numel() * parameter.element_size()
        for optimizer in optimizers
        if not isinstance(optimizer, SGD)
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    )


@torch.no_grad()
def copy_rows(optimizers: Iterable[Optimizer], parameter: nn.Parameter, source: int, target: int) -> None:
    """Give a row of a table what the optimizers remember of another row of it: momentum, mean squares.

    For :meth:`polyvec.layers.tables.ClusteredTable.split`: the new cluster goes on as its parent would have.
    """
    for optimizer in optimizers:
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value[target] = value[source]


def clip_gradients(network: nn.Module, limit: float) -> Tensor:
    """Scale all gradients, sparse ones too, so that their joint norm is at most ``limit``; return the norm.

    A limit of 0 leaves them as they are.

    A norm that is not finite leaves the gradients as they are: the caller sees it and stops.
    """
    parts = []
    for parameter in network.parameters():
        if parameter.grad is not None:
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
            parts.append(_values(parameter.grad))
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(part) for part in parts]))
    if limit and norm.isfinite() and norm > limit:
        for part in parts:
            part.mul_(limit / norm)
    return norm


def learning_rate_factor(step: int, total_steps: int, options: TrainingOptions) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then linear decay to ``final_rate``."""
    warmup_steps = options.warmup * total_steps
    if step < warmup_steps:
        return min((step + 1) / warmup_steps, 1.0)
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return 1 - (1 - options.final_rate) * min(progress, 1.0)


def _values(gradient: Tensor) -> Tensor:
    return gradient._values() if gradient.is_sparse else gradient
