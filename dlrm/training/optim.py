"""Optimizers of a click model: torch's where they fit, and steps on the rows of a batch for sparse gradients."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, Optimizer, SparseAdam

from embpress.compressors import optimizer_groups
from embpress.kernels import ops


class _OfRows(Optimizer):
    """A step on tables `(n, D)`; of a sparse gradient only the rows that were looked up are read or changed.

    torch's optimizers take sparse gradients too, but go through sparse tensors for every elementwise step.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # torch's takes closures too
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                grad = parameter.grad
                if grad is None:
                    continue
                total = self._total(parameter, group)
                if grad.is_sparse:
                    rows, values = grad._indices()[0], grad._values()
                    ops.update_rows(parameter, total, rows, values, learning_rate=group["lr"], eps=group["eps"])
                else:
                    self._dense(parameter, grad, total, group)

    def _total(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor | None:
        return None

    def _dense(self, parameter: Tensor, grad: Tensor, total: Tensor | None, group: dict[str, Any]) -> None:
        parameter.add_(grad, alpha=-group["lr"])


class TableSGD(_OfRows):
    """SGD for tables with dense or sparse gradients.

    Args:
        params: 2-D parameters.
        lr: learning rate.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr, "eps": 0.0})


class TableAdagrad(_OfRows):
    """Adagrad for tables with dense or sparse gradients.

    Args:
        params: 2-D parameters.
        lr: learning rate.
        rowwise: one accumulator a row, the mean of its squared gradients (row-wise Adagrad, as in FBGEMM), instead of
            one an element.
        eps: added to the root of the accumulator.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, rowwise: bool = False, eps: float = 1e-10) -> None:
        super().__init__(params, {"lr": lr, "rowwise": rowwise, "eps": eps})

    def _total(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor:
        if parameter not in self.state:
            size = parameter.shape[:1] if group["rowwise"] else parameter.shape
            self.state[parameter]["sum"] = parameter.new_zeros(size)
        total: Tensor = self.state[parameter]["sum"]
        return total

    def _dense(self, parameter: Tensor, grad: Tensor, total: Tensor | None, group: dict[str, Any]) -> None:
        assert total is not None
        square = grad.square()
        total.add_(square.mean(1) if group["rowwise"] else square)
        root = total.sqrt().add_(group["eps"])
        parameter.addcdiv_(grad, root.unsqueeze(1) if group["rowwise"] else root, value=-group["lr"])


def sparse_gradients(name: str) -> Literal["auto"] | None:
    """Which tables are to have sparse gradients for an optimizer, as `TableCollection.build` takes it.

    Adam's lazy form for sparse gradients is another method than Adam, kept for large tables; a step of the others is
    the same either way.
    """
    return None if name == "adam" else "auto"


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
        "sgd": (TableSGD, partial(SGD, foreach=True)),
        "adam": (SparseAdam, partial(Adam, foreach=True)),
    }
    own, common = kinds.get(name, (partial(TableAdagrad, rowwise=rowwise), partial(Adagrad, foreach=True)))
    return [make(params, lr=learning_rate) for make, params in ((own, by_row), (common, rest)) if params]
