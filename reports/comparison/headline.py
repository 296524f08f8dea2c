"""What the runs say, in two sentences, and no more than they say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from embpress.dlrm.runs.comparable import most_shared
from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.metrics import show
from embpress.reports.sizes import by_size, is_smaller
from embpress.reports.stats import CONFIDENCE, Stat
from embpress.reports.summary import Summary, summary
from embpress.reports.uncertainty.interval import BOTH, ROWS, SEEDS, Estimate
from embpress.reports.uncertainty.judge import Judgement, judge

_SPREAD = {SEEDS: "of the seeds", ROWS: "of the test rows", BOTH: "of the seeds and test rows"}
LOOKUP = "lookup_p50_us_b128"
CLOSE = 0.05  # times that differ by less are called the same
_MAX_NAMED = 3  # sizes that are named in one sentence


def headline(runs: Iterable[Run], judged: Judgement | Path | None = None) -> str:
    """Two sentences: which method keeps most AUC at which size, then how sure that is and what looks up fastest.

    Args:
        runs: of a comparison.
        judged: which of their differences are more than chance, or the run folder that holds predictions and labels to
            judge by; the runs' seeds alone judge without it.
    """
    everything = list(runs)
    whole = summary(everything)
    rows = _comparable(whole)
    if not rows:
        return "There are no runs yet. Nothing can be compared."
    done = [row for row in rows if "auc" in row.stats]
    if not done:
        return f"None of the {len(rows)} methods gave a result. {_capital(_lost(rows))}."
    sure = judged if isinstance(judged, Judgement) else judge(whole, [] if judged is None else [judged])
    full = next((row for row in done if row.is_full), None)
    ranked = [row for row in done if is_smaller(row)]
    if not ranked:
        return f"{_nothing_smaller(full, done, sure)}. {_capital('; '.join(_asides(rows, done, ranked, full)))}."
    groups = _informative(by_size(ranked), sure)
    first = _most_auc(groups, full, sure) + _reachable(groups, everything)
    second = [_certainty(groups, sure), *_asides(rows, done, ranked, full)]
    return f"{first}. {_capital('; '.join(part for part in second if part))}."


def best(runs: Iterable[Run], judged: Judgement | None = None) -> Summary | None:
    """The method that a reader in a hurry would use: the first of its size in the headline; None where none is ahead.

    Of several sizes it is the smallest that is not clearly below full tables; where all are, or where one seed or no
    full tables leave that unknown, the largest.
    """
    whole = summary(runs)
    ranked = [row for row in _comparable(whole) if "auc" in row.stats and is_smaller(row)]
    if not ranked:
        return None
    sure = judge(whole, []) if judged is None else judged
    firsts = [group[0] for group in _informative(by_size(ranked), sure)]
    known = [(row, gap) for row in firsts if (gap := sure.to_full(row)) is not None and gap.told is not None]
    unhurt = [row for row, gap in known if not (gap.told and gap.mean < 0)]
    return unhurt[-1] if unhurt else firsts[0]


def _comparable(rows: Sequence[Summary]) -> list[Summary]:
    """The rows of the model and training settings that most runs share: others cannot be compared with them."""
    key = most_shared((row.protocol, row.n) for row in rows)
    return [row for row in rows if row.protocol == key]


def _informative(groups: list[list[Summary]], sure: Judgement) -> list[list[Summary]]:
    """Without the sizes at which a still smaller table does better; of many the ends and one between."""
    best = [group[0].mean("auc") or 0 for group in groups]
    kept = [group for i, group in enumerate(groups) if all(best[i] > later for later in best[i + 1 :])]
    if len(kept) <= _MAX_NAMED:
        return kept
    # Between the ends the most useful size is the smallest that cannot be told from the full tables.
    unhurt = [group for group in kept[1:-1] if (d := sure.to_full(group[0])) and d.told is False]
    return [kept[0], unhurt[-1] if unhurt else kept[len(kept) // 2], kept[-1]]


def _most_auc(groups: list[list[Summary]], full: Summary | None, sure: Judgement) -> str:
    unknown = "" if full else ", and what this costs is unknown as no run with full tables is there"
    if len(groups) == 1:
        row = groups[0][0]
        where = f"{show('ratio', row.mean('ratio'))} ({show('serving_bytes', row.mean('serving_bytes'))})"
        auc = f"{_auc(row)}{_to_full(row, sure)}{unknown}"
        if len(groups[0]) > 1:
            beaten = _baselines(groups[0], sure)
            return f"Of the tables made smaller, {row.label} keeps the most test AUC at {where}: {auc}{beaten}"
        return f"With tables made smaller, {row.label} at {where} reaches a test AUC of {auc}"
    parts = [
        f"at {_range(group)} {group[0].label} {'keeps the most test AUC' if len(group) > 1 else 'stands alone'} "
        f"({_auc(group[0])}{_to_full(group[0], sure)}{_baselines(group, sure)})"
        for group in groups
    ]
    return f"The sizes differ too much for one winner: {listed(parts)}{unknown}"


def _range(group: list[Summary]) -> str:
    ratios = sorted(row.mean("ratio") or 0 for row in group)
    low, high = numerals.ratio(ratios[0]), numerals.ratio(ratios[-1])
    return low if low == high else f"{low.removesuffix('×')}–{high}"


def _auc(row: Summary) -> str:
    auc = row.stats["auc"]
    return numerals.score(auc.mean) + ("" if auc.sd is None else f" ± {numerals.score(auc.sd)}")


def _gap(difference: Stat) -> str:
    spread = "" if difference.sd is None else f" ± {numerals.score(difference.sd)}"
    return f"{numerals.score(abs(difference.mean))}{spread}"


def _to_full(row: Summary, sure: Judgement) -> str:
    difference = sure.to_full(row)
    if difference is None:
        return ""
    way = "above" if difference.mean > 0 else "below"
    if float(numerals.score(difference.mean)) == 0:
        way = "from"
    return f", {_gap(difference)} {way} full tables, {_sure(difference)}"


def _sure(difference: Estimate) -> str:
    if difference.told is None:
        return "on the one seed run"
    seeds = f"the spread of {difference.n} paired seeds"
    spread = {SEEDS: seeds, ROWS: "the spread of the test rows on the one seed run", BOTH: f"{seeds} and the test rows"}
    # without the correction its interval excludes zero, and the table has it in bold type
    turned = not difference.told and (difference.p or 0) < 1 - CONFIDENCE
    corrected = f", corrected for {difference.comparisons} comparisons" if turned else ""
    return f"{'beyond' if difference.told else 'within'} {spread[difference.over]}{corrected}"


def _baselines(group: Sequence[Summary], sure: Judgement) -> str:
    """How the best of a size stands to the best plain baseline, or, where it is one, to the compression methods."""
    winner = group[0]
    others = [row for row in group[1:] if row.is_baseline != winner.is_baseline]
    gaps = [sure.between(winner, row) for row in others]
    known = [gap for gap in gaps if gap is not None]
    if not others or len(known) < len(gaps):
        return ""
    by = f"{_gap(known[0])}, {_sure(known[0])}"
    if not winner.is_baseline:
        return f"; the best plain baseline there, {others[0].label}, is behind by {by}"
    best = "the only one" if len(others) == 1 else "the best of them"
    if all(gap.told for gap in known):
        return f"; this plain baseline beats every compression method, {best}, {others[0].label}, by {by}"
    return f"; no compression method beats this plain baseline: {best}, {others[0].label}, is behind by {by}"


def _reachable(groups: list[list[Summary]], runs: Sequence[Run]) -> str:
    """The share of what lies between guessing and the best possible AUC, where the data's maker knows that."""
    best = next((best for run in runs if (best := run.data.best_auc) is not None and best > 0.5), None)
    if best is None:
        return ""
    shares = [numerals.percent(((group[0].mean("auc") or 0) - 0.5) / (best - 0.5)) for group in groups]
    start = f"; the AUC of {groups[0][0].label} is" if len(shares) == 1 else "; the best AUCs are"
    return f"{start} {listed(shares)} of the way from guessing (0.5) to the best reachable AUC ({best:.4f})"


