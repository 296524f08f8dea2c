"""Rows with their ranges behind them, as FBGEMM and torch's quantized embedding bags keep them, and as these look up.

A row is its codes, the first in the lowest bits, then step and lo: float32 each with 8 bits, float16 with fewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from embpress.compressors.arrays import Array, Take
from embpress.compressors.bags import without_values
from embpress.compressors.base import Compressor
from embpress.compressors.modifiers.in_codes import InCodes, InCodesGroup
from embpress.compressors.modifiers.quantized import store
from embpress.compressors.modifiers.quantized.codes import unpack


def fits(arrays: Sequence[Array], bits: int) -> bool:
    """Whether a table of these arrays can be kept so: its own rows, each of whole bytes and with a range of its own."""
    return len(arrays) == 1 and arrays[0].table and arrays[0].ranges == "row" and store.by_bytes(arrays[0], bits)


def rows_name(array: Array) -> str:
    """The parameter that holds the rows."""
    return f"{array.name}_rows"


def range_dtype(bits: int) -> torch.dtype:
    """Of step and lo."""
    return torch.float32 if bits == 8 else torch.float16


def shape(array: Array, bits: int) -> tuple[int, int]:
    """Rows and bytes a row."""
    return array.rows, array.width * bits // 8 + 2 * range_dtype(bits).itemsize


def quantize(array: Array, values: Tensor, bits: int) -> Tensor:
    """The rows, uint8 `shape`."""
    ranges = store.fit(array, values, bits, range_dtype(bits))
    codes = store.encode(array, values, ranges, bits)
    return torch.cat([codes, ranges.flip(1).to(range_dtype(bits)).view(torch.uint8)], dim=1)


def decode(rows: Tensor, bits: int) -> Tensor:
    """Float32 values of rows, `(…, bytes)` uint8 → `(…, width)`."""
    dtype = range_dtype(bits)
    tail = 2 * dtype.itemsize
    step, lo = rows[..., -tail:].contiguous().view(dtype).float().unsqueeze(-2).unbind(-1)
    codes = rows[..., :-tail]
    return torch.addcmul(lo, step, unpack(codes, bits, codes.shape[-1] * 8 // bits))


class RowwiseGroup(InCodesGroup):
    """One call of torch's quantized embedding bag for all tables, on the CPU and without gradients."""

    tables: Sequence[Rowwise]

    def rows(self, ids: Tensor) -> Tensor:
        """See `TableGroup.rows`."""
        if not self._by_op(ids, None):
            return super().rows(ids)
        starts = self.integers.on(ids.device, self._name) if self.count > 1 else 0
        found = (ids.long() + starts).reshape(-1)
        return self._pooled(found, torch.arange(len(found) + 1), None).view(*ids.shape, self.first.embedding_dim)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        """See `TableGroup.lookups`."""
        if not self._by_op(ids, None):
            return super().lookups(ids, tables)
        return self._pooled(self._in_all(ids, tables), torch.arange(len(ids) + 1), None)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """See `TableGroup.bags`."""
        if not self._by_op(ids, weights):
            return super().bags(ids, offsets, weights)
        found = self._in_all(ids, self._tables_of(offsets, len(ids)))
        pooled = self._pooled(found, offsets, weights)
        if self.first.mode == "mean":  # the op knows sums only
            pooled = pooled / offsets.diff().clamp(min=1).unsqueeze(1)
        return self._by_bag(pooled)

    def take(self, tables: Tensor) -> Take:
        """Decoded rows."""
        lookups = tables

        def taken(name: str, index: Tensor, segment: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
            return decode(self.kept(self._name)[self._in_all(index, lookups if tables is None else tables)], self._bits)

        return taken

    @property
    def _name(self) -> str:
        return rows_name(self.first.in_rows)

    @property
    def _bits(self) -> int:
        bits: int = self.first.bits
        return bits

    def _in_all(self, index: Tensor, tables: Tensor) -> Tensor:
        """Rows of each lookup's table as rows of all, int64."""
        return index.long() + self.of_each(self._name, tables, index) if self.count > 1 else index.long()

    def _by_op(self, ids: Tensor, weights: Tensor | None) -> bool:
        """Whether the op answers; a traced program is to consist of operators that every runtime knows."""
        trained = weights is not None and weights.requires_grad and torch.is_grad_enabled()
        plain = ids.device.type == "cpu" and self.first.row_dtype == torch.float32
        return plain and not trained and not without_values(ids) and not torch.jit.is_tracing()

    def _pooled(self, index: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """Sums of bags, `(bags, D)`."""
        kind = "byte" if self._bits == 8 else f"{self._bits}bit"
        op = getattr(torch.ops.quantized, f"embedding_bag_{kind}_rowwise_offsets")
        pooled: Tensor = op(
            self.kept(self._name),
            index.contiguous(),
            offsets.contiguous(),
            per_sample_weights=None if weights is None else weights.contiguous(),
            include_last_offset=True,
        )
        return pooled


class Rowwise(InCodes):
    """A folded table of rows that keep their ranges behind them.

    Args:
        table: the folded table, whose rows are let go of.
        array: the rows.
        rows: as they are kept.
        name: of the modifier.
        bits: of a code.
        own: the modifier's knobs.
    """

    group = RowwiseGroup

    def __init__(
        self, table: Compressor, array: Array, rows: nn.Parameter, name: str, bits: int, own: Mapping[str, Any]
    ) -> None:
        super().__init__(table, {rows_name(array): rows}, name, own)
        self.in_rows, self.bits = array, bits

    @property
    def stacked(self) -> tuple[str, ...]:  # type: ignore[override]
        """The rows."""
        return self.kept

    @property
    def backend(self) -> str:
        """torch's op."""
        return "torch"

    def group_key(self) -> tuple[Any, ...]:
        """Rows of one form."""
        return *super().group_key(), self.bits

    def arrays(self) -> tuple[Array, ...]:
        """None is left."""
        return ()

    def fold(self) -> Compressor:
        """The same once more, on the same memory."""
        rows = nn.Parameter(self.own(rows_name(self.in_rows)), requires_grad=False)
        return Rowwise(self.table.fold(), self.in_rows, rows, self.modifier_name, self.bits, self._knobs)
