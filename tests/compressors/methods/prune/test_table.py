"""Magnitude pruning: which elements stay, when the others go, and that eval mode and `fold()` say the same."""

import itertools
import math

import pytest
import torch
from torch import nn

from embpress.compressors import BudgetError, InputError, Prune, TableCollection, TableConfig, begin_training, create
from embpress.compressors import maintain as maintained
from embpress.compressors.methods.prune.cut import cut_of, largest_of
from embpress.compressors.methods.prune.table import Schedule

N, D = 200, 8


def make(knobs="keep=0.1", **options):
    return create(f"prune:{knobs}", N, D, generator=torch.Generator().manual_seed(0), **options)


def by_sorting(weight, kept):
    """The `kept` largest elements by a stable sort: of equal ones the first."""
    order = weight.abs().flatten().argsort(descending=True, stable=True)[:kept]
    keep = torch.zeros(weight.numel(), dtype=torch.bool).index_fill(0, order, True)
    return keep.view_as(weight)


@pytest.mark.parametrize("kept", [1, 2, 7, 159, 160])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_exactly_the_largest_are_kept_of_equal_ones_the_first(kept, dtype):
    draw = torch.Generator().manual_seed(0)
    for weight in (
        torch.randn(20, 8, generator=draw),
        torch.randint(-3, 3, (20, 8), generator=draw),
        torch.zeros(20, 8),
    ):
        weight = weight.to(dtype)
        assert torch.equal(largest_of(weight, kept), by_sorting(weight, kept))
        assert [*map(float, cut_of(weight, kept))] == [*map(float, cut_of(weight, kept, traced=True))]


def test_what_is_no_number_stays_and_shows():
    weight = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    weight[3, 2], weight[5, 1] = math.nan, -math.inf
    keep = largest_of(weight, 5)
    assert keep.sum() == 5
    assert bool(keep[3, 2] & keep[5, 1])


def test_eval_mode_answers_as_it_would_be_served_whether_or_not_training_has_pruned():
    table = make()
    dense = table.dense.detach().clone()
    assert torch.equal(table.to_dense(), dense)  # in training mode without a schedule it is a full table
    want = dense.masked_fill(~by_sorting(dense, 160), 0)
    assert torch.equal(table.eval().to_dense(), want)
    assert torch.equal(table.fold().to_dense(), want)
    with torch.no_grad():
        table.dense[7] = 1.0
    assert bool((table.lookup(torch.tensor(7)) == 1).all())  # what is cut off follows the values
    assert int((table.to_dense() != 0).sum()) == 160


def test_the_schedule_is_the_papers():
    schedule = Schedule(start=100, end=500, every=50, keep=0.1)
    sparsity = [1 - schedule.kept(step) for step in (0, 100, 200, 300, 500, 900)]
    # s_f + (s_i - s_f) (1 - (t - t_0) / (n Δt))^3 with s_i = 0, s_f = 0.9
    assert sparsity == pytest.approx([0, 0, 0.9 * (1 - 0.75**3), 0.9 * (1 - 0.5**3), 0.9, 0.9])
    assert [step for step in range(650) if schedule.due(step)] == [*range(100, 650, 50)]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_elements_go_step_by_step_and_do_not_come_back(sparse, whole):
    table = make("keep=0.25:start=0.2:end=0.6", sparse=sparse)
    other = create("prune:keep=0.5", 50, D, sparse=sparse, generator=torch.Generator().manual_seed(1))
    model = (
        TableCollection([TableConfig(N, D), TableConfig(50, D)], [table, other], 1) if whole else nn.Sequential(table)
    )
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    begin_training(model, 100)
    draw, gone, shares = torch.Generator().manual_seed(2), torch.zeros(N, D, dtype=torch.bool), []
    for _ in range(100):
        ids = torch.stack([torch.randint(n, (64,), generator=draw) for n in (N, 50)], 1)
        target = torch.randn(64, D, generator=draw)
        out = model(ids)[:, 0] if whole else table(ids[:, :1])
        ((out - target) ** 2).sum().backward()
        maintained(model, optimizer)
        optimizer.step()
        optimizer.zero_grad()
        now = table.own("dense").detach() == 0
        assert not bool((gone & ~now).any()), "what was pruned has come back"
        gone = now
        shares.append(float(now.float().mean()))
    assert shares[19] == 0
    assert all(before <= after for before, after in itertools.pairwise(shares))
    assert 0.3 < shares[35] < 0.75  # by the cubic schedule most go early
    assert shares[61] == shares[-1] == 0.75
    if whole:
        assert float((other.own("dense") == 0).float().mean()) == 0.5
    before = table.to_dense()
    assert torch.equal(model.eval().fold().tables[0].to_dense() if whole else table.fold().to_dense(), before)


def test_pruned_elements_have_no_gradient_and_the_others_have_theirs():
    table = make("keep=0.5")
    table.prune(table.kept)
    table(torch.arange(N).view(-1, 1)).sum().backward()
    assert torch.equal(table.dense.grad, (table.dense != 0).float())


def test_a_frozen_table_is_not_pruned_by_training():
    table = make().requires_grad_(False)
    begin_training(table, 10)
    for _ in range(10):
        table.maintain()
    assert int((table.dense == 0).sum()) == 0


def test_steps_are_counted_where_the_loop_does_not_number_them():
    ours, theirs = make(), make()
    for table in (ours, theirs):
        begin_training(table, 40)
    for step in range(40):
        ours.maintain()
        theirs.maintain(step)
    assert torch.equal(ours.dense, theirs.dense)
    assert int((ours.dense != 0).sum()) == 160


def test_a_budget_counts_the_index():
    for ratio in (4, 16, 40):
        table = create(f"prune:ratio={ratio}", 5000, 16)
        size = table.ledger().serving_bytes
        assert 0.98 * 4 * 5000 * 16 / ratio <= size <= 4 * 5000 * 16 / ratio
        assert 4 * table.kept < size
    with pytest.raises(BudgetError) as error:
        create("prune:budget=10", 5000, 16)
    assert create(f"prune:budget={error.value.smallest}", 5000, 16).kept == 1


def test_from_dense_drops_the_smallest_and_says_what_that_costs():
    weight = torch.randn(N, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table, error = Prune.from_dense(weight, keep=0.3)
    keep = by_sorting(weight, 480)
    assert torch.equal(table.to_dense(), weight.masked_fill(~keep, 0))
    assert error == pytest.approx(float(weight[~keep].norm() / weight.norm()))
    table(torch.arange(N).view(-1, 1)).sum().backward()
    assert torch.equal(table.dense.grad != 0, keep)  # trained on, it keeps its mask


@pytest.mark.parametrize(
    "knobs", [{"keep": 0.0}, {"keep": 1.5}, {"start": 0.5, "end": 0.5}, {"end": 1.1}, {"start": -0.1}, {"every": 0}]
)
def test_what_no_table_can_have_is_refused(knobs):
    with pytest.raises(InputError, match="=".join(map(str, next(iter(knobs.items()))))):
        create("prune", N, D, **knobs)
