"""Methods that replace rows of their parameters while they train, and the optimizer state that goes with such rows."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from embpress.compressors.base import Compressor
from embpress.compressors.modifiers.base import Modifier


def replaced(tables: Iterable[Compressor], step: int | None = None) -> list[tuple[nn.Parameter, Tensor]]:
    """The tables' parameters with replaced rows, and these rows `(E,)` int64."""
    return [(table.parameters_by_name()[name], rows) for table in tables for name, rows in table.maintain(step).items()]


def maintain(model: nn.Module, *optimizers: Optimizer, step: int | None = None) -> int:
    """Lets the compressed tables of a model replace rows, and starts the optimizers' state of these rows anew.

    Call it in a training loop after `backward` and before the optimizers' `step`. Methods without such rows take no
    notice, so that the call may stand in any loop.

    Returns:
        The number of rows that were replaced.
    """
    tables = [module for module in model.modules() if isinstance(module, Compressor) and module.tags.maintain]
    # a modifier answers for the table inside, which is a module of the model too
    inside = {id(table.table) for table in tables if isinstance(table, Modifier)}
    replacements = replaced([table for table in tables if id(table) not in inside], step)
    reset_state(replacements, optimizers)
    return sum(len(rows) for _, rows in replacements)


@torch.no_grad()
def reset_state(rows: Iterable[tuple[nn.Parameter, Tensor]], optimizers: Iterable[Optimizer]) -> None:
    """Zeroes what optimizers keep for these rows: every tensor of a parameter's state with one entry a row."""
    optimizers = list(optimizers)
    for parameter, replaced_rows in rows:
        for optimizer in optimizers:
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.dim() and value.shape[0] == parameter.shape[0]:
                    value[replaced_rows] = 0
