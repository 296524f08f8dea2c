"""What only this method and this modifier promise, against something independent."""

import pytest
import torch
from torch import nn

from embpress.compressors import BudgetError, TableCollection, TableConfig, create


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_row_is_the_weighted_sum_of_its_hashed_rows():
    table = create("weighted-hash:k=5:parts=3", 40, 4, generator=seeded())
    for i in range(40):
        slots = table.slots(torch.tensor([i]))[0].tolist()
        assert all(0 <= slot < 5 for slot in slots)
        want = sum(table.importance[i, j] * table.rows[slot] for j, slot in enumerate(slots))
        torch.testing.assert_close(table.lookup(torch.tensor(i)), want)


def test_hashes_spread_ids_evenly_and_one_part_knows_nothing_of_the_other():
    table = create("weighted-hash:k=64:parts=2", 64_000, 4, generator=seeded())
    slots = table.slots(torch.arange(64_000))
    for counts in (
        torch.bincount(slots[:, 0]),
        torch.bincount(slots[:, 1]),
        torch.bincount(slots @ torch.tensor([64, 1])),
    ):
        mean = 64_000 / len(counts)
        chi = float(((counts - mean) ** 2 / mean).sum())
        assert abs(chi - len(counts)) < 6 * (2 * len(counts)) ** 0.5


def test_ids_that_collide_altogether_differ():
    table = create("weighted-hash:k=1", 30, 8, generator=seeded())
    assert len(torch.unique(table.to_dense(), dim=0)) == 30


def test_a_budget_is_kept_and_what_cannot_be_reached_is_said():
    table = create("weighted-hash", 10_000, 32, ratio=8)
    assert 0.99 * 160_000 < table.ledger().serving_bytes <= 160_000
    with pytest.raises(BudgetError, match="10000 ids of 2 numbers") as error:
        create("weighted-hash", 10_000, 32, ratio=32)
    assert create("weighted-hash", 10_000, 32, budget=error.value.smallest).k == 1


def test_rows_are_those_of_torchs_max_norm():
    table = create("full+max-norm:at=0.05", 200, 8, generator=seeded())
    ids = torch.randint(200, (64,), generator=seeded(1))
    plain = nn.Embedding(200, 8, max_norm=0.05, _weight=table.table.weight.detach().clone())
    torch.testing.assert_close(table.lookup(ids), plain(ids))
    assert table.to_dense().norm(dim=1).max() <= 0.05 * (1 + 1e-6)


def test_tables_of_a_model_are_bounded_together_and_pool_what_is_shortened():
    configs = [TableConfig(300, 8, "a"), TableConfig(500, 8, "b")]
    tables = TableCollection.build(configs, "hash:k=50+max-norm:at=0.02", min_rows=0, generator=seeded())
    ids = torch.tensor([[3, 499], [299, 0]])
    together = tables(ids)
    torch.testing.assert_close(together, torch.stack([t.lookup(ids[:, i]) for i, t in enumerate(tables.tables)], 1))
    assert together.norm(dim=2).max() <= 0.02 * (1 + 1e-6)
    bags = (torch.tensor([1, 2, 3]), torch.tensor([0, 1]))
    first, second = tables.tables
    torch.testing.assert_close(tables([bags, bags])[1, 0], first.lookup(torch.tensor([2, 3])).sum(0))
    torch.testing.assert_close(tables.fold()([bags, bags])[1, 1], second.lookup(torch.tensor([2, 3])).sum(0))
