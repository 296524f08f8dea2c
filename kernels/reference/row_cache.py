"""Hash tables of row ids in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.arguments import integers, longs, shaped, tensor, whole
from embpress.kernels.errors import ArgumentError, DtypeError, corrupt_counts


def _first_slot(id: int, slots: int) -> int:
    """Knuth's multiplicative hash, its upper half: what kernels/cpu/common/id_table.h computes."""
    return ((id * 0x9E3779B97F4A7C15) & (2**64 - 1)) >> 32 & (slots - 1)


def _check_slots(slots: int) -> None:
    if whole("slots", slots, 1) & (slots - 1):
        raise ArgumentError(f"a table of ids needs a power of two of slots, got {slots}")


def check_cache_index(ids: Tensor, slots: int) -> None:
    """Raises for types and shapes that `ops.cache_index` does not take."""
    longs("ids", ids, "C")
    _check_slots(slots)
    if ids.shape[0] >= slots:
        raise ArgumentError(f"{ids.shape[0]} rows need more than {slots} slots")


def check_cache_find(index: Tensor, ids: Tensor, wanted: Tensor) -> None:
    """Raises for types and shapes that `ops.cache_find` does not take."""
    if shaped("index", tensor("index", index), "slots").dtype != torch.int32 or not index.is_contiguous():
        raise DtypeError("index must be contiguous int32")
    longs("ids", ids, "C")
    longs("wanted", wanted, ...)
    _check_slots(index.shape[0])


def check_count_ids(keys: Tensor, counts: Tensor, used: Tensor, ids: Tensor) -> None:
    """Raises for types and shapes that `ops.count_ids` does not take."""
    _check_slots(longs("keys", keys, "slots").shape[0])
    if longs("counts", counts, "slots").shape != keys.shape:
        raise ArgumentError(f"{counts.shape[0]} counts for {keys.shape[0]} slots")
    if longs("used", used, ...).numel() != 1:
        raise ArgumentError(f"used must be one number, got {used.numel()}")
    integers("ids", ids)


def cache_index(ids: Tensor, slots: int) -> Tensor:
    """See `ops.cache_index`."""
    check_cache_index(ids, slots)
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
    check_cache_find(index, ids, wanted)
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
    check_count_ids(keys, counts, used, ids)
    slots, taken = keys.shape[0], int(used)
    if not 0 <= taken <= slots:
        raise corrupt_counts(taken, slots)
    room = max(0, slots - slots // 8 - 1 - taken)
    held, added = keys.tolist(), 0
    hits: dict[int, int] = {}
    for id in ids.flatten().tolist():
        at, probes = _first_slot(id, slots), 0
        while held[at] >= 0 and held[at] != id:
            at, probes = (at + 1) % slots, probes + 1
            if probes == slots:  # one in eight is free in a sound table
                raise corrupt_counts(taken, slots)
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
