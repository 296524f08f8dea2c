"""A device that is not there, to find out without a GPU whether code keeps its tensors on one device.

After `install()` torch knows a device `pretend`. A tensor on it holds its numbers in a tensor on the CPU, where the
CPU's kernels carry out all operations, so that results are real. But an operation that meets tensors of both devices
fails, and so does a draw into a tensor of the device from a generator of the CPU. Only copies and scalars may cross, as
on CUDA. In one thing it is stricter than CUDA: it refuses indices on the CPU, for each would be a copy and a wait.
"""

from __future__ import annotations

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
_COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class WrongDevice(RuntimeError):
    """Tensors of two devices in one operation."""


class PretendTensor(torch.Tensor):
    """A tensor of the device; `held` has its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        strided = held.layout is torch.strided
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()} if strided else {}
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, dtype=held.dtype, layout=held.layout, device=torch.device(NAME, 0), **layout
        )

    def __init__(self, held):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _carry_out(func, args, kwargs or {})

    def tolist(self):
        return self.held.tolist()

    def __repr__(self, **_):
        return f"pretend {self.held!r}"


class _Factories(TorchDispatchMode):
    """Sees operations without a tensor of the device among their arguments, such as `torch.empty(3, device=...)`."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _carry_out(func, args, kwargs or {})


def _carry_out(func, args, kwargs):
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = any(isinstance(tensor, PretendTensor) for tensor in tensors)
    here = [tensor for tensor in tensors if not isinstance(tensor, PretendTensor)]
    if func not in _COPIES and there and any(tensor.dim() for tensor in here):
        shapes = ", ".join(f"{tuple(t.shape)} on {t.device}" for t in tensors)
        raise WrongDevice(f"{func} meets tensors of two devices: {shapes}")
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == NAME
    if func is torch.ops.aten.copy_.default:
        there = isinstance(args[0], PretendTensor)
    if there and kwargs.get("generator") is not None:
        raise WrongDevice(f"{func} draws from a generator of the CPU")
    result = func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs))
    if not there:
        return result
    changed = _changed_arguments(func, args, kwargs)
    if changed:
        return changed[0] if len(changed) == 1 else tuple(changed)
    return tree_map(lambda leaf: PretendTensor(leaf) if isinstance(leaf, torch.Tensor) else leaf, result)


def _changed_arguments(func, args, kwargs):
    """What an in-place operation returns: the arguments that it changed."""
    schema = func._schema
    given = dict(zip((argument.name for argument in schema.arguments), args)) | kwargs
    marks = [value.alias_info.before_set for value in schema.returns if value.alias_info and value.alias_info.is_write]
    return [
        given[argument.name]
        for mark in marks
        for argument in schema.arguments
        if argument.alias_info and argument.alias_info.before_set == mark
    ]


def _unwrapped(leaf):
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.held if isinstance(leaf, PretendTensor) else leaf


def install() -> None:
    """Makes the device known for the rest of this process: best in one of its own."""
    _setup_privateuseone_for_python_backend(NAME)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) then is an operation as others are
    # views of such tensors cannot be made in inference mode
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext()
    _Factories().__enter__()
