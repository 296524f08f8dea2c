"""Wider than what fits with all rows: the rows of least traffic, over all tables, are left to one row a table.

What `top` does with each table in proportion, this does over the whole model: a table whose ids come evenly gives more
of its rows than one whose ids are concentrated. Nothing is trained for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from embpress.compressors import MethodSpec, Plan, TablePlan, parse
from embpress.compressors.sizes import serving_size
from embpress.compressors.tables.planning.proportional import kept_full
from embpress.dlrm.planning.candidate import Candidate, Goal, widest
from embpress.dlrm.planning.probe import Prober

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


class Ranking:
    """Rows of all tables that may lose some, in the order of their traffic.

    Attributes:
        keep: for each table, whether it keeps all its rows.
        rows: how many rows the others have together.
    """

    def __init__(self, keep: Sequence[bool], places: dict[int, Tensor], rows: int) -> None:
        self.keep, self._places, self.rows = keep, places, rows

    @classmethod
    def of(cls, goal: Goal, prober: Prober) -> Ranking | None:
        """From the rows trained on; None where ids are not numbered by falling traffic, as `top` needs them.

        Row 0, of what is missing or rare, is the first row of its table whatever its traffic.
        """
        keep = kept_full(goal.configs, goal.settings.min_rows, goal.settings.largest)
        chosen = [t for t, own in enumerate(keep) if not own]
        counts = [prober.counts[t] for t in chosen]
        if not chosen or any(bool((each[2:] > each[1:-1]).any()) for each in counts):
            return None
        traffic = torch.cat([torch.cat([torch.full_like(each[:1], 1 << 62), each[1:]]) for each in counts])
        place = torch.empty_like(traffic)
        place[torch.argsort(traffic, descending=True, stable=True)] = torch.arange(len(traffic))
        return cls(keep, dict(zip(chosen, place.split([len(each) for each in counts]))), len(traffic))

    def first(self, rows: int) -> dict[int, int]:
        """How many rows of each table are among so many of the most frequent."""
        return {t: int(torch.searchsorted(place, rows)) for t, place in self._places.items()}


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

    few, many = 0, ranking.rows  # as many rows as fit lie between
    if made(0).bytes > goal.bytes:
        return
    while few < many:
        middle = (few + many + 1) // 2
        if made(middle).bytes <= goal.bytes:
            few = middle
        else:
            many = middle - 1
    plan, left = made(few), ranking.rows - few
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
