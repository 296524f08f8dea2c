"""A pruned table to serve: its values and, in one of two forms, where they are.

The rows lie in blocks of at most 65,536 elements, `⌊65536 / D⌋` rows each; `starts` says where the values of a block
begin.

* `positions`: of each value where in its block it is, 16 bits.
* `bitmap`: a bit for each element, in cells of 256; `counts` says how many values of the block lie before each cell.

The smaller one is taken, a bitmap where more than about a sixteenth of the elements stay. A lookup reads what belongs
to its row: it searches in the positions of its block, or reads the bits of its cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.options import TableOptions

BLOCK, CELL, WORD = 1 << 16, 256, 64  # elements of a block, bits of a cell and of a word
_WORDS, _CELL_BITS, _WORD_BITS = CELL // WORD, 8, 6  # shifts divide faster
_HALF = 1 << 15  # 16-bit numbers from 0 are kept as int16 less this


def rows_of_block(dim: int) -> int:
    """Rows in a block; InputError where not even one fits."""
    if dim > BLOCK:
        raise InputError(f"prune: the width {dim} is above {BLOCK}")
    return BLOCK // dim


def index_sizes(n: int, dim: int) -> tuple[int, int]:
    """How many blocks a table has, and how many cells."""
    rows = rows_of_block(dim)
    whole, rest = divmod(n, rows)
    return whole + (rest > 0), whole * -(-rows * dim // CELL) + -(-rest * dim // CELL)


def index_bytes(n: int, dim: int, kept: int) -> dict[str, int]:
    """Bytes of what says where `kept` values are, by name; the smaller form."""
    blocks, cells = index_sizes(n, dim)
    bits, positions = {"words": CELL // 8 * cells, "counts": 2 * cells}, {"positions": 2 * kept}
    smaller = positions if sum(positions.values()) <= sum(bits.values()) else bits
    return {"starts": 8 * (blocks + 1), **smaller}


def most_kept(n: int, dim: int, size: int) -> int:
    """The most values that fit into `size` bytes in float32 with their index; 0 or less where there is no room."""
    blocks, cells = index_sizes(n, dim)
    rest = size - 8 * (blocks + 1)
    return min(n * dim, max(rest // 6, (rest - (CELL // 8 + 2) * cells) // 4))


def values_of(kept: int) -> Array:
    """The array of so many values."""
    return Array("values", kept, 1, ranges="block")


class PackedGroup(TableGroup):
    """The values and the indices of all tables one after another."""

    tables: Sequence[Packed]

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        if not alone:
            self.integers["kept"] = [table.kept for table in self.tables]
            for name in self.first.index:
                self.integers[name] = [table.row_offset_in(name) for table in self.tables]

    def _take_over(self, tables: list[Compressor]) -> None:
        super()._take_over(tables)
        for name in self.first.index if len(tables) > 1 else ():
            counts = [table.own(name).shape[0] for table in tables]
            self.register_buffer(name, torch.cat([table.own(name) for table in tables]))
            for t, table in enumerate(tables):
                table.adopt(self, name, slice(sum(counts[:t]), sum(counts[: t + 1])))

    def rows(self, ids: Tensor) -> Tensor:
        """See `TableGroup.rows`."""
        if self.count == 1:
            return self.lookups(ids.flatten(), ids.new_zeros(1).long()).unsqueeze(1)
        tables = torch.arange(self.count, device=ids.device).expand(ids.shape)
        return self.lookups(ids.flatten(), tables.flatten()).unflatten(0, ids.shape)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        """See `TableGroup.lookups`; tables in any order."""
        return self.assemble(ids.long(), tables, self.take(tables))

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        """See `TableGroup.assemble`."""
        first = self.first
        held = {name: first.whole(name) for name in first.index}
        if self.count == 1:
            offsets: dict[str, Any] = {name: first.row_offset_in(name) for name in held}
        else:
            offsets = {name: self.integers.on(ids.device, name)[tables] for name in held}
        last = self.integers.on(ids.device, "kept")[tables].unsqueeze(1) - 1

        def values(place: Tensor) -> Tensor:
            """At places `(N, D)` among a table's own; of those beyond the end nothing is asked."""
            return take("values", torch.minimum(place, last)).squeeze(-1)

        find = _by_bits if "words" in held else _by_positions
        return find(values, held, offsets, ids, first.embedding_dim)


Values = Callable[[Tensor], Tensor]


def _by_positions(values: Values, held: dict[str, Tensor], offsets: dict[str, Any], ids: Tensor, dim: int) -> Tensor:
    """Rows `(N, D)` of ids `(N,)`: where the row begins among the positions of its block, and the next D of them."""
    rows, positions = rows_of_block(dim), held["positions"]
    block = ids // rows
    element = (ids - block * rows) * dim
    begin, end = _ends(held["starts"], block + offsets["starts"])
    low, high = begin, end
    for _ in range(17):  # a block has 2^16 positions at most
        middle = (low + high) // 2
        place = (middle + offsets["positions"]).clamp(max=positions.shape[0] - 1)
        before = (positions[place].long() + _HALF < element) & (low < high)
        low, high = torch.where(before, middle + 1, low), torch.where(before, high, middle)
    window = low.unsqueeze(1) + torch.arange(dim, device=ids.device)
    there = window < end.unsqueeze(1)
    place = (window + _column(offsets["positions"])).clamp(max=positions.shape[0] - 1)
    column = positions[place].long() + _HALF - element.unsqueeze(1)
    there = there & (column < dim)
    found = values(window).masked_fill(~there, 0)
    return found.new_zeros(found.shape).scatter_add(1, column.masked_fill(~there, 0), found)


