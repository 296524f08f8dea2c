"""Sharing of stored cells, against loops over pairs of ids, and against what many random functions give."""

import pytest
import torch
from torch import Generator

from embpress.compressors import TableCollection, TableConfig
from embpress.dlrm.measure.collisions import collisions

D = 8
NAMES = ("whole_ids", "part_ids", "whole_train", "part_train", "whole_test", "part_test", "others_train")


def tables_of(method, rows=(60, 40), seed=3):
    configs = [TableConfig(n, D, f"t{i}") for i, n in enumerate(rows)]
    return TableCollection.build(configs, method, min_rows=0, generator=Generator().manual_seed(seed)).eval().tables


def counts_of(rows, seed):
    generator = Generator().manual_seed(seed)
    return [torch.randint(0, 9, (n,), generator=generator) for n in rows]


def brute(tables, train, test, together):
    """The measured shares of each table, id by id."""
    rows = []  # (table, id, row, cells as a list with repeats)
    for t, table in enumerate(tables):
        found = table.cells(torch.arange(table.num_embeddings))
        for i in range(table.num_embeddings):
            cells = []
            for part, first in zip(found.parts, found.first[i].tolist()):
                memory = "all" if together else t
                cells += [(memory, part.array, first + step) for step in range(part.span)] if first >= 0 else []
            rows.append((t, i, (("all" if together else t), *found.rows[i].tolist()), cells))
    of_cell = {}
    for t, i, _, cells in rows:
        for cell in cells:
            of_cell[cell] = of_cell.get(cell, 0) + int(train[t][i])
    answers = []
    for t, table in enumerate(tables):
        n, whole, part, others = table.num_embeddings, [], [], []
        for _, i, row, cells in (one for one in rows if one[0] == t):
            rest = [one for one in rows if one[:2] != (t, i) and one[3]]
            whole.append(bool(cells) and any(row == other[2] for other in rest))
            part.append(any(cell in other[3] for other in rest for cell in cells))
            others += [
                (int(train[t][i]), 1 - int(train[t][i]) * cells.count(cell) / max(1, of_cell[cell])) for cell in cells
            ]
        shares = [[*map(float, whole)], [float(a or b) for a, b in zip(part, whole)]]
        answer = [sum(share) / n for share in shares]
        for counts in (train[t], test[t]):
            answer += [sum(c * s for c, s in zip(counts.tolist(), share)) / int(counts.sum()) for share in shares]
        answer.append(sum(c * o for c, o in others) / sum(c for c, _ in others))
        answers.append(dict(zip(NAMES, answer)))
    return answers


@pytest.mark.parametrize(
    ("method", "together"),
    [
        *(("hash:k=30", False), ("hash:k=20:parts=2", False), ("hash:k=9:parts=2:op=add", False), ("qr:c=8", False)),
        *(("robe:z=4:size=300", True), ("robe:z=3:size=80+int8", True), ("unified:k=90", True), ("unified:k=9", True)),
        *(("cce:k=8:hashed=8", False), ("top:rows=20", False), ("tt:rank=2", False), ("md:width=8x4:blocks=2", False)),
        *(("hash:k=12+hot:fraction=0.2", False), ("prune:keep=0.05", False), ("lowrank:k=2", False)),
    ],
)
def test_measured_shares(method, together):
    tables = tables_of(method)
    train, test = (counts_of([table.num_embeddings for table in tables], seed) for seed in (1, 2))
    for found, wanted in zip(collisions(tables, train, test), brute(tables, train, test, together)):
        assert {name: getattr(found, name) for name in NAMES} == pytest.approx(wanted, abs=1e-6)
        assert found.ids in (60, 40)


@pytest.mark.parametrize(
    ("method", "rows"),
    [
        *(("hash:k=40", (50,)), ("hash:k=25:parts=2", (50,)), ("hash:k=16:parts=2:op=add", (30,))),
        *(("robe:z=4:size=400:draws=1", (20, 15)), ("unified:k=120", (30, 20)), ("cce:k=16:hashed=16", (20,))),
    ],
)
def test_expected_shares_are_those_of_many_functions(method, rows):
    train = counts_of(rows, 1)
    made = [collisions(tables_of(method, rows, seed), train, train) for seed in range(60)]
    for t in range(len(rows)):
        for name in ("whole", "part"):
            shares = torch.tensor([getattr(one[t], f"{name}_ids") for one in made], dtype=torch.float64)
            wanted = getattr(made[0][t], f"{name}_expected")
            error = 4 * float(shares.std()) / len(made) ** 0.5
            # consecutive ids land a little more evenly by these hashes than by chance
            assert float(shares.mean()) == pytest.approx(wanted, abs=error + 0.02)
        others = torch.tensor([one[t].others_train for one in made], dtype=torch.float64)
        error = 4 * float(others.std()) * (1 / len(made) + 1 / 8) ** 0.5
        assert float(others.mean()) == pytest.approx(made[0][t].others_expected, abs=error + 0.01)


def test_one_hash_is_balls_in_bins():
    (table,) = tables_of("hash:k=40", (50,))
    found = collisions([table], [torch.ones(50, dtype=torch.int64)])[0]
    assert found.whole_expected == found.part_expected == pytest.approx(1 - (1 - 1 / 40) ** 49)
    assert found.whole_expected_train == found.whole_expected
    assert found.whole_test is None
    assert found.part_test is None


def test_what_no_function_decides_has_nothing_to_be_compared_with():
    for found in collisions(tables_of("md:width=8x4:blocks=2")):
        assert found.part_ids == found.whole_ids == 0.0
        assert found.whole_expected is None
        assert found.others_expected is None
        assert found.whole_train is None


def test_complementary_partitions_never_share_a_row_but_share_parts():
    (found,) = collisions(tables_of("qr:c=8", (60,)))
    assert found.whole_ids == 0.0 < found.whole_expected
    assert found.part_ids == 1.0


def test_plain_and_computed_tables_have_none():
    for method in ("full", "dhe:k=32:hidden=16", "sketch:rows=20"):
        assert collisions(tables_of(method)) == [None, None]


def test_of_many_ids_a_sample_is_looked_at():
    (table,) = tables_of("hash:k=500", (4000,))
    counts = [torch.arange(4000)]
    sampled = collisions([table], counts, counts, max_ids=1000)[0]
    assert sampled.ids == 1000
    assert sampled.whole_expected == pytest.approx(1 - (1 - 1 / 500) ** 999)
    assert sampled.whole_ids == pytest.approx(sampled.whole_expected, abs=0.05)
    whole = collisions([table], counts, counts)[0]
    assert whole.ids == 4000
    assert whole.whole_ids > sampled.whole_ids


def test_the_sample_is_as_large_a_share_of_each_table():
    found = collisions(tables_of("tt:rank=2", (4000, 1000)), max_ids=1000)
    assert [one.ids for one in found] == [800, 200]
