"""The page of scores by id frequency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embpress.dlrm.runs.record import FrequencyBin, Run
from embpress.reports import numerals
from embpress.reports.gaps import BOLD, ONE_SEED, gap_text, mean_text
from embpress.reports.metrics import FREQUENCY_METRICS
from embpress.reports.pages.frequency import TITLE
from embpress.reports.pages.frequency.data import Line, bins_of, lines_of
from embpress.reports.pages.frequency.plot import auc_by_bin
from embpress.reports.plotting.save import save_all
from embpress.reports.summary import summary
from embpress.reports.text import escape, table

NOTHING = "No run of this folder was scored by id frequency: earlier versions did not, and tables may all be too small"
_PLOT = "auc_by_frequency.png"
_NUMBERS = ("auc", "log_loss", "calibration", "ece")
_MEANINGS = {
    "head": "the most frequent ids, that together have half of a feature's training lookups",
    "torso": "the next, up to nine tenths of the lookups",
    "tail": "the rest of those with a row of their own",
    "unseen": "row 0: missing, unseen in training, or rarer than --min-count",
}
_HOW = (
    "Bins are cut feature by feature, over the features that are compressed. A test row has an id in each of them, and "
    "its rarest is nearly always a rare one where there are many: so lookups are binned, not rows, and a row weighs in "
    "each bin with the share of its lookups there. Differences between bins are therefore smaller than they would be "
    "if each row had one id. Scores are those of the model as it is served."
)


def lacks(runs: Sequence[Run]) -> str:
    """Why there is nothing to show, empty where there is."""
    return "" if any(run.by_frequency for run in runs) else NOTHING


def make(plots: Path, runs: Sequence[Run]) -> str:
    """Draws the plot into the folder and gives the page's markdown."""
    lines = lines_of(summary(runs), _NUMBERS)
    bins = bins_of([run for line in lines for run in line.row.runs])
    names = [one.name for one in bins]
    drawn = save_all(plots, {_PLOT: lambda: auc_by_bin(lines, names[1:])})
    if not lines:
        return f"# {TITLE}\n\n{NOTHING}.\n"
    parts = [f"# {TITLE}", _bins(bins), _HOW]
    if drawn:
        parts.append(f"![AUC minus full tables by id frequency](plots/{_PLOT})")
    against = any(score.gap for line in lines for score in line.scores.values())
    for number in ("auc", "log_loss"):
        metric = FREQUENCY_METRICS[number]
        title = f"{metric.title}, and Δ to full tables" if against else metric.title
        parts += [f"## {title}", _scores(lines, names, number, against)]
    parts.append(BOLD if any(line.row.n > 1 for line in lines) else ONE_SEED)
    calibration, ece = FREQUENCY_METRICS["calibration"], FREQUENCY_METRICS["ece"]
    parts += [f"## {calibration.title}, and {ece.title.lower()}", _calibration(lines, names)]
    parts.append(f"{calibration.title}: {_small(calibration.meaning)} 1 is right. {ece.meaning}")
    return "\n\n".join(parts) + "\n"


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]


def _bins(bins: Sequence[FrequencyBin]) -> str:
    body = [
        [one.name, f"{one.ids:,}", numerals.percent(one.lookups), _MEANINGS.get(one.name, "all test rows")]
        for one in bins
    ]
    named = [FREQUENCY_METRICS[name].title for name in ("ids", "lookups")]
    rows = table(["Bin", named[0], f"Test {named[1].lower()}", "What"], body)
    return rows.replace("---: |\n", ":--- |\n", 1)  # words to the left


def _scores(lines: Sequence[Line], names: Sequence[str], number: str, against: bool) -> str:
    headers = ["Method", *(cell for name in names for cell in ([name, "Δ"] if against else [name]))]
    body = []
    for line in lines:
        cells = [escape(line.row.label)]
        for name in names:
            score = line.scores[(number, name)]
            # with a spread beside each the table could not be read
            cells.append(numerals.MISSING if score.stat is None else numerals.score(score.stat.mean))
            cells += [gap_text(score.gap)] if against else []
        body.append(cells)
    return table(headers, body)


def _calibration(lines: Sequence[Line], names: Sequence[str]) -> str:
    body = [
        [
            escape(line.row.label),
            *(f"{mean_text(line.scores[('calibration', name)].stat, 3)}; {_ece(line, name)}" for name in names),
        ]
        for line in lines
    ]
    return table(["Method", *names], body)


def _ece(line: Line, name: str) -> str:
    found = line.scores[("ece", name)].stat
    return numerals.MISSING if found is None else numerals.score(found.mean)
