"""Rows as products: an inner table (n, k) times a projection (k, D), what MLET and low rank have in common."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor, TableOptions
from embpress.compressors.errors import InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.init import normal_, uniform_
from embpress.kernels import ops
from embpress.kernels.reference import pool

_PIECE = 1 << 22  # elements of projections that are in work at a time


class FactoredGroup(TableGroup):
    """One call for all tables."""

    tables: Sequence[Factored]
    checks_ids = True

    def rows(self, ids: Tensor) -> Tensor:
        """See `TableGroup.rows`."""
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        return self.first.rows_of(ids, self._projections(), row_offsets, rows)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """Inner rows are pooled before they are projected, which is the same and less work."""
        table = self.first
        rows = F.embedding(self._in_stack(ids, offsets), table.whole("table"), sparse=table.sparse)
        return projected(self._by_bag(pool(rows, offsets, weights, table.mode == "mean")), self._projections())

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        """See `TableGroup.assemble`."""
        return assembled(take("table", ids), take, "projection", self.first.embedding_dim, self.count)

    def _projections(self) -> Tensor:
        table = self.first
        if self.count == 1:
            return table.own("projection").unsqueeze(0)
        return table.whole("projection").view(self.count, table.k, table.embedding_dim)


def projected(inner: Tensor, projections: Tensor) -> Tensor:
    """Inner rows `(B, T, k)` times the projections `(T, k, D)` of their tables, `(B, T, D)`."""
    device = inner.device.type
    mixed = torch.amp.is_autocast_available(device)
    # a table answers in its own dtype, as nn.EmbeddingBag does
    with torch.autocast(device, enabled=False) if mixed else contextlib.nullcontext():
        return torch.bmm(inner.transpose(0, 1), projections).transpose(0, 1)


def assembled(inner: Tensor, take: Take, name: str, dim: int, tables: int) -> Tensor:
    """Inner rows `(N, k)` times the projections of their own tables, `(N, dim)`.

    Args:
        take: see `TableGroup.assemble`.
        name: of the projection, whose rows it gives; of several tables a few rows at a time.
        dim: width D.
        tables: how many there are.
    """
    count, k = inner.shape
    if tables == 1:
        return inner @ take(name, torch.arange(k, device=inner.device)).to(inner.dtype)
    step = max(1, _PIECE // max(1, count * dim))
    out = None
    for start in range(0, k, step):
        index = torch.arange(start, min(k, start + step), device=inner.device).expand(count, -1)
        part = torch.bmm(inner[:, None, start : start + step], take(name, index).to(inner.dtype)).squeeze(1)
        out = part if out is None else out + part
    assert out is not None  # k is at least 1
    return out


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
        if self.sparse and torch.is_grad_enabled() and self.whole("table").requires_grad:
            in_stack = ops.check_ids(ids, rows, row_offsets=row_offsets)
            inner = F.embedding(in_stack, self.whole("table"), sparse=True).transpose(0, 1)
            return torch.bmm(inner, projections).transpose(0, 1)
        return ops.mlet_lookup(self.whole("table"), projections, ids, row_offsets=row_offsets, rows=rows)

    def _activation_bytes(self, batch_size: int) -> int:
        # the native op gathers the inner rows again
        gathered = self.sparse or ops.backend("mlet_lookup_train", self.device.type) == "reference"
        return batch_size * (8 + (gathered * self.k + self.embedding_dim) * self.itemsize)

    def group_key(self) -> tuple[Any, ...]:
        """One call has one inner width."""
        return *super().group_key(), self.k
