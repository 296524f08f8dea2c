"""Least squares: tables as near as can be to trained ones, where rows are a fixed linear map of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Generator, Tensor, nn

from embpress.compressors.base import Compressor
from embpress.compressors.options import TableOptions
from embpress.compressors.trained_table import DenseRows, finite, options_like, relative_error, sized

T = TypeVar("T", bound=Compressor)

# a chunk of rows has about this many numbers, or a half of the parameters', whichever is more
_CHUNK = 1 << 20
# more parameters than this are solved for in their own dtype, fewer in float64
_WIDE = 1 << 28
_PROBES = 4


def from_linear(cls: type[T], weight: Any, knobs: dict[str, Any], *, nonnegative: bool = False) -> tuple[T, float]:
    """`from_dense` of a method whose rows are a fixed linear map of its parameters; see `fit`.

    Args:
        cls: the method.
        weight: `(n, D)`, see `DenseRows`.
        knobs: the method's keywords, or `budget` or `ratio` in place of those that fix the size, and those of
            `TableOptions`; device and dtype are the table's own by default.
        nonnegative: as in `fit`.

    Returns:
        The table, trainable, and `‖lookups - weight‖ / ‖weight‖`, measured.

    Raises:
        InputError: no table, or entries that are not finite; two sizes. BudgetError: too few bytes.
    """
    dense = DenseRows(weight)
    table = cls(*dense.shape, **options_like(dense, cls, sized(dense, cls, knobs)))
    return table, fit([table], [dense], nonnegative=nonnegative)[0]


def tables_from_linear(
    cls: type[T],
    weights: Sequence[Any],
    knobs: Sequence[dict[str, Any]],
    options: Sequence[TableOptions],
    *,
    nonnegative: bool = False,
) -> tuple[list[T], list[float]]:
    """`fit_tables` of a method whose tables share the memory that their rows are a fixed linear map of; see `fit`."""
    dense = [DenseRows(weight) for weight in weights]
    given = [cast(TableOptions, options_like(weight, cls, option)) for weight, option in zip(dense, options)]
    tables = list(cls.build_tables([weight.shape for weight in dense], knobs, given))
    return tables, fit(tables, dense, nonnegative=nonnegative)


def fit(
    tables: Sequence[Compressor],
    weights: Sequence[DenseRows],
    *,
    nonnegative: bool = False,
    tolerance: float = 1e-7,
    max_steps: int = 200,
) -> list[float]:
    """Sets the parameters p of tables to a minimum of `Σ ‖A p - W‖²` over all of them together, `A p` their lookups.

    Conjugate gradients on `AᵀA p = AᵀW` (Hestenes and Stiefel 1952) from p = 0, divided by the diagonal of `AᵀA`. A is
    never written out: it is the tables' own lookup of all rows in chunks, `Aᵀ` its gradient. Where every element of a
    row is one parameter, times ±1, `AᵀA` is its diagonal, one step is the solution, and p is the mean of what it stands
    for. Parameters on which no row depends are 0.

    Memory: about eight vectors of all parameters in float64 (in their own dtype where they are more than 2^28), and a
    few chunks of a million numbers or of half the parameters, whichever is more; never a copy of the table. Each step,
    each probe of the diagonal, `AᵀW` and the error are a pass over all rows; the last two read `weights`.

    Args:
        tables: of linear lookups, each in its trainable parameters, which several may share.
        weights: the trained tables, `(n, D)` each.
        nonnegative: no element of A is negative; the diagonal is then taken from the sums of its columns, which are it
            where all elements are 0 or 1, instead of four probes with random signs.
        tolerance: of `‖AᵀW - AᵀA p‖` in the norm of the divided system, relative to p = 0.
        max_steps: of conjugate gradients.

    Returns:
        The relative error of each table, measured in its own dtype.

    Raises:
        InputError: entries of a trained table that are not finite.
    """
    modes = [table.training for table in tables]
    for table in tables:
        table.eval()  # what counts ids counts those of training only
    system = _System(tables, weights)
    right = system.transposed(system.wanted)
    finite(float(right.norm()))
    diagonal = system.diagonal(nonnegative)
    system.take(conjugate_gradients(system.normal, right, diagonal, tolerance=tolerance, max_steps=max_steps))
    for table, mode in zip(tables, modes):
        table.train(mode)
    return [relative_error(table, weight) for table, weight in zip(tables, weights)]


class _System:
    """The map A of all tables on one vector `(m, 1)`, of which their parameters are views while it is solved."""

    def __init__(self, tables: Sequence[Compressor], weights: Sequence[DenseRows]) -> None:
        self.tables, self.weights = tables, weights
        unique = {id(p): p for table in tables for p in table.parameters_by_name().values() if p.requires_grad}
        self.parameters: list[nn.Parameter] = list(unique.values())
        self.dtypes = [p.dtype for p in self.parameters]
        size, first = sum(p.numel() for p in self.parameters), self.parameters[0]
        wide = size <= _WIDE and all(table.tags.has(torch.float64) for table in tables)
        self.values = torch.zeros(size, 1, dtype=torch.float64 if wide else first.dtype, device=first.device)
        self.chunk = max(_CHUNK, size // 2)
        for p, part in zip(self.parameters, self.values.split([p.numel() for p in self.parameters])):
            p.data = part.view(p.shape)

    def take(self, solution: Tensor) -> None:
        """Makes the solution the parameters' own, in their dtypes."""
        self.values.copy_(solution)
        for p, dtype in zip(self.parameters, self.dtypes):
            p.data = p.data.to(dtype, copy=True)

    def _chunks(self) -> Iterator[tuple[int, int, int]]:
        """Table, first row and the row after the last."""
        for t, weight in enumerate(self.weights):
            n, dim = weight.shape
            step = max(1, self.chunk // dim)
            yield from ((t, start, min(n, start + step)) for start in range(0, n, step))

    def transposed(self, outputs: Callable[[Tensor, DenseRows, slice], Tensor]) -> Tensor:
        """`Aᵀ u`, a chunk of u being `outputs` of the rows that are looked up and those of the trained table."""
        total = torch.zeros_like(self.values)
        for t, start, stop in self._chunks():
            with torch.enable_grad():
                rows = self.tables[t].lookup(torch.arange(start, stop, device=self.values.device))
            wanted = outputs(rows.detach(), self.weights[t], slice(start, stop))
            gradients = torch.autograd.grad(rows, self.parameters, wanted, allow_unused=True)
            for own, gradient in zip(total.split([p.numel() for p in self.parameters]), gradients):
                if gradient is not None:
                    own += (gradient.to_dense() if gradient.is_sparse else gradient).view(-1, 1)
        return total

    @staticmethod
    def wanted(rows: Tensor, weight: DenseRows, part: slice) -> Tensor:
        """Of `AᵀW`."""
        return weight[part].to(rows)

    def normal(self, values: Tensor) -> Tensor:
        """`AᵀA v`."""
        self.values.copy_(values)
        return self.transposed(lambda rows, weight, part: rows)

    def diagonal(self, nonnegative: bool) -> Tensor:
        """The diagonal of `AᵀA`, positive: `v · AᵀA v` of random signs v, which is exact where it is all there is."""
        if nonnegative:
            found = self.transposed(lambda rows, weight, part: torch.ones_like(rows))
        else:
            draws, found = Generator().manual_seed(0), torch.zeros_like(self.values)
            for probe in range(1, _PROBES + 1):
                signs = torch.randint(0, 2, self.values.shape, dtype=torch.int8, generator=draws, device="cpu")
                signs = signs.to(self.values).mul_(2).sub_(1)
                once = self.normal(signs).mul_(signs)
                if probe > 1 and torch.equal(once, found / (probe - 1)):
                    break
                found += once
            else:
                probe += 1
            found /= probe - 1
        found[found <= 0] = found.clamp(min=0).mean()
        return found.clamp_(min=torch.finfo(found.dtype).tiny)


def conjugate_gradients(
    apply: Callable[[Tensor], Any],
    right: Tensor,
    diagonal: Tensor | None = None,
    *,
    tolerance: float = 1e-7,
    max_steps: int = 200,
) -> Tensor:
    """Solves `A x = right` for each column by itself (Hestenes and Stiefel 1952), from zero.

    Args:
        apply: `(k, D)` → `A` times it; A is symmetric without negative eigenvalues. Where it has zeros, `right` is in
            its range, and without a diagonal x is the solution of least norm.
        right: `(k, D)`.
        diagonal: `(k, D)` or `(k, 1)`, positive: what A is divided by, its own diagonal or an estimate; default ones.
        tolerance: of the residual in the norm of the divided system, relative to each column of `right`.
        max_steps: after which the solution is taken as it is.

    Returns:
        `(k, D)`.
    """
    x, residual, by = torch.zeros_like(right), right.clone(), right.new_ones(1) if diagonal is None else diagonal
    direction = residual / by
    squared = (residual * direction).sum(0)
    least = squared * tolerance**2
    for _ in range(max_steps):
        if bool((squared <= least).all()):
            break
        image = apply(direction)
        step = _ratio(squared, (direction * image).sum(0))
        if not step.any():  # nothing is left but rounding
            break
        x += step * direction
        residual -= step * image
        image = residual / by
        before, squared = squared, (residual * image).sum(0)
        direction = direction.mul_(_ratio(squared, before)).add_(image)
    return x


def _ratio(over: Tensor, under: Tensor) -> Tensor:
    return torch.where(under > 0, over / under, torch.zeros_like(over))
