"""TT-Rec's cache: which rows enter and when, and what is counted."""

import copy
import itertools
import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
from cached_tables import D, N, close, counted, from_cores, held, make, rows, slot
from torch import nn

from embpress.compressors import TableCollection, TableConfig, compress_model, create
from embpress.compressors.row_cache import count_slots

# --- what enters and when ---------------------------------------------------------------------------------------------


def test_entering_rows_start_from_the_cores_and_change_no_lookup():
    table = make(rank=(3, 2))
    plain = create("tt", N, D, rank=(3, 2), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    everything = torch.arange(N)
    for _ in range(3):
        table(rows(5, 5, 17, 59, 59, 2))
    assert held(table) == {5, 17, 59} - {17} | {2}  # 2 and 17 are equal: the smaller id
    assert torch.equal(table.lookup(everything), plain.lookup(everything))
    for i in held(table):
        close(table.cache.values[slot(table, i)].detach(), from_cores(table.cores, i))


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


def test_the_memory_of_counts_is_bounded_and_frequent_rows_are_found_all_the_same():
    """300,000 distinct ids of one lookup each between those of a Zipf stream, in a table of 4096 slots."""
    n, top, steps = 2_000_000, 50, 300
    table = make(n=n, cache_rows=top, warmup=10**9)
    slots = count_slots(top)
    size = table.ledger().training_bytes
    assert slots == 4096
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
        assert int(table.cache.used) <= slots * 7 // 8
    assert int((exact > 0).sum()) > 290_000
    assert len(table.cache.keys) == len(table.cache.counts) == slots
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
