"""`synchronize`: the ranks of a training in several processes hold the same tables."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn

from embpress.compressors.base import Compressor
from embpress.compressors.configuration import Configured
from embpress.compressors.errors import InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.modifiers.base import Modifier

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# the processes that a module of a table trains with, since synchronize(); copies are in no training
_GROUPS: WeakKeyDictionary[nn.Module, ProcessGroup | None] = WeakKeyDictionary()


def several_processes() -> bool:
    """Whether this process is one of several of a process group."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def tell_ranks(generator: Generator | None) -> None:
    """Warns that hash functions drawn from a generator differ between ranks where its seed does."""
    if generator is not None and several_processes():
        warnings.warn(
            "hash functions follow from the generator: ranks whose generators had other seeds look up other rows. Give "
            "every rank the same seed, or none, or call embpress.compressors.synchronize(model) on every rank",
            UserWarning,
            stacklevel=2,
        )


def synchronize(model: nn.Module, group: ProcessGroup | None = None) -> int:
    """Makes all compressed tables of a model those of rank 0: parameters, hash functions, cached rows and their counts.

    Call it on every rank once the model is made or loaded, before `DistributedDataParallel` or the first step. From
    then on the ranks fill caches of rows together, with the rows that all of them look up most. Parameters that are
    sharded already (`fully_shard`) stay as they are. Without several processes nothing happens.

    Args:
        model: the same on every rank but for values.
        group: the ranks; default: all.

    Returns:
        The number of tables.

    Raises:
        InputError: on every rank, where one of them holds other tables than the first; the message names them.
    """
    tables = [m for m in model.modules() if isinstance(m, Compressor) and not _says_nothing(m)]
    count = sum(not isinstance(table, Modifier) for table in tables)
    if not several_processes():
        return count
    tensors = list(_tensors(model))
    # what is on the CPU beside tables on a GPU is a few numbers, which the GPU's backend does not take
    few = [tensor for tensor, device in tensors if tensor.device != device]
    sent: list[Any] = [None]
    if dist.get_rank(group) == 0:
        # full tables save none
        states = [Configured.get_extra_state(table) for table in tables]
        sent = [(states, [tensor.tolist() for tensor in few])]
    dist.broadcast_object_list(sent, group=group, group_src=0)
    states, numbers = sent[0]
    problems: list[str | None] = [None] * dist.get_world_size(group)
    dist.all_gather_object(problems, _take(tables, states), group=group)
    for rank, problem in enumerate(problems):
        if problem:
            raise InputError(f"rank {rank} holds other tables than rank 0: {problem}")
    with torch.no_grad():
        for tensor, number in zip(few, numbers):
            tensor.copy_(torch.tensor(number, dtype=tensor.dtype))
        for tensor, device in tensors:
            if tensor.device == device:
                same = tensor.detach().contiguous()
                dist.broadcast(same, group=group, group_src=0)
                tensor.copy_(same)
    for table in tables:
        _GROUPS.update(dict.fromkeys(table.modules(), group))
    return count


def counted_by_all(module: nn.Module, ids: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Adds up what the ranks that `module` was synchronized with have counted; otherwise what is given, in order.

    Args:
        module: of a table, the same on every rank.
        ids: `(K,)` int64, distinct.
        counts: `(K,)` int64, how often each was looked up here.

    Returns:
        Distinct ids, ascending, and their counts.
    """
    order = ids.argsort()
    ids, counts = ids[order], counts[order]
    if not several_processes():
        return ids, counts
    if module not in _GROUPS:
        warnings.warn(
            "every process fills its cache with the rows that it looks up itself; where they train one model, call "
            "embpress.compressors.synchronize(model) on every rank before the first step",
            UserWarning,
            stacklevel=2,
        )
        return ids, counts
    group = _GROUPS[module]
    parts: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(parts, (ids.cpu(), counts.cpu()), group=group)
    theirs, their_counts = (torch.cat(part) for part in zip(*parts))
    every, number = theirs.unique(return_inverse=True)
    totals = torch.zeros_like(every).index_add_(0, number, their_counts)
    return every.to(ids.device), totals.to(ids.device)


def _says_nothing(table: Compressor) -> bool:
    """Whether a state dict says what the table is only of the one inside."""
    return isinstance(table, Modifier) and type(table).get_extra_state is nn.Module.get_extra_state


def made_by_first(module: nn.Module, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What the first of the ranks that `module` was synchronized with makes; otherwise what is made here.

    Args:
        module: of a table, the same on every rank.
        make: tensors on the CPU, from what all these ranks hold alike.
    """
    if not several_processes():
        return make()
    if module not in _GROUPS:
        warnings.warn(
            "every process clusters its tables by itself; where they train one model, call "
            "embpress.compressors.synchronize(model) on every rank before the first step",
            UserWarning,
            stacklevel=2,
        )
        return make()
    group = _GROUPS[module]
    made: list[Any] = [make() if dist.get_rank(group) == 0 else None]
    dist.broadcast_object_list(made, group=group, group_src=0)
    tensors: tuple[Tensor, ...] = made[0]
    return tensors


def _tensors(model: nn.Module) -> Iterator[tuple[Tensor, torch.device]]:
    """Parameters and buffers of tables and of their groups, each once, with the device of their tables."""
    from torch.distributed.tensor import DTensor

    seen: set[int] = set()
    for module in model.modules():
        if not isinstance(module, (Compressor, TableGroup)):
            continue
        device = module.device if isinstance(module, Compressor) else module.first.device
        for tensor in (*module.parameters(), *module.buffers()):
            if id(tensor) not in seen and not isinstance(tensor, DTensor) and not tensor.is_meta:
                seen.add(id(tensor))
                yield tensor, device


def _take(tables: list[Compressor], states: list[Tensor]) -> str | None:
    """Makes the tables' constants those of the states; what is wrong where they are of other tables."""
    if len(tables) != len(states):
        return f"{len(tables)} instead of {len(states)}"
    for t, (table, state) in enumerate(zip(tables, states)):
        try:
            Configured.set_extra_state(table, state)
        except InputError as error:
            return f"table {t}: {error}"
    return None
