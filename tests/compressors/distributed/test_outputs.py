"""Outputs are no views: what is written to in place keeps the hook by which FSDP2 brings parameters back."""

import copy

import pytest
import torch
from torch import Generator, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from embpress.compressors import TableCollection, TableConfig, create

SPECS = ("full", "hash", "robe:z=4", "qr", "qr:op=concat", "mlet", "tt:rank=4", "tt:rank=4:cache_rows=8", "hash+bf16")
N = 300


@pytest.mark.parametrize("spec", SPECS)
def test_no_form_of_a_call_gives_a_view(spec):
    ids, offsets = torch.arange(16), torch.tensor([0, 3, 3, 9])
    for padding_idx in (None, 3):
        table = create(spec, N, 8, padding_idx=padding_idx)
        last = create(spec, N, 8, padding_idx=padding_idx, include_last_offset=True)
        calls = [
            table(ids.view(16, 1)),
            table(ids.view(4, 4)),
            table(ids, offsets),
            table(ids, offsets, torch.ones(16)),
        ]
        assert not any(out._is_view() for out in (*calls, last(ids, offsets)))
    for rows in ((N, N), (N, 20)):
        tables = TableCollection.build([TableConfig(n, 8) for n in rows], spec)
        assert not tables(ids.view(8, 2))._is_view()
        assert not tables([(ids, offsets), (ids, offsets)])._is_view()


class InPlace(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.table, self.top = create(spec, N, 8, generator=Generator().manual_seed(0)), nn.Linear(8, 1)

    def forward(self, ids):
        return self.top(self.table(ids).mul_(2).tanh())


def sharded(rank, spec):
    torch.manual_seed(0)
    model = InPlace(spec)
    single, mesh = copy.deepcopy(model), init_device_mesh("cpu", (2,))
    fully_shard(model.table, mesh=mesh)  # not the root: its parameters are gone between forward and backward
    fully_shard(model, mesh=mesh)
    ids = torch.arange(16).view(-1, 1)
    for one in (model, single):
        one(ids).sum().backward()
    for ours, theirs in zip(model.parameters(), single.parameters()):
        torch.testing.assert_close(ours.grad.full_tensor(), theirs.grad)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if "cache" not in spec])
def test_an_output_of_a_sharded_table_may_be_written_to(ranks, spec):
    ranks(sharded, spec)
