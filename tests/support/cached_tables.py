"""Small TT-Rec tables with a cache, what the cache holds and counts, and training steps for them."""

import torch

import embpress.compressors as ec
from embpress.compressors.methods.tt import TTRec
from embpress.dlrm.training.optim import TableAdagrad

N, D = 60, 8  # rows and width unless a test says otherwise


def make(seed=0, n=N, **knobs):
    knobs = {"rank": 3, "cache_rows": 3, "warmup": 1, "refresh": 1, "dtype": torch.float64, **knobs}
    return TTRec(n, D, generator=torch.Generator().manual_seed(seed), **knobs)


def rows(*ids):
    """Each id a bag of its own."""
    return torch.tensor(ids).view(-1, 1)


def held(table):
    return set(table.cache.ids[table.cache.ids >= 0].tolist())


def slot(table, i):
    return table.cache.ids.tolist().index(i)


def counted(table):
    keys, counts = table.cache.keys, table.cache.counts
    assert int(table.cache.used) == int((keys >= 0).sum())
    return dict(zip(keys[keys >= 0].tolist(), counts[keys >= 0].tolist()))


def from_cores(cores, i):
    """Row i by its digits, in plain tensor products."""
    digits = []
    for core in reversed(list(cores)):
        i, digit = divmod(int(i), core.shape[0])
        digits.insert(0, digit)
    row = torch.ones(1, 1, dtype=torch.float64)
    for core, digit in zip(cores, digits):
        row = torch.einsum("ar,rqs->aqs", row, core[digit].detach().double()).reshape(-1, core.shape[3])
    return row[:, 0]


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def step(table, optimizer, ids):
    """One training step whose gradient is no constant; the loss pulls rows to their ids."""
    ids = torch.as_tensor(ids).view(-1, 1)
    loss = ((table(ids) - 0.01 * ids) ** 2).sum(1).mean()
    loss.backward()
    replaced = ec.maintain(table, optimizer)
    optimizer.step()
    optimizer.zero_grad()
    return replaced


def sgd(table):
    return torch.optim.SGD(table.parameters(), lr=0.1, momentum=0.9)


def adagrad(table):
    return torch.optim.Adagrad(table.parameters(), lr=0.1)


def adam(table):
    return torch.optim.Adam(table.parameters(), lr=0.01)


def rowwise(table):
    return TableAdagrad([table.cache.values], lr=0.1, rowwise=True)
