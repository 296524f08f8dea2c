"""Hash tables of row ids behind a cache of rows: building an index, asking it, counting ids."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import register_fake

from embpress.kernels.autograd import again
from embpress.kernels.define import define
from embpress.kernels.reference.row_cache import check_cache_find, check_cache_index, check_count_ids

define("cache_index(Tensor ids, int slots) -> Tensor")
define("cache_find(Tensor index, Tensor ids, Tensor wanted) -> Tensor")
define("count_ids(Tensor(a!) keys, Tensor(b!) counts, Tensor(c!) used, Tensor ids) -> ()")


def cache_index(ids: Tensor, slots: int) -> Tensor:
    """A hash table over the ids of a cache.

    Args:
        ids: `(C,)` int64; negative ones stand for empty rows.
        slots: a power of two above C.

    Returns:
        `(slots,)` int32: in the slot of an id (its hash, or the next free one) its position in `ids`, else -1.

    Raises:
        DtypeError, ArgumentError: types and shapes.
    """
    try:
        return torch.ops.embpress.cache_index.default(ids, slots)
    except Exception as error:
        return again(error, None, (), check_cache_index, (ids, slots))


def cache_find(index: Tensor, ids: Tensor, wanted: Tensor) -> Tensor:
    """Where the cache holds `wanted`, int64 of any shape: int32 positions in `ids`, -1 where it does not.

    Raises:
        DtypeError, ArgumentError: types and shapes, and on the CPU an index that was not made of these ids, as far as
        the search meets it; elsewhere the search ends and finds nothing.
    """
    try:
        return torch.ops.embpress.cache_find.default(index, ids, wanted)
    except Exception as error:
        return again(error, None, (), check_cache_find, (index, ids, wanted))


def count_ids(keys: Tensor, counts: Tensor, used: Tensor, ids: Tensor) -> None:
    """Adds 1 to the counts of `ids`, int32 or int64, in an open-addressing hash table; all three tensors change.

    Args:
        keys: `(slots,)` int64, a power of two; -1 marks a free slot.
        counts: `(slots,)` int64.
        used: int64, one element: slots that are taken. New ids are not counted once seven of eight are.
        ids: any shape; each occurrence counts.

    Raises:
        DtypeError, ArgumentError: types and shapes, and on the CPU a table without a free slot; elsewhere it counts no
        new ids.
    """
    try:
        torch.ops.embpress.count_ids.default(keys, counts, used, ids)
    except Exception as error:
        again(error, None, (), check_count_ids, (keys, counts, used, ids))


@register_fake("embpress::cache_index")
def _(ids: Any, slots: int) -> Tensor:
    check_cache_index(ids, slots)
    return ids.new_empty(slots, dtype=torch.int32)


@register_fake("embpress::cache_find")
def _(index: Any, ids: Any, wanted: Any) -> Tensor:
    check_cache_find(index, ids, wanted)
    return wanted.new_empty(wanted.shape, dtype=torch.int32)


@register_fake("embpress::count_ids")
def _(keys: Any, counts: Any, used: Any, ids: Any) -> None:
    check_count_ids(keys, counts, used, ids)
