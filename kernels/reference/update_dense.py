"""An optimizer's step on all rows of many parameters, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from embpress.kernels.arguments import compute_dtype, floats, shaped
from embpress.kernels.errors import ArgumentError


def check_update_dense(
    parameters: Sequence[Tensor], totals: Sequence[Tensor], grads: Sequence[Tensor], learning_rate: float, eps: float
) -> None:
    """Raises for types, shapes and numbers of tensors that `ops.update_dense` does not take."""
    count = len(parameters)
    if len(grads) != count or len(totals) not in (0, count):
        raise ArgumentError(f"{count} parameters must have a gradient each, and a total each or none at all")
    for i, (parameter, grad) in enumerate(zip(parameters, grads)):
        floats(f"parameters[{i}]", parameter)
        shaped(f"grads[{i}]", floats(f"grads[{i}]", grad, parameter), *parameter.shape)
    for i, (parameter, total) in enumerate(zip(parameters, totals)):
        floats(f"totals[{i}]", total, parameter)
        if total.shape not in (parameter.shape, parameter.shape[:1]):
            raise ArgumentError(
                f"totals[{i}] must be of shape {tuple(parameter.shape)} or {tuple(parameter.shape[:1])}, "
                f"got {tuple(total.shape)}"
            )


def update_dense(
    parameters: Sequence[Tensor], totals: Sequence[Tensor], grads: Sequence[Tensor], learning_rate: float, eps: float
) -> None:
    """See `ops.update_dense`."""
    check_update_dense(parameters, totals, grads, learning_rate, eps)
    for i, (parameter, given) in enumerate(zip(parameters, grads)):
        wide = compute_dtype(parameter.dtype)
        grad = given.to(wide)
        step = grad
        if totals:
            total = totals[i]
            by_row = total.shape != parameter.shape
            squares = grad.square()
            after = total.to(wide) + (squares.flatten(1).mean(1) if by_row else squares)
            total.copy_(after)
            root = after.sqrt().add_(eps)
            step = grad / (root.view(-1, *(1,) * (grad.dim() - 1)) if by_row else root)
        parameter.copy_(parameter.to(wide).add(step, alpha=-learning_rate))
