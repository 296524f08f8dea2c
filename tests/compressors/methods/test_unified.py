"""Unified embedding: one table for all features, their own hash functions, budgets, copies."""

import copy

import pytest
import torch

from embpress.compressors import BudgetError, InputError, TableCollection, TableConfig, create, plan
from embpress.compressors.methods.unified import Unified
from embpress.compressors.spec import parse

PRIME = 2038074743
SIZES = (700, 300, 1500)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def collection(method="unified", ratio=10, dtype=torch.float64, sizes=SIZES, generator=0):
    configs = [TableConfig(n, 8, f"t{n}") for n in sizes]
    source = None if generator is None else seeded(generator)
    return TableCollection.build(configs, method, ratio=ratio, generator=source, dtype=dtype)


def naive_rows(table, ids):
    """Chunks looked up hash by hash, in Python's integers."""
    values, rows = table.part_tables.detach(), []
    for i in ids:
        chunks = []
        for part in range(table.parts):
            a, b, c, d = table.coefficients[:, part].tolist()
            x = (i * a + b) % PRIME
            x = ((x ^ (x >> 15)) * c + d) % PRIME
            chunks.append(values[(x ^ (x >> 15)) % len(values)])
        rows.append(torch.cat(chunks))
    return torch.stack(rows)


@pytest.mark.parametrize("spec", ["unified:parts=1", "unified", "unified:parts=4"])
def test_all_features_look_up_in_one_table_by_their_own_hashes(spec):
    tables = collection(spec)
    assert [name for name, _ in tables.named_parameters()] == ["groups.0.part_tables"]
    assert len({id(table.part_tables) for table in tables.tables}) == 1
    ids = torch.tensor([[0, 0, 0], [699, 299, 1499], [5, 5, 5]])
    out = tables(ids)
    for t, table in enumerate(tables.tables):
        want = naive_rows(table, ids[:, t].tolist())
        assert torch.equal(out[:, t], want)
        assert torch.equal(table.lookup(ids[:, t]), want)
    assert not torch.equal(out[2, 0], out[2, 1])


@pytest.mark.parametrize("generator", [0, None])
def test_features_hash_independently(generator):
    """Equal ids of two features of equal size meet as rarely as those of one random function do."""
    tables = collection("unified:parts=1", sizes=(5000, 5000), ratio=10, generator=generator).tables
    rows = [table.part_rows(torch.arange(5000), {n: table.constants[n] for n in table.constants}) for table in tables]
    k = tables[0].k
    assert int((rows[0] == rows[1]).sum()) < 5 * 5000 / k + 10
    counts = torch.bincount(torch.cat(rows).flatten(), minlength=k).double()
    assert 0.75 < float(((counts - 10_000 / k) ** 2 / (10_000 / k)).sum() / (k - 1)) < 1.3


def test_gradients_of_all_features_add_up_in_the_table():
    tables = collection()
    ids = torch.tensor([[0, 0, 0], [699, 299, 1499], [0, 7, 7]])
    grad = torch.randn(3, 3, 8, dtype=torch.float64, generator=seeded(1))
    tables(ids).backward(grad)
    table = tables.tables[0].part_tables
    found, table.grad = table.grad.clone(), None
    for t, one in enumerate(tables.tables):
        one.lookup(ids[:, t]).backward(grad[:, t])
    torch.testing.assert_close(found, table.grad, rtol=1e-12, atol=1e-12)
    assert float(found.sum()) == pytest.approx(float(grad.sum()), abs=1e-9)


@pytest.mark.parametrize("spec", ["unified:parts=1", "unified", "unified:parts=4", "unified+bf16"])
@pytest.mark.parametrize("ratio", [2, 10, 50])
def test_a_ratio_of_all_features_is_kept_and_used(spec, ratio):
    full = sum(4 * n * 8 for n in SIZES)
    tables = collection(spec, ratio, torch.float32)
    assert full / ratio - 40 <= tables.serving_bytes <= full / ratio
    assert abs(sum(tables.table_bytes()) - tables.serving_bytes) <= len(SIZES)
    assert tables.fold().serving_bytes == tables.serving_bytes


def test_the_smallest_size_of_all_features_is_exact():
    configs = [TableConfig(n, 8) for n in SIZES]
    smallest = 16 + 3 * 8 * 11  # one row of width 4, hash functions of three features
    made = plan(parse("unified"), configs, budget=smallest)
    assert sum(table.bytes for table in made.tables) == smallest
    with pytest.raises(BudgetError) as error:
        plan(parse("unified"), configs, budget=smallest - 1)
    assert error.value.smallest == smallest


def test_the_table_and_its_training_state_count_once():
    tables = collection(dtype=torch.float32)
    size, own = 4 * tables.tables[0].part_tables.numel(), 3 * 8 * 11
    assert tables.serving_bytes == size + own
    assert tables.ledger("adagrad").training_bytes == 3 * size + own
    sparse = TableCollection.build([TableConfig(n, 8) for n in SIZES], "unified", ratio=10, sparse=True)
    # of a sparse gradient each feature has its own rows and their numbers
    gradients = [entry for entry in sparse.ledger(batch_size=5).training if "gradient" in entry.name]
    assert [(entry.bytes, entry.owner) for entry in gradients] == [(5 * 2 * (16 + 8), None)] * 3


