"""FBGEMM's tables against full tables: lookups, fused steps, what moves and copies do to the TBE."""

import copy
import pickle

import pytest
import torch
from torch import nn

from embpress.compressors import InputError, create
from embpress.compressors.group import group_of
from embpress.compressors.tbe import available, made

reason = available()
pytestmark = pytest.mark.skipif(reason is not None, reason=f"fbgemm_gpu does not import: {reason}")
N, D = 50, 8
IDS = torch.tensor([3, 3, 49, 0, 7, 7, 7])
OFFSETS = torch.tensor([0, 2, 2, 3])


def tbe_pair(mode="sum", optimizer="sgd", learning_rate=0.1):
    fused = create(f"full-tbe:optimizer={optimizer}:learning_rate={learning_rate}", N, D, mode=mode)
    plain = nn.EmbeddingBag(N, D, mode=mode)
    with torch.no_grad():
        plain.weight.copy_(fused.weight)
    return fused, plain


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_tbe_looks_up_what_a_full_table_does(mode):
    fused, plain = tbe_pair(mode)
    torch.testing.assert_close(fused(IDS, OFFSETS), plain(IDS, OFFSETS))
    torch.testing.assert_close(fused.lookup(IDS), plain.weight[IDS])
    torch.testing.assert_close(fused.to_dense(), plain.weight.detach())
    torch.testing.assert_close(fused.fold()(IDS, OFFSETS), plain(IDS, OFFSETS))


def test_tbe_with_weights_and_empty_bags():
    fused, plain = tbe_pair()
    weights = torch.randn(7)
    torch.testing.assert_close(fused(IDS, OFFSETS, weights), plain(IDS, OFFSETS, weights))


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


def test_tbe_refuses_what_it_cannot_do():
    with pytest.raises(InputError, match="multiple of 4"):
        create("full-tbe", 10, 6)
    with pytest.raises(InputError, match="adagrad"):
        create("full-tbe:optimizer=adagard", 10, 8)
    with pytest.raises(InputError, match="float32"):
        create("full-tbe", 10, 8, dtype=torch.float64)


def test_tbe_without_cuda_kernels_is_refused_on_cuda(monkeypatch):
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda name, key: key == "CPU")
    assert available("cpu") is None
    with pytest.raises(InputError, match="no CUDA kernels"):
        create("full-tbe", N, D, device="cuda")


@pytest.mark.parametrize(("optimizer", "state"), [("sgd", None), ("adagrad", 17 * 4), ("rowwise_adagrad", 17)])
def test_tbe_on_cuda_asks_for_tables_in_device_memory_and_shares_its_tensors(monkeypatch, optimizer, state):
    """As far as it goes without CUDA: TBE's own constructor takes what it is given, its tensors are made on the CPU."""
    import fbgemm_gpu.split_table_batched_embeddings_ops_training as fbgemm

    real = fbgemm.SplitTableBatchedEmbeddingBagsCodegen
    here = torch.device("cpu")
    monkeypatch.setattr(
        fbgemm, "SplitTableBatchedEmbeddingBagsCodegen", lambda specs, device, **own: real(specs, device=here, **own)
    )
    tbe = made([10, 7], 4, optimizer, 0.1, torch.device("cuda"))
    for _, _, place, compute in tbe.embedding_specs:
        assert (place.name, compute.name) == ("DEVICE", "CUDA")
    assert tbe.weights_dev.shape == (17 * 4,)
    assert "weights_dev" in tbe._buffers
    if state is not None:
        assert tbe._buffers["momentum1_dev"].shape == (state,)
        assert create(f"full-tbe:optimizer={optimizer}", 17, 4).kernel.state.shape == (state,)


def trained(table, ids=(3, 41), steps=1):
    for _ in range(steps):
        (table.lookup(torch.tensor(ids)) - 1).square().sum().backward()
    return table.to_dense()


