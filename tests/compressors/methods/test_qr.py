"""Quotient-remainder trick: exact integers, complementary partitions, combination before pooling, initial variance."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embpress.compressors import BudgetError, InputError, create
from embpress.compressors.methods.qr import QuotientRemainder


def rows_of(table, ids):
    """Rows of the part tables, each counted from its own start."""
    return table.part_rows(ids, {name: getattr(table, name) for name in table.constants}) - table.base


def naive(table, i):
    """Row i, with the digits taken by Python and the part tables cut out of the stacked weight."""
    digits, rest = [], i
    for _ in range(table.parts - 1):
        rest, digit = divmod(rest, table.c)
        digits.append(digit)
    parts, start = [], 0
    for digit, size in zip([*digits, rest], table.part_sizes):
        parts.append(table.part_tables[start : start + size][digit])
        start += size
    if table.op == "concat":
        return torch.cat(parts)
    return torch.stack(parts).prod(0) if table.op == "mult" else torch.stack(parts).sum(0)


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("op", ["mult", "add", "concat"])
def test_rows_are_put_together_from_quotient_and_remainder(op, parts):
    table = create(f"qr:c=7:op={op}:parts={parts}", 1000, 12, dtype=torch.float64)
    ids = [0, 6, 7, 48, 49, 50, 342, 343, 999]
    want = torch.stack([naive(table, i) for i in ids])
    torch.testing.assert_close(table.lookup(torch.tensor(ids)), want, rtol=1e-12, atol=0)


def test_integers_stay_exact_past_two_to_the_24():
    table = QuotientRemainder(2**25 + 1000, 1, c=4099)
    ids = torch.arange(2**25 - 500, 2**25 + 500)
    remainder, quotient = rows_of(table, ids).unbind(1)
    assert list(zip(quotient.tolist(), remainder.tolist())) == [divmod(i, 4099) for i in ids.tolist()]
    assert len(set(zip(quotient.tolist(), remainder.tolist()))) == 1000


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.integers(1, 80), st.sampled_from([2, 3]))
def test_partitions_separate_all_ids(n, c, parts):
    table = QuotientRemainder(n, 1, c=c, parts=parts)
    rows = rows_of(table, torch.arange(n))
    assert len(set(map(tuple, rows.tolist()))) == n
    assert (rows < torch.tensor(table.part_sizes)).all()
    assert (rows >= 0).all()
    assert table.part_tables.shape[0] == sum(table.part_sizes)


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("op", ["mult", "add", "concat"])
def test_ids_are_combined_before_pooling(op, mode):
    table = create(f"qr:c=10:op={op}", 1000, 8, mode=mode, dtype=torch.float64)
    ids = torch.tensor([[12, 987]])
    want = naive(table, 12) + naive(table, 987)
    torch.testing.assert_close(table(ids)[0], want / 2 if mode == "mean" else want, rtol=1e-12, atol=1e-15)
    if op == "mult":  # DLRM pools each part table first
        pooled = (table.part_tables[2] + table.part_tables[7]) * (
            table.part_tables[10 + 1] + table.part_tables[10 + 98]
        )
        assert not torch.allclose(want, pooled)


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("op", ["mult", "add", "concat"])
def test_initial_variance_is_a_full_tables(op, parts):
    n, dim = 8000, 96
    c = round(n ** (1 / parts))
    generator = torch.Generator().manual_seed(0)
    table = create(f"qr:c={c}:op={op}:parts={parts}", n, dim, generator=generator)
    values = torch.stack([(table.reset_parameters(generator), table.to_dense())[1] for _ in range(4)])
    assert float(values.var()) == pytest.approx(1 / (3 * n), rel=0.06)
    assert abs(float(values.mean())) < 0.1 / math.sqrt(3 * n)


@pytest.mark.parametrize("op", ["mult", "add", "concat"])
def test_gradients(op):
    table = create(f"qr:c=4:op={op}", 20, 4, dtype=torch.float64)
    ids = torch.tensor([3, 3, 19, 7])
    call = lambda weight: torch.func.functional_call(table, {"weight": weight}, (ids, torch.tensor([0, 1])))  # noqa: E731
    assert torch.autograd.gradcheck(call, [table.part_tables])


@pytest.mark.parametrize(
    ("n", "c", "parts", "rows"), [(1000, 4, 2, 254), (1001, 4, 2, 255), (1000, 10, 3, 30), (7, 7, 2, 8)]
)
def test_size_follows_the_knobs(n, c, parts, rows):
    size = 4 * rows * 16 + 24 * parts
    assert QuotientRemainder.serving_size(n, 16, c=c, parts=parts) == size
    assert create(f"qr:c={c}:parts={parts}", n, 16).ledger().serving_bytes == size
    assert QuotientRemainder.serving_size(n, 16 * parts, c=c, parts=parts, op="concat") == size


@settings(deadline=None, max_examples=40)
@given(st.integers(200, 200_000), st.sampled_from([2, 3]), st.floats(1, 300))
def test_budget_takes_the_smallest_c_that_fits(n, parts, ratio):
    dim = 8
    size = int(4 * n * dim / ratio)
    sizes = {c: QuotientRemainder.serving_size(n, dim, c=c, parts=parts) for c in range(1, 40)}
    with pytest.raises(BudgetError) as error:
        QuotientRemainder.for_budget(n, dim, 1, parts=parts)
    smallest = error.value.smallest
    assert all(found >= smallest for found in sizes.values())
    size = max(size, smallest)  # the smallest size itself is reachable
    c = QuotientRemainder.for_budget(n, dim, size, parts=parts)["c"]
    assert QuotientRemainder.serving_size(n, dim, c=c, parts=parts) <= size
    assert all(found > size for smaller, found in sizes.items() if smaller < c)


@pytest.mark.parametrize(
    ("spec", "says"),
    [("qr:c=0", "c=0"), ("qr:parts=1", "parts=1"), ("qr:op=max", "max"), ("qr:op=concat:parts=3", "3")],
)
def test_bad_knobs_are_named(spec, says):
    with pytest.raises(InputError, match=says):
        create(spec, 1000, 16)


def test_digits_beyond_64_bits_are_refused():
    with pytest.raises(InputError, match="parts=99"):
        create("qr:parts=99", 1000, 16)


def leading(weight, c):
    """The least relative error of a product of two tables where c divides n: a rank-1 matrix for each column."""
    values = torch.linalg.svdvals(weight.view(-1, c, weight.shape[1]).permute(2, 0, 1))
    return float((1 - values[:, 0].square().sum() / weight.square().sum()).sqrt())


@pytest.mark.parametrize("c", [4, 10])
def test_a_product_near_a_trained_table_is_the_best_where_c_divides_n(c):
    weight = torch.randn(1200, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    table, error = QuotientRemainder.from_dense(weight, c=c)
    assert error == pytest.approx(leading(weight, c), rel=1e-9)
    assert float((table.to_dense() - weight).norm() / weight.norm()) == pytest.approx(error)
    remainders = table.part_tables[:c].detach()
    assert float(remainders.square().mean().sqrt()) == pytest.approx(0.25, rel=0.3)  # as those drawn


@pytest.mark.parametrize(
    ("n", "knobs"), [(1207, {}), (1200, {"c": 60}), (1207, {"c": 60}), (1207, {"c": 9, "parts": 3})]
)
def test_no_factor_of_a_product_near_a_trained_table_can_be_better_alone(n, knobs):
    weight = torch.randn(n, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    table, error = QuotientRemainder.from_dense(weight, **knobs, generator=torch.Generator().manual_seed(1))
    missed = (table.lookup(torch.arange(n)) - weight).square().sum()
    assert float(missed.detach().sqrt() / weight.norm()) == pytest.approx(error)
    missed.backward()
    slope = float((table.part_tables.grad * table.part_tables.detach()).sum(1).abs().max())
    assert slope < 0.01 * float(weight.square().sum())
    if n % table.c == 0:
        assert error == pytest.approx(leading(weight, table.c), rel=1e-3)


def test_a_product_that_is_one_is_found():
    generator = torch.Generator().manual_seed(0)
    weight = QuotientRemainder(1003, 8, c=7, dtype=torch.float64, generator=generator).to_dense()
    assert QuotientRemainder.from_dense(weight, c=7)[1] < 1e-3
    assert QuotientRemainder.from_dense(weight, c=7, op="add")[1] > 0.5
