"""Methods that replace rows of their parameters while they train, and the optimizer state that goes with such rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError
from embpress.compressors.guard import whole
from embpress.compressors.modifiers.base import Modifier
from embpress.compressors.resumable import Resumable


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
    replacements = replaced([table for table in tables_of(model) if table.tags.maintain], step)
    reset_state(replacements, optimizers)
    return sum(len(rows) for _, rows in replacements)


def begin_training(model: nn.Module, steps: int, epochs: int = 1) -> None:
    """Tells the compressed tables of a model how long training will be: methods that change in its course need it.

    Call it once, before the first step of a training loop. Methods that need no notice take none.

    Args:
        steps: optimizer steps in all, in each of which `maintain` is called.
        epochs: passes over the data that these are.

    Raises:
        InputError: either is no whole number from 1.
    """
    steps, epochs = whole(steps, "steps", 1), whole(epochs, "epochs", 1)
    for table in tables_of(model):
        table.begin_training(steps, epochs)


def training_state(model: nn.Module) -> dict[str, dict[str, Any]]:
    """How far the training of a model's compressed tables has come, beside what its state dict holds.

    With the model's and the optimizers' state dicts it is what a training goes on from, to the bit. Take it between two
    steps, after `maintain`.

    Returns:
        By the names of modules, plain values that `torch.save` writes and `torch.load(weights_only=True)` reads.
    """
    found = {name: module.training_state() for name, module in model.named_modules() if isinstance(module, Resumable)}
    return {name: state for name, state in found.items() if state}


def load_training_state(model: nn.Module, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Lets the compressed tables of a model train on from where `training_state` was taken.

    Call `begin_training` before it, with the numbers of the whole training, and `load_state_dict` with what was saved
    at the same step.

    Raises:
        InputError: the state is of another model.
    """
    own = training_state(model)
    differing = sorted(own.keys() ^ state.keys()) + [n for n in own if n in state and own[n].keys() != state[n].keys()]
    if differing:
        raise InputError(f"the state of the training is of another model: it differs in {', '.join(differing)}")
    for name, module in model.named_modules():
        if name in state and isinstance(module, Resumable):
            module.load_training_state(state[name])


def tables_of(model: nn.Module) -> list[Compressor]:
    """The compressed tables in a model, each once; of a modified one the modifier, which answers for what is inside."""
    tables = [module for module in model.modules() if isinstance(module, Compressor)]
    inside = {id(table.table) for table in tables if isinstance(table, Modifier)}
    return [table for table in tables if id(table) not in inside]


@torch.no_grad()
def reset_state(rows: Iterable[tuple[nn.Parameter, Tensor]], optimizers: Iterable[Optimizer]) -> None:
    """Zeroes what optimizers keep for these rows: every tensor of a parameter's state with one entry a row."""
    optimizers = list(optimizers)
    for parameter, replaced_rows in rows:
        for optimizer in optimizers:
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.dim() and value.shape[0] == parameter.shape[0]:
                    value[replaced_rows] = 0
