"""How far the runs of each method can be made smaller before they fall below full tables by so much."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from embpress.reports.summary import Summary, full_of

LOSSES = (0.001, 0.005, 0.02)


@dataclass(frozen=True)
class Curve:
    """A method at several sizes.

    Attributes:
        method: as it was asked for.
        ratios: full bytes / serving bytes of each size, rising.
        gaps: for each seed that ran at every size, the test AUC at each minus that of full tables with the seed.
    """

    method: str
    ratios: tuple[float, ...]
    gaps: dict[int, tuple[float, ...]]

    def mean(self) -> list[float]:
        """The mean gap at each ratio."""
        return [statistics.fmean(gaps) for gaps in zip(*self.gaps.values())]

    def borne(self, loss: float) -> Borne:
        """The ratio at which the gap first falls to `-loss`."""
        found = sorted(_crossing(self.ratios, gaps, -loss) for gaps in self.gaps.values())
        return Borne(found[0], statistics.median_low(found), found[-1])


@dataclass(frozen=True)
class Borne:
    """A ratio over the seeds: 0 where even the smallest ratio that was run is too large, infinite where all are borne.

    Attributes:
        low, median, high: lowest, middle and highest of the seeds. The median of all seeds there could be lies between
            lowest and highest with a confidence of `1 - 2^(1 - n)`, whatever their distribution: 94 % with five.
    """

    low: float
    median: float
    high: float


def confidence(seeds: int) -> float:
    """That the median lies between the lowest and the highest of so many seeds."""
    return 1 - 2.0 ** (1 - seeds)


def curves_of(rows: Sequence[Summary]) -> list[Curve]:
    """The methods with two sizes or more and full tables to be held against, those that bear most first."""
    of_method: dict[tuple[str, object], list[Summary]] = {}
    for row in rows:
        if not row.is_full and row.auc_by_seed:
            of_method.setdefault((row.method, row.protocol), []).append(row)
    curves = []
    for (method, _), sizes in of_method.items():
        full = full_of(sizes[0], rows)
        if full is None:
            continue
        by_ratio = {row.stats["ratio"].mean: row for row in sizes}  # two asked sizes may give the same tables
        seeds = set(full.auc_by_seed).intersection(*(row.auc_by_seed for row in by_ratio.values()))
        if len(by_ratio) < 2 or not seeds:
            continue
        ratios = sorted(by_ratio)
        gaps = {
            seed: tuple(by_ratio[ratio].auc_by_seed[seed] - full.auc_by_seed[seed] for ratio in ratios)
            for seed in sorted(seeds)
        }
        curves.append(Curve(method, tuple(ratios), gaps))
    return sorted(curves, key=lambda curve: [-curve.borne(loss).median for loss in reversed(LOSSES)])


def _crossing(ratios: Sequence[float], gaps: Sequence[float], level: float) -> float:
    """Where the gaps first fall below a level, on straight lines over the logarithm of the ratio."""
    if gaps[0] < level:
        return 0.0
    for (a, above), (b, below) in pairwise(zip(ratios, gaps)):
        if below < level:
            share = (above - level) / (above - below)
            return math.exp(math.log(a) + share * (math.log(b) - math.log(a)))
    return math.inf
