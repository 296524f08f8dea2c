"""Steps on all rows of many parameters against torch's optimizers and against the step on rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.library import opcheck

from embpress.kernels import ops, reference
from embpress.kernels.errors import ArgumentError, DtypeError

RATE = 0.3
SHAPES = [(7, 1, 2, 5), (30, 40), (3,), (), (0, 4), (9000,), (2, 40000)]
KINDS = st.sampled_from(["sgd", "adagrad", "rowwise"])


def made(shapes, kind, seed, dtypes=(torch.float64,)):
    """Parameters, totals and gradients."""
    g = torch.Generator().manual_seed(seed)
    types = [dtypes[i % len(dtypes)] for i in range(len(shapes))]
    parameters, grads = ([torch.randn(s, generator=g).to(t) for s, t in zip(shapes, types)] for _ in range(2))
    if kind == "sgd":
        return parameters, [], grads
    sizes = [shape[:1] if kind == "rowwise" else shape for shape in shapes]
    return parameters, [torch.rand(s, generator=g).to(t) for s, t in zip(sizes, types)], grads


def copies(groups):
    return [[each.clone() for each in group] for group in groups]


def assert_same(ones, others):
    for one, other in zip(ones, others):
        assert torch.equal(one, other)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adagrad])
def test_steps_are_torchs(make):
    parameters, totals, grads = made(SHAPES, "adagrad" if make is torch.optim.Adagrad else "sgd", 0)
    totals = [total.zero_() for total in totals]
    twins = [torch.nn.Parameter(each.clone()) for each in parameters]
    optimizer = make(twins, lr=RATE)
    for step in range(3):
        of_step = [grad * (step - 1.5) for grad in grads]
        for twin, grad in zip(twins, of_step):
            twin.grad = grad
        optimizer.step()
        ops.update_dense(parameters, totals, of_step, learning_rate=RATE)
    for parameter, twin in zip(parameters, twins):
        torch.testing.assert_close(parameter, twin.detach(), rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 90), max_size=3), max_size=6),
    KINDS,
    st.lists(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]), min_size=1, max_size=3),
    st.integers(0, 99),
)
def test_the_native_op_is_the_plain_one(shapes, kind, dtypes, seed):
    shapes = [tuple(shape) for shape in shapes if shape or kind != "rowwise"]
    given_ones = made(shapes, kind, seed, dtypes)
    ones, others = copies(given_ones), copies(given_ones)
    ops.update_dense(*ones, learning_rate=RATE, eps=1e-3)
    reference.update_dense(*others, RATE, 1e-3)
    for one, other in zip((*ones[0], *ones[1]), (*others[0], *others[1])):
        tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2**-7, torch.float16: 2**-9}[one.dtype]
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert_same(ones[2], given_ones[2])


@pytest.mark.parametrize("kind", ["sgd", "adagrad", "rowwise"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_each_parameter_changes_as_alone_by_update_rows(kind, dtype):
    shapes = [(40, 6), (3000, 17), (1, 1), (5, 19000)]
    parameters, totals, grads = made(shapes, kind, 1, (dtype,))
    alone, alone_totals, _ = copies((parameters, totals, grads))
    for i, grad in enumerate(grads):
        ops.update_rows(alone[i], alone_totals[i] if totals else None, None, grad, learning_rate=RATE)
    ops.update_dense(parameters, totals, grads, learning_rate=RATE)
    assert_same(parameters, alone)
    assert_same(totals, alone_totals)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_that_is_not_in_one_piece(dtype):
    whole, _, grads = made([(20, 12), (6, 20), (12, 20)], "sgd", 2, (dtype,))
    parameters, totals = [whole[0][:, ::2], whole[1].t()], [whole[2].abs().t()[:, ::2], whole[1].square().t()]
    given_grads = [grads[0][:, 1::2], grads[1].t()]
    dense = [
        [each.clone(memory_format=torch.contiguous_format) for each in g] for g in (parameters, totals, given_grads)
    ]
    beside = whole[0][:, 1::2].clone()
    ops.update_dense(*dense, learning_rate=RATE)
    ops.update_dense(parameters, totals, given_grads, learning_rate=RATE)
    assert_same(parameters, dense[0])
    assert_same(totals, dense[1])
    assert torch.equal(whole[0][:, 1::2], beside)


def test_results_do_not_depend_on_the_number_of_threads():
    given_ones = made(SHAPES * 3, "adagrad", 3, (torch.float32,))
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(copies(given_ones))
            ops.update_dense(*results[-1], learning_rate=RATE)
    finally:
        torch.set_num_threads(before)
    for parameters, totals, _ in results[1:]:
        assert_same(parameters, results[0][0])
        assert_same(totals, results[0][1])


def test_what_does_not_fit_is_named():
    parameters, totals, grads = made([(5, 4), (3, 2, 2)], "adagrad", 4)
    before = copies((parameters, totals))
    with pytest.raises(ArgumentError, match="2 parameters must have a gradient each"):
        ops.update_dense(parameters, totals, grads[:1], learning_rate=RATE)
    with pytest.raises(ArgumentError, match="a total each or none"):
        ops.update_dense(parameters, totals[:1], grads, learning_rate=RATE)
    with pytest.raises(ArgumentError, match=r"grads\[1\] must be of shape \(3, 2, 2\), got \(12,\)"):
        ops.update_dense(parameters, totals, [grads[0], grads[1].flatten()], learning_rate=RATE)
    with pytest.raises(ArgumentError, match=r"totals\[0\] must be of shape \(5, 4\) or \(5,\), got \(4,\)"):
        ops.update_dense(parameters, [totals[0][0], totals[1]], grads, learning_rate=RATE)
    with pytest.raises(DtypeError, match=r"grads\[0\] must be float64"):
        ops.update_dense(parameters, totals, [grads[0].float(), grads[1]], learning_rate=RATE)
    with pytest.raises(DtypeError, match=r"totals\[1\] must be float64"):
        ops.update_dense(parameters, [totals[0], totals[1].float()], grads, learning_rate=RATE)
    with pytest.raises(DtypeError, match=r"parameters\[0\] must be float32"):
        ops.update_dense([parameters[0].int()], [], [grads[0].int()], learning_rate=RATE)
    assert_same((*parameters, *totals), (*before[0], *before[1]))


@pytest.mark.parametrize("kind", ["sgd", "adagrad", "rowwise"])
def test_opcheck(kind):
    opcheck(torch.ops.embpress.update_dense.default, (*made([(5, 4), (3, 2, 2)], kind, 5), RATE, 1e-10))
