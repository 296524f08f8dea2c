"""How ids share what is stored: with how many others, measured, and under a function drawn at random."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from embpress.compressors import Compressor, InputError
from embpress.compressors.cells import CellPart, Cells
from embpress.dlrm.runs.record import Sharing

MAX_IDS = 10_000_000  # of all tables together; of more a sample is looked at
_READS = 1 << 20  # of cells, at a time
_DRAWN_IDS = 200_000  # a random function is drawn anew until it has been drawn for so many ids, or so often
_DRAWS = 8


@torch.no_grad()
def collisions(
    tables: Sequence[Compressor],
    train: Sequence[Tensor] | None = None,
    test: Sequence[Tensor] | None = None,
    max_ids: int = MAX_IDS,
) -> list[Sharing | None]:
    """How the tables of a model share what they store.

    It takes about 60 bytes an id, 36 a stored cell and some 100 MB, and time in proportion to the ids and their cells;
    of tables with more than `max_ids` ids together a sample of so many is looked at, as large a share of each table,
    measured and expected alike.

    Args:
        tables: in eval mode.
        train, test: lookups of each row of each table, `(n,)` int64; None where nobody has counted them.
        max_ids: see above.

    Returns:
        One a table; None for plain tables, for methods that do not say which cells make a row, and where all that is
        stored makes each row.
    """
    found: list[Sharing | None] = [None] * len(tables)
    sets = _on_one_memory(tables)
    rows = sum(tables[t].num_embeddings for members in sets for t in members)
    for members in sets:
        own = [_Table.of(tables[t], _at(train, t), _at(test, t), max_ids, rows) for t in members]
        for t, sharing in zip(members, _measured(own)):
            found[t] = sharing
    return found


def _at(counts: Sequence[Tensor] | None, t: int) -> Tensor | None:
    return None if counts is None else counts[t]


def _on_one_memory(tables: Sequence[Compressor]) -> list[list[int]]:
    """Numbers of the tables that say their cells, those together which read one array."""
    sets: dict[tuple[int, int], list[int]] = {}
    for t, table in enumerate(tables):
        if table.tags.uncompressed:
            continue
        try:
            found = table.cells(torch.zeros(1, dtype=torch.int64, device=table.device))
        except InputError:
            continue
        if found.parts:
            sets.setdefault((1, t) if found.memory is None else (0, found.memory), []).append(t)
    return list(sets.values())


@dataclass
class _Table:
    """One table and the ids of it that are looked at, ascending; None: all."""

    table: Compressor
    sample: Tensor | None
    ids: int
    train: Tensor | None
    test: Tensor | None
    parts: tuple[CellPart, ...] = ()
    chance: float | None = None
    reads: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))

    @classmethod
    def of(cls, table: Compressor, train: Tensor | None, test: Tensor | None, max_ids: int, rows: int) -> _Table:
        n, sample = table.num_embeddings, None
        if rows > max_ids:
            kept = max(1, n * max_ids // rows)
            # spread over all of the table, one of each stretch, drawn
            ends = torch.arange(kept + 1, dtype=torch.float64) * (n / kept)
            lengths = ends.diff()
            drawn = torch.rand(kept, generator=Generator().manual_seed(0), dtype=torch.float64)
            sample = (ends[:-1] + drawn * lengths).long().clamp(max=n - 1)
            train, test = (None if counts is None else counts[sample] for counts in (train, test))
        return cls(table, sample, n if sample is None else len(sample), train, test)

    def cells(self, step: int) -> Iterator[tuple[slice, Cells]]:
        """The cells of the ids, so many at a time, on the CPU."""
        for start in range(0, self.ids, step):
            part = slice(start, min(start + step, self.ids))
            ids = torch.arange(part.start, part.stop) if self.sample is None else self.sample[part]
            found = self.table.cells(ids.to(self.table.device))
            yield part, replace(found, first=found.first.cpu(), rows=found.rows.cpu())


Source = Callable[[_Table, int], Iterator[tuple[slice, Tensor]]]


def _measured(tables: list[_Table]) -> list[Sharing]:
    """Of the tables on one memory."""
    bases, size = _bases(tables)
    keys = _keys(tables)
    whole = _repeated(torch.cat(keys), torch.cat([table.reads for table in tables]))
    wholes = list(whole.split([table.ids for table in tables]))
    parts, others = _shared(tables, bases, size, _stored)
    expected = _others_expected(tables, bases, size) if tables[0].train is not None else [None] * len(tables)
    made = []
    for t, table in enumerate(tables):
        part = parts[t] | wholes[t]
        by_chance = _by_chance(tables, table)
        reading = float(table.reads.double().mean())
        reading_train = _weighted(table.reads, table.train)
        made.append(
            Sharing(
                ids=table.ids,
                whole_ids=float(wholes[t].double().mean()),
                part_ids=float(part.double().mean()),
                whole_train=_weighted(wholes[t], table.train),
                part_train=_weighted(part, table.train),
                whole_test=_weighted(wholes[t], table.test),
                part_test=_weighted(part, table.test),
                **{
                    name + ending: None if chance is None or share is None else chance * share
                    for name, chance in zip(("whole_expected", "part_expected"), by_chance)
                    for ending, share in (("", reading), ("_train", reading_train))
                },
                others_train=others[t],
                others_expected=expected[t] if by_chance[0] is not None else None,
            )
        )
    return made


def _weighted(chosen: Tensor, counts: Tensor | None) -> float | None:
    """The share of the lookups that are of chosen ids; None without lookups."""
    total = 0 if counts is None else int(counts.sum())
    return float(counts[chosen].sum()) / total if counts is not None and total else None


# --- which cells, and how often they are read ------------------------------------------------------------------------


def _bases(tables: list[_Table]) -> tuple[list[Tensor], int]:
    """Where the array of each piece begins among the cells of all arrays `(P,)` of each table, and how many these are.

    Takes up what the tables say of their pieces.
    """
    starts: dict[str, int] = {}
    size, bases = 0, []
    for table in tables:
        one = table.table.cells(torch.zeros(1, dtype=torch.int64, device=table.table.device))
        table.parts, table.chance = one.parts, one.chance
        for part in one.parts:
            if part.array not in starts:
                starts[part.array], size = size, size + part.size
        bases.append(torch.tensor([starts[part.array] for part in one.parts]))
    return bases, size


def _step(table: _Table) -> int:
    """Ids at a time: the pieces of a row are compared with one another."""
    return max(1, _READS // len(table.parts) ** 2)


def _keys(tables: list[_Table]) -> list[Tensor]:
    """A number for the row of each id `(n,)` int64, equal where the rows are; takes up which ids read cells at all."""
    keys = []
    for table in tables:
        key, table.reads = torch.empty(table.ids, dtype=torch.int64), torch.empty(table.ids, dtype=torch.bool)
        for part, found in table.cells(_step(table)):
            table.reads[part] = (found.first >= 0).any(1)
            key[part] = _mixed(found.rows)
        keys.append(key)
    return keys


def _mixed(columns: Tensor) -> Tensor:
    """One number for several `(n, Q)`: of 10^7 different ones two agree with a chance of 10^-5."""
    mixed = columns.new_full((len(columns),), columns.shape[1])
    for column in columns.unbind(1):
        mixed = (mixed ^ (mixed >> 29)) * -4658895280553007687 + column
        mixed = (mixed ^ (mixed >> 32)) * -7723592293110705685
    return mixed


def _repeated(keys: Tensor, reads: Tensor) -> Tensor:
    """Which of those that read have a key that another one has, `(n,)` bool."""
    places = reads.nonzero().flatten()
    _, number, counts = keys[places].unique(return_inverse=True, return_counts=True)
    found = torch.zeros(len(keys), dtype=torch.bool)
    found[places] = counts[number] > 1
    return found


def _stored(table: _Table, step: int) -> Iterator[tuple[slice, Tensor]]:
    """Where the pieces of the ids' rows begin, as they are."""
    for part, found in table.cells(step):
        yield part, found.first


