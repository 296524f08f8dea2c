"""MLET: rows that are products of inner rows and a projection."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import register_autograd, register_fake

from embpress.kernels.define import define

_LOOKUP = "Tensor table, Tensor projections, Tensor ids, Tensor row_offsets, Tensor rows"
define(f"mlet_lookup({_LOOKUP}) -> Tensor")
define(f"mlet_lookup_train({_LOOKUP}) -> (Tensor, Tensor)")
define(f"mlet_lookup_backward(Tensor grad, Tensor inner, {_LOOKUP}) -> (Tensor, Tensor)")


def mlet_lookup(table: Tensor, projections: Tensor, ids: Tensor, *, row_offsets: Tensor, rows: Tensor) -> Tensor:
    """Rows of `T` tables that are products: id i of table t is `table[row_offsets[t] + i] @ projections[t]` (MLET).

    Args:
        table: `(Σ rows, k)`, the inner tables.
        projections: `(T, k, D)`, of the same dtype.
        ids: `(N, T)` int32 or int64, in range: the compressors check them. A CUDA kernel makes a row of zeros without
            gradient of an id that is not.
        row_offsets: `(T,)` int64, where the rows of a table start; in ascending order.
        rows: `(T,)` int64, the rows of each table.

    Returns:
        `(N, T, D)`, differentiable in `table` and `projections` with dense gradients, on every device in a fixed order;
        where no gradient is wanted, no autograd is involved.
    """
    if torch.is_grad_enabled() and (table.requires_grad or projections.requires_grad):
        out, _ = torch.ops.embpress.mlet_lookup_train.default(table, projections, ids, row_offsets, rows)
        return out
    return torch.ops.embpress.mlet_lookup.default(table, projections, ids, row_offsets, rows)


@register_fake("embpress::mlet_lookup")
def _(table: Any, projections: Any, ids: Any, row_offsets: Any, rows: Any) -> Tensor:
    return table.new_empty(*ids.shape, projections.shape[2])


@register_fake("embpress::mlet_lookup_train")
def _(table: Any, projections: Any, ids: Any, row_offsets: Any, rows: Any) -> tuple[Tensor, Tensor]:
    inner = table.new_empty(torch.library.get_ctx().new_dynamic_size())
    return table.new_empty(*ids.shape, projections.shape[2]), inner


@register_fake("embpress::mlet_lookup_backward")
def _(grad: Any, inner: Any, table: Any, projections: Any, *others: Any) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(table, memory_format=torch.contiguous_format),
        torch.empty_like(projections, memory_format=torch.contiguous_format),
    )


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    _, inner = output
    ctx.save_for_backward(inner, *inputs)
    ctx.mark_non_differentiable(inner)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Any) -> Any:
    if grad is None:
        return (None,) * 5
    table_grad, projection_grad = torch.ops.embpress.mlet_lookup_backward.default(grad, *ctx.saved_tensors)
    return table_grad, projection_grad, None, None, None


register_autograd("embpress::mlet_lookup_train", _backward, setup_context=_setup)
