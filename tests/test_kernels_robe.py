"""ROBE's ops against plain Python: one id, one row, one element at a time."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck

from embpress.kernels import ops

PRIME = 2038074743


def robe_hash(x, j, r1, r2, r3, slots):
    """Python's integers: nothing can overflow."""
    return (x * r3 + j * r2 + r1) % PRIME % slots


def robe_index(x, coefficients, size, z, dim):
    """Position and sign of every element of row x."""
    places = []
    for column in range(dim):
        j, within = divmod(column, z)
        sign = 1 - 2 * robe_hash(x, column, *coefficients[3:], 2) if len(coefficients) == 6 else 1
        places.append((robe_hash(x, j, *coefficients[:3], size - z + 1) + within, sign))
    return places


def robe_naive(memory, ids, coefficients, z, dim):
    values = memory.tolist()
    rows = [
        [sign * values[at] for at, sign in robe_index(x, coefficients.tolist(), len(values), z, dim)]
        for x in ids.tolist()
    ]
    return torch.tensor(rows, dtype=memory.dtype).view(len(ids), dim)


def tables_of(*rows):
    """Starts and rows of tables that lie one after another."""
    rows = torch.tensor(rows)
    return {"starts": rows.cumsum(0) - rows, "rows": rows}


ONE = tables_of(PRIME)


def lookup(memory, ids, coefficients, **options):
    """Rows of one table that holds every id there can be: ids `(N,)` → `(N, D)`."""
    return ops.robe_lookup(memory, ids.unsqueeze(1), coefficients, **ONE, **options).squeeze(1)


def robe_case(size=97, sign=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    memory = torch.randn(size, dtype=torch.float64, generator=generator)
    coefficients = torch.randint(1, PRIME, (6 if sign else 3,), generator=generator)
    return memory, coefficients


# (size, z, dim): z = 1, z = D, z not dividing D, an array of one chunk
ROBE = [(97, 1, 6), (97, 6, 6), (97, 4, 10), (97, 7, 8), (5, 5, 8), (1, 1, 3)]
BIG_IDS = torch.tensor([0, 1, 2**24 + 1, 2**31 - 2**27, 10**9 - 1, 10**9, PRIME - 1])


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize(("size", "z", "dim"), ROBE)
def test_robe_equals_the_formula(size, z, dim, sign):
    memory, coefficients = robe_case(size, sign)
    ids = torch.cat([torch.arange(20), BIG_IDS])
    got = lookup(memory, ids, coefficients, z=z, dim=dim)
    assert torch.equal(got, robe_naive(memory, ids, coefficients, z, dim))


def test_signs_are_of_both_kinds():
    coefficients = robe_case(sign=True)[1]
    rows = lookup(torch.ones(97), torch.arange(200), coefficients, z=4, dim=10)
    assert rows.abs().eq(1).all()
    assert abs(float(rows.mean())) < 0.2


@pytest.mark.parametrize("sign", [False, True])
def test_robe_hash_does_not_overflow_at_the_largest_ids_columns_and_coefficients(sign):
    memory = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))
    coefficients = torch.full((6 if sign else 3,), PRIME - 1)
    got = lookup(memory, BIG_IDS, coefficients, z=1, dim=1024)
    assert torch.equal(got, robe_naive(memory, BIG_IDS, coefficients, 1, 1024))


def test_robe_batch_of_many_blocks():
    memory, coefficients = robe_case(5000)
    ids = torch.arange(300) * 3_333_333
    got = lookup(memory, ids, coefficients, z=100, dim=700)
    assert torch.equal(got, robe_naive(memory, ids, coefficients, 100, 700))


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize(("size", "z", "dim"), ROBE)
def test_robe_gradient_equals_the_scatter(size, z, dim, sign):
    memory, coefficients = robe_case(size, sign)
    ids = torch.tensor([3, 3, 10**9, 0, 41])
    grad = torch.randn(len(ids), dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    want = [0.0] * size
    for x, row in zip(ids.tolist(), grad.tolist()):
        for (at, factor), value in zip(robe_index(x, coefficients.tolist(), size, z, dim), row):
            want[at] += factor * value
    lookup(memory.requires_grad_(), ids, coefficients, z=z, dim=dim).backward(grad)
    torch.testing.assert_close(memory.grad, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    assert gradcheck(lambda m: lookup(m, ids, coefficients, z=z, dim=dim), [memory])


@pytest.mark.parametrize("atomics", [False, True])
@pytest.mark.parametrize("sign", [False, True])
def test_robe_opcheck(sign, atomics):
    memory, coefficients = robe_case(sign=sign)
    ids = torch.tensor([[3, 3], [0, 10**9], [7, 7]])
    starts, rows = tables_of(8, 10**9 + 1).values()
    known = (ids, starts, rows, coefficients)
    opcheck(torch.ops.embpress.robe_lookup.default, (memory, *known, 4, 10))
    opcheck(torch.ops.embpress.robe_lookup_train.default, (memory.requires_grad_(), *known, 4, 10, atomics))
    grad = torch.randn(3, 2, 10, dtype=torch.float64)
    opcheck(torch.ops.embpress.robe_lookup_backward.default, (grad, *known, 97, 4, atomics))


def test_robe_empty_batch():
    memory, coefficients = robe_case()
    out = lookup(memory.requires_grad_(), torch.zeros(0, dtype=torch.int64), coefficients, z=4, dim=10)
    assert out.shape == (0, 10)
    out.sum().backward()
    assert torch.equal(memory.grad, torch.zeros(97, dtype=torch.float64))


@pytest.mark.parametrize("dim", [8, 64, 512])
def test_robe_keeps_the_ids_and_no_index_per_element(dim):
    batch, kept = 1000, []

    def keep(tensor):
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    memory = torch.randn(4096, requires_grad=True)
    coefficients, ids = robe_case()[1], torch.arange(batch)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = lookup(memory, ids, coefficients, z=8, dim=dim)
    assert out.requires_grad
    assert 8 * batch <= sum(kept) <= 8 * batch + 1024
