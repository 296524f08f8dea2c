"""The page of epochs and seconds to a target AUC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embpress.compressors.errors import InputError
from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.comparison.results import waits
from embpress.reports.curves import reached, seconds_are_shares
from embpress.reports.gaps import interval_text
from embpress.reports.metrics import show
from embpress.reports.pages.targets import TITLE
from embpress.reports.pages.targets.data import BELOW, FULL, Line, Target, lines_of
from embpress.reports.pages.targets.plot import seconds_to
from embpress.reports.plotting.save import save_all
from embpress.reports.summary import summary
from embpress.reports.text import escape, table

OPTIONS = ("target",)
NOTHING = "No full tables with a learning curve are among the runs, so that --target must be a number, such as 0.75"
_PLOT = "seconds_to_target.png"
_HOW = (
    "A run reaches a target at the first point of its learning curve, of which each epoch has a few, whose validation "
    "AUC is no lower. Epochs and seconds are means over the seeds that got there, with the 95 % t interval where these "
    "are several: where not all did, the others would have taken longer. Seconds are those of training, evaluation not "
    "counted; `× full` is their ratio to the seconds of full tables with the same seed."
)


def targets_of(text: str | None) -> dict[str, Target]:
    """The targets that `--target` names: `full`, full tables and nearly, or a number.

    Raises:
        InputError: it is neither.
    """
    if text is None:
        return {f"full − {below:g}" if below else "full tables' best": Target(below=below) for below in BELOW}
    if text == FULL:
        return {"full tables' best": Target()}
    try:
        auc = float(text)
    except ValueError:
        auc = 0.0
    if not 0 < auc <= 1:
        raise InputError(f"--target {text}: it is {FULL}, or an AUC between 0 and 1 such as 0.75")
    return {text: Target(auc)}


def lacks(runs: Sequence[Run], target: str | None = None) -> str:
    """Why there is nothing to show, empty where there is."""
    rows = summary(runs)
    return "" if any(lines_of(rows, one) for one in targets_of(target).values()) else NOTHING


def make(plots: Path, runs: Sequence[Run], target: str | None = None) -> str:
    """Draws the plot into the folder and gives the page's markdown."""
    rows = summary(runs)
    found = {name: lines for name, one in targets_of(target).items() if (lines := lines_of(rows, one))}
    drawn = save_all(plots, {_PLOT: lambda: seconds_to(found)})
    parts = [f"# {TITLE}"]
    if not found:
        return "\n\n".join([*parts, f"{NOTHING}."]) + "\n"
    parts.append(_HOW)
    for name, lines in found.items():
        parts += [f"## Validation AUC of {escape(name)}", _table(lines)]
    if drawn:
        parts.append(f"## Plot\n\n![Seconds to a target AUC](plots/{_PLOT})")
    every = [line.row for lines in found.values() for line in lines]
    waited = waits([row for k, row in enumerate(every) if row not in every[:k]])
    parts += [f"{waited}."] if waited else []
    if any(seconds_are_shares(run) for row in every for run in row.runs if reached(run)):
        parts.append(
            "Some records do not hold the seconds at each point of the learning curve: there they are those of all "
            "training in proportion to the steps."
        )
    return "\n\n".join(parts) + "\n"


def _table(lines: Sequence[Line]) -> str:
    headers = ["Method", "Size", "Seeds there", "Epochs", "Seconds", "× full"]
    body = [
        [
            escape(line.row.label),
            show("serving_bytes", line.row.mean("serving_bytes")),
            f"{line.reached} of {line.asked}",
            interval_text(line.epochs),
            interval_text(line.seconds),
            numerals.MISSING if line.row.is_full else interval_text(line.to_full),
        ]
        for line in lines
    ]
    return table(headers, body)
