"""The ops against plain Python: one id, one row, one element at a time."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck

from embpress.kernels import ops

PRIME = 2038074743
# number of cores: tables (row factors, column factors, ranks) of one width
TABLES = {
    2: [((3, 4), (2, 4), (3,)), ((5, 2), (4, 2), (2,))],
    3: [((2, 3, 2), (2, 1, 4), (3, 2)), ((3, 1, 4), (2, 2, 2), (1, 3)), ((1, 5, 2), (1, 1, 8), (2, 2))],
    4: [((2, 2, 1, 3), (2, 1, 2, 2), (2, 3, 2)), ((1, 2, 3, 2), (1, 2, 1, 4), (2, 2, 1))],
}


def tt_cores(num_cores, seed=0, tables=None):
    generator = torch.Generator().manual_seed(seed)
    cores = []
    for p, q, ranks in TABLES[num_cores][:tables]:
        r = (1, *ranks, 1)
        shapes = [(p[k], r[k], q[k], r[k + 1]) for k in range(num_cores)]
        cores += [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    return cores


def tt_ids(cores, num_cores, counts, seed=0):
    """`counts[t]` ids for every table, table after table; few rows, so that ids repeat."""
    generator = torch.Generator().manual_seed(seed)
    rows = [int(np.prod([c.shape[0] for c in cores[k : k + num_cores]])) for k in range(0, len(cores), num_cores)]
    return torch.cat([torch.randint(n, (count,), generator=generator) for n, count in zip(rows, counts)])


def tt_row(cores, i):
    """Row i of one table: its digits, most significant first, pick one slice a core."""
    digits = []
    for core in reversed(cores):
        i, digit = divmod(i, core.shape[0])
        digits.insert(0, digit)
    row = np.ones((1, 1))
    for core, digit in zip(cores, digits):
        slice_ = core[digit].numpy()
        row = np.einsum("ar,rqs->aqs", row, slice_).reshape(-1, slice_.shape[-1])
    return row[:, 0]


def tt_naive(cores, indices, offsets=None, weights=None, *, num_cores, mean=False):
    num_tables = len(cores) // num_cores
    ids = indices.tolist()
    bounds = list(range(len(ids) + 1)) if offsets is None else offsets.tolist()
    batch = (len(bounds) - 1) // num_tables
    out = np.zeros((batch, num_tables, int(np.prod([core.shape[2] for core in cores[:num_cores]]))))
    for t in range(num_tables):
        own = cores[t * num_cores : (t + 1) * num_cores]
        for b in range(batch):
            first, last = bounds[t * batch + b], bounds[t * batch + b + 1]
            for position in range(first, last):
                out[b, t] += (1 if weights is None else float(weights[position])) * tt_row(own, ids[position])
            if mean and last > first:
                out[b, t] /= last - first
    return torch.from_numpy(out)


def tt_case(num_cores, kind):
    """Cores, ids, offsets, weights and mean: 4 bags a table, some of them empty."""
    cores = tt_cores(num_cores)
    num_tables = len(TABLES[num_cores])
    if kind == "one id a bag":
        return cores, tt_ids(cores, num_cores, [4] * num_tables), None, None, False
    lengths = torch.tensor([[3, 0, 2, 1], [0, 5, 1, 0], [0, 0, 0, 0]])[:num_tables]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.flatten().cumsum(0)])
    ids = tt_ids(cores, num_cores, lengths.sum(1).tolist())
    weights = torch.randn(len(ids), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return cores, ids, offsets, weights if kind == "weights" else None, kind == "mean"


KINDS = ("one id a bag", "bags", "mean", "weights")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_cores", [2, 3, 4])
def test_tt_equals_the_loop_over_ids(num_cores, kind):
    cores, ids, offsets, weights, mean = tt_case(num_cores, kind)
    got = ops.tt_embedding_bag(cores, ids, offsets, weights, num_cores=num_cores, mean=mean)
    want = tt_naive(cores, ids, offsets, weights, num_cores=num_cores, mean=mean)
    assert want.abs().sum() > 1
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    single = ops.tt_embedding_bag(
        [core.float() for core in cores],
        ids,
        offsets,
        None if weights is None else weights.float(),
        num_cores=num_cores,
        mean=mean,
    )
    torch.testing.assert_close(single, want.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_cores", [2, 3, 4])
def test_tt_gradients(num_cores, kind):
    cores, ids, offsets, weights, mean = tt_case(num_cores, kind)
    inputs = [core.requires_grad_() for core in cores]
    if weights is not None:
        inputs.append(weights.requires_grad_())

    def call(*values):
        own = values[len(cores)] if weights is not None else None
        return ops.tt_embedding_bag(list(values[: len(cores)]), ids, offsets, own, num_cores=num_cores, mean=mean)

    assert gradcheck(call, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_tt_opcheck(kind):
    cores, ids, offsets, weights, mean = tt_case(3, kind)
    cores = [core.requires_grad_() for core in cores]
    opcheck(torch.ops.embpress.tt_embedding_bag.default, (cores, ids, offsets, weights, 3, mean))


def test_tt_backward_opcheck():
    cores, ids, offsets, weights, mean = tt_case(3, "weights")
    grad = torch.randn(4, 3, 8, dtype=torch.float64)
    opcheck(torch.ops.embpress.tt_embedding_bag_backward.default, (grad, cores, ids, offsets, weights, 3, mean))


@pytest.mark.parametrize("num_cores", [2, 3, 4])
@pytest.mark.parametrize("bags", [0, 3])
def test_tt_with_no_id_at_all_gives_zeros_and_zero_gradients(num_cores, bags):
    cores = [core.requires_grad_() for core in tt_cores(num_cores)]
    num_tables = len(TABLES[num_cores])
    offsets = torch.zeros(num_tables * bags + 1, dtype=torch.int64)
    out = ops.tt_embedding_bag(cores, torch.zeros(0, dtype=torch.int64), offsets, num_cores=num_cores)
    dim = int(np.prod([core.shape[2] for core in cores[:num_cores]]))
    assert torch.equal(out, torch.zeros(bags, num_tables, dim, dtype=torch.float64))
    out.sum().backward()
    assert all(torch.equal(core.grad, torch.zeros_like(core)) for core in cores)


@pytest.mark.parametrize("mean", [False, True])
def test_tt_gradient_is_that_of_the_written_out_table(mean):
    """A plain table holding the same rows gets, through autograd of plain PyTorch, the same gradients in the cores."""
    cores = [core.requires_grad_() for core in tt_cores(3, tables=1)]
    ids = torch.tensor([5, 5, 0, 11, 7, 5])
    offsets = torch.tensor([0, 3, 3, 6])
    grad = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ops.tt_embedding_bag(cores, ids, offsets, num_cores=3, mean=mean).squeeze(1).backward(grad)
    twins = [core.detach().clone().requires_grad_() for core in cores]
    table = torch.einsum("aiqr,brse,cetf->abcqst", twins[0], twins[1], twins[2]).reshape(12, 8)
    bags = [table[ids[a:b]] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist())]
    pooled = [bag.mean(0) if mean and len(bag) else bag.sum(0) for bag in bags]
    torch.stack(pooled).backward(grad)
    for core, twin in zip(cores, twins):
        torch.testing.assert_close(core.grad, twin.grad, rtol=1e-10, atol=1e-12)


# --- ROBE -------------------------------------------------------------------------------------------------------------


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
    got = ops.robe_lookup(memory, ids, coefficients, z=z, dim=dim)
    assert torch.equal(got, robe_naive(memory, ids, coefficients, z, dim))


def test_signs_are_of_both_kinds():
    coefficients = robe_case(sign=True)[1]
    rows = ops.robe_lookup(torch.ones(97), torch.arange(200), coefficients, z=4, dim=10)
    assert rows.abs().eq(1).all()
    assert abs(float(rows.mean())) < 0.2


@pytest.mark.parametrize("sign", [False, True])
def test_robe_hash_does_not_overflow_at_the_largest_ids_columns_and_coefficients(sign):
    memory = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))
    coefficients = torch.full((6 if sign else 3,), PRIME - 1)
    got = ops.robe_lookup(memory, BIG_IDS, coefficients, z=1, dim=1024)
    assert torch.equal(got, robe_naive(memory, BIG_IDS, coefficients, 1, 1024))


def test_robe_batch_of_many_blocks():
    memory, coefficients = robe_case(5000)
    ids = torch.arange(300) * 3_333_333
    got = ops.robe_lookup(memory, ids, coefficients, z=100, dim=700)
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
    ops.robe_lookup(memory.requires_grad_(), ids, coefficients, z=z, dim=dim).backward(grad)
    torch.testing.assert_close(memory.grad, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    assert gradcheck(lambda m: ops.robe_lookup(m, ids, coefficients, z=z, dim=dim), [memory])


@pytest.mark.parametrize("sign", [False, True])
def test_robe_opcheck(sign):
    memory, coefficients = robe_case(sign=sign)
    ids = torch.tensor([3, 3, 10**9])
    opcheck(torch.ops.embpress.robe_lookup.default, (memory.requires_grad_(), ids, coefficients, 4, 10))
    grad = torch.randn(3, 10, dtype=torch.float64)
    opcheck(torch.ops.embpress.robe_lookup_backward.default, (grad, ids, coefficients, 97, 4))


def test_robe_empty_batch():
    memory, coefficients = robe_case()
    out = ops.robe_lookup(memory.requires_grad_(), torch.zeros(0, dtype=torch.int64), coefficients, z=4, dim=10)
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
        out = ops.robe_lookup(memory, ids, coefficients, z=8, dim=dim)
    assert out.requires_grad
    assert 8 * batch <= sum(kept) <= 8 * batch + 1024
