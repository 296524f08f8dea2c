"""Bags of ROBE-Z's rows in plain PyTorch: a lookup, then a sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype, tensor
from embpress.kernels.reference.bags import by_table, check_bags, in_bags
from embpress.kernels.reference.pooling import no_view, pool, pool_backward
from embpress.kernels.reference.robe import check_robe


def check_robe_bags(
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
) -> None:
    """Raises for types and shapes that `ops.robe_bags` does not take."""
    tables = check_bags(memory, ids, offsets, weights, row_offsets, rows, mean)
    check_robe(memory, tensor("ids", ids).new_empty(0, tables), row_offsets, rows, coefficients, z, dim)


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
    """See `ops.robe_bags`; the rows of all ids are held at once."""
    check_robe_bags(memory, ids, offsets, weights, row_offsets, rows, coefficients, z, dim, mean)
    together = _as_one_table(ids, offsets, row_offsets, rows)
    looked_up = torch.ops.embpress.robe_lookup.default(memory, *together, coefficients, z, dim).squeeze(1)
    wide = compute_dtype(memory.dtype)
    pooled = pool(looked_up.to(wide), offsets, None if weights is None else weights.to(wide), mean)
    return no_view(pooled.to(memory.dtype))


def robe_bags_train(
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
    atomics: bool,
) -> Tensor:
    """`robe_bags`, the op that has a gradient."""
    return robe_bags(memory, ids, offsets, weights, row_offsets, rows, coefficients, z, dim, mean)


def robe_bags_backward(
    grad: Tensor,
    memory: Tensor | None,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    size: int,
    z: int,
    mean: bool,
    atomics: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of `robe_bags` in the memory, dense `(size,)`, and in the weights `(N,)`, empty without weights; the
    memory is only read with weights."""
    together: tuple[Any, ...] = _as_one_table(ids, offsets, row_offsets, rows)
    flow = grad.to(compute_dtype(grad.dtype))
    looked_up = flow[:0]
    if weights is not None:
        assert memory is not None, "the gradient of weights needs the memory"
        lookup = torch.ops.embpress.robe_lookup.default
        looked_up = lookup(memory, *together, coefficients, z, grad.shape[1]).squeeze(1).to(flow.dtype)
        weights = weights.to(flow.dtype)
    of_rows, of_weights = pool_backward(flow, looked_up, offsets, weights, mean)
    made = torch.ops.embpress.robe_lookup_backward.default(
        of_rows.unsqueeze(1), *together, coefficients, size, z, atomics
    )
    empty = grad.new_empty(0)
    return made.to(grad.dtype), empty if of_weights is None else of_weights.to(grad.dtype)


def _as_one_table(ids: Tensor, offsets: Tensor, row_offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Checked ids `(N, 1)` as those of one table that begins with the first row; its start and its rows, `(1,)`."""
    ids, of = in_bags(ids, offsets, rows)
    within = ids + by_table(row_offsets, of)
    return within.unsqueeze(1), row_offsets.new_zeros(1), (row_offsets + rows).amax(0, keepdim=True)
