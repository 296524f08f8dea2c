"""Training with TT-Rec's cache: values, gradients and optimizer state of its rows, whatever a refresh replaces."""

import pytest
import torch
from cached_tables import D, N, adagrad, adam, close, from_cores, held, make, rows, rowwise, sgd, slot, step
from torch import nn

import embpress.compressors as ec
from embpress.compressors import create

# --- what a refresh keeps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "state"),
    [(sgd, "momentum_buffer"), (adagrad, "sum"), (adam, "exp_avg"), (rowwise, "sum")],
    ids=["sgd", "adagrad", "adam", "rowwise"],
)
def test_a_refresh_keeps_the_values_and_the_optimizer_state_of_rows_that_stay(optimizer, state):
    table = make()
    own = optimizer(table)
    step(table, own, [7, 7, 7, 8, 8, 9])
    for _ in range(3):
        step(table, own, [7, 7, 7, 8, 8, 9])  # learns all three
    assert held(table) == {7, 8, 9}
    assert not torch.equal(table.lookup(torch.tensor(9)), from_cores(table.cores, 9))
    table.cache.refresh = 4  # the next step lets others in, the one after does not
    step(table, own, [7, 8, *[20] * 50])
    values, before = table.cache.values.detach().clone(), own.state[table.cache.values][state].clone()
    slots = {i: slot(table, i) for i in (7, 8, 9)}
    assert bool((before != 0).reshape(3, -1).all())
    table.cache.refresh = 1
    table(rows(20, 7)).sum().backward()  # 20 takes the slot of 9
    assert held(table) == {7, 8, 20}
    assert (slot(table, 7), slot(table, 8), slot(table, 20)) == (slots[7], slots[8], slots[9])
    for i in (7, 8):
        assert torch.equal(table.cache.values[slots[i]], values[slots[i]])
    assert torch.equal(own.state[table.cache.values][state], before)  # only maintain touches it
    assert ec.maintain(nn.Sequential(table), own) == 1
    after = own.state[table.cache.values][state]
    assert not after[slots[9]].any()
    for i in (7, 8):
        assert torch.equal(after[slots[i]], before[slots[i]])
    assert ec.maintain(table, own) == 0  # said once


def test_the_state_of_other_parameters_is_not_touched():
    table = make()
    own = adagrad(table)
    step(table, own, [1, 2, 3])
    before = [own.state[core]["sum"].clone() for core in table.cores]
    table(rows(1, 2)).sum().backward()
    assert ec.maintain(table, own) == 3
    assert all(torch.equal(own.state[core]["sum"], b) for core, b in zip(table.cores, before))


# --- graphs that wait -------------------------------------------------------------------------------------------------


def test_a_gradient_that_waits_is_not_given_to_the_row_that_enters():
    table = make(cache_rows=2)
    table.fill_cache(torch.tensor([7, 8]))
    table(rows(7, 8, *[8] * 9, *[20] * 5)).sum().backward()  # left in .grad
    assert table.cache.values.grad.all()
    kept = table.cache.values.grad[slot(table, 8)].clone()
    where = slot(table, 7)
    table(rows(20))
    assert held(table) == {8, 20}
    assert slot(table, 20) == where
    assert not table.cache.values.grad[where].any()
    assert torch.equal(table.cache.values.grad[slot(table, 8)], kept)


@pytest.mark.parametrize("weighted", [False, True])
def test_two_forwards_before_one_backward(weighted):
    """The second lets a row in; the first's gradients go where its rows still are, and those of its weights hold."""
    table = make(cache_rows=2)
    table.fill_cache(torch.tensor([7, 8]))
    with torch.no_grad():
        table.cache.values += 1
    values = {i: table.lookup(torch.tensor(i)).detach() for i in (7, 8, 30)}
    first = rows(7, 8, 30, *[8] * 7, *[20] * 4)
    weights = torch.rand(first.shape, dtype=torch.float64).requires_grad_() if weighted else None
    one = table(first, per_sample_weights=weights)
    two = table(rows(20, 20, 8))
    assert held(table) == {8, 20}
    (one.sum() + two.sum()).backward()
    own = torch.ones_like(first, dtype=torch.float64) if weights is None else weights.detach()
    total = sum(float(w) for i, w in zip(first.flatten(), own) if i == 8) + 1
    grad = table.cache.values.grad
    close(grad[slot(table, 8)], torch.full((D,), total, dtype=torch.float64))
    close(grad[slot(table, 20)], torch.full((D,), 2.0, dtype=torch.float64))  # of the second forward alone
    if weights is not None:
        for i, row in values.items():
            close(weights.grad[first == i], row.sum().expand(int((first == i).sum())))


# --- whole trainings --------------------------------------------------------------------------------------------------


def test_a_loop_of_the_users_own():
    """maintain(model, optimizer) where tables sit deep in a model, beside modules that know nothing of it."""
    model = nn.ModuleDict(
        {
            "a": nn.Sequential(make(0), nn.Linear(D, 4, dtype=torch.float64)),
            "b": make(1, n=30),
            "c": create("qr", 30, D),
        }
    )
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    replaced = []
    for k in range(6):
        ids = rows(k % 2, 10, 10, 20 + k)
        loss = model["a"](ids).square().mean() + model["b"](ids).square().mean() + model["c"](ids).square().mean()
        loss.backward()
        replaced.append(ec.maintain(model, optimizer))
        optimizer.step()
        optimizer.zero_grad()
    assert replaced[0] == 0
    assert replaced[1] == 6
    assert held(model["a"][0]) == held(model["b"]) == {0, 1, 10}


def test_a_table_that_is_cached_whole_trains_as_a_full_one():
    table = make(cache_rows=10**6)
    full = nn.EmbeddingBag(N, D, mode="sum", dtype=torch.float64)
    table(torch.arange(N).view(-1, 1))
    table(rows(0))
    with torch.no_grad():
        full.weight.copy_(table.to_dense())
    cores = [core.detach().clone() for core in table.cores]
    mine, theirs = adagrad(table), torch.optim.Adagrad(full.parameters(), lr=0.1)
    for k in range(5):
        step(table, mine, [k, k, 30, 59])
        step(full, theirs, [k, k, 30, 59])
    torch.testing.assert_close(table.to_dense(), full.weight.detach(), rtol=1e-10, atol=1e-12)
    assert all(torch.equal(core, old) for core, old in zip(table.cores, cores))
