"""Least squares where the matrix is too large to be written out: conjugate gradients on the normal equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_ITERATIONS, _TOLERANCE = 200, 1e-7


def conjugate_gradients(apply: Callable[[Tensor], Any], right: Tensor) -> Tensor:
    """Solves `A x = right` for each column by itself (Hestenes and Stiefel 1952), from zero.

    Args:
        apply: `(k, D)` → `A` times it; A is symmetric without negative eigenvalues. Where it has zeros, and `right` is
            in its range, x is the solution of least norm.
        right: `(k, D)`.

    Returns:
        `(k, D)`, with a residual of at most 1e-7 of each column of `right`, or what 200 steps reach.
    """
    x, residual, direction = torch.zeros_like(right), right.clone(), right.clone()
    squared = residual.square().sum(0)
    least = squared * _TOLERANCE**2
    for _ in range(_ITERATIONS):
        if bool((squared <= least).all()):
            break
        image = apply(direction)
        step = _ratio(squared, (direction * image).sum(0))
        x += step * direction
        residual -= step * image
        before, squared = squared, residual.square().sum(0)
        direction = residual + _ratio(squared, before) * direction
    return x


def _ratio(over: Tensor, under: Tensor) -> Tensor:
    return torch.where(under > 0, over / under, torch.zeros_like(over))
