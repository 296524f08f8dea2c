"""Sparse sign sketch: M = S E, row i = (S e_i)^T M, S by hashes (10000x sharing, section 2, Desai et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.bags import without_values
from embpress.compressors.base import Compressor
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.init import uniform_
from embpress.compressors.least_squares import conjugate_gradients
from embpress.compressors.methods.hashing import draw_coefficients
from embpress.compressors.options import TableOptions
from embpress.compressors.own_dtype import own_dtype
from embpress.compressors.registry import register
from embpress.compressors.spec import as_bytes, as_ratio
from embpress.compressors.tags import Tags
from embpress.compressors.tiles import tiles
from embpress.compressors.trained_table import DenseRows, relative_error
from embpress.kernels.arguments import compute_dtype
from embpress.kernels.reference import pair_hash

_ENTRIES = 1 << 22  # of S at a time, where nothing is to be learned
_DIGITS = 4  # entries of S that one number below 6^4 stands for; a hash has two such numbers
_MAX_ROWS = 1 << 22
_FITS = ("least-squares", "sketch")


class _SketchGroup(TableGroup):
    """One batched product for all tables."""

    tables: Sequence[Sketch]

    def rows(self, ids: Tensor) -> Tensor:
        memory = self.first.whole("memory") if self.count > 1 else self.first.own("memory")
        memory = memory.view(self.count, self.first.rows, -1)
        coefficients = self._constants(ids.device)["coefficients"]
        return sketched(ids.t().long(), coefficients, memory).transpose(0, 1)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        return self.assemble(ids.long(), tables, self.take(tables))

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        tiled = tiles(ids, tables, self.count)
        every = torch.arange(self.first.rows, device=ids.device).expand(tiled.tables.shape[0], -1)
        memory = take("memory", every, tables=tiled.tables)
        coefficients = self._constants(ids.device)["coefficients"][tiled.tables]
        return sketched(tiled.ids, coefficients, memory).flatten(0, 1)[tiled.place]


@register("sketch")
class Sketch(Compressor):
    """Row `i` is `(S e_i)^T memory`, about `2 k D / 3` additions and subtractions a lookup.

    `S (k, n)` is Achlioptas' sparse sign matrix (2003, Theorem 1.1): an entry is 0 with probability 2/3, else
    `±√(3 / k)`. It is never stored: hashes of the id and the row's number make it when it is needed, and every hash
    makes eight entries. Where `E` is a trained table and `memory = S E`, inner products of its columns and of its long
    rows are kept to some precision (Theorems 6 and 7; `embpress theory` says with which k). Trained end to end, as in
    section 2.2, `memory` is learned as it is.

    Args:
        rows: rows `k` of `memory (k, D)`; default a tenth of the table's, at least 16: an id whose column of S is zero
            has no row to learn, which happens with probability `(2/3)^k`.
    """

    tags: ClassVar[Tags] = Tags(for_budget=True, from_dense=True)
    size_knobs: ClassVar[tuple[str, ...]] = ("rows",)
    stacked: ClassVar[tuple[str, ...]] = ("memory",)
    row_parameters: ClassVar[tuple[str, ...]] = ("memory",)
    group = _SketchGroup

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, rows: int | None = None, **options: Unpack[TableOptions]
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        rows = max(16, math.ceil(self.num_embeddings / 10)) if rows is None else rows
        if not 1 <= rows <= _MAX_ROWS:
            raise InputError(f"sketch: rows={rows} must lie between 1 and {_MAX_ROWS:,}")
        self.rows = rows
        self.memory = nn.Parameter(
            torch.empty(rows, self.embedding_dim, device=options.get("device"), dtype=options.get("dtype"))
        )
        generator = None if self.memory.is_meta else options.get("generator")  # on meta nothing is drawn
        drawn = draw_coefficients((4, 2), generator, self.num_embeddings, self.embedding_dim)
        self.constants.put("coefficients", drawn)
        self.reset_parameters(options.get("generator"))

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`U(-1/√n, 1/√n)`: the squares of a column of S add up to 1, so that rows have a full table's variance."""
        bound = 1 / math.sqrt(self.num_embeddings)
        uniform_(self.own("memory"), -bound, bound, generator)

    def arrays(self) -> tuple[Array, ...]:
        """The memory."""
        return (Array("memory", self.rows, self.embedding_dim),)

    def assembly_key(self) -> tuple[Any, ...]:
        """One call has one number of rows."""
        return (self.rows,)

    def group_key(self) -> tuple[Any, ...]:
        """What one call cannot vary."""
        return *super().group_key(), *self.assembly_key()

    def _activation_bytes(self, batch_size: int) -> int:
        wide = compute_dtype(self.row_dtype).itemsize
        return batch_size * (8 + self.rows * wide + self.embedding_dim * (wide + self.itemsize))

    @classmethod
    def for_budget(cls, n: int, dim: int, size: int) -> dict[str, int]:
        """The most rows, at most n, that fit into `size` bytes."""
        constants = 8 * 4 * 2
        rows = min(n, _MAX_ROWS, (size - constants) // (4 * dim))
        if rows < 1:
            raise BudgetError(f"sketch cannot hold a table of width {dim} in {size} bytes", 4 * dim + constants)
        return {"rows": rows}

    @classmethod
    def from_dense(
        cls,
        weight: Any,
        *,
        rows: int | None = None,
        budget: int | None = None,
        ratio: float | None = None,
        fit: str = "least-squares",
        **options: Unpack[TableOptions],
    ) -> tuple[Self, float]:
        """A sketch of a trained table `E`, and its relative error.

        The table is read in slices, and may be larger than memory; S is made anew for each. `sketch` reads it once,
        least squares a few dozen times, the fewer the larger n / k is: conjugate gradients on `(S S^T) memory = S E`.

        Args:
            weight: `(n, D)` floating point: a tensor, a NumPy array, `np.load(path, mmap_mode="r")`, or anything with
                `shape` whose slices `weight[a:b]` are arrays.
            rows: as in the constructor.
            budget: serving bytes, instead of rows.
            ratio: `4 n D` over the serving bytes, instead of rows.
            fit: `least-squares`, the memory whose rows are nearest to the table's; or `sketch`, the paper's
                `memory = S E`, which keeps inner products. Each of its rows is off by about `‖E‖ / √k`, more than the
                row itself unless it is one of few long ones, so that its relative error is about `√(n / k)`.
            **options: those of `TableOptions`; device and dtype are the table's own by default.

        Returns:
            The table, trainable, and `‖lookups - weight‖ / ‖weight‖` over the n rows, measured.

        Raises:
            InputError: more than one size, or another fit. BudgetError: no row fits into the budget.
        """
        if fit not in _FITS:
            raise InputError(f"sketch: fit={fit!r} is not one of {', '.join(_FITS)}")
        if sum(size is not None for size in (rows, budget, ratio)) > 1:
            raise InputError("sketch: give one of rows, budget and ratio")
        table = DenseRows(weight)
        n, dim = table.shape
        if ratio is not None:
            budget = int(4 * n * dim / as_ratio(ratio))
        if budget is not None:
            rows = cls.for_budget(n, dim, as_bytes(budget))["rows"]
        options = {**options, "device": options.get("device") or table.device}
        options["dtype"] = options.get("dtype") or table.dtype
        made = cls(n, dim, rows=rows, **options)
        with torch.no_grad():
            made.memory.copy_(made._fitted(table, fit))
        return made, relative_error(made, table)

    def _fitted(self, table: DenseRows, fit: str) -> Tensor:
        """`S E`, or the memory of least error, `(k, D)`."""
        wide = compute_dtype(self.memory.dtype)
        coefficients = self.constants.on(self.device, "coefficients")

        def slices() -> Iterator[tuple[slice, Tensor]]:
            step = max(1, _ENTRIES // self.rows)
            for start in range(0, self.num_embeddings, step):
                part = slice(start, min(self.num_embeddings, start + step))
                ids = torch.arange(part.start, part.stop, device=self.device)
                yield part, signs(ids.unsqueeze(0), coefficients.unsqueeze(0), self.rows, wide)[0]

        sketch = sum(columns.t() @ table[part].to(self.device, wide) for part, columns in slices())
        assert isinstance(sketch, Tensor)  # a table has a row
        if fit == "sketch":
            return sketch
        return conjugate_gradients(lambda x: sum(columns.t() @ (columns @ x) for _, columns in slices()), sketch)


def signs(ids: Tensor, coefficients: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """Columns of the sketches of tables: ids `(T, B)` int64, coefficients `(T, 4, 2)` → `(T, B, k)`, `k = rows`.

    A digit to base 6 is an entry: 4 of 6 are zero, one is `√(3 / k)`, one `-√(3 / k)`.
    """
    numbers = torch.arange(-(-rows // (2 * _DIGITS)), device=ids.device)
    hashes = pair_hash(ids.unsqueeze(-1), numbers, coefficients.unsqueeze(1))
    base = 6**_DIGITS
    # every digit of every number below 6^4, so that a gather reads four entries at once
    every = torch.arange(base, device=ids.device).unsqueeze(1)
    digits = every // torch.tensor([6**place for place in range(_DIGITS)], device=ids.device) % 6
    entries = ((digits == 4).to(dtype) - (digits == 5).to(dtype)) * math.sqrt(3 / rows)
    found = F.embedding(torch.stack([hashes % base, hashes // base % base], dim=-1), entries)
    return found.flatten(-3)[..., :rows]


def sketched(ids: Tensor, coefficients: Tensor, memory: Tensor) -> Tensor:
    """Rows `(T, B, D)` of checked ids `(T, B)` int64: coefficients `(T, 4, 2)`, memory `(T, k, D)`."""
    wide = compute_dtype(memory.dtype)

    def product(part: Tensor) -> Tensor:
        with own_dtype(ids.device):
            columns = signs(part, coefficients, memory.shape[1], wide)
            return torch.bmm(columns, memory.to(wide)).to(memory.dtype)

    whole = without_values(ids) or torch.jit.is_tracing() or (torch.is_grad_enabled() and memory.requires_grad)
    block = max(1, _ENTRIES // (memory.shape[0] * memory.shape[1]))
    if whole or ids.shape[1] <= block:
        return product(ids)
    return torch.cat([product(part) for part in ids.split(block, dim=1)], dim=1)