def _certainty(groups: list[list[Summary]], sure: Judgement) -> str:
    """How far the first place in each size is more than chance, corrected for all comparisons of the report."""
    contested = [group for group in groups if len(group) > 1]
    once = all(row.n == 1 for group in groups for row in group)
    if once and not sure.known:
        return "one seed was run, so which differences are more than chance is unknown"
    parts, judged = [], False
    for group in contested:
        winner, rest = group[0], group[1:]
        gaps = [(row, sure.between(winner, row)) for row in rest]
        unknown = [row for row, gap in gaps if gap is None or gap.told is None]
        level = [row for row, gap in gaps if gap is not None and gap.told is False]
        where = f"at {_range(group)} " if len(groups) > 1 else ""
        # of several kinds the one that leaves least out
        spread = next((_SPREAD[k] for k in (BOTH, SEEDS, ROWS) if any(gap and gap.over == k for _, gap in gaps)), "")
        judged |= len(unknown) < len(rest)
        if len(level) == len(rest) and len(rest) > 1:
            parts.append(
                f"{where}none of the other {len(rest)} methods can be told from {winner.label} "
                f"within the spread {spread}"
            )
        elif level:
            parts.append(f"{where}the lead of {winner.label} over {_names(level)} is within the spread {spread}")
        elif unknown:
            parts.append(f"{where}the lead of {winner.label} cannot be judged for want of shared seeds")
        elif gaps[0][1] is not None:
            parts.append(
                f"{where}the lead of {winner.label} over {rest[0].label} ({_gap(gaps[0][1])}) "
                f"is beyond the spread {spread}"
            )
    if judged and sure.comparisons > 1:
        parts[-1] += f" (corrected for {sure.comparisons} comparisons)"
    if once:
        parts.append("one seed was run, so what another would change is unknown")
    return "; ".join(parts)


