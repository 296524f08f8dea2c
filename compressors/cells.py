"""`Cells`: which stored cells make the rows of ids, whatever the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from embpress.compressors.arrays import Array
from embpress.compressors.errors import InputError

if TYPE_CHECKING:
    from embpress.compressors.base import Compressor


@dataclass(frozen=True)
class CellPart:
    """One of the pieces that a row is made of: `span` neighbouring rows of an array.

    Attributes:
        array: what `Compressor.arrays` calls it.
        size: rows of the array.
        span: how many of its rows in a row; 1 but for a flat array.
        lowest, places: where a function drawn at random would let the piece begin, at `lowest … lowest + places - 1`;
            None where it is no function's choice, since the array has a row for each id.
    """

    array: str
    size: int
    span: int = 1
    lowest: int = 0
    places: int | None = None


@dataclass(frozen=True)
class Cells:
    """Which stored cells the rows of N ids are made of.

    Attributes:
        parts: the P pieces of a row; none where a row is computed from all that is stored.
        first: `(N, P)` int64, where each piece begins in its array; -1 where an id's row has no such piece.
        rows: `(N, Q)` int64, in which two ids agree if and only if they have one row; `first` where it is the same.
        chance: with which two ids have one row under a function drawn at random; None where no piece is drawn.
        memory: tables that read one array together agree in it; None where nothing is shared with other tables.
    """

    parts: tuple[CellPart, ...]
    first: Tensor
    rows: Tensor
    chance: float | None
    memory: int | None = None

    @classmethod
    def of(cls, parts: Sequence[CellPart], first: Tensor, memory: int | None = None) -> Cells:
        """Pieces in this order, each drawn by itself: a row is the same where all pieces are."""
        chance: float | None = None
        for part in parts:
            if part.places is not None:
                chance = (1.0 if chance is None else chance) / part.places
        return cls(tuple(parts), first, first, chance, memory)

    def without(self, ids: Tensor) -> Cells:
        """None for the ids, `(N,)` bool, whose rows are kept elsewhere as they are."""
        return replace(self, first=self.first.masked_fill(ids.unsqueeze(1), -1))


def taken(table: Compressor, ids: Tensor) -> Cells:
    """What the group's `assemble` takes from the arrays for these ids; see `Compressor.cells`.

    Arrays that all lookups read whole are no cells of a row.
    """
    arrays = {array.name: array for array in table.arrays()}
    parts: list[CellPart] = []
    columns: list[Tensor] = []

    def take(name: str, index: Tensor, segment: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
        array = arrays[name]
        if not array.for_all and tables is None:
            each = index.reshape(len(ids), -1)
            segments = None if segment is None else segment.expand(index.shape[1:]).reshape(-1).tolist()
            own = array.table or (array.rows == table.num_embeddings and torch.equal(each, ids.unsqueeze(1)))
            parts.extend(_part(array, None if segments is None else segments[p], own) for p in range(each.shape[1]))
            columns.append(each)
        return torch.zeros(*index.shape, array.width, device=ids.device)

    try:
        table.alone.assemble(ids, torch.zeros_like(ids), take)
    except TypeError:  # a group that puts nothing together
        raise InputError(f"{table.spec_name or type(table).__name__} does not say which cells make its rows") from None
    memory = next((id(table.array(array.name)) for array in arrays.values() if array.shared), None)
    return Cells.of(parts, torch.cat(columns, dim=1) if columns else ids.new_empty(len(ids), 0), memory)


def _part(array: Array, segment: int | None, own: bool) -> CellPart:
    if own:
        return CellPart(array.name, array.rows)
    lowest, places = (0, array.rows) if segment is None else (sum(array.segments[:segment]), array.segments[segment])
    return CellPart(array.name, array.rows, 1, lowest, places)
