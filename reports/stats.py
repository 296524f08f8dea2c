"""Mean and spread over seeds, and differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Stat:
    """Mean over `n` seeds; `sd` is the sample standard deviation (ddof=1), None for one seed."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Difference(Stat):
    """Mean paired difference with its 95 % t interval; all about the spread is None for one seed."""

    low: float | None
    high: float | None

    @property
    def distinguishable(self) -> bool | None:
        """Whether the interval excludes zero; None (unknown) for one seed."""
        return None if self.low is None or self.high is None else not self.low <= 0 <= self.high


def stat(values: Iterable[float]) -> Stat | None:
    """Mean and spread of the values, None where there are none."""
    found = list(values)
    n = len(found)
    if not n:
        return None
    mean = math.fsum(found) / n
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in found) / (n - 1)) if n > 1 else None
    return Stat(mean, sd, n)


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Difference | None:
    """Values minus reference over the seeds that both have, None where they share none."""
    found = stat(values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys()))
    if found is None:
        return None
    if found.sd is None:
        return Difference(found.mean, None, found.n, None, None)
    half = t_quantile(found.n - 1) * found.sd / math.sqrt(found.n)
    return Difference(found.mean, found.sd, found.n, found.mean - half, found.mean + half)


def _t_inside(t: float, df: int) -> float:
    """P(|T| < t) for whole degrees of freedom: the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    theta = math.atan(t / math.sqrt(df))
    term = math.cos(theta) if df % 2 else 1.0
    total = 0.0
    for k in range(df % 2, df - 1, 2):
        total += term
        term *= (k + 1) / (k + 2) * math.cos(theta) ** 2
    if df % 2:
        return 2 / math.pi * (theta + math.sin(theta) * total)
    return math.sin(theta) * total


@cache
def t_quantile(df: int, confidence: float = CONFIDENCE) -> float:
    """Half width, in standard errors, of the two-sided t interval."""
    low, high = 0.0, 1000.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, df) < confidence else (low, middle)
    return (low + high) / 2
