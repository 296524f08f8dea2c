"""Checks the arguments of `nn.EmbeddingBag.forward` and turns them into those of a group."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from embpress.kernels.errors import IdOutOfRange
from embpress.kernels.reference import check_offsets

_INTEGERS = (torch.int64, torch.int32)


def looks_at(values: Tensor) -> bool:
    """Whether ids and offsets are checked by their values.

    Always on CPU; on CUDA, where looking means waiting for the device, with `EMBPRESS_CHECK=1`. Never while
    `torch.export` traces: values are unknown then, and whoever exports sees to the ids.
    """
    if torch.compiler.is_exporting():
        return False
    return values.device.type == "cpu" or os.environ.get("EMBPRESS_CHECK") == "1"


def check_ids(ids: Tensor, num_embeddings: int, what: str = "the table") -> None:
    """Raises IndexError for an id outside `0 … num_embeddings - 1`, where `looks_at` says so."""
    if ids.numel() == 0 or not looks_at(ids):
        return
    low, high = (int(x) for x in ids.aminmax())
    if low < 0 or high >= num_embeddings:
        bad = low if low < 0 else high
        raise IdOutOfRange(bad, num_embeddings, what)


def as_int64(ids: Tensor, name: str) -> Tensor:
    """int32 and int64 pass (as int64); anything else is a TypeError that names it."""
    return integers(ids, name).long()


def integers(ids: Tensor, name: str) -> Tensor:
    """int32 and int64 pass as they are; anything else is a TypeError that names it."""
    if ids.dtype not in _INTEGERS:
        raise TypeError(f"{name} must be int32 or int64, got {str(ids.dtype).removeprefix('torch.')}")
    return ids


def check_form(
    input: Tensor, offsets: Tensor | None, per_sample_weights: Tensor | None, *, mode: str, include_last_offset: bool
) -> None:
    """Checks what shapes and dtypes tell of `nn.EmbeddingBag`'s arguments; values are an op's business.

    Raises:
        ValueError: shapes that do not fit together, weights with another mode than `sum`. TypeError: ids or offsets
            that are not int32 or int64.
    """
    if per_sample_weights is not None:
        if mode != "sum":
            raise ValueError(f"per_sample_weights goes with mode='sum', this table has mode={mode!r}")
        if per_sample_weights.shape != input.shape:
            raise ValueError(
                f"per_sample_weights must have the input's shape {tuple(input.shape)}, "
                f"got {tuple(per_sample_weights.shape)}"
            )
    integers(input, "input")
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
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The arguments of `nn.EmbeddingBag.forward`, of right form, as those of a group of one table.

    Returns:
        Ids `(B, 1)` where each is a bag of its own, without offsets; else ids `(N,)` and all offsets `(B + 1,)` int64.
        Weights have the shape of the ids.
    """
    if offsets is not None:
        offsets = offsets.long()
        if not include_last_offset:
            offsets = torch.cat([offsets, offsets.new_full((1,), input.shape[0])])
        return input, offsets, per_sample_weights
    batch, length = input.shape
    if length == 1:
        return input, None, per_sample_weights
    if length == 0:
        offsets = torch.zeros(batch + 1, dtype=torch.int64, device=input.device)
    else:
        offsets = torch.arange(0, batch * length + 1, length, device=input.device)
    return input.reshape(-1), offsets, None if per_sample_weights is None else per_sample_weights.reshape(-1)


def whole_offsets(offsets: Tensor, size: int) -> Tensor:
    """`(B + 1,)` int64 offsets with the last one, which must go from 0 to `size`; ValueError where they do not."""
    if looks_at(offsets):
        check_offsets(offsets, size)
    return offsets
