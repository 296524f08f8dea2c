"""Bits by traffic: four for the busiest rows of all tables, two for the others, and one row a table for the rarest.

An error in a row costs as often as it is looked up. Where the squared error of b bits is proportional to 4^-b, what
costs least at given bytes gives a row one bit more for every four times the traffic (Shannon's reverse water-filling);
so where rows get two bits more lies at a fixed multiple of the traffic at which they get any. The multiple that theory
has is 16, but rows of two bits are trained through their codes and lose less: several are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from embpress.compressors import MethodSpec, Plan, TablePlan, parse
from embpress.compressors.sizes import serving_size
from embpress.dlrm.planning.candidate import Candidate, Goal, widest
from embpress.dlrm.planning.probe import Prober
from embpress.dlrm.planning.ranking import Ranking, most_that_fit

_FEW, _MANY = "int2:train=true", "int4"
_TIMES = (4.0, 2.0, 16.0)  # busier than the last row of two bits
_WIDER = (2.0, 1.75, 1.5, 3.0)  # than what fits with all rows in four bits
_SMALL = ("full+int8", "full+int4")  # small tables, which are looked up as often as large ones


def propose(goal: Goal, prober: Prober, best: Sequence[Candidate], on: Callable[[], bool]) -> Iterator[Candidate]:
    """At several widths and multiples to begin with, then around the best."""
    ranking = Ranking.of(goal, prober)
    if ranking is None:
        return
    if not best:
        for times in _TIMES:
            for width in _widths(goal):
                if on():
                    yield from _mixed(goal, ranking, width, times, _SMALL[0])
        return
    for one in best:
        if one.mixed is None:
            continue
        width, times = one.mixed
        near = [(width, 2 * times), (width, times / 2), (width - 1, times), (width + 1, times)]
        for small, (w, t) in [(_SMALL[1], (width, times)), *((_SMALL[0], each) for each in near)]:
            if 1 <= w <= goal.width and t > 1 and on():
                for made in _mixed(goal, ranking, w, t, small):
                    yield made.at_rate(one.rate)


def _widths(goal: Goal) -> list[int]:
    fits = widest(goal, parse(f"full+{_MANY}")) or 1
    return list(dict.fromkeys(min(goal.width, max(fits + 1, round(fits * times))) for times in _WIDER))


def _mixed(goal: Goal, ranking: Ranking, width: int, times: float, small: str) -> Iterator[Candidate]:
    """The plan of most rows that fits, with as many busy ones as still fit; none where all or no rows are busy."""

    def made(rows: int, busy: int) -> Plan:
        kept, many = ranking.first(rows), ranking.first(busy)
        entries = []
        for t, config in enumerate(goal.configs):
            spec = parse(small) if ranking.keep[t] else _spec(config.num_embeddings, kept[t], many[t])
            size = serving_size(spec, config.num_embeddings, width, spec.knobs)
            entries.append(TablePlan(config, width, spec, size))
        return Plan(tuple(entries))

    def fits(rows: int, busy: int) -> bool:
        return made(rows, busy).bytes <= goal.bytes

    if not fits(0, 0):
        return
    rows = most_that_fit(ranking.rows, lambda rows: fits(rows, ranking.busier(rows, times)))
    busy = most_that_fit(rows, lambda busy: fits(rows, busy))
    if not 0 < busy < rows:
        return
    plan, left = made(rows, busy), ranking.rows - rows
    narrower = "" if width == goal.width else f" at width {width}"
    rest = f"int2, the {left:,} rarest left out" if left else "int2"
    small_bits = "" if small == _SMALL[0] else ", small tables int4"
    yield Candidate(
        f"bits by traffic{narrower}: the {busy:,} busiest rows int4, others {rest}{small_bits}",
        plan,
        tuple(_why(own, table) for own, table in zip(ranking.keep, plan.tables)),
        mixed=(width, times),
    )


def _spec(n: int, kept: int, busy: int) -> MethodSpec:
    """A table of n rows of which so many are rows of their own, so many of these in four bits."""
    kept, busy = max(1, kept), min(busy, kept)
    rows = "full" if kept >= n - 1 else f"top:rows={kept}"  # one row for one row
    if busy >= min(kept, n - 1):
        return parse(f"{rows}+{_MANY}")
    return parse(f"{rows}+{_FEW}+hot:rows={busy}+{_MANY}" if busy else f"{rows}+{_FEW}")


def _why(small: bool, table: TablePlan) -> str:
    if small:
        return "small"
    n, modifiers = table.config.num_embeddings, table.method.modifiers
    rows, names = table.method.knobs.get("rows"), [modifier.name for modifier in modifiers]
    if "hot" in names:
        bits = f"{modifiers[names.index('hot')].knobs['rows']:,} of its rows in four bits"
    else:
        bits = f"rows in {'two' if 'int2' in names else 'four'} bits"
    return bits if rows is None else f"{bits}, one row for its {n - rows:,} rarest"
