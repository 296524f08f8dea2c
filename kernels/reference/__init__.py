"""Every op in plain PyTorch, a function of the op's name: the specification, the fallback where nothing is compiled,
and the oracle of tests."""

from typing import Any

from embpress.kernels.gather import gather

gather(__name__)


def __getattr__(name: str) -> Any:  # tells type checkers that there is more than they see
    raise AttributeError(f"no plain PyTorch function {name}")
