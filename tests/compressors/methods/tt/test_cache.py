"""TT-Rec's cache: which rows enter, what they keep, what leaves them behind, what counting costs."""

import copy
import io
import itertools
import json
import os
import pickle
import subprocess
import sys
from collections import Counter

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import embpress.compressors as ec
from embpress.cli.main import main
from embpress.compressors import BudgetError, InputError, TableCollection, TableConfig, compress_model, create
from embpress.compressors.methods.tt import TTRec
from embpress.compressors.methods.tt.cache import count_places
from embpress.dlrm.data.base import Bags, Part
from embpress.dlrm.training.evaluate import cache_hit_rate
from embpress.dlrm.training.optim import TableAdagrad

N, D = 60, 8


def make(seed=0, n=N, **knobs):
    knobs = {"rank": 3, "cache_rows": 3, "warmup": 1, "refresh": 1, "dtype": torch.float64, **knobs}
    return TTRec(n, D, generator=torch.Generator().manual_seed(seed), **knobs)


def rows(*ids):
    """Each id a bag of its own."""
    return torch.tensor(ids).view(-1, 1)


def held(table):
    return set(table.cache.ids[table.cache.ids >= 0].tolist())


def place(table, i):
    return table.cache.ids.tolist().index(i)


def counted(table):
    keys, counts = table.cache.keys, table.cache.counts
    assert int(table.cache.used) == int((keys >= 0).sum())
    return dict(zip(keys[keys >= 0].tolist(), counts[keys >= 0].tolist()))


def from_cores(cores, i):
    """Row i by its digits, in plain tensor products."""
    digits = []
    for core in reversed(list(cores)):
        i, digit = divmod(int(i), core.shape[0])
        digits.insert(0, digit)
    row = torch.ones(1, 1, dtype=torch.float64)
    for core, digit in zip(cores, digits):
        row = torch.einsum("ar,rqs->aqs", row, core[digit].detach().double()).reshape(-1, core.shape[3])
    return row[:, 0]


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def step(table, optimizer, ids, maintained=True):
    """One training step whose gradient is no constant; the loss pulls rows to their ids."""
    ids = torch.as_tensor(ids).view(-1, 1)
    loss = ((table(ids) - 0.01 * ids) ** 2).sum(1).mean()
    loss.backward()
    replaced = ec.maintain(table, optimizer) if maintained else 0
    optimizer.step()
    optimizer.zero_grad()
    return replaced


def sgd(table):
    return torch.optim.SGD(table.parameters(), lr=0.1, momentum=0.9)


def adagrad(table):
    return torch.optim.Adagrad(table.parameters(), lr=0.1)


def adam(table):
    return torch.optim.Adam(table.parameters(), lr=0.01)


def rowwise(table):
    return TableAdagrad([table.cache.values], lr=0.1, rowwise=True)


# --- what enters and what stays ---------------------------------------------------------------------------------------


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
    places = {i: place(table, i) for i in (7, 8, 9)}
    assert bool((before != 0).reshape(3, -1).all())
    table.cache.refresh = 1
    table(rows(20, 7)).sum().backward()  # 20 takes the place of 9
    assert held(table) == {7, 8, 20}
    assert (place(table, 7), place(table, 8), place(table, 20)) == (places[7], places[8], places[9])
    for i in (7, 8):
        assert torch.equal(table.cache.values[places[i]], values[places[i]])
    assert torch.equal(own.state[table.cache.values][state], before)  # only maintain touches it
    assert ec.maintain(nn.Sequential(table), own) == 1
    after = own.state[table.cache.values][state]
    assert not after[places[9]].any()
    for i in (7, 8):
        assert torch.equal(after[places[i]], before[places[i]])
    assert ec.maintain(table, own) == 0  # said once


def test_the_state_of_other_parameters_is_not_touched():
    table = make()
    own = adagrad(table)
    step(table, own, [1, 2, 3])
    before = [own.state[core]["sum"].clone() for core in table.cores]
    table(rows(1, 2)).sum().backward()
    assert ec.maintain(table, own) == 3
    assert all(torch.equal(own.state[core]["sum"], b) for core, b in zip(table.cores, before))


