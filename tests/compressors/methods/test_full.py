"""Full tables against `nn.EmbeddingBag`."""

import math

import pytest
import torch
from torch import nn

from embpress.compressors.methods.full import Full

N, D = 50, 8
IDS = torch.tensor([3, 3, 49, 0, 7, 7, 7])
OFFSETS = torch.tensor([0, 2, 2, 3])


def pair(mode="sum", **options):
    """A full table and torch's own with the same weight."""
    ours = Full(N, D, mode=mode, dtype=torch.float64, generator=torch.Generator().manual_seed(0), **options)
    theirs = nn.EmbeddingBag(N, D, mode=mode, dtype=torch.float64, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def same_gradient(ours, theirs, *inputs):
    grad = torch.randn(4, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    a, b = ours(*inputs), theirs(*inputs)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    a.backward(grad)
    b.backward(grad)
    for table in (ours, theirs):
        table.dense_grad = table.weight.grad.to_dense() if table.weight.grad.is_sparse else table.weight.grad
    torch.testing.assert_close(ours.dense_grad, theirs.dense_grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("padding_idx", [None, 7])
@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_equals_embedding_bag(mode, padding_idx, sparse):
    ours, theirs = pair(mode, padding_idx=padding_idx, sparse=sparse)
    same_gradient(ours, theirs, IDS, OFFSETS)
    assert ours.weight.grad.is_sparse == sparse


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_equals_embedding_bag_on_2d_input(mode):
    same_gradient(*pair(mode), torch.tensor([[3, 3], [0, 1], [49, 7], [7, 7]]))


def test_equals_embedding_bag_with_the_last_offset_and_int32():
    ours, theirs = pair(include_last_offset=True)
    same_gradient(ours, theirs, IDS.int(), torch.tensor([0, 2, 2, 3, 7], dtype=torch.int32))


def test_equals_embedding_bag_with_weights_and_their_gradient():
    ours, theirs = pair()
    weights = torch.randn(7, dtype=torch.float64)
    grads = []
    for table in (ours, theirs):
        own = weights.clone().requires_grad_()
        table(IDS, OFFSETS, own).square().sum().backward()
        grads.append((own.grad, table.weight.grad))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_batch_of_empty_bags_has_a_zero_gradient_as_in_torch(sparse):
    ours, theirs = pair(sparse=sparse)
    empty, offsets = torch.zeros(0, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
    same_gradient(ours, theirs, empty, offsets)
    assert torch.equal(ours.dense_grad, torch.zeros(N, D, dtype=torch.float64))


def test_sparse_gradient_holds_the_looked_up_rows_only():
    ours, _ = pair(sparse=True)
    ours(IDS, OFFSETS).sum().backward()
    grad = ours.weight.grad.coalesce()
    assert grad.indices().flatten().tolist() == [0, 3, 7, 49]
    assert grad.values()[:, 0].tolist() == [1, 2, 3, 1]


def test_initial_values_are_dlrms():
    n = 2000
    weight = Full(n, 16, generator=torch.Generator().manual_seed(0)).weight.detach() * math.sqrt(n)
    assert float(weight.min()) >= -1
    assert float(weight.max()) <= 1
    edges = torch.histc(weight, bins=10, min=-1, max=1) / weight.numel()
    torch.testing.assert_close(edges, torch.full((10,), 0.1), rtol=0, atol=0.01)


def test_padding_row_starts_at_zero():
    table = Full(10, 4, padding_idx=-3)
    assert table.padding_idx == 7
    assert not table.weight[7].any()
    assert table.weight[[0, 6, 8, 9]].all()
