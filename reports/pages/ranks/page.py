"""The page about the rank of tensor-train tables: what AUC it buys, and whether a cache or another start does more."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.comparison.headline import listed
from embpress.reports.comparison.results import cell, title
from embpress.reports.metrics import show
from embpress.reports.pages.ranks import TITLE
from embpress.reports.pages.ranks.data import Line, Point, RankLines, against_size, rank_lines, without_cache
from embpress.reports.pages.ranks.plot import auc_over_rank
from embpress.reports.plotting.save import save_all
from embpress.reports.stats import Difference, paired
from embpress.reports.summary import Summary
from embpress.reports.text import escape, table

NOTHING = (
    "No run of this folder has tensor-train tables (`tt`) of one rank and a test AUC: there are no ranks to compare"
)
_PLOT = "auc_over_rank.png"
_MAX_TOLD = 3  # lines, or groups of inits, that are told of one by one
_METRICS = ("serving_bytes", "ratio", "auc", "cache_hit_rate", "step_ms", "lookup_p50_us_b128")
_INTERVAL = (
    "*Beyond the spread of the seeds* means that the 95 % t interval of the difference, paired by seed, excludes zero. "
    "No correction is made for many comparisons: about one interval in twenty excludes zero by chance."
)


def lacks(runs: Sequence[Run]) -> str:
    """Why there is nothing to show, empty where there is."""
    ranks = rank_lines(runs)
    return "" if ranks.lines else NOTHING + _left_out(ranks, plain=True)


def make(plots: Path, runs: Sequence[Run]) -> str:
    """Draws the plot into the folder and gives the page's markdown."""
    ranks = rank_lines(runs)
    save_all(plots, {_PLOT: lambda: auc_over_rank(ranks)})
    parts = [f"# {TITLE}"]
    if not ranks.lines:
        parts.append(f"{NOTHING}{_left_out(ranks)}.")
        return "\n\n".join(parts) + "\n"
    parts += [
        "The rank of its cores sets how large a table in tensor-train form (TT-Rec) is, and how much it can "
        "represent. This page shows the test AUC over the rank, one line for each initialisation and cache of "
        "uncompressed frequent rows that was run.",
        "## What the runs say",
        "\n".join(
            f"- **{name}.** {escape(tell(ranks.lines))}"
            for name, tell in (("Rank", _rise), ("Cache", _caches), ("Initialisation", _inits))
        ),
        _INTERVAL,
        f"## Plot\n\n![Test AUC against rank and size](plots/{_PLOT})",
        "Higher is better; in the right plot, so is further left. "
        + ("The dashed line and its band are full tables. " if ranks.full else "Full tables were not run. ")
        + "Marks that would cover one another are drawn side by side.",
        "## Table",
        _table(ranks),
        "Mean ± standard deviation over the seeds; one seed has no spread. **Bold** differences to full tables are "
        "beyond the spread of the seeds."
        if any(point.row.n > 1 for line in ranks.lines for point in line.points)
        else "One seed was run, so there is no spread.",
    ]
    if ranks.left_out:
        parts.append(f"Not on this page: {escape('; '.join(ranks.left_out))}.")
    return "\n\n".join(parts) + "\n"


def _left_out(ranks: RankLines, plain: bool = False) -> str:
    text = "; ".join(ranks.left_out)
    return f". Left out: {text if plain else escape(text)}" if text else ""


def _table(ranks: RankLines) -> str:
    rows = [point.row for line in ranks.lines for point in line.points] + ([ranks.full] if ranks.full else [])
    shown = [name for name in _METRICS if any(name in row.stats for row in rows)]
    if any(row.auc_to_full is not None for row in rows):
        shown.insert(shown.index("auc") + 1, "auc_to_full")
    others = any(line.others for line in ranks.lines)
    headers = ["Rank", "Initialisation", "Cache", *(["Also"] if others else []), *map(title, shown), "Seeds"]
    body = []
    if ranks.full:
        blank = [numerals.MISSING] * (2 + others)
        body.append(["full tables", *blank, *_cells(ranks.full, shown)])
    for line in ranks.lines:
        named = [escape(line.init), escape(line.cache) or numerals.MISSING]
        named += [escape(line.others) or numerals.MISSING] if others else []
        body += [[str(point.rank), *named, *_cells(point.row, shown)] for point in line.points]
    return table(headers, body, left=3 + others)


