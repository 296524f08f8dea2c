"""TT-SVD: recovery, the optimum of two cores, tolerances, sizes, tables larger than memory, padding, bad input."""

import math
import re
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from large_tables import Largest, Watched
from paths import ROOT
from torch import nn

from embpress.compressors import BudgetError, InputError, compress_model
from embpress.compressors.methods.full import Full
from embpress.compressors.methods.tt import TTRec

SHAPES = {2: ((8, 9), (2, 4)), 3: ((8, 9, 10), (2, 2, 4)), 4: ((5, 6, 7, 8), (2, 2, 2, 2))}
RANKS = {2: (5,), 3: (4, 6), 4: (3, 7, 5)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n, dim, dtype=torch.float64, seed=0):
    return torch.randn(n, dim, dtype=dtype, generator=seeded(seed))


def measured(table, weight):
    """The relative Frobenius error, from the table written out."""
    weight = torch.as_tensor(weight).double()
    return float((table.to_dense().double() - weight).norm() / weight.norm())


def unfoldings(weight, rows, columns):
    """Every unfolding of the padded table as a matrix, by index arithmetic entry by entry of the digits."""
    d, padded = len(rows), np.zeros((math.prod(rows), math.prod(columns)))
    padded[: len(weight)] = weight
    digits = padded.reshape(*rows, *columns)
    pairs = digits.transpose([axis for k in range(d) for axis in (k, d + k)])
    return [pairs.reshape(math.prod(rows[:k]) * math.prod(columns[:k]), -1) for k in range(1, d)]


def best_possible(weight, table):
    """No train of the table's ranks can be nearer: the largest of the unfoldings' own errors (Eckart and Young)."""
    tails = []
    for matrix, rank in zip(unfoldings(weight, table.row_factors, table.column_factors), table.ranks[1:]):
        tails.append(math.sqrt((np.linalg.svd(matrix, compute_uv=False)[rank:] ** 2).sum()))
    return np.array(tails) / np.linalg.norm(weight)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("cores", [2, 3, 4])
def test_a_tensor_train_comes_back(cores, dtype, within):
    rows, columns = SHAPES[cores]
    shape = {"num_cores": cores, "row_factors": rows, "column_factors": columns}
    source = TTRec(
        math.prod(rows), math.prod(columns), rank=RANKS[cores], dtype=dtype, generator=seeded(), **shape
    ).to_dense()
    for goal in ({"rank": RANKS[cores]}, {"tolerance": 1e-5}):
        table, error = TTRec.from_dense(source, **goal, **shape)
        assert table.ranks[1:-1] == RANKS[cores]
        assert error < within
        assert measured(table, source) < within
        assert {core.dtype for core in table.cores} == {dtype}
        assert [tuple(core.shape) for core in table.cores] == [
            (p, table.ranks[k], q, table.ranks[k + 1]) for k, (p, q) in enumerate(zip(rows, columns))
        ]


def test_a_budget_spends_nothing_on_rounding():
    rows, columns = SHAPES[3]
    source = TTRec(
        720, 16, rank=4, row_factors=rows, column_factors=columns, dtype=torch.float64, generator=seeded()
    ).to_dense()
    table, _ = TTRec.from_dense(source, budget=10**6, row_factors=rows, column_factors=columns)
    assert table.ranks == (1, 4, 4, 1)


@pytest.mark.parametrize("rank", [1, 7, 19, 32])
def test_two_cores_are_the_matrix_optimum(rank):
    """The error is what the singular values of the rearranged matrix leave out."""
    weight = noise(90, 8)
    rows, columns = (9, 10), (2, 4)
    table, error = TTRec.from_dense(weight, rank=rank, num_cores=2, row_factors=rows, column_factors=columns)
    matrix = np.array(  # (i0, a0) × (i1, a1)
        [
            [float(weight[i0 * 10 + i1, a0 * 4 + a1]) for i1 in range(10) for a1 in range(4)]
            for i0 in range(9)
            for a0 in range(2)
        ]
    )
    left = np.linalg.svd(matrix, compute_uv=False)[min(rank, 18) :]
    assert error == pytest.approx(np.linalg.norm(left) / np.linalg.norm(matrix), abs=1e-13)
    assert table.ranks[1] == min(rank, 18)


