"""The difference of two methods' AUC with its interval, over seeds, over test rows, or over both.

Let two methods be trained with the same n seeds and scored on the same rows, and D_s be the difference of their AUC
with seed s. The mean of D_s errs by the draw of the seeds and by the draw of the rows. All seeds are scored on one set
of rows, so more seeds make the first error smaller and not the second. As in the model of Obuchowski and Rockette
(1995) for several readers of the same cases, seeds being the readers,

    D_s = true difference + error of the rows + error of seed s on these rows,
    Var(mean D) = σ²/n + C.

σ² is estimated by the variance of D_s over the seeds, and C, what the errors of two seeds share since they have the
same rows, by DeLong's covariance of D_s and D_s', averaged over pairs of seeds. DeLong's variance of the mean of D_s is
not C: it also holds what the rows do to each seed by itself, over n, and σ² has that already.

The half widths of the two errors by themselves, t(n − 1) · σ/√n and z · √C, add up by their squares (Howe 1974; Zou and
Donner 2008). With Satterthwaite's degrees of freedom, as Hillis (2007) has them here, intervals would hold less often
than they say with two or three seeds (90 and 93 % for 95 %, where the rows' error is small), and could be narrower than
the one over the seeds alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embpress.reports.stats import CONFIDENCE, Stat, stat

SEEDS, ROWS, BOTH = "seeds", "rows", "seeds and rows"
_EXACT = 1e-12  # of the t that a p-value is made from


@dataclass(frozen=True)
class Estimate(Stat):
    """A mean paired difference, and what it may err by.

    Attributes:
        seed_error: standard error over the seeds; None for one seed.
        row_error: standard error over the rows; None where labels or predictions are not known.
        p: two-sided p-value of no difference, of the same model as the interval; None where neither error is known.
        corrected: the p-value corrected for the number of comparisons, once that has been done.
        comparisons: that number.
    """

    seed_error: float | None
    row_error: float | None
    p: float | None
    corrected: float | None = None
    comparisons: int = 1

    @property
    def over(self) -> str:
        """What the interval is over; empty where there is none."""
        if self.seed_error is None:
            return "" if self.row_error is None else ROWS
        return SEEDS if self.row_error is None else BOTH

    @property
    def half_width(self) -> float | None:
        """Half the width of the 95 % interval over all that is known."""
        return half_width(self.seed_error, self.row_error, self.n) if self.over else None

    @property
    def seeds_alone(self) -> float | None:
        """Half the width over seeds, the test rows being what they are."""
        return None if self.seed_error is None else half_width(self.seed_error, None, self.n)

    @property
    def rows_alone(self) -> float | None:
        """Half the width over the test rows, of the one seed that was run."""
        return half_width(None, self.row_error, self.n) if self.over == ROWS else None

    @property
    def both(self) -> float | None:
        """Half the width over seeds and test rows."""
        return self.half_width if self.over == BOTH else None

    @property
    def told(self) -> bool | None:
        """Whether the difference is more than chance, corrected for how many were looked at; None where unknown."""
        return None if self.corrected is None else self.corrected < 1 - CONFIDENCE


def estimate(ours: Mapping[int, float], theirs: Mapping[int, float], row_variance: float | None) -> Estimate | None:
    """Our AUC minus theirs over the seeds that both have, None where they share none.

    Args:
        ours, theirs: AUC by seed.
        row_variance: C, for one seed DeLong's variance of the difference; None where it is not known.
    """
    gap = stat(ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys()))
    if gap is None or not math.isfinite(gap.mean):
        return None
    seed_error = None if gap.sd is None else gap.sd / math.sqrt(gap.n)
    row_error = None if row_variance is None else math.sqrt(max(0.0, row_variance))
    return Estimate(gap.mean, gap.sd, gap.n, seed_error, row_error, p_value(gap.mean, seed_error, row_error, gap.n))


def half_width(seed_error: float | None, row_error: float | None, n: int, alpha: float = 1 - CONFIDENCE) -> float:
    """Half the width of the `1 - alpha` interval of n seeds: the errors' own, added by their squares."""
    from scipy.special import ndtri, stdtrit

    by_seed = 0.0 if seed_error is None else -float(stdtrit(n - 1, alpha / 2)) * seed_error
    by_row = 0.0 if row_error is None else -float(ndtri(alpha / 2)) * row_error
    return math.hypot(by_seed, by_row)


def p_value(mean: float, seed_error: float | None, row_error: float | None, n: int) -> float | None:
    """The alpha whose interval ends at zero; None without any error known."""
    if seed_error is None and row_error is None:
        return None
    if mean == 0:
        return 1.0
    from scipy.special import ndtr, ndtri, stdtr

    far = abs(mean)
    if not row_error:  # also where identical predictions leave none: then the seeds' own test
        return float(2 * stdtr(n - 1, -far / seed_error)) if seed_error else 0.0
    if not seed_error:
        return float(2 * ndtr(-far / row_error))
    # t and z at one alpha, in terms of t: the width grows with t, so halving finds where it is `far`
    low, high = 0.0, far / seed_error
    while high - low > _EXACT * high:
        middle = (low + high) / 2
        z = -float(ndtri(stdtr(n - 1, -middle)))
        low, high = (middle, high) if math.hypot(middle * seed_error, z * row_error) < far else (low, middle)
    return float(2 * stdtr(n - 1, -high))


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values corrected for their number, so that all those under 0.05 are right together with 95 % (Holm 1979)."""
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, raised)
    return corrected