def test_entering_rows_start_from_the_cores_and_change_no_lookup():
    table = make(rank=(3, 2))
    plain = create("tt", N, D, rank=(3, 2), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    everything = torch.arange(N)
    for _ in range(3):
        table(rows(5, 5, 17, 59, 59, 2))
    assert held(table) == {5, 17, 59} - {17} | {2}  # 2 and 17 are equal: the smaller id
    assert torch.equal(table.lookup(everything), plain.lookup(everything))
    for i in held(table):
        close(table.cache.values[place(table, i)].detach(), from_cores(table.cores, i))


@pytest.mark.parametrize("evict", ["drop", "write-back"])
def test_evicted_rows_are_looked_up_from_the_cores_again(evict):
    table = make(evict=evict)
    own = sgd(table)
    for _ in range(6):
        step(table, own, [7, 7, 7, 8, 8, 9])
    for wave in range(3):
        new = [30 + 3 * wave, 31 + 3 * wave, 32 + 3 * wave]
        for _ in range(2):
            step(table, own, new * 20 * 3**wave)
        assert held(table) == set(new)
        for i in range(N):
            if i not in new:
                close(table.lookup(torch.tensor(i)).detach(), from_cores(table.cores, i))
                close(table(rows(i)).detach()[0], from_cores(table.cores, i))
        assert table.cache.holds(torch.arange(N)).nonzero().flatten().tolist() == new
    # and they train the cores again, not a place of the cache
    table.zero_grad()
    table(rows(7)).sum().backward()
    assert not table.cache.values.grad.any()
    assert all(core.grad.any() for core in table.cores)


def test_the_most_frequent_rows_enter_and_equals_by_smaller_id():
    batches = [[4, 4, 4, 50], [50, 50, 11, 3], [11, 40, 2, 2]]
    want = sorted(Counter(itertools.chain(*batches)).items(), key=lambda item: (-item[1], item[0]))[:4]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        table = make(cache_rows=4, warmup=3, refresh=10)
        for b in order:
            assert held(table) == set()
            table(rows(*reversed(batches[b])))
        table(rows(59))
        assert held(table) == {i for i, _ in want} == {2, 4, 11, 50}
        assert counted(table) == Counter(sum(batches, [59]))


def test_warmup_and_refresh_are_counted_in_training_steps():
    table = make(warmup=3, refresh=4)
    seen = []
    for k in range(12):
        table(rows(k % 3, 10 + k))
        seen.append((int(table.cache.steps), int(table.cache.filled)))
    assert seen == [
        (1, -1), (2, -1), (3, -1), (4, 3), (5, 3), (6, 3), (7, 3), (8, 7), (9, 7), (10, 7), (11, 7), (12, 11)
    ]  # fmt: skip


def test_fewer_ids_than_places_leave_places_empty():
    table = make(cache_rows=5)
    table(rows(9))
    table(rows(9))
    assert held(table) == {9}
    assert int((table.cache.ids < 0).sum()) == 4


# --- counting ---------------------------------------------------------------------------------------------------------


def test_only_training_counts():
    table = make()
    table(rows(1, 1, 2))
    before, steps = counted(table), int(table.cache.steps)
    assert before == {1: 2, 2: 1}
    table.lookup(torch.tensor([5, 6]))
    table.to_dense()
    with torch.no_grad():
        table(rows(5, 6))
    with torch.inference_mode():
        table(rows(5, 6))
    table.eval()
    for _ in range(3):
        table(rows(5, 6)).sum().backward()
    folded = table.fold()
    folded.train()
    folded(rows(5, 6))
    assert counted(table) == before
    assert int(table.cache.steps) == steps
    assert held(table) == set()  # and nothing entered, though it was time
    table.train()
    table(rows(5))
    assert counted(table) == {**before, 5: 1}


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_padding_is_not_counted_and_bags_count_every_other_id(dtype):
    table = make(padding_idx=4)
    ids = torch.tensor([4, 4, 7, 7, 9, 4, 4], dtype=dtype)
    out = table(ids, torch.tensor([0, 3, 5, 5], dtype=dtype))
    assert counted(table) == {7: 2, 9: 1}
    assert not out[2:].any()  # an empty bag, and one of padding only
    table(torch.tensor([[4, 9], [4, 4]], dtype=dtype))
    assert counted(table) == {7: 2, 9: 2}
    assert int(table.cache.steps) == 2


def test_a_cached_padding_row_stays_out_of_bags():
    table = make(padding_idx=4, mode="mean")
    table.fill_cache(torch.tensor([4, 7]))
    with torch.no_grad():
        table.cache.values += 1
    got = table(torch.tensor([[4, 7, 4], [4, 4, 4]]))
    close(got[0].detach(), from_cores(table.cores, 7) + 1)
    assert not got[1].any()
    close(table.lookup(torch.tensor(4)).detach(), from_cores(table.cores, 4) + 1)


def test_wrong_ids_leave_no_trace():
    table = make(warmup=5)
    table(rows(1, 2))
    before, state = counted(table), copy.deepcopy(table.state_dict())
    for wrong in (N, -1, 2**40):
        with pytest.raises(IndexError, match=f"id {wrong} is out of range: the table has {N} rows"):
            table(rows(3, wrong, 3))
    with pytest.raises(ValueError, match="offsets"):
        table(torch.tensor([3, 3]), torch.tensor([1]))
    assert counted(table) == before
    assert all(torch.equal(state[name], value) for name, value in table.state_dict().items())


def test_wrong_ids_of_one_table_leave_no_trace_in_the_others():
    tables = TableCollection.build(
        [TableConfig(30, D, "first"), TableConfig(20, D, "second")], "tt:rank=2:cache_rows=2:warmup=5", min_rows=0
    )
    offsets = torch.tensor([0, 2])
    for wrong in ([torch.tensor([5, 20]), torch.tensor([1, 20])], torch.tensor([[5, 20]])):
        inputs = wrong if isinstance(wrong, torch.Tensor) else [(ids, offsets[:1]) for ids in wrong]
        with pytest.raises(IndexError, match="id 20 is out of range: second has 20 rows, 0 to 19"):
            tables(inputs)
    assert [counted(table) for table in tables.tables] == [{}, {}]
    assert [int(table.cache.steps) for table in tables.tables] == [0, 0]


def test_the_memory_of_counts_is_bounded_and_frequent_rows_are_found_all_the_same():
    """300,000 distinct ids of one lookup each between those of a Zipf stream, in a table of 4096 places."""
    n, top, steps = 2_000_000, 50, 300
    table = make(n=n, cache_rows=top, warmup=10**9)
    places = count_places(top)
    size = table.ledger().training_bytes
    assert places == 4096
    g = torch.Generator().manual_seed(0)
    popular = torch.randperm(n, generator=g)[:2000]
    chances = 1 / torch.arange(1, 2001, dtype=torch.float64)
    rare = torch.randperm(n, generator=g)[:300_000].view(steps, 1000)
    exact = torch.zeros(n, dtype=torch.int64)
    for k in range(steps):
        drawn = popular[torch.multinomial(chances, 2000, replacement=True, generator=g)]
        ids = torch.cat([rare[k], drawn])[torch.randperm(3000, generator=g)]
        exact += torch.bincount(ids, minlength=n)
        table.cache.count(ids)
        assert int(table.cache.used) <= places * 7 // 8
    assert int((exact > 0).sum()) > 290_000
    assert len(table.cache.keys) == len(table.cache.counts) == places
    assert table.ledger().training_bytes == size
    kept = counted(table)  # nothing is counted too often, the head is counted exactly
    assert all(count <= int(exact[i]) for i, count in kept.items())
    table.cache.warmup = 1
    table(rows(0))
    want = set(exact.topk(top).indices.tolist())
    assert len(held(table) & want) >= top - 2
    first = exact.topk(top // 2).indices
    assert bool(table.cache.holds(first).all())
    assert all(kept[int(i)] >= 0.98 * int(exact[i]) for i in first)


def test_a_forgotten_count_keeps_the_counts_of_the_ids_that_stay():
    table = make(n=10**6, cache_rows=1, warmup=10**9)
    half = torch.arange(2000) * 7
    for _ in range(3):
        table.cache.count(half[:900])
    table.cache.count(half)
    table.cache.count(10**5 + torch.arange(1100))
    assert int(table.cache.used) > 3 * 1024
    table.cache.count(torch.tensor([0]))
    kept = counted(table)
    assert len(kept) == 1024
    assert kept[0] == 5
    assert all(kept[int(i)] == 4 for i in half[1:900])
    assert sorted(i for i, count in kept.items() if count == 1) == [7 * i for i in range(900, 1024)]


# --- write-back and drop ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_cores", [2, 3, 4])
def test_write_back_is_the_least_squares_optimum_of_the_last_slices(num_cores):
    """Against one dense problem over all entries of a slice, solved by its pseudo-inverse."""
    table = make(num_cores=num_cores, rank=2, evict="write-back", cache_rows=6)
    p, last = table.row_factors[-1], table.cores[-1]
    old = [core.detach().clone() for core in table.cores]
    ids = torch.tensor([0, p, 2 * p, 1, p + 1, 3])  # last digits 0 thrice, 1 twice, 3 % p
    table.fill_cache(ids)
    values = torch.randn(6, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        table.cache.values.copy_(values)
    before = table.to_dense()
    table.cache.fill(torch.arange(40, 46), table._from_cores, table._write_back)
    for core, kept in zip(list(table.cores)[:-1], old):
        assert torch.equal(core, kept)
    rank, width = last.shape[1], last.shape[2]
    for digit in range(p):
        own = (ids % p == digit).nonzero().flatten()
        if not len(own):
            assert torch.equal(last[digit], old[-1][digit])
            continue
        # columns: what one entry of the slice does to the rows, found by looking the rows up
        design = torch.zeros(len(own) * D, rank * width, dtype=torch.float64)
        for k in range(rank * width):
            unit = torch.zeros(rank * width, dtype=torch.float64)
            unit[k] = 1
            slice_ = torch.zeros_like(old[-1])
            slice_[digit] = unit.view(rank, width, 1)
            design[:, k] = torch.cat([from_cores([*old[:-1], slice_], i) for i in ids[own]])
        start = old[-1][digit].flatten()
        change = torch.linalg.pinv(design) @ (values[own].flatten() - design @ start)
        torch.testing.assert_close(last[digit].detach().flatten(), start + change, rtol=1e-9, atol=1e-10)
    after = table.lookup(torch.arange(N)).detach()
    others = ~torch.isin(torch.arange(N) % p, ids % p)
    others &= ~torch.isin(torch.arange(N), ids)
    assert bool(others.any())
    assert torch.equal(after[others], before[others])


def test_write_back_brings_a_row_back_where_the_slice_can_hold_it():
    """One row and a slice with enough entries: what was learned is looked up from the cores, to rounding."""
    table = make(rank=8, column_factors=(2, 1, 4), evict="write-back", cache_rows=1)
    table.fill_cache(torch.tensor([13]))
    want = torch.linspace(-1, 1, D, dtype=torch.float64)
    with torch.no_grad():
        table.cache.values.copy_(want)
    table.cache.fill(torch.tensor([30]), table._from_cores, table._write_back)
    torch.testing.assert_close(from_cores(table.cores, 13), want, rtol=1e-9, atol=1e-9)


def test_drop_changes_no_core():
    table = make()
    table.fill_cache(torch.tensor([1, 2, 3]))
    with torch.no_grad():
        table.cache.values += 1
    cores = [core.detach().clone() for core in table.cores]
    table(rows(*[50, 51, 52] * 9))
    table(rows(50))
    assert held(table) == {50, 51, 52}
    assert all(torch.equal(core, old) for core, old in zip(table.cores, cores))


# --- graphs that wait -------------------------------------------------------------------------------------------------


def test_a_gradient_that_waits_is_not_given_to_the_row_that_enters():
    table = make(cache_rows=2)
    table.fill_cache(torch.tensor([7, 8]))
    table(rows(7, 8, *[8] * 9, *[20] * 5)).sum().backward()  # left in .grad
    assert table.cache.values.grad.all()
    kept = table.cache.values.grad[place(table, 8)].clone()
    where = place(table, 7)
    table(rows(20))
    assert held(table) == {8, 20}
    assert place(table, 20) == where
    assert not table.cache.values.grad[where].any()
    assert torch.equal(table.cache.values.grad[place(table, 8)], kept)


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
    close(grad[place(table, 8)], torch.full((D,), total, dtype=torch.float64))
    close(grad[place(table, 20)], torch.full((D,), 2.0, dtype=torch.float64))  # of the second forward alone
    if weights is not None:
        for i, row in values.items():
            close(weights.grad[first == i], row.sum().expand(int((first == i).sum())))


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


def test_an_embedding_of_somebodys_model_counts_too():
    model = nn.Sequential(nn.Embedding(500, D, padding_idx=3))
    compress_model(model, "tt:rank=2:cache_rows=2:warmup=2")
    ids = torch.tensor([[7, 3, 7], [9, 9, 1]])
    for _ in range(3):
        out = model(ids)
    table = model[0].table
    assert counted(table) == {7: 6, 9: 6, 1: 3}
    assert held(table) == {7, 9}
    assert not out[0, 1].any()
    assert out.shape == (2, 3, D)
    assert torch.equal(out[1, 2], table.lookup(torch.tensor(1)))


# --- saving, copying, folding -----------------------------------------------------------------------------------------


def by_state_dict(table):
    file = io.BytesIO()
    torch.save(table.state_dict(), file)
    file.seek(0)
    other = make(seed=9, refresh=3, cache_rows=4, evict=table.evict)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


@pytest.mark.parametrize("evict", ["drop", "write-back"])
@pytest.mark.parametrize(
    "copied", [by_state_dict, copy.deepcopy, lambda table: pickle.loads(pickle.dumps(table))],
    ids=["state_dict", "deepcopy", "pickle"],
)  # fmt: skip
def test_training_goes_on_as_if_it_had_not_stopped(copied, evict):
    g = torch.Generator().manual_seed(5)
    batches = [(torch.rand(40, generator=g) ** 3 * N).long() for _ in range(20)]
    table = make(refresh=3, cache_rows=4, evict=evict)
    own = sgd(table)
    for batch in batches[:8]:
        step(table, own, batch)
    other = copied(table)
    theirs = sgd(other)
    theirs.load_state_dict(copy.deepcopy(own.state_dict()))  # torch shares its tensors
    for batch in batches[8:]:
        assert step(table, own, batch) == step(other, theirs, batch)
        state, found = table.state_dict(), other.state_dict()
        assert state.keys() == found.keys()
        assert all(torch.equal(state[name], found[name]) for name in state)
    assert int(table.cache.filled) > 8


def test_a_folded_table_is_what_serving_needs():
    table = make(dtype=torch.float32, cache_rows=5, refresh=2)
    own = sgd(table)
    for k in range(5):
        step(table, own, [k, 3, 3, 9, 9, 9, 12])
    folded = table.fold()
    everything = torch.arange(N)
    table.eval()
    want = table.lookup(everything).detach().clone()
    assert torch.equal(folded.lookup(everything), want)
    assert torch.equal(folded(everything.view(-1, 3)), table(everything.view(-1, 3)))
    tensors = [*folded.parameters(), *folded.buffers()]
    size = sum(t.numel() * t.element_size() for t in tensors)
    knobs = {"rank": 3, "cache_rows": 5}
    arithmetic = sum(4 * core.numel() for core in table.cores) + 5 * (4 * D + 8) + 4 * 16
    assert size == arithmetic == TTRec.serving_size(N, D, **knobs)
    assert table.ledger().serving_bytes == folded.ledger().serving_bytes == folded.ledger().training_bytes == size
    assert {name for name, _ in folded.named_buffers()} == {"cache.ids", "cache.index"}
    assert folded.maintain() == {}
    again = pickle.loads(pickle.dumps(folded))
    assert torch.equal(again.lookup(everything), want)


def test_a_folded_table_keeps_its_rows_while_training_goes_on():
    table = make()
    table.fill_cache(torch.tensor([1, 2, 3]))
    with torch.no_grad():
        table.cache.values += 5
    folded = table.fold()
    want = folded.to_dense()
    saved = copy.deepcopy(table.state_dict())
    table(rows(*[40, 41, 42] * 9))
    table(rows(40))
    assert held(table) == {40, 41, 42}
    assert torch.equal(folded.to_dense(), want)
    table.load_state_dict(saved)
    assert torch.equal(folded.to_dense(), want)


def test_the_ledger_names_every_tensor():
    table = make(dtype=torch.float32)
    ledger = table.ledger("adagrad", batch_size=8)
    names = {entry.name: entry.bytes for entry in ledger.training}
    held_tensors = {**dict(table.named_parameters()), **dict(table.named_buffers())}
    for name, tensor in held_tensors.items():
        assert names[name] == tensor.numel() * tensor.element_size()
    for name, parameter in table.named_parameters():
        assert names[f"gradient of {name}"] == names[f"adagrad state of {name}"] == 4 * parameter.numel()
    serving = {entry.name for entry in ledger.serving}
    counting = {"cache.keys", "cache.counts", "cache.steps", "cache.used", "cache.filled"}
    assert serving == held_tensors.keys() - counting


# --- knobs and sizes --------------------------------------------------------------------------------------------------


def test_sizes_of_the_cache():
    assert TTRec(1_000_000, D, cache_fraction=0.0001, device="meta").cache_rows == 100
    assert TTRec(1_000, D, cache_fraction=0.0001, device="meta").cache_rows == 1
    assert TTRec(50, D, cache_rows=1000).cache_rows == 50
    assert TTRec(50, D, cache_fraction=1.0).cache_rows == 50
    assert TTRec(50, D).cache is None
    assert TTRec(50, D).knobs().keys().isdisjoint({"cache_rows", "warmup", "refresh", "evict"})
    for wrong, message in (
        ({"cache_rows": 5, "cache_fraction": 0.1}, "not both"),
        ({"cache_rows": -1}, "cache_rows=-1"),
        ({"cache_fraction": 1.5}, "between 0 and 1"),
        ({"cache_fraction": float("nan")}, "between 0 and 1"),
        ({"cache_rows": 5, "warmup": 0}, "warmup=0"),
        ({"cache_rows": 5, "refresh": 0}, "refresh=0"),
        ({"cache_rows": 5, "evict": "lose"}, "evict='lose'"),
    ):
        with pytest.raises(InputError, match=message):
            TTRec(50, D, **wrong)
    with pytest.raises(InputError, match="holds 3 rows"):
        make().fill_cache(torch.arange(4))


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


def test_a_budget_counts_the_cache():
    n, dim = 50_000, 16
    for knobs in ({"cache_rows": 200}, {"cache_fraction": 0.01}):
        for size in (60_000, 100_000, 400_000):
            found = TTRec.for_budget(n, dim, size, **knobs, warmup=5)
            table = TTRec(n, dim, **found, **knobs, warmup=5)
            stored = [*table.fold().parameters(), *table.fold().buffers()]
            assert sum(t.numel() * t.element_size() for t in stored) <= size
            assert TTRec.serving_size(n, dim, rank=found["rank"] + 1, **knobs) > size
        least = TTRec.serving_size(n, dim, rank=1, **knobs)
        with pytest.raises(BudgetError) as error:
            TTRec.for_budget(n, dim, least - 1, **knobs)
        assert error.value.smallest == least
        assert TTRec.for_budget(n, dim, least, **knobs)["rank"] >= 1


def test_a_ratio_that_the_cache_makes_unreachable_says_the_smallest_size():
    configs = [TableConfig(20_000, 16, "a"), TableConfig(5_000, 16, "b")]
    TableCollection.build(configs, "tt", ratio=150, device="meta")
    with pytest.raises(BudgetError, match="cannot reach 150×") as error:
        TableCollection.build(configs, "tt:cache_fraction=0.05", ratio=150, device="meta")
    assert error.value.smallest == sum(TTRec.serving_size(n, 16, rank=1, cache_fraction=0.05) for n, _, _ in configs)
    made = TableCollection.build(configs, "tt:cache_fraction=0.01", ratio=20, device="meta")
    assert made.serving_bytes <= 64 * 25_000 / 20
    assert [table.cache_rows for table in made.tables] == [200, 50]


def test_a_table_from_trained_weights_keeps_its_budget_with_a_cache():
    weight = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    for asked in ({"budget": 30_000}, {"ratio": 5.0}):
        table, _ = TTRec.from_dense(weight, **asked, cache_fraction=0.02, warmup=3)
        assert (table.cache_rows, table.warmup, held(table)) == (40, 3, set())
        assert table.ledger().serving_bytes <= (30_000 if "budget" in asked else 2000 * 64 / 5)
        plain, _ = TTRec.from_dense(weight, **asked)
        assert sum(c.numel() for c in table.cores) < sum(c.numel() for c in plain.cores)
    with pytest.raises(BudgetError) as error:
        TTRec.from_dense(weight, budget=3000, cache_rows=40)
    assert error.value.smallest == TTRec.serving_size(2000, 16, rank=1, cache_rows=40)


# --- all tables of a model --------------------------------------------------------------------------------------------


def mixed_tables():
    sizes, caches = (40, 7, 300, 90), (3, 0, 5, 90)
    return [make(t, n=n, rank=2 + t, cache_rows=c, refresh=2) for t, (n, c) in enumerate(zip(sizes, caches))], sizes


def test_a_group_is_its_tables():
    """Trained as a group and one by one: the same bits, and each table counts its own ids."""
    grouped, sizes = mixed_tables()
    single, _ = mixed_tables()
    group = TTRec.group(grouped)
    g = torch.Generator().manual_seed(2)
    mine, theirs = adagrad(group), adagrad(nn.ModuleList(single))
    exact = [Counter() for _ in sizes]
    for _ in range(9):
        ids = torch.stack([(torch.rand(30, generator=g) ** 2 * n).long() for n in sizes], 1)
        for counter, own in zip(exact, ids.t().tolist()):
            counter.update(own)
        outs = group(ids), torch.stack([t(ids[:, [k]]) for k, t in enumerate(single)], 1)
        assert torch.equal(*outs)
        for out, model, own in ((outs[0], group, mine), (outs[1], nn.ModuleList(single), theirs)):
            (out - 1).square().mean().backward()
            ec.maintain(model, own)
            own.step()
            own.zero_grad()
    for table, twin, counter in zip(grouped, single, exact):
        if table.cache is None:
            continue
        assert counted(table) == counter
        state, want = table.state_dict(), twin.state_dict()
        assert all(torch.equal(state[name], want[name]) for name in want)


def test_a_collection_counts_each_tables_own_ids_and_serves_the_same():
    configs = [TableConfig(300, D, "a"), TableConfig(50, D, "small"), TableConfig(400, D, "b")]
    g = torch.Generator().manual_seed(0)
    tables = TableCollection.build(configs, "tt:rank=2:cache_rows=4:warmup=1:refresh=1", generator=g)
    a, small, b = tables.tables
    assert not hasattr(small, "cache")
    ids = torch.tensor([[5, 6, 7], [5, 6, 8], [9, 9, 8]])
    for _ in range(2):
        tables(ids)
    assert counted(a) == {5: 4, 9: 2}
    assert counted(b) == {7: 2, 8: 4}
    with torch.no_grad():
        a.cache.values += 1
        b.cache.values -= 1
    tables.eval()
    want = torch.stack([t.lookup(ids[:, k]) for k, t in enumerate(tables.tables)], 1)
    assert torch.equal(tables(ids), want)
    bags = [(ids[:, t], torch.arange(3)) for t in range(3)]
    torch.testing.assert_close(tables(bags), want)
    folded = tables.fold()
    assert torch.equal(folded(ids), want)
    assert folded.serving_bytes == tables.serving_bytes == folded.ledger().training_bytes


RUN = """
import sys, torch
import embpress.compressors as ec
from embpress.compressors.methods.tt import TTRec
from embpress.kernels import ops
table = TTRec(500, 8, rank=3, cache_rows=10, warmup=3, refresh=4, evict="write-back", dtype=torch.float64,
              generator=torch.Generator().manual_seed(0))
optimizer = torch.optim.SGD(table.parameters(), lr=0.05)
g, kept = torch.Generator().manual_seed(1), []
for _ in range(30):
    ids = (torch.rand(40, 2, generator=g) ** 4 * 500).long()
    (table(ids) - ids.sum(1, keepdim=True) / 500).square().mean().backward()
    ec.maintain(table, optimizer)
    optimizer.step()
    optimizer.zero_grad()
    kept.append(table.cache.ids.clone())
torch.save([ops.backend("tt_embedding_bag"), torch.stack(kept), table.state_dict()], sys.argv[1])
"""


def test_native_and_plain_pytorch_fill_the_same_cache(tmp_path):
    found = {}
    for name, extra in (("native", {}), ("reference", {"EMBPRESS_LIBRARY": str(tmp_path / "none.so")})):
        file = tmp_path / f"{name}.pt"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **extra}
        subprocess.run([sys.executable, "-c", RUN, str(file)], env=environment, check=True, timeout=300)
        found[name] = torch.load(file, weights_only=True)
    assert found["reference"][0] == "reference"
    if found["native"][0] != "native":
        pytest.skip("the native ops are not compiled here")
    (_, kept, state), (_, plain_kept, plain_state) = found["native"], found["reference"]
    assert torch.equal(kept, plain_kept)
    assert len(kept.unique(dim=0)) > 3  # rows did change
    for name, value in state.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, plain_state[name], rtol=1e-8, atol=1e-10)
        else:
            assert torch.equal(value, plain_state[name]), name


# --- the hit rate -----------------------------------------------------------------------------------------------------


def test_the_hit_rate_is_a_brute_force_count():
    configs = [TableConfig(300, D, "a"), TableConfig(50, D, "small"), TableConfig(400, D, "b")]
    tables = TableCollection.build(configs, "tt:rank=2:cache_rows=40")
    g = torch.Generator().manual_seed(0)
    tables.tables[0].fill_cache(torch.randperm(300, generator=g)[:40])
    tables.tables[2].fill_cache(torch.randperm(400, generator=g)[:31])
    ids = torch.stack([torch.randint(0, n, (200,), generator=g) for n, _, _ in configs], 1).int()
    lengths = torch.randint(0, 4, (200,), generator=g)
    values = torch.randint(0, 400, (int(lengths.sum()),), generator=g).int()
    ids[:, 2] = 0
    bags = Bags(values, torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]))
    part = Part(torch.zeros(200), torch.zeros(200, 1), ids, {2: bags})

    def brute(part):
        pairs = [(0, i) for i in part.ids[:, 0].tolist()]
        pairs += [(2, i) for k in range(len(part)) for i in part.bags[2].slice(k, k + 1).values.tolist()]
        return sum(i in held(tables.tables[t]) for t, i in pairs) / len(pairs)

    for piece in (part, part.slice(20, 90)):
        assert cache_hit_rate(tables, piece) == brute(piece)
    assert 0 < brute(part) < 0.2
    plain = TableCollection.build(configs, "tt:rank=2")
    assert cache_hit_rate(plain, part) is None


