"""`Array`: a matrix that lookups in a served table read rows of, whatever holds it: floats, or codes of a few bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

# rows of an array by its name: `(N, …)` int64, of each lookup's own table, → `(N, …, width)`; and for an array with
# segments, which segment each row lies in, int64 that broadcasts against the index; and where the index is not that of
# the lookups but of `(M, …)` other things, such as tiles, the table of each by the keyword `tables`, `(M,)`
Take = Callable[..., Tensor]


@dataclass(frozen=True)
class Array:
    """A floating point parameter of a served table, as a matrix.

    Attributes:
        name: of the parameter.
        rows, width: its shape as a matrix; the elements of a flat array are rows of width 1.
        ranges: what has a range of values of its own, where it is kept in few bits: each `column`, each `row`, or each
            `block` of 64 elements of a flat array.
        segments: rows of its parts, each of which has column ranges of its own; empty: it is one part.
        shared: all tables of a model hold this one array.
        for_all: all lookups in a table read it whole, such as a projection, not a row each.
        several: rows of one part that a lookup reads.
        moves: its rows come to stand for other ids while it is trained, and fold in another order.
        table: its rows are those of the table, one an id.
    """

    name: str
    rows: int
    width: int
    ranges: Literal["column", "row", "block"] = "column"
    segments: tuple[int, ...] = ()
    shared: bool = False
    for_all: bool = False
    several: int = 1
    moves: bool = False
    table: bool = False

    @property
    def parts(self) -> tuple[int, ...]:
        """Rows of the segments; all rows where there is one."""
        return self.segments or (self.rows,)
