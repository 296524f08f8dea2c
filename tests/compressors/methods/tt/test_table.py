"""TT-Rec: the paper's counts, shapes for any table, initial variances, deduplication, knobs."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from embpress.compressors import BudgetError, InputError, create
from embpress.compressors.methods.tt import TTRec
from embpress.compressors.methods.tt.init import INITS, init_cores
from embpress.compressors.methods.tt.shapes import factor_rows, factor_width
from embpress.kernels import reference

# TT-Rec, Table 2: rows, p, parameters and reduction at R = 16, 32, 64; D = 16, q = 2 x 2 x 4
TABLE_2 = [
    (10131227, (200, 220, 250), (135040, 495360, 1891840), (1200, 327, 86)),
    (8351593, (200, 200, 209), (122176, 449152, 1717504), (1094, 297, 78)),
    (7046547, (200, 200, 200), (121600, 448000, 1715200), (927, 252, 66)),
    (5461306, (166, 175, 188), (106944, 393088, 1502976), (817, 222, 58)),
    (2202608, (125, 130, 136), (79264, 291648, 1115776), (445, 121, 32)),
    (286181, (53, 72, 75), (43360, 160448, 615808), (106, 28, 7)),
    (142572, (50, 52, 55), (31744, 116736, 446464), (72, 19, 5)),
]
KAGGLE_SMALL = [1460, 583, 305, 24, 12517, 633, 3, 93145, 5683, 3194, 27, 14992, 10, 5652, 2173, 4, 18, 15, 105]


def parameters(module):
    return sum(core.numel() for core in module.cores)


@pytest.mark.parametrize(("n", "p", "counts", "ratios"), TABLE_2)
def test_parameter_counts_of_table_2(n, p, counts, ratios):
    for rank, count, ratio in zip((16, 32, 64), counts, ratios):
        table = TTRec(n, 16, rank=rank, row_factors=p, column_factors=(2, 2, 4), device="meta")
        assert parameters(table) == count
        assert TTRec.serving_size(n, 16, rank=rank, row_factors=p, column_factors=(2, 2, 4)) == 4 * count
        assert table.ledger().serving_bytes == 4 * count
        assert abs(n * 16 / count - ratio) <= 1  # the paper rounds, sometimes down


@pytest.mark.parametrize("rank", [16, 32, 64])
@pytest.mark.parametrize("n", [row[0] for row in TABLE_2])
def test_automatic_shapes_need_about_what_the_paper_needs(n, rank):
    paper = {row[0]: dict(zip((16, 32, 64), row[2])) for row in TABLE_2}[n][rank]
    assert 0.85 * paper <= TTRec.serving_size(n, 16, rank=rank) / 4 <= 1.05 * paper


def test_the_papers_model_at_rank_32():
    seven = sum(TTRec.serving_size(n, 16, rank=32, row_factors=p, column_factors=(2, 2, 4)) for n, p, _, _ in TABLE_2)
    whole = seven + sum(64 * n for n in KAGGLE_SMALL)
    full = 64 * (sum(KAGGLE_SMALL) + sum(row[0] for row in TABLE_2))
    assert round(seven / 1e6, 2) == 9.42
    assert round(whole / 1e6, 1) == 18.4
    assert round(full / whole) == 117


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 10**9), st.sampled_from([2, 3, 4]))
@example(1, 3)
@example(2, 3)
@example(2, 4)
@example(10**9, 2)
@example(10**9, 3)
@example(10**9, 4)
@example(10_131_227, 3)
@example(999_999_937, 3)  # a prime
@example(1_000_003, 4)  # a prime
@example(10_779, 4)  # 10 x 9 x 10 x 12: rounding counts most where the root is small
@example(47_354, 3)
@example(1_115_137, 4)  # the most padding above a million: one row of a factor of 32
def test_row_factors_hold_any_table_with_little_padding(n, cores):
    p = factor_rows(n, cores)
    held = math.prod(p)
    assert len(p) == cores
    assert held >= n
    assert held - n < held / min(p)  # a factor less by one would not do
    assert held <= math.ceil(round(n ** (1 / cores), 9)) ** cores  # no worse than the next whole root
    if n >= 10_000:
        assert max(p) <= 1.18 * min(p) + 2.2  # 1.08 / 0.92, and less than one of rounding at each end
        assert max(p[1:-1], default=0) <= max(p[0], p[-1])  # the middle cores are the big ones
    if n >= 1_000_000:
        assert held <= 1.04 * n


def prime_factors(n):
    count, d = 0, 2
    while n > 1:
        while n % d == 0:
            n, count = n // d, count + 1
        d += 1
    return count


@pytest.mark.parametrize("cores", [2, 3, 4])
def test_column_factors_for_every_width(cores):
    for dim in range(4, 1025):
        q = factor_width(dim, cores)
        assert len(q) == cores
        assert math.prod(q) == dim
        assert q[-1] == max(q)
        if cores > 2:
            assert min(q[1:-1]) == min(q)
            assert max(q[1:-1]) <= q[0]
        assert q.count(1) == max(0, cores - prime_factors(dim)), (dim, q)


@pytest.mark.parametrize(
    ("dim", "q"), [(16, (2, 2, 4)), (64, (4, 4, 4)), (128, (4, 4, 8)), (96, (4, 4, 6)), (13, (1, 1, 13))]
)
def test_column_factors_of_common_widths(dim, q):
    assert factor_width(dim, 3) == q


def table_std(n, rank, cores, init, dim=16, draws=12):
    generator = torch.Generator().manual_seed(3)
    rows = create(f"tt:rank={rank}:num_cores={cores}:init={init}", n, dim, dtype=torch.float64, generator=generator)
    total = 0.0
    for _ in range(draws):
        rows.reset_parameters(generator)
        total += float(rows.to_dense().square().mean())
    return math.sqrt(total / draws)


@pytest.mark.parametrize("init", [name for name in INITS if not name.endswith("fbtt")])
@pytest.mark.parametrize(("rank", "cores"), [("8", 2), ("8", 3), ("4x12", 3), ("6", 4)])
def test_the_tables_standard_deviation_is_a_full_tables(init, rank, cores):
    n = 3000
    assert table_std(n, rank, cores, init) == pytest.approx(1 / math.sqrt(3 * n), rel=0.07)


@pytest.mark.parametrize(("rank", "product"), [("8", 64), ("4x12", 48)])
def test_the_published_codes_standard_deviation(rank, product):
    n = 3000
    wanted = 13.8 * math.sqrt(product) / math.sqrt(3 * n)
    assert table_std(n, rank, 3, "sampled-gaussian-fbtt") == pytest.approx(wanted, rel=0.07)


def test_the_truncated_draw_is_the_normal_distributions_tail():
    core = torch.empty(50, 20, 20, 10, dtype=torch.float64)
    n = 1000
    init_cores([core], n, "sampled-gaussian-fbtt", torch.Generator().manual_seed(0))
    draw = core.flatten() * math.sqrt(3 * n)  # one core: the published scale is 1 / sqrt(3 n)
    count = draw.numel()
    assert float(draw.abs().min()) >= 2 - 1e-9
    assert float(draw.square().mean()) == pytest.approx(5.75, abs=0.02)
    assert abs(float((draw > 0).double().mean()) - 0.5) < 4 * 0.5 / math.sqrt(count)
    # Kolmogorov-Smirnov on |x|, whose distribution is 1 - erfc(x / sqrt 2) / erfc(sqrt 2)
    x = draw.abs().sort().values
    cdf = 1 - torch.special.erfc(x / math.sqrt(2)) / math.erfc(math.sqrt(2))
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    distance = torch.maximum((steps[1:] - cdf).abs().max(), (cdf - steps[:-1]).abs().max())
    assert float(distance) < 1.95 / math.sqrt(count)  # p = 0.001


class _Products(TorchDispatchMode):
    """Counts the rows multiplied out: the batch of every bmm."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.bmm.default:
            self.batches.append(args[0].shape[0])
        return func(*args, **(kwargs or {}))


