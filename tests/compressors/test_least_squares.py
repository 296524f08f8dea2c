"""Conjugate gradients against a direct solution."""

import torch

from embpress.compressors.least_squares import conjugate_gradients


def test_it_solves_every_column():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(50, 20, generator=generator, dtype=torch.float64)
    right = a.T @ torch.randn(50, 3, generator=generator, dtype=torch.float64)
    found = conjugate_gradients(lambda x: a.T @ (a @ x), right)
    torch.testing.assert_close(found, torch.linalg.solve(a.T @ a, right))


def test_of_many_solutions_it_takes_the_smallest():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(5, 20, generator=generator, dtype=torch.float64)
    values = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    found = conjugate_gradients(lambda x: a.T @ (a @ x), a.T @ values)
    torch.testing.assert_close(found, torch.linalg.pinv(a) @ values)


def test_nothing_to_solve_is_zero():
    assert not conjugate_gradients(lambda x: x * 0, torch.ones(3, 2)).any()
    assert not conjugate_gradients(lambda x: x, torch.zeros(3, 2)).any()
