"""A folded table whose arrays are codes: rows are decoded as they are looked up, nothing is ever written out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.group import TableGroup
from embpress.compressors.ledger import Entry, Ledger
from embpress.compressors.modifiers.base import Modifier, ModifierGroup
from embpress.compressors.modifiers.quantized import store

Pack = tuple[nn.Parameter, nn.Parameter]  # codes and ranges


def codes_name(array: Array) -> str:
    """The parameter that holds the codes of an array."""
    return f"{array.name.replace('.', '_')}_codes"


def ranges_name(array: Array) -> str:
    """The parameter that holds its ranges."""
    return f"{array.name.replace('.', '_')}_ranges"


class _Uncast(nn.Module):
    """A module whose ranges no cast reaches: half precision has no steps as small as tables do."""

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        kept = {name: one for name, one in self._parameters.items() if one is not None and one.dtype == torch.bfloat16}
        super()._apply(fn, recurse)
        for name, one in kept.items():
            made = self._parameters[name]
            if made is not None and made.dtype != one.dtype:
                self._parameters[name] = nn.Parameter(one.to(made.device), requires_grad=False)
        return self


class PackedGroup(_Uncast, ModifierGroup):
    """The tables' own way of putting rows together, from rows that are decoded."""

    tables: Sequence[Packed]

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        self.checks_ids = False  # type: ignore[misc]
        if self.count > 1:
            for array in self.first.packed:
                for name in (codes_name(array), ranges_name(array)):
                    self.integers[name] = [table.row_offset_in(name) for table in self.tables]

    def _take_over(self, tables: list[Compressor]) -> None:
        super()._take_over(tables)
        if len(tables) > 1:
            for array in self.first.packed:
                for name in (codes_name(array), ranges_name(array)) if array.shared else ():
                    self.register_parameter(name, self.first._parameters[name])
                    for table in tables:
                        table.adopt(self, name, None)

    forward = TableGroup.forward
    answer = TableGroup.answer
    routing_bytes = TableGroup.routing_bytes

    def rows(self, ids: Tensor) -> Tensor:
        """See `TableGroup.rows`."""
        tables = torch.arange(self.count, device=ids.device).repeat(len(ids))
        return self.lookups(ids.reshape(-1), tables).view(len(ids), self.count, self.first.embedding_dim)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        """See `TableGroup.lookups`."""
        return self.inner.assemble(ids.long(), tables, self.take(tables)).to(self.first.row_dtype)

    def take(self, tables: Tensor) -> Take:
        """Decoded rows."""
        arrays = {array.name: array for array in self.first.packed}
        part = self.first.own if self.count == 1 else self.first.whole
        lookups = tables

        def taken(name: str, index: Tensor, segment: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
            tables = lookups if tables is None else tables
            array = arrays[name]
            codes, ranges = (part(own(array)) for own in (codes_name, ranges_name))
            starts = None
            if self.count > 1 and not array.shared:
                first, range_first = (
                    self.integers.on(index.device, own(array))[tables].view(-1, *[1] * (index.dim() - 1))
                    for own in (codes_name, ranges_name)
                )
                starts = first, range_first
            return store.rows_of(array, codes, ranges.float(), self.first.bits, index, segment, starts)

        return taken

    def fold(self) -> TableGroup:
        """Itself."""
        return self


class Packed(_Uncast, Modifier):
    """A folded table whose arrays are kept in few bits.

    Args:
        table: the folded table, whose arrays are let go of.
        packs: codes and ranges of each array.
        name: of the modifier.
        bits: of a code.
        own: the modifier's knobs.
    """

    group = PackedGroup
    forward = Compressor.forward
    lookup = Compressor.lookup
    _lookup = Compressor._lookup
    parameters_by_name = Compressor.parameters_by_name
    _own_parameters = Compressor._own_parameters

    def __init__(
        self, table: Compressor, packs: Mapping[Array, Pack], name: str, bits: int, own: Mapping[str, Any]
    ) -> None:
        super().__init__(table)
        self.packed, self.bits, self._knobs = tuple(packs), bits, dict(own)
        self.modifier_name = name  # type: ignore[misc] # one class for all widths
        self._dtype = table.row_dtype
        for array, (codes, ranges) in packs.items():
            self.register_parameter(codes_name(array), codes)
            self.register_parameter(ranges_name(array), ranges)
        self.eval()

    @property
    def stacked(self) -> tuple[str, ...]:  # type: ignore[override]
        """Codes and ranges of what each table has of its own."""
        return tuple(own(array) for array in self.packed if not array.shared for own in (codes_name, ranges_name))

    def own_knobs(self) -> dict[str, Any]:
        """As given."""
        return self._knobs

    @property
    def row_dtype(self) -> torch.dtype:
        """That of the table which was trained."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Of the codes."""
        return self.whole(codes_name(self.packed[0])).device

    def group_key(self) -> tuple[Any, ...]:
        """Arrays of one form, put together alike."""
        forms = tuple((array.name, array.width, len(array.parts), array.ranges) for array in self.packed)
        return *super().group_key(), self.bits, forms, self.table.assembly_key(), self._dtype

    def arrays(self) -> tuple[Array, ...]:
        """None is left."""
        return ()

    def fold(self) -> Compressor:
        """The same once more, on the same memory."""
        packs = {
            array: tuple(nn.Parameter(self.own(own(array)), requires_grad=False) for own in (codes_name, ranges_name))
            for array in self.packed
        }
        return Packed(self.table.fold(), packs, self.modifier_name, self.bits, self._knobs)  # type: ignore[arg-type]

    def ledger(self, optimizer: str | None = None, batch_size: int | None = None) -> Ledger:
        """See `Compressor.ledger`; nothing is trained."""
        return Ledger(self._serving(), self._weights())

    def _serving(self) -> list[Entry]:
        return self._weights()

    def _weights(self) -> list[Entry]:
        own = self._own_parameters()
        entries = [Entry(name, own[name].nbytes, self._owner(name)) for name in own if "." not in name]
        return entries + self.table._serving()

    def _owner(self, name: str) -> int | None:
        shared = any(name in (codes_name(array), ranges_name(array)) for array in self.packed if array.shared)
        return id(self.whole(name)) if shared else None
