"""Full table: `nn.EmbeddingBag`, the baseline and the oracle (initialised as in DLRM, Naumov et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.by_recipe import Arrays, Stores
from embpress.compressors.group import TableGroup
from embpress.compressors.init import uniform_
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags
from embpress.compressors.trained_table import copied
from embpress.kernels import ops
from embpress.kernels.recipes import Parts


class _FullGroup(TableGroup):
    """All rows in one parameter: one gather forward, one sparse gradient."""

    tables: Sequence[Full]
    checks_ids = True
    learned = ("weight",)

    def rows(self, ids: Tensor) -> Tensor:
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        in_stack = ops.check_ids(ids, rows, row_offsets=row_offsets)
        return F.embedding(in_stack, self.first.whole("weight"), sparse=self.first.sparse)

    def gradients(self, ids: Tensor, grad: Tensor, held: Sequence[Tensor]) -> Sequence[Tensor]:
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        in_stack = ops.check_ids(ids, rows, row_offsets=row_offsets)
        return (rows_gradient(held[0], in_stack, grad, self.first.sparse),)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        table = self.first
        row_offsets = self.integers.on(ids.device, "row_offsets")[tables]
        return F.embedding(ids + row_offsets, table.whole("weight"), sparse=table.sparse)

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        return take("weight", ids)

    def recipe(self, t: int, stores: Stores, arrays: Arrays) -> tuple[Parts, None]:
        rows = self.tables[t].num_embeddings
        store, first = stores("weight", t)
        return Parts.row(store, rows, first), None

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        table = self.first
        return self._by_bag(
            F.embedding_bag(
                self._in_stack(ids, offsets),
                table.whole("weight"),
                offsets,
                mode=table.mode,
                sparse=table.sparse,
                per_sample_weights=weights,
                include_last_offset=True,
            )
        )


def rows_gradient(weight: Tensor, rows: Tensor, grad: Tensor, sparse: bool) -> Tensor:
    """The gradient of `F.embedding(rows, weight, sparse=sparse)` in `weight`, from that of what it returns."""
    return torch.ops.aten.embedding_backward(grad, rows, weight.shape[0], -1, False, sparse)


@register("full")
class Full(Compressor):
    """An uncompressed table `weight (n, D)`, initialised `U(-1/√n, 1/√n)`.

    Takes no keywords besides those of `TableOptions`.
    """

    tags: ClassVar[Tags] = Tags(sparse_gradients=True, uncompressed=True, from_dense=True, baseline=True)
    stacked: ClassVar[tuple[str, ...]] = ("weight",)
    row_parameters: ClassVar[tuple[str, ...]] = ("weight",)
    group = _FullGroup
    # a full table's state dict is that of `nn.EmbeddingBag`
    get_extra_state = nn.Module.get_extra_state
    set_extra_state = nn.Module.set_extra_state

    def __init__(self, num_embeddings: int, embedding_dim: int, **options: Unpack[TableOptions]) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        self.weight = nn.Parameter(
            torch.empty(num_embeddings, embedding_dim, device=options.get("device"), dtype=options.get("dtype"))
        )
        self.reset_parameters(options.get("generator"))

    @classmethod
    def serving(cls, table: Compressor, weight: Tensor) -> Full:
        """A table to serve: the rows `weight`, which it shares, with the pooling of `table`."""
        made = cls(
            table.num_embeddings,
            table.embedding_dim,
            mode=table.mode,
            include_last_offset=table.include_last_offset,
            padding_idx=table.padding_idx,
            device="meta",
        )
        made.weight = nn.Parameter(weight, requires_grad=False)
        return made.eval()

    def arrays(self) -> tuple[Array, ...]:
        """Its rows."""
        return (Array("weight", self.num_embeddings, self.embedding_dim, table=True),)

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`U(-1/√n, 1/√n)`, DLRM's; the padding row is zero, as in `nn.EmbeddingBag`."""
        weight, bound = self.own("weight"), 1 / math.sqrt(self.num_embeddings)
        uniform_(weight, -bound, bound, generator)
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0

    @classmethod
    def from_dense(cls, weight: Any, **options: Any) -> tuple[Self, float]:
        """A copy of a trained table `(n, D)`, see `DenseRows`, and its relative error, 0 in the same dtype."""
        return copied(cls, weight, options)
