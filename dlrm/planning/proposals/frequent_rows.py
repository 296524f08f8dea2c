"""For each table as many exact rows as pay: what a table loses where its rarer rows are one, measured after training.

A model of plain tables is trained once. Then, table by table, the rows beyond the k most frequent become their mean,
and the log loss of the rows held out says what that costs. Losses of several tables are taken to add up, so that the
bytes go where a byte saves most: down the convex hulls of the tables' curves, a knapsack's greedy solution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from embpress.compressors import BudgetError, MethodSpec, Plan, TablePlan, parse
from embpress.compressors.sizes import serving_size
from embpress.compressors.tables.planning.proportional import kept_full, sized
from embpress.dlrm.planning.candidate import Candidate, Goal, at_width
from embpress.dlrm.planning.probe import Prober
from embpress.dlrm.training.evaluate import predict, scores

_STEP = 2.0  # from one number of exact rows to the next
_MOST_WIDTHS = 4
_CODES = "int4"
_WHOLE = ("full", "mlet")  # what tables are of which all rows stay
_SCORED_ROWS = 50_000  # of those held out, that say what a table's rarer rows are worth
_WIDER = (1.25, 1.5, 2.0)  # than what fits with all rows


class Point(NamedTuple):
    """A table with so many exact rows: its bytes, and the log loss of the whole model."""

    rows: int
    bytes: int
    loss: float


def propose(goal: Goal, prober: Prober, best: Sequence[Candidate], on: Callable[[], bool]) -> Iterator[Candidate]:
    """At the widths of the best candidates, and at some that are wider than what fits with all rows."""
    if not best:
        return
    for width in _widths(goal, best):
        curves = _curves(goal, prober, width, best[0].rate, on) if on() else None
        if curves is None:
            return
        for whole in _WHOLE:
            made = _candidate(goal, width, whole, curves)
            if made is not None:
                yield made.at_rate(best[0].rate)


def _widths(goal: Goal, best: Sequence[Candidate]) -> list[int]:
    of_best = list(dict.fromkeys(candidate.plan.width for candidate in best))[:_MOST_WIDTHS]
    fits = next((w for w in range(goal.width, 0, -1) if _all_rows(goal, w, f"full+{_CODES}").bytes <= goal.bytes), 1)
    wider = [min(goal.width, max(fits + 1, round(fits * times))) for times in _WIDER]
    return list(dict.fromkeys([*of_best, *wider, goal.width]))


def _all_rows(goal: Goal, width: int, spec: str) -> Plan:
    roomy = replace(goal, bytes=1 << 62)
    return at_width(roomy, parse(spec), width)


def _curves(
    goal: Goal, prober: Prober, width: int, rate: float | None, on: Callable[[], bool]
) -> dict[int, list[tuple[int, float]]] | None:
    """For each table that may be made smaller, the log loss by the number of exact rows; None where time runs out."""
    full = Candidate(f"full at width {width}", _all_rows(goal, width, "full"), rate=rate)
    what = f"losses of rarer rows, {full.key}"
    measured = prober.remembered(what, lambda: _losses(goal, prober, full, on))
    if measured is None:
        return None
    return {int(t): [(int(k), loss) for k, loss in points] for t, points in measured.items()}


def _losses(
    goal: Goal, prober: Prober, full: Candidate, on: Callable[[], bool]
) -> dict[str, list[tuple[int, float]]] | None:
    """`_curves` by the table's number as text, by training a model of plain tables."""
    model = prober.model(full, 0)
    if model is None:
        return None
    held = prober.fold(0).test
    if len(held) > _SCORED_ROWS:
        held = held.take(torch.randperm(len(held), generator=Generator().manual_seed(0))[:_SCORED_ROWS])

    def loss() -> float:
        return scores(predict(model, held), held.labels)["log_loss"]

    base = loss()
    keep = kept_full(goal.configs, goal.settings.min_rows, goal.settings.largest)
    curves = {}
    for t, table in enumerate(model.tables.tables):
        if keep[t]:
            continue
        if not on():
            return None
        n = table.num_embeddings
        weight, counts = table.own("weight"), prober.counts[t]
        kept = weight.detach().clone()
        points, k = [(n, base)], n / _STEP
        while k >= 1:
            rows = int(k)
            with torch.no_grad():
                weight[rows:] = _mean(kept[rows:], counts[rows:])
            points.append((rows, loss()))
            k /= _STEP
        with torch.no_grad():
            weight.copy_(kept)
        curves[str(t)] = points
    return curves


