"""The page of the same runs at equal bytes, after equal epochs, in equal time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embpress.compressors.guard import counted
from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.comparison.results import waits
from embpress.reports.curves import reached, seconds_are_shares
from embpress.reports.gaps import BOLD, ONE_SEED, gap_text, mean_text
from embpress.reports.metrics import show
from embpress.reports.pages.equal_terms import TITLE
from embpress.reports.pages.equal_terms.data import Line, Terms, lines_of, terms_of
from embpress.reports.pages.equal_terms.plot import three_ways
from embpress.reports.plotting.save import save_all
from embpress.reports.summary import summary
from embpress.reports.text import escape, table

NOTHING = "No run of this folder has a learning curve with validation AUC"
_PLOT = "equal_terms.png"
_INTRO = (
    "Methods of very different sizes learn at different speeds, and what looks lost at equal epochs may be won back "
    "in equal time (Desai and Shrivastava's closing demand). Each run is read three ways. **Equal bytes**: the best of "
    "all epochs, at the size asked for. **Equal epochs**: the best of as many epochs as full tables took to theirs. "
    "**Equal time**: the best that fits into as many seconds of training."
)
_CHOICE = (
    "Validation AUC alone chooses the point, and nothing was chosen on the test part. The test part is scored at ends "
    "of epochs only: test AUC is that of the best whole epoch within the terms, with a dash where none fits for every "
    "seed, or where the record does not tell; validation AUC is that of the best point of the learning curve."
)


def lacks(runs: Sequence[Run]) -> str:
    """Why there is nothing to show, empty where there is."""
    return "" if any(reached(run) for run in runs if run.ok) else NOTHING


def make(plots: Path, runs: Sequence[Run]) -> str:
    """Draws the plot into the folder and gives the page's markdown."""
    rows = summary(runs)
    protocols = {row.protocol: [other for other in rows if other.protocol == row.protocol] for row in rows}
    read = [(terms := terms_of(own), lines_of(own, terms)) for own in protocols.values()]
    every = [line for _, lines in read for line in lines]
    save_all(plots, {_PLOT: lambda: three_ways(every)})
    parts = [f"# {TITLE}", _INTRO]
    if not every:
        return "\n\n".join([*parts, f"{NOTHING}."]) + "\n"
    for terms, lines in read:
        parts += _sections(terms, lines) if lines else []
    several = any(line.row.n > 1 for line in every)
    parts += [f"## Plot\n\n![Validation AUC, read in three ways](plots/{_PLOT})"]
    parts += [
        "## How to read it",
        _CHOICE,
        f"Δ is the difference to full tables read alike. {BOLD if several else ONE_SEED}",
    ]
    notes = [f"{waited}." if (waited := waits([line.row for line in every])) else "", _old(every)]
    return "\n\n".join([*parts, *filter(None, notes)]) + "\n"


def _old(lines: Sequence[Line]) -> str:
    if not any(seconds_are_shares(run) for line in lines for run in line.row.runs):
        return ""
    return (
        "Some records do not hold the seconds at each point of the learning curve: there they are those of all "
        "training in proportion to the steps."
    )


def _sections(terms: Terms, lines: Sequence[Line]) -> list[str]:
    """A table for each size asked for, full tables in each."""
    asked = list(dict.fromkeys(line.row.asked for line in lines if not line.row.is_full)) or [""]
    parts = [_said(terms)]
    for size in asked:
        own = [line for line in lines if line.row.is_full or line.row.asked == size]
        parts += [f"## {f'At {size}' if size else 'Without a size asked for'}", _table(terms, own)]
    return parts


def _said(terms: Terms) -> str:
    if terms.full is None:
        fastest = terms.fastest
        time = f"the {_seconds(terms)} that {escape(fastest.label)}, the fastest, trained" if fastest else "unknown"
        return f"Full tables were not run: equal epochs are the first one, equal time is {time}."
    epochs = sorted(set(terms.epochs.values()))
    ends = counted(int(epochs[0]), "epoch") if len(epochs) == 1 else f"{epochs[0]:g} to {epochs[-1]:g} epochs by seed"
    same = all(run.learning_curve and run.learning_curve[-1].epoch in epochs for run in terms.full.runs)
    note = " That is as long as every run trained, so that equal epochs say what equal bytes do." if same else ""
    return f"Full tables took {ends} and {_seconds(terms)} to their best validation AUC, with the same seed each.{note}"


def _seconds(terms: Terms) -> str:
    values = sorted(terms.seconds.values())
    if not values:
        return "an unknown number of seconds"
    low, high = numerals.plain(values[0]), numerals.plain(values[-1])
    return f"{low} s" if low == high else f"{low} to {high} s"


def _table(terms: Terms, lines: Sequence[Line]) -> str:
    full = terms.full is not None
    gap = ["Δ"] if full else []
    headers = ["Method", "Size", "Equal bytes: test AUC", *gap, "Equal epochs: test AUC", *gap]
    headers += ["Equal time: epochs", "valid AUC", *gap, "test AUC", *gap]
    body = []
    for line in lines:
        cells = [escape(line.row.label), show("serving_bytes", line.row.mean("serving_bytes"))]
        for reading in (line.bytes, line.epochs):
            cells += [mean_text(reading.test), *([gap_text(reading.test_gap)] if full else [])]
        time = line.seconds
        epochs = numerals.MISSING if time.epochs is None else f"{time.epochs.mean:.2f}"
        cells += [epochs, mean_text(time.valid), *([gap_text(time.valid_gap)] if full else [])]
        cells += [mean_text(time.test), *([gap_text(time.test_gap)] if full else [])]
        body.append(cells)
    return table(headers, body)
