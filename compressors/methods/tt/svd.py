"""TT-SVD of a trained table that may be larger than memory (Oseledets 2011), to ranks, a tolerance or a size.

The table is the tensor with the digits of its row numbers and columns, `(p_1 q_1) × … × (p_d q_d)` in pairs. It is read
in blocks, at most three times, and each block is turned to `(p_1 q_1, middle, p_d q_d)`:

1. QR of `[R; block]` after block gives the singular values and vectors of the first and of the last unfolding to the
   full accuracy of float64 (Gram matrices would lose half of its digits).
2. Where ranks are to be chosen: how much of the table each pair of a first and a last singular vector holds.
3. The projection on the chosen vectors: the middle core of three, or for four cores a matrix that one more SVD splits.

With two cores the first of the three parts is missing. Memory: a few blocks of `p_1 q_1 · q_mid · p_d q_d` or 4 million
float64 numbers, whichever is more, `(p_1 q_1)²` and `(p_d q_d)²`, and the cores; for four cores the projection too,
`R_1 R_3 / (p_1 q_1 p_4 q_4)` of the table. Never a copy of the table. Time: `2 n D (p_1 q_1 + p_d q_d)` operations a
step; for four cores at large ranks the SVD of the projection takes longer than all else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from embpress.compressors.methods.tt.ranks import best, best_of_four, counts, counts_of_four, left_out
from embpress.compressors.methods.tt.shapes import core_ranks, num_parameters
from embpress.compressors.trained_table import DenseRows, finite

# a block has about this many numbers, or as many as its unfoldings are wide, whichever is more
_BLOCK = 1 << 22


class _Train:
    """The table by its first, middle and last digits; `c` are the three products p q (two cores: the first is 1)."""

    def __init__(
        self, table: DenseRows, rows: Sequence[int], columns: Sequence[int], device: torch.device | str
    ) -> None:
        self.table, self.device = table, device
        self.rows, self.columns = tuple(rows), tuple(columns)
        p, q = ((1, *rows), (1, *columns)) if len(rows) == 2 else (tuple(rows), tuple(columns))
        self.p, self.q = (p[0], math.prod(p[1:-1]), p[-1]), (q[0], math.prod(q[1:-1]), q[-1])
        self.c = [p * q for p, q in zip(self.p, self.q)]

    def blocks(self) -> Iterator[Tensor]:
        """Float64 blocks `(c_1, b · q_mid, c_3)` over ranges of b middle digits; rows that pad the table are zero."""
        (p1, middle, p3), (q1, q2, q3) = self.p, self.q
        n, dim = self.table.shape
        size = max(_BLOCK, self.c[0] ** 2, self.c[2] ** 2)
        step = min(middle, max(1, size // (self.c[0] * q2 * self.c[2])))
        for start in range(0, middle, step):
            b = min(step, middle - start)
            block = torch.zeros(p1, b * p3, dim, dtype=torch.float64, device=self.table.device)
            for i in range(p1):
                first = (i * middle + start) * p3
                held = min(n - first, b * p3)
                if held > 0:
                    block[i, :held] = self.table[first : first + held]
            yield (
                block.to(self.device)
                .view(p1, b, p3, q1, q2, q3)
                .permute(0, 3, 1, 4, 2, 5)
                .reshape(self.c[0], b * q2, self.c[2])
            )

    def bases(self) -> tuple[Tensor, Tensor, float]:
        """Singular vectors of the first and the last unfolding, `(c_1, c_1)` and `(c_3, c_3)`, and the squared norm."""
        first, last = (torch.zeros(c, c, dtype=torch.float64, device=self.device) for c in (self.c[0], self.c[2]))
        total = 0.0
        for block in self.blocks():
            total = finite(total + float(block.square().sum()))
            if self.c[0] > 1:
                first = torch.linalg.qr(torch.cat([first, block.flatten(1).t()]), mode="r").R
            last = torch.linalg.qr(torch.cat([last, block.flatten(0, 1)]), mode="r").R
        u = torch.linalg.svd(first).Vh.t() if self.c[0] > 1 else torch.ones_like(first)
        return u, torch.linalg.svd(last).Vh.t(), total

    def energies(self, u: Tensor, v: Tensor) -> Tensor:
        """`(c_1, c_3)`: the squared norm of the table's part on each pair of singular vectors."""
        held = u.new_zeros(u.shape[1], v.shape[1])
        for block in self.blocks():
            held += ((u.t() @ block.flatten(1)).unflatten(1, block.shape[1:]) @ v).square().sum(1)
        return held

    def project(self, u: Tensor, v: Tensor) -> Tensor:
        """`(R_1, p_mid, q_mid, R_3)`: the table on the vectors `u (c_1, R_1)` and `v (c_3, R_3)`."""
        parts = []
        for block in self.blocks():
            left = u.t() @ (block @ v).flatten(1)
            parts.append(left.view(u.shape[1], -1, self.q[1], v.shape[1]))
        return torch.cat(parts, 1)


def balanced(cores: Sequence[Tensor]) -> list[Tensor]:
    """The same train with cores of one root mean square, as fresh ones have: no core outruns the others in training."""
    sizes = [float(core.square().mean().sqrt()) for core in cores]
    if min(sizes) == 0:
        return list(cores)
    even = math.exp(sum(math.log(size) for size in sizes) / len(sizes))
    return [core * (even / size) for core, size in zip(cores, sizes)]


