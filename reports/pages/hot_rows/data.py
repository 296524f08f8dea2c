"""What a record tells of hot rows, as shares; any of it may be missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embpress.dlrm.runs.record import Run


@dataclass(frozen=True)
class Stability:
    """How one share of the rows holds out: shares by point of progress."""

    in_last: Sequence[float]
    kept: Sequence[float]  # from the second point on


@dataclass(frozen=True)
class HotTable:
    """One table, or all together: `by_fraction` by place of the fraction, `answered` by place of the cache size."""

    name: str
    num_embeddings: int
    k: Sequence[int]
    by_fraction: Sequence[Stability]
    unshuffled: Sequence[Stability]
    answered: Sequence[float]
    lookups: int
    row0: float  # share of the lookups that fall on row 0


@dataclass(frozen=True)
class HotRows:
    """The field `hot_rows` of a record's data, see `embpress.dlrm.data.hot_rows`."""

    num_tables: int
    min_rows: int
    fractions: Sequence[float]
    progress: Sequence[float]
    cache_fractions: Sequence[float]
    tables: Sequence[HotTable]
    all: HotTable

    def distinct_fractions(self) -> list[int]:
        """The fractions that differ: in small tables several of them are the same few rows."""
        return [i for i, k in enumerate(self.all.k) if k not in list(self.all.k)[:i]]


@dataclass(frozen=True)
class CachePoint:
    """A cache that a run had: its share of the rows and the share of the lookups that it answered."""

    label: str
    fraction: float
    hit_rate: float


def hot_rows_of(runs: Iterable[Run]) -> HotRows | None:
    """What the first run that knows tells; None where none does. All runs of a folder are on the same data."""
    known = next((run.data.hot_rows for run in runs if run.data.hot_rows), None)
    if known is None:
        return None
    whole = known.get("all")
    return HotRows(
        num_tables=int(known["num_tables"]),
        min_rows=int(known["min_rows"]),
        fractions=known["fractions"],
        progress=known["progress"],
        cache_fractions=known["cache_fractions"],
        tables=[_table(table, str(table["feature"])) for table in known["tables"]],
        all=_table(whole, "All") if whole else HotTable("All", 0, [], [], [], [], 0, 0.0),
    )


def cache_points(runs: Iterable[Run]) -> list[CachePoint]:
    """Caches whose hit rate was measured, one a run."""
    points = []
    for run in runs:
        rate, fraction = run.metrics.get("cache_hit_rate"), _cache_fraction(run)
        if rate is not None and fraction:
            points.append(CachePoint(f"{run.method}, seed {run.seed}", fraction, rate))
    return points


def _table(counts: Mapping[str, Any], name: str) -> HotTable:
    def stability(suffix: str) -> list[Stability]:
        pairs = zip(counts.get(f"in_last{suffix}", []), counts.get(f"kept{suffix}", []), counts["k"])
        return [Stability([x / k for x in in_last], [x / k for x in kept]) for in_last, kept, k in pairs]

    lookups = int(counts["test_lookups"])
    return HotTable(
        name=name,
        num_embeddings=int(counts["num_embeddings"]),
        k=counts["k"],
        by_fraction=stability(""),
        unshuffled=stability("_unshuffled"),
        answered=[hit / lookups for hit in counts["hits"]] if lookups else [],
        lookups=lookups,
        row0=int(counts["row0_lookups"]) / lookups if lookups else 0.0,
    )


def _cache_fraction(run: Run) -> float | None:
    """Cached rows over all rows of the tables that have a cache, as their knobs say."""
    cached = rows = 0.0
    for table in run.tables:
        n = table.num_embeddings
        size = table.knobs.get("cache_rows") or (table.knobs.get("cache_fraction") or 0) * n
        if size:
            cached, rows = cached + size, rows + n
    return cached / rows if rows else None
