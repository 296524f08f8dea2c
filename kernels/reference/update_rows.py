"""An optimizer's step on the rows of a batch, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype, floats, integers, shaped
from embpress.kernels.errors import ArgumentError, IdOutOfRange


def check_update_rows(
    parameter: Tensor, total: Tensor | None, rows: Tensor, grads: Tensor, learning_rate: float, eps: float
) -> None:
    """Raises for types and shapes that `ops.update_rows` does not take."""
    n, width = shaped("parameter", floats("parameter", parameter), "n", "D").shape
    count = shaped("rows", integers("rows", rows), "M").shape[0]
    shaped("grads", floats("grads", grads, parameter), count, width)
    if total is None:
        return
    floats("total", total, parameter)
    if total.shape not in (parameter.shape, parameter.shape[:1]):
        raise ArgumentError(f"total must be of shape ({n}, {width}) or ({n},), got {tuple(total.shape)}")


def update_rows(
    parameter: Tensor, total: Tensor | None, rows: Tensor, grads: Tensor, learning_rate: float, eps: float
) -> None:
    """See `ops.update_rows`."""
    check_update_rows(parameter, total, rows, grads, learning_rate, eps)
    n = parameter.shape[0]
    outside = (rows < 0) | (rows >= n)
    if rows.device.type == "cpu" and outside.any():
        raise IdOutOfRange(int(rows[outside][0]), n, 0)
    wide = compute_dtype(parameter.dtype)
    found, inverse = torch.unique(rows, return_inverse=True)
    step = grads.new_zeros(len(found), grads.shape[1], dtype=wide).index_add_(0, inverse, grads.to(wide))
    if total is not None:
        square = step.square() if total.dim() == 2 else step.square().mean(1)
        after = total.index_select(0, found).to(wide) + square
        total.index_copy_(0, found, after.to(total.dtype))
        root = after.sqrt().add_(eps)
        step = step / (root if total.dim() == 2 else root.unsqueeze(1))
    changed = parameter.index_select(0, found).to(wide).add_(step, alpha=-learning_rate)
    parameter.index_copy_(0, found, changed.to(parameter.dtype))
