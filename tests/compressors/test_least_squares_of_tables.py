"""Least squares by the tables' own lookups: against LAPACK, from mapped files, for tables that share memory."""

import numpy as np
import pytest
import torch
from large_tables import Largest, Watched
from torch import Generator

from embpress.compressors import InputError, parse
from embpress.compressors import least_squares as module
from embpress.compressors.least_squares import conjugate_gradients, fit
from embpress.compressors.trained_table import DenseRows

N, D = 61, 12
LINEAR = [
    "hash:k=7",
    "hash:k=5:parts=3",
    "qr:c=7:op=add",
    "qr:c=3:op=add:parts=3",
    "qr:op=concat",
    "robe:size=90",
    "robe:size=70:z=1",
    "robe:size=80:z=5:sign=true",
]


def seeded(seed=0):
    return Generator().manual_seed(seed)


def noise(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=seeded(seed)) + 0.3


def start(text, weight, **options):
    spec = parse(text)
    return spec.cls.from_dense(weight, **spec.knobs, generator=seeded(), **options)


def written_out(tables):
    """A as LAPACK takes it: the lookups of all rows, one basis vector of the parameters after another."""
    parameters = list({id(p): p for table in tables for p in table.parameters()}.values())
    columns = []
    with torch.no_grad():
        for p in parameters:
            for k in range(p.numel()):
                for other in parameters:
                    other.zero_()
                p.view(-1)[k] = 1
                columns.append(torch.cat([table.to_dense().flatten() for table in tables]))
    return torch.stack(columns, 1)


def least(tables, weights):
    """The least `‖A p - W‖`."""
    a, w = written_out(tables), torch.cat([weight.flatten() for weight in weights])
    p = torch.linalg.lstsq(a, w.unsqueeze(1), driver="gelsd").solution.squeeze(1)
    return float((a @ p - w).norm())


@pytest.mark.parametrize("text", LINEAR)
@pytest.mark.parametrize("n", [N, 3, 1])
def test_nothing_is_nearer(text, n):
    weight = noise(n, D)
    table, error = start(text, weight)
    missed = float((table.to_dense() - weight).norm())
    assert error == pytest.approx(missed / float(weight.norm()), abs=1e-14)
    assert missed == pytest.approx(least([table], [weight]), rel=1e-9, abs=1e-9)


def test_tables_on_one_array_are_fitted_together():
    cls, weights = parse("robe").cls, [noise(N, D), 5 * noise(200, D, seed=2), noise(17, D, seed=3)]
    tables, errors = cls.fit_tables(weights, [{"size": 300, "z": 4}] * 3, [{"generator": seeded()}] * 3)
    assert all(table.memory is tables[0].memory for table in tables)
    missed = [float((table.to_dense() - weight).norm()) for table, weight in zip(tables, weights)]
    assert errors == pytest.approx([miss / float(weight.norm()) for miss, weight in zip(missed, weights)])
    assert sum(miss**2 for miss in missed) ** 0.5 == pytest.approx(least(tables, weights), rel=1e-9)


def test_a_shared_array_is_not_overwritten_for_one_of_its_tables():
    cls = parse("robe").cls
    table = cls(N, D, size=99)
    with pytest.raises(InputError, match="fit_tables"):
        cls.from_dense(noise(N, D), memory=table.memory, coefficients=table.coefficients)


@pytest.mark.parametrize("text", ["hash:k=50", "robe:size=400:sign=true"])
def test_a_mapped_table_is_read_in_slices(text, tmp_path, monkeypatch):
    n = 200_000
    np.save(tmp_path / "weight.npy", noise(n, 8).float().numpy())
    mapped = np.load(tmp_path / "weight.npy", mmap_mode="r")
    whole, error = start(text, np.array(mapped))
    monkeypatch.setattr(module, "_CHUNK", 1 << 16)
    watched = Watched(mapped)
    with Largest() as seen:
        table, again = start(text, watched)
    assert again == pytest.approx(error, rel=1e-6)
    torch.testing.assert_close(table.to_dense(), whole.to_dense(), rtol=1e-5, atol=1e-6)
    assert watched.largest <= 1 << 13
    assert watched.read <= 2 * n + 4  # once to be fitted, once for the error
    assert seen.numel < mapped.size / 5


def test_many_parameters_are_solved_for_in_their_own_dtype(monkeypatch):
    weight = noise(N, D, dtype=torch.float32)
    wide, _ = start("robe:size=90:sign=true", weight)
    monkeypatch.setattr(module, "_WIDE", 10)
    table, _ = start("robe:size=90:sign=true", weight)
    torch.testing.assert_close(table.memory, wide.memory, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_entries_that_are_no_numbers_are_refused(value):
    weight = noise(N, D)
    weight[40, 3] = value
    with pytest.raises(InputError, match="NaN"):
        start("hash:k=7", weight)


def test_sparse_gradients_and_training_mode_stay_as_they_are():
    weight = noise(N, D, dtype=torch.float32)
    table, error = start("hash:k=7", weight, sparse=True)
    assert table.sparse
    assert table.training
    assert error == pytest.approx(start("hash:k=7", weight)[1])
    table(torch.tensor([[1, 2]])).sum().backward()
    assert table.part_tables.grad.is_sparse
    assert table.part_tables.dtype == torch.float32


def test_what_is_no_diagonal_converges():
    """Sums of two rows of one array: `AᵀA` has as much beside its diagonal as on it."""

    one, two = (parse("robe").cls(N, D, size=90, z=4, generator=seeded(seed)) for seed in (0, 1))
    two.memory = one.memory

    class Both(type(one)):
        def lookup(self, ids):
            return super().lookup(ids) + two.lookup(ids)

    one.__class__ = Both
    weight = noise(N, D)
    one.double()
    fit([one], [DenseRows(weight)])
    assert float((one.to_dense() - weight).norm()) == pytest.approx(least([one], [weight]), rel=1e-9)


def test_the_diagonal_makes_conjugate_gradients_faster():
    a = noise(300, 40) * torch.logspace(-3, 3, 40, dtype=torch.float64)
    matrix, solution, steps = a.t() @ a, noise(40, 3, seed=2), [0, 0]

    def applied(which):
        def apply(x):
            steps[which] += 1
            return matrix @ x

        return apply

    found = conjugate_gradients(applied(0), matrix @ solution, matrix.diagonal().unsqueeze(1), tolerance=1e-12)
    torch.testing.assert_close(found, solution, rtol=1e-4, atol=1e-5)
    conjugate_gradients(applied(1), matrix @ solution, tolerance=1e-12, max_steps=150)
    assert steps[0] < 45
    assert steps[1] == 150
