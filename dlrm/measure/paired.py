"""Mean and spread over seeds, and differences paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval; None for one seed."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def stat(values: Iterable[float]) -> Stat | None:
    """Mean and spread of the values, None where there are none."""
    numbers = list(values)
    n = len(numbers)
    if not n:
        return None
    mean = statistics.fmean(numbers)
    return Stat(mean, statistics.stdev(numbers, mean) if n > 1 else None, n)


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Difference | None:
    """Values minus reference over the seeds that both have, None where they share none."""
    gap = stat(values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys()))
    if gap is None:
        return None
    if gap.sd is None:
        return Difference(gap.mean, None, gap.n, None, None)
    from scipy.stats import t  # slow to import, and one seed needs none

    half = float(t.ppf((1 + CONFIDENCE) / 2, gap.n - 1)) * gap.sd / math.sqrt(gap.n)
    return Difference(gap.mean, gap.sd, gap.n, gap.mean - half, gap.mean + half)
