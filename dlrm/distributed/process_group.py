"""A process group that is there while something is trained, and leaves nothing behind."""

from __future__ import annotations

import datetime
import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # imported later, by DDP, its default arguments would hold that group for ever
from torch.distributed import HashStore, Store

from embpress.dlrm.distributed.patience import timeout
from embpress.dlrm.distributed.place import Place
from embpress.dlrm.distributed.stopping import told_later


@contextmanager
def process_group(device: torch.device, place: Place, store: Store, seconds: float) -> Iterator[None]:
    """A process group of all, while something is trained on this device of each.

    What holds the group, such as DDP, must be let go of within the block. Python ends the group then without its
    lock; ended by what held it, gloo's threads could wait for that lock for ever. Others see that it has ended.
    """
    dist.init_process_group(
        backend(device, place),
        store=store,
        rank=place.rank,
        world_size=place.world,
        timeout=datetime.timedelta(seconds=seconds),
    )
    held = [dist.group.WORLD]
    try:
        yield
    except BaseException as error:
        later: BaseException | None = error
        while later is not None:
            traceback.clear_frames(later.__traceback__)
            later = later.__context__
        raise
    finally:
        with told_later():
            dist.destroy_process_group()
            gc.collect()
            held.clear()


@contextmanager
def of_one(device: torch.device) -> Iterator[None]:
    """A process group of this process alone, where none is there already."""
    if dist.is_initialized():
        yield
        return
    with process_group(device, Place(), HashStore(), timeout()):
        yield


def backend(device: torch.device, place: Place) -> str:
    """NCCL where each process has a GPU of its own, else gloo; for what lies on the CPU, as objects do, gloo always."""
    alone = device.type == "cuda" and torch.cuda.device_count() >= place.local_world
    return "cpu:gloo,cuda:nccl" if alone and dist.is_nccl_available() else "gloo"
