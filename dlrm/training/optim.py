"""Optimizers of a click model: torch's where they fit, and Adagrad for sparse gradients, also one state a row."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, Optimizer, SparseAdam

from embpress.compressors import optimizer_groups


class TableAdagrad(Optimizer):
    """Adagrad for tables `(n, D)` with dense or sparse gradients: only rows that were looked up change.

    torch's Adagrad takes sparse gradients too, but goes through sparse tensors for every elementwise step.

    Args:
        params: 2-D parameters.
        lr: learning rate.
        rowwise: one accumulator a row, the mean of its squared gradients (row-wise Adagrad, as in FBGEMM), instead of
            one an element.
        eps: added to the root of the accumulator.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, rowwise: bool = False, eps: float = 1e-10) -> None:
        super().__init__(params, {"lr": lr, "rowwise": rowwise, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # torch's takes closures too
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter not in self.state:
                    size = parameter.shape[:1] if group["rowwise"] else parameter.shape
                    self.state[parameter]["sum"] = parameter.new_zeros(size)
                self._update(parameter, parameter.grad, self.state[parameter]["sum"], group)

    @staticmethod
    def _update(parameter: Tensor, grad: Tensor, total: Tensor, group: dict[str, Any]) -> None:
        if grad.is_sparse:
            # by hand: coalesce() takes several times as long as this
            rows, inverse = torch.unique(grad._indices()[0], return_inverse=True)
            grad = grad._values().new_zeros(len(rows), grad.shape[1]).index_add_(0, inverse, grad._values())
            before = total.index_select(0, rows)
        else:
            rows, before = None, total
        square = grad.square()
        after = before + (square.mean(1) if group["rowwise"] else square)
        root = after.sqrt().add_(group["eps"])
        step = grad / (root.unsqueeze(1) if group["rowwise"] else root)
        if rows is None:
            total.copy_(after)
            parameter.add_(step, alpha=-group["lr"])
        else:
            total.index_copy_(0, rows, after)
            parameter.index_copy_(0, rows, parameter.index_select(0, rows).add_(step, alpha=-group["lr"]))


def make_optimizers(model: nn.Module, name: str, learning_rate: float) -> list[Optimizer]:
    """The optimizers of a model, one of `settings.OPTIMIZERS`, one learning rate.

    Row-wise Adagrad is for tables of rows; other parameters get Adagrad. Fused tables update themselves.
    """
    groups = {group["name"]: group["params"] for group in optimizer_groups(model)}
    sparse, rows = groups.get("sparse", []), groups.get("rows", [])
    other = groups.get("tables", []) + groups.get("dense", [])
    rowwise = name == "rowwise_adagrad"
    by_row, rest = (sparse + rows, other) if rowwise else (sparse, rows + other)
    kinds: dict[str, tuple[Any, Any]] = {
        "sgd": (SGD, partial(SGD, foreach=True)),
        "adam": (SparseAdam, partial(Adam, foreach=True)),
    }
    own, common = kinds.get(name, (partial(TableAdagrad, rowwise=rowwise), partial(Adagrad, foreach=True)))
    return [make(params, lr=learning_rate) for make, params in ((own, by_row), (common, rest)) if params]
