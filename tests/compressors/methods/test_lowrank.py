"""Low rank: the product that it is, its start, its size, and the nearest one to a trained table."""

import numpy as np
import pytest
import torch

from embpress.compressors import BudgetError, InputError, LowRank, TableCollection, TableConfig, create, method


def test_a_row_is_a_row_times_the_projection():
    table = create("lowrank:k=3", 50, 8, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([7, 0, 7])
    torch.testing.assert_close(table.lookup(ids), table.table[ids] @ table.projection)
    offsets = torch.tensor([0, 2])
    want = torch.stack([table.table[[7, 0]].sum(0), table.table[7]]) @ table.projection
    torch.testing.assert_close(table(ids, offsets), want)


@pytest.mark.parametrize("k", [1, 4, 16])
def test_rows_start_with_the_variance_of_a_full_table(k):
    n = 2000
    draws = [create(f"lowrank:k={k}", n, 16, generator=torch.Generator().manual_seed(s)).to_dense() for s in range(30)]
    assert float(torch.stack(draws).var()) == pytest.approx(1 / (3 * n), rel=0.25)


def test_size_is_that_of_both_factors_and_both_serve():
    table = create("lowrank:budget=9000", 700, 32)
    assert table.k == 9000 // (4 * 732) == 3
    assert table.ledger().serving_bytes == 4 * (700 + 32) * 3
    folded = table.fold()
    assert sum(p.numel() * 4 for p in folded.parameters()) == table.ledger().serving_bytes
    with pytest.raises(BudgetError) as error:
        create("lowrank:budget=2000", 700, 32)
    assert error.value.smallest == 4 * 732
    with pytest.raises(InputError, match="above the width"):
        create("lowrank:k=9", 50, 8)


def test_tables_of_one_inner_width_are_one_group_and_fold_to_it():
    configs = [TableConfig(1000, 16, "a"), TableConfig(300, 16, "b")]
    tables = TableCollection.build(configs, "lowrank:k=4")
    assert len(tables.groups) == len(tables.fold().groups) == 1


def of_rank(n, dim, rank, noise=0.0, seed=0):
    draw = torch.Generator().manual_seed(seed)
    parts = [torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((n, rank), (rank, dim), (n, dim))]
    return parts[0] @ parts[1] + noise * parts[2]


@pytest.mark.parametrize("k", [1, 3, 7])
def test_from_dense_is_the_best_product_of_its_width(k):
    weight = of_rank(300, 16, 6, 0.2)
    table, error = LowRank.from_dense(weight, k=k)
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    torch.testing.assert_close(table.to_dense(), (u[:, :k] * s[:k]) @ vh[:k])
    assert error == pytest.approx(float(s[k:].norm() / s.norm()), rel=1e-6)
    sizes = [float(factor.detach().square().mean()) for factor in (table.table, table.projection)]
    assert sizes[0] == pytest.approx(sizes[1])


def test_from_dense_takes_the_smallest_width_for_a_tolerance_and_the_largest_for_a_size():
    weight = of_rank(300, 16, 6, 0.2)
    s = torch.linalg.svdvals(weight)
    errors = [float(s[k:].norm() / s.norm()) for k in range(17)]
    for tolerance in (0.5, 0.1, 0.02):
        table, error = LowRank.from_dense(weight, tolerance=tolerance)
        assert error <= tolerance < errors[table.k - 1]
    assert LowRank.from_dense(weight.float(), budget=4 * 316 * 5 + 3)[0].k == 5
    assert LowRank.from_dense(weight, budget=4 * 316 * 5 + 3)[0].k == 2  # of eight bytes each
    assert LowRank.from_dense(of_rank(300, 16, 3).float(), tolerance=1e-5)[0].k == 3
    with pytest.raises(InputError, match="one of k, tolerance, budget and ratio, got k and ratio"):
        LowRank.from_dense(weight, k=3, ratio=2)
    with pytest.raises(InputError, match="tolerance"):
        LowRank.from_dense(weight, tolerance=1e-9)
    with pytest.raises(InputError, match="NaN"):
        LowRank.from_dense(torch.full((5, 4), float("nan")))
    zero, error = LowRank.from_dense(torch.zeros(5, 4))
    assert not zero.to_dense().any()
    assert error == 0


def test_from_dense_reads_a_mapped_table_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("embpress.compressors.nearest_product._BLOCK", 1000)
    weight = of_rank(5000, 8, 3, 0.1).float()
    np.save(tmp_path / "table.npy", weight.numpy())

    class Watched:
        def __init__(self):
            self.array, self.most = np.load(tmp_path / "table.npy", mmap_mode="r"), 0
            self.shape = self.array.shape

        def __getitem__(self, rows):
            found = self.array[rows]
            self.most = max(self.most, len(found))
            return found

    watched = Watched()
    table, error = LowRank.from_dense(watched, k=3)
    s = torch.linalg.svdvals(weight.double())
    assert error == pytest.approx(float(s[3:].norm() / s.norm()), rel=1e-5)
    assert watched.most <= 1 << 13  # the rows at a time of the error
    assert method("lowrank") is LowRank
    assert table.table.dtype == torch.float32
