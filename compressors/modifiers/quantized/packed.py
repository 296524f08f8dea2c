"""What `+int8` serves: a folded table whose arrays are codes and ranges, decoded row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.by_recipe import Arrays, Stores, recipe_of
from embpress.compressors.modifiers.in_codes import InCodes, InCodesGroup
from embpress.compressors.modifiers.quantized import store
from embpress.kernels.recipes import Form, Store

_FORMS = {"column": Form.COLUMNS, "row": Form.ROWS, "block": Form.BLOCKS}

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
        # what lies behind them: a cast may change the parameters themselves
        known = {name: one for name, one in self._parameters.items() if one is not None and one.dtype == torch.bfloat16}
        kept = {name: one.detach() for name, one in known.items()}
        super()._apply(fn, recurse)
        for name, one in kept.items():
            made = self._parameters[name]
            if made is not None and made.dtype != one.dtype:
                self._parameters[name] = nn.Parameter(one.to(made.device), requires_grad=False)
        return self


class PackedGroup(_Uncast, InCodesGroup):
    """Takes rows of arrays by their codes and ranges."""

    tables: Sequence[Packed]

    def _take_over(self, tables: list[Compressor]) -> None:
        super()._take_over(tables)
        if len(tables) > 1:
            for array in self.first.packed:
                for name in (codes_name(array), ranges_name(array)) if array.shared else ():
                    self._share(name, tables)

    def recipe(self, t: int, stores: Stores, arrays: Arrays) -> Any:
        """As the group inside."""
        return recipe_of(self.inner, t, stores, arrays)

    def store(self, name: str, t: int, arrays: Arrays) -> tuple[Store, int]:
        """The codes; of what was codes already inside, what the group inside keeps."""
        table = self.tables[t]
        array = next((array for array in table.packed if array.name == name), None)
        if array is None:
            return self.inner.store(name, t, arrays)
        names = codes_name(array), ranges_name(array)
        (number, codes), (ranges, _) = (
            arrays.parameter(table.__dict__["_group"] if own in table._adopted else table, own) for own in names
        )
        first, first_range = (table.row_offset_in(own) for own in names)
        begin = first * (codes.shape[1] if codes.dim() == 2 else 1)
        return Store(_FORMS[array.ranges], number, ranges, table.bits, first_range, begin), 0

    def take(self, tables: Tensor) -> Take:
        """Decoded rows."""
        arrays = {array.name: array for array in self.first.packed}
        lookups = tables

        def taken(name: str, index: Tensor, segment: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
            tables = lookups if tables is None else tables
            array = arrays[name]
            codes, ranges = (self.kept(own(array)) for own in (codes_name, ranges_name))
            starts = None
            if self.count > 1 and not array.shared:
                names = codes_name(array), ranges_name(array)
                starts = tuple(self.integers.on(index.device, own)[tables] for own in names)
            return store.rows_of(array, codes, ranges, self.first.bits, index, segment, starts)

        return taken


class Packed(_Uncast, InCodes):
    """A folded table whose arrays are kept in few bits.

    Args:
        table: the folded table, whose arrays are let go of.
        packs: codes and ranges of each array.
        name: of the modifier.
        bits: of a code.
        own: the modifier's knobs.
    """

    group = PackedGroup

    def __init__(
        self, table: Compressor, packs: Mapping[Array, Pack], name: str, bits: int, own: Mapping[str, Any]
    ) -> None:
        parameters: dict[str, nn.Parameter] = {}
        for array, (codes, ranges) in packs.items():
            parameters |= {codes_name(array): codes, ranges_name(array): ranges}
        super().__init__(table, parameters, name, own)
        self.packed, self.bits = tuple(packs), bits

    @property
    def stacked(self) -> tuple[str, ...]:  # type: ignore[override]
        """Codes and ranges of what each table has of its own."""
        return tuple(own(array) for array in self.packed if not array.shared for own in (codes_name, ranges_name))

    def group_key(self) -> tuple[Any, ...]:
        """Arrays of one form, put together alike."""
        forms = tuple((array.name, array.width, len(array.parts), array.ranges) for array in self.packed)
        return *super().group_key(), self.bits, forms

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

    def _owner(self, name: str) -> int | None:
        shared = any(name in (codes_name(array), ranges_name(array)) for array in self.packed if array.shared)
        return id(self.whole(name)) if shared else None
