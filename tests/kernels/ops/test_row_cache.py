"""The ops behind TT-Rec's cache, native against plain PyTorch and both against dictionaries and plain tables."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.library import opcheck

from embpress.kernels import ops, reference
from embpress.kernels.errors import ArgumentError, DtypeError

COLUMNS = {2: (2, 4), 3: (2, 1, 4), 4: (2, 1, 2, 2)}
BACKENDS = ("native", "native store", "reference")
ON_CUDA = torch.cuda.is_available() or hasattr(torch.ops.embpress, "emulates_cuda")


def native_or_skip(op):
    if ops.backend(op) != "native":
        pytest.skip("the native ops are not compiled here")


def both(name):
    """The op as the dispatcher has it and its plain PyTorch form."""
    native_or_skip(name)
    return getattr(ops, name), getattr(reference, name)


# --- the hash tables --------------------------------------------------------------------------------------------------

# 2**33 apart: ids whose hashes take the high bits too
ids_of_any_size = st.one_of(st.integers(0, 40), st.integers(0, 2**62), st.sampled_from([0, 1, 2**33, 2**62]))


@st.composite
def caches(draw):
    ids = draw(st.lists(ids_of_any_size, unique=True, max_size=20))
    rows = draw(st.permutations([*ids, *[-1] * draw(st.integers(0, 4))]))
    least = (len(rows) + 1 - 1).bit_length()
    return torch.tensor(rows, dtype=torch.int64), 1 << draw(st.integers(least, least + 3))


@settings(deadline=None, max_examples=100)
@given(caches(), st.lists(ids_of_any_size, max_size=20))
def test_an_index_finds_what_a_dictionary_finds(cache, others):
    ids, slots = cache
    if len(ids) >= slots:
        slots *= 2
    index, plain = (op(ids, slots) for op in both("cache_index"))
    assert torch.equal(index, plain)
    assert index.dtype == torch.int32
    row = {int(i): r for r, i in enumerate(ids) if i >= 0}
    wanted = torch.tensor([*ids[ids >= 0].tolist(), *others], dtype=torch.int64)
    want = [row.get(int(i), -1) for i in wanted]
    for find in both("cache_find"):
        found = find(index, ids, wanted)
        assert found.dtype == torch.int32
        assert found.tolist() == want
        pair = wanted[: len(wanted) // 2 * 2].view(-1, 2)
        assert find(index, ids, pair).flatten().tolist() == want[: pair.numel()]
        assert find(index, ids, pair.t()).t().flatten().tolist() == want[: pair.numel()]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.lists(st.integers(0, 60), max_size=40), max_size=4),
    st.sampled_from([16, 64, 1024]),
    st.sampled_from([torch.int32, torch.int64]),
)
def test_counts_are_those_of_a_counter_while_there_is_room(batches, slots, dtype):
    native, plain = both("count_ids")
    tables = [(torch.full((slots,), -1), torch.zeros(slots, dtype=torch.int64), torch.tensor(0)) for _ in range(2)]
    exact, seen = Counter(), Counter()
    for batch in batches:
        ids = torch.tensor(batch, dtype=dtype)
        native(*tables[0], ids)
        plain(*tables[1], ids)
        seen.update(batch)
        for i in batch:
            if i in exact or len(exact) < slots - slots // 8 - 1:
                exact[i] += 1
    found = []
    for keys, counts, used in tables:
        held = keys >= 0
        assert int(used) == int(held.sum())
        assert not counts[~held].any()
        found.append(dict(zip(keys[held].tolist(), counts[held].tolist())))
    assert found[1] == exact
    if ON_CUDA and exact != seen:  # which ids found room is up to the order of the threads
        assert len(found[0]) <= len(exact)
        assert all(count <= seen[i] for i, count in found[0].items())
    else:
        assert found[0] == exact
    assert ON_CUDA or torch.equal(tables[0][0], tables[1][0])


def test_count_ids_takes_ids_of_any_layout_and_skips_negative_ones():
    ids = torch.tensor([[3, 8, -1], [3, 3, 5]])
    for count in both("count_ids"):
        keys, counts, used = torch.full((16,), -1), torch.zeros(16, dtype=torch.int64), torch.tensor(0)
        count(keys, counts, used, ids.t())
        assert int(used) == 3
        assert dict(zip(keys.tolist(), counts.tolist())) == {-1: 0, 3: 3, 8: 1, 5: 1}


def test_a_large_index_finds_every_row():
    """Row by row and in random order, at the load that a full cache has."""
    g = torch.Generator().manual_seed(0)
    ids = torch.randperm(10**6, generator=g)[:30_000] * 7919
    index = ops.cache_index(ids, 1 << 16)
    assert torch.equal(ops.cache_find(index, ids, ids), torch.arange(30_000, dtype=torch.int32))
    assert bool((ops.cache_find(index, ids, ids + 1) == -1).all())


def test_tables_that_do_not_fit_are_refused():
    long, ids = torch.int64, torch.tensor([4, 7, 1])
    for name in ("cache_index", "cache_find", "count_ids"):
        native_or_skip(name)
    index = ops.cache_index(ids, 8)
    keys = torch.full((16,), -1)
    for module in (ops, reference):
        for slots in (3, 2, 6):  # too few, or no power of two
            with pytest.raises(ArgumentError, match=r"power of two|need more than"):
                module.cache_index(ids, slots)
        for wrong, counts in ((torch.full((12,), -1), 12), (keys, 8), (keys, 32)):
            with pytest.raises(ArgumentError, match=r"power of two|counts for"):
                module.count_ids(wrong, torch.zeros(counts, dtype=long), torch.tensor(0), ids)
    for wrong in ((index.long(), ids), (index, ids.int()), (index[:6], ids), (index.repeat(2)[::2], ids)):
        with pytest.raises((ArgumentError, DtypeError)):
            ops.cache_find(*wrong, ids)
    with pytest.raises(DtypeError, match="ids must be int32 or int64, got float32"):
        ops.count_ids(keys, torch.zeros(16, dtype=long), torch.tensor(0), ids.float())


def test_opcheck_of_the_hash_tables():
    ids = torch.tensor([5, -1, 9])
    opcheck(torch.ops.embpress.cache_index.default, (ids, 8))
    opcheck(torch.ops.embpress.cache_find.default, (ops.cache_index(ids, 8), ids, torch.tensor([[5, 6]])))
    keys, counts = torch.full((16,), -1), torch.zeros(16, dtype=torch.int64)
    opcheck(torch.ops.embpress.count_ids.default, (keys, counts, torch.tensor(0), torch.tensor([1, 5, 5])))


# --- lookups ----------------------------------------------------------------------------------------------------------


def make_cache(ids, rows, dim, generator, dtype=torch.float64):
    """The op's three tensors: `ids` in `rows` rows, the rest of which are empty."""
    held = torch.full((rows,), -1)
    held[torch.randperm(rows, generator=generator)[: len(ids)]] = torch.tensor(ids, dtype=torch.int64)
    index = reference.cache_index(held, 1 << (2 * rows).bit_length())
    return [index, held, torch.randn(rows, dim, generator=generator, dtype=torch.float64).to(dtype)]