def test_sharing_survives_copies_and_folding():
    tables = collection()
    ids = torch.tensor([[1, 2, 3]])
    for twin in (copy.deepcopy(tables), tables.fold()):
        assert len({id(table.part_tables) for table in twin.tables}) == 1
        assert torch.equal(twin(ids), tables(ids))


def test_sharing_by_hand_equals_the_formula():
    first = Unified(700, 8, k=50, generator=seeded(), dtype=torch.float64)
    second = Unified(300, 8, part_tables=first.part_tables, feature=1, generator=seeded(1))
    assert first.part_tables is second.part_tables
    assert (second.k, second.parts) == (50, 2)
    assert torch.equal(second.lookup(torch.tensor([3, 299])), naive_rows(second, [3, 299]))


def test_features_of_other_widths_take_what_they_need_of_the_chunks():
    options = {"dtype": torch.float64, "generator": seeded()}
    shapes = [(700, 8), (300, 4), (200, 1), (50, 7)]
    tables = list(Unified.build_tables(shapes, [{}] * 4, [options] * 4))
    assert [table.parts for table in tables] == [2, 1, 1, 2]
    assert len({id(table.part_tables) for table in tables}) == 1
    for table, (n, dim) in zip(tables, shapes):
        ids = [3, n - 1]
        assert torch.equal(table.lookup(torch.tensor(ids)), naive_rows(table, ids)[:, :dim])


@pytest.mark.parametrize("sparse", [False, True])
def test_chunks_need_not_divide_the_width(sparse):
    table = create("unified:parts=3:k=40", 100, 10, sparse=sparse, dtype=torch.float64, generator=seeded())
    assert table.part_tables.shape == (40, 4)
    ids = torch.tensor([[3, 99], [3, 0]])
    out = table(ids)
    torch.testing.assert_close(out, naive_rows(table, [3, 3])[:, :10] + naive_rows(table, [99, 0])[:, :10])
    out.sum().backward()
    assert float(table.part_tables.grad.to_dense().sum()) == 40


def test_features_train_together_where_chunks_do_not_divide_the_width():
    tables = collection("unified:parts=3:k=40", ratio=None)
    ids = torch.tensor([[3, 99, 8], [3, 0, 1]])
    grad = torch.randn(2, 3, 8, dtype=torch.float64, generator=seeded(1))
    tables(ids).backward(grad)
    table = tables.tables[0].part_tables
    found, table.grad = table.grad.clone(), None
    for t, one in enumerate(tables.tables):
        one.lookup(ids[:, t]).backward(grad[:, t])
    torch.testing.assert_close(found, table.grad, rtol=1e-12, atol=1e-12)


def test_initial_values_are_those_of_the_largest_feature():
    values = collection().tables[1].part_tables.detach()
    assert float(values.abs().max()) <= 1500**-0.5
    assert float(values.var()) == pytest.approx(1 / (3 * 1500), rel=0.15)


def test_defaults():
    table = create("unified", 1000, 8)
    assert (table.parts, table.k, table.part_tables.numel()) == (2, 200, 800)  # a tenth
    assert create("unified", 1000, 1).parts == 1
    tables = TableCollection.build([TableConfig(n, 8) for n in SIZES], "unified").tables
    assert tables[0].part_tables.numel() == 2500 * 8 // 10


@pytest.mark.parametrize(
    ("spec", "says"), [("unified:k=0", "k=0"), ("unified:parts=9", "parts=9"), ("unified:parts=0", "parts=0")]
)
def test_bad_knobs_are_named(spec, says):
    with pytest.raises(InputError, match=says):
        create(spec, 100, 8)


def test_a_shared_table_of_another_width_is_refused():
    first = Unified(700, 8, k=50)
    with pytest.raises(InputError, match="parts=4"):
        Unified(300, 8, parts=4, part_tables=first.part_tables, feature=1)
    assert Unified(300, 12, part_tables=first.part_tables, feature=1).parts == 3


def test_a_table_from_trained_ones_is_the_mean_of_what_it_stands_for():
    weights = [torch.randn(n, 8, dtype=torch.float64, generator=seeded(n)) for n in SIZES]
    options = [{"generator": seeded()}] * 3
    tables, errors = Unified.fit_tables(weights, [{"k": 60}] * 3, options)
    assert all(0 < error < 1 for error in errors)
    chunks, rows = [], []
    for table, weight in zip(tables, weights):
        constants = {name: table.constants[name] for name in table.constants}
        rows.append(table.part_rows(torch.arange(len(weight)), constants).flatten())
        chunks.append(weight.view(-1, 4))
    slot = torch.cat(rows)
    mean = torch.zeros(60, 4, dtype=torch.float64).index_add_(0, slot, torch.cat(chunks))
    torch.testing.assert_close(tables[0].part_tables.detach(), mean / torch.bincount(slot, minlength=60).unsqueeze(1))
    with pytest.raises(InputError, match="fit_tables"):
        Unified.from_dense(weights[0], part_tables=tables[0].part_tables)