def decompose(
    table: DenseRows,
    rows: Sequence[int],
    columns: Sequence[int],
    device: torch.device | str,
    *,
    rank: int | Sequence[int] | None = None,
    tolerance: float | None = None,
    parameters: int | None = None,
    rounding: float = 0.0,
) -> list[Tensor]:
    """Cores `(p_k, R_{k-1}, q_k, R_k)` in float64 of a table, to one of ranks, a tolerance or a number of parameters.

    The squared error is at most the sum of the squared singular values cut off, so given ranks are within `√(d-1)` of
    the best train of these ranks. A tolerance takes the fewest parameters, a number of parameters the least error,
    among all cuts of the singular vectors of the first and the last unfolding (four cores: see `_four`).

    Args:
        table: `(n, D)`.
        rows: factors `p`, `prod p >= n`; the rows beyond n are zero.
        columns: factors `q`, `prod q = D`.
        device: where to compute.
        rank: one rank, or `d - 1`.
        tolerance: relative Frobenius error.
        parameters: entries of all cores together, at least those of rank 1.
        rounding: relative error on which no parameters are spent.

    Raises:
        InputError: entries that are not finite.
    """
    d, train = len(rows), _Train(table, rows, columns, device)
    u, v, total = train.bases()
    max_ranks = core_ranks(math.prod(rows) * math.prod(columns), rows, columns)
    u, v = u[:, : max_ranks[1] if d > 2 else 1], v[:, : max_ranks[-2]]
    inner, spare, middle = 0, 0.0, None
    if rank is not None:
        ranks = core_ranks(rank, rows, columns)
        r1, inner, r3 = (ranks[1] if d > 2 else 1, ranks[2], ranks[-2])
    else:
        error = left_out(train.energies(u, v))
        sizes = [p * q for p, q in zip(rows, columns)]
        nothing = max(rounding**2, 1e-28) * total  # float64 itself has no more
        limit = None if tolerance is None else tolerance**2 * total
        if d < 4:
            r1, r3 = best(error, counts(sizes, error), nothing, limit, parameters)
        elif limit is not None:  # two of the three cuts are made here
            r1, r3 = best(error, counts_of_four(sizes, error), nothing, limit * 2 / 3, None)
            inner, spare = max_ranks[2], max(limit - float(error[r1 - 1, r3 - 1]), 0.0)
        elif parameters is not None:
            (r1, inner, r3), middle = _four(train, u, v, error, parameters)
    u, v = u[:, :r1], v[:, :r3]
    first = [u.view(rows[0], columns[0], 1, r1).transpose(1, 2)] if d > 2 else []
    last = v.view(rows[-1], columns[-1], r3, 1).transpose(1, 2)
    middle = train.project(u, v) if middle is None else middle
    if d < 4:
        return [*first, middle.transpose(0, 1), last]
    a, s, b = torch.linalg.svd(_split(middle, rows, columns), full_matrices=False)
    tails = left_out(s.square()[None])[0]
    inner = min(inner, len(s), int((tails > spare).sum()) + 1)
    second = a[:, :inner].view(r1, rows[1], columns[1], inner).transpose(0, 1)
    third = (s[:inner, None] * b[:inner]).view(inner, rows[2], columns[2], r3).transpose(0, 1)
    return [*first, second, third, last]


def _split(middle: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """The projection of four cores as the matrix of its middle unfolding, `(R_1 p_2 q_2, p_3 q_3 R_3)`."""
    r1, _, _, r3 = middle.shape
    parts = middle.reshape(r1, rows[1], rows[2], columns[1], columns[2], r3).transpose(2, 3)
    return parts.reshape(r1 * rows[1] * columns[1], rows[2] * columns[2] * r3)


def _four(train: _Train, u: Tensor, v: Tensor, error: Tensor, parameters: int) -> tuple[tuple[int, int, int], Tensor]:
    """Ranks of four cores, no worse than one rank for all, which sets how far the search goes; and the projection."""
    rows, columns = train.rows, train.columns
    sizes = [p * q for p, q in zip(rows, columns)]

    def cut(rank: int) -> tuple[int, ...]:
        return core_ranks(rank, rows, columns)

    even = 1
    while cut(even + 1) != cut(even) and num_parameters(rows, columns, cut(even + 1)) <= parameters:
        even += 1
    far = 3 * even // 2 + 1
    error = error[:far, :far]
    middle = train.project(u[:, :far], v[:, :far])

    def tails(r1: int, r3: int) -> Tensor:  # only to choose by: Gram matrices will do
        matrix = _split(middle[:r1, :, :, :r3], rows, columns)
        gram = matrix @ matrix.t() if matrix.shape[0] <= matrix.shape[1] else matrix.t() @ matrix
        return left_out(torch.linalg.eigvalsh(gram).flip(0).clamp(min=0)[None])[0]

    def real(ranks: tuple[int, int, int]) -> float:
        r1, r2, r3 = ranks
        beyond = tails(r1, r3)
        return float(error[r1 - 1, r3 - 1] + beyond[min(r2, len(beyond)) - 1])

    chosen = best_of_four(error, tails(*error.shape), sizes, parameters)
    _, a, b, c, _ = cut(even)
    if chosen != (a, b, c):
        chosen = min(chosen, (a, b, c), key=real)
    return chosen, middle[: chosen[0], :, :, : chosen[2]]
