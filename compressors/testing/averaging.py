"""Checks of moving averages of a module: EMA and SWA, over parameters, buffers, state dicts."""

from __future__ import annotations

import copy

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from embpress.compressors.testing.feature import Use, feature
from embpress.compressors.testing.subject import close

_ROUNDS = 5


@feature("EMA by `AveragedModel(use_buffers=True)`")
def check_average(use: Use) -> None:
    """An average of one module with itself is that module: what is not learned is not averaged away."""
    module = use.make()
    averaged = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(_ROUNDS):
        averaged.update_parameters(module)
    close(use.answers(averaged.module), use.answers(module), "the average of equal modules")


@feature("EMA over `state_dict()`")
def check_average_state(use: Use) -> None:
    """The same by hand over all entries of a state dict, cast as copy_ casts."""
    module = use.make()
    average = copy.deepcopy(module)
    for _ in range(_ROUNDS):
        for name, value in average.state_dict().items():
            value.copy_(0.9 * value + (1 - 0.9) * module.state_dict()[name])
    close(use.answers(average), use.answers(module), "the average of equal state dicts")


@feature("`half()` and back leaves what is not learned alone")
def check_cast(use: Use) -> None:
    """Casting rounds the parameters, and changes nothing else."""
    module = use.make()
    rounded = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.half())
    there = use.answers(copy.deepcopy(module).half().float())
    close(there, use.answers(rounded), "lookups after a round trip by float16")
