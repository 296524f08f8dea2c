"""Recipes: how tables of any method make their rows, as the numbers that `ops.recipe_lookup` takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from embpress.kernels.errors import ArgumentError


class Form(IntEnum):
    """What a store keeps; codes have ranges of columns, of rows, or of blocks of 64 elements of a flat array."""

    FLOAT32 = 0
    BFLOAT16 = 1
    COLUMNS = 2
    ROWS = 3
    BLOCKS = 4

    @property
    def codes(self) -> bool:
        """Whether it keeps codes."""
        return self >= Form.COLUMNS


class Rule(IntEnum):
    """Which row of a part an id takes, by the numbers of the rule; see `ops.recipe_lookup`."""

    DIGIT = 0
    HASH = 1
    FIRST = 2
    AMONG = 3

    @property
    def numbers(self) -> int:
        """How many numbers say it."""
        return {Rule.DIGIT: 1, Rule.HASH: 4, Rule.FIRST: 0, Rule.AMONG: 1}[self]


class Where(IntEnum):
    """Which ids have hot rows: none, the first ones, or those of a list."""

    NONE = 0
    FIRST = 1
    AMONG = 2


class Kind(IntEnum):
    """What a row is made of."""

    PARTS = 0
    CHUNKS = 1
    CORES = 2


@dataclass(frozen=True)
class Store:
    """Where rows are kept.

    Attributes:
        form: as what.
        array: number of the array that holds them.
        ranges: number of the array of their ranges, -1 for floats.
        bits: of an element.
        first_range: which range is that of the columns, or of the first row.
        begin: bytes of the array before the first row.
    """

    form: Form
    array: int
    ranges: int = -1
    bits: int = 32
    first_range: int = 0
    begin: int = 0


@dataclass(frozen=True)
class Part:
    """One of the rows that a row is put together from: `size` rows of the store from `first` on, of which the rule,
    with its numbers, takes one."""

    store: Store
    rule: Rule
    size: int
    first: int
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Parts:
    """A row put together from parts, in the numbering of `COMBINE`."""

    parts: tuple[Part, ...]
    combine: int = 0

    @classmethod
    def row(cls, store: Store, size: int, first: int) -> Parts:
        """The id's own of `size` rows of the store from `first` on."""
        return cls((Part(store, Rule.DIGIT, size, first, (1,)),))


@dataclass(frozen=True)
class Chunks:
    """A row cut from a flat array of `size` elements by ROBE's hash."""

    store: Store
    z: int
    size: int
    row_offset: int
    coefficients: tuple[int, ...]


@dataclass(frozen=True)
class Core:
    """One factor of a row that is a product.

    Attributes:
        store: of the slices, the first of which begins with row `first`.
        each: rows of the store that make a slice.
        digits, columns: factors p and q of the table's rows and width.
        rank: the rank behind it.
    """

    store: Store
    first: int
    each: int
    digits: int
    columns: int
    rank: int


@dataclass(frozen=True)
class Cores:
    """A row as the product of a slice of each core, as in `tt_embedding_bag`."""

    cores: tuple[Core, ...]


Made = Parts | Chunks | Cores


@dataclass(frozen=True)
class HotRows:
    """`count` rows of a store from `first` on, of ids in the array `ids` from `begin` on, each plus `base` there; None:
    of the first ids."""

    store: Store
    count: int
    first: int
    ids: int | None = None
    begin: int = 0
    base: int = 0


@dataclass(frozen=True)
class Table:
    """One table: its column among those of the ids, its rows, its padding id or -1, and how its rows are made."""

    column: int
    rows: int
    padding: int
    made: Made
    hot: HotRows | None = None


def encoded(tables: Sequence[Table]) -> list[int]:
    """The numbers of these tables."""
    numbers: list[int] = []

    def put_store(store: Store) -> None:
        numbers.extend((store.form, store.array, store.ranges, store.bits, store.first_range, store.begin))

    for table in tables:
        numbers += (table.column, table.rows, table.padding)
        hot = table.hot
        if hot is None:
            numbers.append(Where.NONE)
        else:
            numbers.append(Where.FIRST if hot.ids is None else Where.AMONG)
            put_store(hot.store)
            numbers += (hot.count, hot.first, *(() if hot.ids is None else (hot.ids, hot.begin, hot.base)))
        made = table.made
        if isinstance(made, Chunks):
            numbers.append(Kind.CHUNKS)
            put_store(made.store)
            numbers += (made.z, made.size, made.row_offset, *made.coefficients)
            continue
        if isinstance(made, Cores):
            numbers += (Kind.CORES, len(made.cores))
            for core in made.cores:
                numbers += (core.each, core.digits, core.columns, core.rank)
                put_store(core.store)
                numbers.append(core.first)
            continue
        numbers += (Kind.PARTS, made.combine, len(made.parts))
        for part in made.parts:
            put_store(part.store)
            numbers += (part.rule, part.size, part.first, *part.numbers)
    return numbers


def decoded_tables(numbers: Sequence[int], count: int) -> list[Table]:
    """The tables that these numbers say.

    Raises:
        ArgumentError: they say no tables.
    """
    left = iter(numbers)
    try:
        tables = [_table(left) for _ in range(count)]
    except (StopIteration, ValueError):
        raise ArgumentError("the recipe does not fit: it says no such tables") from None
    if next(left, None) is not None:
        raise ArgumentError(f"the recipe does not fit: it says more than {count} tables")
    return tables


def _store(left: Iterator[int]) -> Store:
    return Store(Form(next(left)), *[next(left) for _ in range(5)])


def _table(left: Iterator[int]) -> Table:
    column, rows, padding = next(left), next(left), next(left)
    where, hot = Where(next(left)), None
    if where != Where.NONE:
        store, known = _store(left), 3 if where == Where.AMONG else 0
        hot = HotRows(store, *[next(left) for _ in range(2 + known)])
    kind = Kind(next(left))
    if kind == Kind.CORES:
        cores = []
        for _ in range(next(left)):
            shape = [next(left) for _ in range(4)]
            cores.append(Core(_store(left), next(left), *shape))
        return Table(column, rows, padding, Cores(tuple(cores)), hot)
    if kind == Kind.CHUNKS:
        chunks = Chunks(_store(left), next(left), next(left), next(left), tuple([next(left) for _ in range(3)]))
        return Table(column, rows, padding, chunks, hot)
    combine, parts = next(left), []
    for _ in range(next(left)):
        store, rule = _store(left), Rule(next(left))
        size, first = next(left), next(left)
        # lists, not generators, whose end would go unseen
        parts.append(Part(store, rule, size, first, tuple([next(left) for _ in range(rule.numbers)])))
    return Table(column, rows, padding, Parts(tuple(parts), combine), hot)
