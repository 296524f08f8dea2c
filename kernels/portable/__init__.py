"""Ops in torch's own, for any batch: what programs are written in that run where embpress is not installed.

A function of the op's name answers as the op does, without a gradient and without looking at values, so that it can be
traced. An op that has none here cannot be part of such a program.
"""

from typing import Any

from embpress.kernels.gather import gather

gather(__name__)


def __getattr__(name: str) -> Any:  # tells type checkers that there is more than they see
    raise AttributeError(f"no portable form of {name}")
