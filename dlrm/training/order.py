"""The order of the samples of an epoch: a permutation of all rows, or of data too long for it windows of blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Generator, Tensor

from embpress.dlrm.data import Part
from embpress.dlrm.data.ahead import ahead
from embpress.dlrm.data.base import joined
from embpress.dlrm.training.settings import SHUFFLE_BLOCK

# a permutation of so many rows takes half a gigabyte. More rows take more than most memories hold, and rows in the
# order of a permutation are then read from all over the disk, one page each
EXACT_ROWS = 1 << 26
WINDOW_ROWS = 1 << 20  # two windows are held: of 26 ids and 13 dense values a row 168 MB each


def window_of(rows: int, asked: int | None = None) -> int | None:
    """The rows of a window, whole blocks of them; None where the order is a permutation of all rows.

    Args:
        rows: of the training part.
        asked: as many as were asked for; None where nobody did.
    """
    if rows <= (EXACT_ROWS if asked is None else asked):
        return None
    return (asked or WINDOW_ROWS) // SHUFFLE_BLOCK * SHUFFLE_BLOCK


class Order(Protocol):
    """The order of an epoch; all of it follows from what was drawn when it was made."""

    def pieces(self, part: Part, size: int, first: int = 0) -> Iterator[Part]:
        """The rows of a part in this order, from place `first` on, copied, in pieces of `size` but for the last.

        What is before `first` is not read, or read only as far as a window begins before it.
        """
        ...


def drawn(rows: int, window: int | None, generator: Generator) -> Order:
    """The order of one epoch, drawn from the generator alone, all of it now.

    Args:
        rows: of the part.
        window: see `window_of`.
        generator: of the CPU.
    """
    return Permutation(rows, generator) if window is None else Windows(rows, window, generator)


class Permutation:
    """Every order of all rows is as likely as any other."""

    def __init__(self, rows: int, generator: Generator) -> None:
        self.order = torch.randperm(rows, generator=generator)

    def pieces(self, part: Part, size: int, first: int = 0) -> Iterator[Part]:
        """See `Order`."""
        for some in self.order[first:].split(size):
            if len(some):  # torch splits nothing into one piece
                yield part.take(some)


class Windows:
    """Blocks of consecutive rows in random order; of so many blocks as make a window the rows are mixed.

    Each block is read once and from its beginning to its end, so that data on a disk are read fast. Two windows are in
    memory, one that is used and one that is read meanwhile. As the blocks of a window come from anywhere in the data,
    so do the rows of a batch; but rows of one block always come in one window.

    Args:
        rows: of the part.
        window: rows of a window; whole blocks of it are taken.
        generator: of the CPU.
        block: rows of a block.
    """

    def __init__(self, rows: int, window: int, generator: Generator, block: int = SHUFFLE_BLOCK) -> None:
        self.length, self.block = rows, block
        self.windows = torch.randperm(-(-rows // block), generator=generator).split(max(1, window // block))
        # each window has draws of its own, so that nothing need be drawn for those that are passed over
        self.seed = int(torch.randint(1 << 62, (), generator=generator))

    def pieces(self, part: Part, size: int, first: int = 0) -> Iterator[Part]:
        """See `Order`."""
        rest: Part | None = None  # what is left of a window, less than a piece
        for held, order in ahead(self._read(part, first)):
            start = 0
            while start < len(order):
                some = order[start : start + size - (0 if rest is None else len(rest))]
                start += len(some)
                piece = held.take(some)
                rest = piece if rest is None else joined((rest, piece))
                if len(rest) == size:
                    yield rest
                    rest = None
        if rest is not None:
            yield rest

    def _read(self, part: Part, first: int) -> Iterator[tuple[Part, Tensor]]:
        """The rows of each window as they lie in the part, and the order in which they come; what is before `first` is
        left out.
        """
        before = 0
        for number, blocks in enumerate(self.windows):
            spans = self._spans(blocks)
            rows = sum(stop - start for start, stop in spans)
            if before + rows > first:
                held = joined([part.slice(*span) for span in spans])
                yield held, self._mixed(number, rows)[max(0, first - before) :]
            before += rows

    def _spans(self, blocks: Tensor) -> list[tuple[int, int]]:
        """First row and end of each block of a window, in the order in which they lie in the part."""
        return [(b * self.block, min(self.length, (b + 1) * self.block)) for b in blocks.sort().values.tolist()]

    def _mixed(self, number: int, rows: int) -> Tensor:
        return torch.randperm(rows, generator=Generator().manual_seed(self.seed + number))
