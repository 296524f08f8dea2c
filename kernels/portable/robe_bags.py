"""Bags of ROBE-Z's rows in torch's own ops."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.portable.robe import robe_lookup


def robe_bags(
    memory: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    z: int,
    dim: int,
    mean: bool,
) -> Tensor:
    """See `ops.robe_bags`; its indices `(N, D)` int64 are held at once."""
    lengths = offsets.diff()
    bag = torch.repeat_interleave(lengths, output_size=ids.shape[0])
    of_table = (offsets.shape[0] - 1) // rows.shape[0]
    x = ids.long() + row_offsets[bag // of_table]
    looked_up = robe_lookup(memory, x.unsqueeze(1), row_offsets.new_zeros(1), rows, coefficients, z, dim).squeeze(1)
    if weights is not None:
        looked_up = looked_up * weights.unsqueeze(1)
    out = memory.new_zeros(lengths.shape[0], dim).index_add(0, bag, looked_up)
    return out / lengths.clamp(min=1).unsqueeze(1) if mean else out
