"""Training in few bits: values pass through their codes, and the ranges are learned (Esser et al. 2020, LSQ)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from embpress.compressors.arrays import Array, Take
from embpress.compressors.modifiers.quantized import ranges, store
from embpress.compressors.modifiers.quantized.ranges import BLOCK

_SAMPLE = 1 << 12  # rows that a column's range starts from
_SMALLEST = 1e-12  # step


def learned_shape(array: Array, bits: int) -> tuple[int, ...]:
    """Of the parameter: the code that means 0 and the logarithm of the step, for each range."""
    return store.range_shape(array, bits)


def from_fitted(array: Array, fitted: Tensor) -> Tensor:
    """The parameter's values for ranges as `store.fit` gives them."""
    lo, step = _pair(array, fitted)
    step = step.clamp(min=_SMALLEST)
    return torch.stack([-lo / step, step.log()], dim=_pairs(array))


def as_ranges(array: Array, learned: Tensor) -> Tensor:
    """What is served: lo and step, exact in bfloat16; gradients pass the rounding as if it were not there."""
    zero, log_step = _pair(array, learned)
    step = _rounded(log_step.exp())
    return torch.stack([_rounded(-zero * step), step], dim=_pairs(array))


def _pairs(array: Array) -> int:
    return 1 if array.ranges != "column" else -2


def _pair(array: Array, values: Tensor) -> tuple[Tensor, Tensor]:
    first, second = values.unbind(_pairs(array))
    return first, second


def _rounded(values: Tensor) -> Tensor:
    """To bfloat16, with the gradient of the values themselves."""
    return values + (values.bfloat16().to(values.dtype) - values).detach()


def through_codes(values: Tensor, own: Tensor, bits: int) -> Tensor:
    """Values as their codes give them back.

    Gradients pass to all values, those that are clipped too: a row that no gradient reaches would never come back.

    Args:
        values: `(…, width)`.
        own: lo and step, `(…, 2, width)` or `(…, 2, 1)`.
    """
    lo, step = own.unbind(-2)
    code = (values.detach().to(own.dtype) - lo) / step
    code = code.clamp(0, (1 << bits) - 1)
    code = code + (code.detach().round() - code.detach())
    return torch.addcmul(lo, step, code).to(values.dtype) + (values - values.detach())


def _damped(own: Tensor, array: Array, bits: int) -> Tensor:
    """The same with smaller gradients: those of all elements that share a range add up (the paper's section 2.2)."""
    sharing = {"column": array.rows, "row": array.width, "block": BLOCK}[array.ranges]
    scale = 1 / math.sqrt(sharing * ((1 << bits) - 1))
    return own * scale + (own * (1 - scale)).detach()


def taken(arrays: dict[str, Array], inner: Take, whole: dict[str, Tensor], bits: int, segments: Tensor | None) -> Take:
    """Rows of the arrays through their codes.

    Args:
        inner: rows as they are trained.
        whole: the learned parameters by the arrays' names, those of several tables one after another.
        segments: the first range of each lookup's table, `(N,)`; None where there is one table.
    """

    def take(name: str, index: Tensor, segment: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
        array, rows = arrays[name], inner(name, index, tables=tables)
        own = _damped(as_ranges(array, whole[name]), array, bits)
        if array.ranges == "column":
            which = index.new_zeros(1) if segment is None else segment
            if segments is not None and not array.shared:
                first = segments if tables is None else tables
                which = which + first.view(-1, *[1] * (index.dim() - 1)) * len(array.parts)
            return through_codes(rows, own[which], bits)
        return through_codes(rows, own[index // BLOCK if array.ranges == "block" else index].unsqueeze(-1), bits)

    return take


def samples(array: Array, device: torch.device) -> Iterator[Tensor]:
    """Some rows of each segment of an array with column ranges."""
    start = 0
    for rows in array.parts:
        count = min(rows, _SAMPLE)
        yield start + torch.linspace(0, rows - 1, count, device=device, dtype=torch.float64).long()
        start += rows


def fitted(array: Array, take: Take, bits: int, device: torch.device) -> Tensor:
    """Ranges for what one table holds now: of a column from some of its rows, of others from all."""
    if array.ranges == "column":
        rows = (take(array.name, index).reshape(len(index), -1) for index in samples(array, device))
        return torch.stack([ranges.fit_columns(part, bits) for part in rows])
    return store.fit(array, take(array.name, torch.arange(array.rows, device=device)), bits)
