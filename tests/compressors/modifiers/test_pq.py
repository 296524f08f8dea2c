"""`+pq`: rows as numbers of centres, as near as k-means gets them, alone and between other modifiers."""

import copy

import numpy as np
import pytest
import torch
from scipy.cluster.vq import kmeans2

from embpress.compressors import BudgetError, InputError, TableCollection, TableConfig, create, parse, plan
from embpress.compressors.ledger import held_bytes

CONFIGS = [TableConfig(1500, 16, "a"), TableConfig(300, 16, "b"), TableConfig(20, 16, "small")]
METHODS = ["full", "hash:k=400:parts=2", "qr:op=concat:c=7", "mlet", "robe:size=3000", "tt:rank=4"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ids_of(configs, count=40):
    return torch.stack([torch.arange(count) * 7 % n for n, _, _ in configs], 1)


@pytest.mark.parametrize("parts", [1, 3, 4, 16, 40])
@pytest.mark.parametrize(("rows", "bits"), [(256, 8), (1, 8), (97, 8), (16, 4), (4, 2), (2, 1)])
def test_as_many_rows_as_centres_are_served_as_they_are(rows, bits, parts):
    table = create(f"full+pq:parts={parts}:bits={bits}", rows, 16, generator=seeded())
    assert torch.equal(table.fold().to_dense(), table.to_dense())


def test_rows_that_are_few_different_ones_are_exact_too():
    table = create("full+pq:parts=2", 5000, 8, generator=seeded())
    with torch.no_grad():
        table.table.weight.copy_(table.table.weight[:200].repeat(25, 1))
    assert torch.equal(table.fold().to_dense(), table.to_dense())


@pytest.mark.parametrize(("parts", "widths"), [(2, [5, 5]), (4, [3, 3, 2, 2])])
def test_the_error_is_that_of_k_means(parts, widths):
    """No more than 3 in 100 above SciPy's own, from its own start; each part is fitted by itself."""
    table = create(f"full+pq:parts={parts}:bits=4", 4000, 10, generator=seeded())
    with torch.no_grad():
        table.table.weight.normal_(generator=seeded())
    trained, served = table.to_dense(), table.fold().to_dense()
    for own, now in zip(trained.split(widths, 1), served.split(widths, 1)):
        assert len(torch.unique(now, dim=0)) == 16
        centres, which = kmeans2(own.numpy(), 16, iter=30, minit="++", seed=1)
        theirs = np.square(own.numpy() - centres[which]).sum(1).mean()
        mine = (own - now).square().sum(1)
        assert mine.mean() <= 1.03 * theirs
        centres = torch.unique(now, dim=0)
        nearest = torch.cdist(own.double(), centres.double()).square().amin(1)
        torch.testing.assert_close(mine.double(), nearest, atol=1e-5, rtol=1e-4)


def test_more_parts_and_bits_are_nearer():
    def error(knobs):
        table = create(f"full+pq:{knobs}", 3000, 16, generator=seeded())
        return float((table.fold().to_dense() - table.to_dense()).norm())

    errors = [error(knobs) for knobs in ("parts=2:bits=4", "parts=4:bits=4", "parts=4", "parts=8")]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_the_bytes_are_codes_and_codebooks():
    assert create("full+pq:parts=4", 10_000, 16).ledger().serving_bytes == 10_000 * 4 + 4 * 256 * 16
    assert create("full+pq:parts=4:bits=2", 10_000, 16).ledger().serving_bytes == 10_000 + 4 * 4 * 16
    assert create("full+pq:parts=5:bits=2", 10_000, 16).ledger().serving_bytes == 10_000 * 2 + 4 * 4 * 16
    assert create("full+pq:parts=4", 100, 16).ledger().serving_bytes == 100 * 4 + 4 * 100 * 16
    hashed, constants = create("hash:k=1000+pq:parts=4", 10_000, 16), 8 * (4 + 1 + 1)
    assert hashed.ledger().serving_bytes == 1000 * 4 + 4 * 256 * 16 + constants


@pytest.mark.parametrize(
    ("method", "modifiers"),
    [*((m, "pq:parts=3:bits=4") for m in METHODS), *(("hash", f"pq+{m}") for m in ("int8", "int4:by=row", "bf16"))],
)
def test_the_ledger_on_no_memory_is_what_is_served(method, modifiers):
    planned = TableCollection.build(CONFIGS, f"{method}+{modifiers}", device="meta", min_rows=1)
    tables = TableCollection.build(CONFIGS, f"{method}+{modifiers}", generator=seeded(), min_rows=1)
    folded = tables.fold()
    assert planned.serving_bytes == tables.serving_bytes == folded.serving_bytes == held_bytes(folded)


@pytest.mark.parametrize(
    ("method", "modifiers"),
    [*((m, "pq:parts=3") for m in METHODS), *(("hash", m) for m in ("bf16+pq", "pq+int8", "pq:parts=3+int4:by=row"))],
)
def test_all_tables_at_once_are_the_tables_one_by_one(method, modifiers):
    """Tables with codebooks of different sizes too, in one group."""
    folded = TableCollection.build(CONFIGS, f"{method}+{modifiers}", generator=seeded(), min_rows=1).fold()
    assert len(folded.groups) == 1
    ids = ids_of(CONFIGS)
    alone = torch.stack([table.lookup(ids[:, t]) for t, table in enumerate(folded.tables)], dim=1)
    assert torch.equal(folded(ids), alone)
    assert alone.dtype == torch.float32
    copied = copy.deepcopy(folded.tables[1])
    assert torch.equal(copied.lookup(ids[:, 1]), alone[:, 1])


def test_small_tables_stay_full():
    tables = TableCollection.build(CONFIGS, "full+pq:parts=4", min_rows=200, generator=seeded())
    assert [table.modifiers for table in tables.tables] == [("pq:parts=4",), ("pq:parts=4",), ()]


def test_a_state_dict_of_what_is_served_loads():
    first, second = (TableCollection.build(CONFIGS, "hash+pq:parts=4", generator=seeded(s)).fold() for s in (1, 2))
    ids = ids_of(CONFIGS)
    assert not torch.equal(first(ids), second(ids))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(ids), second(ids))


