"""Mixed dimensions: widths that follow popularity under one budget for all tables, and rows as products by block."""

import copy
import itertools

import pytest
import torch

from embpress.compressors import BudgetError, InputError, Plan, TableCollection, TableConfig, create, parse, plan
from embpress.compressors.methods.md import MixedDimensions, block_bounds

SIZES = (100_000, 10_000, 1_000, 300)
CONFIGS = [*(TableConfig(n, 32, f"t{n}") for n in SIZES), TableConfig(50, 32, "small")]


def widths(made):
    return [table.method.knobs.get("width") for table in made.tables]


def used(made):
    return sum(table.bytes for table in made.tables)


def full_bytes(configs):
    return sum(4 * n * dim for n, dim, _ in configs)


@pytest.mark.parametrize("knobs", ["width=3", "blocks=3:width=8x4x1", "blocks=2:width=8x8", "width=8"])
def test_a_row_is_that_of_its_block_times_the_blocks_projection(knobs):
    table = create(f"md:{knobs}", 50, 8, generator=torch.Generator().manual_seed(0), mode="mean")
    bounds = block_bounds(50, table.blocks)
    want = []
    for b, k in enumerate(table.widths):
        inner = getattr(table, f"table_{b}")
        assert inner.shape == (bounds[b + 1] - bounds[b], k)
        assert hasattr(table, f"projection_{b}") == (k < 8)
        want.append(inner @ getattr(table, f"projection_{b}") if k < 8 else inner)
    want = torch.cat(want)
    torch.testing.assert_close(table.to_dense(), want.detach())
    ids = torch.tensor([0, 1, 49, 12, 3])
    torch.testing.assert_close(
        table(ids, torch.tensor([0, 3])), torch.stack([want[ids[:3]].mean(0), want[ids[3:]].mean(0)])
    )


def test_bytes_are_those_of_inner_tables_and_projections():
    assert create("md:width=3", 50, 8).ledger().serving_bytes == 4 * (50 * 3 + 3 * 8)
    assert create("md:width=8", 50, 8).ledger().serving_bytes == 4 * 50 * 8
    assert block_bounds(50, 3) == [0, 4, 14, 50]
    assert create("md:blocks=3:width=8x4x1", 50, 8).ledger().serving_bytes == 4 * (4 * 8 + 10 * 4 + 4 * 8 + 36 + 8)


def test_blocks_have_equally_many_lookups_under_zipfs_law():
    bounds = block_bounds(1_000_000, 4)
    mass = [sum(1 / r for r in range(a + 1, b + 1)) for a, b in itertools.pairwise(bounds[1:])]
    assert max(mass) < 1.1 * min(mass)
    assert block_bounds(1, 8) == [0, 1]
    assert block_bounds(3, 8) == [0, 1, 2, 3]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("ratio", [2, 4, 8, 16])
def test_widths_of_all_tables_follow_one_power_law(alpha, ratio):
    made = plan(parse(f"md:alpha={alpha}"), CONFIGS, ratio=ratio)
    assert widths(made)[-1] is None  # under 200 rows: it stays full, and counts
    assert used(made) <= full_bytes(CONFIGS) // ratio
    large, *others = widths(made)[:-1]
    # a λ within the rounding of the largest table, whose bytes decide it; what is left over may widen others
    for n, k in zip(SIZES[1:], others):
        ideal = (large - 0.5) * (SIZES[0] / n) ** alpha
        assert k >= min(32, int(ideal)), f"{n} rows have {k} columns, {ideal} by the power law"
    narrower = sum(
        (n + 32) * min(32, k) if k < 32 else n * 32
        for n, k in ((n, round((large + 0.51) * (SIZES[0] / n) ** alpha)) for n in SIZES)
    )
    assert 4 * narrower + 4 * 50 * 32 > full_bytes(CONFIGS) // ratio  # no larger λ fits


def test_the_budget_is_one_total_and_not_parted_in_proportion():
    made = plan(parse("md"), CONFIGS, ratio=8)
    shares = [table.bytes / (4 * table.config.num_embeddings * 32) for table in made.tables]
    assert shares[0] < 1 / 8 < shares[1] < shares[2]
    assert used(made) == pytest.approx(full_bytes(CONFIGS) / 8, rel=0.1)
    tables = TableCollection.build(CONFIGS, "md", ratio=8)
    assert tables.serving_bytes == used(made)
    read = Plan.of_text(made.to_json(), "a plan")
    assert widths(read) == widths(made)


