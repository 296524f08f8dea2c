"""What rows that leave TT-Rec's cache leave behind in the cores: a change of their last slices, or nothing."""

import math

import pytest
import torch
from cached_tables import D, N, close, from_cores, held, make, rows, sgd, step

from embpress.compressors import create
from embpress.compressors.methods.tt.write_back import write_back


@pytest.mark.parametrize("num_cores", [2, 3, 4])
def test_write_back_is_the_least_squares_optimum_over_all_rows_of_a_slice(num_cores):
    """Against one dense problem: rows that are written back want their values, all others want to stay."""
    table = make(num_cores=num_cores, rank=2, evict="write-back", cache_rows=6)
    p, last = table.row_factors[-1], table.cores[-1]
    old = [core.detach().clone() for core in table.cores]
    ids = torch.tensor([0, p, 2 * p, 1, p + 1, 2])  # last digits 0 thrice, 1 twice, 2
    table.fill_cache(ids)
    values = torch.randn(6, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        table.cache.values.copy_(values)
    table.cache.fill(torch.arange(40, 46), table._from_cores, table._write_back)
    for core, kept in zip(list(table.cores)[:-1], old):
        assert torch.equal(core, kept)
    rank, width = last.shape[1], last.shape[2]
    for digit in range(p):
        own = (ids % p == digit).nonzero().flatten()
        if not len(own):
            assert torch.equal(last[digit], old[-1][digit])
            continue
        # columns: what one entry of the slice does to the rows that share it, found by looking the rows up
        sharing = torch.arange(digit, math.prod(table.row_factors), p)
        design = torch.zeros(len(sharing) * D, rank * width, dtype=torch.float64)
        for k in range(rank * width):
            unit = torch.zeros(rank * width, dtype=torch.float64)
            unit[k] = 1
            slice_ = torch.zeros_like(old[-1])
            slice_[digit] = unit.view(rank, width, 1)
            design[:, k] = torch.cat([from_cores([*old[:-1], slice_], int(i)) for i in sharing])
        start = old[-1][digit].flatten()
        wanted = torch.zeros(len(sharing), D, dtype=torch.float64)
        wanted[ids[own] // p] = values[own] - (design @ start).view(len(sharing), D)[ids[own] // p]
        change = torch.linalg.pinv(design) @ wanted.flatten()
        torch.testing.assert_close(last[digit].detach().flatten(), start + change, rtol=1e-9, atol=1e-10)


def nearly_dependent(dtype, tilt):
    """Cores of two rows of partial products that differ by `tilt`, among others that are small in that direction."""
    first = torch.zeros(4, 1, 1, 2, dtype=dtype)
    first[:, 0, 0, 0] = 1
    first[1, 0, 0, 1] = tilt
    return [first, torch.randn(3, 2, 4, 1, dtype=dtype, generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tilt", [1e-1, 1e-4, 1e-7, 1e-30, 0])
def test_write_back_of_rows_that_are_nearly_dependent_moves_others_no_further_than_these_come_nearer(tilt, dtype):
    """Rows 0 and 3 have the last digit 0 and all but one partial product, and are to become opposites."""
    cores, ids = nearly_dependent(dtype, tilt), torch.tensor([0, 3])
    before = torch.stack([from_cores(cores, i) for i in range(12)])
    values = torch.tensor([[1.0], [-1.0]], dtype=dtype).expand(2, 4)
    write_back(cores, ids, values)
    after = torch.stack([from_cores(cores, i) for i in range(12)])
    lacked, lacks = ((values - rows[ids]).square().sum() for rows in (before, after))
    others = ~torch.isin(torch.arange(12), ids)
    moved = (after - before)[others].square().sum()
    assert lacks + moved <= lacked * (1 + 1e-5)
    assert lacks < lacked


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_write_back_of_what_is_not_finite_changes_nothing(wrong):
    cores = nearly_dependent(torch.float32, 0.1)
    old = [core.clone() for core in cores]
    write_back(cores, torch.tensor([0, 1]), torch.tensor([[wrong] * 4, [1.0] * 4]))
    assert torch.equal(cores[1][0], old[1][0])
    assert not torch.equal(cores[1][1], old[1][1])
    cores[0][3] = wrong
    kept = cores[1].clone()
    write_back(cores, torch.tensor([1]), torch.ones(1, 4))
    assert torch.equal(cores[1], kept)


def test_training_with_write_back_stays_near_training_without():
    """Rows come and go while they are learned, which once ended in losses of ten digits."""

    def losses(evict):
        generator = torch.Generator().manual_seed(0)
        target = torch.randn(600, 8, generator=generator) * 0.1
        knobs = f"rank=8:cache_rows=40:warmup=5:refresh=10:evict={evict}"
        table = create(f"tt:{knobs}", 600, 8, generator=generator)
        optimizer = torch.optim.Adagrad(table.parameters(), lr=0.1)
        found = []
        for step_number in range(120):
            ids = ((torch.rand(128, generator=generator) ** 3 * 600).long() + step_number // 20 * 37) % 600
            loss = (table(ids[:, None]) - target[ids]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            table.maintain()
            optimizer.step()
            found.append(loss.item())
        return torch.tensor(found)

    dropped, written = losses("drop"), losses("write-back")
    assert not torch.equal(dropped, written)
    assert float((written / dropped).max()) < 1.2


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
