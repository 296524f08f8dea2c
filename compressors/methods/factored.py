"""Rows as products: an inner table (n, k) times a projection (k, D), what MLET and low rank have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from typing_extensions import Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.by_recipe import Arrays, NoRecipe, Stores
from embpress.compressors.errors import InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.init import normal_, uniform_
from embpress.compressors.options import TableOptions
from embpress.compressors.own_dtype import own_dtype
from embpress.compressors.tiles import tiles
from embpress.kernels import ops
from embpress.kernels.recipes import Core, Cores, Made, Store


class FactoredGroup(TableGroup):
    """One call for all tables."""

    tables: Sequence[Factored]
    checks_ids = True
    learned = ("table", "projection")
    gradients_read = True

    def rows(self, ids: Tensor) -> Tensor:
        """See `TableGroup.rows`."""
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        return self.first.rows_of(ids, self._projections(), row_offsets, rows)

    def gradients(self, ids: Tensor, grad: Tensor, held: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `TableGroup.gradients`."""
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        table, projections = held
        of_table, of_projections = ops.mlet_gradient(
            grad,
            table,
            projections.view(self.count, self.first.k, self.first.embedding_dim),
            ids,
            row_offsets=row_offsets,
            rows=rows,
            sparse=self.first.sparse,
        )
        return of_table, of_projections.view(projections.shape)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """Inner rows are pooled before they are projected, which is the same and less work."""
        table = self.first
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        pooled = ops.mlet_bags(
            table.whole("table"),
            self._projections(),
            ids,
            offsets,
            weights,
            row_offsets=row_offsets,
            rows=rows,
            mean=table.mode == "mean",
            sparse=table.sparse,
        )
        return self._by_bag(pooled)

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        """See `TableGroup.assemble`."""
        return assembled(take("table", ids), tables, take, "projection", self.count)

    def recipe(self, t: int, stores: Stores, arrays: Arrays) -> tuple[Made, None]:
        """See `TableGroup.recipe`: a train of two cores, of which all rows share the second."""
        table = self.tables[t]
        return product(
            stores("table", t), stores("projection", t), (table.num_embeddings, table.k, table.embedding_dim)
        )

    def _projections(self) -> Tensor:
        table = self.first
        if self.count == 1:
            return table.own("projection").unsqueeze(0)
        return table.whole("projection").view(self.count, table.k, table.embedding_dim)


def product(inner: tuple[Store, int], projection: tuple[Store, int], shape: tuple[int, int, int]) -> tuple[Cores, None]:
    """The recipe of rows `table[i] @ projection`, from where both are kept; the shape is `(n, k, D)`.

    Raises:
        NoRecipe: of floats, of which an op makes one product of many rows.
    """
    (store, first), (shared, row), (rows, k, width) = inner, projection, shape
    if not store.form.codes:
        raise NoRecipe
    return Cores((Core(store, first, 1, rows, 1, k), Core(shared, row, k, 1, width, 1))), None


def projected(inner: Tensor, projections: Tensor) -> Tensor:
    """Inner rows `(B, T, k)` times the projections `(T, k, D)` of their tables, `(B, T, D)`."""
    with own_dtype(inner.device):
        return torch.bmm(inner.transpose(0, 1), projections).transpose(0, 1)


def assembled(inner: Tensor, tables: Tensor, take: Take, name: str, count: int) -> Tensor:
    """Inner rows `(N, k)` of the tables `(N,)` times the projections of these, `(N, D)`.

    Args:
        take: see `TableGroup.assemble`.
        name: of the projection, whose rows it gives.
        count: how many tables there are.
    """
    places = torch.arange(inner.shape[0], device=inner.device)
    tiled = tiles(places, tables, count)
    parts = inner.new_zeros(tiled.ids.numel(), inner.shape[1]).index_copy(0, tiled.place, inner)
    index = torch.arange(inner.shape[1], device=inner.device).expand(tiled.tables.shape[0], -1)
    projections = take(name, index, tables=tiled.tables).to(inner.dtype)
    return torch.bmm(parts.view(*tiled.ids.shape, inner.shape[1]), projections).flatten(0, 1)[tiled.place]


class Factored(Compressor):
    """Row `i` is `table[i] @ projection`, linear and without bias.

    Args:
        k: inner width.
    """

    stacked: ClassVar[tuple[str, ...]] = ("table", "projection")
    row_parameters: ClassVar[tuple[str, ...]] = ("table",)
    lookup_op: ClassVar[str] = "mlet_lookup"
    group = FactoredGroup

    def __init__(self, num_embeddings: int, embedding_dim: int, *, k: int, **options: Unpack[TableOptions]) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        if k < 1:
            raise InputError(f"{self.spec_name}: k={k}, at least one column is needed")
        self.k = k
        device, dtype = options.get("device"), options.get("dtype")
        self.table = nn.Parameter(torch.empty(num_embeddings, k, device=device, dtype=dtype))
        self.projection = nn.Parameter(torch.empty(k, embedding_dim, device=device, dtype=dtype))

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`table` as a full table, `projection` from N(0, 1/k): rows start with a full table's variance `1/(3n)`."""
        self._draw(1 / math.sqrt(self.k), generator)

    def _draw(self, std: float, generator: Generator | None) -> None:
        """`table` as a full table, `projection` from N(0, std²)."""
        bound = 1 / math.sqrt(self.num_embeddings)
        uniform_(self.own("table"), -bound, bound, generator)
        normal_(self.own("projection"), 0, std, generator)

    def arrays(self) -> tuple[Array, ...]:
        """Both factors; each row of the projection has values of its own size."""
        return (
            Array("table", self.num_embeddings, self.k),
            Array("projection", self.k, self.embedding_dim, ranges="row", for_all=True),
        )

    def rows_of(self, ids: Tensor, projections: Tensor, row_offsets: Tensor, rows: Tensor) -> Tensor:
        """Rows of ids `(N, T)` in `T` tables on this one's inner table, `(N, T, D)`.

        `projections` is `(T, k, D)`; `row_offsets` and `rows` `(T,)` say where
        the tables start and what they stand for.
        """
        return ops.mlet_lookup(
            self.whole("table"), projections, ids, row_offsets=row_offsets, rows=rows, sparse=self.sparse
        )

    def _activation_bytes(self, batch_size: int) -> int:
        return batch_size * (8 + (self._keeps_inner_rows() * self.k + self.embedding_dim) * self.itemsize)

    def _keeps_inner_rows(self) -> bool:
        # the native op gathers them again
        return ops.backend("mlet_lookup_train", self.device.type) == "reference"

    def group_key(self) -> tuple[Any, ...]:
        """One call has one inner width."""
        return *super().group_key(), self.k
