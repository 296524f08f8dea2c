"""The summary as short strings for a terminal table."""

from __future__ import annotations

from collections.abc import Iterable

from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.comparison.reference import reference
from embpress.reports.metrics import METRICS, show
from embpress.reports.stats import Difference, Stat
from embpress.reports.summary import Summary, shorten, summary
from embpress.reports.uncertainty.judge import Judgement

SERVED = "Δ served"  # stands only where serving changes lookups
SET = "set"  # stands only where more than chance was told from chance
HEADERS = ["method", "size", "ratio", "AUC", "Δ full", SET, SERVED, "loss", "step ms", "µs", "status"]
LOOKUP = "lookup_p50_us_b128"
_GAP = 3  # what a table draws between two columns
_DROP_FIRST = ["loss", "step ms", "µs", SET, SERVED, "ratio", "status"]  # where the terminal is narrow
_MIN_LABEL = 14
_SHORT_STATUS = {"cannot reach": "no"}  # the note says which size


def summary_cells(
    runs: Iterable[Run], width: int = 100, judged: Judgement | None = None
) -> tuple[list[str], list[list[str]], list[str]]:
    """Headers, rows and notes of the summary, made to fit `width` columns as far as that is possible.

    Where it is known which differences are more than chance (`judged`), a column names the sets of methods that cannot
    be told apart.
    """
    rows = summary(runs)
    letters = {} if judged is None else {label: place.letters for label, place in judged.places.items()}
    headers, cells = list(HEADERS), [_cells(row, letters.get(row.label, "")) for row in rows]
    notes = _notes(rows, judged)

    def drop(name: str) -> None:
        i = headers.index(name)
        for line in [headers, *cells]:
            del line[i]

    def room() -> int:
        used = (max(len(line[i]) for line in [headers, *cells]) for i in range(1, len(headers)))
        return width - _GAP * len(headers) - 1 - sum(used)

    if all(row.auc_to_trained is None for row in rows):
        drop(SERVED)
    if not letters:
        drop(SET)
    needed = min(max((len(row.label) for row in rows), default=0), _MIN_LABEL)
    if room() < needed:
        for line in cells:
            line[-1] = _SHORT_STATUS.get(line[-1], line[-1])
    for name in _DROP_FIRST:
        if room() < needed and name in headers:
            drop(name)
    for line, label in zip(cells, shorten([row.label for row in rows], max(8, room()))):
        line[0] = label
    return headers, cells, notes


def _cells(row: Summary, letters: str) -> list[str]:
    return [
        row.label,
        show("serving_bytes", row.mean("serving_bytes")),
        show("ratio", row.mean("ratio")),
        _tight(row.stats.get("auc")),
        _difference(row.auc_to_full),
        letters,
        _difference(row.auc_to_trained),
        show("log_loss", row.mean("log_loss")),
        _bare("step_ms", row),
        _bare(LOOKUP, row),
        row.status.replace(" of ", "/"),
    ]


def _tight(auc: Stat | None) -> str:
    """`0.7421 ±.0010`: the spread without its leading zero, as the columns are few."""
    if auc is None:
        return numerals.MISSING
    spread = "" if auc.sd is None else " ±" + numerals.score(auc.sd).removeprefix("0")
    return numerals.score(auc.mean) + spread


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return numerals.MISSING
    return numerals.signed(difference.mean) + ("*" if difference.distinguishable else "")


def _bare(name: str, row: Summary) -> str:
    value = row.mean(name)
    return numerals.MISSING if value is None else numerals.plain(value, numerals.decimals_of(value))


def _notes(rows: list[Summary], judged: Judgement | None) -> list[str]:
    published = reference(rows)
    notes = [published] if published else []
    notes += [f"{row.label}: {reason}" for row in rows for reason in row.reasons]
    if any(row.auc_to_full is not None for row in rows):
        known = any(row.auc_to_full.distinguishable is not None for row in rows if row.auc_to_full)
        star = "; * its 95 % interval excludes zero" if known else "; one seed, so chance is not ruled out"
        notes.append(f"Δ full: test AUC minus that of the full tables, mean over the shared seeds{star}")
    if judged is not None and judged.places:
        notes.append(
            f"{SET}: methods of about the same size that share a letter cannot be told apart{judged.over_text}"
        )
    if any(row.auc_to_trained is not None for row in rows):
        notes.append(f"{SERVED}: test AUC minus that of the same weights before serving has changed them")
    if any(LOOKUP in row.stats for row in rows):
        notes.append(f"µs: {METRICS[LOOKUP].title.lower()}, all tables at once")
    if any(stat.sd is not None for row in rows if (stat := row.stats.get("auc"))):
        notes.append("AUC ± standard deviation over the seeds")
    if any(row.threads_waited for row in rows):
        late = ", ".join(row.label for row in rows if row.threads_waited)
        notes.append(f"threads waited for each other on a busy machine, and times are too long: {late}")
    return notes
