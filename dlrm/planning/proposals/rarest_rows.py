"""Wider than what fits with all rows: the rows of least traffic, over all tables, are left to one row a table.

What `top` does with each table in proportion, this does over the whole model: a table whose ids come evenly gives more
of its rows than one whose ids are concentrated. Nothing is trained for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from embpress.compressors import MethodSpec, Plan, TablePlan, parse
from embpress.compressors.sizes import serving_size
from embpress.dlrm.planning.candidate import Candidate, Goal, widest
from embpress.dlrm.planning.probe import Prober
from embpress.dlrm.planning.ranking import Ranking, most_that_fit

_WHOLE = ("full+int4", "mlet+int4", "full+int2:train=true")  # tables of which all rows stay
_WIDER = (1.0, 1.25, 1.5, 2.0, 3.0)  # than what fits with all rows, one number more at least
_SMALL = "full+int8"  # what small tables may have instead: they are looked up as often as large ones


def propose(goal: Goal, prober: Prober, best: Sequence[Candidate], on: Callable[[], bool]) -> Iterator[Candidate]:
    """At several widths to begin with; then around the best, and with more bits for small tables."""
    ranking = Ranking.of(goal, prober)
    if ranking is None:
        return
    if not best:
        turns = {whole: _widths(goal, whole) for whole in _WHOLE}
        for turn in range(max(map(len, turns.values()))):
            for whole, widths in turns.items():
                if turn < len(widths) and on():
                    yield from _trimmed(goal, ranking, whole, widths[turn])
        return
    for one in best:
        if (own := _own(one)) is not None:
            whole, width = own
            for near, small in ((width, _SMALL), (width - 1, None), (width + 1, None)):
                if 1 <= near <= goal.width and on():
                    for made in _trimmed(goal, ranking, whole, near, small):
                        yield made.at_rate(one.rate)


def _own(candidate: Candidate) -> tuple[str, int] | None:
    """What a candidate is as one of these; None where it is none."""
    if candidate.trimmed is not None:
        return candidate.trimmed
    whole = "full+int4" if candidate.expression == "narrow+int4" else candidate.expression
    return (whole, candidate.plan.width) if whole in _WHOLE else None


def _widths(goal: Goal, whole: str) -> list[int]:
    """The largest at which all rows fit, and wider ones."""
    fits = widest(goal, parse(whole)) or 0
    wider = [min(goal.width, max(fits + 1, round(fits * times))) for times in _WIDER]
    return list(dict.fromkeys([*wider, goal.width]))


def _trimmed(goal: Goal, ranking: Ranking, whole: str, width: int, small: str | None = None) -> Iterator[Candidate]:
    """The plan of most rows that fits, if there is one."""
    keep = ranking.keep
    bits = whole.partition("+")[2]

    def made(rows: int) -> Plan:
        kept = ranking.first(rows)
        entries = []
        for t, config in enumerate(goal.configs):
            n, k = config.num_embeddings, max(1, kept.get(t, 0))
            if keep[t]:
                spec = parse(small or f"full+{bits}")
            elif k >= n - 1:  # one row for one row
                spec = parse(whole)
            else:
                spec = parse(f"top:rows={k}+{bits}")
            entries.append(TablePlan(config, width, spec, _size(spec, n, width)))
        return Plan(tuple(entries))

    if made(0).bytes > goal.bytes:
        return
    rows = most_that_fit(ranking.rows, lambda rows: made(rows).bytes <= goal.bytes)
    plan, left = made(rows), ranking.rows - rows
    text = f"all but the {left:,} rarest rows" if left else "all rows"
    eight = "" if small is None else ", small tables int8"
    narrower = "" if width == goal.width else f" at width {width}"
    yield Candidate(
        f"{text} {whole}{narrower}{eight}",
        plan,
        tuple(_why(own, table, small) for own, table in zip(keep, plan.tables)),
        trimmed=(whole, width),
    )


def _size(spec: MethodSpec, rows: int, width: int) -> int:
    return serving_size(spec, rows, width, spec.knobs)


def _why(small: bool, table: TablePlan, bits: str | None) -> str:
    if small:
        return "small" if bits is None else "small: more bits cost little"
    n, rows = table.config.num_embeddings, table.method.knobs.get("rows")
    return "all its rows" if rows is None else f"one row for its {n - rows:,} rarest"
