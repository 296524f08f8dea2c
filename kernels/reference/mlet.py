"""MLET in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def mlet_lookup(table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor) -> Tensor:
    """See `ops.mlet_lookup`."""
    out, _ = mlet_lookup_train(table, projections, ids, row_offsets, rows)
    return out


def mlet_lookup_train(
    table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """`mlet_lookup` and the inner rows `(N, T, k)`, flat: its backward takes them instead of gathering them again."""
    inner = torch.nn.functional.embedding(ids + row_offsets, table)
    out = table.new_empty(*ids.shape, projections.shape[2])
    torch.bmm(inner.transpose(0, 1), projections, out=out.transpose(0, 1))
    return out, inner.flatten()


def mlet_lookup_backward(
    grad: Tensor, inner: Tensor, table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Dense gradients of `mlet_lookup` in the table and the projections."""
    flow = grad.transpose(0, 1)
    inner_grad = torch.bmm(flow, projections.transpose(1, 2))
    table_grad = torch.ops.aten.embedding_dense_backward(inner_grad, (ids + row_offsets).t(), table.shape[0], -1, False)
    return table_grad, torch.bmm(inner.view(*ids.shape, table.shape[1]).permute(1, 2, 0), flow)
