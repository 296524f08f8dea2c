"""Rows put together from rows of smaller tables: what the hashing trick and QR have in common."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from embpress.compressors.base import Compressor, TableOptions
from embpress.compressors.errors import InputError
from embpress.compressors.group import TableGroup

# from (..., parts, width) to (..., D); per id, before any pooling
COMBINE: dict[str, Callable[[Tensor], Tensor]] = {
    "mult": lambda rows: functools.reduce(operator.mul, rows.unbind(-2)),
    "add": lambda rows: rows.sum(-2),
    "concat": lambda rows: rows.flatten(-2),
}


class _CompositionalGroup(TableGroup):
    """One index computation, broadcast over the tables, and one gather."""

    tables: Sequence[Compositional]
    first: Tensor

    def __init__(self, tables: Iterable[Compressor]) -> None:
        super().__init__(tables)
        self.register_constant("first", [table.first_row("weight") for table in self.tables])
        for name in self.tables[0].constants:
            stacked = torch.stack([getattr(table, name) for table in self.tables])
            self.register_buffer(name, stacked, persistent=False)

    def lookup(self, ids: Tensor) -> Tensor:
        table = self.tables[0]
        index = table.part_rows(ids, {name: getattr(self, name) for name in table.constants}) + self.first.unsqueeze(1)
        return table.combined(F.embedding(index, table.weight, sparse=table.sparse))


class Compositional(Compressor):
    """A row is put together, per id, from one row of each of `parts` part tables held in `weight (Σ k_j, width)`.

    A subclass says which rows (`part_rows`) by constants `(parts,)` int64 that it registers as buffers and names in
    `constants`; the same computation serves one table and, with constants `(T, parts)`, all tables of a model.
    """

    tags: ClassVar[frozenset[str]] = frozenset({"sparse"})
    merged: ClassVar[tuple[str, ...]] = ("weight",)
    constants: ClassVar[tuple[str, ...]] = ()
    group = _CompositionalGroup

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        rows: int,
        parts: int,
        op: str,
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        self.parts = parts
        self.op = op
        width = part_width(embedding_dim, parts, op)
        self.weight = nn.Parameter(torch.empty(rows, width, device=options.get("device"), dtype=options.get("dtype")))

    def part_rows(self, ids: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """`(..., )` ids → `(..., parts)` rows of `weight`; constants broadcast against `ids.unsqueeze(-1)`."""
        raise TypeError(f"{type(self).__name__} does not define part_rows(ids, constants)")

    def combined(self, rows: Tensor) -> Tensor:
        """`(..., parts, width)` → `(..., D)`."""
        return COMBINE[self.op](rows)

    def _lookup(self, ids: Tensor) -> Tensor:
        index = self.part_rows(ids, {name: getattr(self, name) for name in self.constants}) + self.first_row("weight")
        return self.combined(F.embedding(index, self.weight, sparse=self.sparse))

    def _activation_bytes(self, batch_size: int) -> int:
        # row numbers, the parts' rows, and the combined rows with the products of the first parts on the way
        parts = self.parts * (8 + self.weight.shape[1] * self.itemsize)
        products = max(1, self.parts - 1) if self.op == "mult" else 1
        return batch_size * (8 + parts + products * self.embedding_dim * self.itemsize)

    def _gradient_bytes(self, parameter: Tensor, batch_size: int | None) -> int:
        return super()._gradient_bytes(parameter, None if batch_size is None else batch_size * self.parts)


def part_width(embedding_dim: int, parts: int, op: str) -> int:
    """Width of a part's rows.

    Raises:
        InputError: an unknown op, or `concat` of parts that do not divide the width.
    """
    if op not in COMBINE:
        raise InputError(f"op={op!r} is not one of {', '.join(COMBINE)}")
    if parts < 1:
        raise InputError(f"parts={parts}: at least one part is needed")
    if op != "concat":
        return embedding_dim
    if embedding_dim % parts:
        raise InputError(f"concat cuts the width {embedding_dim} into {parts} parts, which does not come out even")
    return embedding_dim // parts
