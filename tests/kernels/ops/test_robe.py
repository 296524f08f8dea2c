"""ROBE's ops against plain Python: one id, one row, one element at a time."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck

from embpress.kernels import ops

PRIME = 2038074743
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def robe_hash(x, j, r1, r2, r3, slots):
    """Python's integers: nothing can overflow."""
    return (x * r3 + j * r2 + r1) % PRIME % slots


def robe_index(x, coefficients, size, z, dim):
    """Position and sign of every element of row x."""
    slots = []
    for column in range(dim):
        j, within = divmod(column, z)
        sign = 1 - 2 * robe_hash(x, column, *coefficients[3:], 2) if len(coefficients) == 6 else 1
        slots.append((robe_hash(x, j, *coefficients[:3], size - z + 1) + within, sign))
    return slots


def global_rows(ids, tables):
    """Global rows `(N, T)` as lists."""
    return [[s + i for s, i in zip(tables["row_offsets"].tolist(), sample)] for sample in ids.tolist()]


def robe_naive(memory, ids, tables, coefficients, z, dim):
    values, known = memory.tolist(), coefficients.tolist()
    rows = [
        [[sign * values[at] for at, sign in robe_index(x, known, len(values), z, dim)] for x in sample]
        for sample in global_rows(ids, tables)
    ]
    return torch.tensor(rows, dtype=memory.dtype).view(*ids.shape, dim)


def robe_naive_gradient(grad, ids, tables, coefficients, size, z):
    want, known = [0.0] * size, coefficients.tolist()
    for sample, rows in zip(global_rows(ids, tables), grad.tolist()):
        for x, row in zip(sample, rows):
            for (at, factor), value in zip(robe_index(x, known, size, z, grad.shape[2]), row):
                want[at] += factor * value
    return torch.tensor(want, dtype=torch.float64)


def tables_of(*rows, gap=0):
    """Starts and rows of tables that lie one after another, `gap` rows apart."""
    count = torch.tensor(rows)
    return {"row_offsets": (count + gap).cumsum(0) - count, "rows": count}


def on(device, tables):
    return {name: tensor.to(device) for name, tensor in tables.items()}


