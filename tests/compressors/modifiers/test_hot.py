"""`+hot`: exact rows for the most frequent ids, the method inside for all others."""

import copy
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from embpress.compressors import (
    BudgetError,
    InputError,
    TableCollection,
    TableConfig,
    compress_model,
    create,
    maintain,
    parse,
    plan,
)
from embpress.compressors.ledger import held_bytes
from embpress.compressors.modifiers.hot import Hot

CONFIGS = [TableConfig(5000, 16, "a"), TableConfig(300, 16, "b"), TableConfig(900, 16, "c"), TableConfig(20, 16, "d")]
METHODS = ["hash", "qr", "robe:sign=true", "mlet", "tt:rank=4", "full"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ids_of(count=64):
    return torch.stack([torch.arange(count) * 7 % n for n, _, _ in CONFIGS], 1)


def counted(method="hash", n=100, rows=5, seed=0):
    """A table whose hot ids are given by counts, and these ids."""
    counts = torch.randint(1000, (n,), generator=seeded(seed))
    return Hot(create(method, n, 8, generator=seeded(seed)), rows=rows, counts=counts), counts.topk(rows).indices


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("method", METHODS)
def test_bags_are_those_of_a_table_that_is_written_out(method, mode):
    table = create(f"{method}+hot:rows=9", 200, 8, mode=mode, padding_idx=3, generator=seeded())
    plain = create(method, 200, 8, mode=mode, padding_idx=3, generator=seeded())
    ids, offsets = torch.randint(200, (60,), generator=seeded()) // 4, torch.tensor([0, 0, 7, 8, 30, 60])
    weights = torch.randn(60, generator=seeded()) if mode == "sum" else None
    torch.testing.assert_close(table(ids, offsets, weights), plain(ids, offsets, weights))  # it starts as that
    with torch.no_grad():
        table.hot_rows.normal_(generator=seeded())
    written = plain.to_dense().detach()
    written[:9] = table.hot_rows.detach()
    want = F.embedding_bag(ids, written, offsets, mode=mode, padding_idx=3, per_sample_weights=weights)
    torch.testing.assert_close(table(ids, offsets, weights), want)
    assert torch.equal(table.to_dense()[:9], table.hot_rows)
    torch.testing.assert_close(table.to_dense()[9:], plain.to_dense()[9:])


@pytest.mark.parametrize("sparse", [False, True])
def test_gradients_of_hot_ids_stay_outside_and_those_of_others_inside(sparse):
    table = create("full+hot:rows=4", 50, 8, sparse=sparse, generator=seeded())
    table(torch.tensor([[0, 30], [3, 31], [3, 30]])).sum().backward()
    hot, inside = table.hot_rows.grad, table.table.weight.grad
    assert hot.is_sparse == inside.is_sparse == sparse
    if sparse:  # not even as zeros, which some optimizers take for a reason to move
        assert set(hot.coalesce().indices()[0].tolist()) == {0, 3}
        assert set(inside.coalesce().indices()[0].tolist()) == {30, 31}
    hot, inside = hot.to_dense(), inside.to_dense()
    assert hot[:, 0].tolist() == [1, 0, 0, 2]
    assert inside[:, 0].nonzero().flatten().tolist() == [30, 31]


@pytest.mark.parametrize("method", ["hash", "robe", "tt:rank=4", "mlet"])
def test_a_method_inside_is_never_asked_for_hot_ids(method):
    table = create(f"{method}+hot:rows=10", 100, 8, generator=seeded())
    table(torch.arange(10).view(5, 2)).sum().backward()
    assert all(p.grad is None or not p.grad.to_dense().any() for p in table.table.parameters())
    assert (table.hot_rows.grad == 1).all()


@pytest.mark.parametrize("method", ["hash", "qr", "robe", "tt:rank=4"])
def test_all_tables_of_a_model_are_one_group_whatever_they_keep(method, monkeypatch):
    tables = TableCollection.build(CONFIGS, f"{method}+hot:rows=40", min_rows=0, generator=seeded())
    assert len(tables.groups) == 1
    ids = ids_of()
    with torch.no_grad():
        for parameter in tables.parameters():
            parameter.normal_(generator=seeded())
    want = torch.stack([table.lookup(ids[:, t]) for t, table in enumerate(tables.tables)], 1)
    # all at once: no table is asked by itself
    monkeypatch.setattr(Hot, "_lookup", None)
    torch.testing.assert_close(tables(ids), want)
    torch.testing.assert_close(tables([(ids[:, t], torch.arange(64)) for t in range(4)]), want)
    tables(ids).sum().backward()
    assert tables.groups[0].hot_rows.grad.shape == (40 + 40 + 40 + 20, 16)


def test_given_counts_choose_the_rows_and_their_ids_are_counted_and_travel():
    table, hot = counted()
    assert table.hot_ids().tolist() == sorted(hot.tolist())
    assert table.uncompressed(torch.arange(100)).nonzero().flatten().tolist() == sorted(hot.tolist())
    with torch.no_grad():
        table.hot_rows.fill_(7)
    assert (table.to_dense() == 7).all(1).nonzero().flatten().tolist() == sorted(hot.tolist())
    first = create("hash+hot:rows=5", 100, 8)
    assert table.ledger().serving_bytes == first.ledger().serving_bytes + 8 * 5 == held_bytes(table.fold())
    other, others = counted(seed=1)
    assert set(others.tolist()) != set(hot.tolist())
    other.load_state_dict(table.state_dict())
    assert torch.equal(other.to_dense(), table.to_dense())
    assert torch.equal(table.fold().to_dense(), table.to_dense())
    with pytest.raises(RuntimeError, match="ids=given instead of ids=first"):
        first.load_state_dict(table.state_dict())
    with pytest.raises(RuntimeError, match="rows=5 instead of rows=6"):
        create("hash+hot:rows=6", 100, 8).load_state_dict(first.state_dict())


@pytest.mark.parametrize("rows", [(5, 3, 8), (1, 1, 1)])
def test_given_counts_in_a_model(rows):
    sizes, made = (100, 7, 40), []
    for n, k in zip(sizes, rows):
        counts = torch.randint(1000, (n,), generator=seeded(k))
        made.append(Hot(create("hash", n, 8, generator=seeded(n)), rows=k, counts=counts))
    alone = [copy.deepcopy(table) for table in made]
    tables = TableCollection([TableConfig(n, 8) for n in sizes], made, 1)
    assert len(tables.groups) == 1
    ids = torch.stack([torch.randint(n, (50,), generator=seeded(n)) for n in sizes], 1)
    for collection in (tables, tables.fold(), copy.deepcopy(tables)):
        for t, table in enumerate(alone):
            assert torch.equal(collection(ids)[:, t], table.lookup(ids[:, t]))
            assert torch.equal(collection.tables[t].lookup(ids[:, t]), table.lookup(ids[:, t]))
    assert held_bytes(tables.fold()) == tables.serving_bytes


def by_hand(batches, hot, dim, inside, rate, warmup, refresh):
    """Hot rows by id after training on a sum of outputs, by a dict: the reference of `online`."""
    counts, kept, filled = Counter(), {}, None
    for step, ids in enumerate(batches):
        if step >= warmup and (filled is None or step - filled >= refresh):
            filled = step
            best = sorted(counts, key=lambda i: (-counts[i], i))[:hot]
            entering = [i for i in best if i not in kept]
            room = hot - len(kept)
            for i in [i for i in kept if i not in best][: max(0, len(entering) - room)]:
                del kept[i]
            kept |= {i: inside[i].clone() for i in entering}
        for i in ids:
            counts[i] += 1
            if i in kept:
                kept[i] = kept[i] - rate
    return kept


@pytest.mark.parametrize("collected", [False, True])
def test_online_rows_enter_and_leave_as_in_a_simple_reference(collected):
    n, hot, rate = 60, 6, 0.01
    spec = f"hash+hot:rows={hot}:online=true:warmup=3:refresh=4"
    batches = [((torch.rand(40, generator=seeded(s)) ** 3 * n).long() + (s // 10) * 9) % n for s in range(40)]
    if collected:
        configs = [TableConfig(n, 8), TableConfig(n, 8)]
        model = TableCollection.build(configs, spec, min_rows=0, generator=seeded())
        tables = model.tables
    else:
        model = create(spec, n, 8, generator=seeded())
        tables = [model]
    for table in tables:
        table.table.requires_grad_(False)  # it stands still, so that what enters is known
    if collected:
        model.groups[0].inner.requires_grad_(False)
    inside = [table.table.to_dense() for table in tables]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], rate)
    for ids in batches:
        optimizer.zero_grad()
        columns = [ids, (n - 1 - ids)][: len(tables)]
        model(torch.stack(columns, 1) if collected else ids.view(-1, 1)).sum().backward()
        maintain(model, optimizer)
        optimizer.step()
    for t, table in enumerate(tables):
        own = [(ids if t == 0 else n - 1 - ids).tolist() for ids in batches]
        kept = by_hand(own, hot, 8, inside[t], rate, 3, 4)
        assert table.hot_ids().tolist() == sorted(kept)
        for i, row in kept.items():
            torch.testing.assert_close(table.lookup(torch.tensor(i)), row)
        cold = torch.tensor([i for i in range(n) if i not in kept])
        assert torch.equal(table.lookup(cold), inside[t][cold])
        assert torch.equal(table.uncompressed(torch.arange(n)), ~torch.isin(torch.arange(n), cold))
    folded = model.eval().fold()
    ids = torch.arange(n).view(-1, 1).expand(-1, len(tables))
    assert torch.equal(folded(ids), model(ids))


def test_rows_that_enter_start_with_fresh_optimizer_state_and_those_that_stay_keep_it():
    table = create("hash+hot:rows=2:online=true:warmup=1:refresh=1", 30, 4, generator=seeded())
    optimizer = torch.optim.Adagrad(table.parameters(), lr=0.1)

    def step(*ids):
        optimizer.zero_grad()
        table(torch.tensor(ids).view(-1, 1)).sum().backward()
        maintain(table, optimizer)
        state = optimizer.state[table.hot_rows]["sum"].clone()
        optimizer.step()
        return state

    step(5, 5, 6)
    step(5, 6, 9, 9, 9, 9)  # 5 and 6 are hot
    before = optimizer.state[table.hot_rows]["sum"].clone()
    after = step(9)  # 9 takes the place of 6: of 5 and 6 the one that is counted less
    assert table.hot_ids().tolist() == [5, 9]
    assert (before > 0).all()
    assert (after == 0).all(1).tolist().count(True) == 1


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_that_move_before_the_backward_get_no_gradient_of_what_left(sparse, weighted):
    spec = "full+hot:rows=1:online=true:warmup=1:refresh=1"
    table = create(spec, 30, 4, sparse=sparse, generator=seeded())
    weights = torch.ones(2, requires_grad=True) if weighted else None
    table(torch.tensor([3, 3]), torch.tensor([0]))
    early = table(torch.tensor([3, 4]), torch.tensor([0]), weights)  # 3 is hot
    want = table.lookup(torch.tensor([3, 4])).sum(1).detach()
    table(torch.tensor([8] * 9), torch.tensor([0]))
    late = table(torch.tensor([8]), torch.tensor([0]))  # 8 took its slot
    assert table.hot_ids().tolist() == [8]
    (2 * early.sum() + late.sum()).backward()
    assert table.hot_rows.grad.to_dense().tolist() == [[1.0] * 4]
    if weights is not None:
        torch.testing.assert_close(weights.grad, 2 * want)


def test_a_table_that_trains_goes_on_after_a_copy_and_a_load():
    spec = "hash+hot:rows=4:online=true:warmup=2:refresh=3"
    configs = [TableConfig(50, 8), TableConfig(40, 8)]
    model = TableCollection.build(configs, spec, min_rows=0, generator=seeded())
    batches = [torch.randint(40, (30, 2), generator=seeded(s)) for s in range(12)]

    def train(one, batches):
        optimizer = torch.optim.SGD(one.parameters(), 0.1)
        for ids in batches:
            optimizer.zero_grad()
            one(ids).square().sum().backward()
            optimizer.step()

    train(model, batches[:6])
    twin, other = copy.deepcopy(model), TableCollection.build(configs, spec, min_rows=0, generator=seeded(1))
    other.load_state_dict(model.state_dict())
    for one in (model, twin, other):
        train(one, batches[6:])
    ids = torch.arange(40).view(-1, 1).expand(-1, 2)
    for one in (twin, other):
        assert [t.hot_ids().tolist() for t in one.tables] == [t.hot_ids().tolist() for t in model.tables]
        torch.testing.assert_close(one(ids), model(ids))


@pytest.mark.parametrize("ratio", [5, 12])
@pytest.mark.parametrize("spec", ["robe+hot:rows=40", "robe+hot:fraction=0.02+int8", "hash+hot:rows=40", "tt+hot+int8"])
def test_a_ratio_counts_the_rows_of_every_table(spec, ratio):
    size = sum(4 * n * dim for n, dim, _ in CONFIGS) // ratio
    tables = TableCollection.build(CONFIGS, spec, ratio=ratio, generator=seeded())
    assert 0.97 * size < tables.serving_bytes <= size
    assert sum(table.bytes for table in plan(parse(spec), CONFIGS, ratio=ratio).tables) == tables.serving_bytes
    assert held_bytes(tables.fold()) == tables.serving_bytes


def test_rows_that_do_not_fit_say_what_would():
    with pytest.raises(BudgetError) as caught:
        plan(parse("robe+hot:rows=200"), CONFIGS, ratio=50)
    smallest = caught.value.smallest  # one chunk of ROBE, its coefficients, 200 rows of three tables, a full one
    assert smallest == 4 * 4 + 8 * 3 + 3 * 200 * 64 + 20 * 64
    assert sum(table.bytes for table in plan(parse("robe+hot:rows=200"), CONFIGS, budget=smallest).tables) == smallest


def test_how_many_rows_are_hot():
    for spec, n, want in (("fraction=0.1", 100, 10), ("fraction=0.0001", 100, 1), ("rows=7", 5, 5), ("rows=7", 100, 7)):
        table = create(f"hash+hot:{spec}", n, 4)
        assert table.rows == len(table.hot_rows) == want
        assert table.modifiers == (f"hot:{spec}",)
    assert create("hash+hot", 1000, 4).rows == 10


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rowwise_adagrad", "adam"])
def test_training_costs_the_rows_besides(optimizer):
    plain, hot = (create(spec, 1000, 16).ledger(optimizer) for spec in ("hash", "hash+hot:rows=10"))
    state = {"sgd": 0, "adagrad": 16, "rowwise_adagrad": 1, "adam": 32}[optimizer]
    assert hot.training_bytes - plain.training_bytes == 4 * 10 * (16 + 16 + state)
    assert hot.serving_bytes - plain.serving_bytes == 4 * 10 * 16  # and no index


def test_modifiers_around_and_inside():
    rows = 4 * 16 * 10
    inside = create("hash:k=100+int4+hot:rows=10", 1000, 16, generator=seeded())
    codes = create("hash:k=100+int4", 1000, 16, generator=seeded())
    assert inside.ledger().serving_bytes == codes.ledger().serving_bytes + rows
    served = inside.fold().to_dense()
    assert torch.equal(served[:10], inside.hot_rows.detach())
    assert torch.equal(served[10:], codes.fold().to_dense()[10:])
    around = create("hash:k=100+hot:rows=10+int8", 1000, 16, generator=seeded())
    eighth = create("hash:k=100+int8", 1000, 16, generator=seeded())
    assert around.ledger().serving_bytes == eighth.ledger().serving_bytes + 16 * 10 + 2 * 2 * 16
    assert create("hash:k=100+hot:rows=10+bf16", 1000, 16).ledger().serving_bytes == 2 * 16 * 110 + 8 * 6


def test_a_model_that_starts_from_weights_has_hot_rows_exactly():
    model = nn.ModuleDict({"a": nn.EmbeddingBag(3000, 8, mode="sum")})
    weight = model["a"].weight.detach().clone()
    done = compress_model(model, "tt:rank=8+hot:rows=50", from_weights=True)
    found = model["a"].to_dense()
    assert torch.equal(found[:50], weight[:50])
    assert done["error"][0] == pytest.approx(float((found - weight).norm() / weight.norm()), rel=1e-4)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("hash+hot:rows=3:fraction=0.1", "fraction or rows, not both"),
        ("hash+hot:fraction=0", "fraction=0 must lie above 0"),
        ("hash+hot:fraction=1.5", "fraction=1.5"),
        ("hash+hot:rows=0", "rows"),
        ("hash+hot:online=true:refresh=0", "refresh=0"),
        ("hash+hot:online=true+int4:train=true", r"write \+int4:train=true before"),
        ("hash+hot:counts=3", "counts"),
        ("hash+hot+hot:rows=3", "twice"),
    ],
)
def test_what_cannot_be_is_refused(spec, words):
    with pytest.raises(InputError, match=words):
        create(spec, 100, 8)


def test_counts_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"counts must be a tensor \(100,\)"):
        Hot(create("hash", 100, 8), counts=torch.ones(99))
    with pytest.raises(InputError, match="give counts, or let online=true count"):
        Hot(create("hash", 100, 8), counts=torch.ones(100), online=True)
    with pytest.raises(InputError, match="fixed"):
        create("hash+hot", 100, 8).fill(torch.tensor([1]))
