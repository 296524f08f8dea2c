"""How much work an embedding op cannot avoid, by counting: floating point operations, bytes read, bytes written.

Of a matrix product `(a, b) (b, c)` `2 a b c` operations count, of anything else that adds or multiplies floats one
each; hashing is integer arithmetic and counts nothing. Bytes are those of device memory, each input read once and each
output written once: what is read again is taken to come from a cache. Ids are int64, values float32, and they are
uniform over the rows, so that the distinct ones among them have the number that is to be expected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from embpress.compressors.methods.tt.shapes import core_ranks, factor_rows, factor_width
from embpress.dlrm.bench.peaks import Peak

VALUE, ID = 4, 8  # bytes


@dataclass(frozen=True)
class Work:
    """Counted work; works add up.

    Attributes:
        flops: floating point operations.
        read, written: bytes of device memory.
    """

    flops: float = 0.0
    read: float = 0.0
    written: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.read + other.read, self.written + other.written)

    @property
    def moved(self) -> float:
        """Bytes read and written."""
        return self.read + self.written

    def roofline(self, peak: Peak, *, tf32: bool = False) -> float:
        """Seconds that no implementation can beat: the longer of arithmetic and memory, each at its peak."""
        return max(self.flops / (peak.tf32 if tf32 else peak.fp32), self.moved / peak.bandwidth)

    def bound(self, peak: Peak) -> str:
        """Which of the two the float32 roofline is: `FLOPs` or `bytes`."""
        return "FLOPs" if self.flops / peak.fp32 > self.moved / peak.bandwidth else "bytes"


def expected_distinct(n: int, draws: int) -> float:
    """How many different values `draws` uniform ones out of `n` are expected to have: `n (1 - (1 - 1/n)^draws)`."""
    return float(n) if n == 1 else -n * math.expm1(draws * math.log1p(-1 / n))


# --- a table that is there as it is -----------------------------------------------------------------------------------


def gather(n: int, dim: int, lookups: int) -> Work:
    """Rows `(lookups, dim)` out of a table `(n, dim)`: `nn.EmbeddingBag` with one id a bag, or the hashing trick."""
    return Work(
        read=ID * lookups + VALUE * dim * expected_distinct(n, lookups),
        written=VALUE * dim * lookups,
    )


def scatter(n: int, dim: int, lookups: int, *, sparse: bool) -> Work:
    """The gradient of `gather`: sparse a row and an id for every lookup, dense all `n` rows."""
    read = (ID + VALUE * dim) * lookups
    if sparse:
        return Work(read=read, written=read)
    return Work(dim * lookups, read, VALUE * dim * n)


# --- TT-Rec -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TTShape:
    """Factors of a tensor-train table: of its rows `p`, of its width `q`, ranks `(1, R_1, …, 1)`."""

    row_factors: tuple[int, ...]
    column_factors: tuple[int, ...]
    ranks: tuple[int, ...]

    @classmethod
    def of(cls, n: int, dim: int, rank: int, num_cores: int = 3) -> TTShape:
        """The shape that `TTRec` takes for `n` rows of width `dim`."""
        row_factors, column_factors = factor_rows(n, num_cores), factor_width(dim, num_cores)
        return cls(row_factors, column_factors, core_ranks(rank, row_factors, column_factors))

    @property
    def slices(self) -> list[int]:
        """Elements of one slice of each core, `R_{k-1} q_k R_k`."""
        return [self.ranks[k] * q * self.ranks[k + 1] for k, q in enumerate(self.column_factors)]

    @property
    def elements(self) -> int:
        """Elements of all cores."""
        return sum(p * slice_ for p, slice_ in zip(self.row_factors, self.slices))


def product_flops(column_factors: Sequence[int], ranks: Sequence[int]) -> list[int]:
    """Operations of each product of one row: `2 (q_0 … q_{k-1}) R_k · q_k R_{k+1}` for every core k ≥ 1."""
    flops, width = [], column_factors[0]
    for k in range(1, len(column_factors)):
        flops.append(2 * width * ranks[k] * column_factors[k] * ranks[k + 1])
        width *= column_factors[k]
    return flops


def _tt_products(shape: TTShape, lookups: int, grouped: bool) -> float:
    """Operations of the products of all lookups, `grouped` each product once for the lookups that share its digits."""
    flops = product_flops(shape.column_factors, shape.ranks)
    if not grouped:
        return float(lookups * sum(flops))
    # product k is of the first k + 1 digits, which take p_0 … p_k values
    shared = [expected_distinct(math.prod(shape.row_factors[: k + 2]), lookups) for k in range(len(flops))]
    return sum(count * each for count, each in zip(shared, flops))


def _tt_slices(shape: TTShape, lookups: int) -> float:
    """Bytes of the slices that the lookups touch."""
    return VALUE * sum(expected_distinct(p, lookups) * slice_ for p, slice_ in zip(shape.row_factors, shape.slices))


def tt_forward(shape: TTShape, lookups: int, *, grouped: bool = False) -> Work:
    """Rows `(lookups, D)` of a tensor-train table.

    Args:
        shape: of the cores.
        lookups: ids, one a bag.
        grouped: lookups that share their first digits share the product of those slices too, equal ids all of it.
    """
    dim = math.prod(shape.column_factors)
    return Work(
        _tt_products(shape, lookups, grouped),
        ID * lookups + _tt_slices(shape, lookups),
        VALUE * dim * lookups,
    )


def tt_backward(shape: TTShape, lookups: int, *, recompute: bool = True, grouped: bool = False) -> Work:
    """Dense gradients of the cores: two products for each one of the forward, plus the forward's own where its partial
    products are made again (TT-Rec, Algorithm 2) instead of kept.

    Made again are all products, as in the paper, though the last one's result is needed for no gradient but the
    weights'. Bytes are those of `recompute`: kept partial products would be read besides.
    """
    dim = math.prod(shape.column_factors)
    return Work(
        (2 + recompute) * _tt_products(shape, lookups, grouped),
        (ID + VALUE * dim) * lookups + _tt_slices(shape, lookups),
        VALUE * shape.elements,
    )


# --- ROBE -------------------------------------------------------------------------------------------------------------


def robe_size(rows: int, dim: int, z: int, ratio: float) -> int:
    """Elements of ROBE's array at this ratio, one chunk at least."""
    return max(z, round(rows * dim / ratio))