def no_cache(dim, dtype=torch.float64):
    return [torch.empty(0, dtype=torch.int32), torch.empty(0, dtype=torch.int64), torch.empty(0, dim, dtype=dtype)]


def written_out(cores, cache):
    """The table `(prod p, D)` in plain autograd: products of the cores, cached rows in their places."""
    table = cores[0]
    for core in cores[1:]:  # (rows, 1, width, R) x (p, R, q, R')
        table = torch.einsum("aiwr,prqs->apiwqs", table, core)
        table = table.reshape(-1, 1, table.shape[3] * table.shape[4], table.shape[5])
    table = table.flatten(1)
    if not cache or not cache[0].numel():
        return table
    held = cache[1] >= 0
    return table.index_put((cache[1][held],), cache[2][held])


class _Reference(torch.autograd.Function):
    """The plain PyTorch ops, which the dispatcher would only take where nothing is compiled."""

    @staticmethod
    def forward(ctx, count, ids, offsets, weights, others, *tensors):
        ctx.save_for_backward(ids, offsets, weights, *tensors)
        ctx.count, ctx.others = count, others
        return reference.tt_embedding_bag(list(tensors[:count]), list(tensors[count:]), ids, offsets, weights, *others)

    @staticmethod
    def backward(ctx, grad):
        ids, offsets, weights, *tensors = ctx.saved_tensors
        nothing = grad.new_empty(0)
        core_grads, weight_grad, value_grads = reference.tt_embedding_bag_backward(
            grad, tensors[: ctx.count], tensors[ctx.count :], ids, offsets, weights, nothing, nothing, *ctx.others
        )
        cache_grads = [None] * (len(tensors) - ctx.count)
        cache_grads[2::3] = value_grads
        return None, None, None, None if weights is None else weight_grad, None, *core_grads, *cache_grads


