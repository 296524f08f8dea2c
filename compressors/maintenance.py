"""Methods that replace rows of their parameters while they train, and the optimizer state that goes with such rows."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def replaced(modules: Iterable[nn.Module], step: int | None = None) -> list[tuple[nn.Parameter, Tensor]]:
    """Asks the modules that have a `maintain`: their parameters with replaced rows, and the rows `(E,)` int64."""
    found = []
    for module in modules:
        for name, rows in module.maintain(step).items():  # type: ignore[operator]
            found.append((module.get_parameter(name), rows))
    return found


def maintain(model: nn.Module, *optimizers: Optimizer, step: int | None = None) -> int:
    """Lets the compressed tables of a model replace rows, and starts the optimizers' state of these rows anew.

    Call it in a training loop after `backward` and before the optimizers' `step`. Methods without such rows take no
    notice, so that the call may stand in any loop.

    Returns:
        The number of rows that were replaced.
    """
    tables = [module for module in model.modules() if hasattr(module, "spec_name") and hasattr(module, "maintain")]
    found = replaced(tables, step)
    reset_state(found, optimizers)
    return sum(len(rows) for _, rows in found)


@torch.no_grad()
def reset_state(rows: Iterable[tuple[nn.Parameter, Tensor]], optimizers: Iterable[Optimizer]) -> None:
    """Zeroes what optimizers keep for these rows: every tensor of a parameter's state with one entry a row."""
    optimizers = list(optimizers)
    for parameter, own in rows:
        for optimizer in optimizers:
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.dim() and value.shape[0] == parameter.shape[0]:
                    value[own] = 0
