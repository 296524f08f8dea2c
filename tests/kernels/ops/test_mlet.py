"""MLET's op against plain indexing and products, one table at a time."""

from types import SimpleNamespace

import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck

from embpress.kernels import ops

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def case(k, dim, rows=(40, 1, 300), dtype=torch.float64):
    count = torch.tensor(rows)
    table = torch.randn(sum(rows), k, dtype=torch.float64, generator=seeded()).to(dtype)
    projections = torch.randn(len(rows), k, dim, dtype=torch.float64, generator=seeded(1)).to(dtype)
    return SimpleNamespace(table=table, projections=projections, row_offsets=count.cumsum(0) - count, rows=count)


def random_ids(made, samples, repeat=False):
    ids = torch.stack([torch.randint(0, n, (samples,), generator=seeded(2)) for n in made.rows.tolist()], dim=1)
    ids[0], ids[-1] = 0, made.rows - 1
    if repeat:
        ids[1::2] = ids[1]
    return ids


def naive(made, ids, table, projections):
    return torch.stack([table[ids[:, t] + made.row_offsets[t]] @ projections[t] for t in range(len(made.rows))], dim=1)


def call(made, ids, device, table=None, projections=None):
    table = made.table if table is None else table
    projections = made.projections if projections is None else projections
    row_offsets, rows = made.row_offsets.to(device), made.rows.to(device)
    return ops.mlet_lookup(
        table.to(device), projections.to(device), ids.to(device), row_offsets=row_offsets, rows=rows
    ).cpu()


# (k, dim): one number, ragged, k below dim, 16 bytes at a time, tiles of 16, 32 and 64 columns, two tiles wide
SHAPES = [(1, 1), (7, 3), (5, 9), (16, 8), (64, 16), (40, 24), (48, 72), (130, 33)]
CLOSE = {torch.bfloat16: 2**-6, torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("samples", "repeat"), [(1, False), (5, False), (90, False), (90, True)])
@pytest.mark.parametrize(("k", "dim"), SHAPES)
def test_rows_equal_the_product(k, dim, samples, repeat, dtype, device):
    made = case(k, dim, dtype=dtype)
    ids = random_ids(made, samples, repeat)
    got = call(made, ids, device)
    assert got.dtype == dtype
    want = naive(made, ids, made.table.double(), made.projections.double())
    torch.testing.assert_close(got.double(), want, rtol=CLOSE[dtype], atol=CLOSE[dtype] * k**0.5)


@pytest.mark.parametrize("samples", [3, 400])
def test_inputs_of_any_layout_mean_the_same(samples, device):
    made = case(8, 4)
    ids = random_ids(made, samples)
    want = naive(made, ids, made.table, made.projections)
    apart, transposed = torch.cat([ids, ids], dim=1)[:, :3], ids.int().t().contiguous().t()
    columns = made.projections.transpose(1, 2).contiguous().transpose(1, 2)
    odd = torch.cat([made.table.new_zeros(1), made.table.flatten()])[1:].view(made.table.shape)  # off 16 bytes
    for same, table, projections in (
        (ids.int(), made.table, made.projections),
        (apart, odd, columns),
        (transposed, made.table.t().contiguous().t(), made.projections),
    ):
        for trained in (False, True):
            got = call(made, same, device, table.detach().to(device).requires_grad_(trained), projections)
            torch.testing.assert_close(got.detach(), want, rtol=1e-12, atol=1e-12)


def gradients(made, ids, grad, device):
    table, projections = (t.detach().to(device).requires_grad_() for t in (made.table, made.projections))
    call(made, ids, device, table, projections).backward(grad)
    return table.grad.cpu(), projections.grad.cpu()


def naive_gradients(made, ids, grad):
    table, projections = (t.detach().double().requires_grad_() for t in (made.table, made.projections))
    naive(made, ids, table, projections).backward(grad.double())
    return table.grad, projections.grad


def random_grad(made, ids, dtype=torch.float64):
    dim = made.projections.shape[2]
    return torch.randn(*ids.shape, dim, dtype=torch.float64, generator=seeded(3)).to(dtype)


