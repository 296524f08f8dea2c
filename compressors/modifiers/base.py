"""`Modifier`: what wraps a compressed table and changes how it is trained or served, as in `robe+bf16`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.cells import Cells
from embpress.compressors.errors import InputError
from embpress.compressors.group import TableGroup, group_of
from embpress.compressors.ledger import Entry, Ledger

if TYPE_CHECKING:
    from embpress.compressors.trained_table import DenseRows


class ModifierGroup(TableGroup):
    """Tables whose modifier leaves training alone: the group of the tables inside answers."""

    tables: Sequence[Modifier]

    def __init__(
        self,
        tables: Iterable[Compressor],
        names: Sequence[str] = (),
        inner: TableGroup | None = None,
        *,
        alone: bool = False,
    ) -> None:
        super().__init__(tables, names, alone=alone)
        if not alone:
            inside = [table.table for table in self.tables]
            self._modules["inner"] = inner or group_of(inside, names)
            for table, own in zip(self.tables, inside):  # they are children of the group inside
                table._modules.pop("table", None)
                table.__dict__["table"] = own
        self.checks_ids = self.inner.checks_ids  # type: ignore[misc]

    @property
    def inner(self) -> TableGroup:
        """The group of the tables inside."""
        inner: Any = self._modules.get("inner")
        return self.first.table.alone if inner is None else inner

    def forward(self, ids: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """See `TableGroup.forward`."""
        return self.inner(ids, offsets, weights)

    def answer(self, ids: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `TableGroup.answer`; by `forward`, which is what a subclass overrides."""
        return self(ids, weights=weights)

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        """As the group inside."""
        return self.inner.assemble(ids, tables, take)

    def take(self, tables: Tensor) -> Take:
        """As the group inside."""
        return self.inner.take(tables)

    def routing_bytes(self) -> int:
        """Those of the group inside."""
        return self.inner.routing_bytes()

    def fold(self) -> TableGroup | list[Compressor]:
        """What the group inside folds to."""
        return self.inner.fold()


class Modifier(Compressor):
    """A table that another compressor holds; while it trains it is that table.

    A modifier subclasses it, registers itself, and overrides what it changes: lookups, or `fold` and `_serving` for how
    the table is served. In a model its tables are asked one by one; a `group` of its own makes that one call
    (`ModifierGroup` where training is left alone).

    Args:
        table: what it wraps, a method's table or another modifier.

    Class attributes:
        at_fold: `fold()` alone applies it, and until then lookups are those of the table inside: comparisons then
            measure a model before and after it. A table whose knob brings it into training says False.
        baseline: plain tables with it are still what people have without a compression method, as those of few bits.
        served_error: the most that a served element may differ from the trained one, relative to the row's largest.
        everywhere: goes around the tables that stay full, too.
    """

    at_fold: bool = False
    baseline: ClassVar[bool] = False
    served_error: ClassVar[float] = 0.0
    everywhere: ClassVar[bool] = False
    modifier_name: ClassVar[str] = ""  # set by @register_modifier
    get_extra_state = nn.Module.get_extra_state  # the table inside has one
    set_extra_state = nn.Module.set_extra_state
    table: Compressor

    def __init__(self, table: Compressor) -> None:
        options: dict[str, Any] = {
            name: getattr(table, name) for name in ("mode", "include_last_offset", "padding_idx")
        }
        super().__init__(table.num_embeddings, table.embedding_dim, **options)
        self.table, self.sparse = table, table.sparse

    @property
    def tags(self) -> Any:  # type: ignore[override]
        """Those of the table inside."""
        return self.table.tags

    @property
    def spec_name(self) -> str:  # type: ignore[override]
        """The method inside."""
        return self.table.spec_name

    @property
    def modifiers(self) -> tuple[str, ...]:  # type: ignore[override]
        """This one as written in a spec, after those inside."""
        knobs = "".join(f":{name}={value}" for name, value in self.own_knobs().items())
        return *self.table.modifiers, f"{self.modifier_name}{knobs}"

    def own_knobs(self) -> dict[str, Any]:
        """The modifier's own keywords as resolved."""
        return {}

    def knobs(self) -> dict[str, Any]:
        """Those of the method inside."""
        return self.table.knobs()

    @property
    def backend(self) -> str:
        """What answers the table inside."""
        return self.table.backend

    @property
    def device(self) -> torch.device:
        """Device of the table inside."""
        return self.table.device

    @property
    def row_dtype(self) -> torch.dtype:
        """Of the rows that come out."""
        return self.table.row_dtype

    @property
    def itemsize(self) -> int:
        """Bytes of one parameter element of the table inside."""
        return self.table.itemsize

    def group_key(self) -> tuple[Any, ...]:
        """Modified alike, around tables that go together."""
        return type(self), *self.own_knobs().items(), *self.table.group_key()

    def fold(self) -> Compressor:
        """What the table inside folds to: a modifier that changes what is served overrides it, as its group does."""
        return self.table.fold()

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draws those of the table inside."""
        self.table.reset_parameters(generator)

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """See `Compressor.forward`."""
        return self.table(input, offsets, per_sample_weights)

    def lookup(self, ids: Tensor) -> Tensor:
        """See `Compressor.lookup`."""
        return self.table.lookup(ids)

    def _lookup(self, ids: Tensor) -> Tensor:
        return self.table._lookup(ids)

    def arrays(self) -> tuple[Array, ...]:
        """Those of the table inside, where lookups are its own; else a modifier says what is read, or is refused."""
        if type(self)._lookup is not Modifier._lookup:
            raise InputError(f"+{self.modifier_name} does not say which arrays its lookups read")
        return self.table.arrays()

    def cells(self, ids: Tensor) -> Cells:
        """Those of the table inside; the ids that a modifier keeps uncompressed have none there."""
        found = self.table.cells(ids)
        kept = None if type(self).uncompressed is Modifier.uncompressed else self.uncompressed(ids)
        return found if kept is None else found.without(kept)

    def array(self, name: str) -> Tensor:
        """Of the table inside."""
        return self.table.array(name)

    def replace_array(self, name: str, parameter: nn.Parameter) -> None:
        """Of the table inside."""
        self.table.replace_array(name, parameter)

    def assembly_key(self) -> tuple[Any, ...]:
        """As the table inside."""
        return self.table.assembly_key()

    @property
    def row_parameters(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the table inside."""
        return self.table.row_parameters

    def start_from(self, weight: DenseRows) -> None:
        """Takes what the modifiers keep of a trained table themselves, once the table inside is near it."""
        if isinstance(self.table, Modifier):
            self.table.start_from(weight)

    def uncompressed(self, ids: Tensor) -> Tensor | None:
        """See `Compressor.uncompressed`."""
        return self.table.uncompressed(ids)

    def begin_training(self, steps: int, epochs: int) -> None:
        """See `Compressor.begin_training`."""
        self.table.begin_training(steps, epochs)

    def maintain(self, step: int | None = None) -> dict[str, Tensor]:
        """See `Compressor.maintain`."""
        return self.table.maintain(step)

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """Those of the table inside, by their names there."""
        return self.table.parameters_by_name()

    def ledger(self, optimizer: str | None = None, batch_size: int | None = None) -> Ledger:
        """See `Compressor.ledger`: it trains as the table inside."""
        return Ledger(self._serving(), self.table.ledger(optimizer, batch_size).training)

    def _own_parameters(self) -> dict[str, Tensor]:
        return self.table._own_parameters()

    def _weights(self) -> list[Entry]:
        return self.table._weights()

    def _serving(self) -> list[Entry]:
        return self.table._serving()