def test_a_repeated_id_is_multiplied_out_once():
    table = TTRec(1000, 16, rank=4)
    cores = [core.detach() for core in table.cores]
    ids = torch.full((512,), 777)
    others = ([1000], [], 3, False, True)
    with _Products() as forward:
        rows = reference.tt_embedding_bag(cores, [], ids.view(-1, 1), None, None, *others)
    with _Products() as backward:
        nothing = rows.new_empty(0)
        reference.tt_embedding_bag_backward(
            torch.ones_like(rows), cores, [], ids.view(-1, 1), None, None, nothing, nothing, *others
        )
    assert set(forward.batches) == {1}
    assert set(backward.batches) == {1}
    torch.testing.assert_close(rows[300, 0], table.lookup(torch.tensor(777)))


@pytest.mark.parametrize(
    ("n", "dim", "rank", "rows", "columns", "ranks"),
    [
        (64, 8, 32, (4, 4, 4), (2, 2, 2), (1, 8, 8, 1)),
        (1000, 8, 999, (10, 10, 10), (2, 2, 2), (1, 20, 20, 1)),
        (64, 16, (2, 1000), (4, 4, 4), (2, 2, 4), (1, 2, 16, 1)),
        (40, 4, 64, (2, 20), (1, 4), (1, 2, 1)),
    ],
)
def test_ranks_are_cut_where_an_unfolding_cannot_have_them(n, dim, rank, rows, columns, ranks):
    table = TTRec(n, dim, rank=rank, row_factors=rows, column_factors=columns, num_cores=len(rows))
    assert table.ranks == ranks
    assert [tuple(core.shape) for core in table.cores] == [
        (p, ranks[k], q, ranks[k + 1]) for k, (p, q) in enumerate(zip(rows, columns))
    ]