def _shared(
    tables: list[_Table], bases: list[Tensor], size: int, source: Source
) -> tuple[list[Tensor], list[float | None]]:
    """Which ids have a cell that another id reads, `(n,)` bool of each table; and `others_train`."""
    reads = _Reads(tables, bases, size, source)
    shared, others = [], []
    for table, base in zip(tables, bases):
        spans = torch.tensor([part.span for part in table.parts])
        found = torch.zeros(table.ids, dtype=torch.bool)
        foreign = read = 0.0
        for part, first in source(table, _step(table)):
            starts, there = (first + base).masked_fill(first < 0, 0), first >= 0
            weight = None if table.train is None else table.train[part].double()
            twice = _overlap(starts, spans, there)  # ids that read a cell several times themselves
            own, foreign_of = reads.of_pieces(starts, spans, there, weight)
            if bool(twice.any()):
                odd = None if weight is None else weight[twice]
                own[twice], foreign_of[twice] = reads.of_cells(starts[twice], spans, there[twice], odd)
            found[part] = own
            if weight is not None:
                foreign += float(foreign_of.sum())
                read += float((weight * (there * spans).sum(1)).sum())
        shared.append(found)
        others.append(foreign / read if read else None)
    return shared, others


def _overlap(starts: Tensor, spans: Tensor, there: Tensor) -> Tensor:
    """Of which ids two pieces have a cell in common, `(n,)` bool; starts `(n, P)` among all cells."""
    before = (starts.unsqueeze(2) < (starts + spans).unsqueeze(1)) & there.unsqueeze(2) & there.unsqueeze(1)
    return torch.triu(before & before.transpose(1, 2), 1).flatten(1).any(1)


