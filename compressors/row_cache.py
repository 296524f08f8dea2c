"""Rows that training looks up most, kept as they are: counted and cached as TT-Rec does (Yin et al. 2021, 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from embpress.compressors.bags import without_values
from embpress.compressors.distributed import counted_by_all
from embpress.compressors.errors import InputError
from embpress.compressors.resumable import Resumable
from embpress.kernels import ops

# slots of the table of counts for each cached row, and at least; counts of rare ids are forgotten when it fills up
_COUNTED, _MIN_COUNTED = 16, 4096
_LOOK = 16  # steps between looks at how full that table is, where looking waits for a device


def index_slots(rows: int) -> int:
    """Slots of the hash table over the ids of `rows` cached rows: at most half of them are taken."""
    return 1 << (2 * rows - 1).bit_length()


def count_slots(rows: int) -> int:
    """Slots of the hash table of counts."""
    return 1 << (max(_MIN_COUNTED, _COUNTED * rows) - 1).bit_length()


def in_training_step(table: nn.Module, parameters: Iterable[Tensor], ids: Tensor) -> bool:
    """Whether these lookups are a training step's: not those of a frozen table, nor of a recomputed forward."""
    if not (table.training and torch.is_grad_enabled()) or not any(p.requires_grad for p in parameters):
        return False
    if torch.compiler.is_compiling():
        return True  # where the graph breaks
    return torch._C._current_graph_task_id() == -1 and not without_values(ids)


