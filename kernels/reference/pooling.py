"""Rows into bags, and the offsets that say where bags lie."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.errors import offsets_decrease, offsets_end, offsets_start


def pool(rows: Tensor, offsets: Tensor | None, per_sample_weights: Tensor | None, mean: bool) -> Tensor:
    """Reduces looked-up rows to bags.

    Args:
        rows: `(N, D)`.
        offsets: `(B + 1,)` int64, the last one included; None where every row is a bag of its own.
        per_sample_weights: `(N,)` of the rows' dtype, or None.
        mean: divide by the bag's length (an empty bag stays zero).

    Returns:
        `(B, D)`, differentiable in `rows` and `per_sample_weights`.
    """
    if offsets is None:
        return rows if per_sample_weights is None else rows * per_sample_weights.unsqueeze(-1)
    if rows.shape[0] == 0:
        nothing = offsets.new_zeros(0)  # keeps the rows in the graph: their gradient is zero, not missing
        return rows.new_zeros(offsets.shape[0] - 1, rows.shape[1]).index_add(0, nothing, rows)
    index = torch.arange(rows.shape[0], device=rows.device)
    return torch.nn.functional.embedding_bag(
        index,
        rows,
        offsets,
        mode="mean" if mean else "sum",
        per_sample_weights=per_sample_weights,
        include_last_offset=True,
    )


def pool_backward(
    grad: Tensor, rows: Tensor, offsets: Tensor | None, weights: Tensor | None, mean: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of `pool` in the rows `(N, D)` and in the weights `(N,)`."""
    if offsets is not None:
        lengths = offsets.diff()
        if mean:  # an empty bag has no gradient to divide
            grad = grad / lengths.clamp(min=1).unsqueeze(-1)
        grad = grad.repeat_interleave(lengths, dim=0)
    if weights is None:
        return grad, None
    return grad * weights.unsqueeze(-1), (grad * rows).sum(-1)


def check_offsets(offsets: Tensor, size: int) -> None:
    """Raises ValueError for offsets, the last one included, that do not run from 0 to `size` without decreasing."""
    first, last = int(offsets[0]), int(offsets[-1])
    if first != 0:
        raise offsets_start(first)
    if last != size:
        raise offsets_end(size, last)
    if bool((offsets[1:] < offsets[:-1]).any()):
        raise offsets_decrease()
