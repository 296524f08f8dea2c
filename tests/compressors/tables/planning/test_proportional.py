"""One byte budget for a model: never above it, close below it, smallest sizes, what stays full, which number wins."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embpress.compressors import BudgetError, InputError, TableCollection, TableConfig, parse, plan
from embpress.compressors.tables.planning.proportional import kept_full

KAGGLE = [1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27]
KAGGLE += [14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572]
CRITEO = [TableConfig(n, 16) for n in KAGGLE]
SCALED = [TableConfig(max(3, n // 300), 16) for n in KAGGLE]
METHODS = ("tt", "robe", "hash", "qr")
RATIOS = (2, 3.7, 16, 64, 200)


def knobs_of(made):
    """The method's keywords by table, None where it stays full."""
    return [None if table.method.name == "full" else table.method.knobs for table in made.tables]


def full_bytes(tables):
    return sum(4 * n * dim for n, dim, _ in tables)


def sizes(spec, tables, made):
    """Serving bytes by table, by each method's own arithmetic; ROBE's one array counts in the first."""
    cls, found, shared = parse(spec).cls, [], False
    for (n, dim, _), knobs in zip(tables, knobs_of(made)):
        if knobs is None:
            found.append(4 * n * dim)
        elif cls.tags.shared_memory:
            found.append(0 if shared else cls.serving_size(n, dim, **knobs))
            shared = True
        else:
            found.append(cls.serving_size(n, dim, **knobs))
    return found


def next_step(method, knobs):
    """The same table one step larger, or None."""
    if method == "tt":
        return {**knobs, "rank": knobs["rank"] + 1}
    if method == "hash":
        return {**knobs, "k": knobs["k"] + 1}
    if method == "robe":
        return {**knobs, "size": knobs["size"] + 1}
    return {**knobs, "c": knobs["c"] - 1} if knobs["c"] > 1 else None


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("method", METHODS)
def test_the_budget_is_kept_and_used_up(method, ratio):
    """No table could take its next step in what is left over."""
    made = plan(parse(method), CRITEO, ratio=ratio)
    budget, used = full_bytes(CRITEO) / ratio, sizes(method, CRITEO, made)
    assert sum(used) <= budget
    assert sum(used) >= (0.5 if method == "qr" else 0.98) * budget  # QR only has whole c: n / 2, n / 3, …
    cls = parse(method).cls
    for (n, dim, _), knobs, own in zip(CRITEO, knobs_of(made), used):
        larger = None if knobs is None else next_step(method, knobs)
        if larger is not None and own:
            step = cls.serving_size(n, dim, **larger) - own
            assert step <= 0 or sum(used) + step > budget or own >= 4 * n * dim


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_built_weighs_what_was_planned(method, ratio):
    spec = f"{method}:z=4" if method == "robe" else method
    if method in ("qr", "tt"):
        ratio = min(ratio, 20)  # small tables cannot go further
    made = plan(parse(spec), SCALED, ratio=ratio)
    tables = TableCollection.build(SCALED, spec, ratio=ratio)
    assert tables.serving_bytes == sum(sizes(spec, SCALED, made))
    assert tables.ratio >= ratio
    tensors = {t.data_ptr(): t.numel() * t.element_size() for t in tables.parameters()}
    assert sum(tensors.values()) <= full_bytes(SCALED) / ratio


def test_the_rest_is_split_in_proportion_to_the_tables():
    tables = [TableConfig(n, 16) for n in (400_000, 100_000, 200_000, 50)]
    made = plan(parse("hash"), tables, ratio=10)
    rest = full_bytes(tables) // 10 - 4 * 50 * 16
    for (n, dim, _), knobs in zip(tables[:3], knobs_of(made)):
        share = rest * n / 700_000
        assert abs(knobs["k"] * 4 * dim + 48 - share) <= 3 * 4 * dim  # plus what rounding left over
    assert knobs_of(made)[3] is None


