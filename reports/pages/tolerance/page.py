"""The page of ratios that methods bear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.pages.tolerance import TITLE
from embpress.reports.pages.tolerance.data import LOSSES, Borne, Curve, confidence, curves_of
from embpress.reports.pages.tolerance.plot import losses
from embpress.reports.plotting.save import save_all
from embpress.reports.summary import summary
from embpress.reports.text import escape, table

NOTHING = "No method was run at two sizes beside full tables; embpress compare --ratio 4,16,64 does that"
_PLOT = "tolerance.png"
_HOW = (
    "For each seed: the ratio at which a method's test AUC first falls so much below that of full tables with the same "
    "seed, on straight lines between the sizes that were run, over the logarithm of the ratio. Here is the median over "
    "the seeds and, in brackets, the lowest and the highest. `<` means that even the largest tables that were run lose "
    "more, `≥` that the smallest do not lose as much."
)


def lacks(runs: Sequence[Run]) -> str:
    """Why there is nothing to show, empty where there is."""
    return "" if curves_of(summary(runs)) else NOTHING


def make(plots: Path, runs: Sequence[Run]) -> str:
    """Draws the plot into the folder and gives the page's markdown."""
    curves = curves_of(summary(runs))
    if not curves:
        return f"# {TITLE}\n\n{NOTHING}.\n"
    drawn = save_all(plots, {_PLOT: lambda: losses(curves)})
    seeds = sorted({len(curve.gaps) for curve in curves})
    sure = [
        f"with {count} seeds the median of all seeds there could be lies between them with a confidence of "
        f"{numerals.percent(confidence(count))}"
        for count in seeds
        if count > 1
    ]
    parts = [f"# {TITLE}", _HOW + (f" {'; '.join(sure).capitalize()}." if sure else ""), _table(curves)]
    if drawn:
        parts.append(f"![AUC lost over the ratio](plots/{_PLOT})")
    return "\n\n".join(parts) + "\n"


def _table(curves: Sequence[Curve]) -> str:
    headers = ["Method", "Seeds", "Ratios that were run", *(f"−{loss:g} AUC" for loss in LOSSES)]
    body = [
        [
            escape(curve.method),
            str(len(curve.gaps)),
            ", ".join(numerals.ratio(ratio) for ratio in curve.ratios),
            *(borne_text(curve, curve.borne(loss)) for loss in LOSSES),
        ]
        for curve in curves
    ]
    return table(headers, body)


def borne_text(curve: Curve, borne: Borne) -> str:
    """Such as `18.3× (12.1× – 24.0×)`, or `< 4.0×` where all seeds say so."""

    def one(value: float) -> str:
        if value == 0:
            return f"< {numerals.ratio(curve.ratios[0])}"
        return f"≥ {numerals.ratio(curve.ratios[-1])}" if value == math.inf else numerals.ratio(value)

    if borne.low == borne.high:
        return one(borne.median)
    return f"{one(borne.median)} ({one(borne.low)} – {one(borne.high)})"
