"""MLET's bags in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype, floats, shaped
from embpress.kernels.reference.bags import by_table, check_bags, in_bags
from embpress.kernels.reference.pooling import no_view, pool, pool_backward
from embpress.kernels.reference.row_sums import row_sums


def check_mlet_bags(
    table: Tensor,
    projections: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    row_offsets: Tensor,
    rows: Tensor,
    mean: bool,
) -> None:
    """Raises for types and shapes that `ops.mlet_bags` does not take."""
    shaped("table", floats("table", table), "rows", "k")
    tables = check_bags(table, ids, offsets, weights, row_offsets, rows, mean)
    shaped("projections", floats("projections", projections, table), tables, table.shape[1], "D")


def mlet_bags(
    table: Tensor,
    projections: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    row_offsets: Tensor,
    rows: Tensor,
    mean: bool,
) -> Tensor:
    """See `ops.mlet_bags`."""
    check_mlet_bags(table, projections, ids, offsets, weights, row_offsets, rows, mean)
    _, pooled = _pooled(table, ids, offsets, weights, row_offsets, rows, mean)
    out = torch.bmm(_by_table(pooled, projections), projections.to(pooled.dtype))
    return no_view(out.reshape(pooled.shape[0], projections.shape[2]).to(table.dtype))


def mlet_bags_train(
    table: Tensor,
    projections: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    row_offsets: Tensor,
    rows: Tensor,
    mean: bool,
    sparse: bool,
) -> Tensor:
    """`mlet_bags`, whatever form its gradient takes."""
    return mlet_bags(table, projections, ids, offsets, weights, row_offsets, rows, mean)


def mlet_bags_backward(
    grad: Tensor,
    table: Tensor,
    projections: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    row_offsets: Tensor,
    rows: Tensor,
    mean: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `mlet_bags` in the table, dense, in the projections, and in the weights, where there are any."""
    index, flow, *others = _flows(grad, table, projections, ids, offsets, weights, row_offsets, rows, mean)
    made = torch.ops.aten.embedding_dense_backward(flow, index, table.shape[0], -1, False)
    return made.to(table.dtype), others[0], others[1]


def mlet_bags_rows_backward(
    grad: Tensor,
    table: Tensor,
    projections: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    row_offsets: Tensor,
    rows: Tensor,
    mean: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same gradients, the table's as the rows `(M,)` that were looked up, ascending, and theirs `(M, k)`."""
    index, flow, *others = _flows(grad, table, projections, ids, offsets, weights, row_offsets, rows, mean)
    found, values = row_sums(index, flow, table.dtype)
    return found, values, others[0], others[1]


def _index(ids: Tensor, offsets: Tensor, row_offsets: Tensor, rows: Tensor) -> Tensor:
    ids, of = in_bags(ids, offsets, rows)
    return ids + by_table(row_offsets, of)


def _pooled(
    table: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    row_offsets: Tensor,
    rows: Tensor,
    mean: bool,
) -> tuple[Tensor, Tensor]:
    """Inner rows `(N, k)`, and their bags `(T B, k)`."""
    inner = torch.nn.functional.embedding(_index(ids, offsets, row_offsets, rows), table)
    inner = inner.to(compute_dtype(table.dtype))
    return inner, pool(inner, offsets, None if weights is None else weights.to(inner.dtype), mean)


def _by_table(bags: Tensor, projections: Tensor) -> Tensor:
    """Bags `(T B, …)` → `(T, B, …)`."""
    return bags.reshape(projections.shape[0], bags.shape[0] // projections.shape[0], bags.shape[1])


def _flows(
    grad: Tensor,
    table: Tensor,
    projections: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    row_offsets: Tensor,
    rows: Tensor,
    mean: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows `(N,)` of the table, what flows into them, and the gradients of projections and weights."""
    inner, pooled = _pooled(table, ids, offsets, weights, row_offsets, rows, mean)
    flow, right = _by_table(grad.to(inner.dtype), projections), projections.to(inner.dtype)
    of_projections = torch.bmm(_by_table(pooled, projections).transpose(1, 2), flow).to(table.dtype)
    of_bags = torch.bmm(flow, right.transpose(1, 2)).reshape(pooled.shape)
    wide = None if weights is None else weights.to(inner.dtype)
    of_rows, of_weights = pool_backward(of_bags, inner, offsets, wide, mean)
    empty = table.new_empty(0) if of_weights is None else of_weights.to(table.dtype)
    return _index(ids, offsets, row_offsets, rows), of_rows, of_projections, empty
