"""ROBE-Z: one array for all tables, the published hash, gradients, hash quality, budgets."""

import copy

import pytest
import torch

from embpress.compressors import BudgetError, InputError, TableCollection, TableConfig, create
from embpress.compressors.methods.robe import Robe

PRIME = 2038074743
SHAPES = [(700, 10), (300, 10), (1500, 10)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def naive_places(x, coefficients, size, z, dim):
    """Where the elements of global row x lie, and their signs, in Python's integers."""
    r = coefficients.tolist()
    positions = []
    for column in range(dim):
        j, within = divmod(column, z)
        start = (x * r[2] + j * r[1] + r[0]) % PRIME % (size - z + 1)
        sign = 1 if len(r) == 3 else 1 - 2 * ((x * r[5] + column * r[4] + r[3]) % PRIME % 2)
        positions.append((start + within, sign))
    return positions


def naive_rows(table, x):
    values = table.memory.tolist()
    return [
        [
            sign * values[at]
            for at, sign in naive_places(i, table.coefficients, len(values), table.z, table.embedding_dim)
        ]
        for i in x
    ]


def collection(method="robe:z=4", ratio=10, dtype=torch.float64):
    configs = [TableConfig(n, dim) for n, dim in SHAPES]
    return TableCollection.build(configs, method, ratio=ratio, generator=seeded(), dtype=dtype)


@pytest.mark.parametrize("sign", ["false", "true"])
@pytest.mark.parametrize("z", range(1, 11))
def test_every_z_equals_the_formula(z, sign):
    table = create(f"robe:z={z}:size=333:sign={sign}", 1000, 10, dtype=torch.float64, generator=seeded())
    ids = torch.tensor([0, 1, 999, 57, 1])
    assert table.lookup(ids).tolist() == naive_rows(table, ids.tolist())


def test_tables_of_a_model_share_one_array_by_global_row():
    tables = collection()
    before = [0, 700, 1000]
    assert len({id(table.memory) for table in tables.tables}) == 1
    assert len(list(tables.parameters())) == 1
    ids = torch.tensor([[0, 0, 0], [699, 299, 1499], [5, 5, 5]])
    out = tables(ids)
    for t, table in enumerate(tables.tables):
        want = torch.tensor(naive_rows(table, [before[t] + i for i in ids[:, t].tolist()]), dtype=torch.float64)
        assert torch.equal(out[:, t], want)
        assert torch.equal(table.lookup(ids[:, t]), want)
    assert not torch.equal(out[2, 0], out[2, 1])  # the same id of two tables is two rows


def test_bags_of_a_model_are_sums_of_the_formulas_rows():
    tables = collection()
    ids, offsets = torch.tensor([3, 4, 5, 6]), torch.tensor([0, 3, 3])
    out = tables([(ids, offsets)] * 3)
    for t, before in enumerate([0, 700, 1000]):
        rows = torch.tensor(naive_rows(tables.tables[t], (ids + before).tolist()), dtype=torch.float64)
        want = torch.stack([rows[:3].sum(0), torch.zeros(10, dtype=torch.float64), rows[3]])
        torch.testing.assert_close(out[:, t], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("method", "coefficients"), [("robe:z=4", 3), ("robe:z=4:sign=true", 6)])
def test_the_shared_array_is_counted_once(method, coefficients):
    tables = collection(method, dtype=torch.float32)
    full = sum(4 * n * dim for n, dim in SHAPES)
    size = (full // 10 - 8 * coefficients) // 4
    assert tables.tables[0].memory.numel() == size
    assert tables.serving_bytes == 4 * size + 8 * coefficients
    assert 10 <= tables.ratio < 10.01
    # weights, one gradient and one state of the array, once
    assert tables.ledger("adagrad").training_bytes == 3 * 4 * size + 8 * coefficients
    assert abs(sum(tables.table_bytes()) - tables.serving_bytes) <= len(SHAPES)


def test_sharing_survives_copies_and_folding():
    tables = collection()
    for twin in (copy.deepcopy(tables), tables.fold()):
        assert len({id(table.memory) for table in twin.tables}) == 1
        assert twin.serving_bytes == tables.serving_bytes
        ids = torch.tensor([[1, 2, 3]])
        assert torch.equal(twin(ids), tables(ids))


def test_sharing_by_hand_equals_the_model_that_shares():
    tables = collection()
    source = tables.tables[0]
    a = Robe(700, 10, z=4, memory=source.memory, coefficients=source.coefficients)
    b = Robe(300, 10, z=4, memory=a.memory, coefficients=a.coefficients, row_offset=700)
    c = Robe(1500, 10, z=4, memory=a.memory, coefficients=a.coefficients, row_offset=1000)
    ids = torch.tensor([[0, 1, 2], [699, 299, 1499]])
    by_hand = torch.stack([table.lookup(ids[:, t]) for t, table in enumerate((a, b, c))], dim=1)
    assert torch.equal(by_hand, tables(ids))
    whole = a.ledger() + b.ledger() + c.ledger()
    assert whole.serving_bytes == tables.serving_bytes
    by_hand.sum().backward()
    assert a.memory.grad is b.memory.grad is c.memory.grad


@pytest.mark.parametrize("sign", ["false", "true"])
@pytest.mark.parametrize("z", [1, 3, 10])
def test_gradient_of_all_tables_is_the_scatter(z, sign):
    tables = collection(f"robe:z={z}:sign={sign}")
    first = tables.tables[0]
    ids = torch.tensor([[0, 0, 0], [699, 299, 1499], [0, 7, 7]])
    grad = torch.randn(3, 3, 10, dtype=torch.float64, generator=seeded(1))
    want = [0.0] * first.memory.numel()
    for row, values in zip(ids.tolist(), grad.tolist()):
        for t, before in enumerate([0, 700, 1000]):
            for (at, factor), value in zip(
                naive_places(before + row[t], first.coefficients, len(want), z, 10), values[t]
            ):
                want[at] += factor * value
    tables(ids).backward(grad)
    torch.testing.assert_close(first.memory.grad, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("n", "size", "dim", "z", "uncovered"),
    [
        (20_000, 10_000, 16, 4, 0.001),
        (3_000, 3_000, 8, 8, 0.05),
        (5_000, 2_000, 16, 16, 0.01),
        (12_000, 10_000, 8, 1, 0.001),
    ],
)
def test_no_draw_of_the_hash_leaves_much_of_the_array_unused(n, size, dim, z, uncovered):
    for seed in range(50):
        table = Robe(n, dim, z=z, size=size, generator=seeded(seed))
        table.lookup(torch.arange(n)).sum().backward()
        touched = table.memory.grad  # how many elements of the table each slot serves
        assert float((touched == 0).float().mean()) <= uncovered, seed
        assert float(touched.max()) <= 4 * n * dim / size, seed


def test_hash_is_drawn_so_that_frequent_ids_share_little():
    """With an id of rank r weighing 1/r, the load of the array's elements is more even than under a random draw."""
    rank = torch.arange(1, 2001, dtype=torch.float64)

    def unevenness(tables):
        memory = tables.tables[0].memory
        memory.grad = None
        rows = tables((rank.long() - 1)[:, None].expand(-1, 3))
        (rows / rank[:, None, None]).sum().backward()
        return float(memory.grad.square().sum())

    for seed in range(10):
        tables = TableCollection.build(
            [TableConfig(2000, 8)] * 3, "robe:z=8", ratio=10, generator=seeded(seed), dtype=torch.float64
        )
        drawn = unevenness(tables)
        random = []
        for other in range(15):
            tables.tables[0].coefficients.copy_(torch.randint(1, 2038074743, (3,), generator=seeded(100 + other)))
            random.append(unevenness(tables))
        assert drawn < sorted(random)[len(random) // 3], seed


def test_initial_values_are_those_of_the_largest_table():
    memory = collection().tables[1].memory.detach()
    assert float(memory.abs().max()) <= 1500**-0.5
    assert float(memory.var()) == pytest.approx(1 / (3 * 1500), rel=0.1)


@pytest.mark.parametrize("spec", ["robe:z=0", "robe:z=11", "robe:z=8:size=7"])
def test_bad_chunk_sizes_are_refused(spec):
    with pytest.raises(InputError, match="z="):
        create(spec, 100, 10)


def test_defaults():
    assert create("robe", 1000, 10).z == 2
    assert [create("robe", 1000, dim).z for dim in (1, 64, 128, 512)] == [1, 16, 32, 32]
    assert create("robe", 1000, 64).memory.numel() == 6400
    assert create("robe", 5, 64).memory.numel() == 32
    assert create("robe", 1, 64).memory.numel() == 16


@pytest.mark.parametrize(("spec", "coefficients"), [("robe:z=4", 3), ("robe:z=4:sign=true", 6)])
def test_budget_is_filled_and_its_end_is_exact(spec, coefficients):
    table = create(f"{spec}:budget=1000", 1000, 10)
    assert 997 <= table.ledger().serving_bytes <= 1000
    smallest = 4 * 4 + 8 * coefficients
    assert create(f"{spec}:budget={smallest}", 1000, 10).ledger().serving_bytes == smallest
    with pytest.raises(BudgetError) as error:
        create(f"{spec}:budget={smallest - 1}", 1000, 10)
    assert error.value.smallest == smallest


def test_a_given_array_decides_the_size():
    source = create("robe:size=500", 1000, 10)
    table = create("robe:ratio=2", 1000, 10, memory=source.memory, coefficients=source.coefficients, row_offset=1000)
    assert table.memory is source.memory


def test_start_in_a_spec_moves_all_tables_of_a_model():
    tables = collection("robe:z=4:row_offset=50")
    for table, start in zip(tables.tables, [50, 750, 1050]):
        want = torch.tensor(naive_rows(table, [start + 7]), dtype=torch.float64)
        assert torch.equal(table.lookup(torch.tensor([7])), want)


@pytest.mark.parametrize("spec", ["robe:row_offset=5:ratio=10", "robe:row_offset=5"])
def test_start_in_a_spec_moves_the_rows(spec):
    table = create(spec, 100, 10, dtype=torch.float64, generator=seeded())
    assert table.lookup(torch.tensor([0, 99])).tolist() == naive_rows(table, [5, 104])
