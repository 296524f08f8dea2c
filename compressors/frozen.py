"""`frozen`: a copy of a module to serve, on the same memory."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn


def frozen(module: Any) -> Any:
    """A copy without gradients, in eval mode, whose tensors are those of `module`."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    memo.update({id(b): b for b in module.buffers()})
    group = vars(module).get("_group")
    if group is not None:
        memo[id(group)] = group  # it is not copied: a table that leaves it refers to its memory
    return copy.deepcopy(module, memo).eval()
