"""Spectra of trained tables, and MLET's pairs of widths that cost no memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from embpress.dlrm.runs.record import Run, TableRecord
from embpress.reports.stats import Difference, paired
from embpress.reports.summary import Summary, summary

METHOD = "mlet"  # whose tables the page is about
THRESHOLD = 0.01  # of the largest: the paper's effective rank counts the singular values above


@dataclass(frozen=True)
class Spectrum:
    """One table as one method left it.

    Attributes:
        label: of the method.
        factors: trained as two factors.
        width: of the rows.
        values: singular values over the largest, mean over the seeds.
        rank: effective rank, mean over the seeds.
    """

    label: str
    factors: bool
    width: int
    values: Sequence[float]
    rank: float


@dataclass(frozen=True)
class Feature:
    """One table, as all methods of plain rows left it."""

    name: str
    num_embeddings: int
    spectra: Sequence[Spectrum]


@dataclass(frozen=True)
class Pair:
    """An MLET run of inner width k and width d against a plain one of width `plain`: `k <= plain`, `d < plain`."""

    label: str
    k: int
    d: int
    plain_label: str
    plain: int
    gap: Difference | None  # of AUC, paired by seed


def effective_rank(values: Sequence[float]) -> int:
    """How many singular values are above a hundredth of the largest."""
    return sum(value > THRESHOLD for value in values)


def features_of(runs: Iterable[Run]) -> list[Feature]:
    """Tables that some run trained as two factors, the largest first, those of one width side by side."""
    found: dict[str, tuple[int, list[Spectrum]]] = {}
    for row in summary(runs):
        tables = [dict(zip((t.feature for t in run.tables), run.tables)) for run in row.runs]
        for name in tables[0] if tables else {}:
            kept = [by_name[name] for by_name in tables if name in by_name and by_name[name].spectrum]
            if kept:
                found.setdefault(name, (kept[0].num_embeddings, []))[1].append(_spectrum(row.label, kept))
    features = [
        Feature(name, n, sorted(spectra, key=lambda one: (-one.width, one.factors, one.label)))
        for name, (n, spectra) in found.items()
        if any(one.factors for one in spectra)
    ]
    return sorted(features, key=lambda feature: (-feature.num_embeddings, feature.name))


def free_pairs(runs: Iterable[Run]) -> list[Pair]:
    """The paper's zero-cost pairs: MLET whose inner width is at most the width of a plain run, at a smaller width.

    It then trains in no more memory than the plain one (but for k × d of the projection), and is served in less.
    """
    rows = [row for row in summary(runs) if row.runs]
    plain = [(row, width) for row in rows if (width := _plain_width(row)) is not None]
    pairs = []
    for row in rows:
        table = _largest(row, METHOD)
        if table is None:
            continue
        k, d = int(table.knobs["k"]), table.embedding_dim
        for other, width in plain:
            if k <= width and d < width:
                gap = paired(row.auc_by_seed, other.auc_by_seed)
                pairs.append(Pair(row.label, k, d, other.label, width, gap))
    return sorted(pairs, key=lambda pair: (-pair.plain, -pair.d, -pair.k))


def _spectrum(label: str, tables: Sequence[TableRecord]) -> Spectrum:
    first = tables[0]
    values = [statistics.fmean(column) for column in zip(*(table.spectrum for table in tables))]
    rank = statistics.fmean(effective_rank(table.spectrum) for table in tables)
    return Spectrum(label, first.method == METHOD, first.embedding_dim, values, rank)


def _largest(row: Summary, method: str) -> TableRecord | None:
    """The largest table of a method with modifiers or without, None where the row has none."""
    tables = [table for table in row.runs[0].tables if table.method == method]
    return max(tables, key=lambda table: table.num_embeddings, default=None)


def _plain_width(row: Summary) -> int | None:
    """The width of tables that are all plain rows."""
    tables = row.runs[0].tables
    return tables[0].embedding_dim if tables and all(table.is_full for table in tables) else None
