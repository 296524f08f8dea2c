"""ROBE-Z in torch's own ops, all samples at once."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.reference.hashing import robe_hash


def robe_lookup(
    memory: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor, coefficients: Tensor, z: int, dim: int
) -> Tensor:
    """See `ops.robe_lookup`; its indices `(N, T, D)` int64 are held at once."""
    column = torch.arange(dim, device=ids.device)
    chunks = torch.arange(-(-dim // z), device=ids.device)
    x = (ids.long() + row_offsets).unsqueeze(-1)
    begin = robe_hash(x, chunks, coefficients, memory.shape[0] - z + 1)
    out = memory[begin.index_select(2, column // z) + column % z]
    if coefficients.shape[0] == 3:
        return out
    return out * (1 - 2 * robe_hash(x, column, coefficients[3:], 2))