def test_blocks_give_the_head_of_a_table_more_columns_than_its_tail():
    made = plan(parse("md:blocks=4"), CONFIGS, ratio=16)
    for own in widths(made)[:-1]:
        assert list(own) == sorted(own, reverse=True)
        assert own[0] > own[-1]
    tables = TableCollection.build(CONFIGS, "md:blocks=4", ratio=16)
    assert tables.ratio >= 16


def test_modifiers_leave_more_columns_and_the_total_holds():
    plain, rounded = (plan(parse(spec), CONFIGS, ratio=8) for spec in ("md", "md+bf16"))
    assert widths(rounded)[0] > widths(plain)[0]
    assert used(rounded) <= full_bytes(CONFIGS) // 8


def test_more_than_all_is_all_and_less_than_a_column_is_unreachable():
    assert set(widths(plan(parse("md"), CONFIGS[:4], ratio=1))) == {32}
    with pytest.raises(BudgetError) as error:
        plan(parse("md"), CONFIGS, ratio=64)
    assert error.value.smallest == 4 * (sum(n + 32 for n in SIZES) + 50 * 32)
    assert plan(parse("md"), CONFIGS, budget=error.value.smallest)


def test_tables_of_the_same_widths_are_one_group_and_answer_as_they_do_alone():
    draw = torch.Generator().manual_seed(0)
    tables = [create("md:blocks=3:width=8x4x1", n, 8, generator=draw) for n in (500, 60, 300)]
    want = [copy.deepcopy(table).to_dense() for table in tables]
    configs = [TableConfig(table.num_embeddings, 8, str(t)) for t, table in enumerate(tables)]
    whole = TableCollection(configs, tables, 1)
    assert len(whole.groups) == len(whole.fold().groups) == 1
    ids = torch.stack([torch.arange(500) % table.num_embeddings for table in tables], 1)
    for one in (whole, whole.fold()):
        torch.testing.assert_close(one(ids), torch.stack([rows[ids[:, t]] for t, rows in enumerate(want)], 1))
        bags = one([(ids[:, t], torch.tensor([0, 200, 200])) for t in range(3)])
        for t, rows in enumerate(want):
            parts = [rows[ids[a:b, t]].sum(0) for a, b in ((0, 200), (200, 200), (200, 500))]
            torch.testing.assert_close(bags[:, t], torch.stack(parts))


@pytest.mark.parametrize("k", [1, 4])
def test_rows_start_with_the_variance_of_a_full_table(k):
    draws = [
        create(f"md:width={k}", 2000, 16, generator=torch.Generator().manual_seed(s)).to_dense() for s in range(30)
    ]
    assert float(torch.stack(draws).var()) == pytest.approx(1 / 6000, rel=0.25)


@pytest.mark.parametrize(
    ("knobs", "says"),
    [("width=9", "1 number from 1 to the width 8"), ("blocks=3:width=4", "3 numbers"), ("blocks=99", "blocks=99")],
)
def test_what_no_table_can_have_is_refused(knobs, says):
    with pytest.raises(InputError, match=says):
        create(f"md:{knobs}", 500, 8)
    with pytest.raises(InputError, match="alpha"):
        MixedDimensions.for_budget(500, 8, 10_000, alpha=-1)


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_trained_table_is_met_as_well_as_its_widths_allow(blocks):
    torch.manual_seed(0)
    weight = torch.randn(300, 8)
    made, error = MixedDimensions.from_dense(weight, blocks=blocks, width=(8, 4, 2)[-blocks:])
    left = 0.0
    for start, end, k in zip(*(bounds := block_bounds(300, blocks), bounds[1:], made.widths)):
        left += float(torch.linalg.svdvals(weight[start:end].double())[k:].square().sum())  # Eckart and Young
    assert error == pytest.approx((left / float(weight.double().square().sum())) ** 0.5, rel=1e-5)
    torch.testing.assert_close((made.to_dense() - weight).norm() / weight.norm(), torch.tensor(error))
