"""An optimizer's step on all rows of many parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import register_fake

from embpress.kernels.autograd import again, changed
from embpress.kernels.define import define
from embpress.kernels.reference.update_dense import check_update_dense

define(
    "update_dense(Tensor(a!)[] parameters, Tensor(b!)[] totals, Tensor[] grads, float learning_rate, float eps) -> ()"
)


def update_dense(
    parameters: Sequence[Tensor],
    totals: Sequence[Tensor],
    grads: Sequence[Tensor],
    *,
    learning_rate: float,
    eps: float = 1e-10,
) -> None:
    """The step of `update_rows` on parameters whose rows all have a gradient, in place, in one call for all of them.

    Adagrad's `total += g²` and `parameter -= learning_rate g / (√total + eps)`; with one number a row
    `total += mean(g²)` over the row; without totals SGD's `parameter -= learning_rate g`.

    Args:
        parameters: of any shapes and dtypes, changed; no two may share memory.
        totals: an accumulator for each parameter, of its dtype, changed: of its shape, or `(n,)` for one of `n` rows of
            whatever shape; empty for SGD.
        grads: a gradient for each parameter, of its shape and dtype.
        learning_rate: at least 0.
        eps: added to the root.

    Raises:
        DtypeError, ArgumentError: types, shapes, other numbers of totals or gradients than of parameters.
    """
    arguments = (list(parameters), list(totals), list(grads), float(learning_rate), float(eps))
    try:
        torch.ops.embpress.update_dense.default(*arguments)
    except Exception as error:
        again(error, None, (), check_update_dense, arguments)
    changed(*parameters, *totals)


@register_fake("embpress::update_dense")
def _(parameters: Any, totals: Any, grads: Any, learning_rate: float, eps: float) -> None:
    check_update_dense(parameters, totals, grads, learning_rate, eps)
