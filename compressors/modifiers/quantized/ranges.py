"""Ranges of values in few bits: `w ≈ lo + step · code`, lo and step by least squared error over clips."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64  # elements of a flat array that share a range
_CLIPS = 24  # ranges that are tried, from all values to a quarter of their spread
_SWEEPS = 4  # of codes and least squares by turns
_SAMPLE = 1 << 16  # rows of a large table that its columns' ranges are fitted to
_PIECE = 1 << 22  # elements in work at a time


def fit_columns(rows: Tensor, bits: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """`fit` to rows `(m, width)` of a table, whose errors weigh as their squared lengths.

    Rows grow as they are trained, so that long ones are those that are looked up; where all weigh the same, the many
    that hardly ever are clip the few that count.
    """
    lengths = torch.linalg.vector_norm(rows, dim=1).float()
    if len(rows) > _SAMPLE:  # the longest, and as many of each stretch of the others
        some = torch.linspace(0, len(rows) - 1, _SAMPLE // 2, device=rows.device, dtype=torch.float64).long()
        chosen = torch.cat([lengths.topk(_SAMPLE // 2).indices, some]).unique()
        rows, lengths = rows[chosen], lengths[chosen]
    weights = (lengths / lengths.amax().clamp(min=1e-30)).square().unsqueeze(1)
    return fit(rows, bits, dtype, weights)


def fit(values: Tensor, bits: int, dtype: torch.dtype = torch.bfloat16, weights: Tensor | None = None) -> Tensor:
    """The range of each column of `values (m, k)`: `(2, k)` float32, lo and step, both exact in `dtype`.

    Clips of growing strength are tried around the middle value; the best goes on by turns of codes and least squares.
    `weights` `(m, 1)` are those of the squared errors, all 1 by default.
    """
    weights = values.new_ones(values.shape[0], 1, dtype=torch.float32) if weights is None else weights
    out = values.new_empty(2, values.shape[1], dtype=torch.float32)
    piece = max(1, _PIECE // max(1, values.shape[0]))
    for start in range(0, values.shape[1], piece):
        part = values[:, start : start + piece].float()
        out[:, start : start + piece] = _fitted(part, bits, dtype, weights)
    return out


def _fitted(values: Tensor, bits: int, dtype: torch.dtype, weights: Tensor) -> Tensor:
    low, high, middle = values.amin(0), values.amax(0), values.median(0).values
    best, least = _rounded(low, high, bits, dtype), values.new_full((values.shape[1],), torch.inf)
    clips = torch.linspace(1, 0.25, _CLIPS, device=values.device).tolist() if len(values) > 2 else [1.0]
    for clip in clips:
        tried = _rounded(middle + clip * (low - middle), middle + clip * (high - middle), bits, dtype)
        best, least = _better(values, bits, weights, tried, best, least)
    for _ in range(_SWEEPS if len(values) > 2 else 0):
        codes = encode(values, best, bits)
        total = weights.sum(0).clamp(min=1e-30)
        mean, center = (weights * codes).sum(0) / total, (weights * values).sum(0) / total
        spread = (weights * (codes - mean).square()).sum(0)
        step = (weights * (codes - mean) * (values - center)).sum(0) / spread.clamp(min=1e-30)
        lo = center - step * mean
        tried = _rounded(lo, lo + step * _last(bits), bits, dtype)
        best, least = _better(values, bits, weights, tried, best, least)
    return best


def _better(
    values: Tensor, bits: int, weights: Tensor, tried: Tensor, best: Tensor, least: Tensor
) -> tuple[Tensor, Tensor]:
    error = (weights * (decode(encode(values, tried, bits), tried) - values).square()).sum(0)
    better = error < least
    return torch.where(better, tried, best), torch.where(better, error, least)


def _last(bits: int) -> int:
    return (1 << bits) - 1


def _rounded(low: Tensor, high: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """The range as it is kept: lo at most what it was, and steps that still reach the highest value."""
    largest = torch.finfo(dtype).max
    low, high = low.clamp(-largest, largest), high.clamp(-largest, largest)
    lo = low.to(dtype).float()
    lo = torch.where(lo > low, _next(lo, -1, dtype), lo)
    step = ((high - lo) / _last(bits)).clamp(min=0)
    kept = step.to(dtype).float()
    return torch.stack([lo, torch.where(kept < step, _next(kept, 1, dtype), kept)])


def _next(values: Tensor, up: int, dtype: torch.dtype) -> Tensor:
    """The next number above or below float32 values that are exact in `dtype`: `nextafter`, which CUDA has not of all.

    A little over half the distance is added, which rounds to all of it.
    """
    info = torch.finfo(dtype)
    distance = 0.51 * info.eps * values.abs().clamp(min=info.smallest_normal)
    return (values + up * distance).to(dtype).float()


def encode(values: Tensor, ranges: Tensor, bits: int) -> Tensor:
    """Codes as floats of `values`, whose columns have `ranges (2, k)`."""
    lo, step = ranges
    return ((values - lo) / torch.where(step > 0, step, torch.ones_like(step))).round_().clamp_(0, _last(bits))


def decode(codes: Tensor, ranges: Tensor) -> Tensor:
    """Values of codes, as floats."""
    return torch.addcmul(ranges[0], ranges[1], codes)