def _cells(row: Summary, names: Sequence[str]) -> list[str]:
    cells = [show(name, row.mean(name)) if name == "cache_hit_rate" else cell(row, name) for name in names]
    return [*cells, str(row.n)]


# --- the sentences ----------------------------------------------------------------------------------------------------


def _rise(lines: Sequence[Line]) -> str:
    """Does AUC rise with the rank?"""
    long = sorted((line for line in lines if len(line.points) > 1), key=lambda line: -len(line.points))
    if not long:
        return "Each line has one rank only, so whether AUC rises with it is unknown."
    return " ".join([*map(_rise_of, long[:_MAX_TOLD]), *_more(long)])


def _rise_of(line: Line) -> str:
    first, last = line.points[0], line.points[-1]
    steps = [(low, high, _minus(high, low)) for low, high in pairwise(line.points)]
    way = "rises at every step" if all(high.auc > low.auc for low, high, _ in steps) and len(steps) > 1 else "goes"
    whole = _minus(last, first)
    text = f"With {line.label}, AUC {way} from {_score(first)} at rank {first.rank} to {_score(last)} at {last.rank}"
    text += f" ({_signed(whole)}, {_sure(whole)})" if whole else " (no shared seeds)"
    best = max(line.points, key=lambda point: point.auc)
    if best is not last and best is not first:
        text += f" and is highest at rank {best.rank} ({_score(best)})"
    if len(steps) > 1 and any(gap and gap.distinguishable is not None for *_, gap in steps):
        sure = [f"{low.rank} to {high.rank}" for low, high, gap in steps if _verdict(gap) > 0]
        one = "the only single step that gains" if len(sure) == 1 else "the single steps that gain"
        none = "no single step gains more than that spread"
        text += f"; {f'{one} more than that spread: {listed(sure)}' if sure else none}"
    return f"{text}."


def _more(told: Sequence[object]) -> list[str]:
    rest = len(told) - _MAX_TOLD
    return [f"{rest} more line{'s are' if rest > 1 else ' is'} in the table."] if rest > 0 else []


def _caches(lines: Sequence[Line]) -> str:
    """Does a cache help, at equal rank and at equal bytes?"""
    cached = [(line, without_cache(line, lines)) for line in lines if line.cache]
    if not cached:
        return "No run had one, so whether a cache helps is unknown."
    # what can be compared comes first
    cached.sort(key=lambda pair: pair[1] is None)
    told = []
    for line, bare in cached[:_MAX_TOLD]:
        if bare is None:
            told.append(f"{line.label} was not run without its cache.")
            continue
        same_rank = [(point.rank, _minus(point, other)) for point in line.points if (other := bare.at(point.rank))]
        same_size = [(point.rank, against_size(point, bare)) for point in line.points]
        told.append(
            f"With {line.label} instead of none, at equal rank {_range(same_rank) or 'nothing can be compared'}; "
            f"at equal bytes {_range(same_size) or 'nothing can be compared'}."
        )
    if any(bare is not None for _, bare in cached[:_MAX_TOLD]):
        told.append("For equal bytes the line without a cache is read off between its ranks, seed by seed.")
    return " ".join([*told, *_more(cached)])


def _range(gaps: Sequence[tuple[int, Difference | None]]) -> str:
    """Differences by rank in few words; empty where there are none."""
    known = [(rank, gap) for rank, gap in gaps if gap is not None]
    if not known:
        return ""
    if len(known) == 1:
        return f"AUC changes by {_signed(known[0][1])} (rank {known[0][0]}, {_sure(known[0][1])})"
    low, high = (pick(gap.mean for _, gap in known) for pick in (min, max))
    ranks = listed([str(rank) for rank, _ in known])
    text = f"AUC changes by {numerals.signed(low)} to {numerals.signed(high)} (ranks {ranks}), "
    if all(gap.distinguishable is None for _, gap in known):
        return text + "on one seed, so chance is not ruled out"
    verdicts = []
    for sign, word in ((1, "a gain"), (-1, "a loss")):
        sure_at = [str(rank) for rank, gap in known if _verdict(gap) == sign]
        if sure_at:
            verdicts.append(f"{word} beyond the spread of the seeds at {_at(sure_at)}")
    return text + (" and ".join(verdicts) or "nowhere beyond the spread of the seeds")


