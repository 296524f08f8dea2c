"""Steps on the rows of a batch against torch's optimizers with the dense gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.library import opcheck

from embpress.kernels import ops
from embpress.kernels.errors import ArgumentError, DtypeError, IdOutOfRange

RATE = 0.3


def dense(n, rows, grads):
    return torch.zeros(n, grads.shape[1], dtype=grads.dtype).index_add_(0, rows, grads)


def torch_step(make, parameter, gradients):
    """The parameter after steps with dense gradients."""
    parameter = torch.nn.Parameter(parameter.clone())
    optimizer = make([parameter], lr=RATE)
    for grad in gradients:
        parameter.grad = grad
        optimizer.step()
    return parameter.detach()


def batches(n, width, count, steps, seed, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    parameter = torch.randn(n, width, generator=g, dtype=torch.float64).to(dtype)
    made = [
        (torch.randint(0, n, (count,), generator=g), torch.randn(count, width, generator=g, dtype=torch.float64))
        for _ in range(steps)
    ]
    return parameter, [(rows, grads.to(dtype)) for rows, grads in made]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 300), st.integers(0, 99), st.sampled_from(["f32", "f64"]))
def test_adagrad_is_torchs_with_the_dense_gradient(n, width, count, seed, dtype):
    dtype = {"f32": torch.float32, "f64": torch.float64}[dtype]
    parameter, made = batches(n, width, count, 3, seed, dtype)
    want = torch_step(torch.optim.Adagrad, parameter, [dense(n, *each) for each in made])
    total = torch.zeros_like(parameter)
    for rows, grads in made:
        ops.update_rows(parameter, total, rows, grads, learning_rate=RATE)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(parameter, want, rtol=tolerance, atol=tolerance)


def test_sgd_is_torchs_with_the_dense_gradient():
    parameter, made = batches(50, 6, 200, 3, 1)
    want = torch_step(torch.optim.SGD, parameter, [dense(50, *each) for each in made])
    for rows, grads in made:
        ops.update_rows(parameter, None, rows, grads, learning_rate=RATE)
    torch.testing.assert_close(parameter, want, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3000),
    st.integers(1, 40),
    st.sampled_from(["sgd", "adagrad", "rowwise"]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    st.sampled_from(["all", "ascending"]),
)
def test_all_rows_and_ascending_ones_change_as_any_others_do(n, width, kind, dtype, which):
    """Against the same rows in another order, which take the way of rows that may come several times."""
    g = torch.Generator().manual_seed(n)
    parameter = torch.randn(n, width, generator=g).to(dtype)
    total = {"sgd": None, "adagrad": torch.rand(n, width, generator=g), "rowwise": torch.rand(n, generator=g)}[kind]
    total = None if total is None else total.to(dtype)
    rows = torch.arange(n) if which == "all" else torch.arange(n)[torch.rand(n, generator=g) < 0.3]
    grads = torch.randn(len(rows), width, generator=g).to(dtype)
    made = []
    for order in (None, rows.flip(0)):
        changed = parameter.clone(), None if total is None else total.clone()
        given_rows = (None if which == "all" else rows) if order is None else order
        ops.update_rows(*changed, given_rows, grads if order is None else grads.flip(0), learning_rate=RATE)
        made.append(changed)
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-12, torch.bfloat16: 2**-7}[dtype]
    for one, other in zip(*made):
        if one is not None:
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_row_wise_adagrad_has_one_number_a_row():
    parameter, ((rows, grads),) = batches(5, 4, 3, 1, 2)
    rows = torch.tensor([3, 0, 3])
    total, before = torch.zeros(5, dtype=torch.float64), parameter.clone()
    ops.update_rows(parameter, total, rows, grads, learning_rate=RATE, eps=0.5)
    for row, grad in ((0, grads[1]), (3, grads[0] + grads[2])):
        mean = float(grad.square().mean())
        assert float(total[row]) == pytest.approx(mean)
        torch.testing.assert_close(parameter[row], before[row] - RATE * grad / (mean**0.5 + 0.5))
    untouched = torch.tensor([1, 2, 4])
    assert torch.equal(parameter[untouched], before[untouched])
    assert not total[untouched].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_parameters_are_computed_with_in_float32(dtype):
    parameter, ((rows, grads),) = batches(9, 5, 30, 1, 3, dtype)
    total = torch.ones_like(parameter)
    wide, wide_total = parameter.float(), total.float()
    ops.update_rows(wide, wide_total, rows, grads.float(), learning_rate=RATE)
    ops.update_rows(parameter, total, rows, grads, learning_rate=RATE)
    assert torch.equal(parameter, wide.to(dtype))
    assert torch.equal(total, wide_total.to(dtype))


def test_memory_that_is_not_in_one_piece():
    whole, ((rows, grads),) = batches(20, 12, 30, 1, 4)
    parameter, total = whole[:, ::2], torch.ones(6, 20, dtype=torch.float64).t()
    want, want_total = parameter.clone(), total.clone().contiguous()
    spread = torch.stack([rows, rows], 1)[:, 0]
    ops.update_rows(want, want_total, rows, grads[:, :6].contiguous(), learning_rate=RATE)
    ops.update_rows(parameter, total, spread, grads[:, :6], learning_rate=RATE)
    assert torch.equal(parameter, want)
    assert torch.equal(total, want_total)


def test_results_do_not_depend_on_the_number_of_threads():
    made, results = batches(300, 24, 5000, 2, 5, torch.float32), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            parameter, total = made[0].clone(), torch.zeros(300, 24)
            for rows, grads in made[1]:
                ops.update_rows(parameter, total, rows, grads, learning_rate=RATE)
            results.append((parameter, total))
    finally:
        torch.set_num_threads(before)
    for parameter, total in results[1:]:
        assert torch.equal(parameter, results[0][0])
        assert torch.equal(total, results[0][1])


def test_what_does_not_fit_is_named():
    parameter, ((rows, grads),) = batches(5, 4, 3, 1, 6)
    with pytest.raises(IdOutOfRange, match="id 5 is out of range"):
        ops.update_rows(parameter, None, torch.tensor([0, 5, 1]), grads, learning_rate=RATE)
    with pytest.raises(ArgumentError, match="total must be of shape"):
        ops.update_rows(parameter, torch.zeros(4, dtype=torch.float64), rows, grads, learning_rate=RATE)
    with pytest.raises(ArgumentError, match="grads must be of shape"):
        ops.update_rows(parameter, None, rows, grads[:2], learning_rate=RATE)
    with pytest.raises(ArgumentError, match=r"grads must be of shape \(5, 4\)"):
        ops.update_rows(parameter, None, None, grads, learning_rate=RATE)
    with pytest.raises(DtypeError, match="grads must be float64"):
        ops.update_rows(parameter, None, rows, grads.float(), learning_rate=RATE)


def test_opcheck():
    parameter, ((rows, grads),) = batches(5, 4, 3, 1, 7)
    for total in (None, torch.zeros(5, 4, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)):
        opcheck(torch.ops.embpress.update_rows.default, (parameter, total, rows, grads, RATE, 1e-10))
        opcheck(torch.ops.embpress.update_rows.default, (parameter, total, None, parameter.cos(), RATE, 1e-10))
