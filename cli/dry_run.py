"""`embpress compare --dry-run`: what would be run, and what it would take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embpress.compressors import MethodSpec
    from embpress.dlrm.data import ClickData
    from embpress.dlrm.runs.estimate import Estimate
    from embpress.dlrm.runs.record import Asked
    from embpress.dlrm.training.settings import Settings

HEADERS = ["method", "size", "ratio", "training", "folding", "MFLOP", "step ms", "runs", "there", "time"]


def show_estimates(
    data: ClickData,
    specs: Sequence[MethodSpec],
    settings: Settings,
    seeds: Sequence[int],
    folder: Path,
    sizes: Sequence[Asked],
    keep_weights: bool,
) -> None:
    """Prints a line a method and size, and what all of them take; nothing is written."""
    from embpress.cli.show import console, duration, table
    from embpress.compressors.guard import counted
    from embpress.dlrm.runs.estimate import estimate
    from embpress.dlrm.runs.seeds import AutoSeeds

    out = console()
    with console(stderr=True).status("trying a few steps") as status:

        def progress(title: str) -> None:
            status.update(f"trying a few steps: {title}")

        rows = list(estimate(data, specs, settings, list(seeds), folder, sizes, keep_weights, progress))
    labels = [_label(row, rows) for row in rows]
    out.print()
    out.print(table(HEADERS, [_cells(row, label) for row, label in zip(rows, labels)]))
    for row, label in zip(rows, labels):
        if row.reason:
            out.print(f"  {label}: {row.reason}", markup=False, style="dim")
    for note in NOTES:
        out.print(f"  {note}", markup=False, style="dim")
    asked, present = sum(row.runs for row in rows), sum(row.present for row in rows)
    lost = sum(row.missing for row in rows if row.sizes is None)
    unknown = sum(row.missing for row in rows if row.seconds is None)
    seconds, trials = sum(row.seconds or 0.0 for row in rows), sum(row.trials for row in rows)
    out.print()
    line = f"{counted(asked, 'run')}: {present} there already in {folder}, {asked - present - lost} to be run"
    line += f", {lost} out of reach" if lost else ""
    line += f", after {counted(trials, 'trial')} at most" if trials else ""
    line += f"; about {duration(seconds)}" if asked - present - lost - unknown else ""
    out.print(line + (f", and {counted(unknown, 'run')} of unknown time" if unknown else ""), markup=False)
    if isinstance(seeds, AutoSeeds):
        out.print("Counted is the most that --seeds auto may take: fewer seeds may be enough.", markup=False)
    out.print("Nothing was trained to its end, and nothing was written.", markup=False)


NOTES = (
    "training: weights, gradients, optimizer state and what a batch keeps; folding: the trained weights and what is "
    "served of them, together",
    "MFLOP: of the linear layers in a training step, forward and backward, without lookups",
    "time: of the runs that are not there, from a few steps here and now; a busy machine takes longer",
)


def _label(row: Estimate, rows: Sequence[Estimate]) -> str:
    """As in reports: with the size where a method has several."""
    from embpress.reports.records import asked_text

    size = asked_text(row.asked.ratio, row.asked.budget)
    several = sum(other.method == row.method for other in rows) > 1
    return f"{row.method} @{size}" if size and several else row.method


def _cells(row: Estimate, label: str) -> list[str]:
    from rich.markup import escape

    from embpress.cli.show import duration
    from embpress.reports import numerals

    runs = [str(row.runs), str(row.present)]
    if row.sizes is None:
        return [escape(label), *[numerals.MISSING] * 6, *runs, numerals.MISSING]
    bytes_ = (row.sizes.serving_bytes, row.sizes.training_bytes, row.sizes.folding_bytes)
    serving, training, folding = map(numerals.size, bytes_)
    return [
        escape(label),
        serving,
        numerals.ratio(row.sizes.ratio),
        training,
        folding,
        numerals.plain(row.sizes.step_flops / 1e6),
        numerals.MISSING if row.times is None else numerals.plain(row.times.step_ms),
        *runs,
        "unknown" if row.seconds is None else duration(row.seconds) if row.missing else numerals.MISSING,
    ]
