"""MLET in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype, floats, lookups, shaped
from embpress.kernels.reference.checks import checked
from embpress.kernels.reference.row_sums import row_sums


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
    table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor, sparse: bool = False
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
    flow, of_projections = _flows(grad, inner, table, projections, ids, row_offsets)
    made = torch.ops.aten.embedding_dense_backward(flow, (ids + row_offsets).t(), table.shape[0], -1, False)
    return made.to(table.dtype), of_projections


def mlet_lookup_rows_backward(
    grad: Tensor, inner: Tensor, table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, the table's as the rows `(M,)` that were looked up, ascending, and theirs `(M, k)`."""
    flow, of_projections = _flows(grad, inner, table, projections, ids, row_offsets)
    return *row_sums((ids + row_offsets).t(), flow, table.dtype), of_projections


def _flows(
    grad: Tensor, inner: Tensor, table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """What flows into the inner rows `(T, N, k)`, and the projections' gradient."""
    wide = compute_dtype(table.dtype)
    if inner.numel() != ids.numel() * table.shape[1]:  # whoever answered kept nothing
        inner = torch.nn.functional.embedding(ids + row_offsets, table)
    flow = grad.transpose(0, 1).to(wide)
    of_projections = torch.bmm(inner.view(*ids.shape, table.shape[1]).permute(1, 2, 0).to(wide), flow)
    return torch.bmm(flow, projections.transpose(1, 2).to(wide)), of_projections.to(table.dtype)