def _asides(
    rows: Sequence[Summary], done: Sequence[Summary], ranked: Sequence[Summary], full: Summary | None
) -> list[str]:
    parts = [_fastest(ranked, full)]
    same_size = [row for row in done if not row.is_full and row not in ranked]
    if ranked and same_size:
        names = [f"{row.label} ({_auc(row)} at {show('ratio', row.mean('ratio'))})" for row in same_size]
        parts.append(f"not ranked, as the tables get no smaller: {listed(names)}")
    parts.append(_lost(rows))
    return [part for part in parts if part] or ["there is no compressed method to compare"]


def _fastest(ranked: Sequence[Summary], full: Summary | None) -> str:
    """The fastest lookups on the device of the first row: times of two devices are no contest of methods."""
    timed = [row for row in ranked if LOOKUP in row.stats and row.device == ranked[0].device]
    if not timed:
        return ""
    if full is not None and LOOKUP in full.stats and full.device == ranked[0].device:
        timed.append(full)
    if any(row.threads_waited for row in timed):
        return "threads waited for each other on a busy machine, so which method looks up fastest is unknown"
    timed = [row for row in timed if not row.is_full]
    row = min(timed, key=lambda row: row.mean(LOOKUP) or 0)
    time = show(LOOKUP, row.mean(LOOKUP))
    if full is None or LOOKUP not in full.stats or full.device != row.device:
        return "" if len(timed) == 1 else f"lookups of a batch of 128 are fastest with {row.label} ({time})"
    full_time = show(LOOKUP, full.mean(LOOKUP))
    if abs((row.mean(LOOKUP) or 0) / (full.mean(LOOKUP) or 1) - 1) < CLOSE:
        return f"no method looks up a batch of 128 noticeably faster than full tables ({full_time})"
    if (full.mean(LOOKUP) or 0) <= (row.mean(LOOKUP) or 0):
        return f"lookups of a batch of 128 are fastest with full tables ({full_time}), then {row.label} ({time})"
    return f"lookups of a batch of 128 are fastest with {row.label} ({time}, full tables {full_time})"


def _lost(rows: Sequence[Summary]) -> str:
    lost = [row for row in rows if "auc" not in row.stats]
    unreached = [row for row in lost if row.status == "cannot reach"]
    failed = [row for row in lost if row.status != "cannot reach"]
    parts = [f"the asked size is out of reach for {_names(unreached)}"] if unreached else []
    return "; ".join([*parts, f"no result came from {_names(failed)}"] if failed else parts)


def _nothing_smaller(full: Summary | None, done: Sequence[Summary], sure: Judgement) -> str:
    others = [row for row in done if not row.is_full]
    if not others and full is not None:
        size = show("serving_bytes", full.mean("serving_bytes"))
        return f"Only the full tables gave a result: test AUC {_auc(full)} at {size}"
    names = [f"{row.label} ({_auc(row)}{_to_full(row, sure)})" for row in others]
    return f"No method made the tables smaller: {listed(names)}"


def _names(rows: Sequence[Summary]) -> str:
    """The labels; of many the first and how many more."""
    labels = [row.label for row in rows]
    more = len(labels) - _MAX_NAMED
    return listed(labels if more <= 1 else [*labels[:_MAX_NAMED], f"{more} more"])


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
