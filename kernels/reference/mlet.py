"""MLET in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype, floats, lookups, shaped
from embpress.kernels.reference.checks import checked


def check_mlet(table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor) -> None:
    """Raises for types and shapes that `ops.mlet_lookup` does not take."""
    shaped("table", floats("table", table), "rows", "k")
    tables = lookups(ids, row_offsets, rows)
    shaped("projections", floats("projections", projections, table), tables, table.shape[1], "D")


def mlet_lookup(table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor) -> Tensor:
    """See `ops.mlet_lookup`."""
    out, _ = mlet_lookup_train(table, projections, ids, row_offsets, rows)
    return out


def mlet_lookup_train(
    table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """`mlet_lookup` and the inner rows `(N, T, k)`, flat: its backward takes them instead of gathering them again."""
    wide = compute_dtype(table.dtype)
    inner = torch.nn.functional.embedding(checked(ids, rows, row_offsets), table)
    left, right = inner.transpose(0, 1), projections
    if wide != table.dtype:
        left, right = left.to(wide), right.to(wide)
    out = left.new_empty(*ids.shape, projections.shape[2])
    torch.bmm(left, right, out=out.transpose(0, 1))
    return out if wide == table.dtype else out.to(table.dtype), inner.flatten()


def mlet_lookup_backward(
    grad: Tensor, inner: Tensor, table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Dense gradients of `mlet_lookup` in the table and the projections."""
    wide = compute_dtype(table.dtype)
    flow = grad.transpose(0, 1).to(wide)
    inner_grad = torch.bmm(flow, projections.transpose(1, 2).to(wide))
    table_grad = torch.ops.aten.embedding_dense_backward(inner_grad, (ids + row_offsets).t(), table.shape[0], -1, False)
    projection_grad = torch.bmm(inner.view(*ids.shape, table.shape[1]).permute(1, 2, 0).to(wide), flow)
    return table_grad.to(table.dtype), projection_grad.to(table.dtype)
