"""Rows put together from rows of smaller tables: what the hashing trick and QR have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.by_recipe import Arrays, NoRecipe, Stores, says
from embpress.compressors.errors import InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.options import TableOptions
from embpress.compressors.tags import Tags
from embpress.kernels import ops
from embpress.kernels.recipes import Part, Parts, Rule
from embpress.kernels.reference import COMBINE, combine_parts


class CompositionalGroup(TableGroup):
    """One call for all tables."""

    tables: Sequence[Compositional]
    checks_ids = True
    gradients_read = True

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        self.learned = () if self.first.gathers else ("part_tables",)

    def rows(self, ids: Tensor) -> Tensor:
        """See `TableGroup.rows`."""
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        return self.first.rows_of(ids, row_offsets, rows, self._constants(ids.device))

    def gradients(self, ids: Tensor, grad: Tensor, held: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `TableGroup.gradients`."""
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        coefficients, base, sizes = self.first.op_constants(self._constants(ids.device))
        made = ops.compositional_gradient(
            grad,
            held[0],
            ids,
            row_offsets=row_offsets,
            rows=rows,
            coefficients=coefficients,
            base=base,
            sizes=sizes,
            combine=self.first.op,
            sparse=self.first.sparse,
        )
        return (made,)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """See `TableGroup.bags`."""
        if self.first.gathers:
            return super().bags(ids, offsets, weights)
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        constants = self._constants(ids.device)
        return self._by_bag(self.first.bags_of(ids, offsets, weights, row_offsets, rows, constants))

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        """See `TableGroup.lookups`."""
        row_offsets = self.integers.on(ids.device, "row_offsets")[tables]
        constants = {name: value[tables] for name, value in self._constants(ids.device).items()}
        return self.first.gathered(ids, row_offsets, constants)

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        """See `TableGroup.assemble`."""
        table, constants = self.first, self._constants_of(tables)
        segments = None if len(table.part_sizes) == 1 else torch.arange(table.parts, device=ids.device)
        return table.put_together(take("part_tables", table.part_rows(ids, constants), segments), ids, constants)

    def recipe(self, t: int, stores: Stores, arrays: Arrays) -> tuple[Parts, None]:
        """See `TableGroup.recipe`."""
        table = self.tables[t]
        rules = table.part_rules(arrays) if says(type(table), "part_rules", _COMPUTES) else None
        store, start = stores("part_tables", t)
        width = table.embedding_dim // table.parts if table.op == "concat" else table.embedding_dim
        if rules is None or width * (table.parts if table.op == "concat" else 1) != table.embedding_dim:
            raise NoRecipe
        several = len(table.part_sizes) > 1  # of which each has ranges of its own
        parts = (
            Part(replace(store, first_range=store.first_range + j * several), rule, size, start + first, numbers)
            for j, (rule, size, first, numbers) in enumerate(rules)
        )
        return Parts(tuple(parts), COMBINE.index(table.op)), None


# what says how a table's rows are put together, which `part_rules` stands for
_COMPUTES = ("rows_of", "gathered", "put_together", "part_rows", "part_signs", "op_constants")