def test_a_small_table_gets_its_smallest_size_and_the_others_pay():
    tables = [TableConfig(1_000_000, 16), TableConfig(300, 16)]
    budget = 50_000
    made = plan(parse("tt"), tables, budget=budget)
    cls = parse("tt").cls
    smallest = cls.serving_size(300, 16, rank=1)
    assert smallest > budget * 300 / 1_000_300
    big, small = sizes("tt", tables, made)
    assert small >= smallest
    assert big + small <= budget
    # what rounding leaves over goes to the largest table first
    assert cls.serving_size(1_000_000, 16, rank=knobs_of(made)[0]["rank"] + 1) + smallest > budget


@pytest.mark.parametrize(
    "method", ["tt", "robe", "hash", "qr", "tt:num_cores=4", "qr:op=concat:parts=4", "robe:z=4:sign=true"]
)
@pytest.mark.parametrize("tables", [CRITEO, SCALED], ids=["criteo", "scaled"])
def test_the_smallest_size_is_reachable_and_one_byte_less_is_not(method, tables):
    spec = parse(method)
    with pytest.raises(BudgetError, match="smallest reachable") as error:
        plan(spec, tables, ratio=1e9)
    smallest = error.value.smallest
    made = plan(spec, tables, budget=smallest)
    assert sum(sizes(method, tables, made)) == smallest
    with pytest.raises(BudgetError) as less:
        plan(spec, tables, budget=smallest - 1)
    assert less.value.smallest == smallest


def test_a_budget_is_met_to_the_byte():
    """727209 x 16 is a case where bytes / (bytes / budget) falls one byte short in floating point."""
    tables = [TableConfig(727_209, 16)]
    full, budget = full_bytes(tables), 22_169_160
    assert int(full / (full / budget)) == budget - 1
    assert sizes("robe", tables, plan(parse("robe"), tables, budget=budget)) == [budget]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(200, 10**6), min_size=1, max_size=4), st.sampled_from(METHODS), st.floats(1, 400))
def test_any_model_is_below_its_budget_or_told_a_smallest_size_above_it(rows, method, ratio):
    tables = [TableConfig(n, 16) for n in rows]
    spec, budget = parse(method), int(full_bytes(tables) / ratio)
    with pytest.raises(BudgetError) as error:
        plan(spec, tables, budget=1)
    if budget < error.value.smallest:
        with pytest.raises(BudgetError):
            plan(spec, tables, ratio=ratio)
        budget = error.value.smallest
    assert sum(sizes(method, tables, plan(spec, tables, budget=budget))) <= budget


def test_the_ratio_named_in_the_message_is_reachable():
    for method in METHODS:
        with pytest.raises(BudgetError) as error:
            plan(parse(method), SCALED, ratio=1e9)
        named = float(str(error.value).split("smallest reachable ")[1].split("×")[0])
        plan(parse(method), SCALED, ratio=named)


def test_the_specs_ratio_beats_the_argument_and_a_size_knob_beats_both():
    tables = [TableConfig(100_000, 16)]
    assert plan(parse("hash:ratio=50"), tables, ratio=5) == plan(parse("hash"), tables, ratio=50)
    assert plan(parse("hash:budget=90k"), tables, ratio=5) == plan(parse("hash"), tables, budget=90_000)
    assert knobs_of(plan(parse("hash:k=7:ratio=50"), tables, ratio=5)) == [{"k": 7}]
    assert knobs_of(plan(parse("tt:rank=3:num_cores=2"), tables, ratio=5)) == [{"rank": 3, "num_cores": 2}]
    assert knobs_of(plan(parse("hash"), tables)) == [{}]


def test_other_knobs_hold_under_a_ratio():
    (knobs,) = knobs_of(plan(parse("qr:op=concat:parts=4"), [TableConfig(100_000, 16)], ratio=30))
    assert (knobs["op"], knobs["parts"]) == ("concat", 4)
    assert sum([knobs["c"]] * 3) * 4 <= 100_000 * 16 / 30


def test_tables_under_min_rows_stay_full_and_count():
    tables = [TableConfig(199, 16), TableConfig(200, 16), TableConfig(10_000, 16)]
    assert kept_full(tables) == [True, False, False]
    assert kept_full(tables, min_rows=201) == [True, True, False]
    assert kept_full(tables, min_rows=0) == [False, False, False]
    made = plan(parse("hash"), tables, ratio=10)
    assert [knobs is None for knobs in knobs_of(made)] == [True, False, False]
    assert sum(sizes("hash", tables, made)) <= full_bytes(tables) / 10
    # the full table alone is too much
    with pytest.raises(BudgetError) as error:
        plan(parse("hash"), tables, budget=4 * 199 * 16)
    assert error.value.smallest == 4 * 199 * 16 + 2 * (4 * 16 + 48)


