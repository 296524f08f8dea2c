"""An optimizer's step on the rows of a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import register_fake

from embpress.kernels.autograd import again, changed
from embpress.kernels.define import define
from embpress.kernels.reference.update_rows import check_update_rows

define(
    "update_rows(Tensor(a!) parameter, Tensor(b!)? total, Tensor? rows, Tensor grads, float learning_rate, float eps) "
    "-> ()"
)


def update_rows(
    parameter: Tensor,
    total: Tensor | None,
    rows: Tensor | None,
    grads: Tensor,
    *,
    learning_rate: float,
    eps: float = 1e-10,
) -> None:
    """A step of SGD or Adagrad on the rows that have a gradient, in place; no other row is touched.

    Gradients of one row are summed in their order, then `total += g²` and `row -= learning_rate g / (√total + eps)`
    (Adagrad, Duchi et al. 2011); with one number a row, `total += mean(g²)` (row-wise Adagrad, as in FBGEMM); without
    `total`, `row -= learning_rate g`. For rows without a gradient these steps change nothing, so that a dense
    gradient's step does the same.

    Args:
        parameter: `(n, D)`, changed.
        total: the accumulator, `(n, D)` or `(n,)` of the parameter's dtype, changed; None for SGD.
        rows: `(M,)` int32 or int64, which row each gradient is for, in any order and several times; None: the
            gradients are `(n, D)`, those of all rows.
        grads: `(M, D)` of the parameter's dtype.
        learning_rate: at least 0.
        eps: added to the root.

    Raises:
        IdOutOfRange: a row that is not there; elsewhere than on a CPU nobody looks. DtypeError, ArgumentError: types
            and shapes.
    """
    arguments = (parameter, total, rows, grads, float(learning_rate), float(eps))
    try:
        torch.ops.embpress.update_rows.default(*arguments)
    except Exception as error:
        again(error, None, (), check_update_rows, arguments)
    changed(parameter, *(() if total is None else (total,)))


@register_fake("embpress::update_rows")
def _(parameter: Any, total: Any, rows: Any, grads: Any, learning_rate: float, eps: float) -> None:
    check_update_rows(parameter, total, rows, grads, learning_rate, eps)
