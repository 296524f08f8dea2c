"""Full tables against `nn.EmbeddingBag`, and FBGEMM's against full tables."""

import copy
import math

import pytest
import torch
from torch import nn

from embpress.compressors import InputError, create
from embpress.compressors.methods.full import Full
from embpress.compressors.methods.full_tbe import available

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


# --- FBGEMM -----------------------------------------------------------------------------------------------------------

reason = available()
needs_fbgemm = pytest.mark.skipif(reason is not None, reason=f"fbgemm_gpu does not import: {reason}")


def tbe_pair(mode="sum", optimizer="sgd", learning_rate=0.1):
    fused = create(f"full-tbe:optimizer={optimizer}:learning_rate={learning_rate}", N, D, mode=mode)
    plain = nn.EmbeddingBag(N, D, mode=mode)
    with torch.no_grad():
        plain.weight.copy_(fused.weight)
    return fused, plain


@needs_fbgemm
@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_tbe_looks_up_what_a_full_table_does(mode):
    fused, plain = tbe_pair(mode)
    torch.testing.assert_close(fused(IDS, OFFSETS), plain(IDS, OFFSETS))
    torch.testing.assert_close(fused.lookup(IDS), plain.weight[IDS])
    torch.testing.assert_close(fused.to_dense(), plain.weight.detach())
    torch.testing.assert_close(fused.fold()(IDS, OFFSETS), plain(IDS, OFFSETS))


@needs_fbgemm
def test_tbe_with_weights_and_empty_bags():
    fused, plain = tbe_pair()
    weights = torch.randn(7)
    torch.testing.assert_close(fused(IDS, OFFSETS, weights), plain(IDS, OFFSETS, weights))


@needs_fbgemm
@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
def test_fused_steps_equal_torchs(optimizer, mode):
    fused, plain = tbe_pair(mode, optimizer)
    torchs = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}[optimizer](plain.parameters(), lr=0.1)
    before = fused.to_dense()
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        ids = torch.randint(N // 2, (12,), generator=generator)  # ids repeat
        target = torch.randn(4, D, generator=generator)
        (fused(ids, torch.tensor([0, 4, 4, 9])) - target).square().sum().backward()
        torchs.zero_grad()
        (plain(ids, torch.tensor([0, 4, 4, 9])) - target).square().sum().backward()
        torchs.step()
    assert (fused.to_dense()[: N // 2] - before[: N // 2]).abs().max() > 0.01
    assert torch.equal(fused.to_dense()[N // 2 :], before[N // 2 :])
    torch.testing.assert_close(fused.to_dense(), plain.weight.detach(), rtol=1e-5, atol=1e-6)


@needs_fbgemm
def test_rowwise_adagrad_equals_its_formula():
    fused, plain = tbe_pair(optimizer="rowwise_adagrad")
    state, weight = torch.zeros(N), plain.weight.detach().clone()
    for step in range(3):
        ids = torch.tensor([1, 1, 5 + step])
        fused.lookup(ids).square().sum().backward()
        grad = torch.zeros(N, D)
        grad.index_add_(0, ids, 2 * weight[ids])
        state += grad.square().mean(1)
        weight -= 0.1 * grad / (state.sqrt() + 1e-10).unsqueeze(1)
    torch.testing.assert_close(fused.to_dense(), weight, rtol=1e-5, atol=1e-6)


@needs_fbgemm
def test_tbe_refuses_what_it_cannot_do():
    with pytest.raises(InputError, match="multiple of 4"):
        create("full-tbe", 10, 6)
    with pytest.raises(InputError, match="adagrad"):
        create("full-tbe:optimizer=adagard", 10, 8)
    with pytest.raises(InputError, match="float32"):
        create("full-tbe", 10, 8, dtype=torch.float64)


@pytest.mark.skipif(available() is not None, reason="fbgemm_gpu does not import")
def test_tbe_on_cuda_asks_for_tables_in_device_memory_and_shares_its_tensors(monkeypatch):
    """As far as it goes without CUDA: TBE's own constructor takes what it is given, its tensors are made on the CPU."""
    import fbgemm_gpu.split_table_batched_embeddings_ops_training as fbgemm

    from embpress.compressors.methods import full_tbe

    real = fbgemm.SplitTableBatchedEmbeddingBagsCodegen
    here = torch.device("cpu")
    monkeypatch.setattr(
        fbgemm, "SplitTableBatchedEmbeddingBagsCodegen", lambda specs, device, **own: real(specs, device=here, **own)
    )
    monkeypatch.setattr(full_tbe, "available", lambda device: None)
    for optimizer, state in (("sgd", None), ("adagrad", 10 * 4 + 7 * 8), ("rowwise_adagrad", 10 + 7)):
        made = full_tbe._TBE([(10, 4), (7, 8)], optimizer, 0.1, False, "cuda")
        for own in (made, copy.deepcopy(made)):
            for _, _, place, compute in own.tbe.embedding_specs:
                assert (place.name, compute.name) == ("DEVICE", "CUDA")
            assert own.weights.data_ptr() == own.tbe.weights_dev.data_ptr()
            assert own.weights.numel() == 10 * 4 + 7 * 8
            if state is None:
                assert [name for name, _ in own.named_parameters()] == ["weights"]
            else:
                assert own.state.data_ptr() == own.tbe.momentum1_dev.data_ptr()
                assert own.state.numel() == state


@pytest.mark.skipif(available() is not None, reason="fbgemm_gpu does not import")
def test_tbe_without_cuda_kernels_is_refused_on_cuda(monkeypatch):
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda name, key: key == "CPU")
    assert available("cpu") is None
    with pytest.raises(InputError, match="no CUDA kernels"):
        create("full-tbe", N, D, device="cuda")


@pytest.mark.skipif(available() is not None, reason="fbgemm_gpu does not import")
def test_tbe_is_made_anew_for_another_device_only():
    table = create("full-tbe", N, D, generator=torch.Generator().manual_seed(0))
    first = table.kernel.tbe
    table.to("cpu")
    assert table.kernel.tbe is first
    table.to("meta")
    assert table.kernel.tbe is not first
    assert table.kernel.tbe.current_device.type == table.kernel.tbe.weights_host.device.type == "meta"
