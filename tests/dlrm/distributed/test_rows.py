"""Sparse gradients of two ranks add up to the dense sum, gathered or reduced, whichever sends less."""

import pytest
import torch
from torch import nn

from embpress.dlrm.distributed.rows import add_up
from embpress.dlrm.distributed.wire import Wire

WIDTH = 3


def gradient(rank, rows, lookups):
    """Some rows twice; on rank 1 none where there are no lookups."""
    seeded = torch.Generator().manual_seed(rank)
    index = torch.randint(rows, (lookups * (1 - rank) + lookups // 2,), generator=seeded)
    values = torch.randn(len(index), WIDTH, generator=seeded)
    return torch.sparse_coo_tensor(index[None], values, (rows, WIDTH))


def added(rank, sizes):
    parameters = [nn.Parameter(torch.zeros(rows, WIDTH)) for rows, _ in sizes]
    for parameter, size in zip(parameters, sizes):
        parameter.grad = gradient(rank, *size)
    wire = Wire()
    add_up(parameters, wire)
    grads = [parameter.grad for parameter in parameters]
    return [(grad._indices()[0].tolist(), grad._values().tolist(), grad.to_dense()) for grad in grads], wire.sent


@pytest.mark.parametrize("sizes", [[(500, 9)], [(7, 30)], [(500, 9), (7, 30), (40, 1)]], ids=str)
def test_gradients_are_the_sum(ranks, sizes):
    (first, sent), (second, also) = ranks(added, sizes)
    assert sent == also
    for size, (rows, values, dense), (theirs, others, _) in zip(sizes, first, second):
        both = [gradient(rank, *size).coalesce() for rank in (0, 1)]
        torch.testing.assert_close(dense, (both[0] + both[1]).to_dense())
        assert (rows, values) == (theirs, others)  # to the bit, in one order
        assert set(rows) == {row for one in both for row in one.indices()[0].tolist()}


def test_what_is_sent(ranks):
    """By hand, for two ranks: a gather sends the longest share once, a sum sends what is summed once."""
    (_, gathered), _ = ranks(added, [(500, 9)])
    longest = max(len(gradient(rank, 500, 9).coalesce().indices()[0]) for rank in (0, 1))
    assert gathered == 8 + longest * (8 + 4 * WIDTH)  # the counts, then ids and values
    (_, reduced), _ = ranks(added, [(7, 30)])
    assert reduced == 8 + 7 * 4 * (WIDTH + 1)


def without(rank):
    parameter = nn.Parameter(torch.zeros(50, WIDTH))
    if rank == 0:
        parameter.grad = gradient(0, 50, 4)
    add_up([parameter], Wire())
    return parameter.grad.to_dense()


def test_a_rank_without_any_gradient_gets_that_of_the_other(ranks):
    first, second = ranks(without)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, gradient(0, 50, 4).to_dense())
