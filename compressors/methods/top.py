"""The most frequent rows as they are, all others one row: how much of a table is its head."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.by_recipe import Arrays, Stores
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.init import uniform_
from embpress.compressors.methods.full import rows_gradient
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags
from embpress.compressors.trained_table import DenseRows, finite, options_like, relative_error, sized
from embpress.kernels.recipes import Part, Parts, Rule


class _TopGroup(TableGroup):
    """All rows in one parameter; a table's last row there is the shared one."""

    tables: Sequence[Top]
    learned = ("kept",)

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        if not alone:
            self.integers["exact"] = [table.rows for table in self.tables]

    def rows(self, ids: Tensor) -> Tensor:
        return F.embedding(self.places(ids), self.first.whole("kept"), sparse=self.first.sparse)

    def gradients(self, ids: Tensor, grad: Tensor, held: Sequence[Tensor]) -> Sequence[Tensor]:
        return (rows_gradient(held[0], self.places(ids), grad, self.first.sparse),)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        return F.embedding(self.places(ids, tables), self.first.whole("kept"), sparse=self.first.sparse)

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        return take("kept", self._own_places(ids, tables))

    def recipe(self, t: int, stores: Stores, arrays: Arrays) -> tuple[Parts, None]:
        table = self.tables[t]
        store, first = stores("kept", t)
        if "ids" not in table.constants:
            return Parts((Part(store, Rule.FIRST, table.rows + 1, first),)), None
        ids = arrays.constant(table.constants["ids"])
        return Parts((Part(store, Rule.AMONG, table.rows + 1, first, (ids,)),)), None

    def places(self, ids: Tensor, tables: Tensor | None = None) -> Tensor:
        """Where the rows of ids are in the parameter, int64 of their shape `(B, T)`, or `(N,)` of the tables `(N,)`."""
        offsets = self.integers.on(ids.device, "row_offsets")
        return self._own_places(ids, tables) + (offsets if tables is None else offsets[tables])

    def _own_places(self, ids: Tensor, tables: Tensor | None) -> Tensor:
        """The same among the rows of each table; tables in any order."""
        ids = ids.long()
        if "ids" not in self.first.constants:
            exact = self.integers.on(ids.device, "exact")
            return torch.minimum(ids, exact if tables is None else exact[tables])
        known = self._constants(ids.device)["ids"]
        if tables is None:
            return _found(known, ids.t().contiguous()).t()
        if self.count == 1:
            return _found(known[0], ids)
        order = tables.argsort(stable=True)
        counts = torch.bincount(tables, minlength=self.count).tolist()
        found = torch.cat([_found(own, part) for own, part in zip(known, ids[order].split(counts))])
        return torch.empty_like(found).index_copy(0, order, found)


def _found(known: Tensor, ids: Tensor) -> Tensor:
    """The place of each of the ids `(…, N)` among ascending ones `(…, k)`, k for one that is not there."""
    place = torch.searchsorted(known, ids)
    there = known.gather(-1, place.clamp(max=known.shape[-1] - 1)) == ids
    return place.masked_fill(~there, known.shape[-1])


