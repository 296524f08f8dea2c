"""The CPU's own bags, and gradients of the rows of a batch, against plain PyTorch, for each instruction set."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from embpress.kernels import load, ops, reference
from embpress.kernels.errors import ArgumentError, DtypeError, IdOutOfRange, OffsetsError

PRIME = 2038074743
NATIVE = torch.ops.embpress
pytestmark = [
    pytest.mark.skipif(hasattr(torch.ops.embpress, "emulates_cuda"), reason="about the CPU's own kernels"),
    pytest.mark.skipif(ops.backend("compositional_bags") != "native", reason="the native ops are not compiled here"),
]
DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}
TOLERANCE = {"f32": 1e-4, "f64": 1e-11, "bf16": 2**-6, "f16": 2**-6}
drawn = {
    "each": st.sampled_from([0, 1, 5, 130, 400]),  # bags of a table
    "longest": st.sampled_from([0, 1, 4, 300]),
    "tables": st.integers(1, 4),
    "seed": st.integers(0, 9999),
    "dtype": st.sampled_from([*DTYPES]),
    "pooling": st.sampled_from(["sum", "mean", "weights"]),
    "narrow_ids": st.booleans(),
}


def near(dtype, got, want):
    """Equal up to rounding, of which sums of many ids have more."""
    for one, plain in zip(got, want):
        assert one.dtype == plain.dtype
        size = max(1.0, float(plain.double().abs().max())) if plain.numel() else 1.0
        tolerance = TOLERANCE[dtype]
        torch.testing.assert_close(one, plain, rtol=10 * tolerance, atol=10 * tolerance * size)


def bags_of(rows, each, longest, g):
    """Ids, offsets of `each` bags a table, some of them empty."""
    lengths = torch.randint(0, longest + 1, (len(rows) * each,), generator=g)
    if each > 100:
        lengths = lengths.clamp(max=4)
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    high = rows.repeat_interleave(each).repeat_interleave(lengths)
    return (torch.rand(len(high), generator=g, dtype=torch.float64) * high).long(), offsets


def call_of(each, longest, tables, seed, dtype, pooling, narrow_ids):
    g = Generator().manual_seed(seed)
    rows = torch.randint(1, 50, (tables,), generator=g)
    ids, offsets = bags_of(rows, each, longest, g)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(DTYPES[dtype])

    weights = normal(len(ids)) if pooling == "weights" else None
    return g, rows, ids.int() if narrow_ids else ids, offsets, weights, pooling == "mean", normal


def part_tables(tables, parts, hashed, common, g):
    sizes = torch.randint(1, 9, (tables, 1 if common else parts), generator=g)
    each = sizes.expand(tables, parts)
    base, held = each.cumsum(1) - each, each.sum(1)
    coefficients = torch.randint(1, PRIME if hashed else 12, (tables, 4 if hashed else 1, parts), generator=g)
    return (held.cumsum(0) - held, coefficients, base, sizes), int(held.sum())


@settings(max_examples=120, deadline=None)
@given(
    **drawn,
    width=st.integers(1, 40),
    parts=st.integers(1, 4),
    combine=st.integers(0, 2),
    hashed=st.booleans(),
    common=st.booleans(),
)
def test_bags_of_parts(width, parts, combine, hashed, common, dtype, tables, **more):
    g, rows, ids, offsets, weights, mean, normal = call_of(dtype=dtype, tables=tables, **more)
    (row_offsets, coefficients, base, sizes), held = part_tables(tables, parts, hashed, common, g)
    weight = normal(held, width)
    call = (weight, ids, offsets, weights, row_offsets, rows, coefficients, base, sizes, combine, mean)
    got, want = NATIVE.compositional_bags(*call), reference.compositional_bags(*call)
    near(dtype, [got], [want])
    grad = normal(*want.shape)
    near(dtype, NATIVE.compositional_bags_backward(grad, *call), reference.compositional_bags_backward(grad, *call))
    got = NATIVE.compositional_bags_rows_backward(grad, *call)
    want = reference.compositional_bags_rows_backward(grad, *call)
    assert torch.equal(got[0], want[0])
    near(dtype, got[1:], want[1:])


@settings(max_examples=80, deadline=None)
@given(**drawn, k=st.integers(1, 70), dim=st.integers(1, 40))
def test_bags_of_products(k, dim, dtype, tables, **more):
    _, rows, ids, offsets, weights, mean, normal = call_of(dtype=dtype, tables=tables, **more)
    call = (normal(int(rows.sum()), k), (normal(tables, k, dim) / k**0.5), ids, offsets, weights)
    call = (*call, rows.cumsum(0) - rows, rows, mean)
    got, want = NATIVE.mlet_bags(*call), reference.mlet_bags(*call)
    near(dtype, [got], [want])
    grad = normal(*want.shape)
    near(dtype, NATIVE.mlet_bags_backward(grad, *call), reference.mlet_bags_backward(grad, *call))
    got, want = NATIVE.mlet_bags_rows_backward(grad, *call), reference.mlet_bags_rows_backward(grad, *call)
    assert torch.equal(got[0], want[0])
    near(dtype, got[1:], want[1:])


@settings(max_examples=60, deadline=None)
@given(
    samples=st.sampled_from([0, 1, 7, 130, 700]),
    tables=st.integers(1, 4),
    seed=st.integers(0, 9999),
    dtype=st.sampled_from([*DTYPES]),
    width=st.integers(1, 40),
    parts=st.integers(1, 4),
    combine=st.integers(0, 2),
    hashed=st.booleans(),
)
def test_rows_of_lookups(samples, tables, seed, dtype, width, parts, combine, hashed):
    g, rows, _, _, _, _, normal = call_of(0, 0, tables, seed, dtype, "sum", False)
    ids = torch.stack([torch.randint(0, int(n), (samples,), generator=g) for n in rows], 1)
    (row_offsets, coefficients, base, sizes), held = part_tables(tables, parts, hashed, False, g)
    weight, known = normal(held, width), (ids, row_offsets, rows, coefficients, base, sizes, combine)
    out, index = reference.compositional_lookup_train(weight, *known)
    grad = normal(*out.shape)
    want = reference.compositional_lookup_rows_backward(grad, weight, index, *known)
    for kept in (index, index[:0]):  # plain PyTorch finds the rows again where nobody kept them
        plain = reference.compositional_lookup_rows_backward(grad, weight, kept, *known)
        assert all(torch.equal(one, other) for one, other in zip(plain, want))
    got = NATIVE.compositional_lookup_rows_backward(grad, weight, index[:0], *known)
    assert torch.equal(got[0], want[0])
    near(dtype, got[1:], want[1:])
    table, projections = normal(int(rows.sum()), parts), normal(tables, parts, width)
    known = (table, projections, ids, rows.cumsum(0) - rows, rows)
    out, inner = reference.mlet_lookup_train(*known)
    want = reference.mlet_lookup_rows_backward(grad := normal(*out.shape), inner, *known)
    got = NATIVE.mlet_lookup_rows_backward(grad, inner[:0], *known)
    assert torch.equal(got[0], want[0])
    near(dtype, got[1:], want[1:])


def a_call():
    g = Generator().manual_seed(1)
    rows = torch.tensor([900, 40])
    ids, offsets = bags_of(rows, 1500, 4, g)
    (row_offsets, *constants), held = part_tables(2, 2, True, False, g)
    of_parts = (torch.randn(held, 24, generator=g), ids, offsets, None, row_offsets, rows, *constants, 2, True)
    weights = torch.randn(len(ids), generator=g)
    inner = torch.randn(940, 30, generator=g), torch.randn(2, 30, 24, generator=g)
    of_products = (*inner, ids, offsets, weights, rows.cumsum(0) - rows, rows, False)
    return torch.randn(3000, 24, generator=g), of_parts, of_products


def test_sums_do_not_depend_on_the_number_of_threads():
    grad, of_parts, of_products = a_call()
    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            made.append(
                [
                    NATIVE.compositional_bags(*of_parts),
                    *NATIVE.compositional_bags_backward(grad, *of_parts),
                    *NATIVE.compositional_bags_rows_backward(grad, *of_parts),
                    NATIVE.mlet_bags(*of_products),
                    *NATIVE.mlet_bags_backward(grad, *of_products),
                    *NATIVE.mlet_bags_rows_backward(grad, *of_products),
                ]
            )
    finally:
        torch.set_num_threads(before)
    for others in made[1:]:
        assert all(torch.equal(one, other) for one, other in zip(made[0], others))


@pytest.mark.parametrize("offsets", [[1, 3], [0, 2], [0, 5], [0, 2**40], [-1, 3], [0, 4, 1, 3, 3], [0, -5, 3]])
def test_ops_look_at_ids_and_offsets_themselves(offsets):
    """Forward and backward, whatever was looked at before."""
    rows, ids = torch.tensor([5] * (len(offsets) - 1)), torch.tensor([1, 2, 4])
    table, projections = torch.zeros(5 * len(rows), 3), torch.zeros(len(rows), 3, 2)
    row_offsets, offsets = rows.cumsum(0) - rows, torch.tensor(offsets)
    constants = torch.ones(len(rows), 1, 1, dtype=torch.int64), torch.zeros(len(rows), 1, dtype=torch.int64)
    of_parts = (row_offsets, rows, *constants, rows[:, None], 0, False)
    of_products = (row_offsets, rows, False)
    sound, wrong = torch.linspace(0, 3, len(offsets)).long(), torch.tensor([1, 2, 5])
    for own_ids, own_offsets, error in ((ids, offsets, "offsets"), (wrong, sound, "id out of range")):
        ways = (
            lambda i, o: NATIVE.compositional_bags(table, i, o, None, *of_parts),
            lambda i, o: NATIVE.compositional_bags_backward(table[: len(o) - 1], table, i, o, None, *of_parts),
            lambda i, o: NATIVE.compositional_bags_rows_backward(table[: len(o) - 1], table, i, o, None, *of_parts),
            lambda i, o: NATIVE.mlet_bags(table, projections, i, o, None, *of_products),
            lambda i, o: NATIVE.mlet_bags_backward(
                table[: len(o) - 1, :2], table, projections, i, o, None, *of_products
            ),
            lambda i, o: NATIVE.mlet_bags_rows_backward(
                table[: len(o) - 1, :2], table, projections, i, o, None, *of_products
            ),
        )
        for way in ways:
            with pytest.raises(RuntimeError, match=error):
                way(own_ids, own_offsets)


def test_what_does_not_fit_is_named():
    _, of_parts, of_products = a_call()
    names = ("row_offsets", "rows", "coefficients", "base", "sizes")
    constants = dict(zip(names, of_parts[4:9]))
    weight, ids, offsets = of_parts[:3]

    def bags(**changed):
        return ops.compositional_bags(
            **{"weight": weight, "ids": ids, "offsets": offsets, "combine": "mult", **constants, **changed}
        )

    weights = torch.ones(len(ids))
    with pytest.raises(OffsetsError, match="must not decrease"):
        bags(offsets=torch.cat([offsets[:1], offsets[1:-1].flip(0), offsets[-1:]]))
    with pytest.raises(OffsetsError, match="must be the input's length"):
        bags(ids=ids[:-1])
    with pytest.raises(IdOutOfRange, match="id 40 is out of range: table 1 has 40 rows"):
        bags(ids=torch.cat([ids[:-1], torch.tensor([40])]))
    with pytest.raises(ArgumentError, match="weights go with sums"):
        bags(weights=weights, mean=True)
    with pytest.raises(DtypeError, match="weights must be float32"):
        bags(weights=weights.double())
    with pytest.raises(ArgumentError, match="weights must be of shape"):
        bags(weights=weights[:-1])
    with pytest.raises(ArgumentError, match="offsets are not those of the bags of 2 tables"):
        bags(offsets=torch.cat([offsets, offsets[-1:]]))
    table, projections = of_products[:2]
    with pytest.raises(ArgumentError, match="projections must be of shape"):
        ops.mlet_bags(table, projections[:, 1:], ids, offsets, **{n: constants[n] for n in names[:2]})


@pytest.mark.parametrize("op", ["parts", "products", "bags of parts", "bags of products"])
def test_a_sparse_gradient_is_the_dense_one_on_the_rows_of_the_batch(op):
    _, of_parts, of_products = a_call()
    weight, ids, offsets, _, *_ = of_parts
    constants = dict(zip(("row_offsets", "rows", "coefficients", "base", "sizes"), of_parts[4:9]))
    ids = ids.clamp(max=30)
    pairs = torch.stack([ids[:200], ids[200:400]], 1)
    known = {"row_offsets": of_products[5], "rows": of_products[6]}
    made = []
    for sparse in (False, True):
        leaf = (weight if "parts" in op else of_products[0]).clone().requires_grad_()
        if op == "parts":
            out = ops.compositional_lookup(leaf, pairs, **constants, combine="mult", sparse=sparse)
        elif op == "products":
            out = ops.mlet_lookup(leaf, of_products[1], pairs, **known, sparse=sparse)
        elif op == "bags of parts":
            out = ops.compositional_bags(leaf, ids, offsets, **constants, combine="mult", sparse=sparse)
        else:
            out = ops.mlet_bags(leaf, of_products[1], ids, offsets, **known, sparse=sparse)
        slope = torch.linspace(-1, 1, out.numel()).view(out.shape)
        made += torch.autograd.grad(out, leaf, slope)  # what is accumulated in .grad forgets that it is coalesced
    dense, sparse = made
    assert sparse.is_sparse
    assert sparse.is_coalesced()
    rows = sparse.indices()[0]
    assert bool((rows.diff() > 0).all())
    torch.testing.assert_close(sparse.to_dense(), dense, rtol=1e-4, atol=1e-4)
    assert not dense[[r for r in range(len(dense)) if r not in set(rows.tolist())]].any()


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
