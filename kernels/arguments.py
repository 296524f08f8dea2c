"""Types and shapes of arguments, named where they are wrong: for fake tensors, and after an op has failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from embpress.kernels.errors import ArgumentError, DtypeError

_INTEGERS = (torch.int32, torch.int64)
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def name_of(dtype: torch.dtype) -> str:
    """`float32` and the like."""
    return str(dtype).removeprefix("torch.")


def tensor(name: str, value: Any) -> Tensor:
    """Raises DtypeError for anything but a tensor."""
    if not isinstance(value, Tensor):
        raise DtypeError(f"{name} must be a tensor, got {type(value).__module__}.{type(value).__qualname__}")
    return value


def integers(name: str, value: Any) -> Tensor:
    """Raises DtypeError for anything but an int32 or int64 tensor."""
    if tensor(name, value).dtype not in _INTEGERS:
        raise DtypeError(f"{name} must be int32 or int64, got {name_of(value.dtype)}")
    return value


def longs(name: str, value: Any, *shape: Any) -> Tensor:
    """Raises DtypeError or ArgumentError for anything but an int64 tensor of that shape; `...` stands for any."""
    if tensor(name, value).dtype != torch.int64:
        raise DtypeError(f"{name} must be int64, got {name_of(value.dtype)}")
    return value if shape == (...,) else shaped(name, value, *shape)


def floats(name: str, value: Any, like: Tensor | None = None) -> Tensor:
    """Raises DtypeError for a tensor that is not floating point, or of another dtype than `like`."""
    dtype = tensor(name, value).dtype
    if dtype not in _FLOATS:
        raise DtypeError(f"{name} must be float32, float64, bfloat16 or float16, got {name_of(dtype)}")
    if like is not None and dtype != like.dtype:
        raise DtypeError(f"{name} must be {name_of(like.dtype)} as the parameters are, got {name_of(dtype)}")
    return value


def shaped(name: str, value: Tensor, *shape: int | str) -> Tensor:
    """Raises ArgumentError for another shape; a word stands for any size."""
    sizes = value.shape
    if len(sizes) != len(shape) or any(not isinstance(n, str) and n != got for n, got in zip(shape, sizes)):
        want = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ArgumentError(f"{name} must be of shape ({want}), got {tuple(sizes)}")
    return value


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Raises DtypeError or ArgumentError for anything but a whole number between `low` and `high`."""
    if isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    if not hasattr(value, "__index__") or isinstance(value, Tensor):
        raise DtypeError(f"{name} must be a whole number, got {value!r}")
    if value < low or (high is not None and value > high):
        raise ArgumentError(
            f"{name} must be at least {low}{'' if high is None else f' and at most {high}'}, got {value}"
        )
    return value if isinstance(value, int) else int(value)


def whole_numbers(name: str, values: Any) -> Sequence[int]:
    """Raises DtypeError for anything but a list of whole numbers."""
    if not isinstance(values, Sequence):
        raise DtypeError(f"{name} must be a list of whole numbers, got {values!r}")
    for value in values:
        whole(name, value, -(2**63))
    return values


def lookups(ids: Any, row_offsets: Any, rows: Any) -> int:
    """Ids `(N, T)` of T tables, where their rows start and how many there are, both `(T,)` int64; returns T."""
    shaped("ids", integers("ids", ids), "N", "T")
    tables = ids.shape[1]
    longs("row_offsets", row_offsets, tables)
    longs("rows", rows, tables)
    return tables


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums of parameters of a dtype are taken in: float32 for float16 and bfloat16."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
