"""MLET: a product W1 (n, k) W2 (k, D), k >= D, in training, one table to serve (Ghaemmaghami et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor, TableOptions
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.init import normal_, uniform_
from embpress.compressors.ledger import Entry
from embpress.compressors.methods.full import Full
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags
from embpress.compressors.trained_table import DenseRows, finite, options_like, relative_error
from embpress.kernels import ops
from embpress.kernels.reference import pool


class _MLETGroup(TableGroup):
    """One call for all tables."""

    tables: Sequence[MLET]
    checks_ids = True

    def rows(self, ids: Tensor) -> Tensor:
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        return self.first.rows_of(ids, self._projections(), row_offsets, rows)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """Inner rows are pooled before they are projected, which is the same and less work."""
        table = self.first
        rows = F.embedding(self._in_stack(ids, offsets), table.whole("table"), sparse=table.sparse)
        inner = self._by_bag(pool(rows, offsets, weights, table.mode == "mean"))
        with torch.autocast(
            ids.device.type, enabled=False
        ):  # a table answers in its own dtype, as nn.EmbeddingBag does
            return torch.bmm(inner.transpose(0, 1), self._projections()).transpose(0, 1)

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        return take("weight", ids)

    def take(self, tables: Tensor) -> Take:
        """Rows of the products, which is what is served."""
        lookups = tables

        def taken(name: str, index: Tensor, segment: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
            tables = lookups if tables is None else tables
            if self.count == 1:
                return self.rows(index.unsqueeze(1)).squeeze(1)
            order = tables.argsort(stable=True)
            rows = self.lookups(index[order], tables[order])
            return torch.empty_like(rows).index_copy(0, order, rows)

        return taken

    def _projections(self) -> Tensor:
        table = self.first
        if self.count == 1:
            return table.own("projection").unsqueeze(0)
        return table.whole("projection").view(self.count, table.k, table.embedding_dim)


@register("mlet")
class MLET(Compressor):
    """Row `i` is `table[i] @ projection`, linear and without bias; `fold()` multiplies it out to one `n × D` table.

    It saves nothing at a fixed width: what it gives is a smaller width at equal quality, so under a ratio r the whole
    model is trained at width `⌊D / r⌋`, as in the paper.

    Args:
        k: inner width, at least D; default `max(64, 4 D)` (the paper finds k / D > 4 best).
        init: `paper` (projection entries of variance 1/16, so that rows start with `k/16` times a full table's
            variance) or `matched` (variance `1/k`: rows start with a full table's variance).
        force: allow `k < D`, which the paper rules out: the product then has rank k and cannot represent every table.
    """

    tags: ClassVar[Tags] = Tags(sparse_gradients=True, saves_by_width=True, from_dense=True)
    stacked: ClassVar[tuple[str, ...]] = ("table", "projection")
    row_parameters: ClassVar[tuple[str, ...]] = ("table",)
    training_knobs: ClassVar[tuple[str, ...]] = ("init", "force")
    lookup_op: ClassVar[str] = "mlet_lookup"
    group = _MLETGroup

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        k: int | None = None,
        init: str = "paper",
        force: bool = False,
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        k = max(64, 4 * embedding_dim) if k is None else k
        if k < embedding_dim and not force:
            raise InputError(
                f"mlet: k={k} is below the width {embedding_dim}; the product would have rank {k} only, a restriction "
                "instead of the paper's over-parameterisation (force=true allows it)"
            )
        if k < 1:
            raise InputError(f"mlet: k={k}, at least one column is needed")
        if init not in ("paper", "matched"):
            raise InputError(f"mlet: init={init!r} is not one of paper, matched")
        self.k, self.init, self.force = k, init, force
        device, dtype = options.get("device"), options.get("dtype")
        self.table = nn.Parameter(torch.empty(num_embeddings, k, device=device, dtype=dtype))
        self.projection = nn.Parameter(torch.empty(k, embedding_dim, device=device, dtype=dtype))
        self.reset_parameters(options.get("generator"))

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`table` as a full table, `projection` from N(0, 1/16) or N(0, 1/k)."""
        bound = 1 / math.sqrt(self.num_embeddings)
        uniform_(self.own("table"), -bound, bound, generator)
        std = 0.25 if self.init == "paper" else 1 / math.sqrt(self.k)
        normal_(self.own("projection"), 0, std, generator)

    @classmethod
    @torch.no_grad()
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """A product `W1 P` equal to a trained table W up to rounding, so that it can be trained further.

        P is the projection drawn, `W1 = W P⁺` by its pseudoinverse. With `k < D` that is the nearest for this P.

        Args:
            weight: `(n, D)`, see `DenseRows`; it may be larger than memory, the inner table is k / D times as large.
            **knobs: the constructor's; device and dtype are the table's own by default.

        Returns:
            The table, and `‖lookups - weight‖ / ‖weight‖`, measured.

        Raises:
            InputError: entries that are not finite.
        """
        dense = DenseRows(weight)
        made = cls(*dense.shape, **options_like(dense, cls, knobs))
        inverse = torch.linalg.pinv(made.projection.double())
        for part, rows in dense.chunks():
            made.table[part] = rows.to(inverse) @ inverse
        return made, finite(relative_error(made, dense))

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

    def arrays(self) -> tuple[Array, ...]:
        """The product."""
        return (Array("weight", self.num_embeddings, self.embedding_dim, table=True),)

    def fold(self) -> Full:
        """The product as one full table: equal lookups up to rounding."""
        return Full.serving(self, self.own("table").detach() @ self.own("projection").detach())

    def _serving(self) -> list[Entry]:
        size = self.num_embeddings * self.embedding_dim * self.itemsize
        return [Entry("weight", size, itemsize=self.itemsize)]

    def _activation_bytes(self, batch_size: int) -> int:
        # the native op gathers the inner rows again
        gathered = self.sparse or ops.backend("mlet_lookup_train", self.device.type) == "reference"
        return batch_size * (8 + (gathered * self.k + self.embedding_dim) * self.itemsize)

    def group_key(self) -> tuple[Any, ...]:
        """One call has one inner width."""
        return *super().group_key(), self.k

    @classmethod
    def model_width(cls, embedding_dim: int, ratio: float) -> int:
        """`⌊D / r⌋`.

        Raises:
            BudgetError: below width 1; `smallest` is then per row of the model, 4 bytes.
        """
        width = int(embedding_dim / ratio * (1 + 1e-12))  # a ratio of D / w means w, whatever its last digit
        if width < 1:
            raise BudgetError(f"mlet trains at width {embedding_dim} / {ratio:g}, which is below 1", 4)
        return width