def test_folding_is_the_same_every_time_and_leaves_training_alone():
    table = create("full+pq:parts=2:bits=4", 2000, 8, generator=seeded())
    before = table.to_dense()
    assert torch.equal(table.fold().to_dense(), table.fold().to_dense())
    assert torch.equal(table.to_dense(), before)
    assert not torch.equal(table.fold().to_dense(), before)


def test_a_table_in_double_comes_back_in_double():
    table = create("full+pq:parts=4", 100, 16, generator=seeded(), dtype=torch.float64)
    assert table.fold().to_dense().dtype == torch.float64
    assert table.ledger().serving_bytes == held_bytes(table.fold()) == 100 * 4 + 8 * 100 * 16


def test_codebooks_in_few_bits_lose_little_more():
    """What int8 adds to the error of the codes is far below it."""
    plain, fewer = (create(f"full+pq:parts=4{more}", 3000, 16, generator=seeded()) for more in ("", "+int8"))
    want = plain.to_dense()
    error, more = ((table.fold().to_dense() - want).norm() for table in (plain, fewer))
    assert error < more < 1.02 * error
    assert fewer.ledger().serving_bytes == 3000 * 4 + 256 * 16 + 2 * 2 * 16


def test_int8_inside_is_written_out():
    table = create("full+int8+pq:parts=4", 200, 16, generator=seeded())
    assert torch.equal(table.fold().to_dense(), create("full+int8", 200, 16, generator=seeded()).fold().to_dense())


@pytest.mark.parametrize("spec", ["hash+pq:parts=4", "hash:parts=2+pq:parts=2+int8"])
def test_a_ratio_counts_the_whole_expression(spec):
    configs = [TableConfig(50_000, 16, "a"), TableConfig(7000, 16, "b"), TableConfig(20, 16, "small")]
    size = sum(4 * n * dim for n, dim, _ in configs) // 20
    made = plan(parse(spec), configs, ratio=20)
    assert 0.9 * size < sum(table.bytes for table in made.tables) <= size
    bare = plan(parse(spec.split("+")[0]), configs, ratio=20)
    assert made.tables[0].method.knobs != bare.tables[0].method.knobs


@pytest.mark.parametrize("method", ["tt", "robe"])
def test_knobs_of_a_table_that_is_written_out_stay_as_they_are(method):
    """They make no difference to what is served: either it fits, or nothing does."""
    served = 5000 * 4 + 4 * 256 * 16
    table = create(f"{method}+pq:parts=4", 5000, 16, budget=served, generator=seeded())
    plain = create(method, 5000, 16)
    assert (table.knobs()["rank"] == plain.rank) if method == "tt" else (table.knobs()["size"] == plain.size)
    assert held_bytes(table.fold()) == served
    with pytest.raises(BudgetError) as error:
        create(f"{method}+pq:parts=4", 5000, 16, budget=served - 1)
    assert error.value.smallest == served


def test_full_has_one_size():
    with pytest.raises(InputError, match="one size"):
        create("full+pq:parts=4", 5000, 16, ratio=100)
    assert create("full+pq:parts=4", 5000, 16, ratio=8).modifiers == ("pq:parts=4",)


def test_wrong_knobs_are_named():
    with pytest.raises(InputError, match="parts=0"):
        create("full+pq:parts=0", 100, 16)
    with pytest.raises(InputError, match="bits=3"):
        create("full+pq:parts=2:bits=3", 100, 16)
    with pytest.raises(InputError, match="when the table is folded"):
        create("full+pq:parts=2+int8:train=true", 100, 16)
