"""Which of a model's tables a method can hold, and the plan for all of them under one total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.guard import counted, listed, whole
from embpress.compressors.sizes import for_budget, min_bytes, own_size
from embpress.compressors.spec import PLAIN, MethodSpec
from embpress.compressors.tables.conversion.find import Found
from embpress.compressors.tables.planning.plan import Plan, TablePlan
from embpress.compressors.tables.planning.proportional import kept_full, plan, sized


def planned(
    found: Sequence[Found],
    method: MethodSpec | Plan,
    *,
    ratio: float | None,
    budget: int | None,
    min_rows: int,
    largest: int | None,
) -> Plan:
    """The plan for all tables, those that stay as they are among them; each of these has its note afterwards.

    Raises:
        InputError, BudgetError: as `compress_model`.
    """
    if isinstance(method, Plan):
        return _as_written(found, method)
    min_rows = whole(min_rows, "min_rows")
    asked = any(size is not None for size in (ratio, budget, method.ratio, method.budget))
    by_size = asked and replace(method, ratio=None, budget=None).sizable
    if by_size and method.tags.saves_by_width:
        raise InputError(
            f"{method.name} reaches a ratio only by a smaller width, and a model that is there already fixes its "
            "width: give no ratio, or build the model at the smaller width"
        )
    for table in found:
        if not table.note:
            rows = table.config.num_embeddings
            table.note = f"under {counted(min_rows, 'row')}" if rows < min_rows else _unfit(method, table, by_size)
    if method.tags.shared_memory:
        _part_memories(found)
    few = {f"under {counted(min_rows, 'row')}"}
    refused = [table for table in found if table.note and table.note not in few]
    _refuse_if_all(found, refused)
    configs = [table.config for table in found]
    full = [t for t, table in enumerate(found) if table.note]
    try:
        made = plan(method, configs, ratio=ratio, budget=budget, min_rows=min_rows, largest=largest, full=full)
    except BudgetError as error:
        why = f"; left full: {_listed(refused)}" if refused else ""
        raise BudgetError(f"{error}{why}", error.smallest) from None
    for table, stays in zip(found, kept_full(configs, min_rows, largest, full)):
        if stays and not table.note:
            table.note = f"not among the {largest} largest"
    chosen = {t: table for t, table in enumerate(found) if not table.note}
    if method.tags.shared_memory and sum(made.tables[t].bytes for t in chosen) > sum(map(_full_bytes, chosen.values())):
        for table in chosen.values():
            table.note = f"{method} would be larger than all full tables together"
        _refuse_if_all(found, [table for table in found if table.note not in few])
    return made


def _as_written(found: Sequence[Found], written: Plan) -> Plan:
    """A plan that says everything itself, over all tables; one that stays as it is need not be in it."""
    names = {table.config.name for table in written.tables}
    there = [table for table in found if not table.note or table.config.name in names]
    entries = dict(zip(map(id, there), sized(written.on([table.config for table in there])).tables))
    for table in found:
        config = table.config
        full = TablePlan(config, config.embedding_dim, PLAIN, _full_bytes(table))
        entry = entries.setdefault(id(table), full)
        if table.note and not entry.method.plain:
            raise InputError(f"the plan compresses {config.name!r}, which stays full: {table.note}")
        if entry.embedding_dim != config.embedding_dim:
            raise InputError(f"the plan makes {config.name!r} narrower, and this model fixes its width")
        table.note = table.note or ("full in the plan" if entry.method.plain else "")
    return Plan(tuple(entries[id(table)] for table in found))


def _part_memories(found: Sequence[Found]) -> None:
    """Notes the tables that cannot share memory with the first."""
    kinds = [(table.weight.dtype, table.weight.device) for table in found]
    able = [t for t, table in enumerate(found) if not table.note]
    for t in able[1:]:
        if kinds[t] != kinds[able[0]]:
            dtype, device = kinds[t]
            found[t].note = f"{dtype} on {device} cannot share the memory of {found[able[0]].config.name}"


def _unfit(method: MethodSpec, table: Found, by_size: bool) -> str:
    """Why the method cannot hold a table in fewer bytes than it has now, or nothing."""
    n, dim, _ = table.config
    spec = replace(method, ratio=None, budget=None)
    try:
        knobs = for_budget(spec, n, dim, min_bytes(spec, n, dim)) if by_size else spec.knobs
        size = own_size(spec, n, dim, knobs)
    except InputError as error:
        return f"{spec} cannot hold it: {error}"
    if size > _full_bytes(table) and not spec.tags.uncompressed:
        return f"{spec} would be larger than the full table"
    return ""


def _full_bytes(table: Found) -> int:
    return 4 * table.config.num_embeddings * table.config.embedding_dim


def _refuse_if_all(found: Sequence[Found], refused: Sequence[Found]) -> None:
    if len(refused) == len(found):
        raise InputError(f"no embedding of the model can be replaced: {_listed(found)}")


def _listed(tables: Sequence[Found]) -> str:
    return listed([f"{table.config.name} ({table.note})" for table in tables])
