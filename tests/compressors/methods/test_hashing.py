"""Hashing trick: exact integers, chunks, spread and independence of the hashes, knobs and budget."""

import pytest
import torch

from embpress.compressors import BudgetError, InputError, create
from embpress.compressors.methods.hashing import HashingTrick

PRIME = 2038074743
SEEDS = range(20)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows_of(table, ids):
    return table.part_rows(ids, {name: getattr(table, name) for name in table.constants}) - table.base


def naive_hash(table, i, part):
    """The two rounds in Python's integers."""
    a, b, c, d = table.coefficients[:, part].tolist()
    x = (i * a + b) % PRIME
    x = ((x ^ (x >> 15)) * c + d) % PRIME
    return (x ^ (x >> 15)) % table.k


def chi_square(counts, expected):
    """Per degree of freedom: near 1 for a random spread."""
    return float(((counts - expected) ** 2 / expected).sum() / (counts.numel() - 1))


def test_hashes_equal_python_integers_at_any_id():
    table = create("hash:k=1009:parts=4", 2**31 - 1, 8, generator=seeded())
    table.coefficients[:, 3] = PRIME - 1  # the largest products
    ids = [0, 1, 2**24 + 1, 2**25 + 1, 10**9, PRIME - 1, 2**31 - 2]
    want = [[naive_hash(table, i, part) for part in range(4)] for i in ids]
    assert rows_of(table, torch.tensor(ids)).tolist() == want