@settings(deadline=None, max_examples=40)
@given(
    n=st.sampled_from([1, 2, 7, 97, 211, 360]),
    dim=st.sampled_from([1, 3, 8, 13, 24]),
    cores=st.sampled_from([2, 3, 4]),
    rank=st.integers(1, 9),
    decay=st.floats(0, 0.5),
)
def test_given_ranks_are_within_the_bound_of_the_best(n, dim, cores, rank, decay):
    weight = noise(n, dim) * torch.exp(-decay * torch.arange(dim, dtype=torch.float64))
    table, error = TTRec.from_dense(weight, rank=rank, num_cores=cores)
    assert error == pytest.approx(measured(table, weight), abs=1e-12)
    tails = best_possible(weight.numpy(), table)
    assert error <= math.sqrt((tails**2).sum()) + 1e-12  # the sum of what the cuts leave out …
    assert error <= math.sqrt(cores - 1) * tails.max() + 1e-12  # … so within √(d-1) of any train of these ranks


@settings(deadline=None, max_examples=60)
@given(
    n=st.sampled_from([1, 2, 97, 211, 1009]),
    dim=st.sampled_from([1, 4, 13, 24]),
    cores=st.sampled_from([2, 3, 4]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    tolerance=st.sampled_from([0.99, 0.7, 0.3, 0.05, 1e-3, 2e-6]),
)
def test_a_tolerance_is_kept(n, dim, cores, dtype, tolerance):
    weight = noise(n, dim, dtype) @ torch.diag(torch.logspace(0, -4, dim, dtype=dtype))
    table, error = TTRec.from_dense(weight, tolerance=tolerance, num_cores=cores)
    assert error <= tolerance
    assert measured(table, weight) <= tolerance
    assert table.itemsize == dtype.itemsize


@pytest.mark.parametrize("cores", [2, 3])
def test_a_tolerance_takes_the_fewest_parameters(cores):
    """No smaller pair of ranks, tried one by one, keeps it."""
    weight = noise(60, 8) @ torch.diag(torch.logspace(0, -2, 8, dtype=torch.float64))
    table, _ = TTRec.from_dense(weight, tolerance=0.2, num_cores=cores)
    size = table.ledger().serving_bytes
    for first in range(1, 17):
        for second in range(1, 17) if cores == 3 else (1,):
            other, error = TTRec.from_dense(weight, rank=(first, second)[: cores - 1], num_cores=cores)
            assert error > 0.2 or other.ledger().serving_bytes >= size


@settings(deadline=None, max_examples=40)
@given(
    rows=st.sampled_from([(6, 16), (5, 5, 6), (9, 8, 9), (4, 4, 3, 5), None]),
    dim=st.sampled_from([4, 13, 24]),
    ratio=st.sampled_from([1.5, 3, 8, 20]),
    kind=st.sampled_from(["noise", "first", "last"]),
)
def test_a_budget_is_kept_and_no_worse_than_one_rank_for_all(rows, dim, ratio, kind):
    n = math.prod(rows or (1009,))
    weight = noise(n, dim, torch.float32)
    if kind == "first":  # rows that change slowly
        weight = weight.cumsum(0)
    if kind == "last":  # rows that repeat
        weight = weight[torch.arange(n) % 7] + 0.1 * weight
    fixed = {"row_factors": rows, "num_cores": len(rows or (0, 0, 0))}
    size = int(4 * n * dim / ratio)
    if TTRec.serving_size(n, dim, rank=1, **fixed) > size:
        return
    table, error = TTRec.from_dense(weight, budget=size, **fixed)
    assert table.ledger().serving_bytes <= size
    _, even = TTRec.from_dense(weight, **TTRec.for_budget(n, dim, size, **fixed), **fixed)
    # rows that pad a table are fitted too and do not count, so that there the comparison can be off a little
    assert error <= (even + 1e-6 if rows else 1.02 * even)
    again, _ = TTRec.from_dense(weight, ratio=ratio, **fixed)
    assert again.ranks == table.ranks


def test_a_budget_gives_the_ranks_to_the_cores_that_need_them():
    """The first digit's unfolding has rank 2, so nearly all of the budget belongs to the second rank."""
    rows, columns = (10, 10, 10), (2, 2, 4)
    source = TTRec(
        1000, 16, rank=(2, 40), row_factors=rows, column_factors=columns, dtype=torch.float64, generator=seeded()
    )
    weight = source.to_dense()
    size = source.ledger().serving_bytes
    table, error = TTRec.from_dense(weight, budget=size, row_factors=rows, column_factors=columns)
    assert table.ranks == (1, 2, 40, 1)
    assert error < 1e-12
    fixed = {"row_factors": rows, "column_factors": columns}
    _, even = TTRec.from_dense(weight, **TTRec.for_budget(1000, 16, size // 2, **fixed), **fixed)
    assert even > 0.3


def test_a_budget_counts_the_bytes_of_the_dtype():
    weight = noise(500, 16)
    for dtype in (torch.float32, torch.float64):
        table, _ = TTRec.from_dense(weight, budget=6000, dtype=dtype)
        assert table.ledger().serving_bytes <= 6000
        assert {core.dtype for core in table.cores} == {dtype}


@pytest.mark.parametrize("cores", [2, 3, 4])
def test_a_budget_that_cannot_be_reached_says_the_smallest(cores):
    weight = noise(500, 16, torch.float32)
    smallest = TTRec.serving_size(500, 16, rank=1, num_cores=cores)
    with pytest.raises(BudgetError, match=f"rank 1 takes {smallest}") as caught:
        TTRec.from_dense(weight, budget=smallest - 1, num_cores=cores)
    assert caught.value.smallest == smallest
    table, _ = TTRec.from_dense(weight, budget=smallest, num_cores=cores)
    assert set(table.ranks) == {1}


@pytest.mark.parametrize("goal", [{"rank": 8}, {"ratio": 50}, {"tolerance": 0.9}])
def test_a_mapped_table_is_read_in_slices(tmp_path, goal, monkeypatch):
    n, dim = 60_000, 16
    np.save(tmp_path / "table.npy", noise(n, dim, torch.float32).numpy())
    mapped = np.load(tmp_path / "table.npy", mmap_mode="r")
    whole, error = TTRec.from_dense(np.array(mapped), **goal)
    monkeypatch.setattr("embpress.compressors.methods.tt.svd._BLOCK", 1 << 15)
    watched = Watched(mapped)
    tracemalloc.start()
    table, again = TTRec.from_dense(watched, **goal)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert table.ranks == whole.ranks
    assert again == pytest.approx(error, rel=1e-6)
    torch.testing.assert_close(table.to_dense(), whole.to_dense(), rtol=1e-4, atol=1e-4)
    assert watched.largest <= 1 << 13
    assert watched.read <= (3 if "rank" in goal else 4) * n + 2  # bases, what they hold, cores, error; the dtype
    assert peak < mapped.nbytes / 2


def test_no_tensor_is_as_large_as_the_table(monkeypatch):
    """What the decomposition makes is far below a float64 copy of the table, whatever it reads from."""
    monkeypatch.setattr("embpress.compressors.methods.tt.svd._BLOCK", 1 << 15)
    weight = noise(200_000, 16, torch.float32).numpy()
    with Largest() as seen:
        TTRec.from_dense(weight, rank=8)
    assert seen.numel < weight.size / 10


@pytest.mark.parametrize("cores", [2, 3, 4])
def test_blocks_do_not_change_what_comes_out(cores, monkeypatch):
    weight = noise(1009, 24)
    for goal in ({"rank": 6}, {"budget": 20_000}):
        one, _ = TTRec.from_dense(weight, num_cores=cores, **goal)
        with monkeypatch.context() as small:
            small.setattr("embpress.compressors.methods.tt.svd._BLOCK", 1)
            other, _ = TTRec.from_dense(weight, num_cores=cores, **goal)
        assert one.ranks == other.ranks
        torch.testing.assert_close(one.to_dense(), other.to_dense(), rtol=1e-9, atol=1e-9)


def test_rows_that_pad_the_table_do_not_count():
    """The error is that of the real rows, and a table of fewer real rows than factors hold is still reproduced."""
    weight = noise(7, 8)
    table, error = TTRec.from_dense(weight, rank=99, row_factors=(3, 3, 3), column_factors=(2, 2, 2))
    assert error < 1e-14
    torch.testing.assert_close(table.to_dense(), weight, rtol=1e-12, atol=1e-12)
    table, error = TTRec.from_dense(weight, rank=2, row_factors=(3, 3, 3), column_factors=(2, 2, 2))
    assert error == pytest.approx(measured(table, weight), abs=1e-14)


@pytest.mark.parametrize("cores", [2, 3, 4])
def test_one_row_and_a_table_of_zeros(cores):
    row = noise(1, 16, torch.float32)
    table, error = TTRec.from_dense(row, rank=99, num_cores=cores)
    assert error < 1e-6
    torch.testing.assert_close(table.to_dense(), row)
    for goal in ({"rank": 3}, {"tolerance": 0.1}, {"ratio": 2}):
        table, error = TTRec.from_dense(torch.zeros(50, 16), num_cores=cores, **goal)
        assert error == 0
        assert not table.to_dense().any()


def test_small_singular_values_keep_their_digits():
    """A Gram matrix would lose everything below 1e-8 of the largest."""
    q1, _ = torch.linalg.qr(noise(20, 20, seed=1))
    q2, _ = torch.linalg.qr(noise(40, 40, seed=2))
    matrix = (q1 * torch.logspace(0, -11, 20, dtype=torch.float64)) @ q2[:20]
    weight = matrix.view(10, 2, 10, 4).transpose(1, 2).reshape(100, 8)
    table, error = TTRec.from_dense(weight, tolerance=1e-10, num_cores=2, row_factors=(10, 10), column_factors=(2, 4))
    assert table.ranks[1] == 18  # the singular values are 10^(-11 k / 19): after 18 of them 4e-11 and less is left
    assert 1e-12 < error <= 1e-10


def test_what_comes_out_trains_and_keeps_the_options():
    weight = nn.Embedding(300, 8).weight  # with a gradient of its own
    table, error = TTRec.from_dense(weight, mode="mean", padding_idx=4, include_last_offset=True, init="gaussian")
    assert table.training
    assert (table.mode, table.padding_idx, table.include_last_offset, table.init) == ("mean", 4, True, "gaussian")
    assert table.num_cores == 3
    assert error < 1
    table(torch.tensor([[1, 2]])).sum().backward()
    assert all(core.grad is not None for core in table.cores)
    assert weight.grad is None
    sizes = [float(core.detach().square().mean().sqrt()) for core in table.cores]
    assert max(sizes) == pytest.approx(min(sizes), rel=1e-5)


def test_rank_32_is_the_default():
    table, _ = TTRec.from_dense(noise(5000, 16, torch.float32))
    assert table.ranks == (1, 32, 32, 1)


def test_written_out_to_serve():
    weight = noise(97, 16, torch.float32)
    table, _ = TTRec.from_dense(weight, rank=4, mode="mean", padding_idx=3)
    full = table.to_full()
    assert isinstance(full, Full)
    assert not any(p.requires_grad for p in full.parameters())
    assert full.ledger().serving_bytes == 4 * 97 * 16
    ids, offsets = torch.tensor([0, 3, 96, 5, 5]), torch.tensor([0, 3, 3])
    torch.testing.assert_close(full.lookup(ids), table.lookup(ids).detach())
    torch.testing.assert_close(full(ids, offsets), table(ids, offsets).detach())


@pytest.mark.parametrize(
    ("weight", "goal", "says"),
    [
        (torch.ones(50, 8), {"rank": 4, "ratio": 2}, "rank and ratio"),
        (torch.ones(50, 8), {"budget": 400, "tolerance": 0.1}, "tolerance and budget"),
        (torch.ones(50, 8), {"tolerance": 0.0}, "tolerance=0"),
        (torch.ones(50, 8), {"tolerance": 1.0}, "tolerance=1"),
        (torch.ones(50, 8), {"tolerance": math.nan}, "tolerance=nan"),
        (torch.ones(50, 8), {"tolerance": 1e-9}, "float32 can hold"),
        (torch.ones(50, 8), {"ratio": 0.5}, "ratio"),
        (torch.ones(50, 8), {"ratio": 0}, "ratio"),
        (torch.ones(50, 8), {"budget": 0}, "budget"),
        (torch.ones(50, 8), {"rank": 0}, "rank=0"),
        (torch.ones(50, 8), {"rank": (2, 2, 2)}, "rank="),
        (torch.ones(50, 8), {"num_cores": 5}, "num_cores=5"),
        (torch.ones(50, 8), {"row_factors": (2, 2, 2)}, "row_factors="),
        (torch.ones(50, 8), {"column_factors": (2, 2, 3)}, "column_factors="),
        (torch.ones(50, 8), {"init": "gausian"}, "gaussian"),
        (torch.ones(50), {}, "matrix"),
        (torch.ones(0, 8), {}, "matrix"),
        ([[1.0, 2.0]], {}, "matrix"),
        (torch.ones(50, 8, dtype=torch.int64), {}, "floating point"),
        (np.ones((50, 8), dtype=int), {}, "floating point"),
        (np.full((50, 8), "a"), {}, "floating point"),
        (torch.full((50, 8), math.nan), {}, "NaN"),
        (np.full((50, 8), np.inf), {"ratio": 2}, "infinite"),
    ],
)
def test_bad_input_is_named(weight, goal, says):
    with pytest.raises(InputError, match=says):
        TTRec.from_dense(weight, **goal)


def test_half_precision_and_foreign_byte_order():
    weight = noise(97, 16, torch.float32)
    table, error = TTRec.from_dense(weight.numpy().astype(">f4"), rank=6)
    same, _ = TTRec.from_dense(weight, rank=6)
    assert error == pytest.approx(measured(same, weight), rel=1e-5)
    assert {core.dtype for core in table.cores} == {torch.float32}
    half, error = TTRec.from_dense(weight.bfloat16(), rank=6, dtype=torch.float32)
    assert error == pytest.approx(measured(half, weight.bfloat16()), rel=1e-5)


def test_a_model_is_compressed_from_its_weights():
    model = nn.ModuleDict({"user": nn.Embedding(3000, 8), "item": nn.EmbeddingBag(400, 8, mode="sum")})
    model["day"] = nn.Embedding(7, 8)
    trained = {name: module.weight.detach().clone() for name, module in model.items()}
    done = compress_model(model, "tt", ratio=2, from_weights=True)
    assert done["bytes_before"].sum() >= 2 * done["bytes_after"].sum()
    tables = {"user": model["user"].table, "item": model["item"]}
    for name, error in zip(done["module"], done["error"]):
        assert error == pytest.approx(measured(tables[name], trained[name]) if name in tables else 0, abs=1e-5)
        assert error < 0.9
    broken = nn.Sequential(nn.Embedding(3000, 8), nn.Embedding(3000, 8))
    with torch.no_grad():
        broken[1].weight[7] = math.nan
    with pytest.raises(InputError, match="NaN"):
        compress_model(broken, "tt:rank=4", from_weights=True)
    assert isinstance(broken[0], nn.Embedding)  # nothing is changed by half


def test_the_readmes_example_runs(tmp_path, monkeypatch):
    text = (ROOT / "compressors" / "README.md").read_text()
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "from_dense" in b)
    monkeypatch.chdir(tmp_path)
    weight = noise(5000, 16, torch.float32)
    np.save("items.npy", weight.numpy())
    names = {}
    exec(block, names)
    assert names["table"].ledger().serving_bytes <= weight.numel() * 4 / 20
    assert names["error"] == pytest.approx(measured(names["full"], weight), rel=1e-5)
