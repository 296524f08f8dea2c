"""`+int8`, `+int4`, `+int2`: served in so many bits an element, codes of ranges fitted by least squares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from embpress.compressors.arrays import Array
from embpress.compressors.bags import without_values
from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.ledger import Entry, Ledger, optimizer_bytes
from embpress.compressors.modifiers.base import Modifier, ModifierGroup
from embpress.compressors.modifiers.quantized import learned, rowwise, store
from embpress.compressors.modifiers.quantized.packed import Pack, Packed, codes_name, ranges_name
from embpress.compressors.registry import register_modifier

BY = ("column", "row")

# ranges that are learned of arrays which several tables share, by the array and the modifier's name
_LEARNED: WeakIdKeyDictionary = WeakIdKeyDictionary()

# codes of arrays that several tables share, so that they go on sharing them: by the array that was trained
_SHARED: WeakIdKeyDictionary = WeakIdKeyDictionary()


def learned_name(array: Array) -> str:
    """The parameter of an array's learned ranges."""
    return f"{array.name.replace('.', '_')}_learned"


class _QuantizedGroup(ModifierGroup):
    """Each table becomes codes; they are put together again. With learned ranges rows are looked up through codes."""

    tables: Sequence[Quantized]

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        if self.first.learns:
            self.checks_ids = False  # type: ignore[misc]

    def _take_over(self, tables: list[Compressor]) -> None:
        super()._take_over(tables)
        if len(tables) > 1 and self.first.learns:
            for array in self.first.arrays_in_codes():
                if array.shared:
                    self._share(learned_name(array), tables)

    def forward(self, ids: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """See `TableGroup.forward`."""
        if not self.first.learns:
            return super().forward(ids, offsets, weights)
        return TableGroup.forward(self, ids, offsets, weights)

    def answer(self, ids: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `TableGroup.answer`."""
        return TableGroup.answer(self, ids, weights) if self.first.learns else super().answer(ids, weights)

    def rows(self, ids: Tensor) -> Tensor:
        """See `TableGroup.rows`."""
        if not self.first.learns:
            return self.inner.rows(ids)
        tables = torch.arange(self.count, device=ids.device).repeat(ids.shape[0])
        return self.lookups(ids.reshape(-1), tables).view(ids.shape[0], self.count, self.first.embedding_dim)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        """See `TableGroup.lookups`."""
        if not self.first.learns:
            return self.inner.lookups(ids, tables)
        arrays = {array.name: array for array in self.first.arrays_in_codes()}
        part = self.first.own if self.count == 1 else self.first.whole
        take = learned.taken(
            arrays,
            self.inner.take(tables),
            {name: part(learned_name(array)) for name, array in arrays.items()},
            self.first.bits,
            tables if self.count > 1 else None,
        )
        return self.inner.assemble(ids.long(), tables, take)

    def fold(self) -> TableGroup | list[Compressor]:
        return [table.fold() for table in self.tables]


class Quantized(Modifier):
    """`fold()` keeps every array as codes of a few bits: `w ≈ lo + step · code`.

    Lo and step are those of a column of a table (of each part table where rows are put together from parts), of 64
    elements of ROBE's array, of a row digit's slice of a TT core. They are fitted by least squared error, a column's
    with the rows' squared lengths as weights, and values beyond them are clipped; kept in bfloat16, they count among
    the bytes. Small tables that stay full are kept in so many bits too.

    Args:
        table: what it wraps.
        by: `column` (default), or `row`: each row of a table has a range of its own. Rows of `full` and `mlet` then
            have FBGEMM's layout, with the range behind the codes (in float32 with 8 bits, in float16 with fewer), and
            torch's quantized embedding bags look up in them on the CPU.
        train: train in so many bits too: rows are looked up through their codes, gradients pass the rounding, and the
            ranges are learned (Esser et al. 2020, LSQ, with a zero point). Call `maintain` after each backward: at the
            powers of two of its calls ranges start anew from what the table holds.
    """

    at_fold = True
    baseline: ClassVar[bool] = True
    bits: ClassVar[int] = 8
    everywhere: ClassVar[bool] = True
    remembers: ClassVar[tuple[str, ...]] = ("_steps",)
    group = _QuantizedGroup

    def __init__(self, table: Compressor, *, by: str = "column", train: bool = False) -> None:
        super().__init__(table)
        if by not in BY:
            raise InputError(f"{self.modifier_name}: by={by!r} is not one of {', '.join(BY)}")
        self.by = by
        if not table.arrays():
            raise InputError(f"{self.modifier_name}: of what {'+'.join(table.modifiers)} serves all are codes already")
        if train and table.tags.fused_update:
            raise InputError(f"{self.modifier_name}: {table.spec_name} updates itself, it cannot train through codes")
        if train and any(array.moves for array in table.arrays()):
            raise InputError(
                f"{self.modifier_name}: rows that are chosen in training cannot train through codes: write "
                f"+{self.modifier_name}:train=true before what chooses them"
            )
        self.learns, self.at_fold, self._steps = train, not train, 0
        for array in self.arrays_in_codes() if train else ():
            self.register_parameter(learned_name(array), self._learned(array))
        if train:
            self.fit_ranges()

    def own_knobs(self) -> dict[str, Any]:
        """What is not as by default."""
        return ({} if self.by == "column" else {"by": self.by}) | ({"train": True} if self.learns else {})

    @property
    def stacked(self) -> tuple[str, ...]:  # type: ignore[override]
        """Learned ranges of what each table has of its own."""
        if not self.learns:
            return ()
        return tuple(learned_name(array) for array in self.arrays_in_codes() if not array.shared)

    def group_key(self) -> tuple[Any, ...]:
        """With learned ranges, what can be put together at once."""
        if not self.learns:
            return super().group_key()
        arrays = self.arrays_in_codes()
        forms = tuple((array.name, array.width, len(array.parts), array.ranges) for array in arrays)
        # rows of what no group stacks are taken from one table
        own = any(not array.shared and array.ranges != "column" for array in arrays)
        return *super().group_key(), forms, self.table.assembly_key(), id(self) if own else 0

    # --- with learned ranges ------------------------------------------------------------------------------------------

    def _learned(self, array: Array) -> nn.Parameter:
        """The parameter of an array's ranges; one for all tables that share the array."""
        source = self.table.array(array.name) if array.shared else None
        known: dict[str, nn.Parameter] = {} if source is None else _LEARNED.setdefault(source, {})
        if self.modifier_name in known:
            return known[self.modifier_name]
        shape = learned.learned_shape(array, self.bits)
        dtype = torch.promote_types(torch.float32, self.table.row_dtype)
        known[self.modifier_name] = nn.Parameter(torch.zeros(shape, device=self.table.device, dtype=dtype))
        return known[self.modifier_name]

    @torch.no_grad()
    def fit_ranges(self) -> None:
        """Makes the learned ranges those of what the table holds now."""
        zeros = torch.zeros(1, dtype=torch.int64, device=self.device)
        if without_values(zeros):
            return
        inner: TableGroup = self.table.alone
        take = inner.take(zeros)
        for array in self.arrays_in_codes():
            ranges = learned.fitted(array, take, self.bits, self.device)
            self.own(learned_name(array)).copy_(learned.from_fitted(array, ranges))

    @property
    def tags(self) -> Any:  # type: ignore[override]
        """Those of the table inside; learned ranges are maintained."""
        return replace(self.table.tags, maintain=True, straight_through=True) if self.learns else self.table.tags

    def maintain(self, step: int | None = None) -> dict[str, Tensor]:
        """Lets ranges start anew at the powers of two of its calls; see `Compressor.maintain`.

        Tables start small and grow by orders of magnitude, which a learning rate does not follow.
        """
        self._steps += 1
        if self.learns and self._steps & (self._steps - 1) == 0:
            self.fit_ranges()
        return super().maintain(step)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draws those of the table inside."""
        super().reset_parameters(generator)
        if self.learns:
            self.fit_ranges()

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """See `Compressor.forward`."""
        answer = Compressor.forward if self.learns else Modifier.forward
        return answer(self, input, offsets, per_sample_weights)

    def lookup(self, ids: Tensor) -> Tensor:
        """See `Compressor.lookup`."""
        return Compressor.lookup(self, ids) if self.learns else super().lookup(ids)

    def _lookup(self, ids: Tensor) -> Tensor:
        return Compressor._lookup(self, ids) if self.learns else super()._lookup(ids)

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """Those of the table inside, and the learned ranges."""
        own = {learned_name(a): self.whole(learned_name(a)) for a in self.arrays_in_codes()} if self.learns else {}
        return {**super().parameters_by_name(), **own}  # type: ignore[dict-item]

    def _own_parameters(self) -> dict[str, Tensor]:
        own = {learned_name(a): self.own(learned_name(a)) for a in self.arrays_in_codes()} if self.learns else {}
        return {**super()._own_parameters(), **own}

    def ledger(self, optimizer: str | None = None, batch_size: int | None = None) -> Ledger:
        """See `Compressor.ledger`."""
        whole = super().ledger(optimizer, batch_size)
        if self.learns:
            kept = batch_size and Entry("activations", batch_size * self._bytes_through_codes())
            whole.training = [
                replace(entry, bytes=entry.bytes + kept.bytes) if kept and entry.name == kept.name else entry
                for entry in whole.training + self._learned_entries(optimizer)
            ]
        return whole

    def _bytes_through_codes(self) -> int:
        """Of one lookup's values, their codes before and after rounding, and the ranges' rows, about."""
        arrays = [array for array in self.arrays_in_codes() if not array.for_all]
        return sum(
            56 * self.embedding_dim if a.ranges == "block" else 24 * a.width * len(a.parts) * a.several for a in arrays
        )

    def _learned_entries(self, optimizer: str | None = None) -> list[Entry]:
        entries = []
        for array in self.arrays_in_codes():
            name = learned_name(array)
            own, owner = self.own(name), id(self.whole(name)) if array.shared else None
            entries += [Entry(name, own.nbytes, owner), Entry(f"gradient of {name}", own.nbytes, owner and ~owner)]
            state = optimizer_bytes(optimizer, own.numel(), own.numel(), own.element_size())
            entries += [Entry(f"{optimizer} state of {name}", state, owner and owner << 1)] if state else []
        return entries

    def _weights(self) -> list[Entry]:
        own = [e for e in self._learned_entries() if not e.name.startswith("gradient")] if self.learns else []
        return self.table._weights() + own

    # --- serving ------------------------------------------------------------------------------------------------------

    def arrays(self) -> tuple[Array, ...]:
        """None is left."""
        return ()

    def arrays_in_codes(self) -> tuple[Array, ...]:
        """The arrays with the ranges that they get here."""
        return tuple(
            replace(array, ranges="row", segments=()) if self.by == "row" and array.ranges == "column" else array
            for array in self.table.arrays()
        )

    def fold(self) -> Compressor:
        """The table inside, folded and in codes."""
        folded = self.table.fold()
        if self._rowwise():
            return self._in_rows(folded)
        packs = {array: self._pack(array, folded) for array in self.arrays_in_codes()}
        return Packed(folded, packs, self.modifier_name, self.bits, self.own_knobs())

    def _rowwise(self) -> bool:
        """Whether rows keep their ranges behind them; learned ranges are served exactly as they were trained."""
        return not self.learns and rowwise.fits(self.arrays_in_codes(), self.bits)

    def _in_rows(self, folded: Compressor) -> Compressor:
        (array,) = self.arrays_in_codes()
        trained = folded.array(array.name)
        with torch.inference_mode(False), torch.no_grad():
            rows = nn.Parameter(rowwise.quantize(array, trained.detach(), self.bits), requires_grad=False)
        folded.replace_array(array.name, _nothing(trained))
        return rowwise.Rowwise(folded, array, rows, self.modifier_name, self.bits, self.own_knobs())

    def _pack(self, array: Array, folded: Compressor) -> Pack:
        """Codes and ranges of one array, which the folded table lets go of."""
        trained = folded.array(array.name)
        if not array.shared:
            folded.replace_array(array.name, _nothing(trained))
            return self._quantized(array, trained)
        source = self.table.array(array.name)
        made = self.own(learned_name(array))._version if self.learns else 0
        key = self.modifiers[-1], source._version, made
        known = _SHARED.get(source)
        if known is None or known[0] != key:
            known = _SHARED[source] = key, self._quantized(array, trained), _nothing(trained)
        folded.replace_array(array.name, known[2])
        pack: Pack = known[1]
        return pack

    def _quantized(self, array: Array, values: Tensor) -> Pack:
        with torch.inference_mode(False), torch.no_grad():
            values = values.detach()
            if self.learns:
                own = learned.as_ranges(array, self.own(learned_name(array)).detach())
                codes, ranges = store.encode(array, values, own, self.bits), own.bfloat16()
            else:
                codes, ranges = store.quantize(array, values, self.bits)
        return nn.Parameter(codes, requires_grad=False), nn.Parameter(ranges, requires_grad=False)

    def _serving(self) -> list[Entry]:
        entries = {entry.name: entry for entry in self.table._serving()}
        for array in self.arrays_in_codes():
            owner = entries.pop(array.name).owner
            if self._rowwise():
                name = rowwise.rows_name(array)
                entries[name] = Entry(name, _numel(rowwise.shape(array, self.bits)))
                continue
            codes = _numel(store.code_shape(array, self.bits))
            entries[codes_name(array)] = Entry(codes_name(array), codes, owner)
            ranges = 2 * _numel(store.range_shape(array, self.bits))
            entries[ranges_name(array)] = Entry(ranges_name(array), ranges, owner and ~owner)
        return list(entries.values())


def _nothing(trained: Tensor) -> nn.Parameter:
    return nn.Parameter(trained.new_empty(0, *trained.shape[1:]), requires_grad=False)


def _numel(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


@register_modifier("int8")
class Int8(Quantized):
    """Served in 8 bits an element."""

    served_error: ClassVar[float] = 2**-5


@register_modifier("int4")
class Int4(Quantized):
    """Served in 4 bits an element."""

    bits: ClassVar[int] = 4
    served_error: ClassVar[float] = 0.75


@register_modifier("int2")
class Int2(Quantized):
    """Served in 2 bits an element."""

    bits: ClassVar[int] = 2
    served_error: ClassVar[float] = 1.5
