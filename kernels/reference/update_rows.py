"""An optimizer's step on the rows of a batch, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype, floats, integers, shaped
from embpress.kernels.errors import ArgumentError, IdOutOfRange


def check_update_rows(
    parameter: Tensor, total: Tensor | None, rows: Tensor | None, grads: Tensor, learning_rate: float, eps: float
) -> None:
    """Raises for types and shapes that `ops.update_rows` does not take."""
    n, width = shaped("parameter", floats("parameter", parameter), "n", "D").shape
    count = n if rows is None else shaped("rows", integers("rows", rows), "M").shape[0]
    shaped("grads", floats("grads", grads, parameter), count, width)
    if total is None:
        return
    floats("total", total, parameter)
    if total.shape not in (parameter.shape, parameter.shape[:1]):
        raise ArgumentError(f"total must be of shape ({n}, {width}) or ({n},), got {tuple(total.shape)}")


def update_rows(
    parameter: Tensor, total: Tensor | None, rows: Tensor | None, grads: Tensor, learning_rate: float, eps: float
) -> None:
    """See `ops.update_rows`."""
    check_update_rows(parameter, total, rows, grads, learning_rate, eps)
    wide = compute_dtype(parameter.dtype)
    if rows is None:
        made, after = _changed(parameter, total, grads.to(wide), learning_rate, eps)
        parameter.copy_(made)
        if total is not None:
            total.copy_(after)
        return
    n = parameter.shape[0]
    outside = (rows < 0) | (rows >= n)
    if rows.device.type == "cpu" and outside.any():
        raise IdOutOfRange(int(rows[outside][0]), n, 0)
    found, inverse = torch.unique(rows, return_inverse=True)
    sums = grads.new_zeros(len(found), grads.shape[1], dtype=wide).index_add_(0, inverse, grads.to(wide))
    own = None if total is None else total.index_select(0, found)
    made, after = _changed(parameter.index_select(0, found), own, sums, learning_rate, eps)
    parameter.index_copy_(0, found, made.to(parameter.dtype))
    if total is not None:
        total.index_copy_(0, found, after.to(total.dtype))


def _changed(
    rows: Tensor, total: Tensor | None, grads: Tensor, learning_rate: float, eps: float
) -> tuple[Tensor, Tensor]:
    """Rows `(M, D)` after a step with one gradient each, and their accumulator, in the gradients' dtype."""
    if total is None:
        return rows.to(grads.dtype).add(grads, alpha=-learning_rate), grads
    after = total.to(grads.dtype) + (grads.square() if total.dim() == 2 else grads.square().mean(1))
    root = after.sqrt().add_(eps)
    step = grads / (root if total.dim() == 2 else root.unsqueeze(1))
    return rows.to(grads.dtype).add(step, alpha=-learning_rate), after
