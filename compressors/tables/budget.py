"""One byte budget for all tables of a model, split by arithmetic before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.registry import MethodSpec, for_budget, smallest_bytes


class TableConfig(NamedTuple):
    """One table of a model."""

    num_embeddings: int
    embedding_dim: int
    name: str = ""


@dataclass(frozen=True)
class Plan:
    """What to build.

    Attributes:
        knobs: per table the method's keywords, or None where the table stays full.
        width: the width of all tables; below the model's own for a method that saves by width.
        full_bytes: `Σ 4 n D` at the model's own width.
    """

    knobs: list[dict[str, Any] | None]
    width: int
    full_bytes: int


def kept_full(tables: Sequence[TableConfig], min_rows: int = 200, largest: int | None = None) -> list[bool]:
    """Which tables stay full: those under `min_rows` rows, and those outside the `largest` ones by size."""
    order = sorted(range(len(tables)), key=lambda t: -tables[t].num_embeddings * tables[t].embedding_dim)
    chosen = set(order if largest is None else order[:largest])
    return [table.num_embeddings < min_rows or t not in chosen for t, table in enumerate(tables)]


def sizable(spec: MethodSpec) -> bool:
    """Whether a ratio or a budget changes anything: the method can choose its size, and no knob has fixed it."""
    return not spec.fixes_size and (hasattr(spec.cls, "for_budget") or _saves_by_width(spec))


def _saves_by_width(spec: MethodSpec) -> bool:
    return spec.cls.model_width(2, 2.0) != 2


def plan(
    spec: MethodSpec,
    tables: Sequence[TableConfig],
    *,
    ratio: float | None = None,
    budget: int | None = None,
    min_rows: int = 200,
    largest: int | None = None,
) -> Plan:
    """Turns a ratio or budget for the whole model into knobs for every table.

    The budget is one total. Tables that stay full count; what they leave is split in proportion to n·D, no table below
    the method's smallest size, and what rounding leaves over goes to the largest tables. A method with shared memory
    takes all of it as one array; a method that saves by width trains the whole model at width ⌊D / ratio⌋.

    Args:
        spec: the method; its own ratio or budget beats the arguments, a knob that fixes the size beats both.
        tables: the model's tables.
        ratio: full bytes / serving bytes.
        budget: serving bytes.
        min_rows: smaller tables stay full.
        largest: only so many tables, the largest, are compressed.

    Raises:
        BudgetError: not reachable; says the smallest size.
    """
    cls = spec.cls
    full_bytes = sum(4 * n * dim for n, dim, _ in tables)
    if spec.ratio is not None or spec.budget is not None:
        ratio, budget = spec.ratio, spec.budget
    if ratio is not None and budget is not None:
        raise InputError("give a ratio or a budget, not both")
    widths = {table.embedding_dim for table in tables}
    width = max(widths)
    keep = kept_full(tables, min_rows, largest)
    saves_by_width = _saves_by_width(spec)
    if not sizable(spec) and not spec.fixes_size and (spec.ratio is not None or spec.budget is not None):
        raise InputError(f"{spec.name} has one size only: it takes no ratio and no budget")
    if (ratio is None and budget is None) or not sizable(spec):
        return Plan([None if k else dict(spec.knobs) for k in keep], width, full_bytes)
    if ratio is None:
        assert budget is not None  # one of the two is given here
        ratio = full_bytes / budget
        if ratio < 1:
            raise InputError(f"a budget of {budget:,} bytes is more than the {full_bytes:,} bytes of the full tables")
    size = int(full_bytes / ratio) if budget is None else budget
    if saves_by_width:
        if len(widths) > 1:
            raise InputError(f"{spec.name} needs tables of one width to save by width")
        rows = sum(table.num_embeddings for table in tables)
        try:
            width = cls.model_width(width, ratio)
        except BudgetError:
            raise _unreachable(spec, ratio, full_bytes, 4 * rows) from None
        return Plan([None if k else dict(spec.knobs) for k in keep], width, full_bytes)
    if all(keep):
        if ratio > 1:
            raise _unreachable(
                spec,
                ratio,
                full_bytes,
                full_bytes,
                f" (no table has {min_rows} rows: a smaller min_rows compresses smaller ones)",
            )
        return Plan([None] * len(tables), width, full_bytes)
    small = sum(4 * n * dim for (n, dim, _), k in zip(tables, keep) if k)
    chosen = [t for t, k in enumerate(keep) if not k]
    if "shared" in cls.tags:
        rows, dim = sum(tables[t].num_embeddings * tables[t].embedding_dim for t in chosen) // width, width
        try:
            one = for_budget(cls, rows, dim, size - small, spec.knobs)
        except BudgetError as error:
            raise _unreachable(spec, ratio, full_bytes, small + error.smallest) from None
        return Plan([None if k else one for k in keep], width, full_bytes)
    least = {t: smallest_bytes(cls, *tables[t][:2], spec.knobs) for t in chosen}
    if small + sum(least.values()) > size:
        raise _unreachable(spec, ratio, full_bytes, small + sum(least.values()))
    knobs = _split(spec, tables, least, size - small)
    return Plan([knobs.get(t) for t in range(len(tables))], width, full_bytes)


def _split(
    spec: MethodSpec, tables: Sequence[TableConfig], least: dict[int, int], size: int
) -> dict[int, dict[str, Any]]:
    """Knobs of the chosen tables for `size` bytes in all, which holds at least their smallest sizes."""
    cls = spec.cls
    weight = {t: tables[t].num_embeddings * tables[t].embedding_dim for t in least}
    share: dict[int, int] = {}
    open_tables, rest = set(least), size
    while open_tables:
        total = sum(weight[t] for t in open_tables)
        low = {t for t in open_tables if rest * weight[t] // total < least[t]}
        for t in low or open_tables:
            share[t] = least[t] if low else rest * weight[t] // total
        rest -= sum(share[t] for t in low)
        open_tables = open_tables - low if low else set()

    def solved(t: int, bytes_: int) -> tuple[dict[str, Any], int]:
        n, dim, _ = tables[t]
        knobs = for_budget(cls, n, dim, bytes_, spec.knobs)
        return knobs, cls.serving_size(n, dim, **knobs)

    result = {t: solved(t, share[t]) for t in least}
    slack = size - sum(used for _, used in result.values())
    for t in sorted(least, key=lambda t: -weight[t]):
        knobs, used = solved(t, result[t][1] + slack)
        if used > result[t][1]:
            slack -= used - result[t][1]
            result[t] = knobs, used
    return {t: knobs for t, (knobs, _) in result.items()}


def _unreachable(spec: MethodSpec, ratio: float, full_bytes: int, smallest: int, why: str = "") -> BudgetError:
    reach = full_bytes / smallest
    shown = int(reach * 10) / 10  # rounded down: the ratio named must itself be reachable
    return BudgetError(f"cannot reach {ratio:g}×, smallest reachable {shown:g}× ({smallest:,} bytes){why}", smallest)
