"""Quotient-remainder trick and its generalisation to several complementary partitions (Shi et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from typing_extensions import Self, Unpack

from embpress.compressors.by_recipe import Arrays
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.init import uniform_
from embpress.compressors.least_squares import fit
from embpress.compressors.methods.compositional import Compositional, part_width
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.trained_table import DenseRows, finite, options_like, relative_error, sized
from embpress.kernels.recipes import Rule

# factors of a product are fitted in turn, at most so often, until a round takes less than this off the squared error
_ROUNDS, _GAIN = 30, 1e-6


def partition_sizes(n: int, c: int, parts: int) -> list[int]:
    """Rows of each part table: digits of the id in base `c`, the last part taking the quotient that is left.

    Mixed-radix digits determine the id, so these partitions are complementary: no two ids share all parts.
    """
    return [c] * (parts - 1) + [math.ceil(n / c ** (parts - 1))]


@register("qr")
class QuotientRemainder(Compositional):
    """Row `i` is put together from row `i mod c` of one table and row `i // c` of another.

    Combined per id, before any pooling, by `mult`, `add` or `concat`; integer arithmetic throughout. With more parts
    the quotient is divided again: parts - 1 digits in base `c`, then what is left.

    Args:
        c: rows of the remainder table ("collisions"); default 4.
        op: `mult` (default), `add` or `concat`.
        parts: tables, at least 2.
        init_std: standard deviation that the factors of a product start with, all but the last; default 0.25.
    """

    size_knobs: ClassVar[tuple[str, ...]] = ("c",)
    training_knobs: ClassVar[tuple[str, ...]] = ("init_std",)

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        c: int = 4,
        op: str = "mult",
        parts: int = 2,
        init_std: float = 0.25,
        **options: Unpack[TableOptions],
    ) -> None:
        num_embeddings, embedding_dim = self.whole_sizes(num_embeddings, embedding_dim)
        _check(c, parts)
        if not 0 < init_std < math.inf:
            raise InputError(f"qr: init_std={init_std} must be above zero")
        sizes = partition_sizes(num_embeddings, c, parts)
        super().__init__(num_embeddings, embedding_dim, sum(sizes), parts, op, **options)
        self.c, self.init_std = c, init_std
        stride, base = [c**j for j in range(parts)], [sum(sizes[:j]) for j in range(parts)]
        for name, value in (("stride", stride), ("base", base), ("sizes", sizes)):
            self.constants.put(name, torch.tensor(value, dtype=torch.int64, device="cpu"))
        self.part_sizes = sizes
        self.reset_parameters(options.get("generator"))

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Uniform parts, scaled so that the combined row has a full table's variance `1/(3n)`.

        For `mult` all factors but the last have the standard deviation `init_std` and mixed signs. Its default is the
        one of 0.1, 1/4, 1/2 and 1 that is least far behind the best on the validation parts of six comparisons, none of
        which it is best on (reports/published/defaults.md).
        """
        weight, n = self.own("part_tables"), self.num_embeddings
        if self.op == "mult":
            last = sum(self.part_sizes[:-1])
            bound = math.sqrt(3) * self.init_std
            uniform_(weight[:last], -bound, bound, generator)
            bound = 1 / (math.sqrt(n) * self.init_std ** (self.parts - 1))
            uniform_(weight[last:], -bound, bound, generator)
        else:
            terms = self.parts if self.op == "add" else 1
            bound = 1 / math.sqrt(n * terms)
            uniform_(weight, -bound, bound, generator)

    def part_rows(self, ids: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """`(i // c^j) mod k_j`, plus where part j starts."""
        return ids.unsqueeze(-1) // constants["stride"] % constants["sizes"] + constants["base"]

    def part_rules(self, arrays: Arrays) -> list[tuple[Rule, int, int, tuple[int, ...]]] | None:
        """A digit each."""
        strides, bases, sizes = (arrays.watch(self.constants[name]) for name in ("stride", "base", "sizes"))
        return [(Rule.DIGIT, size, base, (stride,)) for stride, base, size in zip(strides, bases, sizes)]

    def op_constants(self, constants: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The digits' places `(T, 1, parts)`, where the parts start and their sizes."""
        return constants["stride"].unsqueeze(1), constants["base"], constants["sizes"]

    @classmethod
    def tuned_knobs(cls, embedding_dim: int, **fixed: Any) -> Mapping[str, tuple[Any, ...]]:
        """The factors' spread, whose default is best on no data set; sums and joined rows have none."""
        return {"init_std": (1.0, 0.1, 0.5)} if fixed.get("op", "mult") == "mult" else {}

    @classmethod
    @torch.no_grad()
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """A table near a trained one, and its relative error, measured.

        With `add` and `concat` it is the nearest, by least squares. A product is fitted by alternating least squares:
        each part in turn is the best for the others as they are, in closed form, until a round gains no more than 1e-6
        of the squared error, 30 rounds at most. That is a local optimum; each round reads the table once for each part.
        It starts from the factors drawn; for two parts and a c below about the cube root of n, from the best remainder
        table there is where c divides n.

        Args:
            weight: `(n, D)`, see `DenseRows`; it may be larger than memory.
            **knobs: the constructor's, or `budget` or `ratio` in place of c; device and dtype are the table's own by
                default.

        Raises:
            InputError: no table, or entries that are not finite; two sizes. BudgetError: too few bytes.
        """
        dense = DenseRows(weight)
        made = cls(*dense.shape, **options_like(dense, cls, sized(dense, cls, knobs)))
        if made.op == "mult":
            made._alternate(dense)
        else:
            return made, fit([made], [dense], nonnegative=True)[0]
        return made, relative_error(made, dense)

    def _alternate(self, dense: DenseRows) -> None:
        """Fits the factors of a product; all parts but the last keep the scale that they were drawn with."""
        tables = self.part_tables.double()
        parts = tables.split(self.part_sizes)  # views
        scales = [float(part.norm()) for part in parts]
        if self.parts == 2 and self.c**2 <= len(tables):
            parts[0].copy_(self._leading(dense))
        left = math.inf
        for _ in range(_ROUNDS):
            before = left
            for j in reversed(range(self.parts)):
                left = self._fit_part(j, tables, parts[j], dense)
            if before - left <= _GAIN:
                break
        for part, scale in zip(parts[:-1], scales):
            if (now := float(part.norm())) > 0:
                part.mul_(scale / now)
                parts[-1].mul_(now / scale)
        self.part_tables.copy_(tables)

    def _leading(self, dense: DenseRows) -> Tensor:
        """The best remainder table of two where the last quotient has all remainders, `(c, D)`.

        A column of the table is a matrix (quotients, remainders) then; these are their leading right singular vectors.
        """
        c, dim = self.c, self.embedding_dim
        gram = torch.zeros(dim, c, c, dtype=torch.float64, device=self.device)
        for _, rows in dense.chunks(dim * c * max(1, (1 << 20) // (dim * c))):
            whole = F.pad(rows.to(gram), (0, 0, 0, -len(rows) % c)).view(-1, c, dim).permute(2, 1, 0)
            gram.baddbmm_(whole, whole.transpose(1, 2))
        finite(float(gram.sum()))
        return torch.linalg.eigh(gram).eigenvectors[..., -1].t()

    def _fit_part(self, j: int, tables: Tensor, fitted: Tensor, dense: DenseRows) -> float:
        """Sets part j to the best for the others as they are; the squared error, relative to the table's."""
        products, squares, total = torch.zeros_like(fitted), torch.zeros_like(fitted), 0.0
        constants = {name: self.constants.on(tables.device, name) for name in self.constants}
        for part, rows in dense.chunks():
            wanted = rows.to(tables)
            own = self.part_rows(torch.arange(part.start, part.stop, device=tables.device), constants)
            others = tables[own[:, [k for k in range(self.parts) if k != j]]].prod(1)
            digits = own[:, j] - constants["base"][j]
            products.index_add_(0, digits, wanted * others)
            squares.index_add_(0, digits, others.square())
            total = finite(total + float(wanted.square().sum()))
        fitted.copy_(torch.where(squares > 0, products / squares, 0))
        return 1 - float((products * fitted).sum()) / total if total else 0.0

    @classmethod
    def for_budget(
        cls, n: int, dim: int, size: int, *, op: str = "mult", parts: int = 2, init_std: float = 0.25
    ) -> dict[str, int]:
        """The smallest c whose tables fit into `size` bytes: more rows in the quotient tell ids apart better."""
        _check(1, parts)
        row, constants = 4 * part_width(dim, parts, op), 8 * 3 * parts
        # the sum of the parts' rows falls until c is near this, then rises
        lowest = max(1, round(n ** (1 / parts)))

        def total(c: int) -> int:
            return row * sum(partition_sizes(n, c, parts)) + constants

        best = min(range(max(1, lowest // 2), 2 * lowest + 2), key=total)
        if total(best) > size:
            raise BudgetError(f"qr cannot hold {n} rows of width {dim} in {size} bytes", total(best))
        low, high = 1, best
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if total(middle) <= size else (middle + 1, high)
        return {"c": low}


def _check(c: int, parts: int) -> None:
    if parts < 2:
        raise InputError(f"qr: parts={parts}, at least two tables are needed")
    if c < 1:
        raise InputError(f"qr: c={c}, at least one row is needed")
    if (parts - 1) * math.log2(c) >= 62:
        raise InputError(f"qr: c={c} and parts={parts} tell more ids apart than there can be; fewer parts do")