@register("top")
class Top(Compressor):
    """The `rows` most frequent ids have rows of their own, all others share one: `kept (rows + 1, D)`.

    By default the ids are taken to be numbered by falling frequency, as they are in click data read here: the exact
    rows are the first ones. `counts` says it for other numberings; the exact ids, 8 bytes each, are then part of the
    table.

    Args:
        rows: exact rows, fewer than n; default `⌈n / 10⌉`.
        counts: how often each id is in the training data, `(n,)`; ties go to the smaller id.
    """

    tags: ClassVar[Tags] = Tags(sparse_gradients=True, for_budget=True, from_dense=True, baseline=True)
    size_knobs: ClassVar[tuple[str, ...]] = ("rows",)
    wiring: ClassVar[tuple[str, ...]] = ("counts",)
    training_knobs: ClassVar[tuple[str, ...]] = ("counts",)  # what they come to is in the configuration
    stacked: ClassVar[tuple[str, ...]] = ("kept",)
    row_parameters: ClassVar[tuple[str, ...]] = ("kept",)
    group = _TopGroup

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        rows: int | None = None,
        counts: Tensor | None = None,
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        n = self.num_embeddings
        rows = math.ceil(n / 10) if rows is None else rows
        if rows < 1:
            raise InputError(f"top: rows={rows}, at least one exact row is needed")
        self.rows = min(rows, n - 1)  # the last one is the shared row
        self.integers["exact"] = [self.rows]
        if counts is not None:
            self._take_counts(counts)
        self.kept = nn.Parameter(
            torch.empty(self.rows + 1, self.embedding_dim, device=options.get("device"), dtype=options.get("dtype"))
        )
        self.reset_parameters(options.get("generator"))

    def _take_counts(self, counts: Tensor) -> None:
        if not isinstance(counts, Tensor) or counts.shape != (self.num_embeddings,):
            what = tuple(counts.shape) if isinstance(counts, Tensor) else type(counts).__name__
            raise InputError(f"top: counts must be a tensor ({self.num_embeddings},), one number a row, got {what}")
        most = counts.detach().cpu().argsort(descending=True, stable=True)[: self.rows]
        if self.rows:
            self.constants.put("ids", most.sort().values)

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`U(-1/√n, 1/√n)`, as a full table."""
        bound = 1 / math.sqrt(self.num_embeddings)
        uniform_(self.own("kept"), -bound, bound, generator)

    def arrays(self) -> tuple[Array, ...]:
        """The rows that are there."""
        return (Array("kept", self.rows + 1, self.embedding_dim),)

    def configuration(self) -> dict[str, Any]:
        """Of the exact ids a digest: they are given, not learned."""
        told = super().configuration()
        ids = told.pop("constants").get("ids")
        return told if ids is None else {**told, "ids": hashlib.sha256(str(ids).encode()).hexdigest()[:16]}

    def _places(self, ids: Tensor) -> Tensor:
        """Which of this table's rows answer checked ids of any shape."""
        group: Any = self.alone
        return group.places(ids.reshape(-1, 1)).view(ids.shape) - self.row_offset_in("kept")

    def uncompressed(self, ids: Tensor) -> Tensor:
        """Which ids have rows of their own."""
        return self._places(ids) < self.rows

    def group_key(self) -> tuple[Any, ...]:
        """Exact ids that are given are looked for among as many at once."""
        return *super().group_key(), self.rows if "ids" in self.constants else None

    @classmethod
    def for_budget(cls, n: int, dim: int, size: int, *, counts: Tensor | None = None) -> dict[str, int]:
        """As many exact rows, fewer than n, as fit into `size` bytes beside the shared one."""
        shared, exact = 4 * dim, 4 * dim + (0 if counts is None else 8)
        smallest = shared + (exact if n > 1 else 0)
        if size < smallest:
            raise BudgetError(f"top cannot hold an exact row and a shared one of width {dim} in {size} bytes", smallest)
        return {"rows": max(1, min(n - 1, (size - shared) // exact))}

    @classmethod
    @torch.no_grad()
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """A trained table's most frequent rows, the mean of all others, and the relative error.

        Args:
            weight: `(n, D)`, see `DenseRows`; it may be larger than memory.
            **knobs: the constructor's, or `budget` or `ratio` instead of rows; device and dtype are the table's own by
                default.

        Returns:
            The table, trainable, and `‖lookups - weight‖ / ‖weight‖`, measured.
        """
        table = DenseRows(weight)
        made = cls(*table.shape, **options_like(table, cls, sized(table, cls, knobs)))
        rest = torch.zeros(made.embedding_dim, dtype=torch.float64, device=made.device)
        for part, rows in table.chunks():
            values = rows.to(made.device)
            places = made._places(torch.arange(part.start, part.stop, device=made.device))
            exact = places < made.rows
            made.kept[places[exact]] = values[exact].to(made.kept.dtype)
            rest += values[~exact].double().sum(0)
        made.kept[made.rows] = rest / (made.num_embeddings - made.rows)
        return made, finite(relative_error(made, table))
