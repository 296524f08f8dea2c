"""Mixed dimensions: rows as wide as they are popular, projected to the model's width (Ginart et al. 2019)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.by_recipe import Arrays, NoRecipe, Stores
from embpress.compressors.cells import CellPart, Cells
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.guard import counted
from embpress.compressors.init import normal_, uniform_
from embpress.compressors.methods.factored import assembled, product, projected
from embpress.compressors.nearest_product import fill_nearest, right_singular
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags
from embpress.compressors.trained_table import DenseRows, options_like, relative_error, sized
from embpress.kernels.recipes import Made, Parts
from embpress.kernels.reference import pool

MAX_BLOCKS = 16


class _MixedGroup(TableGroup):
    """Tables of the same widths; the blocks of all of them are stacked, block by block."""

    tables: Sequence[MixedDimensions]

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        for b in range(len(self.first.widths) if not alone else 0):
            for what in ("start", "last"):
                self.integers[f"{what} {b}"] = [table.integers.values(f"{what} {b}")[0] for table in self.tables]
            self.integers[f"offset {b}"] = [table.row_offset_in(f"table_{b}") for table in self.tables]

    def rows(self, ids: Tensor) -> Tensor:
        return self._joined(self._inner(ids.long(), None, self._trained(None)))

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """Inner rows are pooled before they are projected, which is the same and less work."""
        tables = self._tables_of(offsets, ids.shape[0])
        inner = self._inner(ids.long(), tables, self._trained(tables))
        mean = self.first.mode == "mean"
        return self._joined([self._by_bag(pool(rows, offsets, weights, mean)) for rows in inner])

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        table, dim = self.first, self.first.embedding_dim
        inner = self._inner(ids, tables, lambda block, place: take(f"table_{block}", place))
        parts = [
            assembled(rows, tables, take, f"projection_{b}", self.count) if table.widths[b] < dim else rows
            for b, rows in enumerate(inner)
        ]
        return sum(parts[1:], parts[0])

    def recipe(self, t: int, stores: Stores, arrays: Arrays) -> tuple[Made, None]:
        """See `TableGroup.recipe`; of one block."""
        table = self.tables[t]
        n, k, dim = table.num_embeddings, table.widths[0], table.embedding_dim
        if len(table.widths) > 1:
            raise NoRecipe
        store, first = stores("table_0", t)
        if k < dim:
            return product((store, first), stores("projection_0", t), (n, k, dim))
        return Parts.row(store, n, first), None

    def _trained(self, tables: Tensor | None) -> Callable[[int, Tensor], Tensor]:
        """What gives rows of a block at places within the ids' own tables."""

        def rows(block: int, place: Tensor) -> Tensor:
            table, name = self.first, f"table_{block}"
            offset = self._of_block("offset", block, place.device, tables) if self.count > 1 else None
            index = place + (table.row_offset_in(name) if offset is None else offset)
            return F.embedding(index, table.whole(name), sparse=table.sparse)

        return rows

    def _inner(self, ids: Tensor, tables: Tensor | None, rows_of: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
        """Rows of checked ids in each block, `(…, k_b)`, zero where an id is in another.

        Ids are `(B, T)`, or `(N,)` of the tables `(N,)`.
        """
        parts, blocks = [], len(self.first.widths)
        for b in range(blocks):
            start, last = (self._of_block(what, b, ids.device, tables) for what in ("start", "last"))
            place = ids - start
            rows = rows_of(b, torch.minimum(place.clamp(min=0), last))
            if blocks > 1:
                rows = rows.masked_fill(((place < 0) | (place > last)).unsqueeze(-1), 0)
            parts.append(rows)
        return parts

    def _of_block(self, what: str, block: int, device: torch.device, tables: Tensor | None) -> Tensor:
        values = self.integers.on(device, f"{what} {block}")
        return values if tables is None else values[tables]

    def _joined(self, inner: Sequence[Tensor]) -> Tensor:
        """Inner rows, or bags of them, `(B, T, k_b)` of each block → `(B, T, D)`."""
        table = self.first
        projections = [self._projections(b) for b in range(len(inner)) if table.widths[b] < table.embedding_dim]
        narrow = [part for part, width in zip(inner, table.widths) if width < table.embedding_dim]
        parts = [part for part, width in zip(inner, table.widths) if width == table.embedding_dim]
        if narrow:
            parts.append(projected(torch.cat(narrow, -1), torch.cat(projections, 1)))
        return sum(parts[1:], parts[0])

    def _projections(self, block: int) -> Tensor:
        """Of all tables, `(T, k, D)`."""
        table, name = self.first, f"projection_{block}"
        if self.count == 1:
            return table.own(name).unsqueeze(0)
        return table.whole(name).view(self.count, table.widths[block], table.embedding_dim)


@register("md")
class MixedDimensions(Compressor):
    """Row `i` of block b is `table_b[i - start_b] @ projection_b`, of width `k_b`; without a projection where it is D.

    With one block, the default, a whole table has one width. Under a ratio or a budget the widths of all tables and
    blocks follow from one `λ`: `k = λ p^α`, where p is how often a row of the block is looked up, `1 / n` for one of a
    table's n rows (the paper's power law rule). They are rounded to whole numbers from 1 to D; a block that would take
    as many bytes with its projection as it does at width D has the width D.

    Blocks part a table by falling frequency, in which the ids are taken to be numbered: the bounds are
    `n^(1/blocks), n^(2/blocks), …`, blocks of equally many lookups under Zipf's law.

    Args:
        blocks: into how many blocks each table is parted, at most 16; fewer where there are fewer rows.
        alpha: `α`, from 0, which makes all widths equal, to 1; the paper has 0.3.
        width: `k` of each block, such as `16x8x4` (more than there are blocks are left out); by default what an
            eighth of the table's bytes allows.
    """

    tags: ClassVar[Tags] = Tags(sparse_gradients=True, for_budget=True, from_dense=True, splits_budget=True)
    size_knobs: ClassVar[tuple[str, ...]] = ("width",)
    training_knobs: ClassVar[tuple[str, ...]] = ("alpha",)
    row_parameters: ClassVar[tuple[str, ...]] = tuple(f"table_{b}" for b in range(MAX_BLOCKS))
    group = _MixedGroup

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        blocks: int = 1,
        alpha: float = 0.3,
        width: int | tuple[int, ...] | None = None,
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        n, dim = self.num_embeddings, self.embedding_dim
        bounds = block_bounds(n, blocks)
        if width is None:
            smallest = 4 * sum(_steps(rows, dim)[0][1] for rows in _rows(bounds))
            width = self.for_budget(n, dim, max(4 * n * dim // 8, smallest), blocks=blocks, alpha=alpha)["width"]
        self.widths = ((width,) if isinstance(width, int) else tuple(width))[: len(bounds) - 1]
        self.blocks, self.alpha, self.width = blocks, alpha, width
        if len(self.widths) < len(bounds) - 1 or not all(1 <= k <= dim for k in self.widths):
            raise InputError(
                f"md: width={width} must be {counted(len(bounds) - 1, 'number')} from 1 to the width {dim}, one a block"
            )
        factory: dict[str, Any] = {"device": options.get("device"), "dtype": options.get("dtype")}
        for b, (rows, k) in enumerate(zip(_rows(bounds), self.widths)):
            self.integers[f"start {b}"], self.integers[f"last {b}"] = [bounds[b]], [rows - 1]
            self.register_parameter(f"table_{b}", nn.Parameter(torch.empty(rows, k, **factory)))
            if k < dim:
                self.register_parameter(f"projection_{b}", nn.Parameter(torch.empty(k, dim, **factory)))
        self.reset_parameters(options.get("generator"))

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Inner tables as a full table, projections from N(0, 1/k): rows start with its variance `1/(3n)`."""
        bound = 1 / math.sqrt(self.num_embeddings)
        for b, k in enumerate(self.widths):
            uniform_(self.own(f"table_{b}"), -bound, bound, generator)
            if k < self.embedding_dim:
                normal_(self.own(f"projection_{b}"), 0, 1 / math.sqrt(k), generator)

    @property
    def stacked(self) -> tuple[str, ...]:  # type: ignore[override]
        """The inner tables and the projections that there are."""
        return tuple(array.name for array in self.arrays())

    def arrays(self) -> tuple[Array, ...]:
        """Inner tables and projections, each of whose rows has values of its own size."""
        parts = []
        for b, k in enumerate(self.widths):
            parts.append(Array(f"table_{b}", self.integers.values(f"last {b}")[0] + 1, k))
            if k < self.embedding_dim:
                parts.append(Array(f"projection_{b}", k, self.embedding_dim, ranges="row", for_all=True))
        return tuple(parts)

    def cells(self, ids: Tensor) -> Cells:
        """A row of its own for each id, in the table of its block."""
        parts, places = [], []
        for b in range(len(self.widths)):
            start, last = (self.integers.values(f"{what} {b}")[0] for what in ("start", "last"))
            place = ids - start
            places.append(place.masked_fill((place < 0) | (place > last), -1))
            parts.append(CellPart(f"table_{b}", last + 1))
        return Cells.of(parts, torch.stack(places, dim=1))

    def group_key(self) -> tuple[Any, ...]:
        """One call has the same widths."""
        return *super().group_key(), self.widths

    def _activation_bytes(self, batch_size: int) -> int:
        # of each block the places, which are masked, and what is projected
        parts = (9 + k * self.itemsize for k in self.widths)
        return batch_size * (8 + sum(parts) + self.embedding_dim * self.itemsize)

    @classmethod
    @torch.no_grad()
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """The table of its widths that is nearest to a trained one, block by block, and its relative error, measured.

        Args:
            weight: `(n, D)`, its rows by falling frequency; see `DenseRows`. It may be larger than memory.
            **knobs: the constructor's, or `budget` or `ratio` in place of width; device and dtype are the table's own
                by default.

        Raises:
            InputError: no table, or entries that are not finite; two sizes. BudgetError: too few bytes.
        """
        dense = DenseRows(weight)
        made = cls(*dense.shape, **options_like(dense, cls, sized(dense, cls, knobs)))
        for b, k in enumerate(made.widths):
            table, start = made.own(f"table_{b}"), made.integers.values(f"start {b}")[0]
            rows = range(start, start + len(table))
            if k < made.embedding_dim:
                fill_nearest(table, made.own(f"projection_{b}"), dense, right_singular(dense, table.device, rows), rows)
                continue
            for part, block in dense.chunks(rows=rows):
                table[part.start - start : part.stop - start] = block.to(table)
        return made, relative_error(made, dense)

    @classmethod
    def for_budget(cls, n: int, dim: int, size: int, *, blocks: int = 1, alpha: float = 0.3) -> dict[str, Any]:
        """The widths of the largest λ within `size` bytes, and what rounding leaves over for what still fits."""
        return cls.split_budget([(n, dim)], size, blocks=blocks, alpha=alpha)[0]

    @classmethod
    def split_budget(
        cls, shapes: Sequence[tuple[int, int]], size: int, *, blocks: int = 1, alpha: float = 0.3
    ) -> list[dict[str, Any]]:
        """The widths of the blocks of all tables `(n, D)`, by one λ for `size` bytes in all.

        Raises:
            BudgetError: width 1 everywhere takes more.
        """
        if not 0 <= alpha <= 1:
            raise InputError(f"md: alpha={alpha} is not between 0 and 1")
        parts = [(t, rows) for t, (n, _) in enumerate(shapes) for rows in _rows(block_bounds(n, blocks))]
        in_table = [sum(t == own for own, _ in parts) for t in range(len(shapes))]
        steps = [_steps(rows, shapes[t][1]) for t, rows in parts]
        smallest = sum(own[0][1] for own in steps)
        rest = size // 4 - smallest
        if rest < 0:
            raise BudgetError(f"md cannot hold {counted(len(shapes), 'table')} in {size} bytes", 4 * smallest)
        # each further step of each block with the λ at which its width is rounded to it
        further = sorted(
            ((before[0] + 0.5) * (in_table[t] * rows) ** alpha, i, s)
            for i, ((t, rows), own) in enumerate(zip(parts, steps))
            for s, before in enumerate(own[:-1], 1)
        )
        taken, closed = [0] * len(parts), set()
        for _, i, s in further:
            cost = steps[i][s][1] - steps[i][s - 1][1]
            if i in closed or cost > rest:
                closed.add(i)
                continue
            rest, taken[i] = rest - cost, s
        widths: list[list[int]] = [[] for _ in shapes]
        for (t, _), own, s in zip(parts, steps, taken):
            widths[t].append(own[s][0])
        return [{"width": own[0] if len(own) == 1 else tuple(own)} for own in widths]


def block_bounds(n: int, blocks: int) -> list[int]:
    """Where blocks of equally many lookups under Zipf's law begin, and n: `n^(b / blocks)`, none of them empty."""
    if not 1 <= blocks <= MAX_BLOCKS:
        raise InputError(f"md: blocks={blocks} must lie between 1 and {MAX_BLOCKS}")
    return sorted({0, n, *(min(n, round(n ** (b / blocks))) for b in range(1, blocks))})


def _rows(bounds: Sequence[int]) -> list[int]:
    return [after - before for before, after in itertools.pairwise(bounds)]


def _steps(n: int, dim: int) -> list[tuple[int, int]]:
    """The widths that n rows may have, rising, with the elements that they take: below D those that save any."""
    narrow = [(k, (n + dim) * k) for k in range(1, dim) if (n + dim) * k < n * dim]
    return [*narrow, (dim, n * dim)]
