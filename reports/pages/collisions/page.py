"""The page of collisions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.comparison.headline import listed
from embpress.reports.pages.collisions import TITLE
from embpress.reports.pages.collisions.data import PAIRS, Line, in_all, shares, tables_of, unsaid
from embpress.reports.pages.collisions.plot import shared_lookups
from embpress.reports.plotting.save import save_all
from embpress.reports.stats import Stat
from embpress.reports.summary import summary
from embpress.reports.text import escape, table

NOTHING = "In no run of this folder two ids share what is stored, or the records are of a version that did not look"
_PLOT = "collisions.png"
_MAX_TABLES = 12  # of a method
_FAR = 0.02  # from chance
_HEADS = {
    "whole_ids": "Whole row: ids",
    "whole_train": "lookups",
    "whole_test": "test lookups",
    "part_ids": "A part: ids",
    "part_train": "lookups",
    "part_test": "test lookups",
    "others_train": "Of other ids",
}
_HOW = (
    "Two ids share their **whole row** where it is made of the same stored cells in the same way: no model tells them "
    "apart in that feature. They share **a part** where a cell of one is also read for the other. Lookups weigh ids by "
    "how often they occur in the training rows. **Of other ids**: of the training lookups that reach a cell, the share "
    "that is of other ids than the one that reads it; a frequent id that shares a row with rare ones hardly notices, "
    "the rare ones do. In brackets is what a function drawn at random would give with as many ids and cells (balls in "
    "bins). Tables that share one memory are counted together, and ids that a method keeps exact elsewhere, such as "
    "hot ones, share nothing. Modifiers that only change what is served, such as fewer bits, make no difference here."
)


def lacks(runs: Sequence[Run]) -> str:
    """Why there is nothing to show, empty where there is."""
    return "" if any(shares(row) for row in summary(runs)) else NOTHING


def make(plots: Path, runs: Sequence[Run]) -> str:
    """Draws the plot into the folder and gives the page's markdown."""
    rows = summary(runs)
    shown = [row for row in rows if shares(row)]
    totals = [in_all(row) for row in shown]
    save_all(plots, {_PLOT: lambda: shared_lookups(totals)})
    if not shown:
        return f"# {TITLE}\n\n{NOTHING}.\n"
    parts = [
        f"# {TITLE}",
        _HOW,
        *_far(totals),
        f"![Lookups that share their row](plots/{_PLOT})",
        "## All tables of a method",
    ]
    parts += [_table(totals, ["Method"]), _apart(*unsaid(rows)), "## Table by table"]
    lines = [tables_of(row) for row in shown]
    parts.append(_table([line for own in lines for line in own[:_MAX_TABLES]], ["Method", "Table", "Rows"]))
    notes = ["Shares are means over the seeds."]
    if any(len(own) > _MAX_TABLES for own in lines):
        notes.append(f"Of each method the {_MAX_TABLES} largest tables are shown; the records hold all.")
    if any(line.looked_at < line.ids for own in lines for line in own):
        notes.append(
            "† So large that a sample of its ids was looked at, measured and by chance alike: among all of them more "
            "share."
        )
    return "\n\n".join([*parts, " ".join(notes)]) + "\n"


def _far(totals: Sequence[Line]) -> list[str]:
    """Which methods share rows, or keep them apart, far from what chance would give; nothing where none does."""
    more: list[str] = []
    fewer: list[str] = []
    for line in totals:
        found, chance = line.numbers["whole_train"], line.numbers["whole_expected_train"]
        if found and chance and abs(found.mean - chance.mean) > _FAR:
            told = f"{line.row.label} ({_percent(found.mean)}, by chance {_percent(chance.mean)})"
            (more if found.mean > chance.mean else fewer).append(told)
    said = "lookups share their whole row with another id than a function drawn at random would have it"
    pairs = (("More", more), ("Fewer", fewer))
    return [f"{word} training {said}: {escape(listed(told))}." for word, told in pairs if told]


def _apart(apart: Sequence[str], silent: Sequence[str]) -> str:
    notes = []
    if apart:
        notes.append(f"No two ids share anything stored for them in {escape(listed(apart))}.")
    if silent:
        notes.append(
            f"Nothing is said of {escape(listed(silent))}: plain tables, rows that are computed from all that is "
            "stored, or a method that does not tell which cells make a row."
        )
    means = "Above, shares of ids weigh each table with its ids; of lookups each table weighs the same."
    return " ".join([means, *notes])


def _table(lines: Sequence[Line], left: Sequence[str]) -> str:
    names = [measured for measured, _ in PAIRS]
    names.insert(2, "whole_test")
    names.insert(5, "part_test")
    chance = dict(PAIRS)
    body = []
    for line in lines:
        cells = [escape(line.row.label)]
        if len(left) > 1:
            sampled = " †" if line.looked_at < line.ids else ""
            cells += [escape(line.feature or ""), f"{line.ids:,}{sampled}"]
        cells += [_cell(line.numbers[name], line.numbers.get(chance.get(name, ""))) for name in names]
        body.append(cells)
    return table([*left, *(_HEADS[name] for name in names)], body, left=min(2, len(left)))


def _cell(found: Stat | None, chance: Stat | None) -> str:
    if found is None:
        return numerals.MISSING
    return _percent(found.mean) + (f" ({_percent(chance.mean)})" if chance else "")


def _percent(share: float) -> str:
    """Per cent, in which neither nearly none nor nearly all is rounded away."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= share < 1 else numerals.percent(share)