def robe_case(size=97, sign=False, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    memory = torch.randn(size, dtype=torch.float64, generator=generator).to(dtype)
    coefficients = torch.randint(1, PRIME, (6 if sign else 3,), generator=generator)
    return memory, coefficients


def random_ids(tables, samples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = tables["rows"].tolist()
    return torch.stack([torch.randint(0, n, (samples,), generator=generator) for n in rows], dim=1)


def lookup(memory, ids, tables, coefficients, device="cpu", **options):
    """On the device; what comes out is on the CPU again."""
    out = ops.robe_lookup(memory.to(device), ids.to(device), coefficients.to(device), **on(device, tables), **options)
    return out.cpu()


# (size, z, dim): z = 1, z = D, z not dividing D, 16 bytes at a time, an array of one chunk
ROBE = [(97, 1, 6), (97, 6, 6), (97, 4, 10), (97, 7, 8), (97, 8, 16), (199, 32, 64), (5, 5, 8), (1, 1, 3)]
WHOLE = tables_of(PRIME)
BIG_IDS = torch.tensor([0, 1, 2**24 + 1, 2**31 - 2**27, 10**9 - 1, 10**9, PRIME - 1])[:, None]
THREE = tables_of(50, 1, 10**9, gap=3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize(("size", "z", "dim"), ROBE)
def test_rows_equal_the_formula(size, z, dim, sign, dtype, device):
    memory, coefficients = robe_case(size, sign, dtype=dtype)
    for tables, ids in ((WHOLE, torch.cat([torch.arange(20)[:, None], BIG_IDS])), (THREE, random_ids(THREE, 9))):
        got = lookup(memory, ids, tables, coefficients, device, z=z, dim=dim)
        assert torch.equal(got, robe_naive(memory, ids, tables, coefficients, z, dim))


@pytest.mark.parametrize("trained", [False, True])
def test_ids_of_both_widths_and_any_layout_mean_the_same(trained, device):
    memory, coefficients = robe_case(500, sign=True)
    ids = random_ids(THREE, 12)
    memory.requires_grad_(trained)
    want = robe_naive(memory.detach(), ids, THREE, coefficients, 4, 8)
    narrow, apart = ids.int(), torch.cat([ids, ids], dim=1)[:, :3]
    for same in (ids, narrow, apart, ids.t().contiguous().t(), narrow.t().contiguous().t()):
        assert torch.equal(lookup(memory, same, THREE, coefficients, device, z=4, dim=8).detach(), want)
    spread = torch.stack([memory.detach(), torch.zeros(500, dtype=torch.float64)], dim=1).requires_grad_(trained)
    assert torch.equal(lookup(spread[:, 0], ids, THREE, coefficients, device, z=4, dim=8).detach(), want)


def test_signs_are_of_both_kinds(device):
    coefficients = robe_case(sign=True)[1]
    rows = lookup(torch.ones(97), torch.arange(200)[:, None], WHOLE, coefficients, device, z=4, dim=10)
    assert rows.abs().eq(1).all()
    assert abs(float(rows.mean())) < 0.2


@pytest.mark.parametrize("sign", [False, True])
def test_hash_does_not_overflow_at_the_largest_ids_columns_and_coefficients(sign, device):
    memory = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))
    coefficients = torch.full((6 if sign else 3,), PRIME - 1)
    for z in (1, 4):
        got = lookup(memory, BIG_IDS, WHOLE, coefficients, device, z=z, dim=1024)
        assert torch.equal(got, robe_naive(memory, BIG_IDS, WHOLE, coefficients, z, 1024))


def test_batch_of_many_blocks(device):
    memory, coefficients = robe_case(5000)
    ids = torch.arange(300)[:, None] * 3_333_333
    got = lookup(memory, ids, WHOLE, coefficients, device, z=100, dim=700)
    assert torch.equal(got, robe_naive(memory, ids, WHOLE, coefficients, 100, 700))


def gradient(memory, ids, tables, coefficients, grad, device, **options):
    memory = memory.detach().to(device).requires_grad_()
    out = ops.robe_lookup(memory, ids.to(device), coefficients.to(device), **on(device, tables), **options)
    out.backward(grad.to(device))
    return memory.grad.cpu()


def random_grad(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("atomics", [False, True])
@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize(("size", "z", "dim"), ROBE)
def test_gradient_equals_the_scatter(size, z, dim, sign, atomics, device):
    memory, coefficients = robe_case(size, sign)
    few = torch.tensor([3, 3, 10**9, 0, 41])[:, None]
    # one id in every second sample, so that one chunk's gradients are most of all
    many = random_ids(THREE, 40)
    many[::2] = many[0]
    for tables, ids in ((WHOLE, few), (THREE, many)):
        grad = random_grad(*ids.shape, dim)
        got = gradient(memory, ids, tables, coefficients, grad, device, z=z, dim=dim, atomics=atomics)
        want = robe_naive_gradient(grad, ids, tables, coefficients, size, z)
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("z", [1, 3, 8, 40])
@pytest.mark.parametrize("hot", [False, True])
def test_gradient_of_a_batch_that_covers_the_array_many_times(z, hot, device):
    memory, coefficients = robe_case(130)
    ids = torch.full((60, 3), 7) if hot else random_ids(THREE, 60)
    ids[:, 1] = 0
    grad = random_grad(60, 3, 40)
    got = gradient(memory, ids, THREE, coefficients, grad, device, z=z, dim=40)
    torch.testing.assert_close(got, robe_naive_gradient(grad, ids, THREE, coefficients, 130, z), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("count", [12, 384])
@pytest.mark.parametrize("z", [1, 4])
def test_gradient_of_chunks_that_reach_into_32_positions_from_both_ends(z, count, device):
    """The first and the last slot where a chunk can start to reach one of the positions 32 to 63."""
    memory, coefficients = robe_case(100)
    start = {robe_hash(x, 0, *coefficients.tolist(), 101 - z): x for x in range(2000)}
    ids = torch.tensor([[start[33 - z]], [start[63]]]).repeat(count, 1)
    grad = random_grad(2 * count, 1, z)
    got = gradient(memory, ids, WHOLE, coefficients, grad, device, z=z, dim=z)
    want = robe_naive_gradient(grad, ids, WHOLE, coefficients, 100, z)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("atomics", [False, True])
@pytest.mark.parametrize("z", [1, 4])
def test_gradients_of_a_wide_array_are_zero_where_no_row_lies(z, atomics, device):
    memory, coefficients = robe_case(10_000, dtype=torch.float32)
    ids, grad = random_ids(THREE, 4), random_grad(4, 3, 10, dtype=torch.float32)
    got = gradient(memory, ids, THREE, coefficients, grad, device, z=z, dim=10, atomics=atomics)
    want = robe_naive_gradient(grad, ids, THREE, coefficients, 10_000, z)
    torch.testing.assert_close(got, want.float(), rtol=1e-6, atol=1e-6)
    assert torch.equal(got == 0, want == 0)


@pytest.mark.parametrize("sign", [False, True])
def test_gradient_is_the_same_bit_for_bit_whatever_the_order_of_equal_runs(sign, device):
    memory, coefficients = robe_case(300, sign, dtype=torch.float32)
    ids, grad = random_ids(THREE, 200), random_grad(200, 3, 16, dtype=torch.float32)
    first, second = (gradient(memory, ids, THREE, coefficients, grad, device, z=8, dim=16) for _ in range(2))
    assert torch.equal(first, second)


def test_gradients_that_are_views_count_as_they_are(device):
    memory, coefficients = robe_case(300)
    ids = random_ids(THREE, 6)
    whole = random_grad(3, 8, 6)
    for grad in (whole.permute(2, 0, 1), whole[:1, :1, :1].expand(6, 3, 8)):
        got = gradient(memory, ids, THREE, coefficients, grad, device, z=4, dim=8)
        want = robe_naive_gradient(grad, ids, THREE, coefficients, 300, 4)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize(("size", "z", "dim"), ROBE)
def test_gradcheck(size, z, dim, sign, device):
    memory, coefficients = robe_case(size, sign)
    ids = torch.tensor([[3], [3], [10**9], [0]])
    known = coefficients.to(device), ids.to(device), on(device, WHOLE)
    call = lambda m: ops.robe_lookup(m, known[1], known[0], **known[2], z=z, dim=dim)  # noqa: E731
    assert gradcheck(call, [memory.to(device).requires_grad_()])


@pytest.mark.parametrize("atomics", [False, True])
def test_bfloat16_gradients_are_summed_in_float32(atomics, device):
    memory, coefficients = robe_case(64, dtype=torch.bfloat16)
    ids, grad = random_ids(THREE, 60), random_grad(60, 3, 16, dtype=torch.bfloat16)
    got = gradient(memory, ids, THREE, coefficients, grad, device, z=8, dim=16, atomics=atomics)
    assert got.dtype == torch.bfloat16
    want = robe_naive_gradient(grad, ids, THREE, coefficients, 64, 8)
    torch.testing.assert_close(got.double(), want, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("atomics", [False, True])
@pytest.mark.parametrize("z", [1, 4, 6])
def test_an_id_out_of_range_is_a_row_of_zeros_where_nobody_checks(z, atomics, device, monkeypatch):
    if device == "cpu" and not hasattr(torch.ops.embpress, "emulates_cuda"):
        pytest.skip("a CPU always checks")
    monkeypatch.setenv("EMBPRESS_CHECK", "0")
    memory, coefficients = robe_case(300, sign=True)
    ids = random_ids(THREE, 40)
    wrong = torch.zeros_like(ids, dtype=torch.bool)
    for place, value in (((0, 0), -1), ((3, 0), 50), ((3, 1), 1), ((7, 2), 10**9), ((39, 2), -(2**62))):
        ids[place], wrong[place] = value, True
    grad = random_grad(40, 3, 8)
    got = lookup(memory, ids, THREE, coefficients, device, z=z, dim=8)
    valid = ids.masked_fill(wrong, 0)
    want = robe_naive(memory, valid, THREE, coefficients, z, 8).masked_fill(wrong[..., None], 0)
    assert torch.equal(got, want)
    got = gradient(memory, ids, THREE, coefficients, grad, device, z=z, dim=8, atomics=atomics)
    counted = grad.masked_fill(wrong[..., None], 0)
    want = robe_naive_gradient(counted, valid, THREE, coefficients, 300, z)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("atomics", [False, True])
@pytest.mark.parametrize("sign", [False, True])
def test_opcheck(sign, atomics, device):
    memory, coefficients = (tensor.to(device) for tensor in robe_case(sign=sign))
    row_offsets, rows = on(device, tables_of(8, 10**9 + 1)).values()
    ids = torch.tensor([[3, 3], [0, 10**9], [7, 7]]).to(device)
    known = (ids, row_offsets, rows, coefficients)
    opcheck(torch.ops.embpress.robe_lookup.default, (memory, *known, 4, 10))
    opcheck(torch.ops.embpress.robe_lookup_train.default, (memory.requires_grad_(), *known, 4, 10, atomics))
    grad = random_grad(3, 2, 10).to(device)
    opcheck(torch.ops.embpress.robe_lookup_backward.default, (grad, *known, 97, 4, atomics))


@pytest.mark.parametrize("atomics", [False, True])
def test_empty_batch(atomics, device):
    memory, coefficients = robe_case()
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    assert lookup(memory, nothing, THREE, coefficients, device, z=4, dim=10).shape == (0, 3, 10)
    grad = torch.zeros(0, 3, 10, dtype=torch.float64)
    got = gradient(memory, nothing, THREE, coefficients, grad, device, z=4, dim=10, atomics=atomics)
    assert torch.equal(got, torch.zeros(97, dtype=torch.float64))


@pytest.mark.parametrize("dim", [8, 64, 512])
def test_the_ids_are_kept_and_no_index_per_element(dim, device):
    batch, kept = 1000, []

    def keep(tensor):
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    memory = torch.randn(4096, device=device, requires_grad=True)
    coefficients, ids = robe_case()[1].to(device), torch.arange(batch, device=device)[:, None]
    tables = on(device, WHOLE)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = ops.robe_lookup(memory, ids, coefficients, **tables, z=8, dim=dim)
    assert out.requires_grad
    assert 8 * batch <= sum(kept) <= 8 * batch + 1024


def test_no_autograd_where_no_gradient_is_wanted(device):
    memory, coefficients = (tensor.to(device) for tensor in robe_case())
    ids, tables = torch.tensor([[3]], device=device), on(device, WHOLE)
    assert not ops.robe_lookup(memory, ids, coefficients, **tables, z=4, dim=10).requires_grad
    with torch.no_grad():
        out = ops.robe_lookup(memory.requires_grad_(), ids, coefficients, **tables, z=4, dim=10)
    assert not out.requires_grad