def tt(backend, cores, caches, ids, offsets, weights, *, rows, padding, num_cores, mean, last=True):
    if backend == "reference":
        others = (rows, padding, num_cores, mean, last)
        return _Reference.apply(len(cores), ids, offsets, weights, others, *cores, *caches)
    native_or_skip("tt_embedding_bag")
    return ops.tt_embedding_bag(
        cores,
        ids,
        offsets,
        weights,
        num_embeddings=rows,
        caches=caches,
        padding_idx=padding,
        num_cores=num_cores,
        mean=mean,
        include_last_offset=last,
        store=backend == "native store",
    )


def pooled(tables, ids, offsets, weights, padding, mean):
    """What the op promises, bag by bag, on tables written out."""
    count = len(tables)
    if offsets is None:
        length = ids.shape[1] // count
        bags = [[(row, t * length + i) for i in range(length)] for t in range(count) for row in range(ids.shape[0])]
    else:
        bounds = offsets.tolist()
        bags = [[(place,) for place in range(a, b)] for a, b in itertools.pairwise(bounds)]
    batch = len(bags) // count
    out = []
    for b in range(batch):
        for t, table in enumerate(tables):
            places = [p for p in bags[t * batch + b] if not padding or int(ids[p]) != padding[t]]
            rows = [table[int(ids[p])] * (1 if weights is None else weights[p]) for p in places]
            total = torch.stack(rows).sum(0) if rows else table.new_zeros(table.shape[1])
            out.append(total / len(rows) if mean and rows else total)
    dim = tables[0].shape[1]
    return torch.stack(out).view(batch, count, dim) if out else tables[0].new_zeros(0, count, dim)


@st.composite
def calls(draw):
    """Any tables with or without caches, any lookups; padding ids may be cached."""
    num_cores = draw(st.sampled_from([2, 3, 4]))
    tables = []
    for _ in range(draw(st.integers(1, 3))):
        p = [draw(st.integers(1, 4)) for _ in range(num_cores)]
        n = draw(st.integers(1, math.prod(p)))
        held = draw(st.one_of(st.none(), st.lists(st.integers(0, n - 1), unique=True, max_size=8)))
        empty = draw(st.integers(0 if held else 1, 2))
        padding = draw(st.sampled_from([-1, *(held or [0])]))
        ranks = [draw(st.integers(1, 9)) for _ in range(num_cores - 1)]
        tables.append((p, ranks, n, held, empty, padding))
    return {
        "num_cores": num_cores,
        "tables": tables,
        "batch": draw(st.integers(0, 6)),
        "length": draw(st.sampled_from([None, 0, 1, 3])),
        "mode": draw(st.sampled_from(["sum", "mean", "weights"])),
        "padding": draw(st.booleans()),
        "dtype": draw(st.sampled_from([torch.float32, torch.float64])),
        "ids": draw(st.sampled_from([torch.int32, torch.int64])),
        "last": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**31)),
    }


def build(call):
    """Cores, caches, ids, offsets, weights of a call, in double."""
    g = torch.Generator().manual_seed(call["seed"])
    d = call["num_cores"]
    cores, caches, columns = [], [], COLUMNS[d]
    for p, ranks, _, held, empty, _ in call["tables"]:
        r = (1, *ranks, 1)
        cores += [torch.randn(p[k], r[k], columns[k], r[k + 1], generator=g, dtype=torch.float64) for k in range(d)]
        caches += no_cache(8) if held is None else make_cache(held, len(held) + empty, 8, g)
    sizes, batch, length = [table[2] for table in call["tables"]], call["batch"], call["length"]
    if length is not None:
        ids, offsets = torch.cat([torch.randint(n, (batch, length), generator=g) for n in sizes], 1), None
    else:
        lengths = torch.randint(0, 4, (len(sizes), batch), generator=g)
        ids = torch.cat([torch.randint(n, (int(own.sum()),), generator=g) for n, own in zip(sizes, lengths)])
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.flatten().cumsum(0)])
    weights = torch.randn(ids.shape, dtype=torch.float64, generator=g) if call["mode"] == "weights" else None
    return cores, caches, ids, offsets, weights


