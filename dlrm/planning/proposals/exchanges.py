"""One table apart: all its rows in four bits, or one row for all its ids, and the others by what was best.

Which tables deserve their bytes shows in no arithmetic: each of the largest is tried both ways, the rest of the bytes
goes to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from embpress.compressors import BudgetError, InputError, MethodSpec, Plan, TablePlan, parse
from embpress.compressors.sizes import serving_size
from embpress.compressors.tables.planning.proportional import kept_full
from embpress.dlrm.planning.candidate import Candidate, Goal, at_width
from embpress.dlrm.planning.probe import Prober

_TABLES = 4  # the largest that are tried
_EXPRESSIONS = 2  # of the best that can take any size
_ALONE = {"mlet+int4": "all its rows in four bits", "top:rows=1+int4": "one row for nearly all its ids"}


def propose(goal: Goal, prober: Prober, best: Sequence[Candidate], on: Callable[[], bool]) -> Iterator[Candidate]:
    """For the best expressions that can take any size."""
    keep = kept_full(goal.configs, goal.settings.min_rows, goal.settings.largest)
    tables = [t for t in range(len(goal.configs)) if not keep[t]]
    tables.sort(key=lambda t: -goal.configs[t].num_embeddings)
    if len(tables) < 2:
        return
    sizable = [(one, parse(one.expression)) for one in best if one.expression]
    sizable = [(one, spec) for one, spec in sizable if spec.sizable and not spec.tags.saves_by_width]
    for one, spec in sizable[:_EXPRESSIONS]:
        for t in tables[:_TABLES]:
            for alone, text in _ALONE.items():
                made = _apart(goal, spec, one.plan.width, t, parse(alone))
                if made is None:
                    continue
                table = goal.configs[t].name or f"table {t}"
                name = f"{one.name}, {table} {alone}"
                why = tuple(text if i == t else "" for i in range(len(goal.configs)))
                yield Candidate(name, made, why, rate=one.rate)


def _apart(goal: Goal, spec: MethodSpec, width: int, t: int, alone: MethodSpec) -> Plan | None:
    """The plan with table t by itself; None where it leaves too little for the others, or too much."""
    config = goal.configs[t]
    size = serving_size(alone, config.num_embeddings, width, alone.knobs)
    others = [other for i, other in enumerate(goal.configs) if i != t]
    largest = goal.settings.largest  # of which table t is one
    settings = replace(goal.settings, largest=None if largest is None else largest - 1)
    rest = replace(goal, configs=others, bytes=goal.bytes - size, settings=settings)
    if rest.bytes < 1:
        return None
    try:
        made = at_width(rest, spec, width)
    except (BudgetError, InputError):
        return None
    tables = list(made.tables)
    tables.insert(t, TablePlan(config, width, alone, size))
    return Plan(tuple(tables))