def robe_forward(size: int, dim: int, z: int, lookups: int) -> Work:
    """Rows `(lookups, dim)` out of an array of `size` elements, cut in chunks of `z` that start anywhere."""
    chunks = lookups * -(-dim // z)
    starts = size - z + 1
    # an element away from the ends is missed by a chunk with probability 1 - z / starts
    touched = size if z >= starts else -size * math.expm1(chunks * math.log1p(-z / starts))
    return Work(0, ID * lookups + VALUE * touched, VALUE * dim * lookups)


def robe_backward(size: int, dim: int, lookups: int) -> Work:
    """The dense gradient of the array: every element of the rows' gradient is added once, every sum written once."""
    return Work(dim * lookups, (ID + VALUE * dim) * lookups, VALUE * size)


# --- quotient-remainder, MLET -----------------------------------------------------------------------------------------


def qr_forward(sizes: Sequence[int], dim: int, lookups: int) -> Work:
    """Products of one row of each part `(sizes[j], dim)`."""
    parts = VALUE * dim * sum(expected_distinct(n, lookups) for n in sizes)
    return Work((len(sizes) - 1) * dim * lookups, ID * lookups + parts, VALUE * dim * lookups)


def qr_backward(sizes: Sequence[int], dim: int, lookups: int, *, sparse: bool) -> Work:
    """Gradients of the parts: for each the product of the rows' gradient and of the other parts, which are read."""
    parts = VALUE * dim * sum(expected_distinct(n, lookups) for n in sizes)
    products = len(sizes) * (len(sizes) - 1) * dim * lookups
    read = (ID + VALUE * dim) * lookups + parts
    if sparse:
        return Work(products, read, len(sizes) * (ID + VALUE * dim) * lookups)
    return Work(products + len(sizes) * dim * lookups, read, VALUE * dim * sum(sizes))


def mlet_forward(n: int, k: int, dim: int, lookups: int) -> Work:
    """Rows of `table (n, k)` times `projection (k, dim)`."""
    table = VALUE * k * expected_distinct(n, lookups)
    return Work(2 * lookups * k * dim, ID * lookups + table + VALUE * k * dim, VALUE * dim * lookups)


def mlet_backward(n: int, k: int, dim: int, lookups: int, *, sparse: bool) -> Work:
    """Gradients of the inner rows and of the projection; the inner rows are read again."""
    table = VALUE * k * expected_distinct(n, lookups)
    inner = (ID + VALUE * k) * lookups if sparse else VALUE * k * n
    return Work(
        4 * lookups * k * dim + (0 if sparse else k * lookups),
        (ID + VALUE * dim) * lookups + table + VALUE * k * dim,
        inner + VALUE * k * dim,
    )