@settings(deadline=None, max_examples=120)
@given(calls(), st.sampled_from(["native", "native store"]))
def test_lookups_and_gradients_are_those_of_the_table_written_out(call, kind):
    """Native and reference against plain autograd on the table with the cached rows in place."""
    cores, caches, ids, offsets, weights = build(call)
    d, mean = call["num_cores"], call["mode"] == "mean"
    padding = [table[5] for table in call["tables"]] if call["padding"] else []
    options = {"rows": [table[2] for table in call["tables"]], "padding": padding, "num_cores": d, "mean": mean}

    def tracked(dtype):
        own = [core.to(dtype, copy=True).requires_grad_() for core in cores]
        kept = [c.to(dtype, copy=True).requires_grad_() if i % 3 == 2 else c for i, c in enumerate(caches)]
        return own, kept, None if weights is None else weights.to(dtype, copy=True).requires_grad_()

    def result(out, own, kept, own_weights):
        grad = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        leaves = [*own, *kept[2::3], *([] if own_weights is None else [own_weights])]
        if not out.requires_grad:  # no bag: autograd of the loop has nothing to go back to
            return [out, *(torch.zeros_like(leaf) for leaf in leaves)]
        found = torch.autograd.grad(out, leaves, grad.to(out.dtype), allow_unused=True, materialize_grads=True)
        return [out.detach(), *found]

    own, kept, own_weights = tracked(torch.float64)
    tables = [written_out(own[t * d : t * d + d], kept[3 * t : 3 * t + 3]) for t in range(len(call["tables"]))]
    want = result(pooled(tables, ids, offsets, own_weights, padding, mean), own, kept, own_weights)
    last = call["last"] or offsets is None
    for backend in (kind, "reference"):
        dtype = call["dtype"] if backend == kind else torch.float64
        own, kept, own_weights = tracked(dtype)
        bounds = offsets if last else offsets[:-1]
        out = tt(backend, own, kept, ids.to(call["ids"]), bounds, own_weights, last=last, **options)
        for found, exact in zip(result(out, own, kept, own_weights), want):
            bound = 1e-4 if dtype == torch.float32 else 1e-11
            scale = max(1.0, float(exact.abs().max())) if exact.numel() else 1.0
            torch.testing.assert_close(found.double(), exact, rtol=bound, atol=bound * scale)


def mixed_case(num_cores, kind):
    """Two tables, the first with a cache whose padding id is cached too; bags, some of them empty."""
    call = {
        "num_cores": num_cores,
        "tables": [
            ([2, 3, 2, 1][:num_cores], [3, 2, 2][: num_cores - 1], 6, [4, 1, 3], 1, 4),
            ([3, 2, 1, 2][:num_cores], [2, 3, 1][: num_cores - 1], 6, None, 0, -1),
        ],
        "batch": 4,
        "length": {"one id a bag": 1, "columns": 3}.get(kind),
        "mode": kind if kind in ("mean", "weights") else "sum",
        "seed": 3,
    }
    return build(call)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["one id a bag", "columns", "bags", "mean", "weights"])
