"""What changed against earlier runs, as a table and a few sentences: in the terminal and as a section of the report."""

from __future__ import annotations

from embpress.reports import numerals
from embpress.reports.changes import TIMES, Change, Changes, Verdict
from embpress.reports.text import escape, table


def section(found: Changes) -> str:
    """Markdown: what is worse, better and unknown, then a line a method, then what counts."""
    headers, rows = headers_and_cells(found)
    body = [[escape(cell) for cell in row] for row in rows]
    said = " ".join(escape(line) for line in sentences(found))
    return f"{said}\n\n{table([header.capitalize() for header in headers], body)}\n\n{what_counts(found.tolerance)}"


def sentences(found: Changes) -> list[str]:
    """What is worse, better and unknown, and what was not compared; the first says it all in short."""
    worse = [f"{row.label}: {', '.join(row.are('worse'))}" for row in found.worse]
    better = [f"{row.label}: {', '.join(row.are('better'))}" for row in found.rows if row.are("better")]
    unknown = [row.label for row in found.rows if row.verdicts.get("auc") == "unknown"]
    lines = [f"Worse beyond noise: {'; '.join(worse)}." if worse else "Nothing is worse beyond noise."]
    if better:
        lines.append(f"Better beyond noise: {'; '.join(better)}.")
    if unknown:
        lines.append(f"Whether AUC changed is unknown for want of two shared seeds: {', '.join(unknown)}.")
    if found.elsewhere:
        lines.append(f"Times are not compared where they are not alike: {found.elsewhere}.")
    for what, labels in (("Not run any more", found.only_before), ("Not there before", found.only_now)):
        if labels:
            lines.append(f"{what}, and not compared: {', '.join(labels)}.")
    return lines


def what_counts(tolerance: float) -> str:
    """The rule, in words."""
    return (
        "AUC counts where a t test over the seeds that both have, paired, excludes no change at 5 %, corrected for the "
        f"number of methods (Holm); serving bytes exactly; times beyond {tolerance:g}×, on one machine; and a result "
        "that is lost."
    )


def headers_and_cells(found: Changes) -> tuple[list[str], list[list[str]]]:
    """The table, as plain text: a line a method."""
    headers = ["method", "AUC", "Δ AUC", "95 % interval", "size", "Δ bytes", *TIMES.values(), "changed"]
    return headers, [_cells(row) for row in found.rows]


def _cells(row: Change) -> list[str]:
    none = numerals.MISSING
    gap = row.gap
    interval = none
    if gap is not None and gap.low is not None and gap.high is not None:
        interval = f"{numerals.signed(gap.low)} to {numerals.signed(gap.high)}"
    cells = [row.label, numerals.score(row.auc[1]) if row.auc else none]
    cells += [numerals.signed(gap.mean) if gap else none, interval]
    if row.serving_bytes is None:
        cells += [none, none]
    else:
        before, now = row.serving_bytes
        cells += [
            numerals.size(now),
            "0" if now == before else f"{'+' if now > before else '−'}{abs(now - before):,.0f}",
        ]
    cells += [f"{row.times[name]:.2f}×" if name in row.times else none for name in TIMES.values()]
    verdicts: tuple[Verdict, ...] = ("worse", "better")
    marks = [verdict for verdict in verdicts if row.are(verdict)]
    unknown = row.verdicts.get("auc") == "unknown"
    return [*cells, " and ".join(marks) or ("unknown" if unknown else "no")]
