"""Tensor-train runs as lines over the rank: one line a choice of everything else."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from embpress.compressors.errors import InputError
from embpress.compressors.guard import counted
from embpress.compressors.spec import MethodSpec, parse
from embpress.dlrm.runs.comparable import most_shared
from embpress.dlrm.runs.record import Asked, Run
from embpress.reports import records
from embpress.reports.stats import Difference, paired
from embpress.reports.summary import Summary, summary

_METHOD = "tt"
_CACHE = ("cache_rows", "cache_fraction")
_OF_CACHE = (*_CACHE, "evict", "warmup", "refresh")  # of no account without a cache


@dataclass(frozen=True)
class Point:
    """One rank of a line, with an AUC."""

    rank: int
    row: Summary

    @property
    def auc(self) -> float:
        """Mean test AUC."""
        return self.row.stats["auc"].mean

    @property
    def bytes(self) -> float:
        """Mean serving bytes, 0 where they are unknown."""
        return self.row.mean("serving_bytes") or 0.0


@dataclass(frozen=True)
class Line:
    """Runs that differ in rank and seed alone.

    Attributes:
        init: name of the initialisation.
        cache: such as `1 %` or `200 rows, write-back, refresh=50`; empty without a cache.
        others: all other knobs that are not at their defaults, as text, and where several machines ran, which one.
        points: by rank.
    """

    init: str
    cache: str
    others: str
    points: Sequence[Point]

    @property
    def label(self) -> str:
        """What sets the line apart."""
        return ", ".join(part for part in (self.init, f"cache {self.cache}" if self.cache else "", self.others) if part)

    def at(self, rank: int) -> Point | None:
        """The point of a rank."""
        return next((point for point in self.points if point.rank == rank), None)


@dataclass(frozen=True)
class RankLines:
    """What a folder tells about ranks; `left_out` says which runs it is not about, and why."""

    lines: Sequence[Line]
    full: Summary | None
    left_out: Sequence[str]

    @property
    def ranks(self) -> list[int]:
        """All ranks, rising."""
        return sorted({point.rank for line in self.lines for point in line.points})


def rank_lines(runs: Iterable[Run]) -> RankLines:
    """Gathers the tensor-train runs with one rank; lines without a cache first, each kind by name."""
    kept: list[Run] = []
    specs: dict[str, tuple[int, MethodSpec]] = {}
    left: dict[str, list[str]] = {}
    for run in runs:
        settings: tuple[int, MethodSpec] | str | None = None if run.is_full else _settings(run)
        if isinstance(settings, str):
            left.setdefault(settings, []).append(_name(run))
        elif settings is None:
            kept.append(run)
        else:
            name = str(settings[1])
            specs[name] = settings
            # however a user wrote it: what is the same table is one row, and its seeds belong together
            kept.append(replace(run, method=name, asked=Asked()))
    rows = _one_protocol(summary(kept), left)
    points: dict[tuple[str, str, str, str, str], list[Point]] = {}
    for row in rows:
        if row.is_full:
            continue
        if "auc" not in row.stats:
            left.setdefault(row.status if row.lost else "no AUC", []).append(row.label)
            continue
        rank, spec = specs[row.method]
        key = (str(spec.knobs["init"]), _cache(spec), _others(spec), row.backend, row.device)
        points.setdefault(key, []).append(Point(rank, row))
    several = len({key[3:] for key in points}) > 1
    lines = [
        Line(
            init=init,
            cache=cache,
            others=" ".join([*([others] if others else []), *([f"[{backend} {device}]"] if several else [])]),
            points=sorted(line_points, key=lambda point: point.rank),
        )
        for (init, cache, others, backend, device), line_points in points.items()
    ]
    default = _defaults().get("init")
    lines.sort(key=lambda line: (line.others, bool(line.cache), line.init != default, line.init, _natural(line.cache)))
    full = next((row for row in rows if row.is_full and "auc" in row.stats), None)
    return RankLines(lines, full, [f"{_several(names)} ({reason})" for reason, names in left.items()])


def without_cache(line: Line, lines: Sequence[Line]) -> Line | None:
    """The same line without its cache, where it was run."""
    bare = (other for other in lines if not other.cache and (other.init, other.others) == (line.init, line.others))
    return next(bare, None)


def against_size(point: Point, line: Line) -> Difference | None:
    """AUC of a point minus that of a line at the same bytes, paired by seed.

    The line is read off between its two nearest sizes, linear in AUC and in the logarithm of the bytes, for each seed
    by itself. None where it has no table as small or none as large.
    """
    sized = sorted((other for other in line.points if other.bytes > 0), key=lambda other: other.bytes)
    if point.bytes <= 0:
        return None
    for low, high in itertools.pairwise(sized):
        if low.bytes <= point.bytes <= high.bytes and low.bytes < high.bytes:
            share = math.log(point.bytes / low.bytes) / math.log(high.bytes / low.bytes)
            ends = low.row.auc_by_seed, high.row.auc_by_seed
            seeds = ends[0].keys() & ends[1].keys()
            read = {seed: (1 - share) * ends[0][seed] + share * ends[1][seed] for seed in seeds}
            return paired(point.row.auc_by_seed, read)
    return None


def _settings(run: Run) -> tuple[int, MethodSpec] | str:
    """The rank and the spec with what is not at its default, or why the run has no place on a line."""
    if run.name != _METHOD:
        return "no tensor train"
    try:
        spec = parse(run.method)
    except InputError:
        return "knobs of another version"
    rank = spec.knobs.get("rank", _rank_of_tables(run) if _sized(run, spec) else _defaults()["rank"])
    if isinstance(rank, tuple):
        return "a rank for each pair of cores"
    if not isinstance(rank, int):
        return "ranks that a size was turned into, one for each table"
    asked = {"init": _defaults()["init"], **spec.knobs, "rank": rank}
    if not any(asked.get(name) for name in _CACHE):
        asked = {name: value for name, value in asked.items() if name not in _OF_CACHE}
    keep = {name: asked[name] for name in sorted(asked) if name in ("init", "rank") or asked[name] != _default(name)}
    return rank, replace(spec, knobs=keep, ratio=None, budget=None)


def _sized(run: Run, spec: MethodSpec) -> bool:
    return spec.ratio is not None or spec.budget is not None or run.asked != Asked()


def _rank_of_tables(run: Run) -> int | None:
    """The one rank that all tensor-train tables of a run have, where they do."""
    ranks = {table.knobs.get("rank") for table in run.tables if table.method == _METHOD}
    only = ranks.pop() if len(ranks) == 1 else None
    return only if isinstance(only, int) else None


def _defaults() -> dict[str, Any]:
    known = parse(_METHOD).cls.knob_names()
    return {name: parameter.default for name, parameter in known.items()}


def _default(name: str) -> Any:
    return _defaults().get(name)


def _cache(spec: MethodSpec) -> str:
    rows, share = (spec.knobs.get(name) for name in _CACHE)
    size = counted(rows, "row") if rows else f"{100 * share:.6g} %" if share else ""
    if not size:
        return ""
    times: dict[str, object] = {name: spec.knobs[name] for name in ("warmup", "refresh") if name in spec.knobs}
    return ", ".join(str(part) for part in (size, spec.knobs.get("evict"), records.knobs_text(times)) if part)


def _others(spec: MethodSpec) -> str:
    named = ("rank", "init", *_OF_CACHE)
    knobs = {name: value for name, value in spec.knobs.items() if name not in named}
    plain = {name: "x".join(map(str, value)) if isinstance(value, tuple) else value for name, value in knobs.items()}
    return records.knobs_text(plain)


def _natural(cache: str) -> tuple[bool, float, str]:
    """Shares before numbers of rows, each by size."""
    number, _, rest = cache.partition(" ")
    return not rest.startswith("%"), float(number.replace(",", "") or 0), rest


def _one_protocol(rows: Sequence[Summary], left: dict[str, list[str]]) -> list[Summary]:
    """The rows of the model and training settings that most tensor-train runs share."""
    shared = most_shared((row.protocol, row.n) for row in rows if not row.is_full)
    if not shared:
        return list(rows)
    for row in rows:
        if row.protocol != shared and not row.is_full:
            left.setdefault("another model or training", []).append(row.label)
    return [row for row in rows if row.protocol == shared]


def _name(run: Run) -> str:
    size = records.asked_text(run.asked.ratio, run.asked.budget)
    return f"{run.method} @{size}" if size else run.method


def _several(names: Sequence[str], limit: int = 3) -> str:
    distinct = list(dict.fromkeys(names))
    more = [f"{len(distinct) - limit} more"] if len(distinct) > limit + 1 else []
    return ", ".join([*(distinct[:limit] if more else distinct), *more])
