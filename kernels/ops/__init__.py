"""The ops, one module a stem: schema, fake kernel, autograd and a typed wrapper each."""

from typing import Any

from embpress.kernels.define import backend, names
from embpress.kernels.gather import gather

__all__ = ["backend", "names"]  # and what the modules in this folder have

gather(__name__)


def __getattr__(name: str) -> Any:  # tells type checkers that there is more than they see
    raise AttributeError(f"no op {name}")
