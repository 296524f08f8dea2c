"""`+bf16`: trained as the method is, served in bfloat16 (8 bits of mantissa, half of float32's bytes)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from embpress.compressors.base import Compressor
from embpress.compressors.by_recipe import Arrays, Stores, recipe_of
from embpress.compressors.group import TableGroup
from embpress.compressors.ledger import Entry
from embpress.compressors.modifiers.base import Modifier, ModifierGroup
from embpress.compressors.registry import register_modifier
from embpress.kernels.recipes import Store

ITEMSIZE = 2


def _halved(entries: Iterable[Entry]) -> list[Entry]:
    return [replace(e, bytes=e.bytes // e.itemsize * ITEMSIZE, itemsize=ITEMSIZE) if e.itemsize else e for e in entries]


class _RoundedGroup(ModifierGroup):
    """The rounded tables' group answers; its rows are widened before they are pooled."""

    tables: Sequence[_Rounded]

    def forward(self, ids: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        return TableGroup.forward(self, ids, offsets, weights)

    def answer(self, ids: Tensor, weights: Tensor | None = None) -> Tensor:
        return TableGroup.answer(self, ids, weights)

    def recipe(self, t: int, stores: Stores, arrays: Arrays) -> Any:
        return recipe_of(self.inner, t, stores, arrays)

    def store(self, name: str, t: int, arrays: Arrays) -> tuple[Store, int]:
        return self.inner.store(name, t, arrays)

    def rows(self, ids: Tensor) -> Tensor:
        return self.inner.rows(ids).to(self.tables[0].dtype)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        return self.inner.lookups(ids, tables).to(self.tables[0].dtype)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        if self.inner.pools_wide and weights is None:  # weights are as wide as the rows that come out
            return self.inner.bags(ids, offsets, weights).to(self.tables[0].dtype)
        return super().bags(ids, offsets, weights)

    def fold(self) -> TableGroup:
        return self


class _Rounded(Modifier):
    """A folded table in bfloat16 that answers in `dtype`."""

    group = _RoundedGroup
    modifier_name: ClassVar[str] = "bf16"

    def __init__(self, table: Compressor, dtype: torch.dtype) -> None:
        super().__init__(table)
        self.dtype = dtype

    def group_key(self) -> tuple[Any, ...]:
        return *super().group_key(), self.dtype

    @property
    def row_dtype(self) -> torch.dtype:
        return self.dtype

    def fold(self) -> Compressor:
        return _Rounded(self.table.fold(), self.dtype).eval()

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        return Compressor.forward(self, input, offsets, per_sample_weights)

    def lookup(self, ids: Tensor) -> Tensor:
        return self.table.lookup(ids).to(self.dtype)

    def _lookup(self, ids: Tensor) -> Tensor:
        return self.table._lookup(ids).to(self.dtype)


def _rounded(folded: Compressor) -> Compressor:
    dtype = folded.row_dtype
    return _Rounded(folded.to(torch.bfloat16), dtype).eval()


class _BFloat16Group(ModifierGroup):
    """Rounds the memory of all its tables at once."""

    def rows(self, ids: Tensor) -> Tensor:
        return self.inner.rows(ids)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        return self.inner.lookups(ids, tables)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        return self.inner.bags(ids, offsets, weights)

    def fold(self) -> TableGroup | list[Compressor]:
        inner = self.inner.fold()
        if not isinstance(inner, TableGroup):  # they need not go together any more
            return [_rounded(table) for table in inner]
        dtype = inner.tables[0].row_dtype
        inner = inner.to(torch.bfloat16)
        return _RoundedGroup([_Rounded(table, dtype) for table in inner.tables], self.names, inner).eval()


@register_modifier("bf16")
class BFloat16(Modifier):
    """`fold()` keeps every parameter in bfloat16; rows come out, and are pooled, in the dtype that was trained."""

    at_fold = True
    baseline: ClassVar[bool] = True
    everywhere: ClassVar[bool] = True
    served_error: ClassVar[float] = 2**-5  # products of a few factors, each rounded by 2^-9
    group = _BFloat16Group

    def fold(self) -> Compressor:
        """The table inside, folded and rounded."""
        return _rounded(self.table.fold())

    def _serving(self) -> list[Entry]:
        return _halved(self.table._serving())