def test_neighbours_past_two_to_the_24_are_told_apart():
    table = create("hash:k=1000003", 2**26, 1, generator=seeded())
    ids = torch.arange(2**25 - 500, 2**25 + 500)
    assert rows_of(table, ids).unique().numel() > 990  # 0.5 collisions expected; in float32 at most 667 ids are left


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_row_is_its_chunks(parts):
    table = create(f"hash:k=50:parts={parts}", 1000, 8, dtype=torch.float64, generator=seeded())
    assert table.part_tables.shape == (50 * parts, 8 // parts)
    for i in (0, 1, 517, 999):
        chunks = [table.part_tables[50 * part + naive_hash(table, i, part)] for part in range(parts)]
        assert torch.equal(table.lookup(torch.tensor(i)), torch.cat(chunks))


def test_a_bag_is_the_sum_of_its_rows():
    table = create("hash:k=50:parts=2", 1000, 8, dtype=torch.float64)
    rows = table.to_dense()
    torch.testing.assert_close(table(torch.tensor([[3, 999]]))[0], rows[3] + rows[999])


@pytest.mark.parametrize("stride", [1, 64, 1000])
def test_spread_is_near_uniform(stride):
    ids = torch.arange(50_000) * stride
    for seed in SEEDS:
        table = create("hash:k=997", 50_000 * stride, 2, generator=seeded(seed))
        counts = torch.bincount(rows_of(table, ids)[:, 0], minlength=997).double()
        # 996 degrees of freedom: standard deviation 0.045
        assert 0.8 < chi_square(counts, 50_000 / 997) < 1.2, seed


def test_parts_hash_independently():
    ids = torch.arange(50_000)
    for seed in SEEDS:
        a, b = rows_of(create("hash:k=30:parts=2", 50_000, 2, generator=seeded(seed)), ids).unbind(1)
        joint = torch.bincount(a * 30 + b, minlength=900).double().view(30, 30)
        expected = joint.sum(1, keepdim=True) * joint.sum(0) / 50_000
        assert 0.75 < chi_square(joint, expected) < 1.25, seed


def test_more_parts_tell_more_ids_apart():
    n = 3000
    whole = [
        create(f"hash:k=100:parts={parts}", n, 8, generator=seeded()).to_dense().unique(dim=0) for parts in (1, 2, 4)
    ]
    assert len(whole[0]) <= 100
    assert len(whole[1]) > 0.8 * n * (1 - n / 2 / 100**2)
    assert len(whole[2]) == n


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_initial_variance_is_a_full_tables(parts):
    n = 3000
    dense = create(f"hash:k=1000:parts={parts}", n, 32, generator=seeded()).to_dense()
    assert float(dense.var()) == pytest.approx(1 / (3 * n), rel=0.03)
    assert float(dense.abs().max()) <= n**-0.5


def test_gradient_of_an_id_reaches_its_chunks_only():
    table = create("hash:k=50:parts=2", 1000, 8)
    table.lookup(torch.tensor([123, 123])).sum().backward()
    want = torch.zeros(100, 4)
    for part in range(2):
        want[50 * part + naive_hash(table, 123, part)] = 2
    assert torch.equal(table.part_tables.grad, want)


def test_default_k_is_a_tenth():
    assert create("hash", 1001, 8).k == 101
    assert create("hash", 3, 8).k == 1


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_budget_is_filled_and_its_end_is_exact(parts):
    constants = 8 * (5 * parts + 1)  # coefficients, starts, k
    table = create(f"hash:parts={parts}:budget=10000", 5000, 8)
    assert table.k == (10_000 - constants) // 32
    assert table.ledger().serving_bytes == 32 * table.k + constants
    assert HashingTrick.serving_size(5000, 8, k=table.k, parts=parts) == table.ledger().serving_bytes
    assert create(f"hash:parts={parts}:budget={32 + constants}", 5000, 8).k == 1
    with pytest.raises(BudgetError) as error:
        create(f"hash:parts={parts}:budget={31 + constants}", 5000, 8)
    assert error.value.smallest == 32 + constants


@pytest.mark.parametrize(
    ("spec", "says"), [("hash:k=0", "k=0"), ("hash:parts=0", "parts=0"), ("hash:parts=3", "3 parts")]
)
def test_bad_knobs_are_named(spec, says):
    with pytest.raises(InputError, match=says):
        create(spec, 1000, 8)


def signed(spec, n=1000, dim=8, **options):
    return create(spec, n, dim, dtype=torch.float64, generator=seeded(), **options)


def naive_signed_row(table, i):
    """The sum of signed rows, hash by hash in Python's integers."""
    total = torch.zeros(table.embedding_dim, dtype=torch.float64)
    for part in range(table.parts):
        a, b, c, d = table.sign_coefficients[:, part].tolist()
        x = (i * a + b) % PRIME
        x = ((x ^ (x >> 15)) * c + d) % PRIME
        total += (1 - 2 * ((x ^ (x >> 15)) % 2)) * table.part_tables.detach()[naive_hash(table, i, part)]
    return total


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_signed_rows_are_sums_from_one_table(parts, sparse):
    table = signed(f"hash:k=50:parts={parts}:sign=true", sparse=sparse)
    assert table.part_tables.shape == (50, 8)
    ids = torch.tensor([0, 1, 517, 999, 1])
    torch.testing.assert_close(table.lookup(ids), torch.stack([naive_signed_row(table, i) for i in ids.tolist()]))


def test_unsigned_sums_are_from_one_table():
    table = signed("hash:k=50:parts=2:op=add")
    assert table.part_tables.shape == (50, 8)
    for i in (0, 517):
        rows = [table.part_tables[naive_hash(table, i, part)] for part in range(2)]
        torch.testing.assert_close(table.lookup(torch.tensor(i)), rows[0] + rows[1])


def test_an_id_whose_hashes_meet_gets_the_gradient_twice():
    table = signed("hash:k=3:parts=2:op=add", 100)
    ids = torch.arange(100)
    first, second = rows_of(table, ids).unbind(1)
    i = int((first == second).nonzero()[0])
    table.lookup(torch.tensor(i)).sum().backward()
    assert table.part_tables.grad[first[i]].tolist() == [2.0] * 8
    assert float(table.part_tables.grad.sum()) == 16


def test_signs_are_even_and_independent_of_rows():
    table = create("hash:k=2:parts=2:sign=true", 20_000, 4, generator=seeded())
    constants = {name: getattr(table, name) for name in table.constants}
    signs = table.part_signs(torch.arange(20_000), constants)
    rows = rows_of(table, torch.arange(20_000))
    assert signs.abs().unique().tolist() == [1]
    both = torch.cat([signs, 2 * rows - 1], dim=1).double()
    # 20,000 draws: standard deviation of a mean of ±1 is 0.007
    assert float(both.mean(0).abs().max()) < 0.035
    assert float((both.T @ both / 20_000 - torch.eye(4)).abs().max()) < 0.035


def test_a_count_sketch_is_unbiased():
    """The sketch of a table, read back, is the table on average over the hashes (Charikar et al. 2002)."""
    wanted = torch.randn(60, 4, dtype=torch.float64, generator=seeded(1))
    total = torch.zeros_like(wanted)
    for seed in range(400):
        table = create("hash:k=20:sign=true", 60, 4, dtype=torch.float64, generator=seeded(seed))
        with torch.no_grad():
            table.part_tables.zero_()
        table.lookup(torch.arange(60)).backward(wanted)  # the gradient is the sketch
        with torch.no_grad():
            table.part_tables.copy_(table.part_tables.grad)
            total += table.lookup(torch.arange(60))
    # two others share a row: standard deviation √3 for one sketch, 0.09 for 400
    assert float((total / 400 - wanted).abs().max()) < 0.45
    assert float((total / 400 - wanted).square().mean().sqrt()) < 0.11


@pytest.mark.parametrize("knobs", ["sign=true", "parts=2:sign=true", "parts=4:op=add"])
def test_sums_start_with_a_full_tables_variance(knobs):
    dense = create(f"hash:k=1000:{knobs}", 3000, 32, generator=seeded()).to_dense()
    assert float(dense.var()) == pytest.approx(1 / 9000, rel=0.06)


def test_signs_take_no_more_rows_than_chunks():
    chunks, sums = (create(f"hash:parts=2{sign}:ratio=10", 5000, 8) for sign in ("", ":sign=true"))
    assert sums.ledger().serving_bytes <= 16_000
    assert sums.k == chunks.k - 2 == sums.part_tables.shape[0]  # 64 bytes of signs' hashes


def test_state_dicts_tell_forms_apart():
    forms = [signed(f"hash:k=50:parts=1{form}") for form in ("", ":op=add", ":sign=true")]
    for source in forms:
        for target in forms:
            if source is not target:
                with pytest.raises((InputError, RuntimeError), match="another table"):
                    target.load_state_dict(source.state_dict())


@pytest.mark.parametrize(("spec", "says"), [("hash:op=mult", "mult"), ("hash:sign=true:op=concat", "op=add")])
def test_forms_that_are_not_there_are_named(spec, says):
    with pytest.raises(InputError, match=says):
        create(spec, 1000, 8)
    with pytest.raises(InputError, match=says):
        create(f"{spec}:ratio=10", 1000, 8)
