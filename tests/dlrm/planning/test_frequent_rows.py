"""How bytes are divided among tables: against all divisions there are."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embpress.dlrm.planning.proposals.frequent_rows import Point, _hull, knapsack


def curve(rows, losses, row_bytes=8):
    return [Point(r, 8 + row_bytes * r, loss) for r, loss in zip(rows, losses)]


def convex(seed, count=5):
    """A falling convex curve over 1, 2, 4, … rows."""
    g = torch.Generator().manual_seed(seed)
    rows = [2**i for i in range(count)]
    slopes = sorted((-torch.rand(count - 1, generator=g)).tolist())
    losses = [1.0]
    for (a, b), slope in zip(itertools.pairwise(rows), slopes):
        losses.append(losses[-1] + slope * (b - a) / rows[-1])
    return curve(rows, losses)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=3, unique=True), st.floats(0.05, 1.2))
@settings(deadline=None, max_examples=60)
def test_nothing_that_fits_loses_less(seeds, share):
    options = {t: convex(seed) for t, seed in enumerate(seeds)}
    size = int(share * sum(points[-1].bytes for points in options.values()))
    chosen = knapsack(options, size)
    every = [c for c in itertools.product(*options.values()) if sum(point.bytes for point in c) <= size]
    if chosen is None:
        assert not every
        return
    assert sum(point.bytes for point in chosen.values()) <= size
    best = min(sum(point.loss for point in c) for c in every)
    row = max((a.loss - b.loss) / (b.rows - a.rows) for p in options.values() for a, b in itertools.pairwise(p))
    assert sum(point.loss for point in chosen.values()) <= best + row


def test_what_is_left_over_is_used():
    chosen = knapsack({0: curve([1, 101], [1.0, 0.0]), 1: curve([1, 101], [1.0, 0.5])}, 8 + 8 * 101 + 8 + 8 * 41)
    assert (chosen[0].rows, chosen[1].rows) == (101, 41)
    assert chosen[1].loss == pytest.approx(0.8)


def test_points_that_cost_more_and_lose_more_are_left_out():
    hull = _hull([Point(4, 40, 0.2), Point(1, 10, 1.0), Point(2, 20, 1.1), Point(3, 30, 0.9), Point(8, 80, 0.3)])
    assert [point.rows for point in hull] == [1, 4]


def test_too_few_bytes_for_the_smallest_are_said():
    assert knapsack({0: curve([1, 2], [1.0, 0.5])}, 15) is None
