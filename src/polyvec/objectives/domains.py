"""How far apart the features of two domains are, as a loss."""

from __future__ import annotations

import torch
from torch import Tensor

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the kernels, in mean squared distances


def mean_discrepancy(one_MD: Tensor, other_PD: Tensor) -> Tensor:
    """Squared maximum mean discrepancy with five Gaussian kernels (Gretton et al. 2012); 0 for like features.

    The widths of the kernels follow the mean squared distance of the features; no gradient goes through it.

    Parameters
    ----------
    one_MD, other_PD
        Features of the domains, a row for each sample.
    """
    both = torch.cat([one_MD, other_PD])
    distances = torch.cdist(both, both).square()
    width = distances.detach().sum() / max(len(both) * (len(both) - 1), 1) + 1e-12
    kernel = sum((torch.exp(-distances / (factor * width)) for factor in BANDWIDTHS), torch.zeros(()))
    size = len(one_MD)
    within = kernel[:size, :size].mean() + kernel[size:, size:].mean()
    return within - 2 * kernel[:size, size:].mean()
