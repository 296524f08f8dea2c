"""Rows that are cached while several ranks train: the same on all of them, those that all look up most."""

import copy
import warnings

import pytest
import torch
from model_on_ranks import Model, batch, equal_on_ranks, half, lookups, optimizer_of, train
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from embpress.compressors import InputError, create, synchronize
from embpress.compressors.modifiers.hot import Hot

CACHED = "tt:rank=4:cache_rows=8:warmup=3:refresh=5"
HOT = "hash+hot:rows=8:online=true:warmup=3:refresh=5"


def cached(model):
    tables = getattr(model.tables, "tables", [model.tables])
    hot = [table.hot_ids() for table in tables if isinstance(table, Hot)]
    return hot + [table.cache.ids.sort().values for table in tables if getattr(table, "cache", None) is not None]


def with_ddp(rank, alone, broadcast_buffers, spec):
    model = Model(spec, alone, seed=rank)
    synchronize(model)
    ddp = nn.parallel.DistributedDataParallel(model, broadcast_buffers=broadcast_buffers)
    single = copy.deepcopy(model)
    train(ddp, model, optimizer_of(ddp), alone, half(rank))
    equal_on_ranks(model)
    assert cached(model)
    assert all((ids >= 0).all() for ids in cached(model))
    if broadcast_buffers:  # counts too come from the first rank: then others may be cached than in one process
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a copy is in no training with other ranks
        train(single, single, optimizer_of(single), alone, slice(None))
    for ours, theirs in zip(cached(model), cached(single)):
        assert torch.equal(ours, theirs), "other rows are cached than in one process"
    torch.testing.assert_close(lookups(model), lookups(single), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("spec", [f"{CACHED}:evict=drop", f"{CACHED}:evict=write-back", HOT])
@pytest.mark.parametrize("broadcast_buffers", [True, False])
@pytest.mark.parametrize("alone", [True, False], ids=["a table", "a collection"])
def test_ranks_fill_their_caches_together(ranks, alone, broadcast_buffers, spec):
    ranks(with_ddp, alone, broadcast_buffers, spec)


def with_accumulation(rank, broadcast_buffers):
    """Two forwards and backwards a step, the first without DDP's exchange, over changes of the cached rows."""
    model = Model(CACHED.replace("refresh=5", "refresh=3"), True, seed=rank)
    synchronize(model)
    ddp = nn.parallel.DistributedDataParallel(model, broadcast_buffers=broadcast_buffers)
    optimizer = optimizer_of(ddp)
    for step in range(0, 20, 2):
        optimizer.zero_grad()
        with ddp.no_sync():
            ddp(batch(step, True)[half(rank)]).square().mean().backward()
        ddp(batch(step + 1, True)[half(rank)]).square().mean().backward()
        optimizer.step()
    equal_on_ranks(model)


@pytest.mark.parametrize("broadcast_buffers", [True, False])
def test_accumulated_gradients(ranks, broadcast_buffers):
    ranks(with_accumulation, broadcast_buffers)


def apart(rank):
    model = Model(CACHED, True, seed=0)
    with pytest.warns(UserWarning, match=r"embpress\.compressors\.synchronize\(model\)"):
        train(model, model, optimizer_of(model), True, half(rank))


def test_a_cache_that_fills_by_itself_among_several_processes_says_so(ranks):
    ranks(apart)


def sharded(rank):
    with pytest.raises(InputError, match=r"a cache of rows cannot be sharded"):
        fully_shard(create(CACHED, 300, 8), mesh=init_device_mesh("cpu", (2,)))


def test_a_cache_is_not_sharded(ranks):
    ranks(sharded)
