"""MLET: trained as a product, served as one table."""

import pytest
import torch

from embpress.compressors import BudgetError, InputError, TableCollection, TableConfig, create, method


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_fold_is_exact_to_rounding(mode):
    table = create("mlet:k=40", 500, 8, mode=mode, padding_idx=3, dtype=torch.float64, generator=seeded())
    folded = table.fold()
    product = table.table.detach() @ table.projection.detach()
    ids, offsets = torch.tensor([0, 3, 499, 7, 7]), torch.tensor([0, 3, 3])
    torch.testing.assert_close(folded.weight.detach(), product, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(folded.to_dense(), table.to_dense(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(folded(ids, offsets), table(ids, offsets), rtol=1e-12, atol=1e-12)
    assert not any(p.requires_grad for p in folded.parameters())


def test_collection_folds_to_the_same_lookups():
    configs = [TableConfig(300, 8), TableConfig(50, 8), TableConfig(400, 8)]
    tables = TableCollection.build(configs, "mlet:k=32", dtype=torch.float64, generator=seeded())
    ids = torch.tensor([[0, 49, 399], [299, 0, 5]])
    want = torch.stack([table.lookup(ids[:, t]) for t, table in enumerate(tables.tables)], dim=1)
    torch.testing.assert_close(tables(ids), want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tables.fold()(ids), want, rtol=1e-12, atol=1e-12)


def test_a_narrow_product_is_refused_unless_forced():
    with pytest.raises(InputError, match=r"k=7 is below the width 8.*force"):
        create("mlet:k=7", 100, 8)
    forced = create("mlet:k=7:force=true", 100, 8, dtype=torch.float64)
    assert torch.linalg.matrix_rank(forced.to_dense()) == 7
    assert torch.linalg.matrix_rank(create("mlet:k=8", 100, 8, dtype=torch.float64).to_dense()) == 8
    with pytest.raises(InputError, match="k=0"):
        create("mlet:k=0:force=true", 100, 8)


@pytest.mark.parametrize(("dim", "k"), [(4, 64), (16, 64), (17, 68), (64, 256)])
def test_default_inner_width(dim, k):
    assert create("mlet", 10, dim).k == k


@pytest.mark.parametrize("k", [64, 256])
def test_initial_variance(k):
    n, dim = 5000, 64
    plain = 1 / (3 * n)
    paper = create(f"mlet:k={k}", n, dim, generator=seeded())
    assert paper.projection.var().item() == pytest.approx(0.0625, rel=0.05)
    assert paper.table.var().item() == pytest.approx(plain, rel=0.02)
    assert float(paper.to_dense().var()) == pytest.approx(k / 16 * plain, rel=0.05)
    matched = create(f"mlet:k={k}:init=matched", n, dim, generator=seeded())
    assert float(matched.to_dense().var()) == pytest.approx(plain, rel=0.05)
    with pytest.raises(InputError, match="matched"):
        create("mlet:init=match", n, dim)


def test_both_sizes_are_in_the_ledger():
    n, dim, k = 1000, 16, 80
    ledger = create(f"mlet:k={k}", n, dim).ledger()
    weights = (n + dim) * k * 4
    assert ledger.serving_bytes == n * dim * 4
    assert sum(e.bytes for e in ledger.training if not e.name.startswith("gradient")) == weights
    assert ledger.training_bytes == 2 * weights
    assert create(f"mlet:k={k}", n, dim).ledger("adam").training_bytes == 4 * weights
    folded = create(f"mlet:k={k}", n, dim).fold()
    assert sum(p.numel() * p.element_size() for p in folded.parameters()) == ledger.serving_bytes


def test_gradients_are_those_of_the_product():
    table = create("mlet:k=12", 30, 8, dtype=torch.float64)
    ids = torch.tensor([3, 3, 29])
    grad = torch.randn(3, 8, dtype=torch.float64)
    table.lookup(ids).backward(grad)
    scattered = torch.zeros(30, 8, dtype=torch.float64).index_add(0, ids, grad)
    torch.testing.assert_close(table.table.grad, scattered @ table.projection.detach().T)
    torch.testing.assert_close(table.projection.grad, table.table.detach().T @ scattered)


def test_model_width_reaches_the_ratio_and_no_smaller_one_is_needed():
    mlet = method("mlet")
    for dim in (4, 16, 49, 64, 100, 1000):
        for ratio in (1, 1.5, 2, 3, 4, 7.9, dim):
            if ratio > dim:
                continue
            width = mlet.model_width(dim, ratio)
            assert width * ratio <= dim * (1 + 1e-12)
            assert (width + 1) * ratio > dim
        # the ratio of a width leads back to it, whatever its last digit
        assert [mlet.model_width(dim, dim / width) for width in range(1, dim + 1)] == list(range(1, dim + 1))
    with pytest.raises(BudgetError):
        mlet.model_width(16, 16.1)