def test_the_uncut_rank_represents_any_table():
    """At the unfoldings' full ranks a train of two cores holds every matrix: built from an SVD, it gives it back."""
    dense = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    table = TTRec(12, 4, rank=99, num_cores=2, row_factors=(3, 4), column_factors=(2, 2), dtype=torch.float64)
    unfolding = dense.view(3, 4, 2, 2).permute(0, 2, 1, 3).reshape(6, 8)
    u, s, v = torch.linalg.svd(unfolding, full_matrices=False)
    with torch.no_grad():
        table.cores[0].copy_((u * s).view(3, 2, 6).unsqueeze(1))
        table.cores[1].copy_(v.view(6, 4, 2, 1).permute(1, 0, 2, 3))
    torch.testing.assert_close(table.to_dense(), dense, rtol=1e-12, atol=1e-12)


def test_rank_tuples():
    table = create("tt:rank=3x5", 5000, 16)
    assert table.ranks == (1, 3, 5, 1)
    assert parameters(table) == sum(
        p * q * a * b for p, q, a, b in zip(table.row_factors, table.column_factors, (1, 3, 5), (3, 5, 1))
    )
    assert create("tt:rank=7:num_cores=2", 5000, 16).ranks == (1, 7, 1)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("tt:rank=0", "rank=0"),
        ("tt:rank=4x0", "rank"),
        ("tt:rank=4x4x4", "rank"),
        ("tt:rank=4x4:num_cores=2", "rank"),
        ("tt:num_cores=1", "num_cores=1"),
        ("tt:num_cores=5", "num_cores=5"),
        ("tt:row_factors=10x10x9", "row_factors"),
        ("tt:row_factors=100x10", "row_factors"),
        ("tt:column_factors=2x2x2", "column_factors"),
        ("tt:column_factors=4x4", "column_factors"),
        ("tt:init=gausian", "gaussian"),
    ],
)
def test_bad_knobs_are_named(spec, says):
    with pytest.raises(InputError, match=says):
        create(spec, 1000, 16)


@pytest.mark.parametrize("cores", [2, 3, 4])
@pytest.mark.parametrize("size", [2_000, 20_000, 200_000, 10**9])
def test_for_budget_gives_the_largest_rank_that_fits(cores, size):
    n, dim = 100_000, 32
    fixed = {"cores": cores}
    smallest = TTRec.serving_size(n, dim, rank=1, **fixed)
    if smallest > size:
        with pytest.raises(BudgetError) as error:
            TTRec.for_budget(n, dim, size, **fixed)
        assert error.value.smallest == smallest
        return
    rank = TTRec.for_budget(n, dim, size, **fixed)["rank"]
    used = TTRec.serving_size(n, dim, rank=rank, **fixed)
    more = TTRec.serving_size(n, dim, rank=rank + 1, **fixed)
    assert used <= size
    assert more > size or more == used
