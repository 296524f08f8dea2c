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
    """A step on tables; of a sparse gradient only the rows that were looked up are read or changed.

    torch's optimizers take sparse gradients too, but go through sparse tensors for every elementwise step; and of a
    dense gradient they make a pass over the memory for each of the step's operations, where this makes one.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # torch's takes closures too
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            how = {"learning_rate": group["lr"], "eps": group["eps"]}
            parameters: list[Tensor] = []
            totals: list[Tensor] = []
            grads: list[Tensor] = []
            for parameter in group["params"]:
                grad = parameter.grad
                if grad is None:
                    continue
                known = self.state.get(parameter)
                total = known["sum"] if known else self._total(parameter, group)
                if grad.is_sparse:
                    ops.update_rows(parameter, total, grad._indices()[0], grad._values(), **how)
                    continue
                parameters.append(parameter)
                grads.append(grad)
                if total is not None:
                    totals.append(total)
            if parameters:
                ops.update_dense(parameters, totals, grads, **how)

    def _total(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor | None:
        """The state that a parameter's first step makes."""
        return None


class TableSGD(_OfRows):
    """SGD for tables with dense or sparse gradients.

    Args:
        params: parameters; sparse gradients are those of rows of 2-D ones.
        lr: learning rate.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr, "eps": 0.0})


class TableAdagrad(_OfRows):
    """Adagrad for tables with dense or sparse gradients.

    Args:
        params: parameters; sparse gradients are those of rows of 2-D ones.
        lr: learning rate.
        rowwise: one accumulator a row, the mean of its squared gradients (row-wise Adagrad, as in FBGEMM), instead of
            one an element.
        eps: added to the root of the accumulator.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, rowwise: bool = False, eps: float = 1e-10) -> None:
        super().__init__(params, {"lr": lr, "rowwise": rowwise, "eps": eps})

    def _total(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor:
        size = parameter.shape[:1] if group["rowwise"] else parameter.shape
        total: Tensor = parameter.new_zeros(size)
        self.state[parameter]["sum"] = total
        return total


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
    sparse, rows, tables, dense = (groups.get(each, []) for each in ("sparse", "rows", "tables", "dense"))
    # one pass over the memory where torch has that for dense gradients, on every version on the CPU alone
    cpu = all(each.device.type == "cpu" for each in dense)
    fused: dict[str, Any] = {"fused": True} if cpu else {"foreach": True}
    made: list[tuple[Any, list[nn.Parameter]]]
    if name == "adam":
        made = [(SparseAdam, sparse), (partial(Adam, **fused), rows + tables + dense)]
    elif name == "sgd":
        made = [(TableSGD, sparse + rows + tables), (partial(SGD, **fused), dense)]
    elif name == "rowwise_adagrad":
        by_row = partial(TableAdagrad, rowwise=True)
        made = [(by_row, sparse + rows), (TableAdagrad, tables), (partial(Adagrad, **fused), dense)]
    else:
        made = [(TableAdagrad, sparse + rows + tables), (partial(Adagrad, **fused), dense)]
    return [make(params, lr=learning_rate) for make, params in made if params]