class _Reads:
    """How many ids read each cell, and how often training does; and sums of both over the cells before each."""

    def __init__(self, tables: list[_Table], bases: list[Tensor], size: int, source: Source) -> None:
        readers, lookups = torch.zeros(size + 1, dtype=torch.int32), torch.zeros(size + 1, dtype=torch.float64)
        for table, base in zip(tables, bases):
            spans = torch.tensor([part.span for part in table.parts])
            for part, first in source(table, _step(table)):
                there = first >= 0
                begin, end = (first + base)[there], (first + base + spans)[there]
                one = torch.ones(len(begin), dtype=torch.int32)
                readers.index_add_(0, begin, one).index_add_(0, end, -one)
                if table.train is not None:
                    weight = table.train[part].double().unsqueeze(1).expand(first.shape)[there]
                    lookups.index_add_(0, begin, weight).index_add_(0, end, -weight)
        self.readers = readers.cumsum(0, dtype=torch.int32)
        self.lookups = lookups.cumsum_(0).clamp_(min=1)
        self.several = torch.zeros(size + 2, dtype=torch.int32)
        torch.cumsum(self.readers > 1, 0, dtype=torch.int32, out=self.several[1:])
        self.parts_of_one = torch.zeros(size + 2, dtype=torch.float64)
        torch.cumsum(1 / self.lookups, 0, out=self.parts_of_one[1:])

    def of_pieces(self, starts: Tensor, spans: Tensor, there: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Whether another id reads a cell of each id `(n,)`; and of its training lookups, cell by cell, the sum of the
        shares that others have, where no id reads a cell twice.
        """
        ends = starts + spans
        shared = ((self.several[ends] > self.several[starts]) & there).any(1)
        if weight is None:
            return shared, torch.zeros(len(starts), dtype=torch.float64)
        own = weight.unsqueeze(1) * (self.parts_of_one[ends] - self.parts_of_one[starts])
        return shared, weight * ((spans - own) * there).sum(1)

    def of_cells(self, starts: Tensor, spans: Tensor, there: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same of ids that may read a cell several times."""
        within = torch.cat([torch.arange(span) for span in spans.tolist()])
        cells, read = starts.repeat_interleave(spans, dim=1) + within, there.repeat_interleave(spans, dim=1)
        times = torch.stack([((cells == cell.unsqueeze(1)) & read).sum(1) for cell in cells.unbind(1)], dim=1)
        shared = ((self.readers[cells] > times) & read).any(1)
        if weight is None:
            return shared, torch.zeros(len(starts), dtype=torch.float64)
        own = weight.unsqueeze(1) * times / self.lookups[cells]
        return shared, weight * ((1 - own) * read).sum(1)


# --- what a function drawn at random would give ----------------------------------------------------------------------


def _by_chance(tables: list[_Table], table: _Table) -> tuple[float | None, float | None]:
    """The chance that an id of the table shares its whole row, and a part: balls thrown into bins."""
    if table.chance is None:
        return None, None
    # rows of as many pieces; of one id itself there are no others
    alike = sum(int(other.reads.sum()) for other in tables if other.parts == table.parts) - 1
    whole = 1.0 if table.chance >= 1 else -math.expm1(max(0, alike) * math.log1p(-table.chance))
    spared = 0.0  # the logarithm of the chance that nobody reads a cell of it
    for other in tables:
        ids = int(other.reads.sum()) - (other is table)
        for theirs in other.parts:
            overlap = sum((own.span + theirs.span - 1) / (own.places or 1) for own in table.parts if _meet(own, theirs))
            spared += ids * math.log1p(-min(overlap, 1 - 1e-16))
    return whole, max(whole, -math.expm1(spared))


def _meet(one: CellPart, other: CellPart) -> bool:
    """Whether two pieces are drawn from the same cells."""
    drawn = one.places is not None
    return drawn and (one.array, one.lowest, one.places) == (other.array, other.lowest, other.places)


def _others_expected(tables: list[_Table], bases: list[Tensor], size: int) -> list[float | None]:
    """`others_train` of cells drawn at random; the mean over some draws where there are few ids."""
    if any(part.places is None for table in tables for part in table.parts):
        return [None] * len(tables)
    ids = sum(table.ids for table in tables)
    draws = min(_DRAWS, -(-_DRAWN_IDS // ids))
    sums = [0.0] * len(tables)
    for seed in range(draws):
        _, others = _shared(tables, bases, size, _Drawn(tables, seed))
        if any(share is None for share in others):
            return [None] * len(tables)
        sums = [before + (share or 0.0) for before, share in zip(sums, others)]
    return [total / draws for total in sums]


class _Drawn:
    """Pieces that begin anywhere; the same ones each time a table is asked for."""

    def __init__(self, tables: list[_Table], seed: int) -> None:
        self.seeds = {id(table): seed * len(tables) + t for t, table in enumerate(tables)}

    def __call__(self, table: _Table, step: int) -> Iterator[tuple[slice, Tensor]]:
        generator = Generator().manual_seed(self.seeds[id(table)])
        for start in range(0, table.ids, step):
            part = slice(start, min(start + step, table.ids))
            columns = [
                torch.randint(one.places or 1, (part.stop - part.start,), generator=generator) + one.lowest
                for one in table.parts
            ]
            yield part, torch.stack(columns, dim=1).masked_fill(~table.reads[part].unsqueeze(1), -1)
