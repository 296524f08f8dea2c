"""The section of the report about tuning: what was chosen for each method, and what the default would have given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from embpress.compressors.guard import counted
from embpress.dlrm.runs.record import Run, Tuned
from embpress.dlrm.tuning import RATE, text_of
from embpress.reports import numerals
from embpress.reports.summary import Summary
from embpress.reports.text import escape, table

_HEADERS = [
    *("Method", "Chosen", "Default", "Validation AUC, chosen", "default"),
    *("Test AUC of seed 0, chosen", "default", "Trials"),
]


def tuning(rows: Sequence[Summary]) -> str:
    """One line a method, and which choices lie at the edge of what was tried; empty where nothing was tuned."""
    tuned = [(row, found) for row in rows if (found := _tuned(row)) is not None]
    if not tuned:
        return ""
    body = [
        [
            escape(row.label),
            escape(text_of(found.chosen)),
            escape(text_of(found.default)),
            *map(_score, (found.valid_auc, found.default_valid_auc, found.auc, found.default_auc)),
            f"{found.trials}{f', {found.failed} failed' if found.failed else ''}",
        ]
        for row, found in tuned
    ]
    what = "Learning rates and knobs" if any(_knobs(found) for _, found in tuned) else "Learning rates"
    numbers, ways = _numbers(found.trials for _, found in tuned), dict.fromkeys(found.how for _, found in tuned)
    intro = (
        f"{what} were chosen for each method, full tables included, by the best validation AUC of {numbers} each "
        f"({', '.join(ways)}), all with seed 0; every seed then trains with what was chosen. The test part chose "
        "nothing: it tells here what the choice has changed, at one seed."
    )
    notes = [intro, table(_HEADERS, body, left=3), _order(tuned), _edges(tuned)]
    return "\n\n".join(note for note in notes if note)


def protocol_text(runs: Sequence[Run]) -> str:
    """How rates were chosen, for the report's protocol; empty where nothing was tuned."""
    known = [run.tuned for run in runs if run.tuned is not None]
    if not known:
        return ""
    return (
        f"each method's own learning rate{' and knobs' if any(map(_knobs, known)) else ''}, "
        f"{_numbers(one.trials for one in known)} a method with seed 0, the best validation AUC decides"
    )


def _tuned(row: Summary) -> Tuned | None:
    return next((run.tuned for run in (*row.runs, *row.lost) if run.tuned is not None), None)


def _knobs(tuned: Tuned) -> bool:
    return set(tuned.chosen) != {RATE}


def _numbers(trials: Iterable[int]) -> str:
    """`5 trials`, or `4 or 5 trials` where methods had other numbers of them."""
    numbers = sorted(set(trials))
    return counted(numbers[0], "trial") if len(numbers) == 1 else f"{' or '.join(map(str, numbers))} trials"


def _score(value: float | None) -> str:
    return numerals.MISSING if value is None else numerals.score(value)


def _order(tuned: Sequence[tuple[Summary, Tuned]]) -> str:
    """What tuning did to the methods' order by test AUC of seed 0, in a sentence; empty where there is none."""
    known = [(row.label, found.auc, found.default_auc) for row, found in tuned]
    scored = [(label, auc, default) for label, auc, default in known if auc is not None and default is not None]
    if len(scored) < 2:
        return ""
    after = [label for label, *_ in sorted(scored, key=lambda one: -one[1])]
    before = [label for label, *_ in sorted(scored, key=lambda one: -one[2])]
    if after == before:
        return "The methods' order by test AUC of seed 0 is the same at the default."
    moved = sum(one != other for one, other in zip(after, before))
    best = (
        f"{escape(after[0])} is the best either way"
        if after[0] == before[0]
        else f"{escape(after[0])} is the best, at the default it would have been {escape(before[0])}"
    )
    return (
        f"By test AUC of seed 0 {best}; {moved} of {len(scored)} methods stand at another rank than they would at the "
        "default."
    )


def _edges(tuned: Sequence[tuple[Summary, Tuned]]) -> str:
    texts = []
    for row, found in tuned:
        names = ["rate" if name == RATE else name for name in found.edges]
        if names:
            texts.append(f"{escape(row.label)} ({', '.join(names)})")
    return f"At the edge of what was tried, a wider grid may give more: {', '.join(texts)}." if texts else ""
