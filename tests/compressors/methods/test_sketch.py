"""Sparse sign sketch: entry by entry from Python's integers, their distribution, bags, a trained table."""

import math

import numpy as np
import pytest
import torch
from python_hashes import rounds

from embpress.compressors import BudgetError, InputError, TableCollection, TableConfig, create
from embpress.compressors.methods import sketch as module
from embpress.compressors.methods.sketch import Sketch, signs


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def entry(table, row, i):
    """An entry of S, by Python's integers."""
    first, second = table.coefficients.T.tolist()
    hashed = rounds(rounds(i, first) + row // 8, second)
    digit = hashed // 6 ** (row % 8) % 6
    return {4: 1, 5: -1}.get(digit, 0) * math.sqrt(3 / table.rows)


def matrix(table, rows=None):
    ids = torch.arange(table.num_embeddings).unsqueeze(0)
    return signs(ids, table.coefficients.unsqueeze(0), table.rows, torch.float64)[0].T


@pytest.mark.parametrize("rows", [1, 8, 29])
def test_a_row_is_the_sum_of_signed_rows(rows):
    table = create("sketch", 2**31 - 1, 4, rows=rows, dtype=torch.float64, generator=seeded())
    for i in (0, 1, 2**24 + 1, 10**9, 2**31 - 2):
        want = sum(entry(table, row, i) * table.memory[row] for row in range(rows))
        torch.testing.assert_close(table.lookup(torch.tensor(i)), want + torch.zeros(4, dtype=torch.float64))


def test_entries_are_those_of_achlioptas():
    table = create("sketch:rows=600", 5000, 1, generator=seeded())
    s = matrix(table) * math.sqrt(600 / 3)
    assert set(s.unique().tolist()) == {-1.0, 0.0, 1.0}
    for value, share in ((0, 2 / 3), (1, 1 / 6), (-1, 1 / 6)):
        assert float((s == value).double().mean()) == pytest.approx(share, abs=0.002)
    # rows and columns are as uncorrelated as independent ones: 0 on average, 1/√n apart
    for both, size in ((torch.corrcoef(s), 5000), (torch.corrcoef(s.T[:600]), 600)):
        off = both[~torch.eye(600, dtype=torch.bool)]
        assert abs(float(off.mean())) < 0.2 / math.sqrt(size)
        assert float(off.std()) == pytest.approx(1 / math.sqrt(size), rel=0.05)


def test_rows_start_with_the_variance_of_a_full_table():
    table = create("sketch:rows=500", 20_000, 16, generator=seeded())
    assert float(table.to_dense().std()) == pytest.approx(1 / math.sqrt(3 * 20_000), rel=0.05)


def test_blocks_give_what_the_whole_gives(monkeypatch):
    table = create("sketch:rows=40", 1000, 8, generator=seeded())
    ids = torch.arange(1000)
    want = table.lookup(ids).detach()
    monkeypatch.setattr(module, "_ENTRIES", 40 * 7)
    with torch.no_grad():
        torch.testing.assert_close(table.lookup(ids), want)


def test_tables_of_one_number_of_rows_are_one_product():
    configs = [TableConfig(n, 8, f"t{n}") for n in (300, 500, 700)]
    tables = TableCollection.build(configs, "sketch:rows=20", generator=seeded(), min_rows=0)
    assert len(tables.groups) == 1
    ids = torch.tensor([[299, 0, 5], [7, 499, 699]])
    got = tables(ids)
    for t, table in enumerate(tables.tables):
        dense = matrix(table).T.float() @ table.memory
        torch.testing.assert_close(got[:, t], dense[ids[:, t]])


# --- from a trained table ---------------------------------------------------------------------------------------------


def trained(n=400, dim=6):
    return torch.randn(n, dim, generator=seeded(1), dtype=torch.float64)


def test_the_papers_fit_is_the_product(monkeypatch):
    weight = trained()
    monkeypatch.setattr(module, "_ENTRIES", 50 * 30)  # in slices
    table, error = Sketch.from_dense(weight, rows=50, fit="sketch", generator=seeded())
    s = matrix(table)
    torch.testing.assert_close(table.memory.detach(), s @ weight)
    assert error == pytest.approx(float((s.T @ s @ weight - weight).norm() / weight.norm()))
    assert error == pytest.approx(math.sqrt(400 / 50), rel=0.2)  # as the docstring says


def test_least_squares_is_the_least_error():
    weight = trained()
    table, error = Sketch.from_dense(weight, rows=50, generator=seeded())
    s = matrix(table)
    want = torch.linalg.lstsq(s.T, weight).solution
    torch.testing.assert_close(table.memory.detach(), want, rtol=1e-5, atol=1e-6)
    assert error == pytest.approx(float((s.T @ want - weight).norm() / weight.norm()))
    assert error == pytest.approx(math.sqrt(1 - 50 / 400), rel=0.05)  # what is left of random rows


def test_a_table_that_is_a_sketch_is_found_again():
    source = create("sketch:rows=30", 500, 8, dtype=torch.float64, generator=seeded())
    again, error = Sketch.from_dense(source.to_dense(), rows=30, generator=seeded())
    assert error < 1e-5
    torch.testing.assert_close(again.memory, source.memory, rtol=1e-4, atol=1e-6)


def test_a_mapped_file_is_read_in_slices(tmp_path):
    weight = trained(2000, 4).float()
    np.save(tmp_path / "w.npy", weight.numpy())
    table, error = Sketch.from_dense(np.load(tmp_path / "w.npy", mmap_mode="r"), ratio=8, generator=seeded())
    assert 4 * 2000 * 4 / table.ledger().serving_bytes >= 8
    same, other = Sketch.from_dense(weight, rows=table.rows, generator=seeded())
    assert error == pytest.approx(other)
    assert torch.equal(same.memory, table.memory)


def test_what_is_refused():
    with pytest.raises(InputError, match="rows=0"):
        create("sketch:rows=0", 100, 8)
    with pytest.raises(InputError, match=r"fit='exact' is not one of least-squares, sketch"):
        Sketch.from_dense(trained(), fit="exact")
    with pytest.raises(InputError, match="one of rows, budget and ratio"):
        Sketch.from_dense(trained(), rows=5, ratio=4)
    with pytest.raises(BudgetError):
        Sketch.from_dense(trained(), budget=10)
