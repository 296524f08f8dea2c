"""Rows put together from rows of part tables, in torch's own ops."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype
from embpress.kernels.reference.compositional import COMBINE, combine_parts
from embpress.kernels.reference.hashing import part_hash


def compositional_lookup(
    weight: Tensor,
    ids: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: int,
) -> Tensor:
    """See `ops.compositional_lookup`."""
    x = ids.long().unsqueeze(-1)
    numbers = part_hash(x, coefficients) if coefficients.shape[1] == 4 else x // coefficients.squeeze(1)
    parts = torch.nn.functional.embedding(numbers % sizes + (base + row_offsets.unsqueeze(1)), weight)
    return combine_parts(parts.to(compute_dtype(weight.dtype)), COMBINE[combine]).to(weight.dtype)
