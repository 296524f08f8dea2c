"""Rows into bags."""

from __future__ import annotations

import torch
from torch import Tensor


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
    if _is_empty(rows):
        nothing = offsets.new_zeros(0)  # keeps rows and weights in the graph: gradients are zero, not missing
        if per_sample_weights is not None:
            rows = rows * per_sample_weights.unsqueeze(-1)
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


def _is_empty(rows: Tensor) -> bool:
    """Whether there are no rows; False in a trace that cannot know, whose sums come out as zeros all the same."""
    if torch.compiler.is_compiling():
        from torch.fx.experimental.symbolic_shapes import guard_or_false

        return guard_or_false(rows.shape[0] == 0)
    return rows.shape[0] == 0


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


def no_view(out: Tensor) -> Tensor:
    """The same elements in a tensor that is no view of another: what an op returns may be changed in place."""
    return torch.ops.aten._unsafe_view.default(out, out.shape) if out._is_view() else out
