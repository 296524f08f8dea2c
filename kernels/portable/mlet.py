"""MLET in torch's own ops."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype


def mlet_lookup(table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor) -> Tensor:
    """See `ops.mlet_lookup`."""
    wide = compute_dtype(table.dtype)
    inner = torch.nn.functional.embedding(ids + row_offsets, table).to(wide)
    return torch.bmm(inner.transpose(0, 1), projections.to(wide)).transpose(0, 1).to(table.dtype)
