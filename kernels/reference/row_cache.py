"""Hash tables of row ids in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def _first_slot(id: int, slots: int) -> int:
    """Knuth's multiplicative hash, its upper half: what kernels/cpu/common/id_table.h computes."""
    return ((id * 0x9E3779B97F4A7C15) & (2**64 - 1)) >> 32 & (slots - 1)


def _check_slots(slots: int) -> None:
    if slots < 1 or slots & (slots - 1):
        raise RuntimeError(f"a table of ids needs a power of two of slots, got {slots}")


def cache_index(ids: Tensor, slots: int) -> Tensor:
    """See `ops.cache_index`."""
    _check_slots(slots)
    if ids.shape[0] >= slots:
        raise RuntimeError(f"cache_index: {ids.shape[0]} rows need more than {slots} slots")
    index = [-1] * slots
    for row, id in enumerate(ids.tolist()):
        if id < 0:
            continue
        at = _first_slot(id, slots)
        while index[at] >= 0:
            at = (at + 1) % slots
        index[at] = row
    return torch.tensor(index, dtype=torch.int32, device=ids.device)


def cache_find(index: Tensor, ids: Tensor, wanted: Tensor) -> Tensor:
    """See `ops.cache_find`. The ids are sorted here, so the slots of the index do not matter."""
    rows = torch.full_like(wanted, -1, dtype=torch.int32)
    held = (ids >= 0).nonzero().flatten()
    if held.numel() == 0:
        return rows
    order = held[ids[held].argsort()]
    position = torch.searchsorted(ids[order], wanted.contiguous()).clamp(max=len(order) - 1)
    candidate = order[position]
    return torch.where(ids[candidate] == wanted, candidate.int(), rows)


def count_ids(keys: Tensor, counts: Tensor, used: Tensor, ids: Tensor) -> None:
    """See `ops.count_ids`."""
    slots = keys.shape[0]
    _check_slots(slots)
    if counts.shape[0] != slots:
        raise RuntimeError(f"count_ids: {counts.shape[0]} counts for {slots} slots")
    room = max(0, slots - slots // 8 - 1 - int(used))
    held, added = keys.tolist(), 0
    hits: dict[int, int] = {}
    for id in ids.flatten().tolist():
        at = _first_slot(id, slots)
        while held[at] >= 0 and held[at] != id:
            at = (at + 1) % slots
        if held[at] < 0:
            if added == room or id < 0:
                continue
            held[at] = id
            added += 1
        hits[at] = hits.get(at, 0) + 1
    where = torch.tensor(list(hits), dtype=torch.int64, device=keys.device)
    keys[where] = torch.tensor([held[at] for at in hits], dtype=torch.int64, device=keys.device)
    counts[where] += torch.tensor(list(hits.values()), dtype=torch.int64, device=keys.device)
    used += added
