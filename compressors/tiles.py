"""Lookups of many tables in tiles of one table each, so that one batched product answers all of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Tiles(NamedTuple):
    """`2 T` tiles of `m = ⌊N / T⌋ + 1` lookups, or one tile of one table: the sizes follow from N and T alone.

    Attributes:
        ids: `(2 T, m)`; 0 where a tile is not full.
        tables: `(2 T,)` int64, the table of each tile.
        place: `(N,)` int64, where each lookup lies among the `2 T m`.
    """

    ids: Tensor
    tables: Tensor
    place: Tensor


def tiles(ids: Tensor, tables: Tensor, count: int) -> Tiles:
    """Tiles of checked ids `(N,)` of the tables `(N,)` int64, in any order, of `count` tables `T`.

    A table with c lookups fills `⌈c / m⌉` tiles, `N / m + T < 2 T` in all: at most half of the work is for nothing,
    however unevenly the lookups are spread.
    """
    if count == 1:
        return Tiles(ids.unsqueeze(0), tables.new_zeros(1), torch.arange(ids.shape[0], device=ids.device))
    size = ids.shape[0] // count + 1
    order = tables.argsort(stable=True)
    counts = tables.new_zeros(count).index_add(0, tables, torch.ones_like(tables))
    ends = ((counts + size - 1) // size).cumsum(0)  # tiles up to a table's last
    numbers = torch.arange(2 * count, device=tables.device)
    of_tile = torch.searchsorted(ends, numbers, right=True).clamp(max=count - 1)
    in_order = tables[order]
    position = torch.arange(ids.shape[0], device=tables.device) - (counts.cumsum(0) - counts)[in_order]
    first = torch.nn.functional.pad(ends[:-1], (1, 0))[in_order]
    place = torch.empty_like(order).scatter(0, order, first * size + position)
    filled = ids.new_zeros(2 * count * size).scatter(0, place, ids)
    return Tiles(filled.view(2 * count, size), of_tile, place)
