"""Ranges of values in few bits: `w ≈ lo + step · code`, lo and step by least squared error over clips."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64  # elements of a flat array that share a range
_CLIPS = 24  # ranges that are tried, from all values to a quarter of their spread
_SWEEPS = 4  # of codes and least squares by turns
_SAMPLE = 1 << 16  # rows that a column's range is fitted to
_PIECE = 1 << 22  # elements in work at a time


def fit(values: Tensor, bits: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The range of each column of `values (m, k)`: `(2, k)` float32, lo and step, both exact in `dtype`.

    Clips of growing strength are tried around the middle value; the best goes on by turns of codes and least squares.
    """
    out = values.new_empty(2, values.shape[1], dtype=torch.float32)
    piece = max(1, _PIECE // max(1, values.shape[0]))
    for start in range(0, values.shape[1], piece):
        part = values[:, start : start + piece].float()
        out[:, start : start + piece] = _fitted(part, bits, dtype)
    return out


def _fitted(values: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    low, high, middle = values.amin(0), values.amax(0), values.median(0).values
    best, least = _rounded(low, high, bits, dtype), values.new_full((values.shape[1],), torch.inf)
    clips = torch.linspace(1, 0.25, _CLIPS, device=values.device).tolist() if len(values) > 2 else [1.0]
    for clip in clips:
        tried = _rounded(middle + clip * (low - middle), middle + clip * (high - middle), bits, dtype)
        best, least = _better(values, bits, tried, best, least)
    for _ in range(_SWEEPS if len(values) > 2 else 0):
        codes = encode(values, best, bits)
        mean, center = codes.mean(0), values.mean(0)
        spread = (codes - mean).square().sum(0)
        step = ((codes - mean) * (values - center)).sum(0) / spread.clamp(min=1e-30)
        lo = center - step * mean
        tried = _rounded(lo, lo + step * _last(bits), bits, dtype)
        best, least = _better(values, bits, tried, best, least)
    return best


def _better(values: Tensor, bits: int, tried: Tensor, best: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    error = (decode(encode(values, tried, bits), tried) - values).square().sum(0)
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


def sample(rows: int, device: torch.device) -> Tensor | slice:
    """Which of `rows` rows the range of a column is fitted to: all, or as many of each stretch."""
    if rows <= _SAMPLE:
        return slice(None)
    return torch.linspace(0, rows - 1, _SAMPLE, device=device, dtype=torch.float64).long()
