"""How many rows a sign sketch needs for a promise (10000x sharing, section 2: Theorems 6 and 7).

The paper leaves the constants to O(…). These are what its proofs give for Achlioptas' sparse signs:

1. Of a vector v, `| ‖Sv‖² - ‖v‖² | > e ‖v‖²` has a probability of at most `2 exp(-k/2 (e²/2 - e³/3))` (Achlioptas 2003,
   the proof of Theorem 1.1).
2. Inner products of f vectors follow from the lengths of `f²`: `4 <v, w> = ‖v + w‖² - ‖v - w‖²`. For all of them to be
   within `e ‖v‖ ‖w‖` with probability `1 - δ`, `δ <= 1/2`, `k = 8 (ln f + ln 1/δ) / (e² (1 - 2e/3))` is enough: the
   paper's JLT (e, δ, f), its Definition 5.
3. A 1/2-net of the unit sphere of E's column space has at most `9^D` points (Woodruff 2014, section 2.1), and every
   point of the sphere is a sum of net points of lengths up to 1, 1/2, 1/4, …, 2 in all. Two such sums meet in an inner
   product of `Ex` and `Ey`, so that its error is up to `4 e`; one in that of a unit vector `e_i` and `Ex`, up to `2 e`.

So e is `ε / 4` for macro and `ρ ε / 2` for micro, and the constant C of `k = ⌈C (ln f + ln 1/δ) / ε²⌉` is
`128 / (1 - ε/6)`, and `32 / (1 - ρ ε/3)` with `ρ ε` in place of ε. The theorems are about independent entries; those of
the method `sketch` come from hashes, and a test measures the errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from embpress.compressors.errors import InputError
from embpress.compressors.guard import shown, whole

_SMALLEST = 1e-6  # error, probability or importance


@dataclass(frozen=True)
class Promise:
    """What a sketch of so many rows promises.

    Attributes:
        epsilon: relative error.
        delta: probability that the promise fails, over the draw of the sketch.
        rho: the smallest importance `ρ(i) = ‖E[i]‖ / σ_max(E)` of a row that it speaks of; None for macro.
        constant: C.
        log_points: ln f.
    """

    epsilon: float
    delta: float
    rho: float | None
    constant: float
    log_points: float

    @property
    def rows(self) -> int:
        """k."""
        precision = self.epsilon * (1.0 if self.rho is None else self.rho)
        return math.ceil(self.constant * (self.log_points - math.log(self.delta)) / precision**2)


def macro(embedding_dim: int, epsilon: float, delta: float) -> Promise:
    """With probability `1 - δ`, for all x and y: `|<Mx, My> - <Ex, Ey>| <= ε ‖Ex‖ ‖Ey‖`, `M = S E` (Theorem 6).

    The paper's Definition 2 bounds by `ε ‖x‖ ‖y‖`, which what it proves does not give unless `σ_max(E) <= 1`.

    Raises:
        InputError: a width below 1, `ε` above 1, `δ` above 1/2, or one below 1e-6.
    """
    dim = whole(embedding_dim, "the width", 1)
    epsilon, delta = _share(epsilon, "epsilon", 1), _share(delta, "delta", 0.5)
    return Promise(epsilon, delta, None, 128 / (1 - epsilon / 6), dim * math.log(9))


def micro(num_embeddings: int, embedding_dim: int, epsilon: float, delta: float, rho: float) -> Promise:
    """With probability `1 - δ`, for all x and all rows with `ρ(i) >= ρ`: the looked-up row r is near `E[i]`,
    `|<r, x> - <E[i], x>| <= ε ‖E[i]‖ ‖x‖` (Theorem 7).

    Raises:
        InputError: as `macro`; no row, or `ρ` above 1 or below 1e-6.
    """
    n, dim = whole(num_embeddings, "the rows of a table", 1), whole(embedding_dim, "the width", 1)
    epsilon, delta, rho = _share(epsilon, "epsilon", 1), _share(delta, "delta", 0.5), _share(rho, "rho", 1)
    log_points = float(np.logaddexp(dim * math.log(9), math.log(n)))
    return Promise(epsilon, delta, rho, 32 / (1 - rho * epsilon / 3), log_points)


def most_important(num_embeddings: int, embedding_dim: int, rho: float) -> int:
    """How many rows of a table can have `ρ(i) >= ρ`, at most: `Σ ρ(i)² = ‖E‖² / σ_max² <= D`.

    It is always less than the k of `micro`: kept as they are, these rows would take fewer rows than the sketch of them.
    """
    return min(num_embeddings, math.floor(embedding_dim / _share(rho, "rho", 1) ** 2 * (1 + 1e-12)))


def _share(value: float, name: str, largest: float) -> float:
    if not _SMALLEST <= value <= largest:
        raise InputError(f"{name} lies between {_SMALLEST:g} and {largest:g}, got {shown(value)}")
    return float(value)
