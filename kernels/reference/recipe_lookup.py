"""Bags of served tables of any method by a recipe, in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from embpress.kernels.arguments import integers, longs, shaped, tensor, whole
from embpress.kernels.errors import ArgumentError, DtypeError, IdOutOfRange
from embpress.kernels.recipes import Chunks, Cores, Form, HotRows, Part, Parts, Rule, Store, Table, decoded_tables
from embpress.kernels.reference.checks import check_offsets
from embpress.kernels.reference.coded_rows import coded_rows
from embpress.kernels.reference.compositional import COMBINE, combine_parts
from embpress.kernels.reference.hashing import ROBE_PRIME, part_hash
from embpress.kernels.reference.pooling import pool
from embpress.kernels.reference.robe import robe_elements
from embpress.kernels.reference.tt_embedding_bag import tt_digits

_TYPES = {Form.FLOAT32: (torch.float32, 32), Form.BFLOAT16: (torch.bfloat16, 16)}
_KINDS = {Form.COLUMNS: 0, Form.ROWS: 1, Form.BLOCKS: 2}  # in the numbering of `coded_rows`
_BLOCK = 64
_MOST_CORES = 4


def check_recipe_lookup(
    ids: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    arrays: Sequence[Tensor],
    recipe: Tensor,
    tables: int,
    dim: int,
    mean: bool,
) -> None:
    """Raises for types and shapes that `ops.recipe_lookup` does not take, and for a recipe that does not fit."""
    integers("ids", ids)
    tables, dim = whole("tables", tables, 1), whole("dim", dim, 1, 2**24)
    if offsets is None:
        shaped("ids", ids, "B", "F")
    else:
        shaped("ids", ids, "N")
        bounds = longs("offsets", offsets, "T B + 1").shape[0]
        if bounds < 1 or (bounds - 1) % tables:
            raise ArgumentError(f"{bounds} offsets are not those of {tables} tables and the end")
    if weights is not None:
        if tensor("weights", weights).dtype != torch.float32:
            raise DtypeError(f"weights must be float32, got {str(weights.dtype).removeprefix('torch.')}")
        shaped("weights", weights, *ids.shape)
        if mean:
            raise ArgumentError("weights go with sums, not with means")
    for array in arrays:
        if tensor("arrays", array).dtype not in (torch.float32, torch.bfloat16, torch.uint8, torch.int64):
            raise DtypeError("arrays must be float32, bfloat16, uint8 or int64")
    longs("recipe", recipe, "numbers")
    if recipe.is_meta or not _has_values(recipe):
        return
    for table in decoded_tables(recipe.tolist(), tables):
        check_recipe_table(table, arrays, dim)
        if offsets is None and not 0 <= table.column < ids.shape[1]:
            raise _unfit(f"there is no column {table.column} of {ids.shape[1]}")


def _has_values(numbers: Tensor) -> bool:
    from torch._subclasses.fake_tensor import FakeTensor

    return not isinstance(numbers, FakeTensor) and not torch.compiler.is_compiling()


def _unfit(what: str) -> ArgumentError:
    return ArgumentError(f"the recipe does not fit: {what}")


def _array(arrays: Sequence[Tensor], number: int) -> Tensor:
    if not 0 <= number < len(arrays):
        raise _unfit(f"there is no array {number} of {len(arrays)}")
    if not arrays[number].is_contiguous():
        raise _unfit(f"array {number} is not contiguous")
    return arrays[number]


def _held(store: Store, arrays: Sequence[Tensor], width: int) -> int:
    """How many rows of this width, or elements where it is 0, a store holds."""
    array = _array(arrays, store.array)
    wanted = _TYPES.get(store.form, (torch.uint8, store.bits))
    if (array.dtype, store.bits) != wanted or store.bits not in (1, 2, 4, 8, 16, 32):
        raise _unfit("the type of a store")
    if (store.form == Form.BLOCKS) != (store.form.codes and width == 0):
        raise _unfit("a flat store")
    if not 0 <= store.begin <= array.nbytes or (store.begin and not store.form.codes):
        raise _unfit("where a store begins")
    held = (array.nbytes - store.begin) * 8 // (max(1, width) * store.bits)
    if not store.form.codes:
        return held
    ranges = _array(arrays, store.ranges)
    if ranges.dtype != torch.bfloat16 or store.first_range < 0:
        raise _unfit("the ranges of codes")
    if store.form == Form.COLUMNS:
        if store.first_range >= ranges.numel() // (2 * width):
            raise _unfit("the ranges of columns")
        return held
    left = ranges.numel() // 2 - store.first_range
    if left < 0:
        raise _unfit("the ranges of rows")
    return min(held, left * (_BLOCK if store.form == Form.BLOCKS else 1))


def check_recipe_table(table: Table, arrays: Sequence[Tensor], dim: int) -> None:
    """Raises ArgumentError for a table that the op does not take, or that does not fit the arrays."""
    if table.column < 0 or table.rows < 0:
        raise _unfit("the rows of a table")
    hot = table.hot
    if hot is not None:
        _check_rows(hot.first, hot.count, _held(hot.store, arrays, dim))
        if hot.ids is not None:
            if not 0 <= hot.base <= 2**63 - 1 - table.rows:
                raise _unfit("the ids of hot rows")
            _check_rows(hot.begin, hot.count, longs("known ids", _array(arrays, hot.ids), "k").shape[0])
    made = table.made
    if isinstance(made, Chunks):
        held = _held(made.store, arrays, 0)
        if not (1 <= made.z <= dim and made.z <= made.size <= held):
            raise _unfit("chunks of an array")
        if made.row_offset < 0 or made.row_offset + table.rows > ROBE_PRIME:
            raise _unfit("the rows of an array")
        _check_coefficients(made.coefficients)
        return
    if isinstance(made, Cores):
        _check_cores(made, table.rows, arrays, dim)
        return
    if not 0 <= made.combine < len(COMBINE) or not made.parts:
        raise _unfit("how parts are combined")
    if COMBINE[made.combine] == "concat" and dim % len(made.parts):
        raise _unfit("chunks of a row")
    for part in made.parts:
        _check_part(part, table, arrays, _width(made, dim))


def _check_cores(made: Cores, rows: int, arrays: Sequence[Tensor], dim: int) -> None:
    if not 2 <= len(made.cores) <= _MOST_CORES or rows > 2**52:
        raise _unfit("the number of cores")
    rank = 1
    for core in made.cores:
        numbers = core.each, core.digits, core.columns, core.rank
        if not all(1 <= number <= 2**40 for number in numbers) or core.columns > dim or core.rank > 2**15:
            raise _unfit("the shape of a core")
        size = rank * core.columns * core.rank
        if size % core.each:
            raise _unfit("the rows of a slice")
        _check_rows(core.first, core.digits * core.each, _held(core.store, arrays, size // core.each))
        rank = core.rank
    columns, digits = (math.prod(getattr(core, name) for core in made.cores) for name in ("columns", "digits"))
    if columns != dim or rank != 1 or digits < rows:
        raise _unfit("the shape of cores")


def _check_part(part: Part, table: Table, arrays: Sequence[Tensor], width: int) -> None:
    _check_rows(part.first, part.size, _held(part.store, arrays, width))
    if part.size < 1:
        raise _unfit("the rows of a part")
    if part.rule == Rule.DIGIT and (part.numbers[0] < 1 or table.rows > 2**52):
        raise _unfit("the stride of a part")
    if part.rule == Rule.HASH:
        if table.rows > 2**31:
            raise _unfit("the hash of a part")
        _check_coefficients(part.numbers)
    if part.rule == Rule.AMONG and longs("known ids", _array(arrays, part.numbers[0]), "k").shape[0] >= part.size:
        raise _unfit("the ids of a part")


def _check_rows(first: int, count: int, held: int) -> None:
    if count < 0 or not 0 <= first <= held - count:
        raise _unfit(f"there are no rows {first} to {first + count} of {held}")


def _check_coefficients(numbers: Sequence[int]) -> None:
    if not all(0 <= number < ROBE_PRIME for number in numbers):
        raise _unfit("a coefficient")


def _width(made: Parts, dim: int) -> int:
    return dim // len(made.parts) if COMBINE[made.combine] == "concat" else dim


def recipe_lookup(
    ids: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    arrays: Sequence[Tensor],
    recipe: Tensor,
    tables: int,
    dim: int,
    mean: bool,
) -> Tensor:
    """See `ops.recipe_lookup`."""
    check_recipe_lookup(ids, offsets, weights, arrays, recipe, tables, dim, mean)
    made = decoded_tables(recipe.tolist(), tables)
    if offsets is None:
        columns = [ids[:, table.column] for table in made]
        scales = [None if weights is None else weights[:, table.column] for table in made]
        bounds: list[Tensor | None] = [None] * tables
    else:
        offsets = check_offsets(offsets, ids.shape[0])
        bags = (offsets.shape[0] - 1) // tables
        own = [offsets[t * bags : (t + 1) * bags + 1] for t in range(tables)]
        columns = [ids[bound[0] : bound[-1]] for bound in own]
        scales = [None if weights is None else weights[bound[0] : bound[-1]] for bound in own]
        bounds = [bound - bound[0] for bound in own]
    parts = zip(made, columns, bounds, scales)
    return torch.stack([_bags(t, *part, arrays, dim, mean) for t, part in enumerate(parts)], dim=1)


def _bags(
    t: int,
    table: Table,
    ids: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    arrays: Sequence[Tensor],
    dim: int,
    mean: bool,
) -> Tensor:
    wrong = (ids < 0) | (ids >= table.rows)
    if bool(wrong.any()):
        raise IdOutOfRange(int(ids[wrong][0]), table.rows, t)
    ids = ids.long()
    rows = _rows(table, ids, arrays, dim)
    padding = ids == table.padding
    if table.padding >= 0:
        rows = rows.masked_fill(padding.unsqueeze(1), 0)
    pooled = pool(rows, offsets, weights, False)
    if not mean or offsets is None:
        return pooled
    kept = torch.nn.functional.pad((~padding).cumsum(0), (1, 0))[offsets].diff()
    return pooled / kept.clamp(min=1).unsqueeze(1)


def _rows(table: Table, ids: Tensor, arrays: Sequence[Tensor], dim: int) -> Tensor:
    """Rows `(N, D)` float32 of ids int64."""
    made = table.made
    if isinstance(made, Chunks):
        numbers = torch.tensor(made.coefficients, device=ids.device)
        index, _ = robe_elements(ids + made.row_offset, numbers, made.size, made.z, dim)
        rows = _taken(made.store, arrays, index, 1).squeeze(-1)
    elif isinstance(made, Cores):
        rows = _product(made, ids, arrays).view(len(ids), dim)
    else:
        width = _width(made, dim)
        taken = [_taken(part.store, arrays, _index(part, ids, arrays), width) for part in made.parts]
        rows = combine_parts(torch.stack(taken, dim=1), COMBINE[made.combine])
    return rows if table.hot is None else _with_hot_rows(table.hot, ids, rows, arrays)


def _product(made: Cores, ids: Tensor, arrays: Sequence[Tensor]) -> Tensor:
    digits = tt_digits(ids, [core.digits for core in made.cores])
    rows, rank, columns = ids.new_ones(len(ids), 1, 1, dtype=torch.float32), 1, 1
    for core, digit in zip(made.cores, digits):
        index = core.first + digit.unsqueeze(1) * core.each + torch.arange(core.each, device=ids.device)
        slices = _taken(core.store, arrays, index, rank * core.columns * core.rank // core.each)
        rows = torch.bmm(rows, slices.view(len(ids), rank, core.columns * core.rank))
        rank, columns = core.rank, columns * core.columns
        rows = rows.view(len(ids), columns, rank)
    return rows


def _with_hot_rows(hot: HotRows, ids: Tensor, rows: Tensor, arrays: Sequence[Tensor]) -> Tensor:
    if hot.ids is None:
        slot, there = ids, ids < hot.count
    else:
        slot, there = _place(arrays[hot.ids][hot.begin : hot.begin + hot.count], ids + hot.base)
    if hot.count == 0:
        return rows
    exact = _taken(hot.store, arrays, hot.first + slot.clamp(max=hot.count - 1), rows.shape[1])
    return torch.where(there.unsqueeze(1), exact, rows)


def _place(known: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The place of ids among ascending ones, and whether they are there."""
    place = torch.searchsorted(known, ids.contiguous())
    if known.shape[0] == 0:
        return place, torch.zeros_like(ids, dtype=torch.bool)
    return place, known[place.clamp(max=known.shape[0] - 1)] == ids


