"""Bags of served tables of any method in one call, by a recipe that says how each of them makes its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import register_fake

from embpress.kernels.autograd import again
from embpress.kernels.define import define
from embpress.kernels.reference.recipe_lookup import check_recipe_lookup

define(
    "recipe_lookup(Tensor ids, Tensor? offsets, Tensor? weights, Tensor[] arrays, Tensor recipe, int tables, "
    "int dim, bool mean) -> Tensor"
)


def recipe_lookup(
    ids: Tensor,
    offsets: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    arrays: Sequence[Tensor],
    recipe: Tensor,
    tables: int,
    dim: int,
    mean: bool = False,
) -> Tensor:
    """Bags of T tables, made of what the arrays hold: floats, or codes that are decoded as they are read.

    The recipe (`kernels.recipes` writes it) is int64, for each table:

    - its column among those of the ids, its rows n, and its padding id or -1;
    - where hot rows are, a `Where`; and unless it is `NONE`, their *store*, how many they are, the first of them in the
      store, and for `AMONG` the array that lists their ids plus a base, ascending int64, where they begin there, and
      that base;
    - `Kind.PARTS`: a `COMBINE`, the number of parts l, and for each part its *store*, a `Rule`, its size s,
      its first row in the store, and what the rule needs: row `first + h` is taken, where for `DIGIT` c h is
      `i // c mod s`, for `HASH` a b c d it is as in `compositional_lookup`, for `FIRST` it is `min(i, s - 1)`, for
      `AMONG` the place of i in an array of ids, and s - 1 where it is not there;
    - or `Kind.CHUNKS`, of a flat array: its *store*, z, size, row offset and `R1 R2 R3` as in `robe_lookup`;
    - or `Kind.CORES`: how many there are, 2 to 4, and for each the rows of its store that make a slice, p, q, the rank
      behind it, its *store* and the first row there: a row is the product of slices as in `tt_embedding_bag`.

    A *store* is six numbers: a `Form`, the array that holds the rows, the array that holds their ranges or -1, bits of
    an element, which range is that of the columns or of the first row, and bytes of the array before the first row.
    Rows lie one after another, codes without a gap from the lowest bits of each byte on, and are `lo + step · code`
    then, as in `coded_rows`.

    Args:
        ids: `(B, F)` int32 or int64, one id a bag; or `(N,)`, table after table, with offsets.
        offsets: `(T B + 1,)` int64: bag b of table t is `ids[offsets[t B + b] : offsets[t B + b + 1]]`.
        weights: float32 of the ids' shape, for sums.
        arrays: what the recipe speaks of; contiguous float32, bfloat16, uint8 or int64.
        recipe: int64, 1-D.
        tables: their number T.
        dim: the width D.
        mean: divide a bag by the number of its ids; padding does not count.

    Returns:
        `(B, T, D)` float32, of which nothing is differentiated.

    Raises:
        IdOutOfRange: an id out of range, with its table's number. OffsetsError: offsets that do not fit. DtypeError,
            ArgumentError: types and shapes, a recipe that does not fit the arrays.
    """
    arguments = (ids, offsets, weights, list(arrays), recipe, tables, dim, mean)
    try:
        return torch.ops.embpress.recipe_lookup.default(*arguments)
    except Exception as error:
        return again(error, None, (), check_recipe_lookup, arguments)


@register_fake("embpress::recipe_lookup")
def _(ids: Any, offsets: Any, weights: Any, arrays: Any, recipe: Any, tables: int, dim: int, mean: bool) -> Tensor:
    check_recipe_lookup(ids, offsets, weights, arrays, recipe, tables, dim, mean)
    samples = ids.shape[0] if offsets is None else (offsets.shape[0] - 1) // tables
    return ids.new_empty(samples, tables, dim, dtype=torch.float32)
