"""TT-Rec's cache in what is saved and served: copies, folded tables, bytes, budgets, groups, the hit rate."""

import copy
import io
import json
import pickle
from collections import Counter

import pytest
import torch
from cached_tables import D, N, adagrad, counted, held, make, rows, sgd, step
from click.testing import CliRunner
from torch import nn

import embpress.compressors as ec
from embpress.cli.main import main
from embpress.compressors import BudgetError, InputError, TableCollection, TableConfig, create
from embpress.compressors.methods.tt import TTRec
from embpress.dlrm.data.base import Bags, Part
from embpress.dlrm.training.evaluate import cache_hit_rate

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


# --- bytes and budgets ------------------------------------------------------------------------------------------------


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


def test_a_budget_counts_the_cache():
    n, dim = 50_000, 16
    for knobs in ({"cache_rows": 200}, {"cache_fraction": 0.01}):
        for size in (60_000, 100_000, 400_000):
            found = TTRec.for_budget(n, dim, size, **knobs, warmup=5)
            table = TTRec(n, dim, **found, **knobs, warmup=5)
            stored = [*table.fold().parameters(), *table.fold().buffers()]
            assert sum(t.numel() * t.element_size() for t in stored) <= size
            assert TTRec.serving_size(n, dim, rank=found["rank"] + 1, **knobs) > size
        smallest = TTRec.serving_size(n, dim, rank=1, **knobs)
        with pytest.raises(BudgetError) as error:
            TTRec.for_budget(n, dim, smallest - 1, **knobs)
        assert error.value.smallest == smallest
        assert TTRec.for_budget(n, dim, smallest, **knobs)["rank"] >= 1


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


@pytest.mark.parametrize("ids", [[5, 5, -1, -1], [-7, 1, 2, 3]])
def test_a_state_dict_with_impossible_cached_rows_is_refused(ids):
    table = create("tt:cache_rows=4", 50, 8)
    state = table.state_dict()
    state["cache.ids"] = torch.tensor(ids)
    with pytest.raises(RuntimeError, match=r"cache\.ids: the cached rows are no rows"):
        table.load_state_dict(state)
    assert table.lookup(torch.arange(50)).isfinite().all()


def test_the_index_follows_from_the_loaded_ids():
    table, other = create("tt:cache_rows=4", 50, 8), create("tt:cache_rows=4", 50, 8)
    table.fill_cache(torch.tensor([3, 9, 11]))
    state = table.state_dict()
    state["cache.index"] = torch.randint(-(2**31), 2**31 - 1, state["cache.index"].shape, dtype=torch.int32)
    other.load_state_dict(state)
    assert torch.equal(other.to_dense(), table.to_dense())
