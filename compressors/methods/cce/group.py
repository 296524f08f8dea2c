"""All clustered tables of a model in one call, their pointers one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from embpress.compressors.arrays import Take
from embpress.compressors.integers import Constants
from embpress.compressors.methods.cce.pointers import pointed
from embpress.compressors.methods.compositional import CompositionalGroup
from embpress.kernels.reference import pool

if TYPE_CHECKING:
    from embpress.compressors.base import Compressor
    from embpress.compressors.methods.cce.table import CCE

# of each table: ones of a pointer, bits of a pointer, centres a chunk, where the pointers' bits start
_NUMBERS = ("masks", "bits", "chunk_centres", "first_bits")


class CCEGroup(CompositionalGroup):
    """Hashed rows by the op of compositional tables, and the centres' rows beside them."""

    tables: Sequence[CCE]

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        self.pointers = Constants()
        if self.count == 1:
            return  # its own
        parts = [table.pointers["words"] for table in self.tables]
        lengths = [len(part) for part in parts]
        self.pointers.put("words", torch.cat(parts))
        self._give_parts(list(self.tables))
        starts = itertools.accumulate(lengths[:-1], initial=0)
        numbers = [(*table.numbers(), 32 * start) for table, start in zip(self.tables, starts)]
        for name, values in zip(_NUMBERS, zip(*numbers)):
            self.integers[name] = values
        self.integers["centre_offsets"] = [table.row_offset_in("centres") for table in self.tables]

    def _give_parts(self, tables: list[Compressor]) -> None:
        super()._give_parts(tables)
        if "words" in vars(self).get("pointers", ()):  # not yet there while constants are
            members = cast("list[CCE]", tables)
            lengths = [len(table.pointers["words"]) for table in members]
            for table, part in zip(members, self.pointers["words"].split(lengths)):
                table.pointers.put("words", part)

    def rows(self, ids: Tensor) -> Tensor:
        """See `TableGroup.rows`."""
        return super().rows(ids) + self._centres(ids.long(), slice(None))

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """See `TableGroup.bags`."""
        centres = self._centres(ids.long(), self._tables_of(offsets, ids.shape[0]))
        pooled = pool(centres, offsets, weights, self.first.mode == "mean")
        return super().bags(ids, offsets, weights) + self._by_bag(pooled)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        """See `TableGroup.lookups`."""
        return super().lookups(ids, tables) + self._centres(ids.long(), tables)

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        """See `TableGroup.assemble`."""
        chunks = torch.arange(self.first.parts, device=ids.device)
        return super().assemble(ids, tables, take) + take("centres", self._pointed(ids, tables), chunks).flatten(-2)

    def _centres(self, ids: Tensor, tables: Tensor | slice) -> Tensor:
        """The centres' rows of checked ids int64, `(…, D)`, of one table each."""
        table: CCE = self.first
        if self.count == 1:
            index = self._pointed(ids, tables) + table.row_offset_in("centres")
        else:
            offsets = self.integers.on(ids.device, "centre_offsets")[tables].unsqueeze(-1)
            index = self._pointed(ids, tables) + offsets
        return F.embedding(index, table.whole("centres"), sparse=table.sparse).flatten(-2)

    def _pointed(self, ids: Tensor, tables: Tensor | slice) -> Tensor:
        """Which of their table's centres the chunks of these rows are, `(…, parts)`."""
        table: CCE = self.first
        if self.count == 1:
            return pointed(ids, table.parts, table.pointers.on(ids.device, "words"), *table.numbers())
        numbers = (self.integers.on(ids.device, name)[tables].unsqueeze(-1) for name in _NUMBERS)
        return pointed(ids, table.parts, self.pointers.on(ids.device, "words"), *numbers)
