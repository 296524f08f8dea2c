"""Tables in shared memory and in forked processes: what one process learns the other looks up."""

import multiprocessing

import pytest
import torch
from torch import Generator
from torch.utils.data import DataLoader, Dataset

from embpress.compressors import TableCollection, TableConfig, create

SPECS = ("full", "hash", "robe:z=4", "qr", "mlet", "tt:rank=4", "hash+bf16")
N = 300
FORK = "fork" in multiprocessing.get_all_start_methods()


def made(spec, alone):
    seeded = Generator().manual_seed(0)
    if alone:
        return create(spec, N, 8, generator=seeded)
    return TableCollection.build([TableConfig(N, 8), TableConfig(250, 8)], spec, generator=seeded)


def alone_in_its_process(model, alone):
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    step(model, alone)


def step(model, alone):
    out = model(torch.arange(20).view(20, 1) if alone else torch.arange(20).view(10, 2))
    out.sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= parameter.grad.to_dense()


@pytest.mark.skipif(not FORK, reason="no fork here")
@pytest.mark.parametrize("alone", [True, False], ids=["a table", "a collection"])
@pytest.mark.parametrize("spec", SPECS)
def test_hogwild_one_process_looks_up_what_the_other_learned(spec, alone):
    model, twin = made(spec, alone).share_memory(), made(spec, alone)
    process = multiprocessing.get_context("fork").Process(target=alone_in_its_process, args=(model, alone))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    step(twin, alone)
    ids = torch.arange(250).view(-1, 1 if alone else 2)
    assert torch.equal(model(ids), twin(ids))


class Looked(Dataset):
    """Rows that a worker looks up."""

    def __init__(self, table):
        self.table = table

    def __len__(self):
        return 8

    def __getitem__(self, number):
        with torch.no_grad():
            return self.table(torch.arange(number + 1).view(1, -1)).squeeze(0)


@pytest.mark.skipif(not FORK, reason="no fork here")
@pytest.mark.parametrize("spec", SPECS)
def test_workers_of_a_data_loader_look_up_the_same(spec):
    table = made(spec, True)
    want = torch.stack([Looked(table)[number] for number in range(8)])  # the ops have run before the fork
    loader = DataLoader(Looked(table), batch_size=4, num_workers=2, multiprocessing_context="fork", timeout=60)
    assert torch.equal(torch.cat(list(loader)), want)
