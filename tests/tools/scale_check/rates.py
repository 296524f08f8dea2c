"""What this machine does at most, as `embpress scale` asks for it: memory bandwidth and FLOP/s of one process."""

import time

import torch

from embpress.dlrm.scale.base import Machine


def best(call, seconds):
    """The fastest of the calls that fit into so many seconds, after one to warm up."""
    call()
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def bandwidth(size, seconds):
    """Bytes/s read and written by a copy of `size` bytes, which should not fit in a cache."""
    source, target = torch.ones(size // 4), torch.empty(size // 4)
    return 2 * size / best(lambda: target.copy_(source), seconds)


def random_rows(size, dim, lookups, seconds):
    """Bytes/s of rows read at random from a table of `size` bytes, and written."""
    table = torch.ones(size // (4 * dim), dim)
    ids = torch.randint(len(table), (lookups,))
    out = torch.empty(lookups, dim)
    return 2 * 4 * dim * lookups / best(lambda: torch.index_select(table, 0, ids, out=out), seconds)


def flops(n, seconds):
    """FLOP/s of a product of float32 matrices `(n, n)`."""
    a, b, c = torch.rand(n, n), torch.rand(n, n), torch.empty(n, n)
    return 2 * n**3 / best(lambda: torch.mm(a, b, out=c), seconds)


def machine(size, seconds):
    """This machine as one device of `embpress scale`; its memory is no limit here."""
    return Machine("this machine", 1e15, bandwidth(size, seconds), flops(1024, seconds), source="measured")
