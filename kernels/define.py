"""Defines an op from its schema, and knows which there are and what answers them.

The plain PyTorch function of the op's name is registered as `CompositeExplicitAutograd`; a compiled library adds CPU
and CUDA implementations of the same schema, which the dispatcher then prefers. Nothing here asks what is compiled.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.library import Library

from embpress.kernels import load, reference

_library = Library("embpress", "FRAGMENT")
_names: list[str] = []


def define(schema: str) -> None:
    """Defines the op `name(arguments) -> results`; its plain PyTorch form is the function `name` of `reference`.

    Raises:
        AttributeError: there is no such function.
    """
    name = schema.partition("(")[0]
    plain = getattr(reference, name)
    _library.define(schema)
    _library.impl(name, plain, "CompositeExplicitAutograd")
    _names.append(name)


def room(like: Tensor) -> int:
    """The size, in a fake kernel, of what a forward leaves for its backward: the implementation's business."""
    if like.device.type == "meta":
        return 0  # the meta device knows no sizes that are found out later, and nobody reads what lies there
    from torch._subclasses.fake_tensor import DynamicOutputShapeException

    try:
        return torch.library.get_ctx().new_dynamic_size()  # type: ignore[return-value]
    except DynamicOutputShapeException:  # nor does a FakeTensorMode of its own
        return 0


def names() -> tuple[str, ...]:
    """Every op that is defined."""
    return tuple(_names)


def backend(op: str, device: str = "cpu") -> str:
    """Which implementation of `op` answers on `device`: `"native"` (compiled) or `"reference"` (plain PyTorch)."""
    key = "Meta" if device == "meta" else device.upper()
    native = load.missing is None and torch._C._dispatch_has_kernel_for_dispatch_key(f"embpress::{op}", key)
    return "native" if native and device != "meta" else "reference"