def exchange(held: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows enter where: those that stay keep their slots, others leave as far as their room is needed.

    Args:
        held: `(C,)` int64, the id in each slot, -1 for none.
        wanted: distinct ids `(K,)` int64, `K <= C`.

    Returns:
        Slots `(E,)`, and the ids that enter there.
    """
    entering = wanted[~torch.isin(wanted, held)]
    free = (held < 0).nonzero().flatten()
    leaving = ((held >= 0) & ~torch.isin(held, wanted)).nonzero().flatten()
    return torch.cat([free, leaving])[: len(entering)], entering


class RowCounter(Resumable):
    """How often ids are looked up in training, and when it is time to act on it.

    Ids are counted in an open-addressing hash table of 16 slots a row that is wanted. Where it is three quarters full,
    the counts of all but its most frequent quarter are forgotten (lossy counting). It is time after `warmup` training
    steps, and every `refresh` steps from then on.

    Attributes:
        keys, counts: ids seen in training and how often.
        used: slots of `keys` that are taken.
        steps: training steps so far. filled: steps at the last refresh, -1 before the first. Both are on the CPU and,
            like `used`, int64 scalars.
    """

    remembers: ClassVar[tuple[str, ...]] = ("_blind",)
    keys: Tensor | None
    counts: Tensor | None
    steps: Tensor
    used: Tensor
    filled: Tensor

    def __init__(self, rows: int, *, warmup: int, refresh: int, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.warmup, self.refresh = warmup, refresh
        self.register_buffer("keys", torch.full((count_slots(rows),), -1, device=device))
        self.register_buffer("counts", torch.zeros(count_slots(rows), dtype=torch.int64, device=device))
        self.register_buffer("used", torch.zeros((), dtype=torch.int64, device=device))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device="cpu"))
        self.register_buffer("filled", torch.full((), -1, device="cpu"))
        self._blind = 0  # steps since `used` was looked at

    @torch.no_grad()
    def reset(self) -> None:
        """Forgets what has been counted."""
        if self.keys is not None and self.counts is not None:
            self.keys.fill_(-1)
            self.filled.fill_(-1)
            for count in (self.counts, self.used, self.steps):
                count.zero_()
        self._blind = 0

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        # steps and filled are read at each step: on the CPU nobody waits for a device
        steps, filled = self.steps, self.filled
        super()._apply(fn, recurse)
        self.steps, self.filled = steps, filled
        return self

    @torch.no_grad()
    def count(self, ids: Tensor) -> None:
        """Counts the ids of one training step."""
        if self.keys is None or self.counts is None:
            return  # folded
        if ids.is_cuda and torch.cuda.is_current_stream_capturing():
            raise InputError("what counts ids cannot be captured in a CUDA graph: call eval() or fold() first")
        self._blind += 1
        if not ids.is_cuda or self._blind >= _LOOK:  # a full table counts no new ids: to see it late is safe
            self._blind = 0
            if 4 * int(self.used) > 3 * self.keys.shape[0]:
                self._forget()
        ops.count_ids(self.keys, self.counts, self.used, ids)
        self.steps += 1

    def due(self) -> bool:
        """Whether it is time to let the most counted ids in."""
        if self.keys is None:
            return False
        steps, filled = int(self.steps), int(self.filled)
        return steps >= self.warmup and (filled < 0 or steps - filled >= self.refresh)

    def _forget(self) -> None:
        """Keeps the most counted quarter of the slots."""
        assert self.keys is not None  # count() has looked
        assert self.counts is not None
        keep = self._ranked(self.keys.shape[0] // 4)
        ids, counts = self.keys[keep].clone(), self.counts[keep].clone()
        self.keys.fill_(-1)
        self.counts.zero_()
        self.used.zero_()
        ops.count_ids(self.keys, self.counts, self.used, ids)
        # the same slots, found again: every id has been counted once now
        order = self.keys[self.keys >= 0].argsort()
        slots = (self.keys >= 0).nonzero().flatten()[order]
        self.counts[slots] = counts[ids.argsort()]

    def _ranked(self, count: int) -> Tensor:
        """Slots of the `count` most counted ids, the most frequent first, smaller ids first among equals."""
        assert self.keys is not None
        assert self.counts is not None
        slots = (self.counts > 0).nonzero().flatten()
        by_id = slots[self.keys[slots].argsort()]
        return by_id[self.counts[by_id].argsort(descending=True, stable=True)][:count]

    @torch.no_grad()
    def most(self, count: int) -> Tensor:
        """The `count` most counted ids, of all ranks that train together; the schedule takes it for a refresh."""
        assert self.keys is not None  # a folded cache is never due
        assert self.counts is not None
        self.filled.copy_(self.steps)
        taken = self.counts > 0
        ids, counts = counted_by_all(self, self.keys[taken], self.counts[taken])
        return ids[counts.argsort(descending=True, stable=True)[:count]]  # smaller ids first among equals


class RowCache(RowCounter):
    """Rows of a table by id, filled with the most frequent ones while the table is trained.

    The most counted ids enter when it is time (see `RowCounter`). A row that stays keeps its
    slot, its learned value and with them its optimizer state; a row that enters starts from the cores.

    Attributes:
        values: `(C, D)`, a parameter.
        ids: `(C,)` int64, the row that each slot holds, -1 for none.
        index: hash table over `ids`.
        keys, counts, used, steps, filled: see `RowCounter`; None in a folded table.
    """

    ids: Tensor
    index: Tensor

    def __init__(
        self,
        rows: int,
        dim: int,
        *,
        warmup: int,
        refresh: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(rows, warmup=warmup, refresh=refresh, device=device)
        self.values = nn.Parameter(torch.zeros(rows, dim, device=device, dtype=dtype))
        self.register_buffer("ids", torch.full((rows,), -1, device=device))
        self.register_buffer("index", torch.full((index_slots(rows),), -1, dtype=torch.int32, device=device))
        self._entered: list[Tensor] = []

    def __setattr__(self, name: str, value: Any) -> None:
        # what fully_shard gathers for a forward is dropped afterwards, and rows that have entered with it
        if name == "values" and type(value).__name__ == "DTensor":
            raise InputError("a cache of rows cannot be sharded, for rows that enter would be lost: train without one")
        super().__setattr__(name, value)

    @torch.no_grad()
    def reset(self) -> None:
        """Empties the cache and forgets what has been counted."""
        self.values.zero_()
        self.ids, self.index = torch.full_like(self.ids, -1), torch.full_like(self.index, -1)
        super().reset()
        self._entered = []

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        if f"{prefix}ids" not in state_dict or self.ids.is_meta:
            return
        held = self.ids[self.ids >= 0]
        if bool((self.ids < -1).any()) or len(held.unique()) < len(held):
            arguments[-1].append(f"{prefix}ids: the cached rows are no rows, or some of them are there twice")
            self.ids = torch.full_like(self.ids, -1)
        self.index = ops.cache_index(self.ids, self.index.shape[0])  # it follows from the ids, whatever was saved

    def tensors(self, weighted: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """What the op takes: index, ids, values.

        Rows may change slots before the backward (two forwards, then one backward): gradients of those that have left
        are dropped. `weighted`: the backward also reads the values, for the weights' gradient, so they are copied.
        """
        values, ids = self.values, self.ids
        if self.keys is not None and values.requires_grad and torch.is_grad_enabled():
            values = values.clone() if weighted else values.view_as(values)  # type: ignore[assignment]
            values.register_hook(lambda grad: self._of_held(grad, ids))
        return self.index, ids, values

    def _of_held(self, grad: Tensor, ids: Tensor) -> Tensor:
        """A gradient of the values `(C, D)`, zero for those of `ids` that are no longer where they were."""
        return grad if ids is self.ids else grad.masked_fill((ids != self.ids).unsqueeze(1), 0)

    def holds(self, ids: Tensor) -> Tensor:
        """Which of the ids, int64 of any shape, are cached: bool."""
        return self.slots(ids) >= 0

    def slots(self, ids: Tensor) -> Tensor:
        """Where the ids, int64 of any shape, are cached: rows of `values`, -1 for those that are not."""
        return ops.cache_find(self.index, self.ids, ids).long()

    @torch.no_grad()
    def update(self, lookup: Callable[[Tensor], Tensor], write_back: Callable[[Tensor, Tensor], None] | None) -> None:
        """Lets the most counted ids in.

        Args:
            lookup: rows `(E, D)` of ids `(E,)` from the cores.
            write_back: called with the ids and values of evicted rows before any row enters; None drops them.
        """
        self.fill(self.most(self.ids.shape[0]), lookup, write_back)

    @torch.no_grad()
    def fill(
        self,
        wanted: Tensor,
        lookup: Callable[[Tensor], Tensor],
        write_back: Callable[[Tensor, Tensor], None] | None = None,
    ) -> None:
        """Lets distinct ids `(K,)` int64 in, `K <= C`; others leave as far as their room is needed."""
        slots, entering = exchange(self.ids, wanted)
        evicted = slots[self.ids[slots] >= 0]
        # a graph may still wait for its backward: it keeps its ids and does not read these values (see `tensors`)
        values = self.values.data
        if write_back is not None and len(evicted):
            write_back(self.ids[evicted], values[evicted])
        self.ids = self.ids.index_copy(0, slots, entering)
        self.index = ops.cache_index(self.ids, self.index.shape[0])
        values[slots] = lookup(entering)
        if self.values.grad is not None:
            self.values.grad[slots] = 0
        self._entered.append(slots)

    def entered(self) -> Tensor | None:
        """Slots whose row is another one since the last call, `(E,)` int64, or None."""
        entered, self._entered = self._entered, []
        return torch.cat(entered).unique() if entered else None

    def drop_counts(self) -> None:
        """Leaves what serving needs, in memory of its own: rows of the trained table go on changing slots."""
        self.values = nn.Parameter(self.values.detach().clone(), requires_grad=False)
        self.ids, self.index, self._entered = self.ids.clone(), self.index.clone(), []
        self.keys = self.counts = None
        self.steps = self.used = self.filled = None  # type: ignore[assignment]