def test_largest_counts_bytes_not_rows():
    tables = [TableConfig(1000, 4), TableConfig(900, 16), TableConfig(5000, 16), TableConfig(100, 64)]
    assert kept_full(tables, largest=2) == [True, False, False, True]
    assert kept_full(tables, largest=3) == [True, False, False, True]  # the third has too few rows
    assert kept_full(tables, min_rows=0, largest=3) == [True, False, False, False]
    assert kept_full(tables, largest=0) == [True] * 4
    assert kept_full(tables, largest=99) == kept_full(tables)


def test_largest_tables_carry_the_whole_ratio():
    made = plan(parse("tt"), CRITEO, ratio=10, largest=7)
    assert sum(knobs is not None for knobs in knobs_of(made)) == 7
    assert 0.98 * full_bytes(CRITEO) / 10 < sum(sizes("tt", CRITEO, made)) <= full_bytes(CRITEO) / 10
    with pytest.raises(BudgetError):
        plan(parse("tt"), CRITEO, ratio=2, largest=1)  # the other tables alone are more than half


def test_nothing_to_compress_is_said():
    tables = [TableConfig(100, 16)]
    with pytest.raises(BudgetError, match="no table has 200 rows"):
        plan(parse("hash"), tables, ratio=2)
    assert knobs_of(plan(parse("hash"), tables, ratio=1)) == [None]


@pytest.mark.parametrize(("ratio", "width"), [(1, 16), (2, 8), (3, 5), (5.4, 2), (16, 1)])
@pytest.mark.parametrize("method", ["mlet:k=16", "narrow"])
def test_methods_that_save_by_width_train_the_whole_model_at_a_smaller_one(method, ratio, width):
    made = plan(parse(method), SCALED, ratio=ratio)
    assert made.width == width
    assert made.full_bytes == full_bytes(SCALED)
    tables = TableCollection.build(SCALED, method, ratio=ratio)
    assert tables.embedding_dim == width
    assert tables(torch.zeros(2, 26, dtype=torch.int64)).shape == (2, 26, width)
    assert tables.serving_bytes == full_bytes(SCALED) * width // 16
    assert tables.ratio == pytest.approx(16 / width)


def test_mlet_reaches_every_width_by_its_budget_and_no_smaller_one():
    tables = [TableConfig(1000, 49), TableConfig(500, 49)]
    rows = 1500
    for width in range(1, 50):
        assert plan(parse("mlet"), tables, budget=4 * rows * width).width == width
        if width > 1:
            assert plan(parse("mlet"), tables, budget=4 * rows * width - 1).width == width - 1
    with pytest.raises(BudgetError) as error:
        plan(parse("mlet"), tables, budget=4 * rows - 1)
    assert error.value.smallest == 4 * rows


def test_mlet_at_width_one_cannot_go_below():
    with pytest.raises(BudgetError):
        plan(parse("mlet"), [TableConfig(1000, 1)], ratio=2)


def test_full_tables_stay_full_under_a_ratio_meant_for_the_other_methods():
    assert TableCollection.build(SCALED, "full", ratio=10).serving_bytes == full_bytes(SCALED)


@pytest.mark.parametrize("method", METHODS)
def test_a_budget_above_the_full_tables_is_refused(method):
    with pytest.raises(InputError, match="more than"):
        plan(parse(method), CRITEO, budget=full_bytes(CRITEO) + 1)


def test_ratio_and_budget_together_are_refused():
    with pytest.raises(InputError, match="not both"):
        plan(parse("hash"), CRITEO, ratio=2, budget=10**6)


def test_a_method_of_one_size_takes_no_ratio_of_its_own():
    with pytest.raises(InputError, match="one size"):
        plan(parse("full:ratio=5"), [TableConfig(1000, 16)])