@pytest.mark.parametrize(("samples", "repeat"), [(1, False), (5, False), (150, False), (150, True)])
@pytest.mark.parametrize(("k", "dim"), SHAPES)
def test_gradients_equal_those_of_plain_indexing(k, dim, samples, repeat, device):
    made = case(k, dim)
    ids = random_ids(made, samples, repeat)
    grad = random_grad(made, ids)
    for got, want in zip(gradients(made, ids, grad, device), naive_gradients(made, ids, grad)):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def test_gradients_that_are_views_count_as_they_are(device):
    made = case(8, 6)
    ids = random_ids(made, 5)
    whole = torch.randn(3, 6, 5, dtype=torch.float64, generator=seeded(3))
    for grad in (whole.permute(2, 0, 1), whole[:1, :1, :1].expand(5, 3, 6)):
        for got, want in zip(gradients(made, ids, grad, device), naive_gradients(made, ids, grad)):
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_gradients_are_the_same_bit_for_bit_in_equal_runs(device):
    made = case(24, 16, dtype=torch.float32)
    ids = random_ids(made, 300, repeat=True)
    grad = random_grad(made, ids, torch.float32)
    for first, second in zip(*(gradients(made, ids, grad, device) for _ in range(2))):
        assert torch.equal(first, second)


def test_bfloat16_gradients_are_summed_in_float32(device):
    made = case(16, 8, dtype=torch.bfloat16)
    ids = random_ids(made, 200, repeat=True)
    grad = random_grad(made, ids, torch.bfloat16)
    for got, want in zip(gradients(made, ids, grad, device), naive_gradients(made, ids, grad)):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.double(), want, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("samples", [41, 400])
def test_an_id_out_of_range_is_a_row_of_zeros_where_nobody_checks(samples, device, monkeypatch):
    if device == "cpu" and not hasattr(torch.ops.embpress, "emulates_cuda"):
        pytest.skip("a CPU always checks")
    monkeypatch.setenv("EMBPRESS_CHECK", "0")
    made = case(8, 4)
    ids = random_ids(made, samples)
    wrong = torch.zeros_like(ids, dtype=torch.bool)
    for place, value in (((0, 0), -1), ((3, 0), 40), ((3, 1), 1), ((7, 2), 300), ((40, 2), -(2**62))):
        ids[place], wrong[place] = value, True
    valid, grad = ids.masked_fill(wrong, 0), random_grad(made, ids)
    want = naive(made, valid, made.table, made.projections).masked_fill(wrong[..., None], 0)
    torch.testing.assert_close(call(made, ids, device), want, rtol=1e-12, atol=1e-12)
    want = naive_gradients(made, valid, grad.masked_fill(wrong[..., None], 0))
    for got, expected in zip(gradients(made, ids, grad, device), want):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("k", "dim"), [(5, 3), (8, 4)])
def test_gradcheck(k, dim, device):
    made = case(k, dim, rows=(3, 2))
    ids = random_ids(made, 4)
    inputs = [made.table.requires_grad_(), made.projections.requires_grad_()]
    assert gradcheck(lambda table, projections: call(made, ids, device, table, projections), inputs)
    assert gradcheck(lambda table: call(made, ids, device, table, made.projections.detach()), inputs[:1])
    assert gradcheck(lambda projections: call(made, ids, device, made.table.detach(), projections), inputs[1:])


def test_opcheck(device):
    made = case(8, 4)
    ids = random_ids(made, 5).to(device)
    table, projections = made.table.to(device), made.projections.to(device)
    known = (ids, made.row_offsets.to(device), made.rows.to(device))
    opcheck(torch.ops.embpress.mlet_lookup.default, (table, projections, *known))
    trained = table.clone().requires_grad_(), projections.clone().requires_grad_()
    opcheck(torch.ops.embpress.mlet_lookup_train.default, (*trained, *known))
    _, inner = torch.ops.embpress.mlet_lookup_train.default(table, projections, *known)
    grad = random_grad(made, ids).to(device)
    opcheck(torch.ops.embpress.mlet_lookup_backward.default, (grad, inner, table, projections, *known))


def test_empty_batch(device):
    made = case(8, 4)
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    assert call(made, nothing, device).shape == (0, 3, 4)
    for got, like in zip(gradients(made, nothing, torch.zeros(0, 3, 4), device), (made.table, made.projections)):
        assert torch.equal(got, torch.zeros_like(like))


def test_no_autograd_where_no_gradient_is_wanted(device):
    made = case(8, 4)
    ids = random_ids(made, 3)
    assert not call(made, ids, device).requires_grad
    with torch.no_grad():
        assert not call(made, ids, device, made.table.detach().requires_grad_()).requires_grad