def _by_bits(values: Values, held: dict[str, Tensor], offsets: dict[str, Any], ids: Tensor, dim: int) -> Tensor:
    """Rows `(N, D)` of ids `(N,)`: the row's bits, and how many before it in its block are set."""
    rows, words = rows_of_block(dim), held["words"]
    cells = -(-rows * dim // CELL)
    block = ids // rows
    element = (ids - block * rows) * dim
    begin, _ = _ends(held["starts"], block + offsets["starts"])
    cell = block * cells + (element >> _CELL_BITS)
    rank = begin + held["counts"][cell + offsets["counts"]].long() + _HALF
    # of the cell's words the bits before the row
    each = torch.arange(_WORDS, device=ids.device)
    before = ((element & (CELL - 1)).unsqueeze(1) - WORD * each).clamp(0, WORD)
    mask = torch.where(before < WORD, (1 << before.clamp(max=WORD - 1)) - 1, -1)
    word = (cell * _WORDS + offsets["words"]).unsqueeze(1) + each
    rank = rank + _bits_set(words[word] & mask).sum(1)
    place = element.unsqueeze(1) + torch.arange(dim, device=ids.device)
    word = (block * (cells * _WORDS) + offsets["words"]).unsqueeze(1) + (place >> _WORD_BITS)
    bits = (words[word] >> (place & (WORD - 1))) & 1
    window = rank.unsqueeze(1) + bits.cumsum(1) - bits
    return values(window).masked_fill(bits == 0, 0)


def _ends(starts: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
    return starts[block], starts[block + 1]


def _column(offset: Any) -> Any:
    return offset.unsqueeze(1) if isinstance(offset, Tensor) else offset


def _bits_set(words: Tensor) -> Tensor:
    """How many bits of each int64 are set."""
    pairs = words - ((words >> 1) & 0x5555555555555555)
    nibbles = (pairs & 0x3333333333333333) + ((pairs >> 2) & 0x3333333333333333)
    octets = (nibbles + (nibbles >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((octets * 0x0101010101010101) >> 56) & 0xFF


class Packed(Compressor):
    """A pruned table to serve, made by `Prune.fold`.

    Args:
        kept: how many values there are.

    Attributes:
        index: names of the buffers that say where the values are.
    """

    spec_name = "prune"
    stacked: ClassVar[tuple[str, ...]] = ("values",)
    group = PackedGroup

    def __init__(self, num_embeddings: int, embedding_dim: int, *, kept: int, **options: Unpack[TableOptions]) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        self.kept = kept
        device = options.get("device")
        self.integers["kept"] = [kept]
        self.index: list[str] = []
        self.values = nn.Parameter(torch.zeros(kept, 1, device=device, dtype=options.get("dtype")), requires_grad=False)
        dtypes = {"starts": torch.int64, "words": torch.int64}
        for name, size in index_bytes(self.num_embeddings, self.embedding_dim, kept).items():
            dtype = dtypes.get(name, torch.int16)
            self.index.append(name)
            self.register_buffer(name, torch.zeros(size // dtype.itemsize, dtype=dtype, device=device))

    @torch.no_grad()
    def pack(self, weight: Tensor, keep: Tensor) -> None:
        """Takes the elements of `weight (n, D)` that `keep (n, D)` bool says, `kept` of them."""
        dim = self.embedding_dim
        rows = rows_of_block(dim)
        self.values.copy_(weight[keep].unsqueeze(1))
        for block, part in enumerate(keep.split(rows)):
            own = part.flatten()
            count = int(own.sum())
            start = int(self.starts[block])
            self.starts[block + 1] = start + count
            if "positions" in self.index:
                self.positions[start : start + count] = own.nonzero().flatten() - _HALF
                continue
            cells = nn.functional.pad(own, (0, -len(own) % CELL)).view(-1, CELL)
            first = block * -(-rows * dim // CELL)
            sums = cells.sum(1)
            self.counts[first : first + len(cells)] = sums.cumsum(0) - sums - _HALF
            bits = cells.view(-1, WORD).long() << torch.arange(WORD, device=own.device)
            self.words[first * _WORDS : (first + len(cells)) * _WORDS] = bits.sum(1)

    def arrays(self) -> tuple[Array, ...]:
        """The values, one after another."""
        return (values_of(self.kept),)

    def group_key(self) -> tuple[Any, ...]:
        """One call has one form."""
        return *super().group_key(), *self.index
