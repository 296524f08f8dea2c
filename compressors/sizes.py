"""One table: made from a spec, and its size by arithmetic alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from embpress.compressors.base import Compressor
from embpress.compressors.errors import BudgetError, InputError, nearest
from embpress.compressors.guard import counted
from embpress.compressors.options import REFUSED, TableOptions
from embpress.compressors.spec import MethodSpec, as_bytes, as_ratio, parse

T = TypeVar("T")


def create(spec: str | MethodSpec, num_embeddings: int, embedding_dim: int, **options: Any) -> Compressor:
    """Makes one table.

    Args:
        spec: such as `"tt:rank=32"` or `"robe:ratio=100+bf16"`; ratio and budget count this table's bytes.
        num_embeddings: rows `n`.
        embedding_dim: width `D`.
        **options: more of the method's keywords, `ratio` or `budget`, and those of `TableOptions` (mode, padding_idx,
            dtype, generator, …).

    Raises:
        InputError: an unknown method, knob or keyword. BudgetError: a size that cannot be reached.
    """
    spec = parse(spec) if isinstance(spec, str) else spec
    spec, standard = with_options(spec, options, spec.cls.knob_names())
    knobs = sized_knobs(spec, num_embeddings, embedding_dim)
    return spec.wrap(spec.cls(num_embeddings, embedding_dim, **knobs, **standard))


def with_options(spec: MethodSpec, options: dict[str, Any], known: Collection[str]) -> tuple[MethodSpec, TableOptions]:
    """The spec with a size and knobs (of those known) given beside it as keywords, and those of `TableOptions`.

    Raises:
        InputError: a keyword that is none.
    """
    for name, default in REFUSED.items():
        value = options.pop(name, None)
        if value is not None and value != default:
            raise InputError(f"{name} is not supported by compressed tables")
    if "ratio" in options:
        spec = replace(spec, ratio=as_ratio(options.pop("ratio")), budget=None)
    if "budget" in options:
        spec = replace(spec, budget=as_bytes(options.pop("budget")), ratio=None)
    standard = set(TableOptions.__annotations__)
    for name in options:
        if name not in standard and name not in known:
            raise InputError(f"{spec.name!r} has no keyword {name!r}{nearest(name, [*known, *standard])}")
    spec = replace(spec, knobs=spec.knobs | {name: value for name, value in options.items() if name not in standard})
    return spec, cast(TableOptions, {name: value for name, value in options.items() if name in standard})


def sized_knobs(spec: MethodSpec, num_embeddings: int, embedding_dim: int) -> dict[str, Any]:
    """The spec's knobs with the ratio or budget of one table turned into the knobs that reach it."""
    if spec.fixes_size or (spec.ratio is None and spec.budget is None):
        return dict(spec.knobs)
    full = 4 * num_embeddings * embedding_dim
    budget = spec.budget if spec.budget is not None else int(full / cast(float, spec.ratio))
    return for_budget(spec, num_embeddings, embedding_dim, budget)


def serving_size(spec: MethodSpec, n: int, dim: int, knobs: dict[str, Any]) -> int:
    """Serving bytes in float32 of the table that these knobs make, the spec's modifiers around it."""
    if not spec.modifiers:
        return spec.cls.serving_size(n, dim, **knobs)
    return spec.wrap(spec.cls(n, dim, device="meta", **knobs)).ledger().serving_bytes


def own_size(spec: MethodSpec, n: int, dim: int, knobs: dict[str, Any]) -> int:
    """`serving_size` without memory that other tables of the method share."""
    if not spec.tags.shared_memory:
        return serving_size(spec, n, dim, knobs)
    made = spec.wrap(spec.cls(n, dim, device="meta", **knobs))
    return sum(entry.bytes for entry in made.ledger().serving if entry.owner is None)


def for_budget(spec: MethodSpec, n: int, dim: int, size: int) -> dict[str, Any]:
    """The knobs of the best table of the spec within `size` bytes, modifiers included.

    Raises:
        BudgetError: too small for this table. InputError: a method whose size at a fixed width cannot be chosen.
    """
    if not spec.tags.for_budget:
        fixed = serving_size(spec, n, dim, spec.knobs)
        if fixed <= size:
            return dict(spec.knobs)
        raise InputError(
            f"{spec.name} has one size at a fixed width, {fixed} bytes here: no ratio or budget can change it"
        )

    def solved(bytes_: int) -> dict[str, Any]:
        return {**spec.knobs, **spec.cls.for_budget(n, dim, bytes_, **spec.knobs)}  # type: ignore[attr-defined]

    if not spec.modifiers:
        return solved(size)

    def modified(knobs: dict[str, Any]) -> int:
        return serving_size(spec, n, dim, knobs)

    low, limit = _smallest(solved), 8 * n * dim  # float64 is the widest type
    if size >= modified(solved(low)) == modified(solved(max(low, limit))) == modified(spec.knobs):
        return dict(spec.knobs)  # what is served has another form, and one size
    return _largest(spec, f"{counted(n, 'row')} of width {dim}", solved, modified, limit, size)


def split_budget(spec: MethodSpec, shapes: Sequence[tuple[int, int]], size: int) -> list[dict[str, Any]]:
    """The knobs of each of several tables `(n, D)` for `size` bytes in all, modifiers included.

    The method, which is tagged `splits_budget`, says how the bytes are divided.

    Raises:
        BudgetError: too small for these tables.
    """

    def solved(bytes_: int) -> list[dict[str, Any]]:
        own = spec.cls.split_budget(shapes, bytes_, **spec.knobs)  # type: ignore[attr-defined]
        return [{**spec.knobs, **knobs} for knobs in own]

    if not spec.modifiers:
        return solved(size)

    def modified(knobs: list[dict[str, Any]]) -> int:
        return sum(serving_size(spec, n, dim, own) for (n, dim), own in zip(shapes, knobs))

    limit = sum(8 * n * dim for n, dim in shapes)
    return _largest(spec, counted(len(shapes), "table"), solved, modified, limit, size)


def _largest(
    spec: MethodSpec, what: str, solved: Callable[[int], T], modified: Callable[[T], int], limit: int, size: int
) -> T:
    """Of what `solved` makes of so many bytes before the modifiers the largest with `size` bytes after them.

    More bytes before never make fewer after them.

    Args:
        limit: more than this, the widest type's, is not tried.
    """
    low = _smallest(solved)
    if modified(solved(low)) > size:
        raise BudgetError(f"{spec} cannot hold {what} in {size} bytes", modified(solved(low)))
    high = 2 * low
    while high < limit and modified(solved(high)) <= size:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if modified(solved(middle)) <= size else (low, middle)
    return solved(low)


def _smallest(solved: Callable[[int], object]) -> int:
    """The fewest bytes that can be solved for."""
    try:
        solved(0)
    except BudgetError as error:
        return error.smallest
    return 0


def min_bytes(spec: MethodSpec, n: int, dim: int) -> int:
    """The smallest serving size that the spec can reach for one table, in bytes."""
    return _smallest(lambda size: for_budget(spec, n, dim, size))
