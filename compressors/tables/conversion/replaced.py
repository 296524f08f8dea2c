"""Says so when something still trains a parameter that `compress_model` has replaced."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from embpress.compressors.guard import listed

# replaced parameters that something else keeps alive, by id, and what they were called
_alive: WeakValueDictionary[int, nn.Parameter] = WeakValueDictionary()
_names: dict[int, str] = {}
_hook: list[RemovableHandle] = []


def watch(parameters: Mapping[str, nn.Parameter]) -> None:
    """Warns, once for each, when a parameter is in the step of an optimizer, or gets a gradient.

    Nothing is kept alive, and nothing is looked at once all of them are gone or warned of.
    """
    for name, parameter in parameters.items():
        _alive[id(parameter)] = parameter
        _names[id(parameter)] = name
        _warn_of_gradient(parameter, name)
    if not _hook:
        _hook.append(register_optimizer_step_pre_hook(_before_step))


def _before_step(optimizer: Optimizer, *_: Any) -> None:
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    held = [key for key in _alive if key in own]
    if held:
        names = listed([_names[key] for key in held])
        for key in held:
            del _alive[key]
        warnings.warn(
            f"this {type(optimizer).__name__} was built before compress_model and holds weights that it replaced "
            f"({names}): it does not train the compressed tables; build the optimizer after compress_model",
            stacklevel=4,
        )
    for key in [key for key in _names if key not in _alive]:
        del _names[key]
    if not _names:
        _hook.pop().remove()


def _warn_of_gradient(parameter: nn.Parameter, name: str) -> None:
    def warn(gradient: Tensor) -> None:
        handle.remove()
        warnings.warn(
            f"the weight {name} that compress_model replaced still takes part in a loss: what refers to it, such as a "
            "list of weights to regularize, does not see the compressed table",
            stacklevel=2,
        )

    handle = parameter.register_hook(warn)
