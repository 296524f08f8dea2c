"""Unified embedding: one table for all features, each with hash functions of its own (Coleman et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array
from embpress.compressors.base import Compressor
from embpress.compressors.by_recipe import Arrays
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.init import uniform_
from embpress.compressors.least_squares import from_linear, tables_from_linear
from embpress.compressors.ledger import Entry
from embpress.compressors.methods.compositional import CompositionalGroup
from embpress.compressors.methods.hashing import Hashed, draw_coefficients
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags
from embpress.kernels.recipes import Rule


class _UnifiedGroup(CompositionalGroup):
    """One table, one call for all features; their hash functions side by side."""

    tables: Sequence[Unified]

    def _take_over(self, tables: list[Compressor]) -> None:
        self._share("part_tables", tables)
        super()._take_over(tables)

    def gradients(self, ids: Tensor, grad: Tensor, held: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `TableGroup.gradients`; of the last chunk what was cut off has none."""
        beyond = self.first.parts * self.first.width - grad.shape[-1]
        return super().gradients(ids, nn.functional.pad(grad, (0, beyond)) if beyond else grad, held)


@register("unified")
class Unified(Hashed):
    """Row `i` of a feature is `parts` chunks, chunk j row `h_j(i)` of one table `(k, ⌈D / parts⌉)` that all features of
    the model share, by hash functions of the feature's own (feature multiplexing).

    No bytes are divided among features beforehand. Features that hit one row are told apart by the layer behind the
    lookups, which has weights for each of them: what the others add is nearly orthogonal to what one needs, so the
    paper.

    Tables share the memory: `TableCollection` and `compress_model` see to it; by hand, give the first table's
    `part_tables` to the others and number them by `feature`. A narrower table takes fewer chunks, and of the last chunk
    what its width needs.

    Args:
        k: rows of the table; default `⌈parts n / 10⌉`, about a tenth of the bytes.
        parts: lookups a row, at most D; default 2. With a shared table what fills a row.
        part_tables: a table to share.
        feature: number of the feature; without a generator its hash functions follow from it.
    """

    tags: ClassVar[Tags] = Tags(sparse_gradients=True, shared_memory=True, for_budget=True, from_dense=True)
    stacked: ClassVar[tuple[str, ...]] = ()
    size_knobs: ClassVar[tuple[str, ...]] = ("k", "part_tables")
    wiring: ClassVar[tuple[str, ...]] = ("part_tables", "feature")
    training_knobs: ClassVar[tuple[str, ...]] = ("feature",)
    group = _UnifiedGroup

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        k: int | None = None,
        parts: int | None = None,
        part_tables: nn.Parameter | None = None,
        feature: int = 0,
        **options: Unpack[TableOptions],
    ) -> None:
        num_embeddings, embedding_dim = self.whole_sizes(num_embeddings, embedding_dim)
        if part_tables is None:
            width = _chunk(embedding_dim, parts)
            k = math.ceil(math.ceil(embedding_dim / width) * num_embeddings / 10) if k is None else k
            if k < 1:
                raise InputError(f"unified: k={k}, at least one row is needed")
        else:
            k, width = part_tables.shape
        if parts is not None and _chunk(embedding_dim, parts) != width:
            raise InputError(f"unified: parts={parts} of a row of {embedding_dim} are not {width} wide as the table is")
        parts = math.ceil(embedding_dim / width)
        super().__init__(
            num_embeddings, embedding_dim, k, parts, "concat", width=width, part_tables=part_tables, **options
        )
        self.k, self.width, self.feature, self.part_sizes = k, width, feature, [k]
        generator = None if self.part_tables.is_meta else options.get("generator")  # on meta nothing is drawn
        self.put_hashes(draw_coefficients((4, parts), generator, num_embeddings, embedding_dim, feature), k, stride=0)
        if part_tables is None:
            self.reset_parameters(options.get("generator"))

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`U(-1/√n, 1/√n)`; in a model n is the largest table's."""
        bound = 1 / math.sqrt(self.num_embeddings)
        uniform_(self.whole("part_tables"), -bound, bound, generator)

    def part_rules(self, arrays: Arrays) -> list[tuple[Rule, int, int, tuple[int, ...]]] | None:
        """A hash each, where nothing of the last chunk is cut off."""
        return super().part_rules(arrays) if self.parts * self.width == self.embedding_dim else None

    def rows_of(self, ids: Tensor, row_offsets: Tensor, rows: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """See `Compositional.rows_of`."""
        return self._cut(super().rows_of(ids, row_offsets, rows, constants))

    def bags_of(
        self,
        ids: Tensor,
        offsets: Tensor,
        weights: Tensor | None,
        row_offsets: Tensor,
        rows: Tensor,
        constants: dict[str, Tensor],
    ) -> Tensor:
        """See `Compositional.bags_of`."""
        return self._cut(super().bags_of(ids, offsets, weights, row_offsets, rows, constants))

    def put_together(self, rows: Tensor, ids: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """See `Compositional.put_together`."""
        return self._cut(super().put_together(rows, ids, constants))

    def _cut(self, rows: Tensor) -> Tensor:
        """Of the chunks what the width needs."""
        if rows.shape[-1] == self.embedding_dim:
            return rows
        return rows.narrow(-1, 0, self.embedding_dim).contiguous()

    def arrays(self) -> tuple[Array, ...]:
        """The one table of all features."""
        return (Array("part_tables", self.k, self.part_tables.shape[1], shared=True, several=self.parts),)

    def group_key(self) -> tuple[Any, ...]:
        """One call has one table."""
        return *super().group_key(), self._owner("part_tables")

    def _weights(self) -> list[Entry]:
        # the hash functions are each feature's own
        return [replace(entry, owner=None) if entry.name in self.constants else entry for entry in super()._weights()]

    @classmethod
    def build_tables(
        cls, shapes: Sequence[tuple[int, int]], knobs: Sequence[dict[str, Any]], options: Sequence[TableOptions]
    ) -> Iterator[Self]:
        """All tables on one, sized by the knobs of the first for the widest and initialised for the longest."""
        widest = max(dim for _, dim in shapes)
        width = _chunk(widest, knobs[0].get("parts"))
        first = {"k": math.ceil(sum(n * dim for n, dim in shapes) / width / 10), **knobs[0]}
        source = cls(max(n for n, _ in shapes), widest, **first, **options[0])
        for feature, ((n, dim), own, option) in enumerate(zip(shapes, knobs, options), knobs[0].get("feature", 0)):
            rest = {name: value for name, value in own.items() if name not in ("k", "parts", "feature", "part_tables")}
            yield cls(n, dim, **rest, part_tables=source.part_tables, feature=feature, **option)

    @classmethod
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """The table nearest to a trained one: a row is the mean of the chunks that are hashed to it.

        Keywords are the constructor's, or `budget` or `ratio` instead of k; see `least_squares.from_linear`.

        Raises:
            InputError: a table that other features share; see `fit_tables`.
        """
        if knobs.get("part_tables") is not None:
            raise InputError("unified: features that share a table start together, by fit_tables")
        return from_linear(cls, weight, knobs, nonnegative=True)

    @classmethod
    def fit_tables(
        cls, weights: Sequence[Any], knobs: Sequence[dict[str, Any]], options: Sequence[TableOptions]
    ) -> tuple[list[Self], list[float]]:
        """All features on one table, which is nearest to all of them together."""
        return tables_from_linear(cls, weights, knobs, options, nonnegative=True)

    @classmethod
    def for_budget(cls, n: int, dim: int, size: int, *, parts: int | None = None, **placing: Any) -> dict[str, int]:
        """The most rows, at most `parts n`, that fit beside one feature's hash functions.

        For all features at once n counts their rows. Which feature it is (`feature`) makes no difference to the size.
        """
        width = _chunk(dim, parts)
        parts = math.ceil(dim / width)
        constants = 8 * (5 * parts + 1)
        k = min(parts * n, (size - constants) // (4 * width))
        if k < 1:
            raise BudgetError(f"unified cannot make a table of width {width} in {size} bytes", 4 * width + constants)
        return {"k": k}


def _chunk(dim: int, parts: int | None) -> int:
    """Width of a chunk, by default of half a row."""
    parts = min(2, dim) if parts is None else parts
    if not 1 <= parts <= dim:
        raise InputError(f"unified: parts={parts} must lie between 1 and the width {dim}")
    return math.ceil(dim / parts)
