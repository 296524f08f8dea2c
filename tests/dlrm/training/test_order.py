"""The order of an epoch's samples: each once, mixed within windows that no memory bounds, and resumable."""

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embpress.compressors.errors import InputError
from embpress.dlrm.data import Part, load
from embpress.dlrm.data.base import Bags, joined
from embpress.dlrm.training import click_model, order
from embpress.dlrm.training.model import describe_training
from embpress.dlrm.training.order import Permutation, Windows, window_of
from embpress.dlrm.training.settings import SHUFFLE_BLOCK, resolve


def part_of(rows):
    """Rows that hold their number in each column, and bags of 0 to 2 times it."""
    number = torch.arange(rows)
    lengths = number % 3
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    bags = {1: Bags(number.repeat_interleave(lengths).int(), offsets)}
    return Part(number.float(), number.float().unsqueeze(1), torch.stack([number, 0 * number], 1).int(), bags)


def numbers(pieces):
    """The numbers of the rows of some pieces; each column must hold them."""
    found = []
    for piece in pieces:
        rows = piece.ids[:, 0].long()
        assert torch.equal(rows.float(), piece.labels)
        assert torch.equal(rows.float(), piece.dense[:, 0])
        assert torch.equal(piece.bags[1].values.long(), rows.repeat_interleave(rows % 3))
        assert torch.equal(piece.bags[1].offsets.diff(), rows % 3)
        found += rows.tolist()
    return found


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(
    rows=st.integers(1, 200),
    block=st.integers(1, 20),
    blocks=st.integers(1, 8),
    size=st.integers(1, 70),
    seed=st.integers(0, 3),
    first=st.integers(0, 220),
)
def test_every_row_once_in_windows_of_whole_blocks_and_from_any_place_on(rows, block, blocks, size, seed, first):
    part, made = part_of(rows), Windows(rows, blocks * block, seeded(seed), block)
    pieces = list(made.pieces(part, size))
    assert [len(piece) for piece in pieces[:-1]] == [size] * (len(pieces) - 1)
    assert 0 < len(pieces[-1]) <= size
    found = numbers(pieces)
    assert sorted(found) == list(range(rows))
    assert numbers(made.pieces(part, size, first)) == found[first:]
    # a window is whole blocks, so many of them
    at = 0
    while at < rows:
        inside = set()
        while at < rows and (found[at] // block in inside or len(inside) < blocks):
            inside.add(found[at] // block)
            at += 1
        assert not inside & {number // block for number in found[at:]}


def test_seeds_and_epochs_differ_and_a_seed_is_repeatable():
    part = part_of(5000)
    orders = [numbers(Windows(5000, 400, seeded(seed), 20).pieces(part, 500)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    generator = seeded(0)
    first, second = (numbers(Windows(5000, 400, generator, 20).pieces(part, 500)) for _ in range(2))
    assert first == orders[0]
    assert first != second


def test_rows_of_a_window_come_from_all_over_and_are_mixed():
    found = torch.tensor(numbers(Windows(100_000, 10_000, seeded(0), 100).pieces(part_of(100_000), 30_000)))
    for window in found.split(10_000):
        assert window.min() < 10_000
        assert window.max() >= 90_000
        # neighbours of before are apart by a third of the window, as in a random order
        place = torch.empty(100_000, dtype=torch.int64)
        place[window] = torch.arange(len(window))
        one = window[(window % 100) < 99]
        assert (place[one] - place[one + 1]).abs().double().mean() == pytest.approx(len(window) / 3, rel=0.05)


def test_a_permutation_goes_on_from_any_place():
    part, made = part_of(50), Permutation(50, seeded(3))
    assert numbers(made.pieces(part, 7)) == torch.randperm(50, generator=seeded(3)).tolist()
    assert numbers(made.pieces(part, 7, 20)) == torch.randperm(50, generator=seeded(3)).tolist()[20:]
    assert numbers(made.pieces(part, 7, 50)) == []


def test_windows_are_read_one_after_the_other_and_not_before_they_are_needed():
    """Two windows at most are there, and each block is read once, by slices alone."""
    rows, block, blocks = 40_000, 100, 20
    data, read, used = part_of(rows), [], 0

    class Watched(Part):
        def slice(self, start, stop):
            read.append((start, stop))
            return super().slice(start, stop)

        def take(self, index):
            raise AssertionError("rows were taken from the whole part")

    watched = Watched(data.labels, data.dense, data.ids, data.bags)
    for piece in Windows(rows, blocks * block, seeded(0), block).pieces(watched, 500):
        used += len(piece)
        assert len(read) * block <= used + 2 * blocks * block + 500
    assert sorted(read) == [(start, start + block) for start in range(0, rows, block)]


def test_old_windows_are_let_go(monkeypatch):
    windows, most = [], 0

    def kept(parts):
        made = joined(parts)
        if len(made) == 2000:
            windows.append(weakref.ref(made))
        return made

    monkeypatch.setattr(order, "joined", kept)
    for _ in Windows(40_000, 2000, seeded(0), 100).pieces(part_of(40_000), 500):
        most = max(most, sum(window() is not None for window in windows))
    assert len(windows) == 20
    assert most <= 2


def test_batches_of_a_training_follow_the_window_and_begin_where_asked(monkeypatch):
    data = load(rows=20_000, scale=0.0001)
    rows = len(data.train)
    settings = resolve(rows, batch_size=300, shuffle_window=SHUFFLE_BLOCK)
    monkeypatch.setattr(click_model, "make_optimizers", lambda *_: [])

    class Model:
        device = torch.device("cpu")

    def work():
        return click_model.ClickWork(Model(), data, settings, 5)

    whole = list(work().batches(0))
    assert [size for _, size in whole] == [300] * (rows // 300) + [rows % 300] * (rows % 300 > 0)
    expected = torch.tensor(numbers(Windows(rows, SHUFFLE_BLOCK, seeded(5)).pieces(part_of(rows), rows)))
    assert torch.equal(torch.cat([batch.ids for batch, _ in whole]), data.train.ids[expected])
    later = list(work().batches(0, first=17))
    assert torch.equal(torch.cat([batch.ids for batch, _ in later]), data.train.ids[expected[17 * 300 :]])
    # the next epoch is drawn from what the first has left, wherever that began
    one, other = work(), work()
    list(one.batches(0)), list(other.batches(0, first=30))
    for (ours, _), (theirs, _) in zip(one.batches(1), other.batches(1), strict=True):
        assert torch.equal(ours.ids, theirs.ids)


def test_the_window_is_told_only_where_there_is_one(monkeypatch):
    assert window_of(order.EXACT_ROWS) is None
    assert window_of(order.EXACT_ROWS + 1) == order.WINDOW_ROWS
    assert window_of(10**6, 100_000) == 24 * SHUFFLE_BLOCK
    assert window_of(5000, 100_000) is None
    assert window_of(4500, 4500) is None
    assert window_of(4500, 4499) == SHUFFLE_BLOCK
    assert "shuffle_window" not in describe_training(resolve(1000), 1000)
    asked = resolve(1000, shuffle_window=5000)
    assert "shuffle_window" not in describe_training(asked, 1000)
    assert describe_training(asked, 10_000)["shuffle_window"] == 4096
    with pytest.raises(InputError, match="shuffle_window"):
        resolve(1000, shuffle_window=100)