def test_a_tbe_is_made_where_something_trains_and_copies_have_one_of_their_own():
    table = create("full-tbe", N, D, generator=torch.Generator().manual_seed(0))
    table.to_dense()
    assert "tbe" not in vars(table.kernel)
    trained(table)
    first = table.kernel.tbe
    trained(table)
    assert table.kernel.tbe is first
    for twin in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        before = table.to_dense()
        assert torch.equal(trained(twin), trained(copy.deepcopy(table)))  # its optimizer goes on where the other's was
        assert not torch.equal(twin.to_dense(), before)
        assert torch.equal(table.to_dense(), before)


def test_tables_that_were_trained_and_frozen_alone_go_on_so_in_a_group():
    def make(seed):
        return create("full-tbe", N, D, generator=torch.Generator().manual_seed(seed))

    tables = [make(0), make(1)]
    for table in tables:
        trained(table)
    alone = copy.deepcopy(tables)
    group = group_of(tables)
    ids = torch.tensor([[3, 41], [5, 3]])
    (group(ids) - 1).square().sum().backward()
    for t, table in enumerate(alone):
        (table.lookup(ids[:, t]) - 1).square().sum().backward()
        torch.testing.assert_close(group.tables[t].to_dense(), table.to_dense())
    frozen = group_of([make(0).requires_grad_(False), make(1).requires_grad_(False)])
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_table_of_a_group_trains_when_it_is_called_alone(position):
    def make():
        return [create("full-tbe", n, D, generator=torch.Generator().manual_seed(n)) for n in (N, 20, 30)]

    twin = make()[position]
    group = group_of(make())
    others = [table.to_dense() for t, table in enumerate(group.tables) if t != position]
    ids, weights = torch.tensor([3, 3, 19, 0]), torch.tensor([0.5, -1.0, 2.0, 1.0])
    for table in (group.tables[position], twin):
        trained(table, (3, 3, 7))
        (table(ids, torch.tensor([0, 0, 3]), weights) - 1).square().sum().backward()
    torch.testing.assert_close(group.tables[position].to_dense(), twin.to_dense())
    for before, table in zip(others, [table for t, table in enumerate(group.tables) if t != position]):
        assert torch.equal(table.to_dense(), before)


def test_the_learning_rate_can_be_set_while_it_trains():
    fused, plain = tbe_pair(optimizer="sgd", learning_rate=0.1)
    torchs = torch.optim.SGD(plain.parameters(), lr=0.1)
    for rate in (0.1, 0.5, 0.01):
        fused.learning_rate = torchs.param_groups[0]["lr"] = rate
        (fused(IDS, OFFSETS) - 1).square().sum().backward()
        torchs.zero_grad()
        (plain(IDS, OFFSETS) - 1).square().sum().backward()
        torchs.step()
    torch.testing.assert_close(fused.to_dense(), plain.weight.detach())


def test_modules_that_share_rows_pool_each_as_it_says():
    rows, plain = tbe_pair(optimizer="sgd", learning_rate=0.1)
    mean = create("full-tbe:optimizer=sgd:learning_rate=0.1", N, D, mode="mean")
    tied = create("full-tbe:optimizer=sgd:learning_rate=0.1", N, D, mode="mean")
    mean.kernel = rows.kernel
    tied.kernel.weights = rows.kernel.weights
    torchs = torch.optim.SGD(plain.parameters(), lr=0.1)
    loss = torch.zeros(())
    for table, mode in ((rows, "sum"), (mean, "mean"), (tied, "mean")):
        want = torch.nn.functional.embedding_bag(IDS, plain.weight, OFFSETS, mode=mode)
        out = table(IDS, OFFSETS)
        torch.testing.assert_close(out, want)
        loss = loss + out.sum() + want.sum()
    loss.backward()
    torchs.step()
    for table in (rows, mean, tied):
        torch.testing.assert_close(table.to_dense(), plain.weight.detach())
