"""`InCodes`: a folded table that keeps codes instead of floats, and the group that answers for many of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from embpress.compressors.base import Compressor
from embpress.compressors.group import TableGroup
from embpress.compressors.ledger import Entry, Ledger
from embpress.compressors.modifiers.base import Modifier, ModifierGroup


class InCodesGroup(ModifierGroup):
    """The tables' own way of putting rows together, from rows that are decoded."""

    tables: Sequence[InCodes]

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        self.checks_ids = False  # type: ignore[misc]
        if self.count > 1:
            for name in self.first.kept:
                self.integers[name] = [table.row_offset_in(name) for table in self.tables]

    forward = TableGroup.forward
    answer = TableGroup.answer
    routing_bytes = TableGroup.routing_bytes

    def rows(self, ids: Tensor) -> Tensor:
        """See `TableGroup.rows`."""
        tables = torch.arange(self.count, device=ids.device).repeat(ids.shape[0])
        return self.lookups(ids.reshape(-1), tables).view(ids.shape[0], self.count, self.first.embedding_dim)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        """See `TableGroup.lookups`."""
        return self.assemble(ids.long(), tables, self.take(tables)).to(self.first.row_dtype)

    def kept(self, name: str) -> Tensor:
        """A parameter, of all the tables."""
        kept: Tensor = (self.first.own if self.count == 1 else self.first.whole)(name)
        return kept

    def of_each(self, name: str, tables: Tensor, index: Tensor) -> Tensor:
        """A number of each lookup's table, which broadcasts against the index `(N, …)`: where its rows start."""
        return self.integers.on(index.device, name)[tables].view(-1, *[1] * (index.dim() - 1))

    def fold(self) -> TableGroup:
        """Itself."""
        return self


class InCodes(Modifier):
    """A folded table, of whose arrays this holds codes.

    Args:
        table: the folded table, whose arrays are let go of.
        parameters: what is kept, by name.
        name: of the modifier.
        own: the modifier's knobs.
    """

    group = InCodesGroup
    forward = Compressor.forward
    lookup = Compressor.lookup
    _lookup = Compressor._lookup
    parameters_by_name = Compressor.parameters_by_name
    _own_parameters = Compressor._own_parameters

    def __init__(
        self, table: Compressor, parameters: Mapping[str, torch.nn.Parameter], name: str, own: Mapping[str, Any]
    ) -> None:
        super().__init__(table)
        self.kept, self._knobs = tuple(parameters), dict(own)
        self.modifier_name = name  # type: ignore[misc] # one class may serve several modifiers
        self._dtype = table.row_dtype
        for parameter_name, parameter in parameters.items():
            self.register_parameter(parameter_name, parameter)
        self.eval()

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
        return self.whole(self.kept[0]).device

    def group_key(self) -> tuple[Any, ...]:
        """Rows of one dtype, put together alike."""
        return *super().group_key(), self.table.assembly_key(), self._dtype

    def ledger(self, optimizer: str | None = None, batch_size: int | None = None) -> Ledger:
        """See `Compressor.ledger`; nothing is trained."""
        return Ledger(self._serving(), self._weights())

    def _serving(self) -> list[Entry]:
        return self._weights()

    def _weights(self) -> list[Entry]:
        own = {name: self.own(name) for name in self.kept}
        entries = [
            Entry(name, t.nbytes, self._owner(name), t.element_size() * t.is_floating_point())
            for name, t in own.items()
        ]
        return entries + self.table._serving()
