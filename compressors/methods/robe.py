"""ROBE-Z: rows cut from one flat array that all tables share (Desai et al. 2022; 10000x sharing, section 4)."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.by_recipe import Arrays, NoRecipe, Stores
from embpress.compressors.cells import CellPart, Cells
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.init import uniform_
from embpress.compressors.integers import Later
from embpress.compressors.least_squares import from_linear, tables_from_linear
from embpress.compressors.methods.hashing import draw_coefficients
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags
from embpress.kernels import ops
from embpress.kernels.recipes import Chunks
from embpress.kernels.reference import robe_elements, robe_hash

# the most ids that a draw of the hash is tried on
_SAMPLE = 1 << 16


class _RobeGroup(TableGroup):
    """One array, one call for all tables."""

    tables: Sequence[Robe]
    checks_ids = True
    learned = ("memory",)

    def _take_over(self, tables: list[Compressor]) -> None:
        self._share("memory", tables)
        for table in tables:
            table.constants.share("coefficients", self.first.constants)

    def rows(self, ids: Tensor) -> Tensor:
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        return self.first.rows_of(ids, row_offsets, rows)

    def gradients(self, ids: Tensor, grad: Tensor, held: Sequence[Tensor]) -> Sequence[Tensor]:
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        coefficients = self.first.constants.on(ids.device, "coefficients")
        size, z = held[0].shape[0], self.first.z
        made = ops.robe_gradient(grad, ids, coefficients, row_offsets=row_offsets, rows=rows, size=size, z=z)
        return (made,)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        # as ids of one table that begins where the first does and ends where the last does
        together = (ids + (row_offsets - row_offsets[0])[tables]).unsqueeze(1)
        size = (row_offsets[-1:] + rows[-1:]) - row_offsets[:1]
        return self.first.rows_of(together, row_offsets[:1], size).squeeze(1)

    def recipe(self, t: int, stores: Stores, arrays: Arrays) -> tuple[Chunks, None]:
        table = self.tables[t]
        if table.sign:
            raise NoRecipe
        store, _ = stores("memory", t)
        numbers = tuple(arrays.watch(table.constants["coefficients"]))
        return Chunks(store, table.z, table.size, table.row_offset, numbers), None

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        row_offsets, rows = (self.integers.on(ids.device, name) for name in ("row_offsets", "rows"))
        return self._by_bag(self.first.bags_of(ids, offsets, weights, row_offsets, rows))

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        table = self.first
        rows = ids + self.integers.on(ids.device, "row_offsets")[tables]
        coefficients = table.constants.on(ids.device, "coefficients")
        index, sign = robe_elements(rows, coefficients, table.size, table.z, table.embedding_dim)
        values = take("memory", index).squeeze(-1)
        return values if sign is None else values * sign


@register("robe")
class Robe(Compressor):
    """Chunk j of row `i` is `memory[h : h + z]`, `h = ((x R3 + j R2 + R1) mod P) mod (size - z + 1)`
    with `x = row_offset + i`.

    Tables share the array: `TableCollection` and `compress_model` see to it; by hand, give the first table's `memory`
    and `coefficients` to the others and set `row_offset` to the rows of the tables before.

    Args:
        z: chunk size, `1 <= z <= D`; default a quarter of D, at most 32. `z = 1` is HashedNet.
        size: elements of the array, at least z; default a tenth of the table's.
        sign: multiply every element by a hashed ±1.
        init_scale: how many times as large as a full table's the array's elements start; default 1. The paper and its
            code say nothing of it; but an element stands in rows of all tables, whose own scales differ, and learns by
            the sum of their gradients.
        draws: how many hashes are drawn, of which the best is kept; default 32. 1 is the published draw.
        row_offset: rows of the tables before this one.
        memory: an array to share, `(size,)`.
        coefficients: the hash coefficients that go with it.
        row_ranges: row offset and rows of all tables that will share the array, which the hash is drawn for; default:
            this one.
        atomics: on CUDA, sum the gradient by atomic additions, whose order and so whose rounding differs from run to
            run; by default gradients are sorted and summed in a fixed order.
    """

    tags: ClassVar[Tags] = Tags(shared_memory=True, for_budget=True, from_dense=True)
    size_knobs: ClassVar[tuple[str, ...]] = ("size", "memory")
    wiring: ClassVar[tuple[str, ...]] = ("memory", "coefficients", "row_ranges", "row_offset")
    lookup_op: ClassVar[str] = "robe_lookup"
    group = _RobeGroup
    training_knobs: ClassVar[tuple[str, ...]] = ("atomics", "draws", "init_scale", "row_ranges")
    coefficients: Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        z: int | None = None,
        size: int | None = None,
        sign: bool = False,
        init_scale: float = 1.0,
        draws: int = 32,
        row_offset: int = 0,
        memory: nn.Parameter | None = None,
        coefficients: Tensor | Later | None = None,
        row_ranges: Sequence[tuple[int, int]] | None = None,
        atomics: bool = False,
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        self.z = z = _default_z(embedding_dim) if z is None else z
        if not 1 <= z <= embedding_dim:
            raise InputError(f"robe: z={z} must lie between 1 and the width {embedding_dim}")
        if draws < 1:
            raise InputError(f"robe: draws={draws}, at least one hash must be drawn")
        if not 0 < init_scale < math.inf:
            raise InputError(f"robe: init_scale={init_scale} must be above zero")
        if memory is not None:
            size = memory.shape[0]
        elif size is None:
            size = max(z, num_embeddings * embedding_dim // 10)
        if size < z:
            raise InputError(f"robe: size={size} elements are fewer than the chunk size z={z}")
        self.size, self.sign, self.row_offset, self.atomics, self.draws = size, sign, row_offset, atomics, draws
        self.init_scale = init_scale
        self.integers["row_offsets"] = [row_offset]
        device, generator = options.get("device"), options.get("generator")
        if coefficients is None:
            meta = torch.device(device or "cpu").type == "meta"  # there nothing is drawn, and size is what is asked for
            ranges = tuple(row_ranges or [(0, num_embeddings)])
            drawn = draw_coefficients(
                (draws, 6 if sign else 3), None if meta else generator, num_embeddings, embedding_dim
            )
            choose = functools.partial(_best, drawn, ranges, size, z)
            coefficients = Later(drawn.shape[1], choose) if meta else choose()
        self.constants.put("coefficients", coefficients)
        if memory is not None:
            self.memory = memory
            return
        self.memory = nn.Parameter(torch.empty(size, device=device, dtype=options.get("dtype")))
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`U(-s/√n, s/√n)` at `init_scale` s; in a model n is the largest table's."""
        bound = self.init_scale / math.sqrt(self.num_embeddings)
        uniform_(self.memory, -bound, bound, generator)

    def arrays(self) -> tuple[Array, ...]:
        """The elements of the array."""
        return (Array("memory", self.size, 1, ranges="block", shared=True),)

    def cells(self, ids: Tensor) -> Cells:
        """The chunks, by where they begin; of the last what the width needs."""
        coefficients, dim = self.constants.on(ids.device, "coefficients"), self.embedding_dim
        begins, places = range(0, dim, self.z), self.size - self.z + 1
        x, chunks = (ids + self.row_offset).unsqueeze(1), torch.arange(len(begins), device=ids.device)
        parts = [CellPart("memory", self.size, min(self.z, dim - begin), 0, places) for begin in begins]
        found = Cells.of(parts, robe_hash(x, chunks, coefficients, places), id(self.whole("memory")))
        if not self.sign or found.chance is None:
            return found
        bits = robe_hash(x, torch.arange(dim, device=ids.device), coefficients[3:], 2)
        return replace(found, rows=torch.cat([found.first, bits], dim=1), chance=found.chance / 2.0**dim)

    def group_key(self) -> tuple[Any, ...]:
        """One call has one array and one way to cut rows from it."""
        return *super().group_key(), self._owner("memory"), self.z, self.sign, self.atomics

    def rows_of(self, ids: Tensor, row_offsets: Tensor, rows: Tensor) -> Tensor:
        """Rows of ids `(N, T)` in `T` tables on this one's array, `(N, T, D)`.

        `row_offsets` and `rows` are `(T,)`.
        """
        return ops.robe_lookup(
            self.whole("memory"),
            ids,
            self.constants.on(ids.device, "coefficients"),
            row_offsets=row_offsets,
            rows=rows,
            z=self.z,
            dim=self.embedding_dim,
            atomics=self.atomics,
        )

    def bags_of(
        self, ids: Tensor, offsets: Tensor, weights: Tensor | None, row_offsets: Tensor, rows: Tensor
    ) -> Tensor:
        """Bags of ids `(N,)` of `T` tables on this one's array, `(T * B, D)`; as in `ops.robe_bags`."""
        return ops.robe_bags(
            self.whole("memory"),
            ids,
            offsets,
            weights,
            coefficients=self.constants.on(ids.device, "coefficients"),
            row_offsets=row_offsets,
            rows=rows,
            z=self.z,
            dim=self.embedding_dim,
            mean=self.mode == "mean",
            atomics=self.atomics,
        )

    @classmethod
    def build_tables(
        cls, shapes: Sequence[tuple[int, int]], knobs: Sequence[dict[str, Any]], options: Sequence[TableOptions]
    ) -> Iterator[Self]:
        """All tables on one array, sized by the knobs of the first and initialised for the largest."""
        largest = max(n for n, _ in shapes)
        offset = knobs[0].get("row_offset", 0)
        offsets = itertools.accumulate((n for n, _ in shapes), initial=offset)
        knobs_of_all = {**_sized(shapes, knobs[0]), "row_ranges": [(s, n) for s, (n, _) in zip(offsets, shapes)]}
        source = cls(largest, shapes[0][1], **knobs_of_all, **options[0])
        for (n, dim), own, option in zip(shapes, knobs, options):
            rest = {name: value for name, value in own.items() if name not in ("size", "row_offset")}
            yield cls(
                n, dim, **rest, row_offset=offset, memory=source.memory, coefficients=source.coefficients, **option
            )
            offset += n

    @classmethod
    def tuned_knobs(cls, embedding_dim: int, **fixed: Any) -> Mapping[str, tuple[Any, ...]]:
        """The array's scale."""
        return {"init_scale": (4.0, 0.25, 2.0, 0.5)}

    @classmethod
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """The table nearest to a trained one: an element of the array is the mean of all that it stands for.

        Keywords are the constructor's, or `budget` or `ratio` instead of size; see `least_squares.from_linear`.

        Raises:
            InputError: an array that other tables share; see `fit_tables`.
        """
        if knobs.get("memory") is not None:
            raise InputError("robe: tables that share an array start together, by fit_tables")
        return from_linear(cls, weight, knobs)

    @classmethod
    def fit_tables(
        cls, weights: Sequence[Any], knobs: Sequence[dict[str, Any]], options: Sequence[TableOptions]
    ) -> tuple[list[Self], list[float]]:
        """All tables on one array, which is nearest to all of them together."""
        return tables_from_linear(cls, weights, knobs, options)

    @classmethod
    def for_budget(
        cls, n: int, dim: int, size: int, *, z: int | None = None, sign: bool = False, **placing: Any
    ) -> dict[str, int]:
        """As many elements as fit beside the hash coefficients; for all tables at once where n counts their rows.

        Where the rows lie (`row_offset`, `row_ranges`, `coefficients`, `draws`) makes no difference to the size, nor
        does `init_scale`.
        """
        z = _default_z(dim) if z is None else z
        coefficients = 8 * (6 if sign else 3)
        elements = min(n * dim, (size - coefficients) // 4)
        if elements < z:
            raise BudgetError(f"robe cannot make an array of {z} elements in {size} bytes", 4 * z + coefficients)
        return {"size": elements}


def _default_z(dim: int) -> int:
    """A quarter of the width, four chunks a row: the paper's 32 at its width of 128.

    Of 1, 2, 4, 8 and 16 at width 16 it is the one that is least far behind the best on the validation parts of six
    comparisons (reports/published/defaults.md).
    """
    return max(1, min(32, dim // 4))


def _best(drawn: Tensor, row_ranges: Sequence[tuple[int, int]], size: int, z: int) -> Tensor:
    """Of drawn `R1, R2, R3`, and three more for the sign's hash, `(draws, 3 or 6)`, the best.

    The published hash turns consecutive ids into an arithmetic progression modulo P, which for some R3 piles them up in
    a small part of the array, and a bad draw costs several points of AUC. Of the draws that spread over the array the
    one is taken whose first chunks overlap least, an id of rank r weighing 1/r: ids are commonly numbered by falling
    frequency.
    """
    if isinstance(drawn, FakeTensor):
        return drawn[0]  # nothing has values there
    counts = [min(n, _SAMPLE // len(row_ranges) + 1) for _, n in row_ranges]
    ids = torch.cat([torch.arange(start, start + count, device="cpu") for (start, _), count in zip(row_ranges, counts)])
    weight = torch.cat([1 / torch.arange(1, count + 1, dtype=torch.float64, device="cpu") for count in counts])

    cells_in_all = (size - z) // z + 1
    expected = cells_in_all * (1 - (1 - 1 / cells_in_all) ** len(ids))

    def quality(coefficients: Tensor) -> tuple[bool, float]:
        begin = robe_hash(ids, 0, coefficients, size - z + 1)
        # a chunk lies across two cells of z elements: its weight is split between them
        cell, beyond = begin // z, (begin % z) / z
        spread = len(torch.unique(cell)) >= 0.9 * expected  # as many cells as a random function would reach
        cells, number = torch.unique(torch.cat([cell, cell + 1]), return_inverse=True)
        shares = torch.cat([weight * (1 - beyond), weight * beyond])
        return spread, -float(shares.new_zeros(len(cells)).index_add_(0, number, shares).square().sum())

    return max(drawn, key=quality).clone()


def _sized(shapes: Sequence[tuple[int, int]], knobs: dict[str, Any]) -> dict[str, Any]:
    """The knobs with the default size of one array for all tables: a tenth of their elements."""
    if knobs.get("size") is not None:
        return knobs
    z = knobs.get("z") or _default_z(shapes[0][1])
    return {**knobs, "size": max(z, sum(n * dim for n, dim in shapes) // 10)}
