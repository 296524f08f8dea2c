"""What the tensor-train op has on CUDA alone: bfloat16, tensor cores, ids that nobody checks; on a GPU or emulated."""

import os
from unittest import mock

import pytest
import torch

from embpress.kernels import ops, reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(
    DEVICE == "cpu" and not hasattr(torch.ops.embpress, "emulates_cuda"),
    reason="needs a GPU or the emulated CUDA kernels (make cuda-on-cpu)",
)
ROWS, BATCH = [7 * 9 * 8, 5 * 6 * 7], 60


@pytest.fixture(params=["fused", "grouped"])
def route(request):
    with mock.patch.dict(os.environ, {"EMBPRESS_TT_ROUTE": request.param}):
        yield request.param


def case(num_cores=3):
    """Two tables of one width, ids that repeat."""
    g = torch.Generator().manual_seed(0)
    q = {2: (4, 16), 3: (4, 4, 4), 4: (2, 2, 4, 4)}[num_cores]
    factors = {2: [(63, 8), (30, 7)], 3: [(7, 9, 8), (5, 6, 7)], 4: [(7, 3, 3, 8), (5, 3, 2, 7)]}[num_cores]
    cores = []
    for p, rank in zip(factors, (32, 20)):
        r = (1, *(rank,) * (num_cores - 1), 1)
        cores += [
            torch.randn(p[k], r[k], q[k], r[k + 1], dtype=torch.float64, generator=g) / r[k + 1] ** 0.5
            for k in range(num_cores)
        ]
    ids = torch.stack([torch.randint(n, (BATCH,), generator=g) for n in ROWS], dim=1)
    return cores, ids, torch.randn(BATCH, 2, 64, dtype=torch.float64, generator=g)


def exact(cores, ids, grad, num_cores):
    """Output and gradients of the plain form in float64."""
    others = (ROWS, [], num_cores, False, True)
    out = reference.tt_embedding_bag(cores, [], ids, None, None, *others)
    none = grad.new_empty(0)
    grads, *_ = reference.tt_embedding_bag_backward(grad, cores, [], ids, None, None, none, none, *others)
    return [out, *grads]


def run(cores, ids, grad, dtype, num_cores, math="fp32"):
    own = [core.to(DEVICE, dtype).requires_grad_() for core in cores]
    out = ops.tt_embedding_bag(own, ids.to(DEVICE), num_embeddings=ROWS, num_cores=num_cores, math=math)
    out.backward(grad.to(DEVICE, dtype))
    return [out.detach().cpu(), *(core.grad.cpu() for core in own)]


def errors(found, want):
    return [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, want)]


@pytest.mark.parametrize("num_cores", [2, 3, 4])
def test_bfloat16_cores_are_summed_in_float32(num_cores, route):
    cores, ids, grad = case(num_cores)
    cores = [core.bfloat16().double() for core in cores]
    grad = grad.bfloat16().double()
    found = run(cores, ids, grad, torch.bfloat16, num_cores)
    assert all(t.dtype == torch.bfloat16 for t in found)
    # one rounding to 8 bits at the end; sums in bfloat16 would be several times as far away
    assert max(errors(found, exact(cores, ids, grad, num_cores))) < 2**-9


@pytest.mark.parametrize("num_cores", [3, 4])
def test_tensor_cores_lose_what_tf32_loses_and_split_ones_next_to_nothing(num_cores):
    cores, ids, grad = case(num_cores)
    cores, grad = [core.float().double() for core in cores], grad.float().double()
    want = exact(cores, ids, grad, num_cores)
    with mock.patch.dict(os.environ, {"EMBPRESS_TT_ROUTE": "grouped"}):
        plain, single, split = (
            errors(run(cores, ids, grad, torch.float32, num_cores, math), want) for math in ops.MATH
        )
    assert max(plain) < 1e-6
    assert max(split) < 2e-6
    # two factors with half a unit of the 11th bit each
    assert max(single) < 2**-10
    assert max(single) > 1e-5


def test_unknown_math_is_refused():
    cores, ids, _ = case()
    with pytest.raises(ValueError, match="math='half' is not one of fp32, tf32, split-tf32"):
        ops.tt_embedding_bag(
            [c.to(DEVICE) for c in cores], ids.to(DEVICE), num_embeddings=ROWS, num_cores=3, math="half"
        )


def test_two_runs_agree_to_the_last_bit(route):
    cores, ids, grad = case()
    first, second = (run(cores, ids, grad, torch.float32, 3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_ids_out_of_range_are_left_out(route, monkeypatch):
    monkeypatch.setenv("EMBPRESS_CHECK", "0")
    cores, ids, grad = case()
    wrong = ids.clone()
    wrong[3], wrong[5] = -1, 10**9
    keep = torch.ones(BATCH, dtype=torch.bool)
    keep[[3, 5]] = False
    found = run(cores, wrong, grad, torch.float64, 3)
    want = run(cores, ids[keep], grad[keep], torch.float64, 3)
    assert not found[0][~keep].any()
    torch.testing.assert_close(found[0][keep], want[0])
    for a, b in zip(found[1:], want[1:]):
        torch.testing.assert_close(a, b)
