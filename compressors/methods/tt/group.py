"""All tensor trains of a model in one call of the op, whatever their shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from embpress.compressors.arrays import Take
from embpress.compressors.by_recipe import Arrays, NoRecipe, Stores
from embpress.compressors.group import TableGroup
from embpress.kernels import ops
from embpress.kernels.recipes import Core, Cores

if TYPE_CHECKING:
    from embpress.compressors.base import Compressor
    from embpress.compressors.methods.tt.table import TTRec


_ALONE = 4096  # products of a row that is made by itself as fast as together with others


def _products(table: TTRec) -> int:
    """Products of elements that one row takes."""
    done, products = table.column_factors[0], 0
    for k, q in enumerate(table.column_factors[1:], 1):
        products += done * table.ranks[k] * q * table.ranks[k + 1]
        done *= q
    return products


def slices(ids: Tensor, factors: Sequence[int | Tensor]) -> list[Tensor]:
    """Which slice of each core makes the rows of ids `(N,)`: the digits of an id, whose bases are the row factors."""
    found, rest = [], ids
    for p in reversed(factors):
        found.append(rest % p)
        rest = rest // p
    return found[::-1]


class TTGroup(TableGroup):
    """One op call for all tables, whatever their shapes."""

    tables: Sequence[TTRec]
    checks_ids = True
    pools_wide = True

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        self.cached = any(table.cache is not None for table in self.tables)

    def answer(self, ids: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `TableGroup.answer`; in training the caches learn from it."""
        return self._training_step(ids, None, weights)

    def _jagged(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        return self._training_step(ids, offsets, weights)

    def rows(self, ids: Tensor) -> Tensor:
        """See `TableGroup.rows`."""
        return self._op(ids)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """See `TableGroup.bags`; the op pools."""
        return self._op(ids, offsets, weights)

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        """See `TableGroup.assemble`; of cores of one form, of one table where there is a cache."""
        table = self.first
        factors = torch.tensor([one.row_factors for one in self.tables], device=ids.device)[tables]
        digits = slices(ids, factors.unbind(1))
        rows, done = take("cores.0", digits[0]), 1
        for k, q in enumerate(table.column_factors[:-1], 1):
            before, done = table.ranks[k], done * q
            core = take(f"cores.{k}", digits[k]).view(len(ids), before, table.column_factors[k] * table.ranks[k + 1])
            rows = torch.bmm(rows.view(len(ids), done, before), core)
        rows = rows.view(len(ids), table.embedding_dim)
        if table.cache is None:
            return rows
        slots = table.cache.slots(ids)
        return torch.where((slots >= 0).unsqueeze(1), take("cache.values", slots.clamp(min=0)), rows)

    def recipe(self, t: int, stores: Stores, arrays: Arrays) -> tuple[Cores, None]:
        """See `TableGroup.recipe`; large products of floats are left to the op that makes many rows together."""
        table = self.tables[t]
        kept = [stores(f"cores.{k}", t) for k in range(table.num_cores)]
        floats = not kept[0][0].form.codes
        if table.cache is not None or (floats and _products(table) > _ALONE):
            raise NoRecipe
        shapes = zip(kept, table.row_factors, table.column_factors, table.ranks[1:])
        return Cores(tuple(Core(store, first, 1, p, q, rank) for (store, first), p, q, rank in shapes)), None

    def _training_step(self, ids: Tensor, offsets: Tensor | None, weights: Tensor | None) -> Tensor:
        padding = self.integers.values("padding") if "padding" in self.integers else ()
        learning = [t for t, table in enumerate(self.tables) if table._learns(ids)] if self.cached else []
        for t in learning:
            self.tables[t]._refresh()
        out = self._op(ids, offsets, weights, padding)
        if learning:
            by_table = self._by_table(ids, offsets)  # ids that are known to be right by now
            for t in learning:
                self.tables[t]._count(by_table[t])
        return out

    def _by_table(self, ids: Tensor, offsets: Tensor | None) -> Sequence[Tensor]:
        """The ids of each table."""
        if offsets is None:
            return ids.unbind(1)
        if self.count == 1:
            return (ids,)
        bags = (offsets.shape[0] - 1) // self.count
        return ids.split(offsets[::bags].diff().tolist()) if bags else [ids] * self.count

    def _op(
        self,
        ids: Tensor,
        offsets: Tensor | None = None,
        weights: Tensor | None = None,
        padding_idx: Sequence[int] = (),
    ) -> Tensor:
        table: TTRec = self.first
        caches: list[Tensor] = []
        exporting = torch.compiler.is_exporting()
        if exporting and not padding_idx:  # AOTInductor cannot pass an op an empty list
            padding_idx = (-1,) * self.count
        if self.cached or exporting:
            learned = weights is not None and weights.requires_grad
            caches = [tensor for one in self.tables for tensor in one._cache(learned)]
        return ops.tt_embedding_bag(
            table._cores() if self.count == 1 else [core for one in self.tables for core in one._cores()],
            ids,
            offsets,
            weights,
            num_embeddings=self.integers.values("rows"),
            caches=caches,
            padding_idx=padding_idx,
            num_cores=table.num_cores,
            mean=table.mode == "mean",
            store=table.store,
            math=table.math,
        )
