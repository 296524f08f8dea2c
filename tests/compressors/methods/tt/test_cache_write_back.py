"""What rows that leave TT-Rec's cache leave behind in the cores: their last slices by least squares, or nothing."""

import pytest
import torch
from cached_tables import D, N, close, from_cores, held, make, rows, sgd, step


@pytest.mark.parametrize("num_cores", [2, 3, 4])
def test_write_back_is_the_least_squares_optimum_of_the_last_slices(num_cores):
    """Against one dense problem over all entries of a slice, solved by its pseudo-inverse."""
    table = make(num_cores=num_cores, rank=2, evict="write-back", cache_rows=6)
    p, last = table.row_factors[-1], table.cores[-1]
    old = [core.detach().clone() for core in table.cores]
    ids = torch.tensor([0, p, 2 * p, 1, p + 1, 3])  # last digits 0 thrice, 1 twice, 3 % p
    table.fill_cache(ids)
    values = torch.randn(6, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        table.cache.values.copy_(values)
    before = table.to_dense()
    table.cache.fill(torch.arange(40, 46), table._from_cores, table._write_back)
    for core, kept in zip(list(table.cores)[:-1], old):
        assert torch.equal(core, kept)
    rank, width = last.shape[1], last.shape[2]
    for digit in range(p):
        own = (ids % p == digit).nonzero().flatten()
        if not len(own):
            assert torch.equal(last[digit], old[-1][digit])
            continue
        # columns: what one entry of the slice does to the rows, found by looking the rows up
        design = torch.zeros(len(own) * D, rank * width, dtype=torch.float64)
        for k in range(rank * width):
            unit = torch.zeros(rank * width, dtype=torch.float64)
            unit[k] = 1
            slice_ = torch.zeros_like(old[-1])
            slice_[digit] = unit.view(rank, width, 1)
            design[:, k] = torch.cat([from_cores([*old[:-1], slice_], i) for i in ids[own]])
        start = old[-1][digit].flatten()
        change = torch.linalg.pinv(design) @ (values[own].flatten() - design @ start)
        torch.testing.assert_close(last[digit].detach().flatten(), start + change, rtol=1e-9, atol=1e-10)
    after = table.lookup(torch.arange(N)).detach()
    others = ~torch.isin(torch.arange(N) % p, ids % p)
    others &= ~torch.isin(torch.arange(N), ids)
    assert bool(others.any())
    assert torch.equal(after[others], before[others])


def test_write_back_brings_a_row_back_where_the_slice_can_hold_it():
    """One row and a slice with enough entries: what was learned is looked up from the cores, to rounding."""
    table = make(rank=8, column_factors=(2, 1, 4), evict="write-back", cache_rows=1)
    table.fill_cache(torch.tensor([13]))
    want = torch.linspace(-1, 1, D, dtype=torch.float64)
    with torch.no_grad():
        table.cache.values.copy_(want)
    table.cache.fill(torch.tensor([30]), table._from_cores, table._write_back)
    torch.testing.assert_close(from_cores(table.cores, 13), want, rtol=1e-9, atol=1e-9)


def test_drop_changes_no_core():
    table = make()
    table.fill_cache(torch.tensor([1, 2, 3]))
    with torch.no_grad():
        table.cache.values += 1
    cores = [core.detach().clone() for core in table.cores]
    table(rows(*[50, 51, 52] * 9))
    table(rows(50))
    assert held(table) == {50, 51, 52}
    assert all(torch.equal(core, old) for core, old in zip(table.cores, cores))


@pytest.mark.parametrize("evict", ["drop", "write-back"])
def test_evicted_rows_are_looked_up_from_the_cores_again(evict):
    table = make(evict=evict)
    own = sgd(table)
    for _ in range(6):
        step(table, own, [7, 7, 7, 8, 8, 9])
    for wave in range(3):
        new = [30 + 3 * wave, 31 + 3 * wave, 32 + 3 * wave]
        for _ in range(2):
            step(table, own, new * 20 * 3**wave)
        assert held(table) == set(new)
        for i in range(N):
            if i not in new:
                close(table.lookup(torch.tensor(i)).detach(), from_cores(table.cores, i))
                close(table(rows(i)).detach()[0], from_cores(table.cores, i))
        assert table.cache.holds(torch.arange(N)).nonzero().flatten().tolist() == new
    # and they train the cores again, not a place of the cache
    table.zero_grad()
    table(rows(7)).sum().backward()
    assert not table.cache.values.grad.any()
    assert all(core.grad.any() for core in table.cores)
