"""Columns of a model that groups of tables answer: taken apart, and put together with one gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from embpress.kernels import ops


def joined(parts: Sequence[Tensor], places: Tensor | None, order: Tensor, columns: Sequence[Tensor]) -> Tensor:
    """Parts `(B, T_g, D)` as `(B, F, D)`, differentiable.

    Args:
        parts: what groups have answered.
        places: `(F,)` int64, the column of each part's columns one after another; None: without the op.
        order: `(F,)` int64, its inverse.
        columns: of each part, int64.
    """
    return cast(Tensor, _Join.apply(places, order, columns, *parts))


def gradient_columns(grad: Tensor, columns: Tensor, *, native: bool = True) -> Tensor:
    """Columns `(T,)` int64 of a gradient `(B, F, D)`; differentiable itself where a graph of it is made."""
    plain = native and not torch.is_grad_enabled()
    return ops.take_columns(grad, columns) if plain else grad.index_select(1, columns)


class _Join(torch.autograd.Function):
    """The parts in the order of the tables; their gradient in one pass each."""

    @staticmethod
    def forward(ctx: Any, places: Tensor | None, order: Tensor, columns: Sequence[Tensor], *parts: Tensor) -> Tensor:
        ctx.columns, ctx.native = columns, places is not None
        if places is None:
            return torch.cat(parts, dim=1).index_select(1, order)
        return ops.join_columns(list(parts), places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return None, None, None, *(gradient_columns(grad, own, native=ctx.native) for own in ctx.columns)