def test_a_compare_records_the_hit_rate_and_the_report_still_works(tmp_path):
    def call(*arguments):
        done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done

    small = ["--rows", "4000", "--scale", "0.001", "--min-count", "1", "--threads", "1"]
    call("compare", *small, "--methods", "tt:rank=2:cache_fraction=0.01:warmup=5,tt:rank=2", "--out", tmp_path)
    runs = [json.loads(path.read_text()) for path in (tmp_path / "records").glob("*.json")]
    rates = {run["method"]: run["metrics"].get("cache_hit_rate") for run in runs}
    assert all(run["status"] == "ok" for run in runs)
    assert rates.pop("tt:rank=2") is None
    (rate,) = rates.values()
    assert 0 < rate < 1
    for run in runs:
        if len(run["method"]) > len("tt:rank=2"):
            tables = [table for table in run["tables"] if table["method"] == "tt"]
            assert all(t["knobs"]["cache_rows"] == max(1, round(0.01 * t["num_embeddings"])) for t in tables)
            sizes = [TTRec.serving_size(t["num_embeddings"], 16, rank=2, cache_fraction=0.01) for t in tables]
            assert [table["serving_bytes"] for table in tables] == sizes
    lines = call("report", tmp_path, "--format", "csv").stdout.strip().splitlines()
    assert len(lines) == 3
    assert sum("cache_fraction" in line or "cache_rows" in line for line in lines[1:]) == 1
