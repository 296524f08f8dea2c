"""Runs tests that make their tensors on the CPU with every op on another device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only


class OnDevice(TorchFunctionMode):
    """Inside it, each call of an `embpress` op moves its tensors to the device and its results back.

    The moves are part of autograd's graph, so that gradients arrive where the test's tensors are; what the op changes
    in place is copied back. Calls with tensors on another device already are left alone, and so is all else.

    Args:
        device: such as `cuda`.
        move: how a contiguous tensor gets there; default `Tensor.to`. Others keep their strides.
    """

    def __init__(self, device: str, move: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.device, self.active, self.calls = device, True, 0
        self._move = move or (lambda tensor: tensor.to(device))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.active or not _ours(func) or kwargs or any(t.device.type != "cpu" for t in _tensors(args)):
            return func(*args, **kwargs)
        self.calls += 1
        moved = tree_map_only(Tensor, self._moved, args)
        out = func(*moved)
        for argument, before, after in zip(func._schema.arguments, args, moved):
            if argument.alias_info is not None and argument.alias_info.is_write:
                before.copy_(after)
        return tree_map_only(Tensor, lambda tensor: tensor.to("cpu"), out)

    def _moved(self, tensor: Tensor) -> Tensor:
        if tensor.is_contiguous():
            return self._move(tensor)
        elements = tensor.untyped_storage().nbytes() // tensor.element_size()
        whole = self._move(tensor.as_strided((elements,), (1,), 0))
        return whole.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())

    def opcheck(self, opcheck: Callable[..., Any]) -> Callable[..., Any]:
        """`torch.library.opcheck` with the arguments on the device, as leaves; the mode keeps out of what it does."""

        def leaf(tensor: Tensor) -> Tensor:
            return self._moved(tensor.detach()).requires_grad_(tensor.requires_grad)

        def checked(op: Any, args: Any, kwargs: Any = None, **options: Any) -> Any:
            self.calls += 1
            self.active = False
            try:
                return opcheck(op, tree_map_only(Tensor, leaf, args), kwargs, **options)
            finally:
                self.active = True

        return checked


def _tensors(arguments: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]


def _ours(func: Any) -> bool:
    return isinstance(func, torch._ops.OpOverload) and func.namespace == "embpress"
