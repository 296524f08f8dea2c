"""What a method says of its stored cells, against rows looked up: the same cells, the same row, and no other."""

from itertools import combinations

import pytest
import torch
from torch import Generator

from embpress.compressors import InputError, TableCollection, TableConfig
from embpress.compressors.base import Compressor
from embpress.compressors.spec import parse

N, D = 300, 8
METHODS = (
    *(
        "hash:k=20",
        "hash:k=12:parts=2",
        "hash:k=9:parts=2:op=add",
        "hash:k=9:parts=3:op=add",
        "hash:k=5:parts=2:sign=true",
    ),
    *(
        "qr:c=20",
        "qr:c=20:op=concat",
        "qr:c=6:parts=3",
        "robe:z=4:size=60",
        "robe:z=3:size=40",
        "robe:z=8:size=20:sign=true",
    ),
    *("unified:k=25", "unified:k=25:parts=3", "cce:k=4:hashed=6", "top:rows=40", "tt:rank=3", "tt:rank=3:cache_rows=9"),
    *(
        "lowrank:k=2",
        "mlet:k=12",
        "md:width=8x4:blocks=2",
        "md:width=4",
        "full",
        "narrow",
        "hash:k=20+bf16",
        "qr:c=20+int8",
    ),
)
COMPUTED = ("dhe:k=32:hidden=16", "sketch:rows=20")


def made(method, n=N, tables=1):
    configs = [TableConfig(n, D, f"t{i}") for i in range(tables)]
    return TableCollection.build(configs, method, min_rows=0, generator=Generator().manual_seed(5)).eval()


def same(rows):
    """Which pairs of ids have one row, `(n, n)` bool."""
    return (rows.unsqueeze(0) == rows.unsqueeze(1)).all(-1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tables", [1, 2])
def test_rows_are_one_where_cells_are(method, tables):
    for table in made(method, tables=tables).tables:
        found = table.cells(torch.arange(N))
        assert found.first.shape == (N, len(found.parts))
        assert len(found.parts) > 0
        there = (found.first >= 0).any(1)
        dense = table.to_dense()[there]
        # sums of three are rounded in their order; the drawn values are far apart
        near = torch.cdist(dense.double(), dense.double(), compute_mode="donot_use_mm_for_euclid_dist") < 1e-6
        assert torch.equal(same(found.rows[there]), near)
        for part, column in zip(found.parts, found.first.T):
            assert int(column.max()) + part.span <= part.size
            if part.places is not None:
                assert int(column.min()) >= part.lowest
                assert int(column.max()) < part.lowest + part.places


@pytest.mark.parametrize("method", ["hash:k=20", "hash:k=12:parts=2", "robe:z=4:size=60", "unified:k=25", "tt:rank=3"])
def test_a_changed_cell_changes_the_rows_that_name_it(method):
    collection = made(method)
    (table,) = collection.tables
    found = table.cells(torch.arange(N))
    before = table.to_dense()
    arrays = {array.name: array for array in table.arrays()}
    for name in {part.array for part in found.parts}:
        with torch.no_grad():
            kept = table.array(name).view(arrays[name].rows, -1)
            for cell in (0, len(kept) // 2, len(kept) - 1):
                was = kept[cell].clone()
                kept[cell] += 1.0
                changed = (table.to_dense() != before).any(1)
                kept[cell] = was
                reads = torch.zeros(N, dtype=torch.bool)
                for part, column in zip(found.parts, found.first.T):
                    reads |= (part.array == name) & (column <= cell) & (cell < column + part.span)
                assert torch.equal(changed, reads)


@pytest.mark.parametrize("method", COMPUTED)
def test_rows_computed_from_all_that_is_stored_have_no_cells(method):
    found = made(method).tables[0].cells(torch.arange(N))
    assert found.parts == ()
    assert found.first.shape == (N, 0)
    assert found.chance is None


def test_hot_and_cached_ids_have_no_cells():
    table = made("hash:k=20+hot:fraction=0.1").tables[0]
    found = table.cells(torch.arange(N))
    kept = table.uncompressed(torch.arange(N))
    assert torch.equal((found.first < 0).all(1), kept)
    assert 0 < int(kept.sum()) < N
    cached = made("tt:rank=3:cache_rows=9").tables[0]
    cached.fill_cache(torch.tensor([3, 7]))
    assert torch.equal((cached.cells(torch.arange(N)).first < 0).all(1).nonzero().flatten(), torch.tensor([3, 7]))


def test_rows_that_are_pruned_away_are_one():
    table = made("prune:keep=0.03").tables[0]
    found = table.cells(torch.arange(N))
    empty = (table.to_dense() == 0).all(1)
    assert 1 < int(empty.sum()) < N
    assert torch.equal(same(found.rows), same(torch.where(empty, N, torch.arange(N)).unsqueeze(1)))


def chance_of(method, draws, pairs):
    """How often pairs of ids have one row, over tables drawn anew."""
    found = []
    for seed in range(draws):
        table = TableCollection.build(
            [TableConfig(64, D, "t")], method, min_rows=0, generator=Generator().manual_seed(seed)
        ).tables[0]
        rows = same(table.cells(torch.arange(64)).rows)
        found += [float(rows[i, j]) for i, j in pairs]
    return sum(found) / len(found), len(found)


@pytest.mark.parametrize(
    "method",
    [
        "hash:k=8",
        "hash:k=3:parts=2",
        "hash:k=6:parts=2:op=add",
        "hash:k=3:parts=3:op=add",
        "hash:k=4:parts=2:sign=true",
        "unified:k=4",
        "cce:k=2:hashed=2",
    ],
)
def test_the_chance_of_one_row(method):
    pairs = list(combinations(range(64), 2))
    share, count = chance_of(method, 60, pairs)
    chance = made(method, 64).tables[0].cells(torch.arange(64)).chance
    assert share == pytest.approx(chance, rel=0.15, abs=4 / count)


def test_a_method_that_does_not_say_is_refused_by_name():
    class Silent(Compressor):
        spec_name = "silent"
        group = None

        def reset_parameters(self, generator=None):
            pass

        def _lookup(self, ids):
            return torch.zeros(len(ids), self.embedding_dim)

    with pytest.raises(InputError, match="silent does not say"):
        Silent(10, 4).cells(torch.arange(10))
    assert parse("hash")  # the registry is untouched