class Compositional(Compressor):
    """A row is put together, per id, from one row of each of `parts` part tables held in `part_tables (Σ k_j, width)`.

    A subclass says which rows (`part_rows`) by `constants` `(parts,)`; the same computation serves one table and, with
    constants `(T, parts)`, all tables of a model. What `ops.compositional_lookup` needs of them it says in
    `op_constants`.
    """

    tags: ClassVar[Tags] = Tags(sparse_gradients=True, for_budget=True, from_dense=True)
    stacked: ClassVar[tuple[str, ...]] = ("part_tables",)
    row_parameters: ClassVar[tuple[str, ...]] = ("part_tables",)
    lookup_op: ClassVar[str] = "compositional_lookup"
    group = CompositionalGroup
    part_sizes: Sequence[int]  # rows of each part table

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        rows: int,
        parts: int,
        op: str,
        *,
        width: int | None = None,
        part_tables: nn.Parameter | None = None,
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        self.parts = parts
        self.op = op
        if part_tables is None:
            width = part_width(embedding_dim, parts, op) if width is None else width
            part_tables = nn.Parameter(
                torch.empty(rows, width, device=options.get("device"), dtype=options.get("dtype"))
            )
        self.part_tables = part_tables

    def arrays(self) -> tuple[Array, ...]:
        """The part tables, each with values of its own size."""
        sizes, width = tuple(self.part_sizes), self.part_tables.shape[1]
        return (Array("part_tables", sum(sizes), width, segments=sizes, several=self.parts // len(sizes)),)

    def part_rows(self, ids: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """`(..., )` ids → `(..., parts)` rows of `part_tables`; constants broadcast against `ids.unsqueeze(-1)`."""
        raise TypeError(f"{type(self).__name__} does not define part_rows(ids, constants)")

    def op_constants(self, constants: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Constants of `T` tables as the op takes them: coefficients `(T, ., parts)`, base and sizes `(T, parts)`."""
        raise TypeError(f"{type(self).__name__} does not define op_constants(constants)")

    def part_rules(self, arrays: Arrays) -> list[tuple[Rule, int, int, tuple[int, ...]]] | None:
        """What each part takes by recipe: a rule, how many rows, the first of them, its numbers; None: unsaid."""
        return None

    def part_signs(self, ids: Tensor, constants: dict[str, Tensor]) -> Tensor | None:
        """What the parts' rows are multiplied by, integers of the shape of `part_rows`; None for nothing."""
        return None

    @property
    def gathers(self) -> bool:
        """Whether lookups in the part tables are gathers by torch: the op knows no signs."""
        return False

    def rows_of(self, ids: Tensor, row_offsets: Tensor, rows: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """Rows of ids `(N, T)` in `T` tables on this one's part tables, `(N, T, D)`; IndexError for one out of range.

        `row_offsets` and `rows` are `(T,)`: where the tables start there and what they stand for.
        """
        if self.gathers:
            return self.gathered(ops.check_ids(ids, rows), row_offsets, constants)
        coefficients, base, sizes = self.op_constants(constants)
        return ops.compositional_lookup(
            self.whole("part_tables"),
            ids,
            row_offsets=row_offsets,
            rows=rows,
            coefficients=coefficients,
            base=base,
            sizes=sizes,
            combine=self.op,
            sparse=self.sparse,
        )

    def bags_of(
        self,
        ids: Tensor,
        offsets: Tensor,
        weights: Tensor | None,
        row_offsets: Tensor,
        rows: Tensor,
        constants: dict[str, Tensor],
    ) -> Tensor:
        """Bags `(T * B, D)` of ids `(N,)` in `T` tables on this one's part tables, see `TableGroup.forward`."""
        coefficients, base, sizes = self.op_constants(constants)
        return ops.compositional_bags(
            self.whole("part_tables"),
            ids,
            offsets,
            weights,
            row_offsets=row_offsets,
            rows=rows,
            coefficients=coefficients,
            base=base,
            sizes=sizes,
            combine=self.op,
            mean=self.mode == "mean",
            sparse=self.sparse,
        )

    def gathered(self, ids: Tensor, row_offsets: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """Rows of checked ids `(…, T)` by a gather of the parts' rows, `(…, T, D)`, with sparse gradients too."""
        ids = ids.long()
        index = self.part_rows(ids, constants) + row_offsets.unsqueeze(1)
        return self.put_together(F.embedding(index, self.whole("part_tables"), sparse=self.sparse), ids, constants)

    def put_together(self, rows: Tensor, ids: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """Rows `(…, D)` of ids int64 from their parts' rows `(…, parts, width)`."""
        signs = self.part_signs(ids, constants)
        return combine_parts(rows if signs is None else rows * signs.to(rows.dtype).unsqueeze(-1), self.op)

    def group_key(self) -> tuple[Any, ...]:
        """One call has one number of parts, put together in one way."""
        return *super().group_key(), self.parts, self.op

    def _activation_bytes(self, batch_size: int) -> int:
        kept = 8 + self.embedding_dim * self.itemsize  # ids and rows
        if ops.backend("compositional_lookup_train", self.device.type) == "reference":
            kept += 8 * self.parts  # row numbers
        return batch_size * kept

    def _gradient_bytes(self, name: str, parameter: Tensor, batch_size: int | None) -> int:
        return super()._gradient_bytes(name, parameter, None if batch_size is None else batch_size * self.parts)


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
