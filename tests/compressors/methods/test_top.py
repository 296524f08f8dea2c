"""The most frequent rows exact, all others one: which rows these are, by number or by counts, and what they take."""

import copy

import pytest
import torch

from embpress.compressors import BudgetError, InputError, TableCollection, TableConfig, Top, create

COUNTS = torch.tensor([0, 9, 2, 7, 7, 0, 1, 7])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_first_rows_are_exact_and_all_others_are_one():
    dense = create("top:rows=3", 10, 4, generator=seeded()).to_dense()
    assert len(torch.unique(dense[:4], dim=0)) == 4
    assert bool((dense[3:] == dense[3]).all())


def test_counts_say_which_rows_are_exact():
    table = create("top:rows=3", 8, 4, counts=COUNTS, generator=seeded())
    dense = table.to_dense()
    assert table.uncompressed(torch.arange(8)).tolist() == [i in (1, 3, 4) for i in range(8)]
    assert len(torch.unique(dense[[1, 3, 4, 0]], dim=0)) == 4
    assert bool((dense[[2, 5, 6, 7]] == dense[0]).all())
    assert create("top:rows=3", 8, 4).uncompressed(torch.tensor([2, 3])).tolist() == [True, False]


def test_the_ids_count_and_a_budget_leaves_room_for_them():
    assert create("top:rows=3", 8, 4).ledger().serving_bytes == 4 * 4 * 4
    assert create("top:rows=3", 8, 4, counts=COUNTS).ledger().serving_bytes == 4 * 4 * 4 + 3 * 8
    assert Top.for_budget(100, 4, 16 + 5 * 16) == {"rows": 5}
    assert Top.for_budget(100, 4, 16 + 5 * 24 - 1, counts=torch.ones(100)) == {"rows": 4}
    assert Top.for_budget(5, 4, 10_000) == {"rows": 4}  # then every row is exact
    with pytest.raises(BudgetError) as error:
        Top.for_budget(100, 4, 31)
    assert error.value.smallest == 32


def test_bags_and_gradients_are_those_of_the_rows():
    table = create("top:rows=3", 8, 4, counts=COUNTS, mode="mean", dtype=torch.float64, generator=seeded())
    ids, offsets = torch.tensor([1, 2, 5, 3]), torch.tensor([0, 3])
    rows = table.lookup(ids)
    torch.testing.assert_close(table(ids, offsets), torch.stack([rows[:3].mean(0), rows[3]]))
    table(ids, offsets).sum().backward()
    want = torch.zeros(4, 4, dtype=torch.float64)
    for place, share in ((0, 1 / 3), (3, 2 / 3), (1, 1.0)):  # of the ids 1, the two that share a row, and 3
        want[place] = share
    torch.testing.assert_close(table.kept.grad, want)


@pytest.mark.parametrize("counted", [False, True])
def test_tables_in_a_collection_answer_as_they_do_alone(counted):
    draw, sizes = seeded(), (50, 8, 30)
    counts = [torch.randint(100, (n,), generator=draw) for n in sizes]
    tables = [
        create("top:rows=3", n, 4, generator=draw, **({"counts": own} if counted else {}))
        for n, own in zip(sizes, counts)
    ]
    want = [copy.deepcopy(table).to_dense() for table in tables]
    whole = TableCollection([TableConfig(n, 4, str(n)) for n in sizes], tables, 4 * 4 * sum(sizes))
    assert len(whole.groups) == 1
    ids = torch.stack([torch.arange(60) % n for n in sizes], 1)
    for one in (whole, whole.fold()):
        for t, rows in enumerate(want):
            assert torch.equal(one(ids)[:, t], rows[ids[:, t]])
        bags = one([(ids[:, t], torch.tensor([0, 7, 7])) for t in range(3)])
        for t, rows in enumerate(want):
            torch.testing.assert_close(
                bags[:, t], torch.stack([rows[ids[a:b, t]].sum(0) for a, b in ((0, 7), (7, 7), (7, 60))])
            )


def test_a_state_dict_of_other_exact_ids_is_refused():
    one = create("top:rows=3", 8, 4, counts=COUNTS)
    create("top:rows=3", 8, 4, counts=COUNTS.flip(0).flip(0)).load_state_dict(one.state_dict())
    for other in (create("top:rows=3", 8, 4), create("top:rows=3", 8, 4, counts=COUNTS.flip(0))):
        with pytest.raises(RuntimeError, match="ids="):
            other.load_state_dict(one.state_dict())


def test_from_dense_keeps_the_exact_rows_and_the_mean_of_the_rest():
    weight = torch.randn(8, 4, generator=seeded(), dtype=torch.float64)
    table, error = Top.from_dense(weight, rows=3, counts=COUNTS)
    want = weight.clone()
    others = [0, 2, 5, 6, 7]
    want[others] = weight[others].mean(0)
    torch.testing.assert_close(table.to_dense(), want)
    assert error == pytest.approx(float((want - weight).norm() / weight.norm()))


@pytest.mark.parametrize(
    ("knobs", "says"), [({"rows": 0}, "rows=0"), ({"counts": COUNTS[:5]}, r"counts must be .*\(8,\)")]
)
def test_what_no_table_can_have_is_refused(knobs, says):
    with pytest.raises(InputError, match=says):
        create("top", 8, 4, **knobs)
