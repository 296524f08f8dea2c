"""Checks the arguments of `nn.EmbeddingBag.forward` and turns them into those of a group."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

_INTEGERS = (torch.int64, torch.int32)


def tensor(value: Any, name: str) -> Tensor:
    """Tensors pass; anything else is a TypeError that names it."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__module__}.{type(value).__qualname__}")
    return value


def integers(ids: Tensor, name: str) -> Tensor:
    """int32 and int64 pass as they are; anything else is a TypeError that names it."""
    tensor(ids, name)
    if ids.dtype not in _INTEGERS:
        raise TypeError(f"{name} must be int32 or int64, got {str(ids.dtype).removeprefix('torch.')}")
    return ids


def without_values(ids: Tensor) -> bool:
    """Whether nothing can depend on the ids' values: compilers, fake tensors and the meta device have shapes alone."""
    return ids.is_meta or torch.compiler.is_compiling() or isinstance(ids, FakeTensor)


def check_form(
    input: Tensor, offsets: Tensor | None, per_sample_weights: Tensor | None, *, mode: str, include_last_offset: bool
) -> None:
    """Checks what shapes and dtypes tell of `nn.EmbeddingBag`'s arguments; values are an op's business.

    Raises:
        ValueError: shapes that do not fit together, weights with another mode than `sum`. TypeError: ids or offsets
            that are not int32 or int64.
    """
    integers(input, "input")
    if per_sample_weights is not None:
        tensor(per_sample_weights, "per_sample_weights")
        if mode != "sum":
            raise ValueError(f"per_sample_weights goes with mode='sum', this table has mode={mode!r}")
        if per_sample_weights.shape != input.shape:
            raise ValueError(
                f"per_sample_weights must have the input's shape {tuple(input.shape)}, "
                f"got {tuple(per_sample_weights.shape)}"
            )
    if input.dim() == 2:
        if offsets is not None:
            raise ValueError("a 2-D input says itself where its bags end: give no offsets")
        return
    if input.dim() != 1:
        raise ValueError(f"input must be 1-D (with offsets) or 2-D, got {input.dim()} dimensions")
    if offsets is None:
        raise ValueError("a 1-D input needs offsets, the position where each bag starts")
    integers(offsets, "offsets")
    if offsets.dim() != 1:
        raise ValueError(f"offsets must be 1-D, got {offsets.dim()} dimensions")
    if offsets.shape[0] == 0:
        if include_last_offset:
            raise ValueError("offsets with include_last_offset=True must hold at least the last offset")
        if input.shape[0]:
            raise ValueError(f"offsets is empty but the input holds {input.shape[0]} ids")


def as_bags(
    input: Tensor, offsets: Tensor | None, per_sample_weights: Tensor | None, include_last_offset: bool
) -> tuple[Tensor, Tensor | None, Tensor | None, int]:
    """The arguments of `nn.EmbeddingBag.forward`, of right form, as those of a group of one table.

    Returns:
        Ids `(B, 1)` where each is a bag of its own, without offsets; else ids `(N,)` and all offsets, int64. Weights
        have the shape of the ids. And how many bags at the end are too many: what lies behind the last offset is one.
    """
    if offsets is not None:
        # the last offset may lie before the end, and only its value would tell
        end = offsets.new_full((1,), input.shape[0], dtype=torch.int64)
        return input, torch.cat([offsets.long(), end]), per_sample_weights, int(include_last_offset)
    batch, length = input.shape
    if length == 1:
        return input, None, per_sample_weights, 0
    if length == 0:
        offsets = torch.zeros(batch + 1, dtype=torch.int64, device=input.device)
    else:
        offsets = torch.arange(0, batch * length + 1, length, device=input.device)
    return input.reshape(-1), offsets, None if per_sample_weights is None else per_sample_weights.reshape(-1), 0


def own_output(values: Tensor, *shape: int) -> Tensor:
    """The same numbers in this shape, and to autograd no view.

    FSDP2 brings back parameters for the backward by a hook on the output, which a view loses when it is written to.
    """
    return torch.ops.aten._unsafe_view.default(values, shape)
