"""Dropout that draws eight decisions per random number on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zero a share of the activations while training and scale up the rest.

    ``nn.Dropout`` spends a ninth of a training step on a CPU drawing one random number per activation. Here
    one byte decides, so the share is rounded to the nearest 1/256 (0.1 becomes 26/256) and the scale fits it.

    Parameters
    ----------
    share
        Share of activations to drop, in [0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def extra_repr(self) -> str:
        """Show the share."""
        return f"share={self.share}"

    def forward(self, activations: Tensor) -> Tensor:
        """Drop activations of any shape."""
        dropped_bytes = min(round(256 * self.share), 255)
        if not self.training or not dropped_bytes:
            return activations
        if activations.device.type != "cpu":
            return nn.functional.dropout(activations, self.share)
        words = torch.empty((activations.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: activations.numel()].view(activations.shape) >= dropped_bytes
        return activations * kept.to(activations.dtype).mul_(256 / (256 - dropped_bytes))