def _index(part: Part, ids: Tensor, arrays: Sequence[Tensor]) -> Tensor:
    if part.rule == Rule.DIGIT:
        found = ids // part.numbers[0] % part.size
    elif part.rule == Rule.HASH:
        coefficients = torch.tensor(part.numbers, device=ids.device).unsqueeze(1)
        found = part_hash(ids.unsqueeze(1), coefficients).squeeze(1) % part.size
    elif part.rule == Rule.FIRST:
        found = ids.clamp(max=part.size - 1)
    else:
        place, there = _place(arrays[part.numbers[0]], ids)
        found = place.masked_fill(~there, part.size - 1)
    return part.first + found


def _taken(store: Store, arrays: Sequence[Tensor], index: Tensor, width: int) -> Tensor:
    """Rows `(*, width)` float32 of a store, or elements `(*, 1)` of a flat one."""
    array = arrays[store.array]
    if not store.form.codes:
        return array.reshape(-1, width)[index].float()
    flat = index.reshape(len(index), math.prod(index.shape[1:]))
    ranges = arrays[store.ranges]
    segments = None
    if store.form == Form.COLUMNS:
        ranges = ranges.reshape(-1, 2, width)
        segments = torch.full((flat.shape[1],), store.first_range, device=index.device)
    else:
        ranges = ranges.reshape(-1, 2)[store.first_range :]
    codes = array.reshape(-1)[store.begin :]
    if store.form == Form.BLOCKS:  # whose starts count in blocks
        codes = codes[: codes.shape[0] // (_BLOCK * store.bits // 8) * (_BLOCK * store.bits // 8)]
    found = coded_rows(codes, ranges, flat, segments, None, None, store.bits, width, _KINDS[store.form])
    return found.view(*index.shape, width)
