"""The op of hashing trick and QR against plain Python: one id, one part, one row at a time."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck

from embpress.kernels import ops

PRIME = 2038074743
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMBINE = ("concat", "add", "mult")


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def case(kind, parts, width, rows=(40, 1, 1000), dtype=torch.float64, seed=0):
    """Tables of `rows` rows: digits in base 3, or hashes into 5 rows a part; constants in Python's integers too."""
    tables = len(rows)
    if kind == "digits":
        sizes = [[3] * (parts - 1) + [-(-n // 3 ** (parts - 1))] for n in rows]
        coefficients = [[[3**j for j in range(parts)]]] * tables
    else:
        sizes = [[5]] * tables
        coefficients = torch.randint(1, PRIME, (tables, 4, parts), generator=seeded(seed)).tolist()
    counts = [own * (parts if kind == "hash" else 1) for own in sizes]
    base = [[sum(own[:j]) for j in range(parts)] for own in counts]
    row_offsets = [sum(sum(own) for own in counts[:t]) for t in range(tables)]
    weight = torch.randn(sum(map(sum, counts)), width, dtype=torch.float64, generator=seeded(seed)).to(dtype)
    plain = {"row_offsets": row_offsets, "rows": rows, "coefficients": coefficients, "base": base, "sizes": sizes}
    constants = {name: torch.tensor(value) for name, value in plain.items()}
    return SimpleNamespace(weight=weight, constants=constants, plain=plain, kind=kind, parts=parts, rows=rows)


def part_rows(made, t, i):
    """Rows of the weight that id i of table t takes."""
    plain, found = made.plain, []
    for j in range(made.parts):
        size = plain["sizes"][t][j if made.kind == "digits" else 0]
        known = [of[j] for of in plain["coefficients"][t]]
        if made.kind == "digits":
            h = i // known[0]
        else:
            a, b, c, d = known
            h = (i * a + b) % PRIME
            h = ((h ^ (h >> 15)) * c + d) % PRIME
            h ^= h >> 15
        found.append(plain["row_offsets"][t] + plain["base"][t][j] + h % size)
    return found


def naive(made, ids, combine, weight=None):
    """Differentiable in the weight: plain indexing, one lookup at a time."""
    weight = made.weight if weight is None else weight
    out = []
    for sample in ids.tolist():
        for t, i in enumerate(sample):
            parts = [weight[row] for row in part_rows(made, t, i)]
            out.append(torch.cat(parts) if combine == "concat" else (sum if combine == "add" else math.prod)(parts))
    return torch.stack(out).view(*ids.shape, -1)


def call(made, ids, combine, device, weight=None):
    weight = made.weight if weight is None else weight
    constants = {name: tensor.to(device) for name, tensor in made.constants.items()}
    return ops.compositional_lookup(weight.to(device), ids.to(device), **constants, combine=combine).cpu()


def random_ids(made, samples, seed=0):
    """The first and the last row of each table, then any, every second sample the same."""
    last = torch.tensor(made.rows) - 1
    ids = torch.stack([torch.randint(0, n, (samples,), generator=seeded(seed)) for n in made.rows], dim=1)
    ids[0], ids[1] = 0, last
    ids[2::2] = ids[2].clone()
    return ids


KINDS = [("digits", 2), ("digits", 3), ("hash", 1), ("hash", 4)]
WIDTHS = [1, 6, 16, 130]  # alone, ragged, 16 bytes at a time, more columns than a block has threads for


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("kind", "parts"), KINDS)
def test_rows_equal_the_formula(kind, parts, width, combine, dtype, device):
    made = case(kind, parts, width, dtype=dtype)
    ids = random_ids(made, 9)
    got, want = call(made, ids, combine, device), naive(made, ids, combine)
    if combine == "concat":
        assert torch.equal(got, want)
    else:  # the terms may be rounded in another order
        close = {torch.bfloat16: 2**-6, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
        torch.testing.assert_close(got, want, rtol=close, atol=close)


@pytest.mark.parametrize("kind", ["digits", "hash"])
def test_integers_stay_exact_at_the_largest_ids_and_coefficients(kind, device):
    rows = (2**31 - 1, 2**26)
    made = case("hash", 2, 1, rows=rows)
    if kind == "hash":
        made.plain["coefficients"] = [[[PRIME - 1] * 2] * 4] * 2
        made.plain["sizes"] = [[1_000_003]] * 2
        made.plain["base"] = [[0, 0]] * 2
        made.weight = torch.arange(2 * 1_000_003 + 5.0, dtype=torch.float64)[:, None]
    else:
        made.kind = "digits"
        made.plain["coefficients"] = [[[1, 4099]]] * 2
        made.plain["sizes"] = [[4099, 2**31 // 4099 + 1]] * 2
        made.plain["base"] = [[0, 4099]] * 2
        made.weight = torch.arange(2**31 // 4099 + 2 * 4099, dtype=torch.float64)[:, None]
    made.plain["row_offsets"] = [0, 3]
    made.constants = {name: torch.tensor(value) for name, value in made.plain.items()}
    wide = torch.tensor([0, 1, 2**24 + 1, 2**25 + 1, 2**26 - 1])
    ids = torch.stack([torch.tensor([2**31 - 2, PRIME, PRIME - 1, 10**9, 2**30]), wide], dim=1)
    assert torch.equal(call(made, ids, "concat", device), naive(made, ids, "concat"))


def test_ids_past_two_to_the_32_have_digits_too(device):
    made = case("digits", 2, 2, rows=(40,))
    made.plain |= {"rows": [2**40], "coefficients": [[[1, 2**36 + 1]]], "sizes": [[7, 16]], "base": [[0, 3]]}
    made.constants = {name: torch.tensor(value) for name, value in made.plain.items()}
    made.weight = torch.randn(19, 2, dtype=torch.float64)
    ids = torch.tensor([[2**40 - 1], [2**33 + 5], [2**36 + 1], [2**36]])
    assert torch.equal(call(made, ids, "concat", device), naive(made, ids, "concat"))


def test_ids_and_weights_of_any_layout_mean_the_same(device):
    made = case("hash", 2, 8)
    ids = random_ids(made, 12)
    want = naive(made, ids, "concat")
    apart, transposed = torch.cat([ids, ids], dim=1)[:, :3], ids.int().t().contiguous().t()
    for same in (ids, ids.int(), apart, transposed):
        assert torch.equal(call(made, same, "concat", device), want)
    columns = made.weight.t().contiguous().t()
    odd = torch.cat([made.weight.new_zeros(1), made.weight.flatten()])[1:].view(made.weight.shape)  # off 16 bytes
    for weight in (columns, odd):
        for trained in (False, True):
            got = call(made, ids, "concat", device, weight.detach().to(device).requires_grad_(trained))
            assert torch.equal(got.detach(), want)


def gradient(made, ids, combine, grad, device):
    weight = made.weight.detach().to(device).requires_grad_()
    call(made, ids, combine, device, weight).backward(grad)
    return weight.grad.cpu()


def naive_gradient(made, ids, combine, grad):
    weight = made.weight.detach().double().requires_grad_()
    naive(made, ids, combine, weight).backward(grad.double())
    return weight.grad


def random_grad(made, ids, combine, dtype=torch.float64):
    dim = made.weight.shape[1] * (made.parts if combine == "concat" else 1)
    return torch.randn(*ids.shape, dim, dtype=torch.float64, generator=seeded(1)).to(dtype)


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("kind", "parts"), KINDS)
def test_gradient_equals_that_of_plain_indexing(kind, parts, width, combine, device):
    made = case(kind, parts, width)
    ids = random_ids(made, 30)
    grad = random_grad(made, ids, combine)
    got = gradient(made, ids, combine, grad, device)
    torch.testing.assert_close(got, naive_gradient(made, ids, combine, grad), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize("samples", [1, 7, 8, 9, 64, 65])
def test_gradient_of_rows_that_many_lookups_share(samples, combine, device):
    """One row takes all, a few rows take all, and rows change where pieces of sorted lookups end."""
    made = case("digits", 2, 5, rows=(12, 12))
    same = torch.full((samples, 2), 7)
    in_turn = torch.arange(samples)[:, None] % 12 + torch.zeros(2, dtype=torch.int64)
    for ids in (same, in_turn, in_turn.sort(0).values):
        grad = random_grad(made, ids, combine)
        got = gradient(made, ids, combine, grad, device)
        torch.testing.assert_close(got, naive_gradient(made, ids, combine, grad), rtol=1e-10, atol=1e-10)


def test_products_with_a_zero_factor_have_the_right_gradient(device):
    made = case("digits", 3, 4)
    made.weight[:2] = 0
    made.weight[4] = 0
    ids = random_ids(made, 20)
    grad = random_grad(made, ids, "mult")
    got = gradient(made, ids, "mult", grad, device)
    torch.testing.assert_close(got, naive_gradient(made, ids, "mult", grad), rtol=1e-12, atol=1e-12)


def test_gradients_that_are_views_count_as_they_are(device):
    made = case("hash", 2, 4)
    ids = random_ids(made, 6)
    whole = torch.randn(3, 8, 6, dtype=torch.float64, generator=seeded(1))
    for grad in (whole.permute(2, 0, 1), whole[:1, :1, :1].expand(6, 3, 8)):
        got = gradient(made, ids, "concat", grad, device)
        torch.testing.assert_close(got, naive_gradient(made, ids, "concat", grad), rtol=1e-12, atol=1e-12)


def test_gradient_is_the_same_bit_for_bit_in_equal_runs(device):
    made = case("digits", 2, 16, dtype=torch.float32)
    ids = random_ids(made, 300)
    grad = random_grad(made, ids, "mult", torch.float32)
    first, second = (gradient(made, ids, "mult", grad, device) for _ in range(2))
    assert torch.equal(first, second)


def test_bfloat16_gradients_are_summed_in_float32(device):
    made = case("digits", 2, 16, dtype=torch.bfloat16)
    ids = random_ids(made, 100)
    for combine in COMBINE:
        grad = random_grad(made, ids, combine, torch.bfloat16)
        got = gradient(made, ids, combine, grad, device)
        assert got.dtype == torch.bfloat16
        want = naive_gradient(made, ids, combine, grad)
        torch.testing.assert_close(got.double(), want, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize("kind", ["digits", "hash"])
def test_an_id_out_of_range_is_a_row_of_zeros_where_nobody_checks(kind, combine, device, monkeypatch):
    if device == "cpu" and not hasattr(torch.ops.embpress, "emulates_cuda"):
        pytest.skip("a CPU always checks")
    monkeypatch.setenv("EMBPRESS_CHECK", "0")
    made = case(kind, 2, 4)
    ids = random_ids(made, 40)
    wrong = torch.zeros_like(ids, dtype=torch.bool)
    for place, value in (((0, 0), -1), ((3, 0), 40), ((3, 1), 1), ((7, 2), 1000), ((39, 2), -(2**62))):
        ids[place], wrong[place] = value, True
    valid, grad = ids.masked_fill(wrong, 0), random_grad(made, ids, combine)
    want = naive(made, valid, combine).masked_fill(wrong[..., None], 0)
    assert torch.equal(call(made, ids, combine, device), want)
    got = gradient(made, ids, combine, grad, device)
    want = naive_gradient(made, valid, combine, grad.masked_fill(wrong[..., None], 0))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize(("kind", "parts"), KINDS)
def test_gradcheck(kind, parts, combine, device):
    made = case(kind, parts, 3, rows=(10, 4))
    ids = random_ids(made, 4)
    assert gradcheck(lambda weight: call(made, ids, combine, device, weight), [made.weight.requires_grad_()])


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize(("kind", "parts"), KINDS)
def test_opcheck(kind, parts, combine, device):
    made = case(kind, parts, 4)
    ids, how = random_ids(made, 5).to(device), COMBINE.index(combine)
    known = [
        ids,
        *(made.constants[n].to(device) for n in ("row_offsets", "rows", "coefficients", "base", "sizes")),
        how,
    ]
    weight = made.weight.to(device)
    opcheck(torch.ops.embpress.compositional_lookup.default, (weight, *known))
    opcheck(torch.ops.embpress.compositional_lookup_train.default, (weight.requires_grad_(), *known))
    _, index = torch.ops.embpress.compositional_lookup_train.default(weight.detach(), *known)
    grad = random_grad(made, ids, combine).to(device)
    opcheck(torch.ops.embpress.compositional_lookup_backward.default, (grad, weight.detach(), index, *known))


@pytest.mark.parametrize("combine", COMBINE)
def test_empty_batch(combine, device):
    made = case("digits", 2, 4)
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    dim = 8 if combine == "concat" else 4
    assert call(made, nothing, combine, device).shape == (0, 3, dim)
    got = gradient(made, nothing, combine, torch.zeros(0, 3, dim, dtype=torch.float64), device)
    assert torch.equal(got, torch.zeros_like(made.weight))


def test_no_autograd_where_no_gradient_is_wanted(device):
    made = case("hash", 1, 4)
    ids = random_ids(made, 3)
    assert not call(made, ids, "add", device).requires_grad
    with torch.no_grad():
        assert not call(made, ids, "add", device, made.weight.detach().requires_grad_()).requires_grad
