"""Ranges of a tensor, side by side."""

from __future__ import annotations

import torch
from torch import Tensor


def expand_ranges(starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Every index of the ranges that begin at ``starts``, as :func:`polyvec.data.item_sets.expand_ranges`.

    Returns
    -------
    owners, index
        int64 ``[P]`` each: the range every index belongs to, and the index.

    Examples
    --------
    >>> owners, index = expand_ranges(torch.tensor([4, 0]), torch.tensor([2, 1]))
    >>> owners.tolist(), index.tolist()
    ([0, 0, 1], [4, 5, 0])
    """
    owners = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    skipped = starts - (lengths.cumsum(0) - lengths)
    return owners, torch.arange(len(owners), device=owners.device) + skipped[owners]
