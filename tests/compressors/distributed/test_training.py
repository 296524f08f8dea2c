"""Training on two ranks is training of one process on both batches: DDP and FSDP2, and checkpoints of both."""

import copy

import pytest
import torch
import torch.distributed as dist
from model_on_ranks import Model, batch, equal_on_ranks, half, lookups, optimizer_of, train
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from embpress.compressors import synchronize

SPECS = ("full", "hash", "robe:z=4", "qr", "mlet", "tt:rank=4", "hash+bf16")


def with_ddp(rank, spec, alone):
    model = Model(spec, alone, seed=rank)
    synchronize(model)
    ddp = nn.parallel.DistributedDataParallel(model)
    single, before = copy.deepcopy(model), lookups(model)
    train(ddp, model, optimizer_of(ddp), alone, half(rank))
    equal_on_ranks(model)
    train(single, single, optimizer_of(single), alone, slice(None))
    torch.testing.assert_close(lookups(model), lookups(single), rtol=1e-4, atol=1e-5)
    assert (lookups(model) - before).abs().max() > 0.01, "nothing was trained"


@pytest.mark.parametrize("alone", [True, False], ids=["a table", "a collection"])
@pytest.mark.parametrize("spec", SPECS)
def test_ddp_trains_as_one_process(ranks, spec, alone):
    ranks(with_ddp, spec, alone)


def with_fsdp(rank, spec, alone):
    model = Model(spec, alone, seed=rank)
    synchronize(model)
    for parameter in model.parameters():  # FSDP shards what each rank has
        dist.broadcast(parameter.data, 0)
    single, before = copy.deepcopy(model), lookups(model)
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(model.tables, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    train(model, model, optimizer_of(model), alone, half(rank))
    train(single, single, optimizer_of(single), alone, slice(None))
    assert (lookups(single) - before).abs().max() > 0.01, "nothing was trained"
    full = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(model, options=full)
    if rank == 0:
        for name, value in single.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5)
        loaded = Model(spec, alone, seed=7)
        loaded.load_state_dict(state)
        torch.testing.assert_close(lookups(loaded), lookups(single), rtol=1e-4, atol=1e-5)
    # and back: the trained weights of one process, into another sharded model of another seed
    again = Model(spec, alone, seed=10 + rank)
    fully_shard(again.tables, mesh=mesh)
    fully_shard(again, mesh=mesh)
    whole = single.state_dict() if rank == 0 else {}
    set_model_state_dict(again, whole, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    ids = batch(99, alone)
    torch.testing.assert_close(again(ids), single(ids), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alone", [True, False], ids=["a table", "a collection"])
@pytest.mark.parametrize("spec", SPECS)
def test_fsdp_trains_as_one_process_and_its_checkpoints_go_both_ways(ranks, spec, alone):
    ranks(with_fsdp, spec, alone)
