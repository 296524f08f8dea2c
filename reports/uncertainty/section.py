"""The section of the report about which differences are more than chance."""

from __future__ import annotations

from embpress.compressors.guard import counted
from embpress.reports import numerals
from embpress.reports.metrics import show
from embpress.reports.text import escape, table
from embpress.reports.uncertainty.columns import interval
from embpress.reports.uncertainty.interval import BOTH, ROWS, SEEDS, Estimate
from embpress.reports.uncertainty.judge import Judgement

TITLE = "Which differences are more than chance"
_MAX_NAMED = 4
_SURE_TO = 0.0001  # smaller p-values are not told apart
_FEW = 5  # seeds


def section(judged: Judgement) -> str:
    """A line a method: intervals, p-value, place, what it cannot be told from; empty where nothing is known."""
    if not judged.known:
        return ""
    kinds = [kind for kind in (SEEDS, ROWS, BOTH) if any(_half(found, kind) is not None for found in judged.estimates)]
    shown = [row for group in judged.groups for row in group if judged.to_full(row) or row.label in judged.places]
    headers = ["Method", "Ratio", *(["Δ to full"] if kinds else []), *(f"95 % over {kind}" for kind in kinds)]
    headers += [*(["p, corrected"] if kinds else []), *(["Set", "Place", "Not told from"] if judged.places else [])]
    body = []
    for row in shown:
        found, place = judged.to_full(row), judged.places.get(row.label)
        line = [escape(row.label), show("ratio", row.mean("ratio"))]
        if kinds:
            line.append(numerals.signed(found.mean) if found else numerals.MISSING)
            line += [_interval(found, kind) for kind in kinds]
            line.append(_p(found))
        if judged.places:
            span = f"{place.first}–{place.last}".removesuffix(f"–{place.first}") if place else ""
            line += [place.letters, f"{span} of {place.of}", _names(place.alike)] if place else [numerals.MISSING] * 3
        body.append(line)
    return "\n\n".join([table(headers, body), *_notes(judged, kinds)])


def _half(found: Estimate | None, kind: str) -> float | None:
    """Half the width of the interval over these alone; what is known of one kind only has no interval over both."""
    if found is None:
        return None
    return {SEEDS: found.seeds_alone, ROWS: found.rows_alone, BOTH: found.both}[kind]


def _interval(found: Estimate | None, kind: str) -> str:
    half = _half(found, kind)
    return numerals.MISSING if found is None or half is None else interval(found.mean, half)


def _p(found: Estimate | None) -> str:
    if found is None or found.corrected is None:
        return numerals.MISSING
    text = f"under {_SURE_TO}" if found.corrected < _SURE_TO else f"{found.corrected:.4f}"
    return f"**{text}**" if found.told else text


def _names(labels: tuple[str, ...]) -> str:
    more = len(labels) - _MAX_NAMED
    named = labels if more <= 1 else labels[:_MAX_NAMED]
    return escape(", ".join(named)) + (f" and {more} more" if more > 1 else "") or numerals.MISSING


def _notes(judged: Judgement, kinds: list[str]) -> list[str]:
    about = {
        SEEDS: "*over seeds*: other seeds, the same test rows, by a t interval of the paired differences, whose spread "
        "is that of Δ to full in the table above. It answers whether another seed would change it.",
        ROWS: f"*over rows*: other test rows, the same trained models, by DeLong's method on {judged.row_count:,} test "
        "rows. Rows are taken to be independent of one another.",
        BOTH: f"*over seeds and rows*: other seeds and other rows than these {judged.row_count:,}, and so what to "
        "expect on new data of the same kind. All seeds have the same test rows, so more seeds do not make the rows' "
        "part (by DeLong's method, rows being independent of one another) smaller; the half widths of the parts add up "
        "by their squares.",
    }
    intervals = [f"- {about[kind]}" for kind in kinds]
    used = (
        "over seeds and rows where both are known, else over the one that is"
        if BOTH in kinds
        else f"over {kinds[0]}"
        if kinds
        else "of the same kinds"
    )
    corrected = [
        f"P-values are of the interval {used}, corrected (Holm) for {counted(judged.comparisons_with_full, 'method')} "
        "held against full tables"
        if judged.comparisons_with_full
        else "",
        f"the sets for {counted(judged.comparisons, 'comparison')} of two methods of about the same size (within 1.5×)"
        if judged.places
        else "",
    ]
    said = "; ".join(part for part in corrected if part)
    texts = ["\n".join(intervals)] if intervals else []
    if said:
        texts.append(f"{said[:1].upper()}{said[1:]}: each of the two families is right in all its claims with 95 %.")
    if judged.places:
        texts.append(
            "Methods that share a letter in *Set* cannot be told apart. *Place* is where a method may stand by its AUC "
            "among those of its size."
        )
    if kinds == [SEEDS]:
        texts.append(
            "What other test rows would change is not known: the folder holds no labels of the test part, or no "
            "predictions."
        )
    if any(found.seed_error is not None and found.n < _FEW for found in judged.estimates):
        texts.append(
            "With few seeds only large differences are more than chance; `--seeds auto:0.002` adds seeds until those "
            "to the full tables are known to ±0.002 over the seeds."
        )
    if kinds == [ROWS]:
        texts.append("One seed was run: what another would change is not known.")
    texts.append("The training part is the same for all: what other training data would change is in none of these.")
    return texts