def _inits(lines: Sequence[Line]) -> str:
    """Which initialisation is best where several were run, and whether that is more than chance?"""
    groups: dict[tuple[str, str, int], list[tuple[Line, Point]]] = {}
    for line in lines:
        for point in line.points:
            groups.setdefault((line.others, line.cache, point.rank), []).append((line, point))
    contests = [(setting, sorted(groups[setting], key=lambda one: -one[1].auc)) for setting in sorted(groups)]
    contests = [(setting, ranked) for setting, ranked in contests if len(ranked) > 1]
    if not contests:
        return "No rank was run with more than one, so which is best is unknown."
    if len(contests) <= _MAX_TOLD:
        return " ".join(_contest(setting, ranked) for setting, ranked in contests)
    won: dict[str, list[tuple[str, str, int]]] = {}
    sure, known = [], False
    for setting, ranked in contests:
        won.setdefault(ranked[0][0].init, []).append(setting)
        gap = _minus(ranked[0][1], ranked[1][1])
        known = known or (gap is not None and gap.distinguishable is not None)
        if _verdict(gap) > 0:
            sure.append(setting)
    best = "; ".join(f"{init} at {_settings_text(settings)}" for init, settings in won.items())
    if not known:
        return f"The best: {best}. One seed, so chance is not ruled out."
    return (
        f"The best: {best}. Its lead over the second is beyond the spread of the seeds at "
        f"{_settings_text(sure) if sure else 'none of them'}."
    )


def _settings_text(settings: Sequence[tuple[str, str, int]]) -> str:
    """`ranks 4 and 8 and rank 4 (cache 1 %)`."""
    by_extra: dict[str, list[str]] = {}
    for others, cache, rank in settings:
        by_extra.setdefault(_extra(others, cache), []).append(str(rank))
    return listed([f"{_at(ranks)}{f' ({extra})' if extra else ''}" for extra, ranks in by_extra.items()])


def _contest(setting: tuple[str, str, int], ranked: Sequence[tuple[Line, Point]]) -> str:
    (first, best), rest = ranked[0], ranked[1:]
    text = f"At {_settings_text([setting])} {first.init} is best of {len(ranked)} ({_score(best)})"
    gaps = [(line, _minus(best, point)) for line, point in rest]
    second = gaps[0][1]
    ahead = f"{_signed(second)} ahead of {rest[0][0].init}" if second else f"then {rest[0][0].init}"
    if second and float(numerals.score(second.mean)) == 0:
        ahead = f"level with {rest[0][0].init}"
    level = [line.init for line, gap in gaps if gap is not None and gap.distinguishable is False]
    unknown = [line.init for line, gap in gaps if gap is None or gap.distinguishable is None]
    if len(unknown) == len(rest):
        sure = "one seed, so chance is not ruled out" if second else "which share no seeds with it"
    elif not level and not unknown:
        sure = "beyond the spread of the seeds" + (", as are its leads over the others" if len(rest) > 1 else "")
    elif len(level) + len(unknown) == len(rest) > 1:
        sure = "but within the spread of the seeds none of the others can be told from it"
    else:
        sure = f"but within the spread of the seeds {listed([*level, *unknown])} cannot be told from it"
    return f"{text}, {ahead}, {sure}."


def _minus(one: Point, other: Point) -> Difference | None:
    return paired(one.row.auc_by_seed, other.row.auc_by_seed)


def _verdict(gap: Difference | None) -> int:
    """1 for a gain and −1 for a loss beyond the spread of the seeds, else 0."""
    return 0 if gap is None or not gap.distinguishable else 1 if gap.mean > 0 else -1


def _sure(gap: Difference) -> str:
    if gap.distinguishable is None:
        return "one seed, so chance is not ruled out"
    return f"{'beyond' if gap.distinguishable else 'within'} the spread of the {gap.n} seeds"


def _signed(gap: Difference) -> str:
    return numerals.signed(gap.mean) + ("" if gap.sd is None else f" ± {numerals.score(gap.sd)}")


def _score(point: Point) -> str:
    return numerals.score(point.auc)


def _at(ranks: Sequence[str]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {listed(ranks)}"


def _extra(others: str, cache: str) -> str:
    return ", ".join(part for part in (f"cache {cache}" if cache else "", others) if part)
