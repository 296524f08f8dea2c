"""Rows that are clustered while several ranks train: by the first one, for all of them."""

import pytest
import torch
import torch.distributed as dist
from model_on_ranks import STEPS, Model, equal_on_ranks, half, lookups, optimizer_of, train
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from embpress.compressors import InputError, begin_training, create, synchronize
from embpress.compressors.methods.cce import CCE

CLUSTERED = "cce:k=6:hashed=5"


def trained(model, ddp, rank, alone):
    begin_training(model, STEPS, 4)
    train(ddp, model, optimizer_of(ddp), alone, half(rank))
    tables = [table for table in model.modules() if isinstance(table, CCE)]
    assert tables
    assert all(int(table.course["clustered"]) == 2 for table in tables)


def with_ddp(rank, alone):
    model = Model(CLUSTERED, alone, seed=rank)
    synchronize(model)
    ddp = nn.parallel.DistributedDataParallel(model)
    if rank:  # what it would make of the rows is not asked for
        for table in model.modules():
            if isinstance(table, CCE):
                table._made = None
    trained(model, ddp, rank, alone)
    equal_on_ranks(model)


@pytest.mark.parametrize("alone", [True, False], ids=["a table", "a collection"])
def test_the_first_rank_clusters_for_all(ranks, alone):
    ranks(with_ddp, alone)


def learned(rank):
    """Rank 0 has clustered before: the others get its pointers and hashes."""
    model = Model(CLUSTERED, False, seed=rank)
    if rank == 0:
        for table in model.modules():
            if isinstance(table, CCE):
                with pytest.warns(UserWarning, match="synchronize"):
                    table.cluster()
    before = lookups(model)
    synchronize(model)
    rows = [None, None]
    dist.all_gather_object(rows, lookups(model))
    assert torch.equal(*rows)
    assert torch.equal(lookups(model), before) == (rank == 0)


def test_synchronize_hands_over_what_was_clustered(ranks):
    ranks(learned)


def apart(rank):
    model = Model(CLUSTERED, True, seed=0)
    with pytest.warns(UserWarning, match=r"embpress\.compressors\.synchronize\(model\)"):
        trained(model, model, rank, True)


def test_a_table_that_clusters_by_itself_among_several_processes_says_so(ranks):
    ranks(apart)


def sharded(rank):
    table = create(CLUSTERED, 300, 8)
    fully_shard(table, mesh=init_device_mesh("cpu", (2,)))
    begin_training(create(f"{CLUSTERED}:clusterings=0", 300, 8), STEPS, 4)
    with pytest.raises(InputError, match=r"sharded tables cannot be clustered"):
        begin_training(table, STEPS, 4)


def test_a_sharded_table_is_not_clustered(ranks):
    ranks(sharded)
