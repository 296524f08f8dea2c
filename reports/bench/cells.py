"""Numbers of a benchmark's row as text, and tables of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embpress.reports import numerals

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]


@dataclass(frozen=True)
class Section:
    """One table: cells as text, and what must be known to read them."""

    title: str
    headers: list[str]
    cells: list[list[str]]
    notes: list[str]
    left: int  # columns of text, the first ones


def section(
    title: str, rows: Sequence[Row], columns: Sequence[Column], notes: Sequence[str] = (), named: bool = True
) -> list[Section]:
    """The table of these rows, none without rows.

    Args:
        title: above it.
        rows: of the record.
        columns: beside the case's name.
        notes: below it, before those that the rows ask for: limits, why rows were not measured, or not by replay.
        named: a column says what each is held against.
    """
    if not rows:
        return []
    first: list[Column] = [("case", lambda row: str(row["name"]))]
    if named:
        first.append(("against", lambda row: str(row["baseline"])))
    shown = [*first, *columns]
    if any(row["roofline_s"] is not None for row in rows):
        shown[-1:-1] = [("roofline", lambda row: time(row["roofline_s"])), ("of roofline", _of_roofline)]
    if OF_BASELINE not in shown and any(row["limit"] is not None for row in rows):
        shown[-1:-1] = [OF_BASELINE]
    cells = [[text(row) for _, text in shown] for row in rows]
    for row, line in zip(rows, cells):
        if row["status"] != "ok":
            line[len(first)] = str(row["status"])
    return [Section(title, [name for name, _ in shown], cells, [*notes, *_limits(rows), *_reasons(rows)], len(first))]


def alike(rows: Sequence[Row]) -> list[str]:
    """One line of what is the same in the setting of all rows that have one; none where nothing is."""
    settings = [row["setting"] for row in rows if row["setting"]]
    names = [name for name in (settings[0] if len(settings) > 1 else ()) if all(name in other for other in settings)]
    same = {name: settings[0][name] for name in names if all(s[name] == settings[0][name] for s in settings)}
    return [f"All of these: {', '.join(f'{name} {_shown(value)}' for name, value in same.items())}."] if same else []


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _limits(rows: Sequence[Row]) -> list[str]:
    return [
        f"{row['name']} should stay under {time(row['limit_s'])} on an {row['limit_on']}."
        for row in rows
        if row["limit_s"]
    ]


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Why rows were not measured, or how else, one line a reason."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if row["reason"]:
            what = f"by {row['how']}, " if row["status"] == "ok" else f"{row['status']}: "
            names.setdefault(f"{what}{row['reason']}", []).append(row["name"])
    return [f"{', '.join(cases)}: {reason}." for reason, cases in names.items()]


def time(seconds: float | None) -> str:
    """Three digits and the unit that suits them."""
    if seconds is None:
        return numerals.MISSING
    for unit, scale in (("µs", 1e6), ("ms", 1e3)):
        value = seconds * scale
        if abs(value) < 999.5:
            return f"{_digits(value)} {unit}"
    return f"{_digits(seconds)} s"


def _digits(value: float) -> str:
    return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}"


def times(value: float) -> str:
    """A ratio, three decimals where it is small."""
    return f"{value:.3f}" if value < 0.0995 else f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def ratio(row: Row) -> str:
    """Median of baseline / ours."""
    return numerals.MISSING if row["ratio"] is None else f"{times(row['ratio']['median'])}×"


def of_baseline(row: Row) -> str:
    """Ours / baseline, and whether that is within its limit."""
    limit = row["limit"]
    if row["ratio"] is None:
        return numerals.MISSING if limit is None else f"≤ {times(limit)}×"
    share = 1 / row["ratio"]["median"]
    return f"{times(share)}×" if limit is None else f"{times(share)}× {'≤' if share <= limit else '>'} {times(limit)}×"


def spread(row: Row) -> str:
    """Its quartiles."""
    return numerals.MISSING if row["ratio"] is None else f"{times(row['ratio']['low'])}–{times(row['ratio']['high'])}"


def of_peak(row: Row) -> str:
    """Share of the matrix product's speed."""
    return numerals.MISSING if row["of_peak"] is None else f"{100 * row['of_peak']['median']:.0f} %"


def _of_roofline(row: Row) -> str:
    return numerals.MISSING if row["of_roofline"] is None else f"{100 * row['of_roofline']:.0f} %"


def difference(row: Row) -> str:
    """Ours minus the baseline."""
    if row["difference_s"] is None:
        return numerals.MISSING
    median = row["difference_s"]["median"]
    return f"{'+' if median > 0 else '−'}{time(abs(median))}"


def slower(row: Row) -> str:
    """By how much ours is longer than the baseline."""
    if row["ratio"] is None:
        return numerals.MISSING
    change = 100 * (1 / row["ratio"]["median"] - 1)
    return f"{'+' if change >= 0 else '−'}{abs(change):.1f} %"


def size(name: str) -> Callable[[Row], str]:
    """A figure in bytes."""
    return lambda row: numerals.size(row["figures"][name]) if name in row["figures"] else numerals.MISSING


OURS: Column = ("ours", lambda row: time(row["ours_s"]))
BASELINE: Column = ("baseline", lambda row: time(row["baseline_s"]))
RATIO: Column = ("baseline / ours", ratio)
OF_BASELINE: Column = ("ours / baseline", of_baseline)
QUARTILES: Column = ("quartiles", spread)
REPEATS: Column = ("n", lambda row: str(row["repeats"] or numerals.MISSING))
