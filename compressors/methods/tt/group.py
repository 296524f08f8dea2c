"""All tensor trains of a model in one call of the op, whatever their shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from torch import Tensor

from embpress.compressors.group import TableGroup
from embpress.kernels import ops
from embpress.kernels.errors import IdOutOfRange

if TYPE_CHECKING:
    from embpress.compressors.methods.tt.table import TTRec


class TTGroup(TableGroup):
    """One op call for all tables, whatever their shapes."""

    tables: Sequence[TTRec]
    checks_ids = True
    pools_wide = True

    def rows(self, ids: Tensor) -> Tensor:
        """See `TableGroup.rows`; the op checks the ids."""
        out = self._op(ids)
        if any(table.cache is not None for table in self.tables):
            for t, table in enumerate(self.tables):
                table._count(ids[:, t])
        return out

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """See `TableGroup.bags`; the op pools."""
        out = self._op(ids, offsets, weights)
        if any(table.cache is not None for table in self.tables):
            count = (offsets.shape[0] - 1) // len(self.tables)
            for table, own in zip(self.tables, ids.split(offsets[::count].diff().tolist() if count else 0)):
                table._count(own, padding=False)
        return out

    def _op(self, ids: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        caches: list[Tensor] = []
        if any(table.cache is not None for table in self.tables):
            for table in self.tables:
                table._refresh()
                caches += table._cache()
        table = self.tables[0]
        try:
            return ops.tt_embedding_bag(
                [core for table in self.tables for core in table._cores()],
                ids,
                offsets,
                weights,
                num_embeddings=[table.num_embeddings for table in self.tables],
                caches=caches,
                num_cores=table.num_cores,
                mean=table.mode == "mean",
                store=table.store,
                math=table.math,
            )
        except IdOutOfRange as error:
            raise error.of(self.names[cast(int, error.table)]) from None  # the op knows tables by their number