@pytest.mark.parametrize("num_cores", [2, 3, 4])
def test_gradients(num_cores, kind, backend):
    cores, caches, ids, offsets, weights = mixed_case(num_cores, kind)
    ids.view(-1)[0] = 1  # a hit for sure
    padding = [] if kind == "one id a bag" else [4, -1]
    inputs = [x.requires_grad_() for x in (*cores, caches[2], *([] if weights is None else [weights]))]

    def call(*values):
        kept = [*caches[:2], values[len(cores)], *caches[3:]]
        return tt(
            backend,
            list(values[: len(cores)]),
            kept,
            ids,
            offsets,
            None if weights is None else values[-1],
            rows=[6, 6],
            padding=padding,
            num_cores=num_cores,
            mean=kind == "mean",
        )

    assert gradcheck(call, inputs)


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("kind", ["one id a bag", "bags", "mean", "weights"])
def test_opcheck(kind, store):
    cores, caches, ids, offsets, weights = mixed_case(3, kind)
    ids.view(-1)[0] = 1
    plain = (cores, caches, ids, offsets, weights, [6, 6], [4, -1], 3, kind == "mean", True)
    opcheck(torch.ops.embpress.tt_embedding_bag.default, plain)
    out, plan, partials = torch.ops.embpress.tt_embedding_bag_train.default(*plain, store, 0)
    backward = (torch.randn_like(out), *plain[:5], plan, partials, *plain[5:])
    opcheck(torch.ops.embpress.tt_embedding_bag_backward.default, backward)
    # room that `store` sets aside for repeated ids stays unwritten, so two runs' partial products cannot be compared
    utils = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if not store:
        utils.append("test_aot_dispatch_dynamic")
    learned = [x.clone().requires_grad_() if i % 3 == 2 else x for i, x in enumerate(caches)]
    arguments = ([core.clone().requires_grad_() for core in cores], learned, *plain[2:], store, 0)
    opcheck(torch.ops.embpress.tt_embedding_bag_train.default, arguments, test_utils=utils)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lookup_is_answered_by_the_cache_alone_or_by_the_cores_alone(backend):
    """A hit gives the cores no gradient, a miss the cache none, and a hit's value is copied bit by bit."""
    cores, caches, *_ = mixed_case(3, "bags")
    leaves = [x.requires_grad_() for x in (*cores[:3], caches[2])]
    where = {int(i): r for r, i in enumerate(caches[1]) if i >= 0}
    options = {"rows": [6], "padding": [], "num_cores": 3, "mean": False}
    for i in range(6):
        out = tt(backend, cores[:3], caches[:3], torch.tensor([[i]]), None, None, **options)
        grads = torch.autograd.grad(out.sum(), leaves)
        if i in where:
            assert torch.equal(out.flatten(), caches[2][where[i]])
            assert not any(bool(grad.any()) for grad in grads[:3])
            want = torch.zeros_like(caches[2])
            want[where[i]] = 1
            assert torch.equal(grads[3], want)
        else:
            assert all(bool(grad.any()) for grad in grads[:3])
            assert not grads[3].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_ids_are_named_whatever_is_cached(backend):
    cores, caches, *_ = mixed_case(3, "bags")
    options = {"rows": [6, 6], "padding": [4, -1], "num_cores": 3, "mean": False}
    for bad in (6, -1, 2**40):
        with pytest.raises(IndexError, match=rf"id {bad} is out of range: table 0 has 6 rows"):
            tt(backend, cores, caches, torch.tensor([[bad, 0]]), None, None, **options)


def test_caches_that_do_not_fit_are_refused():
    native_or_skip("tt_embedding_bag")
    cores, caches, ids, offsets, _ = mixed_case(3, "bags")
    options = {"rows": [6, 6], "padding": [], "num_cores": 3, "mean": False}
    tt("native", cores, caches, ids, offsets, None, **options)
    index, held, values = caches[:3]
    for wrong in (
        caches[:3],
        [index.long(), held, values, *caches[3:]],
        [index, held.int(), values, *caches[3:]],
        [index, held, values.float(), *caches[3:]],
        [index, held, values[:, :4], *caches[3:]],
        [index, held[:2], values, *caches[3:]],
        [index[:7], held, values, *caches[3:]],
        [index[:4], held, values, *caches[3:]],
        [index[:0], held, values, *caches[3:]],
    ):
        with pytest.raises((ArgumentError, DtypeError), match=r"cache"):
            tt("native", cores, wrong, ids, offsets, None, **options)


def test_every_run_gives_the_same_bits_whatever_the_threads():
    native_or_skip("tt_embedding_bag")
    g = torch.Generator().manual_seed(0)
    cores = [torch.randn(22, *shape, generator=g).requires_grad_() for shape in ((1, 4, 16), (16, 4, 16), (16, 4, 1))]
    held = torch.randperm(22**3, generator=g)[:500]
    held[:200] = torch.arange(200)
    held = held.unique()
    values = torch.randn(len(held), 64, generator=g).requires_grad_()
    caches = [ops.cache_index(held, 2048), held, values]
    ids = (torch.rand(5000, generator=g) ** 3 * 22**3).long()
    grad = torch.randn(2500, 1, 64, generator=g)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 2):
            torch.set_num_threads(count)
            out = ops.tt_embedding_bag(cores, ids.view(-1, 2), num_embeddings=[22**3], caches=caches, num_cores=3)
            found.append([out.detach(), *torch.autograd.grad(out, [*cores, values], grad)])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))
