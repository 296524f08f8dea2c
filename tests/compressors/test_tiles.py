"""Tiles: every lookup has one place in a tile of its own table, and the shape follows from the sizes alone."""

import pytest
import torch

from embpress.compressors.tiles import tiles


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("lookups", [0, 1, 6, 7, 100])
@pytest.mark.parametrize("spread", ["even", "one", "last", "random"])
def test_every_lookup_lies_in_a_tile_of_its_table(count, lookups, spread):
    draws = torch.Generator().manual_seed(lookups)
    tables = {
        "even": torch.arange(lookups) % count,
        "one": torch.zeros(lookups, dtype=torch.int64),
        "last": torch.full((lookups,), count - 1),
        "random": torch.randint(count, (lookups,), generator=draws),
    }[spread]
    ids = torch.randint(1, 1000, (lookups,), generator=draws)
    found = tiles(ids, tables, count)
    assert found.ids.shape == ((2 * count, lookups // count + 1) if count > 1 else (1, lookups))
    assert len(found.place.unique()) == lookups
    assert torch.equal(found.ids.flatten()[found.place], ids)
    assert torch.equal(found.tables[found.place // max(1, found.ids.shape[1])], tables)
    empty = torch.ones(found.ids.numel(), dtype=torch.bool).index_fill(0, found.place, False)
    assert not found.ids.flatten()[empty].any()
