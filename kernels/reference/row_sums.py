"""Gradients of the rows of a batch, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def row_sums(index: Tensor, flow: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The distinct ones of the rows `index (…)`, ascending, `(M,)` int64, and the sums of `flow (…, D)` for each.

    Sums are taken in the flow's dtype; they come as `dtype`.
    """
    found, inverse = torch.unique(index.flatten(), return_inverse=True)
    width = flow.shape[-1]
    sums = flow.new_zeros(found.shape[0], width).index_add_(0, inverse, flow.reshape(-1, width))
    return found, sums.to(dtype)
