"""The CPU's own lookups of rows against plain PyTorch, on drawn shapes, for each instruction set and any threads."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from embpress.kernels import load, ops, reference

PRIME = 2038074743
pytestmark = [
    pytest.mark.skipif(hasattr(torch.ops.embpress, "emulates_cuda"), reason="about the CPU's own kernels"),
    pytest.mark.skipif(ops.backend("robe_lookup") != "native", reason="the native ops are not compiled here"),
]
DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}
SIZES = st.sampled_from([0, 1, 7, 130, 700])  # samples: none, fewer and more than a block, enough for threads
drawn = {
    "samples": SIZES,
    "tables": st.integers(1, 4),
    "seed": st.integers(0, 9999),
    "dtype": st.sampled_from([*DTYPES]),
}


def tables_of(tables, seed):
    g = Generator().manual_seed(seed)
    return torch.randint(1, 50, (tables,), generator=g), g


def ids_of(rows, samples, g):
    return torch.stack([torch.randint(0, int(n), (samples,), generator=g) for n in rows], 1)


def bags_of(rows, bags, longest, g):
    """Ids of as many bags of each table, up to so long, table after table; their offsets, and the table of each id."""
    lengths = torch.randint(0, longest + 1, (len(rows), bags), generator=g)
    of = torch.repeat_interleave(torch.arange(len(rows)), lengths.sum(1))
    ids = (torch.rand(len(of), generator=g) * rows[of]).long()
    return ids, torch.nn.functional.pad(lengths.flatten().cumsum(0), (1, 0)), of


@settings(max_examples=60, deadline=None)
@given(**drawn, dim=st.integers(1, 40), share=st.floats(0, 1), sign=st.booleans(), size=st.integers(0, 400))
def test_robe(samples, tables, seed, dtype, dim, share, sign, size):
    dtype, (rows, g) = DTYPES[dtype], tables_of(tables, seed)
    z = max(1, round(share * dim))
    memory = torch.randn(z + size, generator=g, dtype=torch.float64).to(dtype)
    ids, offsets = ids_of(rows, samples, g), rows.cumsum(0) - rows
    known = (ids, offsets, rows, torch.randint(0, PRIME, (6 if sign else 3,), generator=g), z, dim)
    got = ops.robe_lookup(memory, ids, known[3], row_offsets=offsets, rows=rows, z=z, dim=dim)
    assert torch.equal(got, reference.robe_lookup(memory, *known))  # only copied
    grad = torch.randn(got.shape, generator=g, dtype=torch.float64).to(dtype)
    flow = (grad, *known[:4], len(memory), z, False)
    made = torch.ops.embpress.robe_lookup_backward(*flow)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4 if dtype == torch.float32 else 2**-6
    torch.testing.assert_close(made, reference.robe_lookup_backward(*flow), rtol=tolerance, atol=tolerance)


@settings(max_examples=60, deadline=None)
@given(
    **drawn,
    dim=st.sampled_from([4, 8, 16, 24, 64, 128, 192]),
    z=st.sampled_from([4, 8, 16, 32, 64]),
    sign=st.booleans(),
    size=st.integers(0, 3000),
    last=st.integers(0, 3),
)
def test_robe_chunks_of_whole_vectors_and_the_highest_rows(samples, tables, seed, dtype, dim, z, sign, size, last):
    dtype, (rows, g) = DTYPES[dtype], tables_of(tables, seed)
    z = min(z, dim)
    memory = torch.randn(z + size, generator=g, dtype=torch.float64).to(dtype)
    ids, offsets = ids_of(rows, samples, g), PRIME - rows.flip(0).cumsum(0).flip(0)
    coefficients = torch.randint(PRIME - 1 - last, PRIME, (6 if sign else 3,), generator=g)
    known = (ids, offsets, rows, coefficients, z, dim)
    got = torch.ops.embpress.robe_lookup(memory, *known)
    assert torch.equal(got, reference.robe_lookup(memory, *known))
    grad = torch.randn(got.shape, generator=g, dtype=torch.float64).to(dtype)
    flow = (grad, *known[:4], len(memory), z, False)
    made = torch.ops.embpress.robe_lookup_backward(*flow)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4 if dtype == torch.float32 else 2**-6
    torch.testing.assert_close(made, reference.robe_lookup_backward(*flow), rtol=tolerance, atol=tolerance)


@settings(max_examples=80, deadline=None)
@given(
    **{**drawn, "samples": st.sampled_from([0, 1, 5, 60, 300])},
    dim=st.sampled_from([1, 5, 8, 16, 40, 128]),
    share=st.sampled_from([0, 0.2, 0.25, 0.5, 1]),
    sign=st.booleans(),
    size=st.integers(0, 400),
    way=st.sampled_from(["sum", "mean", "weights"]),
    longest=st.sampled_from([0, 1, 3, 30]),
    narrow=st.booleans(),
)
def test_robe_bags(samples, tables, seed, dtype, dim, share, sign, size, way, longest, narrow):
    """Against the plain lookup of each id and the plain pooling, in float64 where the rows are narrow."""
    dtype, (rows, g) = DTYPES[dtype], tables_of(tables, seed)
    z = max(1, round(share * dim))
    memory = torch.randn(z + size, generator=g, dtype=torch.float64).to(dtype)
    ids, offsets, of = bags_of(rows, samples, longest, g)
    weights = torch.randn(len(ids), generator=g, dtype=torch.float64).to(dtype) if way == "weights" else None
    starts, hashes = rows.cumsum(0) - rows, torch.randint(0, PRIME, (6 if sign else 3,), generator=g)
    own = (ids.int() if narrow else ids, offsets, weights, starts, rows, hashes)
    got = torch.ops.embpress.robe_bags(memory, *own, z, dim, way == "mean")

    leaves = [memory.double().requires_grad_(), None if weights is None else weights.double().requires_grad_()]
    one = ((ids + starts[of]).unsqueeze(1), torch.tensor([0]), rows.sum(0, keepdim=True), hashes, z)
    looked_up = reference.robe_lookup(leaves[0].detach(), *one, dim).squeeze(1).requires_grad_()
    want = reference.pool(looked_up, offsets, leaves[1], way == "mean")
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=100 * tolerance)

    grad = torch.randn(got.shape, generator=g, dtype=torch.float64).to(dtype)
    made = torch.ops.embpress.robe_bags_backward(grad, memory, *own, len(memory), z, way == "mean", False)
    want.backward(grad.double())
    flow = (looked_up.grad.unsqueeze(1), *one[:4], len(memory), z, False)
    plain = reference.robe_lookup_backward(*flow)
    torch.testing.assert_close(made[0].double(), plain, rtol=20 * tolerance, atol=200 * tolerance)
    if way == "weights":
        torch.testing.assert_close(made[1].double(), leaves[1].grad, rtol=20 * tolerance, atol=200 * tolerance)
    else:
        assert made[1].shape == (0,)


@settings(max_examples=80, deadline=None)
@given(
    **drawn,
    width=st.integers(1, 40),
    parts=st.integers(1, 4),
    combine=st.integers(0, 2),
    hashed=st.booleans(),
    common=st.booleans(),
)
def test_parts(samples, tables, seed, dtype, width, parts, combine, hashed, common):
    dtype, (rows, g) = DTYPES[dtype], tables_of(tables, seed)
    sizes = torch.randint(1, 9, (tables, 1 if common else parts), generator=g)
    each = sizes.expand(tables, parts)
    base = each.cumsum(1) - each
    held = each.sum(1)
    row_offsets = held.cumsum(0) - held
    high = PRIME if hashed else 2**33
    coefficients = torch.randint(1, high, (tables, 4 if hashed else 1, parts), generator=g)
    if not hashed:
        coefficients = coefficients % torch.tensor([7, 2**34])[torch.randint(0, 2, (1,), generator=g)] + 1
    weight = torch.randn(int(held.sum()), width, generator=g, dtype=torch.float64).to(dtype)
    ids = ids_of(rows, samples, g)
    known = (ids, row_offsets, rows, coefficients, base, sizes, combine)
    want, index = reference.compositional_lookup_train(weight, *known)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5 if dtype == torch.float32 else 2**-7
    got = torch.ops.embpress.compositional_lookup(weight, *known)
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
    grad = torch.randn(got.shape, generator=g, dtype=torch.float64).to(dtype)
    made = torch.ops.embpress.compositional_lookup_backward(grad, weight, index[:0], *known)
    plain = reference.compositional_lookup_backward(grad, weight, index, *known)
    torch.testing.assert_close(made, plain, rtol=50 * tolerance, atol=50 * tolerance)


@settings(max_examples=60, deadline=None)
@given(**drawn, k=st.integers(1, 70), dim=st.integers(1, 40))
def test_products(samples, tables, seed, dtype, k, dim):
    dtype, (rows, g) = DTYPES[dtype], tables_of(tables, seed)
    table = torch.randn(int(rows.sum()), k, generator=g, dtype=torch.float64).to(dtype)
    projections = (torch.randn(tables, k, dim, generator=g, dtype=torch.float64) / k**0.5).to(dtype)
    ids, offsets = ids_of(rows, samples, g), rows.cumsum(0) - rows
    known = (table, projections, ids, offsets, rows)
    want, inner = reference.mlet_lookup_train(*known)
    tolerance = 1e-11 if dtype == torch.float64 else 1e-4 if dtype == torch.float32 else 2**-6
    got = torch.ops.embpress.mlet_lookup(*known)
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
    grad = torch.randn(got.shape, generator=g, dtype=torch.float64).to(dtype)
    made = torch.ops.embpress.mlet_lookup_backward(grad, inner[:0], *known)
    for one, plain in zip(made, reference.mlet_lookup_backward(grad, inner, *known)):
        torch.testing.assert_close(one, plain, rtol=10 * tolerance, atol=30 * tolerance)


def test_sums_do_not_depend_on_the_number_of_threads():
    g = Generator().manual_seed(1)
    rows = torch.tensor([900, 40])
    ids, offsets = ids_of(rows, 3000, g), rows.cumsum(0) - rows
    grad = torch.randn(3000, 2, 24, generator=g)
    hashes = torch.randint(0, PRIME, (6,), generator=g)
    weight, coefficients = torch.randn(300, 24, generator=g), torch.randint(0, PRIME, (2, 4, 2), generator=g)
    base, sizes = torch.tensor([[0, 70]] * 2), torch.tensor([[70, 80]] * 2)
    bags, bounds, _ = bags_of(rows, 800, 9, g)
    of_bags, weights = torch.randn(1600, 24, generator=g), torch.randn(len(bags), generator=g)
    memory = torch.randn(5000, generator=g)
    table, projections = torch.randn(940, 30, generator=g), torch.randn(2, 30, 24, generator=g)

    def everything():
        parts = (ids, torch.tensor([0, 150]), rows, coefficients, base, sizes, 2)
        backward, own = torch.ops.embpress, (bags, bounds, weights, offsets, rows, hashes)
        return [
            backward.robe_bags(memory, *own, 5, 24, False),
            *backward.robe_bags_backward(of_bags, memory, *own, 5000, 5, False, False),
            *backward.robe_bags_backward(of_bags, None, *own[:2], None, *own[3:5], hashes[:3], 5000, 8, True, False),
            backward.robe_lookup_backward(grad, ids, offsets, rows, hashes[:3], 5000, 8, False),
            backward.robe_lookup_backward(grad, ids, offsets, rows, hashes, 5000, 5, False),
            backward.compositional_lookup_backward(grad, weight, ids.flatten()[:0], *parts),
            *backward.mlet_lookup_backward(grad, table[:0, 0], table, projections, ids, offsets, rows),
        ]

    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            made.append(everything())
    finally:
        torch.set_num_threads(before)
    for others in made[1:]:
        assert all(torch.equal(one, other) for one, other in zip(made[0], others))


@pytest.mark.cpu_only
@pytest.mark.parametrize("isa", load.ISAS)
def test_every_instruction_set_passes(isa):
    """The choice is made once a process, so each gets its own."""
    if load.ENVIRONMENT in os.environ:
        pytest.skip(f"{load.ENVIRONMENT} is set: this run is about that build alone")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "not instruction_set"],
        env={**os.environ, "EMBPRESS_ISA": isa, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:]
