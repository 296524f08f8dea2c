"""The page of Pareto fronts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.comparison.results import cell, waits
from embpress.reports.metrics import METRICS, show
from embpress.reports.pages.pareto import TITLE
from embpress.reports.pages.pareto.data import COSTS, Cost, Place, front
from embpress.reports.pages.pareto.plot import front_of
from embpress.reports.plotting.save import save_all
from embpress.reports.summary import summary
from embpress.reports.text import escape, table

NOTHING = "No run of this folder has both a test AUC and what it costs"
_NAMED = 3  # others that are named in a cell
_INTRO = (
    "A method is **on** a front where no other that costs no more has a higher mean AUC; bytes within 1 % and times "
    "within 5 % count as equal. AUC of a few seeds is not "
    "exact: a method off the front of the means **may be** on it as long as none that costs no more beats it beyond "
    "chance (the 95 % t interval of the difference, paired by seed, excludes zero), and is **off** where one does. Of "
    "those on a front, the last column names the cheaper ones that they are not ahead of beyond chance: what they cost "
    "more may buy nothing."
)


def lacks(runs: Sequence[Run]) -> str:
    """Why there is nothing to show, empty where there is."""
    rows = summary(runs)
    return "" if any(front(rows, cost) for cost in COSTS) else NOTHING


def make(plots: Path, runs: Sequence[Run]) -> str:
    """Draws the plots into the folder and gives the page's markdown."""
    rows = summary(runs)
    fronts = {cost: front(rows, cost) for cost in COSTS}
    save_all(plots, {_file(cost): partial(front_of, cost, places) for cost, places in fronts.items()})
    parts = [f"# {TITLE}", _INTRO]
    shown = {cost: places for cost, places in fronts.items() if places}
    if not shown:
        return "\n\n".join([f"# {TITLE}", f"{NOTHING}."]) + "\n"
    if len(shown) > 1:
        parts += ["## In one table", _overview(shown)]
    for cost, places in shown.items():
        parts += [f"## {cost.name}", f"![Test AUC against {cost.name.lower()}](plots/{_file(cost)})"]
        parts += [_table(cost, places)]
    if len({place.row.protocol for places in shown.values() for place in places}) > 1:
        parts.append("Runs with different settings have fronts of their own.")
    waited = waits(rows)
    parts += [f"{waited}."] if waited else []
    return "\n\n".join(parts) + "\n"


def _file(cost: Cost) -> str:
    return f"front_{cost.name.lower().replace(' ', '_')}.png"


def _overview(fronts: dict[Cost, list[Place]]) -> str:
    """Each method's verdict on each front, those on most of them first."""
    verdicts = {cost: {place.row.label: place.verdict for place in places} for cost, places in fronts.items()}
    labels = list(dict.fromkeys(label for known in verdicts.values() for label in known))
    worth = {"on": 0, "may be": 1, "off": 2, numerals.MISSING: 3}
    cells = {label: [verdicts[cost].get(label, numerals.MISSING) for cost in fronts] for label in labels}
    labels.sort(key=lambda label: sum(worth[one] for one in cells[label]))
    body = [[escape(label), *(f"**{one}**" if one == "on" else one for one in cells[label])] for label in labels]
    return table(["Method", *(cost.name for cost in fronts)], body, left=1 + len(fronts))


def _table(cost: Cost, places: Sequence[Place]) -> str:
    body = [
        [
            escape(place.row.label),
            show(cost.metric, place.cost),
            cell(place.row, "auc"),
            f"**{place.verdict}**" if place.on else place.verdict,
            _listed(place.beaten if not place.on else ()),
            _listed(place.level),
        ]
        for place in places
    ]
    headers = ["Method", METRICS[cost.metric].title, METRICS["auc"].title, "Front", "Beaten by", "Not ahead of"]
    return table(headers, body)


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return escape(", ".join(labels[:_NAMED]) + more) if labels else numerals.MISSING
