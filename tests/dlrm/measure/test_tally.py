"""Sums in ascending order and in bounded memory, and the exact AUC that they give, against sorting everything."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embpress.dlrm.measure import spool, tally
from embpress.dlrm.measure.auc import auc, counted
from embpress.dlrm.measure.tally import tallies


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(tally, "PIECE", 40)


def auc_by_pairs(logits, labels):
    """By all pairs, in whole numbers."""
    ones, zeros = logits[labels == 1].double(), logits[labels == 0].double()
    gaps = ones.unsqueeze(1) - zeros
    return (2 * int((gaps > 0).sum()) + int((gaps == 0).sum())) / (2 * gaps.numel())


def drawn(seed, rows, kinds):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(rows, generator=generator) < 0.3).float()
    return torch.randint(-kinds, kinds + 1, (rows,), generator=generator) / kinds * 3 + labels / 4, labels


floats = st.floats(width=32, allow_nan=False)


@settings(deadline=None)
@given(st.lists(st.tuples(floats, st.integers(-3, 3)), min_size=1, max_size=300))
def test_any_numbers_come_once_in_order_with_their_sums(rows):
    values = torch.tensor([value for value, _ in rows], dtype=torch.float32)
    weights = torch.tensor([[float(weight), 1.0] for _, weight in rows], dtype=torch.float64)
    found = list(tallies(values, lambda index: weights[index]))
    together = torch.cat([value for value, _ in found]).numpy()
    wanted, number = np.unique(values.numpy(), return_inverse=True)
    assert np.array_equal(together, wanted)
    sums = np.zeros((len(wanted), 2))
    np.add.at(sums, number, weights.numpy())
    assert np.array_equal(torch.cat([total for _, total in found]).numpy(), sums)


def test_few_rows_are_taken_at_once_however_alike_the_numbers_are():
    """Numbers whose upper halves differ, and ones with one and the same."""
    for values in (torch.randn(3000), 1 + torch.randint(100, (3000,)) / 2**20):
        taken = []
        one = torch.ones(1, dtype=torch.float64)

        def weights(index, taken=taken, one=one):
            taken.append(len(index))
            return one.expand(len(index), 1)

        assert sum(len(found) for found, _ in tallies(values, weights)) == len(values.unique())
        assert max(taken) <= tally.PIECE
        assert sum(taken) == 3000


@pytest.mark.parametrize("kinds", [1, 20, 10**6])
@pytest.mark.parametrize("rows", [2, 39, 2000])
def test_the_counted_auc_is_the_share_of_pairs_won(rows, kinds):
    logits, labels = drawn(kinds + rows, rows, kinds)
    labels[0], labels[1] = 0, 1
    assert counted(logits, labels) == auc_by_pairs(logits, labels)
    assert counted(logits, labels) == pytest.approx(auc(logits, labels), abs=1e-6)


def test_signs_infinities_and_both_zeros():
    logits = torch.tensor([-np.inf, -1.0, -1e-40, -0.0, 0.0, 1e-40, 2.0, np.inf])
    labels = torch.tensor([0.0, 1, 0, 1, 0, 1, 0, 1])
    # pairs won by the ones, from the smallest: 1 of 4, then 2 with a tie, then 3, then 4
    assert counted(logits, labels) == (1 + 2.5 + 3 + 4) / 16
    assert np.isnan(counted(logits, torch.ones(8)))


def test_many_rows_are_counted(monkeypatch):
    logits, labels = drawn(0, 500, 50)
    monkeypatch.setattr(spool, "IN_MEMORY", 499)
    assert auc(logits, labels) == auc_by_pairs(logits, labels)
