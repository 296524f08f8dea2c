"""Ops in torch's own, for any batch: what programs are written in that run where embpress is not installed.

A function of the op's name answers as the op does, without a gradient and without looking at values, so that it can be
traced. An op whose plain PyTorch form does so already needs none here.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from embpress.kernels import reference
from embpress.kernels.gather import gather

gather(__name__)


def form(op: str) -> Callable[..., Tensor]:
    """What op `op` is in torch's own ops, a function of its arguments."""
    found: Callable[..., Tensor] = globals().get(op) or getattr(reference, op)
    return found


def __getattr__(name: str) -> Any:  # tells type checkers that there is more than they see
    raise AttributeError(f"no portable form of {name}")