def _mean(rows: Tensor, counts: Tensor) -> Tensor:
    """The mean row by traffic; of rows that nobody looks up the plain one."""
    share = counts.to(rows)
    return (share @ rows) / share.sum() if float(share.sum()) else rows.mean(0)


def _candidate(goal: Goal, width: int, whole: str, curves: dict[int, list[tuple[int, float]]]) -> Candidate | None:
    """The plan whose bytes go where they save most; None where all rows stay, or even the smallest is too large."""
    base = _all_rows(goal, width, f"full+{_CODES}")
    options = {t: [_point(base.tables[t], *point) for point in points] for t, points in curves.items()}
    fixed = sum(table.bytes for t, table in enumerate(base.tables) if t not in options)
    chosen = knapsack(options, goal.bytes - fixed)
    if chosen is None or all(point.rows == base.tables[t].config.num_embeddings for t, point in chosen.items()):
        return None
    tables = list(base.tables)
    for t, point in chosen.items():
        tables[t] = replace(tables[t], method=_spec(tables[t], point.rows, whole))
    try:
        made = sized(Plan(tuple(tables)))
    except BudgetError:
        return None
    if made.bytes > goal.bytes:
        return None
    narrower = "" if width == goal.width else f" at width {width}"
    kind = "" if whole == "full" else f", whole tables {whole}"
    return Candidate(f"frequent rows by table, {_CODES}{kind}{narrower}", made, _why(made, chosen, options))


def _spec(table: TablePlan, rows: int, whole: str = "full") -> MethodSpec:
    stays = rows >= table.config.num_embeddings - 1
    return parse(f"{whole if stays else f'top:rows={rows}'}+{_CODES}")


def _point(table: TablePlan, rows: int, loss: float) -> Point:
    spec = _spec(table, rows)
    return Point(rows, serving_size(spec, table.config.num_embeddings, table.embedding_dim, spec.knobs), loss)


def knapsack(options: dict[int, list[Point]], size: int) -> dict[int, Point] | None:
    """One point a table, of least loss in all that `size` bytes can hold, along the tables' lower convex hulls.

    The steps along all hulls are taken from the steepest on, of the last one as many rows as fit: the optimum, but for
    a row, where losses between two points lie on a line. None where the smallest points take more.
    """
    hulls = {t: _hull(points) for t, points in options.items()}
    chosen = {t: hull[0] for t, hull in hulls.items()}
    used = sum(hull[0].bytes for hull in hulls.values())
    if used > size:
        return None
    steps = [
        ((a.loss - b.loss) / (b.bytes - a.bytes), t, i)
        for t, hull in hulls.items()
        for i, (a, b) in enumerate(pairwise(hull))
    ]
    for _, t, i in sorted(steps, key=lambda step: (-step[0], step[1:])):
        a, b = hulls[t][i : i + 2]
        if used + b.bytes - a.bytes > size:
            chosen[t] = _between(a, b, size - used)
            break
        chosen[t], used = b, used + b.bytes - a.bytes
    return chosen


def _between(a: Point, b: Point, room: int) -> Point:
    """As far from a towards b as so many bytes lead; rows of a table are of one size."""
    share = min(1.0, room / (b.bytes - a.bytes))
    rows = a.rows + int(share * (b.rows - a.rows))
    share = (rows - a.rows) / (b.rows - a.rows)
    return Point(rows, a.bytes + math.ceil(share * (b.bytes - a.bytes)), a.loss + share * (b.loss - a.loss))


def _hull(points: Sequence[Point]) -> list[Point]:
    """The lower convex hull of loss over bytes, by rising bytes: only falling losses."""
    hull: list[Point] = []
    for point in sorted(points, key=lambda point: (point.bytes, point.loss)):
        if hull and (point.bytes == hull[-1].bytes or point.loss >= hull[-1].loss):
            continue
        while len(hull) > 1 and _slope(hull[-2], point) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(point)
    return hull


def _slope(a: Point, b: Point) -> float:
    return (b.loss - a.loss) / (b.bytes - a.bytes)


def _why(plan: Plan, chosen: dict[int, Point], options: dict[int, list[Point]]) -> tuple[str, ...]:
    lines = []
    for t, table in enumerate(plan.tables):
        if t not in chosen:
            lines.append("small")
            continue
        n, point = table.config.num_embeddings, chosen[t]
        cost = point.loss - min(other.loss for other in options[t] if other.rows == n)
        if point.rows >= n - 1:
            lines.append("its rarer rows pay")
        else:
            lines.append(f"its rarer rows are worth {cost:+.5f}")
    return tuple(lines)
