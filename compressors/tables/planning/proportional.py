"""The proportional planner: one byte budget for all tables, split by their size before anything is built."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from embpress.compressors.errors import BudgetError, InputError, reachable_ratio
from embpress.compressors.guard import counted, times, whole
from embpress.compressors.ledger import Ledger
from embpress.compressors.options import TableOptions
from embpress.compressors.sizes import for_budget, min_bytes, serving_size, split_budget
from embpress.compressors.spec import PLAIN, MethodSpec, PlanFile, as_bytes, as_ratio
from embpress.compressors.tables.planning.plan import Plan, TableConfig, TablePlan, whole_sizes


def kept_full(
    tables: Sequence[TableConfig], min_rows: int = 200, largest: int | None = None, full: Collection[int] = ()
) -> list[bool]:
    """Which tables stay full: `full` ones by number, those under `min_rows` rows, all but the `largest` of the rest."""
    order = [t for t in range(len(tables)) if t not in full]
    order.sort(key=lambda t: -tables[t].num_embeddings * tables[t].embedding_dim)
    chosen = set(order if largest is None else order[:largest])
    return [table.num_embeddings < min_rows or t not in chosen for t, table in enumerate(tables)]


def plan(
    spec: MethodSpec,
    tables: Sequence[TableConfig],
    *,
    ratio: float | None = None,
    budget: int | None = None,
    min_rows: int = 200,
    largest: int | None = None,
    full: Collection[int] = (),
) -> Plan:
    """Turns a ratio or budget for the whole model into knobs for every table.

    The budget is one total. Tables that stay full count; what they leave is split in proportion to n·D, no table below
    the method's smallest size, and what rounding leaves over goes to the largest tables. A method with shared memory
    takes all of it as one array; a method that splits a budget divides it among its tables itself; a method that saves
    by width trains the whole model at width ⌊D / ratio⌋.

    Args:
        spec: the method; its own ratio or budget beats the arguments, a knob that fixes the size beats both. A plan's
            file says everything itself.
        tables: the model's tables.
        ratio: full bytes / serving bytes.
        budget: serving bytes.
        min_rows: smaller tables stay full (but for modifiers that go around such tables too, `Modifier.everywhere`).
        largest: only so many tables, the largest, are compressed.
        full: numbers of tables that stay full whatever their size.

    Raises:
        BudgetError: not reachable; says the smallest size. InputError: a plan for other tables, a size that is no
            whole number.
    """
    tables = whole_sizes(tables)
    min_rows, largest = whole(min_rows, "min_rows"), None if largest is None else whole(largest, "largest")
    if isinstance(spec, PlanFile):
        return sized(Plan.read(spec.path).on(tables))
    ratio = None if ratio is None else as_ratio(ratio)
    budget = None if budget is None else as_bytes(budget if isinstance(budget, str) else whole(budget, "a budget", 1))
    full_bytes = sum(4 * n * dim for n, dim, _ in tables)
    if spec.ratio is not None or spec.budget is not None:
        ratio, budget = spec.ratio, spec.budget
        if not spec.sizable and not spec.fixes_size:
            raise InputError(f"{spec.name} has one size only: it takes no ratio and no budget")
        spec = replace(spec, ratio=None, budget=None)
    if ratio is not None and budget is not None:
        raise InputError("give a ratio or a budget, not both")
    everywhere = spec.tags.plain and all(one.cls.everywhere for one in spec.modifiers)
    keep = [False] * len(tables) if everywhere else kept_full(tables, min_rows, largest, full)
    if (ratio is None and budget is None) or not spec.sizable:
        return _plan(spec, tables, [None if k else spec.knobs for k in keep], full)
    if ratio is None:
        assert budget is not None  # one of the two is given here
        ratio = full_bytes / budget
        if ratio < 1:
            raise InputError(f"a budget of {budget:,} bytes is more than the {full_bytes:,} bytes of the full tables")
    size = int(full_bytes / ratio) if budget is None else budget
    if spec.tags.saves_by_width:
        return _narrower(spec, tables, keep, ratio, size, full)
    small = sum(table.bytes for table, k in zip(_plan(spec, tables, [None] * len(tables), full).tables, keep) if k)
    if all(keep):
        if small > size:
            few = f" (no table has {counted(min_rows, 'row')}: a smaller min_rows compresses smaller ones)"
            why = few if all(n < min_rows for n, _, _ in tables) else ""
            raise _unreachable(ratio, full_bytes, small, why)
        return _plan(spec, tables, [None] * len(tables), full)
    chosen = [t for t, k in enumerate(keep) if not k]
    if spec.tags.shared_memory:
        dim = max(table.embedding_dim for table in tables)
        rows = sum(tables[t].num_embeddings * tables[t].embedding_dim for t in chosen) // dim

        def shared(bytes_: int) -> Plan:
            knobs = for_budget(spec, rows, dim, bytes_)
            return _plan(spec, tables, [None if k else knobs for k in keep], full)

        least = min_bytes(spec, rows, dim)
        in_all = shared(least).bytes
        if in_all > size:
            raise _unreachable(ratio, full_bytes, in_all)
        return shared(size - (in_all - least))  # tables that stay full, and what each table has besides the memory
    smallest = {t: min_bytes(spec, *tables[t][:2]) for t in chosen}
    if small + sum(smallest.values()) > size:
        raise _unreachable(ratio, full_bytes, small + sum(smallest.values()))
    if spec.tags.splits_budget:
        knobs = dict(zip(chosen, split_budget(spec, [tables[t][:2] for t in chosen], size - small)))
    else:
        knobs = _split(spec, tables, smallest, size - small)
    return _plan(spec, tables, [knobs.get(t) for t in range(len(tables))], full)


def _plan(
    spec: MethodSpec,
    tables: Sequence[TableConfig],
    knobs: Sequence[dict[str, Any] | None],
    full: Collection[int] = (),
    width: int | None = None,
) -> Plan:
    """The plan of tables with these knobs, all of one width where one is given.

    Tables whose knobs are None stay full, with the modifiers that go around such tables too; those that `full` numbers
    without any.
    """
    dims = [width or table.embedding_dim for table in tables]
    kept = replace(PLAIN, modifiers=tuple(one for one in spec.modifiers if one.cls.everywhere))
    methods = [
        (PLAIN if t in full else kept) if own is None else replace(spec, knobs=dict(own)) for t, own in enumerate(knobs)
    ]
    return sized(Plan(tuple(map(TablePlan, tables, dims, methods, [0] * len(dims)))))


def sized(plan: Plan) -> Plan:
    """The plan with the serving bytes of each table, by arithmetic; shared memory divided in proportion to n·D."""
    shared: dict[str, list[int]] = {}
    tables = list(plan.tables)
    for t, table in enumerate(tables):
        n, dim, method = table.config.num_embeddings, table.embedding_dim, table.method
        if method.tags.shared_memory:
            shared.setdefault(str(method), []).append(t)
        else:
            tables[t] = replace(table, bytes=serving_size(method, n, dim, method.knobs))
    for users in shared.values():
        numel = [tables[t].config.num_embeddings * tables[t].embedding_dim for t in users]
        together, before = _shared_bytes([tables[t] for t in users]), 0
        for i, t in enumerate(users):  # parts that add up to the whole
            after = together * sum(numel[: i + 1]) // sum(numel)
            tables[t], before = replace(tables[t], bytes=after - before), after
    return Plan(tuple(tables))


def _shared_bytes(tables: Sequence[TablePlan]) -> int:
    """Serving bytes of the one memory of these tables."""
    method, options = tables[0].method, [TableOptions(device="meta")] * len(tables)
    shapes = [(table.config.num_embeddings, table.embedding_dim) for table in tables]
    whole = Ledger()
    for table in method.cls.build_tables(shapes, [one.method.knobs for one in tables], options):
        whole += method.wrap(table).ledger()
    return whole.serving_bytes


def _narrower(
    spec: MethodSpec,
    tables: Sequence[TableConfig],
    keep: list[bool],
    ratio: float,
    size: int,
    full: Collection[int],
) -> Plan:
    """The whole model at the largest width that fits: `⌊D / r⌋`, or with modifiers what they leave room for."""
    widths = {table.embedding_dim for table in tables}
    if len(widths) > 1:
        raise InputError(f"{spec.name} needs tables of one width to save by width")
    full_bytes = sum(4 * n * dim for n, dim, _ in tables)
    knobs = [None if k else spec.knobs for k in keep]
    if spec.modifiers:
        for width in range(max(widths), 0, -1):
            narrow = _plan(spec, tables, knobs, full, width)
            if narrow.bytes <= size:
                return narrow
        raise _unreachable(ratio, full_bytes, narrow.bytes)
    try:
        width = spec.cls.model_width(max(widths), ratio)
    except BudgetError:
        raise _unreachable(ratio, full_bytes, sum(4 * table.num_embeddings for table in tables)) from None
    return _plan(spec, tables, knobs, full, width)


def _split(
    spec: MethodSpec, tables: Sequence[TableConfig], smallest: dict[int, int], size: int
) -> dict[int, dict[str, Any]]:
    """Knobs of the chosen tables for `size` bytes in all, which holds at smallest their smallest sizes."""
    weight = {t: tables[t].num_embeddings * tables[t].embedding_dim for t in smallest}
    share: dict[int, int] = {}
    open_tables, rest = set(smallest), size
    while open_tables:
        total = sum(weight[t] for t in open_tables)
        low = {t for t in open_tables if rest * weight[t] // total < smallest[t]}
        for t in low or open_tables:
            share[t] = smallest[t] if low else rest * weight[t] // total
        rest -= sum(share[t] for t in low)
        open_tables = open_tables - low if low else set()

    def solved(t: int, bytes_: int) -> tuple[dict[str, Any], int]:
        n, dim, _ = tables[t]
        knobs = for_budget(spec, n, dim, bytes_)
        return knobs, serving_size(spec, n, dim, knobs)

    result = {t: solved(t, share[t]) for t in smallest}
    slack = size - sum(used for _, used in result.values())
    for t in sorted(smallest, key=lambda t: -weight[t]):
        knobs, used = solved(t, min(result[t][1] + slack, max(result[t][1], 4 * weight[t])))  # never above the full one
        if used > result[t][1]:
            slack -= used - result[t][1]
            result[t] = knobs, used
    return {t: knobs for t, (knobs, _) in result.items()}


def _unreachable(ratio: float, full_bytes: int, smallest: int, why: str = "") -> BudgetError:
    shown = reachable_ratio(smallest, full_bytes)
    return BudgetError(
        f"cannot reach {times(ratio)}, smallest reachable {times(shown)} ({smallest:,} bytes){why}", smallest
    )
